//! The clock while nothing feeds it: what is expected of it, and what experience says.

use refclocks::time::{Raw, Timestamp};

use super::{Engine, Now};
use crate::core::measurement::SourceId;
use crate::core::snapshot::SourceKind;

/// So many intervals without a measurement, and the clock has coasted.
const MISSED: f64 = 8.0;

impl Engine {
    /// The thermometer beside our crystal reads so many degrees Celsius. A clock that coasts follows it,
    /// if that has proved to be better.
    pub fn handle_temperature(&mut self, celsius: f64, now: Now) {
        let before = self.record.temperature(now.raw);
        self.record.read_temperature(now.raw, celsius);
        if let (true, Some(k), Some(before), Some(after)) =
            (self.coasts(now), self.record.compensation(), before, self.record.temperature(now.raw))
        {
            self.estimator.advance(now.raw);
            self.estimator.shift_frequency(k * (after - before));
        }
    }

    /// Called at least once a second: the frequency of a clock that coasts is held.
    pub(super) fn hold_while_coasting(&mut self, now: Now) {
        if self.coasts(now) {
            self.estimator.hold_frequency();
        }
    }

    fn coasts(&self, now: Now) -> bool {
        self.last_feed.is_some_and(|(fed, _)| self.has_coasted((now.raw - fed).seconds()))
    }

    /// So many seconds without a measurement: is that more than a few missed ones?
    fn has_coasted(&self, seconds: f64) -> bool {
        seconds >= self.feeding_interval() * MISSED
    }

    /// How wrong would the clock be, had it coasted until now?
    pub(super) fn gain_experience(&mut self, now: Now) {
        if let (Some(origin), Some((_, e)), Some((fed, _))) =
            (self.estimator.origin(), self.estimator.estimate(), self.last_feed)
        {
            self.record.note(now.raw, origin, e, self.estimator.bank().measurements(), fed);
        }
    }

    /// The first measurement after a time without: the clock may have gone further than its model
    /// says, and what comes now must not look like an outlier.
    pub(super) fn doubt_what_coasted(&mut self, raw: Timestamp<Raw>) {
        let Some((fed, _)) = self.last_feed else { return };
        let coasted = (raw - fed).seconds();
        if !self.has_coasted(coasted) {
            return;
        }
        self.estimator.advance(raw);
        let by_experience = self.record.growth().variance(coasted);
        if let Some((_, e)) = self.estimator.estimate() {
            let phase = (by_experience - e.phase_variance).max(0.0);
            // Of a random walk over h: Vx = q h^3 / 3, Vy = q h.
            self.estimator.doubt(phase, 3.0 * phase / (coasted * coasted));
        }
    }

    /// The longest interval at which measurements are expected of what feeds the clock, s.
    pub(super) fn feeding_interval(&self) -> f64 {
        let of = |i: &SourceId| match self.sources.get(i) {
            Some(s) if s.config.kind == SourceKind::Network => libm::exp2(f64::from(s.poll.max(0))),
            _ => 1.0,
        };
        self.feeding.iter().map(of).fold(1.0, f64::max)
    }
}
