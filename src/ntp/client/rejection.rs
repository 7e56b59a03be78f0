//! Why a datagram is not a measurement.

use refclocks::{LeapIndicator, ReferenceId};

use crate::ntp::packet::{Mode, PacketError};

/// Kiss codes that ask something of us (RFC 5905 section 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KissCode {
    /// Fewer requests, please.
    Rate,
    /// No more requests.
    Deny,
    /// No more requests: policy.
    Restrict,
}

impl KissCode {
    /// The four letters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "RATE",
            Self::Deny => "DENY",
            Self::Restrict => "RSTR",
        }
    }

    pub(super) const fn from_refid(refid: ReferenceId) -> Option<Self> {
        match &refid.0 {
            b"RATE" => Some(Self::Rate),
            b"DENY" => Some(Self::Deny),
            b"RSTR" => Some(Self::Restrict),
            _ => None,
        }
    }
}

/// Why a datagram is not a measurement.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Rejected {
    /// Not an NTP packet.
    #[error("{0}")]
    Malformed(#[from] PacketError),
    /// Not a server's reply.
    #[error("a packet of mode {mode:?} is not a reply")]
    NotAReply {
        /// Its mode.
        mode: Mode,
    },
    /// Not an answer to what we asked last: late, or made up.
    #[error("it answers nothing we asked")]
    Bogus,
    /// The same reply again.
    #[error("it is the last reply again")]
    Duplicate,
    /// It is older than the last one.
    #[error("it is older than the last one")]
    Old,
    /// A peer that has not heard us yet, so that it says nothing of the way.
    #[error("it has not heard us yet")]
    Unheard,
    /// It was broadcast, and how long that takes is not measured yet.
    #[error("how long it is under way is not measured yet")]
    Uncalibrated,
    /// It was broadcast, and came at a time that its own stamp and those before it do not allow.
    #[error(
        "by what came before it was under way for {:.3} ms, and the limit is {:.3} ms",
        implied_s * 1e3,
        longest_s * 1e3
    )]
    ImpliedDelay {
        /// How long, s; less than the shortest way there is, if its clock was moved.
        implied_s: f64,
        /// How long it may, s.
        longest_s: f64,
    },
    /// It answers a request that only opened the way for the next.
    #[error("it answers the request that opened the way for the next one")]
    Presend,
    /// It is fine, and tells of an exchange that was measured already, in basic mode: the first that is
    /// interleaved.
    #[error("it tells of an exchange that was measured already")]
    Measured,
    /// It is not signed by our key, or wrongly.
    #[error("it is not signed by key {key}")]
    NotSigned {
        /// Our key's number.
        key: u32,
    },
    /// The server says that we are not signed as it wants us to be.
    #[error("the server does not take key {key}: it has none of that number, or another")]
    CryptoNak {
        /// Our key's number.
        key: u32,
    },
    /// The server asks something of us.
    #[error("the server sent the kiss code {}", .0.as_str())]
    Kiss(KissCode),
    /// The server says that it has no time.
    #[error("the server says that it has no time yet (leap indicator {}, stratum {stratum}, {refid})", leap.bits())]
    Unsynchronised {
        /// Leap indicator.
        leap: LeapIndicator,
        /// Stratum as on the wire.
        stratum: u8,
        /// Reference ID: at stratum 0 its reason.
        refid: ReferenceId,
    },
    /// The server is too far from its reference.
    #[error("the server is {distance_s:.1} s from its reference")]
    RootDistance {
        /// Half its root delay and its root dispersion, s.
        distance_s: f64,
    },
    /// Closer to its reference than the configuration believes.
    #[error("it is of stratum {stratum}, and `minstratum` is {least}")]
    StratumTooLow {
        /// What it says.
        stratum: u8,
        /// What is wanted at least.
        least: u8,
    },
    /// It was under way for too long.
    #[error("it was under way for {:.3} ms, and the limit is {:.3} ms", delay_s * 1e3, longest_s * 1e3)]
    DelayTooLong {
        /// How long, s.
        delay_s: f64,
        /// How long it may, s.
        longest_s: f64,
    },
    /// The timestamps contradict each other.
    #[error("its timestamps contradict each other")]
    ImpossibleTimes,
    /// It came back sooner than it can have.
    #[error(
        "it came back sooner than it can have: after {:.3} ms, of which it says that it was served for {:.3} ms",
        waited_s * 1e3,
        served_s * 1e3
    )]
    TooShort {
        /// From its leaving until the reply came, s.
        waited_s: f64,
        /// How long the server says that it had it, s.
        served_s: f64,
    },
}
