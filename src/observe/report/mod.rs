//! Reports: what a [`Snapshot`](crate::core::snapshot::Snapshot) says at the reader's now, as data
//! that can be written as JSON and read back.
//!
//! Numbers carry their unit in the name (`_ns`, `_s`, `_ppb`), absolute times are RFC 3339 strings
//! (`_utc`), unknown is `null` and never 0. Offsets are local - reference, positive = our clock is
//! ahead. `text` and `action` are for people and not to be parsed; codes may be added.

mod accuracy;
mod clients;
mod feeds;
mod notices;
mod ntp;
mod numbers;
mod satellites;
mod sources;
mod status;
mod why;

#[cfg(test)]
pub(crate) mod made_up;
#[cfg(test)]
mod tests;

pub use accuracy::{Accuracy, CrystalReport, OffsetReport};
pub use clients::{ClientEntry, ClientsReport, MOST_CLIENTS};
pub use feeds::FeedReport;
pub use ntp::{CardReport, NtpReport};
pub use numbers::{nanos, nanos_up};
pub use satellites::{Condition, QualityReport, ReceiverSky, SatelliteSeen, SatellitesReport, short_name};
pub use sources::{DateRepair, DeviceWords, EdgeInUse, ServerWords, SourceEntry, SourcesReport, VerdictWords};
pub use status::{
    ClockReport, HoldoverReport, LeapReport, Notice, PulseReport, ReasonWords, ReceiverSummary, Severity, StatusReport,
};
pub use why::{WhyReport, WhySource};
