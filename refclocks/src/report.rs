//! What drivers hand over: samples, pulses, and what the receiver says of itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::device::DeviceState;
use crate::quality::Quality;
use crate::satellite::Satellite;
use crate::time::{Raw, Realtime, Span, Tai, Timestamp, Utc};
use crate::ubx::setup::Outcome;

/// When something happened by the local clock, and which local clock that was. The time base turns
/// kernel stamps into [`Raw`]; a driver never converts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalStamp {
    /// Stamped by the kernel, or by another program, with CLOCK_REALTIME.
    Realtime(Timestamp<Realtime>),
    /// Stamped by us with CLOCK_MONOTONIC_RAW.
    Raw(Timestamp<Raw>),
}

/// One comparison of the local clock with a reference that names its second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The local stamp of the event, e.g. of a sentence's first byte.
    pub local: LocalStamp,
    /// The time the reference gave for that event; for a message, the second it names.
    pub reference: Timestamp<Utc>,
    /// The reference named second 60: `reference` then lies on the POSIX second that follows.
    pub second60: bool,
    /// Half-width of the error known beforehand (quantum, stated precision), s; not the noise,
    /// which is learned.
    #[serde(with = "crate::time::exact")]
    pub quantum: Span,
    /// What the reference says of a coming leap second, when it says anything.
    pub leap: Option<LeapIndicator>,
}

/// An edge that does not say which second it is (RFC 2783).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// The edge's stamp.
    pub local: LocalStamp,
    /// Which edge.
    pub edge: Edge,
    /// The kernel's sequence number of that edge; wraps.
    pub sequence: u32,
    /// Pulses that came and went unread since the last report.
    pub missed: u32,
}

/// The edges of RFC 2783.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// The edge the source declares active, usually the rising one.
    Assert,
    /// The other one.
    Clear,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Assert => "assert",
            Self::Clear => "clear",
        })
    }
}

/// Leap indicator, RFC 5905 figure 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeapIndicator {
    /// No leap second at the end of this UTC day or month.
    #[default]
    None,
    /// The last minute has 61 seconds.
    Insert,
    /// The last minute has 59 seconds.
    Delete,
    /// Clock not synchronised.
    Unsynchronised,
}

impl LeapIndicator {
    /// The two bits on the wire.
    pub const fn bits(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Insert => 1,
            Self::Delete => 2,
            Self::Unsynchronised => 3,
        }
    }

    /// From the lowest two bits.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::None,
            1 => Self::Insert,
            2 => Self::Delete,
            _ => Self::Unsynchronised,
        }
    }
}

/// RFC 5905 reference ID: four ASCII letters for a reference clock, an address (or its hash) for a server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ReferenceId(pub [u8; 4]);

impl ReferenceId {
    /// A reference clock's name: up to four printable ASCII characters, padded with zeros.
    pub fn from_name(name: &str) -> Option<Self> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.len() > 4 || !bytes.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let mut id = [0; 4];
        for (to, from) in id.iter_mut().zip(bytes) {
            *to = *from;
        }
        Some(Self(id))
    }

    /// The letters, if it is a name rather than an address.
    pub fn name(&self) -> Option<&str> {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(4);
        let (name, padding) = self.0.split_at(end);
        let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_graphic) && padding.iter().all(|b| *b == 0);
        is_name.then(|| std::str::from_utf8(name).ok()).flatten()
    }
}

impl<'de> Deserialize<'de> for ReferenceId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let address = || text.parse::<std::net::Ipv4Addr>().ok().map(|address| Self(address.octets()));
        Self::from_name(&text)
            .filter(|_| address().is_none())
            .or_else(address)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a reference ID")))
    }
}

impl fmt::Display for ReferenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0;
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{a}.{b}.{c}.{d}"),
        }
    }
}

impl fmt::Debug for ReferenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReferenceId({self})")
    }
}

impl Serialize for ReferenceId {
    fn serialize<Z: serde::Serializer>(&self, to: Z) -> Result<Z::Ok, Z::Error> {
        to.collect_str(self)
    }
}

/// What a receiver can see of the sky. Fields are `None` until it has said something about them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReceiverReport {
    /// Kind of fix.
    pub fix: Option<Fix>,
    /// Satellites used in the fix.
    pub satellites_used: Option<u16>,
    /// All satellites the receiver told of, used or not; empty if it does not tell.
    pub satellites: Vec<Satellite>,
    /// TAI - UTC in seconds as the receiver has it from the sky; its firmware's default does not count.
    pub tai_minus_utc: Option<i32>,
    /// The coming leap second, if the sky has told the receiver of one.
    pub leap: Option<ComingLeap>,
    /// The antenna and its cable.
    pub antenna: Option<Antenna>,
    /// Is somebody drowning the satellites?
    pub jamming: Option<Jamming>,
    /// Is somebody counterfeiting them?
    pub spoofing: Option<Spoofing>,
    /// How good its fix is, by its own word.
    pub quality: Option<Quality>,
    /// How it took what it was to be set to, where that was asked for.
    pub set_up: Option<Outcome>,
}

/// A leap second that a receiver announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComingLeap {
    /// The POSIX instant of the first second of the new TAI - UTC (a midnight UTC).
    pub at: Timestamp<Utc>,
    /// +1 inserts 23:59:60, -1 leaves 23:59:59 out.
    pub change: i8,
}

impl Serialize for ComingLeap {
    fn serialize<Z: serde::Serializer>(&self, to: Z) -> Result<Z::Ok, Z::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = to.serialize_struct("ComingLeap", 2)?;
        fields.serialize_field("at", &self.at.to_string())?;
        fields.serialize_field("change", &self.change)?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for ComingLeap {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Written {
            at: String,
            change: i8,
        }
        let Written { at, change } = Deserialize::deserialize(from)?;
        let read = crate::calendar::parse_iso8601(&at);
        let (at, _) = read.ok_or_else(|| serde::de::Error::custom(format!("{at:?} is not a time")))?;
        Ok(Self { at, change })
    }
}

/// What a receiver measures of its antenna's supply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Antenna {
    /// It draws the current of an active antenna.
    Ok,
    /// It draws none: no cable, or a passive antenna.
    Open,
    /// It draws too much.
    Short,
}

/// Interference, as a receiver judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Jamming {
    /// None to speak of.
    None,
    /// Some, and the fix still holds.
    Warning,
    /// So much that there is no fix.
    Critical,
}

/// Counterfeit signals, as a receiver judges them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spoofing {
    /// No sign of them.
    None,
    /// One sign of them.
    Indicated,
    /// Several signs of them.
    Affirmed,
}

/// How far from the true second a receiver will mark its next pulse: it can move the pulse only by whole
/// ticks of its own oscillator, and knows by how much it will be off (sawtooth, u-blox's qErr).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sawtooth {
    /// When the message came; the pulse it speaks of is the first after it.
    pub local: LocalStamp,
    /// The second that the pulse marks, where the message names it on a scale that leads to TAI.
    pub pulse: Option<Timestamp<Tai>>,
    /// qErr as sent, ps. Its sign is not the same with all receivers.
    pub error_ps: i32,
    /// +1: it is to be added to the pulse's stamp, -1: taken off; `None`: who corrects finds it out.
    pub sign: Option<i8>,
}

/// Kind of fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fix {
    /// No fix: the time it sends may be its own RTC's.
    None,
    /// Time only, position known from a survey.
    Time,
    /// Two-dimensional.
    TwoD,
    /// Three-dimensional.
    ThreeD,
}

/// Anything a driver reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// A time-bearing message or a numbered pulse.
    Sample(Sample),
    /// An edge without a number.
    Pulse(Pulse),
    /// What the receiver sees; sent when it changed.
    Receiver(Box<ReceiverReport>),
    /// How far off the receiver's next pulse will be.
    Sawtooth(Sawtooth),
    /// The device came, went or changed its mind.
    State(DeviceState),
    /// Something worth a line in the log.
    #[serde(skip)]
    Remark(Remark),
}

/// What a driver has to say beside its state.
#[derive(Clone, Debug, PartialEq)]
pub enum Remark {
    /// It was found which edge begins the pulse.
    Edge {
        /// That edge.
        edge: Edge,
        /// How long the pulse lasts, from assert to clear; `None` if only that edge is captured.
        width: Option<Span>,
    },
    /// The edge that was asked for does not begin the pulse.
    OtherEdge {
        /// The edge asked for.
        wanted: Edge,
        /// The one that begins the pulse.
        begins: Edge,
        /// From assert to clear.
        width: Option<Span>,
    },
    /// Another receiver sends as well, and is not followed.
    OtherDevice {
        /// The one that is.
        followed: String,
        /// The other.
        other: String,
    },
    /// How a disciplined oscillator stands.
    Oscillator {
        /// It runs.
        running: bool,
        /// It has a reference.
        reference: bool,
        /// It follows that.
        disciplined: bool,
    },
    /// Something that was asked for besides is refused; the device is used without it.
    Refused {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// Something that was asked for besides is done.
    Granted {
        /// What.
        what: &'static str,
    },
}

impl Remark {
    /// Does it call for somebody to do something?
    pub fn is_warning(&self) -> bool {
        match self {
            Self::OtherEdge { .. } | Self::Refused { .. } => true,
            Self::Oscillator { disciplined, .. } => !disciplined,
            Self::Edge { .. } | Self::OtherDevice { .. } | Self::Granted { .. } => false,
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |width: &Option<Span>| width.map_or(0.0, |width| width.seconds() * 1e3);
        match self {
            Self::Edge { edge, width: None } => write!(f, "its {edge} edge is used: it has no other"),
            Self::Edge { edge, width } => {
                write!(f, "its {edge} edge begins the pulse and is used: it is high for {:.1} ms", ms(width))
            }
            Self::OtherEdge { wanted, begins, width } => write!(
                f,
                "`edge = \"{wanted}\"` is used, but the pulse, high for {:.1} ms, seems to begin with {begins}: if the \
                 time is wrong by its width, use `edge = \"auto\"`",
                ms(width)
            ),
            Self::OtherDevice { followed, other } => {
                write!(f, "{followed} is followed, and {other} is not; to have that one, name it as `device`")
            }
            Self::Oscillator { running: false, .. } => f.write_str("its oscillator does not run"),
            Self::Oscillator { reference: false, .. } => f.write_str("its oscillator has no reference"),
            Self::Oscillator { disciplined: false, .. } => f.write_str("its oscillator does not follow its reference"),
            Self::Oscillator { .. } => f.write_str("its oscillator follows its reference"),
            Self::Refused { what, why } => write!(f, "{what}: {why}"),
            Self::Granted { what } => f.write_str(what),
        }
    }
}
