//! Which replies are not good enough: of too low a stratum, or too long under way.

use refclocks::time::Span;

use super::measurement::Measurement;
use super::rejection::Rejected;

/// Exchanges among which the shortest delay is looked for.
const DELAYS: usize = 64;

/// Which replies of a server are not good enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Filters {
    /// The least stratum.
    pub min_stratum: u8,
    /// The longest delay.
    pub max_delay: Span,
    /// The longest delay, as a multiple of the shortest of the last 64 exchanges.
    pub max_delay_ratio: f64,
}

impl Default for Filters {
    fn default() -> Self {
        Self { min_stratum: 0, max_delay: Span::from_whole_seconds(3), max_delay_ratio: f64::INFINITY }
    }
}

/// The delays of the last exchanges, by which the next is judged.
#[derive(Debug)]
pub(super) struct Judge {
    filters: Filters,
    delays: [Option<Span>; DELAYS],
    /// Where the next one goes.
    next: usize,
}

impl Judge {
    pub(super) fn new(filters: Filters) -> Self {
        Self { filters, delays: [None; DELAYS], next: 0 }
    }

    /// Is it good enough?
    ///
    /// # Errors
    ///
    /// [`Rejected::StratumTooLow`] and [`Rejected::DelayTooLong`].
    pub(super) fn admit(&mut self, measurement: &Measurement) -> Result<(), Rejected> {
        let Filters { min_stratum, max_delay, max_delay_ratio } = self.filters;
        if measurement.stratum < min_stratum {
            return Err(Rejected::StratumTooLow { stratum: measurement.stratum, least: min_stratum });
        }
        let shortest = self.delays.iter().flatten().min().copied();
        if let Some(slot) = self.delays.get_mut(self.next % DELAYS) {
            *slot = Some(measurement.delay);
        }
        self.next = self.next.wrapping_add(1);
        let ratio = shortest.map_or(f64::INFINITY, |shortest| shortest.seconds() * max_delay_ratio);
        let longest_s = max_delay.seconds().min(if ratio.is_nan() { f64::INFINITY } else { ratio });
        if measurement.delay.seconds() > longest_s {
            return Err(Rejected::DelayTooLong { delay_s: measurement.delay.seconds(), longest_s });
        }
        Ok(())
    }
}
