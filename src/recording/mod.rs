//! Recordings: all that was told to what decides, so that it can be decided again, bit for bit.
//!
//! A recording is text, one JSON object a line (docs/recordings.md has the format): first a [`Header`] with what the
//! loop began with, then each [`Call`] of it as it came, and after each wake-up what was decided.
//!
//! | module | subject |
//! |---|---|
//! | [`call`] | the calls, and their doing |
//! | [`mod@write`] | to a file, on a thread of its own |
//! | [`replay`] | from a file: the same calls on a new loop, and whether it decides the same |
//! | [`fault`] | what may go wrong on the way: loss, delay, corruption, an unplugged device |

pub mod call;
pub mod fault;
pub mod replay;
pub mod write;

use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Tai, Timestamp, Utc};
use serde::{Deserialize, Serialize};

use crate::core::leap::UtcMap;
use crate::core::local::LocalPolicy;
use crate::core::measurement::SourceId;
use crate::core::snapshot::Snapshot;
use crate::core::steering::StepPolicy;
use call::Call;

/// The version of the format that this program writes and reads.
pub const VERSION: u32 = 1;

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
    /// Bytes came from a receiver. What they led to is told by the calls.
    Heard {
        /// Whose.
        source: SourceId,
        /// When the last of them was read.
        at: Timestamp<Raw>,
        /// The bytes, two hexadecimal digits each.
        bytes: String,
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
    /// Bytes that came.
    pub fn heard(source: SourceId, at: Timestamp<Raw>, bytes: &[u8]) -> Self {
        use std::fmt::Write;
        let mut digits = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            // A String takes all.
            let _ = write!(digits, "{byte:02x}");
        }
        Self::Heard { source, at, bytes: digits }
    }
}

/// The bytes that so many hexadecimal digits say. `None`: they are none.
pub fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = digits.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    digits.filter(|digits| digits.len().is_multiple_of(2)).map(|digits| {
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| (byte << 4) | digit)).collect()
    })
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
