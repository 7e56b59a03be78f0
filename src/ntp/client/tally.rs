//! Counts of what came of the requests.

use super::measurement::Measurement;
use super::rejection::Rejected;

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
    /// Replies that are not signed by our key, or say that our signature is wrong.
    pub not_signed: u64,
    /// Kiss codes.
    pub kissed: u64,
    /// Replies of a server without time, or too far from it.
    pub unsynchronised: u64,
    /// Replies that the configuration calls not good enough.
    pub filtered: u64,
    /// Replies whose timestamps contradict each other.
    pub impossible: u64,
    /// Stamps of when a request left that cannot be right; our own reading of the clock stood in.
    pub astray: u64,
}

impl Tally {
    /// What came of a datagram.
    pub(super) fn count(&mut self, result: &Result<Measurement, Rejected>) {
        *match result {
            Ok(_) | Err(Rejected::Measured | Rejected::Presend) => &mut self.good,
            Err(Rejected::Malformed(_) | Rejected::NotAReply { .. }) => &mut self.malformed,
            Err(Rejected::Bogus) => &mut self.bogus,
            Err(Rejected::Duplicate | Rejected::Old) => &mut self.duplicate,
            Err(Rejected::NotSigned { .. } | Rejected::CryptoNak { .. }) => &mut self.not_signed,
            Err(Rejected::Kiss(_)) => &mut self.kissed,
            Err(
                Rejected::Unsynchronised { .. }
                | Rejected::RootDistance { .. }
                | Rejected::Unheard
                | Rejected::Uncalibrated,
            ) => &mut self.unsynchronised,
            Err(Rejected::StratumTooLow { .. } | Rejected::DelayTooLong { .. }) => &mut self.filtered,
            Err(Rejected::ImpossibleTimes | Rejected::TooShort { .. } | Rejected::ImpliedDelay { .. }) => {
                &mut self.impossible
            }
        } += 1;
    }
}
