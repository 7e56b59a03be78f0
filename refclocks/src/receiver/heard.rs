//! One message that names a time, and what came of it.

use std::fmt;

use crate::nmea::{Date, Sentence, Time};
use crate::time::{Raw, Timestamp, Utc};

/// Which message: a receiver names its time in several, and one is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// A sentence: its talker and its type.
    Nmea([u8; 2], &'static str),
    /// A UBX message, by its name.
    Ubx(&'static str),
}

impl Speaker {
    /// The name of the message without its talker: `RMC`, `NAV-PVT`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nmea(_, name) | Self::Ubx(name) => name,
        }
    }

    /// Which system speaks, in a sentence of the standard's.
    pub fn talker(&self) -> Option<&str> {
        match self {
            Self::Nmea([b'P', _], _) | Self::Ubx(_) => None,
            Self::Nmea(talker, _) => std::str::from_utf8(talker).ok(),
        }
    }

    /// That of a sentence; `None` if it cannot name a time.
    pub(super) fn of(talker: [u8; 2], sentence: &Sentence) -> Option<Self> {
        let name = match sentence {
            Sentence::Rmc { .. } => "RMC",
            Sentence::Zda { .. } => "ZDA",
            Sentence::Gga { .. } => "GGA",
            Sentence::Gll { .. } => "GLL",
            Sentence::Gns { .. } => "GNS",
            Sentence::Zdg { .. } => "ZDG",
            Sentence::Pgrmf { .. } => "PGRMF",
            Sentence::Pubx04 { .. } => "PUBX,04",
            // GST and GBS name a time as well, and some receivers that of the fix before.
            Sentence::Gst { .. } | Sentence::Gbs { .. } => return None,
            Sentence::Gsa { .. } | Sentence::Gsv { .. } | Sentence::Antenna(_) | Sentence::Other => return None,
        };
        Some(Self::Nmea(talker, name))
    }
}

/// A message that was to name a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heard {
    /// When its first byte came.
    pub at: Timestamp<Raw>,
    /// How many bytes came before it.
    pub offset: u64,
    /// Which message.
    pub speaker: Speaker,
    /// The date it gave, as it stands there.
    pub date: Option<Date>,
    /// The time of day it gave, as it stands there.
    pub time: Option<Time>,
    /// The instant it means, if it can be told, believed or not. Second 60 is the first of the next day.
    pub utc: Option<Timestamp<Utc>>,
    /// It says second 60.
    pub second60: bool,
    /// How many periods of 1024 weeks were added to its date to get there.
    pub periods: i8,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A sample.
    Sample,
    /// It is right, and not used: another message of the cycle carries the time.
    NotChosen,
    /// It may be right, and the time has not yet advanced evenly for long enough.
    Unsteady,
    /// It is right, and the same second was named before.
    Repeated,
    /// It came before any date, and one that came later has dated it: in a capture only.
    DatedLater,
    /// It waited unread, and nobody knows since when.
    Waited,
    /// It names the first second of a month. Some receivers name a leap second so, and a second later
    /// the same again.
    MonthBegins,
    /// Its time may not be used.
    Refused(Refusal),
}

/// Why a time may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The receiver says that it has no fix: the time may be its own clock's.
    NoFix,
    /// It gives none.
    NoTime,
    /// No date came with it, or before it.
    NoDate,
    /// The receiver does not know the leap seconds, so the second may be another.
    LeapSecondsUnknown,
    /// No whole number of periods of 1024 weeks brings its date to where it can be.
    ImpossibleDate,
    /// It has no checksum, and such sentences do not count with this receiver.
    NoChecksum,
}

impl Outcome {
    /// May its time be believed, used or not?
    pub fn is_valid(self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sample => "used",
            Self::NotChosen => "another message of the cycle carries the time",
            Self::Unsteady => "the time has not yet advanced evenly for three cycles",
            Self::Repeated => "the same second was named before",
            Self::DatedLater => "no date had come yet; a later one dates it",
            Self::Waited => "it waited unread, nobody knows since when",
            Self::MonthBegins => "the first second of a month may be a leap second by a wrong name",
            Self::Refused(Refusal::NoFix) => "the receiver has no fix",
            Self::Refused(Refusal::NoTime) => "it has no time",
            Self::Refused(Refusal::NoDate) => "no date has come",
            Self::Refused(Refusal::LeapSecondsUnknown) => "the receiver does not know the leap seconds",
            Self::Refused(Refusal::ImpossibleDate) => "the date is impossible",
            Self::Refused(Refusal::NoChecksum) => "it has no checksum",
        })
    }
}
