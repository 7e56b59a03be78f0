//! From the estimate to the clock: frequency, slew, step.
//!
//! ```text
//! u = -(y + d/2) - e / tau        e = predicted offset of the served clock, s
//! tau = clamp(0.1 sqrt(Vx / Vy), 1, 32) s; at most 2 s while |e| > 8 sqrt(Vx)
//! ```
//!
//! sqrt(Vx / Vy) is the filter's own time constant. There is no overshoot: e is a state estimate,
//! and the loop has no integrator of its own.

use super::bank::Estimate;
use serde::{Deserialize, Serialize};

/// A clock that is off by more standard deviations than this is brought back in a hurry. A single good
/// answer of a server may well move the estimate by half as many: a hurry that often would be paid
/// with a rate that jumps.
const ASTRAY: f64 = 8.0;

/// How the operator allows the clock to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepPolicy {
    /// Step rather than slew beyond this, s...
    pub threshold: f64,
    /// ...within so many updates of the start.
    pub updates: u64,
    /// Do not move a clock that is set further than this, s.
    pub panic: f64,
    /// Fastest slew, s/s.
    pub max_slew: f64,
}

impl Default for StepPolicy {
    fn default() -> Self {
        Self { threshold: 1e-3, updates: 10, panic: 1000.0, max_slew: 500e-6 }
    }
}

/// What to do with the clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Move {
    /// Run at this rate against the raw counter, s/s.
    Slew(f64),
    /// Add this, s, then run at the rate.
    Step(f64, f64),
    /// Too far: leave it.
    Panic,
}

/// No crystal is further off, s/s, whatever is estimated of it.
pub(super) const WORST_CRYSTAL: f64 = 1e-3;

/// The rate that makes up for the crystal, s/s.
pub fn drift(estimate: &Estimate) -> f64 {
    -(estimate.frequency + 0.5 * estimate.drift).clamp(-WORST_CRYSTAL, WORST_CRYSTAL)
}

/// Decides. `offset` is clock - true time now, s; `updates` counts what the estimate rests on since
/// the last start; `set` tells whether the clock was ever set.
pub fn decide(estimate: &Estimate, offset: f64, updates: u64, set: bool, policy: &StepPolicy) -> Move {
    let drift = drift(estimate);
    // A step within the noise of the estimate would only be taken back by the next.
    let noise = 4.0 * estimate.phase_variance.sqrt();
    if updates <= policy.updates && offset.abs() > policy.threshold.max(noise) {
        return Move::Step(-offset, drift);
    }
    if set && offset.abs() > policy.panic {
        return Move::Panic;
    }
    let mut tau = (0.1 * estimate.time_constant()).clamp(1.0, 32.0);
    if offset * offset > ASTRAY * ASTRAY * estimate.phase_variance {
        tau = tau.min(2.0);
    }
    Move::Slew(drift - (offset / tau).clamp(-policy.max_slew, policy.max_slew))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate() -> Estimate {
        Estimate { frequency: 12e-6, phase_variance: 1e-14, frequency_variance: 1e-18, ..Estimate::default() }
    }

    #[test]
    fn small_offsets_are_slewed_and_the_slew_is_limited() {
        let policy = StepPolicy::default();
        assert!(matches!(decide(&estimate(), 1e-6, 100, true, &policy), Move::Slew(u) if (u + 12.5e-6).abs() < 1e-9));
        assert!(matches!(decide(&estimate(), -0.5, 100, true, &policy), Move::Slew(u) if (u - 488e-6).abs() < 1e-9));
    }

    #[test]
    fn the_first_updates_step_and_a_set_clock_is_not_moved_by_much() {
        let policy = StepPolicy::default();
        assert!(matches!(decide(&estimate(), 5e8, 1, false, &policy), Move::Step(by, _) if by == -5e8));
        assert_eq!(decide(&estimate(), 5000.0, 100, true, &policy), Move::Panic);
    }
}
