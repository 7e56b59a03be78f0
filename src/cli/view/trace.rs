//! The last ten minutes of an error and the bound around it.

use std::collections::VecDeque;

use crate::cli::words::bound_seconds;
use crate::observe::report::StatusReport;

/// How far back the trace goes, s.
pub(super) const SPAN: f64 = 600.0;
/// The least that the vertical axis shows either way, s: less would make noise look like drama.
const LEAST_SCALE: f64 = 100e-9;

/// One look at the clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// Seconds since the daemon started.
    pub(super) at: f64,
    /// Served clock - true time, s: true where the truth is known, else the best estimate.
    pub(super) error: f64,
    /// The bound claimed then, s.
    pub(super) bound: f64,
}

/// Points, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    points: VecDeque<Point>,
}

impl Trace {
    /// Adds the clock's error now (true, s, where somebody knows), if there is anything to show, and forgets what
    /// is too old.
    pub(super) fn push(&mut self, status: &StatusReport, true_error: Option<f64>) {
        let at = status.uptime_s;
        let estimate = status.offset.as_ref().map(|offset| offset.value_ns as f64 * 1e-9);
        let bound = bound_seconds(status.accuracy.bound_ns);
        if let Some(error) = true_error.or(estimate)
            && bound.is_finite()
        {
            self.points.push_back(Point { at, error, bound });
        }
        while self.points.front().is_some_and(|point| point.at < at - SPAN) {
            self.points.pop_front();
        }
    }

    pub(super) fn points(&self) -> impl Iterator<Item = &Point> {
        self.points.iter()
    }

    /// How far the vertical axis goes either way, s: a round number (1, 2 or 5) beyond the present
    /// bound. What lay further off before is not drawn, or the start would flatten all that follows.
    pub(super) fn scale(&self) -> Option<f64> {
        let wanted = (1.2 * self.points.back()?.bound).max(LEAST_SCALE);
        let decade = 10f64.powf(wanted.log10().floor());
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * decade).find(|scale| *scale >= wanted * (1.0 - 1e-9))
    }

    /// Mean, standard deviation and greatest magnitude of the error over what is shown, s.
    pub(super) fn summary(&self) -> Option<(f64, f64, f64)> {
        let count = self.points.len();
        if count < 2 {
            return None;
        }
        let mean = self.points.iter().map(|p| p.error).sum::<f64>() / count as f64;
        let variance = self.points.iter().map(|p| (p.error - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
        let worst = self.points.iter().map(|p| p.error.abs()).fold(0.0, f64::max);
        Some((mean, variance.sqrt(), worst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_ends_on_a_round_number_beyond_the_bound() {
        let scale = |bound| Trace { points: [Point { at: 0.0, error: 0.0, bound }].into() }.scale().unwrap();
        assert!((scale(410e-9) - 500e-9).abs() < 1e-15);
        assert!((scale(900e-9) - 2e-6).abs() < 1e-15);
        assert!((scale(1e-9) - 100e-9).abs() < 1e-15);
        assert!((scale(0.045) - 0.1).abs() < 1e-9);
        assert_eq!(Trace::default().scale(), None);
    }
}
