//! Recordings: all that was told to what decides, so that it can be decided again, bit for bit.
//!
//! A recording is text, one JSON object a line (docs/recordings.md has the format): first a [`Header`] with what the
//! loop began with, then each [`Call`] of it as it came, and after each wake-up what was decided.
//!
//! | module | subject |
//! |---|---|
//! | [`call`] | the calls, and their doing |
//! | [`association`] | what NTP associations saw: datagrams and stamps |
//! | `rerun` | those associations once more, on the same datagrams |
//! | [`contents`] | what is in one, counted |
//! | [`octets`] | octets as text |
//! | [`mod@write`] | to a file, on a thread of its own |
//! | [`replay`] | from a file: the same calls on a new loop, and whether it decides the same |
//! | [`fault`] | what may go wrong on the way: loss, delay, corruption, an unplugged device |

pub mod association;
pub mod call;
pub mod contents;
pub mod fault;
pub mod octets;
pub mod replay;
mod rerun;
pub mod write;

use refclocks::shell::{Look, Seen};
use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Tai, Timestamp, Utc};
use serde::{Deserialize, Serialize};

use crate::core::leap::UtcMap;
use crate::core::local::LocalPolicy;
use crate::core::measurement::SourceId;
use crate::core::snapshot::Snapshot;
use crate::core::steering::StepPolicy;
use association::{Turn, Whose};
use call::Call;

/// The version of the format that this program writes.
pub const VERSION: u32 = 2;
/// The oldest that it reads: it has no datagrams, so exchanges are taken from it as they were measured.
pub const OLDEST_VERSION: u32 = 1;

/// What the loop began with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub refclockd_recording: u32,
    /// The program that wrote it.
    pub program: String,
    /// When, on all scales.
    pub at: Bracket,
    /// What our own clock read at `at.raw_after`.
    pub clock: Timestamp<Tai>,
    /// TAI and UTC as they were known.
    pub utc: UtcMap,
    /// Until when they were, if by a table.
    pub table_until: Option<Timestamp<Utc>>,
    /// How the clock might be moved.
    pub step: StepPolicy,
    /// The error bound at which a coasting clock stops being stratum 1, s.
    pub holdover_budget: f64,
    /// `[local]`.
    pub local: Option<LocalPolicy>,
    /// What the last life had learned: the drift file.
    pub memory: String,
}

/// One line after the header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Something was told.
    Call(Box<Call>),
    /// Bytes came from a receiver or from gpsd, or a datagram by SOCK. What they led to is told by the calls.
    Heard {
        /// Whose.
        source: SourceId,
        /// When the last of them was read.
        at: Timestamp<Raw>,
        /// The bytes.
        #[serde(with = "octets")]
        bytes: Vec<u8>,
    },
    /// A device was looked at. What that led to is told by the calls.
    Looked {
        /// Whose.
        source: SourceId,
        /// When.
        at: Bracket,
        /// What was seen.
        look: Look,
    },
    /// An NTP association saw something, or was told something.
    Ntp {
        /// Whose.
        of: Whose,
        /// What.
        turn: Turn,
    },
    /// What was decided, after all that came at one wake-up.
    Decided {
        /// When.
        at: Timestamp<Raw>,
        /// The [`digest`] of the snapshot, in hexadecimal digits.
        digest: String,
    },
}

impl Line {
    /// What a shell saw of its device.
    pub fn seen(source: SourceId, seen: Seen<'_>) -> Self {
        match seen {
            Seen::Bytes(at, bytes) => Self::Heard { source, at, bytes: bytes.to_vec() },
            Seen::Look(at, look) => Self::Looked { source, at, look },
        }
    }
}

/// What was decided, in a number: the clock, its rate and bound to the last bit, the state and what is
/// served, and the verdict on each source.
pub fn digest(snapshot: &Snapshot) -> String {
    let clock = (snapshot.clock.raw.to_bits(), snapshot.clock.tai.to_bits(), snapshot.clock.rate.to_bits());
    let bound = &snapshot.bound;
    let polynomial = bound.variance.map(f64::to_bits);
    let bound = (bound.fixed.to_bits(), bound.path.to_bits(), bound.residual.to_bits(), polynomial);
    let decided = format!("{clock:?} {bound:?} {:?} {:?}", snapshot.state, snapshot.system);
    let sources = snapshot.sources.iter().map(|s| {
        let numbers = [s.offset, s.interval, s.jitter, s.delay].map(|number| number.map(f64::to_bits));
        format!(" {} {:?} {numbers:?} {}", s.name, s.verdict, s.samples)
    });
    // FNV-1a, 64 bits.
    let bytes: Vec<u8> = std::iter::once(decided).chain(sources).flat_map(String::into_bytes).collect();
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}
