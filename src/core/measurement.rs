//! What a source gives: one comparison of our free-running counter with true time.

use refclocks::time::{Raw, Span, Tai, Timestamp};
use serde::{Deserialize, Serialize};

/// A source's number: given once, in the order in which sources come, and never again to another.
pub type SourceId = usize;

/// One comparison of the raw counter with true time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The raw counter.
    pub raw: Timestamp<Raw>,
    /// True time there, as the source says.
    pub tai: Timestamp<Tai>,
    /// Round-trip delay of a packet exchange, s; `None` for reference clocks.
    pub delay: Option<f64>,
}

/// Where the phase is counted from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Origin {
    raw: Timestamp<Raw>,
    tai: Timestamp<Tai>,
}

impl Origin {
    /// Counted from this measurement.
    pub fn of(m: &Measurement) -> Self {
        Self { raw: m.raw, tai: m.tai }
    }

    /// Phase of the free-running counter at a measurement, s; positive = it has gained since the origin.
    pub fn phase(&self, m: &Measurement) -> f64 {
        ((m.raw - self.raw) - (m.tai - self.tai)).seconds()
    }

    /// True time when the counter reads `raw` and has gained `phase` s since the origin.
    pub fn tai(&self, raw: Timestamp<Raw>, phase: f64) -> Timestamp<Tai> {
        self.tai + (raw - self.raw) - Span::from_seconds(phase)
    }

    /// Seconds on the raw counter from the origin to `raw`.
    pub fn elapsed(&self, raw: Timestamp<Raw>) -> f64 {
        (raw - self.raw).seconds()
    }
}
