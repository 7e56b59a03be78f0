//! The sawtooth of a receiver's pulse: what the receiver says of it, and whether saying it helps.
//!
//! A receiver marks a second with the tick of its own oscillator that is nearest, some nanoseconds off,
//! and tells beforehand by how much (u-blox's qErr). Taken off, the pulse is as good as the receiver's
//! fix. But receivers differ in the sign, a message may belong to another pulse, and where the stamps
//! are worse than that it cannot matter. So the correction is only applied while it makes the pulses
//! measurably more even than they are without it: by the second differences of their stamps, which know
//! neither offset nor frequency of our counter.

use std::collections::VecDeque;
use std::fmt;

use refclocks::time::{Raw, Tai, Timestamp};
use serde::{Deserialize, Serialize};

use super::numerics::median;
use super::state::Magnitude;

/// Second differences judged by: each of three pulses of its own, so that they are independent.
const WINDOW: usize = 128;
/// Fewest that can decide.
const FEWEST: usize = 32;
/// The mean gain must be so many of its standard errors above zero to begin with the correction...
const SURE: f64 = 4.0;
/// ...and so many below it to end it: a sawtooth that stands still for a while does no harm.
const HARMFUL: f64 = -2.0;
/// Less than this of the noise taken away is not worth it.
const WORTH: f64 = 0.97;
/// A difference so many medians away that the sawtooth does not explain is a late interrupt.
const OUTLIER: f64 = 5.0;
/// A message comes so long before its pulse at most, s.
const LEAD: f64 = 1.1;
/// No receiver's ticks are this far apart, s.
const LARGEST: f64 = 1e-6;

/// How the correction stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SawtoothState {
    /// Not enough pulses with a message have been seen.
    Checking {
        /// Pulses seen with it.
        pulses: u64,
    },
    /// It is applied.
    Applied {
        /// +1: what is sent is added to the pulse's stamp, -1: it is taken off.
        sign: i8,
        /// Noise of the pulses as they come, one standard deviation, s.
        without_s: f64,
        /// The same with the correction, s.
        with_s: f64,
    },
    /// It would not make the pulses more even, and is not applied.
    NoUse {
        /// Noise of the pulses as they come, one standard deviation, s.
        without_s: f64,
    },
}

impl fmt::Display for SawtoothState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checking { .. } => f.write_str("whether the receiver's sawtooth correction helps is being found out"),
            Self::Applied { without_s, with_s, .. } => write!(
                f,
                "the receiver's sawtooth correction is applied: noise {} instead of {}",
                Magnitude(*with_s),
                Magnitude(*without_s)
            ),
            Self::NoUse { without_s } => write!(
                f,
                "the receiver's sawtooth correction is not applied: with a noise of {} it makes no difference",
                Magnitude(*without_s)
            ),
        }
    }
}

/// The correction of one pulse source.
#[derive(Clone, Debug, Default)]
pub struct Sawtooth {
    announced: Option<Announced>,
    /// The last pulses in a row that had a message: up to two.
    row: VecDeque<(Timestamp<Raw>, f64)>,
    /// Second differences of stamps, and of what was announced for the same pulses, s.
    differences: VecDeque<(f64, f64)>,
    pulses: u64,
    given: Option<i8>,
    applied: Option<f64>,
    judged: Option<SawtoothState>,
}

#[derive(Clone, Copy, Debug)]
struct Announced {
    at: Timestamp<Raw>,
    pulse: Option<Timestamp<Tai>>,
    error: f64,
}

impl Sawtooth {
    /// The receiver says how far off its next pulse will be: when it said so, which second that pulse
    /// marks if it names it, and the error as sent, s. A `sign` that is given is the only one tried.
    pub fn announce(&mut self, at: Timestamp<Raw>, pulse: Option<Timestamp<Tai>>, error: f64, sign: Option<i8>) {
        if error.abs() < LARGEST {
            self.announced = Some(Announced { at, pulse, error });
            self.given = sign;
        }
    }

    /// A pulse that marks the second `tai`. Returns what to add to its stamp, s: zero unless the
    /// correction has proved itself.
    pub fn pulse(&mut self, raw: Timestamp<Raw>, tai: Timestamp<Tai>) -> f64 {
        let announced = self.announced.take().filter(|a| {
            let lead = (raw - a.at).seconds();
            (0.0..LEAD).contains(&lead) && a.pulse.is_none_or(|named| named.round() == tai)
        });
        let Some(Announced { error, .. }) = announced else {
            self.row.clear();
            return 0.0;
        };
        self.pulses += 1;
        if self.row.back().is_some_and(|(last, _)| ((raw - *last).seconds() - 1.0).abs() > 0.1) {
            self.row.clear();
        }
        if let [(a, first), (b, second)] = self.row.make_contiguous() {
            let stamps = ((raw - *b) - (*b - *a)).seconds();
            let said = error - 2.0 * *second + *first;
            self.row.clear();
            self.differences.push_back((stamps, said));
            if self.differences.len() > WINDOW {
                self.differences.pop_front();
            }
            self.judge();
        } else {
            self.row.push_back((raw, error));
        }
        self.applied.map_or(0.0, |sign| sign * error)
    }

    /// How it stands; `None` while the receiver says nothing of its pulses.
    pub fn state(&self) -> Option<SawtoothState> {
        let checking = (self.pulses > 0).then_some(SawtoothState::Checking { pulses: self.pulses });
        self.judged.or(checking)
    }

    /// Would the correction, with either sign, make the pulses more even?
    fn judge(&mut self) {
        let unexplained = |d: f64, q: f64| d.abs().min((d + q).abs()).min((d - q).abs());
        let mut sizes: Vec<f64> = self.differences.iter().map(|(d, _)| d.abs()).collect();
        let Some(middle) = median(&mut sizes) else { return };
        let usual: Vec<(f64, f64)> =
            self.differences.iter().copied().filter(|(d, q)| unexplained(*d, *q) <= OUTLIER * middle).collect();
        if usual.len() < FEWEST {
            return;
        }
        let n = usual.len() as f64;
        // White noise of one pulse is sqrt(6) times smaller than that of a second difference.
        let noise =
            |sign: f64| (usual.iter().map(|(d, q)| (d + sign * q) * (d + sign * q)).sum::<f64>() / n / 6.0).sqrt();
        let gain = |sign: f64| {
            let gains = usual.iter().map(|(d, q)| d * d - (d + sign * q) * (d + sign * q));
            let mean = gains.clone().sum::<f64>() / n;
            let variance = gains.map(|g| (g - mean) * (g - mean)).sum::<f64>() / (n - 1.0);
            // Without any spread there is nothing to correct.
            if variance > 0.0 { mean / (variance / n).sqrt() } else { 0.0 }
        };
        let best = self.given.map_or(if gain(1.0) > gain(-1.0) { 1.0 } else { -1.0 }, f64::from);
        self.applied = match self.applied {
            Some(sign) if gain(sign) > HARMFUL && self.given.is_none_or(|given| f64::from(given) == sign) => Some(sign),
            _ => (gain(best) > SURE && noise(best) < WORTH * noise(0.0)).then_some(best),
        };
        self.judged = Some(match self.applied {
            Some(sign) => SawtoothState::Applied { sign: sign as i8, without_s: noise(0.0), with_s: noise(sign) },
            None => SawtoothState::NoUse { without_s: noise(0.0) },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Rng;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;
    use refclocks::time::Span;

    /// Ticks of the receiver's oscillator, s.
    const TICK: f64 = 20.8e-9;

    /// A receiver whose pulses are off by its sawtooth, stamped with `noise`. `sent` says what it sends
    /// of each error. Returns the corrector, and the noise of the corrected pulses of the last third, s.
    fn run(seed: u64, noise: f64, seconds: i64, mut sent: impl FnMut(f64) -> f64) -> (Sawtooth, f64) {
        let mut rng = Rng::new(seed);
        let mut sawtooth = Sawtooth::default();
        // By so much of a tick the receiver's second moves against its ticks in one second.
        let (ppm, drift) = (rng.normal() * 20e-6, 0.1 + 0.8 * rng.uniform());
        let mut squares = (0.0, 0.0);
        for k in 0..seconds {
            let phase = (k as f64 * drift + 0.1 * rng.uniform()).rem_euclid(1.0);
            let error = TICK * (phase - 0.5);
            let off = error + noise * rng.normal();
            let true_raw = Timestamp::<Raw>::from_parts(1000, 0) + Span::from_seconds(k as f64 * (1.0 + ppm));
            let raw = true_raw + Span::from_seconds(off);
            let tai = Timestamp::from_parts(1_767_225_637 + k, 0);
            sawtooth.announce(raw - Span::from_millis(800), Some(tai), sent(error), None);
            let added = sawtooth.pulse(raw, tai);
            if 3 * k > 2 * seconds {
                squares = (squares.0 + (off + added) * (off + added), squares.1 + 1.0);
            }
        }
        (sawtooth, (squares.0 / squares.1).sqrt())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn the_right_sign_is_found_where_the_stamps_are_good(seed in any::<u64>(), noise in 0.1e-9f64..3e-9, minus in any::<bool>()) {
            let sign = if minus { -1.0 } else { 1.0 };
            let (sawtooth, left) = run(seed, noise, 800, |error| sign * error);
            let is_right = matches!(sawtooth.state(), Some(SawtoothState::Applied { sign: found, .. }) if f64::from(found) == -sign);
            prop_assert!(is_right, "{:?}", sawtooth.state());
            prop_assert!((left / noise - 1.0).abs() < 0.3, "{} {}", left, noise);
        }

        #[test]
        fn it_is_left_off_where_the_stamps_are_worse(seed in any::<u64>(), noise in 500e-9f64..5e-6) {
            let (sawtooth, left) = run(seed, noise, 800, |error| error);
            prop_assert!(matches!(sawtooth.state(), Some(SawtoothState::NoUse { .. })), "{:?}", sawtooth.state());
            prop_assert!((left / noise - 1.0).abs() < 0.3);
        }

        #[test]
        fn what_belongs_to_other_pulses_is_not_applied(seed in any::<u64>()) {
            let mut other = Rng::new(seed ^ 1);
            let (sawtooth, _) = run(seed, 1e-9, 800, |_| TICK * (other.uniform() - 0.5));
            prop_assert!(matches!(sawtooth.state(), Some(SawtoothState::NoUse { .. })), "{:?}", sawtooth.state());
        }
    }

    #[test]
    fn it_ends_when_it_ceases_to_help() {
        let mut rng = Rng::new(7);
        let mut sawtooth = Sawtooth::default();
        let mut states = Vec::new();
        for k in 0..900i64 {
            let error = TICK * (rng.uniform() - 0.5);
            // From 450 s on the messages are somebody else's.
            let sent = if k < 450 { error } else { TICK * (rng.uniform() - 0.5) };
            let raw = Timestamp::<Raw>::from_parts(1000 + k, 0) + Span::from_seconds(error);
            let tai = Timestamp::from_parts(k, 0);
            sawtooth.announce(raw - Span::from_millis(900), None, sent, None);
            sawtooth.pulse(raw, tai);
            states.push(matches!(sawtooth.state(), Some(SawtoothState::Applied { sign: -1, .. })));
        }
        assert!(!states[60] && states[130] && states[449] && !states[899]);
    }

    #[test]
    fn a_sign_that_is_given_is_checked_too() {
        let mut rng = Rng::new(3);
        for sign in [1, -1] {
            let mut sawtooth = Sawtooth::default();
            for k in 0..200i64 {
                let error = TICK * (rng.uniform() - 0.5);
                let raw = Timestamp::<Raw>::from_parts(1000 + k, 0) + Span::from_seconds(error);
                sawtooth.announce(raw - Span::from_millis(900), None, error, Some(sign));
                sawtooth.pulse(raw, Timestamp::from_parts(k, 0));
            }
            let applied = matches!(sawtooth.state(), Some(SawtoothState::Applied { sign: -1, .. }));
            assert_eq!(applied, sign == -1, "{:?}", sawtooth.state());
        }
    }

    #[test]
    fn only_the_message_before_a_pulse_is_its_own() {
        let mut sawtooth = Sawtooth::default();
        let at = |ms: i64| Timestamp::<Raw>::from_nanos(ms * 1_000_000);
        let second = |k: i64| Timestamp::<Tai>::from_parts(k, 0);
        sawtooth.pulse(at(1000), second(1));
        assert_eq!(sawtooth.state(), None, "nothing was said");
        sawtooth.announce(at(1200), None, 1e-9, None);
        sawtooth.pulse(at(3000), second(3));
        assert_eq!(sawtooth.state(), None, "too old");
        sawtooth.announce(at(3200), Some(second(5)), 1e-9, None);
        sawtooth.pulse(at(4000), second(4));
        assert_eq!(sawtooth.state(), None, "of another second");
        sawtooth.announce(at(4200), Some(second(5)), 1e-9, None);
        sawtooth.pulse(at(5000), second(5));
        assert_eq!(sawtooth.state(), Some(SawtoothState::Checking { pulses: 1 }));
        sawtooth.announce(at(5200), None, 1e-3, None);
        sawtooth.pulse(at(6000), second(6));
        assert_eq!(sawtooth.state(), Some(SawtoothState::Checking { pulses: 1 }), "absurd");
    }
}
