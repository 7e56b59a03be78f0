//! One association with a server (RFC 5905 sections 8 and 9), without clock, socket or random source.
//!
//! ```text
//! poll_timeout -> wait -> poll_transmit -> send -> handle_transmitted(T1)
//!                          receive -> handle_receive(octets, T4) -> Measurement or Rejected
//! ```
//! All stamps of this machine are on the raw scale: what happened to the system clock between request
//! and reply changes nothing. The offset is the core's to compute.

use std::net::SocketAddr;

use refclocks::time::{NtpTimestamp, Raw, Span, Timestamp, Utc};
use refclocks::{LeapIndicator, ReferenceId};

use super::poll::Poll;
use crate::ntp::packet::{HEADER_LEN, Header, Mode, NtpShort, Packet, PacketError};

/// Server timestamps carry no era. They are taken for instants within 136 years after this one,
/// 2025-01-01.
const ERA_FLOOR: Timestamp<Utc> = Timestamp::from_parts(1_735_689_600, 0);

/// Half an era after the floor: what is nearest to it lies within that era.
const ERA_PIVOT: Timestamp<Utc> = Timestamp::from_parts(ERA_FLOOR.whole_seconds() + (1 << 31), 0);

/// A server further from its reference than this is useless (RFC 5905: MAXDISP), s.
const MAX_ROOT_DISTANCE: f64 = 16.0;

/// No server's stamps are believed to be coarser than this, whatever it says: log2 of 1 ms, s.
const COARSEST_PRECISION: i8 = -10;

/// What an association needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The server.
    pub address: SocketAddr,
    /// Begin, and begin again after a silence, with quick polls.
    pub iburst: bool,
    /// log2 of the shortest poll interval, s.
    pub minpoll: i8,
    /// log2 of the longest, s.
    pub maxpoll: i8,
    /// NTP version of the requests, 1 to 4.
    pub version: u8,
    /// Seed of the numbers that replies have to repeat. Each association needs one of its own that
    /// nobody can guess.
    pub seed: u64,
}

/// A request to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its octets.
    pub bytes: [u8; HEADER_LEN],
}

/// What one exchange with a server says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    /// The middle between sending and receiving, by our raw clock.
    pub at: Timestamp<Raw>,
    /// The server's time in the middle between its receiving and sending: what our clock should have
    /// read at `at`, if both ways took equally long.
    pub reference: Timestamp<Utc>,
    /// Round trip without the server's share. The reference is wrong by half of it at most.
    pub delay: Span,
    /// The server's round trip to its primary reference, s.
    pub root_delay: f64,
    /// The server's dispersion to its primary reference, s.
    pub root_dispersion: f64,
    /// 1 to 15.
    pub stratum: u8,
    /// Whose time the server has.
    pub refid: ReferenceId,
    /// What it says of a coming leap second.
    pub leap: LeapIndicator,
    /// log2 of its clock's precision, s.
    pub precision: i8,
}

impl Measurement {
    /// The furthest that the reference can be from true time, if the server is honest: half of all
    /// delay, and all dispersion, s (RFC 5905 section 11.2, root distance).
    pub fn root_distance(&self) -> f64 {
        (self.delay.seconds() + self.root_delay) / 2.0 + self.root_dispersion
    }
}

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

    const fn from_refid(refid: ReferenceId) -> Option<Self> {
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
    /// The timestamps contradict each other.
    #[error("its timestamps contradict each other")]
    ImpossibleTimes,
}

/// Counts of what came of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Requests.
    pub sent: u64,
    /// Datagrams that came.
    pub received: u64,
    /// Measurements.
    pub good: u64,
    /// Not NTP, or not a reply.
    pub malformed: u64,
    /// Replies to nothing we asked.
    pub bogus: u64,
    /// Replies that came twice.
    pub duplicate: u64,
    /// Kiss codes.
    pub kissed: u64,
    /// Replies of a server without time, or too far from it.
    pub unsynchronised: u64,
    /// Replies whose timestamps contradict each other.
    pub impossible: u64,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    cookie: NtpTimestamp,
    /// T1; until told otherwise, when the request was made.
    transmitted: Timestamp<Raw>,
}

/// An association with one server.
#[derive(Clone, Debug)]
pub struct Association {
    config: Config,
    random: Random,
    poll: Poll,
    outstanding: Option<Outstanding>,
    /// The transmit timestamp of the last reply, to know it again.
    last_transmit: NtpTimestamp,
    reach: u8,
    tally: Tally,
    refused: Option<KissCode>,
}

impl Association {
    /// An association whose first request is due at once.
    pub fn new(config: Config) -> Self {
        let version = config.version.clamp(1, 4);
        Self {
            config: Config { version, ..config },
            random: Random(config.seed),
            poll: Poll::new(config.minpoll, config.maxpoll, config.iburst),
            outstanding: None,
            last_transmit: NtpTimestamp::UNKNOWN,
            reach: 0,
            tally: Tally::default(),
            refused: None,
        }
    }

    /// When [`Association::poll_transmit`] has something again; `None` once the server has refused.
    pub fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        self.poll.due()
    }

    /// A request, if one is due. Whoever sends it tells when with [`Association::handle_transmitted`].
    ///
    /// The request says nothing of us: its transmit timestamp is a random number that the reply has
    /// to repeat.
    pub fn poll_transmit(&mut self, now: Timestamp<Raw>) -> Option<Request> {
        if self.poll.due().is_none_or(|due| now < due) {
            return None;
        }
        self.reach <<= 1;
        self.tally.sent += 1;
        let noise = self.random.fraction();
        self.poll.sent(now, noise);
        let cookie = self.random.cookie();
        self.outstanding = Some(Outstanding { cookie, transmitted: now });
        Some(Request { bytes: Header::request(self.config.version, cookie).to_octets() })
    }

    /// This interval between polls is wanted from now on, log2 s.
    pub fn handle_wanted_poll(&mut self, exponent: i8) {
        self.poll.want(exponent);
    }

    /// A few quick polls are wanted now.
    pub fn handle_burst(&mut self, now: Timestamp<Raw>) {
        self.poll.burst(now);
    }

    /// When the request left (T1): the best stamp there is, taken before or after.
    pub fn handle_transmitted(&mut self, stamp: Timestamp<Raw>) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.transmitted = stamp;
        }
    }

    /// A datagram from the server came at `received` (T4).
    ///
    /// # Errors
    ///
    /// [`Rejected`], counted. A rejected datagram that does not repeat our number changes nothing.
    pub fn handle_receive(
        &mut self,
        bytes: &[u8],
        received: Timestamp<Raw>,
        now: Timestamp<Raw>,
    ) -> Result<Measurement, Rejected> {
        self.tally.received += 1;
        let result = self.judge(bytes, received, now);
        let tally = &mut self.tally;
        *match &result {
            Ok(_) => &mut tally.good,
            Err(Rejected::Malformed(_) | Rejected::NotAReply { .. }) => &mut tally.malformed,
            Err(Rejected::Bogus) => &mut tally.bogus,
            Err(Rejected::Duplicate) => &mut tally.duplicate,
            Err(Rejected::Kiss(_)) => &mut tally.kissed,
            Err(Rejected::Unsynchronised { .. } | Rejected::RootDistance { .. }) => &mut tally.unsynchronised,
            Err(Rejected::ImpossibleTimes) => &mut tally.impossible,
        } += 1;
        result
    }

    fn judge(&mut self, bytes: &[u8], received: Timestamp<Raw>, now: Timestamp<Raw>) -> Result<Measurement, Rejected> {
        let packet = Packet::new_checked(bytes)?;
        packet.tail().map_err(PacketError::from)?;
        let reply = Header::parse(&packet);
        if reply.mode != Mode::Server || !(1..=4).contains(&reply.version) {
            return Err(Rejected::NotAReply { mode: reply.mode });
        }
        let Some(asked) = self.outstanding.filter(|asked| asked.cookie == reply.origin) else {
            let again = reply.transmit != NtpTimestamp::UNKNOWN && reply.transmit == self.last_transmit;
            return Err(if again { Rejected::Duplicate } else { Rejected::Bogus });
        };
        // From here on it is the server that speaks. One request has one reply.
        self.outstanding = None;
        self.last_transmit = reply.transmit;

        if reply.stratum == 0
            && let Some(kiss) = KissCode::from_refid(reply.refid)
        {
            match kiss {
                KissCode::Rate => self.poll.slow_down(now, reply.poll),
                KissCode::Deny | KissCode::Restrict => {
                    self.poll.end();
                    self.refused = Some(kiss);
                }
            }
            return Err(Rejected::Kiss(kiss));
        }
        if reply.leap == LeapIndicator::Unsynchronised || !(1..=15).contains(&reply.stratum) {
            let Header { leap, stratum, refid, .. } = reply;
            return Err(Rejected::Unsynchronised { leap, stratum, refid });
        }
        let distance_s = reply.root_delay.seconds() / 2.0 + reply.root_dispersion.seconds();
        if distance_s >= MAX_ROOT_DISTANCE || reply.root_delay == NtpShort::MAX {
            return Err(Rejected::RootDistance { distance_s });
        }
        let measurement = measure(&reply, asked.transmitted, received).ok_or(Rejected::ImpossibleTimes)?;
        if self.reach == 0 {
            self.poll.returned();
        }
        self.reach |= 1;
        Ok(measurement)
    }

    /// The server.
    pub fn address(&self) -> SocketAddr {
        self.config.address
    }

    /// The last eight polls, the newest in the lowest bit: set if it brought a measurement.
    pub fn reach(&self) -> u8 {
        self.reach
    }

    /// log2 of the poll interval in use, s.
    pub fn poll(&self) -> i8 {
        self.poll.exponent()
    }

    /// log2 of the shortest interval, s.
    pub fn minpoll(&self) -> i8 {
        self.poll.min()
    }

    /// What came of the requests so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The kiss code by which the server has refused to be asked again.
    pub fn refused(&self) -> Option<KissCode> {
        self.refused
    }

    /// Is a request under way that has not been answered?
    pub fn awaits_reply(&self) -> bool {
        self.outstanding.is_some()
    }
}

/// The four timestamps as a measurement; `None` if they contradict each other.
fn measure(reply: &Header, sent: Timestamp<Raw>, received: Timestamp<Raw>) -> Option<Measurement> {
    if reply.receive == NtpTimestamp::UNKNOWN || reply.transmit == NtpTimestamp::UNKNOWN {
        return None;
    }
    let (t2, t3) = (reply.receive.to_utc(ERA_PIVOT), reply.transmit.to_utc(ERA_PIVOT));
    let there_and_back = received - sent;
    let served_for = t3 - t2;
    // Servers fill what is finer than their precision with random bits: two stamps of nearly the same
    // instant can come out in the wrong order.
    let quantum = libm::exp2(f64::from(reply.precision.clamp(-32, COARSEST_PRECISION)));
    if served_for < -Span::from_seconds(2.0 * quantum) || there_and_back < Span::ZERO {
        return None;
    }
    // Nothing was longer under way than we waited for it. On a short wire the server's clock and ours,
    // of different rates and quanta, can make the delay come out a little below nothing.
    let delay = (there_and_back - served_for).min(there_and_back);
    let tolerated = Span::from_seconds(100e-6 + there_and_back.seconds() * 1e-3);
    if delay < -tolerated {
        return None;
    }
    // A reference time after the reply was made is a server that does not know what it says. A second
    // is left to servers that write the two from different clocks.
    if reply.reference_time != NtpTimestamp::UNKNOWN
        && reply.reference_time.to_utc(ERA_PIVOT) > t3 + Span::from_whole_seconds(1)
    {
        return None;
    }
    let half = |span: Span| Span::from_seconds(span.seconds() / 2.0);
    Some(Measurement {
        at: sent + half(there_and_back),
        reference: t2 + half(served_for),
        delay: delay.max(Span::ZERO),
        root_delay: reply.root_delay.seconds(),
        root_dispersion: reply.root_dispersion.seconds(),
        stratum: reply.stratum,
        refid: reply.refid,
        leap: reply.leap,
        precision: reply.precision,
    })
}

/// SplitMix64 (Steele, Lea, Flood 2014). Nobody off the path sees a single output, and whoever is on
/// the path needs no guess.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number to repeat; never zero, which would mean "unknown".
    fn cookie(&mut self) -> NtpTimestamp {
        NtpTimestamp(self.next().max(1))
    }
}

#[cfg(test)]
#[path = "association_tests.rs"]
mod tests;
