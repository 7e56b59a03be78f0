//! Holds the daemon's clock against true time, once a second, and keeps the score.

use serde::Serialize;

use crate::core::state::State;

/// Statistics begin so long after the first pulse (or the start, if there is none), s.
const SETTLED_AFTER: f64 = 120.0;
/// The early maximum is taken from here to [`SETTLED_AFTER`], s.
const EARLY_FROM: f64 = 60.0;
/// A served second is wrong beyond this, s.
const WRONG: f64 = 0.5;

/// Collects.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    /// When the statistics begin, s after the start, if the scenario says so.
    from: Option<f64>,
    first_pulse: Option<f64>,
    locked_since: Option<f64>,
    squares: f64,
    seconds: f64,
    max: f64,
    early_max: f64,
    covered: f64,
    bounds: Vec<f64>,
    wrong: u64,
    last_state: Option<State>,
}

/// The score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// From the first pulse to the start of the lock that lasts, s.
    pub time_to_lock_s: Option<f64>,
    /// Root mean square of clock - true time, s.
    pub rms_error_s: Option<f64>,
    /// Its greatest magnitude, s.
    pub max_error_s: Option<f64>,
    /// Share of the seconds in which the error lay inside the error bound.
    pub bound_coverage: Option<f64>,
    /// Median of the bound over the rms error.
    pub bound_ratio: Option<f64>,
    /// Greatest magnitude of the error 60 to 120 s after the first pulse, s.
    pub early_max_error_s: Option<f64>,
    /// Seconds served more than half a second wrong.
    pub wrong_seconds: u64,
    /// The state at the end.
    pub final_state: Option<State>,
}

impl Judge {
    /// A judge whose statistics begin `from` seconds after the start, or two minutes after the first
    /// pulse.
    pub fn new(from: Option<f64>) -> Self {
        Self { from, ..Self::default() }
    }

    /// The first pulse came, so many seconds after the start.
    pub fn pulse(&mut self, at: f64) {
        self.first_pulse.get_or_insert(at);
    }

    /// One true second, before its pulse is used: seconds since the start, clock - true time and
    /// bound (s), the state, and whether clients may use the clock.
    pub fn second(&mut self, at: f64, error: f64, bound: f64, state: State, serving: bool) {
        if serving && error.abs() > WRONG {
            self.wrong += 1;
        }
        if state != State::Locked {
            self.locked_since = None;
        } else if self.locked_since.is_none() {
            self.locked_since = Some(at);
        }
        self.last_state = Some(state);
        let since = at - self.first_pulse.unwrap_or(0.0);
        if self.from.map_or(since >= SETTLED_AFTER, |from| at >= from) {
            self.squares += error * error;
            self.seconds += 1.0;
            self.max = self.max.max(error.abs());
            self.covered += f64::from(u8::from(error.abs() <= bound));
            self.bounds.push(bound);
        }
        if (EARLY_FROM..SETTLED_AFTER).contains(&since) {
            self.early_max = self.early_max.max(error.abs());
        }
    }

    /// The score so far.
    pub fn score(&self) -> Score {
        let any = self.seconds > 0.0;
        let rms = (self.squares / self.seconds.max(1.0)).sqrt();
        let mut bounds = self.bounds.clone();
        let median = crate::core::numerics::median(&mut bounds);
        Score {
            time_to_lock_s: self.locked_since.zip(self.first_pulse).map(|(locked, pulse)| (locked - pulse).max(0.0)),
            rms_error_s: any.then_some(rms),
            max_error_s: any.then_some(self.max),
            bound_coverage: any.then_some(self.covered / self.seconds.max(1.0)),
            bound_ratio: median.filter(|_| any && rms > 0.0).map(|m| m / rms),
            early_max_error_s: (self.last_state.is_some()).then_some(self.early_max),
            wrong_seconds: self.wrong,
            final_state: self.last_state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_breaks_does_not_count() {
        let mut judge = Judge::default();
        judge.pulse(3.0);
        for second in 1..200 {
            let state = if (20..50).contains(&second) || second >= 60 { State::Locked } else { State::Coarse };
            judge.second(f64::from(second), 1e-7, 4e-7, state, true);
        }
        let score = judge.score();
        assert_eq!(score.time_to_lock_s, Some(57.0));
        assert_eq!(score.bound_coverage, Some(1.0));
        assert!((score.bound_ratio.unwrap() - 4.0).abs() < 1e-9);
    }

    #[test]
    fn wrong_seconds_count_only_while_served() {
        let mut judge = Judge::default();
        judge.second(1.0, 1e9, f64::INFINITY, State::Unsynchronised, false);
        judge.second(2.0, 0.6, 1.0, State::Coarse, true);
        assert_eq!(judge.score().wrong_seconds, 1);
    }
}
