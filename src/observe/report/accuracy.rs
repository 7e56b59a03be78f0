//! How good the served clock is: its bound, its likely error, its crystal.

use refclocks::time::{Raw, Timestamp};
use serde::{Deserialize, Serialize};

use super::numbers::{finite, nanos, nanos_up};
use crate::core::snapshot::{Snapshot, SourceReport};
use crate::core::state::{Bound, Crystal, Magnitude, direction};
use crate::core::verdict::Verdict;
use crate::observe::plain::plain;

/// How wrong the served time can be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// The error bound against UTC, rounded up; `null` before the first estimate. It holds if the
    /// ways to servers and back take equally long.
    pub bound_ns: Option<u64>,
    /// The same whatever those ways do: the root distance that clients are told.
    pub distance_ns: Option<u64>,
    /// The bound up to which a coasting clock stays stratum 1.
    pub limit_ns: Option<u64>,
    /// In one sentence.
    pub text: String,
}

impl Accuracy {
    /// At the reader's now.
    pub(super) fn new(snapshot: &Snapshot, raw: Timestamp<Raw>) -> Self {
        let (bound, distance) = (snapshot.bound_at(raw), snapshot.distance_at(raw));
        let text = if !distance.is_finite() {
            "How far the time is from UTC is not known.".into()
        } else if snapshot.bound.path > 0.0 {
            format!(
                "Time is within {} of UTC, and within {} if the ways to the servers and back take equally long.",
                Bound(distance),
                Bound(bound)
            )
        } else {
            format!("Time is within {} of UTC.", Bound(bound))
        };
        Self {
            bound_ns: nanos_up(bound),
            distance_ns: nanos_up(distance),
            limit_ns: nanos_up(snapshot.holdover_budget),
            text,
        }
    }
}

/// How wrong the served time most likely is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OffsetReport {
    /// Served clock - true time.
    pub value_ns: i64,
    /// `ahead`, `behind`, or `level` within half a nanosecond.
    pub direction: String,
    /// In one sentence.
    pub text: String,
    /// One standard deviation of the estimate.
    pub sigma_ns: Option<u64>,
    /// Names of the sources that feed it.
    pub sources: Vec<String>,
}

impl OffsetReport {
    /// At the reader's now, if anything is estimated.
    pub(super) fn new(snapshot: &Snapshot, raw: Timestamp<Raw>) -> Option<Self> {
        let offset = snapshot.offset.filter(|o| o.is_finite())?;
        let value_ns = nanos(offset)?;
        let (way, text) = match value_ns {
            0 => ("level", "Local clock is level with its reference.".into()),
            _ => (direction(offset), format!("Local clock is {} {}.", Magnitude(offset.abs()), direction(offset))),
        };
        let feeds = |s: &&SourceReport| s.verdict == Verdict::Selected;
        Some(Self {
            value_ns,
            direction: way.into(),
            text,
            sigma_ns: nanos_up(snapshot.bound.sigma(raw)),
            sources: snapshot.sources.iter().filter(feeds).map(|s| plain(&s.name).into_owned()).collect(),
        })
    }
}

/// The crystal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrystalReport {
    /// Its uncorrected frequency error; positive = it gains.
    pub error_ppb: f64,
    /// One standard deviation.
    pub uncertainty_ppb: Option<f64>,
    /// How warm it is, where there is a thermometer.
    pub temperature_c: Option<f64>,
    /// What its frequency changes by with that, once it is known well enough to be used in holdover.
    pub ppb_per_degree: Option<f64>,
    /// In one sentence.
    pub text: String,
}

impl CrystalReport {
    /// Once its frequency is known.
    pub(super) fn new(snapshot: &Snapshot) -> Option<Self> {
        let frequency = snapshot.frequency?;
        Some(Self {
            error_ppb: finite(frequency.0 * 1e9)?,
            uncertainty_ppb: finite(snapshot.frequency_sd * 1e9),
            temperature_c: snapshot.temperature.and_then(|t| finite(t.celsius)),
            ppb_per_degree: snapshot.temperature.and_then(|t| finite(t.coefficient? * 1e9)),
            text: format!("Crystal runs {}.", Crystal(frequency.0)),
        })
    }
}
