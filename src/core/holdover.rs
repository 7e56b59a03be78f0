//! How far a clock that coasts may have gone: by experience, not by a model alone.
//!
//! The Kalman variance is honest only for an oscillator that wanders as its model says; one that
//! follows the temperature of its room does not. So, while the clock is fed, it is asked all the time
//! how wrong it would be now, had it coasted for the last h seconds:
//!
//! ```text
//! e_h(t) = x(t) - x(t - h) - h y(t - h)          h = 64, 128, ... 4096 s, once every 64 s
//! v_h    = (v0_h + sum w e_h^2) / (1 + sum w)    w = 64 s / h: windows that overlap count once
//! ```
//!
//! v0_h stands for what is believed before: what the drift file remembers, or a frequency that changes
//! by 0.1 ppm. Between the
//! horizons the variance follows a power of the time, below the first its square, beyond the last its cube
//! (random-walk frequency).

use std::collections::VecDeque;

use refclocks::time::{Raw, Span, Timestamp};

use super::bank::Estimate;
use super::estimator::Origin;

/// Horizons.
const HORIZONS: usize = 7;
/// The first horizon, and how often the record is written, s.
const STEP: f64 = 64.0;
/// What is believed of an unknown crystal: its frequency changes by so much while nobody looks, s/s.
const PRIOR_CHANGE: f64 = 1e-7;
/// Experience older than this fades, s: a season is not a day.
const MEMORY: f64 = 7.0 * 86_400.0;
/// Measurements before the first entry: the estimate must have settled.
const SETTLED: u64 = 16;

/// How far a coasting clock goes: variance of the phase error at each horizon, s^2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth([f64; HORIZONS]);

impl Default for Growth {
    fn default() -> Self {
        Self(std::array::from_fn(|k| (PRIOR_CHANGE * horizon(k)) * (PRIOR_CHANGE * horizon(k))))
    }
}

impl Growth {
    /// From the standard deviation at each horizon, s; `None` if they are not as many, or not such.
    pub fn from_deviations(deviations: &[f64]) -> Option<Self> {
        let plausible = |sd: &f64| (1e-12..1e3).contains(sd);
        let sd: [f64; HORIZONS] = deviations.try_into().ok()?;
        (sd.iter().all(plausible) && sd.is_sorted()).then(|| Self(sd.map(|sd| sd * sd)))
    }

    /// The standard deviation at each horizon, s.
    pub fn deviations(&self) -> [f64; HORIZONS] {
        self.0.map(f64::sqrt)
    }

    /// Variance of the phase after coasting for `t` seconds, s^2.
    pub fn variance(&self, t: f64) -> f64 {
        let Self(v) = self;
        let (first, last) = (v[0], v[HORIZONS - 1]);
        if t <= 0.0 {
            return 0.0;
        }
        let octave = libm::log2(t / STEP);
        if octave <= 0.0 {
            return first * (t / STEP) * (t / STEP);
        }
        let k = octave as usize;
        match (v.get(k), v.get(k + 1)) {
            (Some(&low), Some(&high)) => {
                let share = octave - k as f64;
                libm::exp((1.0 - share) * libm::log(low) + share * libm::log(high))
            }
            _ => {
                let beyond = t / horizon(HORIZONS - 1);
                last * beyond * beyond * beyond
            }
        }
    }
}

/// The record.
#[derive(Clone, Debug)]
pub struct HorizonRecord {
    /// What is believed before there is experience.
    prior: Growth,
    origin: Option<Origin>,
    next: Option<Timestamp<Raw>>,
    /// One entry each [`STEP`]: phase (s) and frequency (s/s), or `None` while nothing fed the clock.
    entries: VecDeque<Option<(f64, f64)>>,
    /// Weight and weighted sum of squares of each horizon, s^2.
    sums: [(f64, f64); HORIZONS],
    growth: Growth,
}

impl HorizonRecord {
    /// A record without entries. `prior` is what an earlier life learned.
    pub fn new(prior: Option<Growth>) -> Self {
        let prior = prior.unwrap_or_default();
        Self { prior, origin: None, next: None, entries: VecDeque::new(), sums: [(0.0, 0.0); HORIZONS], growth: prior }
    }

    /// What experience says.
    pub fn growth(&self) -> Growth {
        self.growth
    }

    /// Notes the estimate as of now. It was last fed at `fed`, rests on so many measurements since it
    /// was started, and its phase counts from `origin`.
    pub fn note(&mut self, now: Timestamp<Raw>, origin: Origin, e: &Estimate, measurements: u64, fed: Timestamp<Raw>) {
        if self.origin != Some(origin) {
            // The phase counts from elsewhere now. What was learned stays.
            self.origin = Some(origin);
            self.entries.clear();
            self.next = None;
        }
        let Some(next) = self.next else {
            if measurements >= SETTLED {
                self.enter(Some((e.phase, e.frequency)));
                self.next = Some(now + Span::from_seconds(STEP));
            }
            return;
        };
        let late = (now - next).seconds();
        if late < 0.0 {
            return;
        }
        // Without a measurement since the last entry there is nothing to compare with.
        let fed = fed > next - Span::from_seconds(STEP);
        // A machine that slept missed entries.
        let missed = (late / STEP) as usize;
        for _ in 0..missed.min(self.capacity()) {
            self.enter(None);
        }
        // As of the instant it was due: ticks come up to a second later.
        let behind = late - missed as f64 * STEP;
        self.enter(fed.then_some((e.phase - behind * e.frequency, e.frequency)));
        self.next = Some(next + Span::from_seconds(STEP * (missed + 1) as f64));
    }

    fn capacity(&self) -> usize {
        (1 << (HORIZONS - 1)) + 1
    }

    fn enter(&mut self, entry: Option<(f64, f64)>) {
        if self.entries.len() == self.capacity() {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
        let Some((x, _)) = entry else { return };
        let newest = self.entries.len() - 1;
        for (k, (weight, squares)) in self.sums.iter_mut().enumerate() {
            let then = newest.checked_sub(1 << k).and_then(|i| self.entries.get(i));
            if let Some(&Some((x0, y0))) = then {
                let e = x - x0 - horizon(k) * y0;
                let fade = 1.0 - STEP / MEMORY;
                let w = STEP / horizon(k);
                *weight = fade * *weight + w;
                *squares = fade * *squares + w * e * e;
            }
        }
        self.learn();
    }

    fn learn(&mut self) {
        let mut least: f64 = 0.0;
        let believed = self.prior.0.into_iter().zip(self.sums);
        for (variance, (prior, (weight, squares))) in self.growth.0.iter_mut().zip(believed) {
            let mean = (prior + squares) / (1.0 + weight);
            // A horizon that was hardly ever seen is not better than the one below lets expect.
            let expected = if weight < 1.0 { 8.0 * least } else { least };
            *variance = mean.max(expected);
            least = *variance;
        }
    }
}

/// Length of a horizon, s.
fn horizon(k: usize) -> f64 {
    STEP * (1u64 << k) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::estimator::Estimator;
    use crate::core::estimator::Measurement;
    use crate::sim::Rng;

    const S: i64 = 1_000_000_000;

    fn origin() -> Origin {
        let mut estimator = Estimator::new(Default::default());
        estimator.measure(0, Measurement { raw: Timestamp::EPOCH, tai: Timestamp::EPOCH, delay: None });
        estimator.origin().unwrap()
    }

    /// A record of so many seconds of a crystal whose frequency is `y(t)`, perfectly known.
    fn lived(seconds: i64, mut y: impl FnMut(f64) -> f64) -> HorizonRecord {
        let mut record = HorizonRecord::new(None);
        let origin = origin();
        let mut e = Estimate::default();
        for second in 0..seconds {
            e.frequency = y(second as f64);
            let now = Timestamp::from_nanos(second * S);
            record.note(now, origin, &e, 1000, now);
            e.phase += e.frequency;
        }
        record
    }

    #[test]
    fn an_unknown_crystal_may_change_by_a_tenth_of_a_ppm() {
        let growth = Growth::default();
        assert!((growth.variance(640.0).sqrt() - 64e-6).abs() < 1e-9);
        assert_eq!(growth.variance(0.0), 0.0);
    }

    #[test]
    fn growth_is_remembered() {
        let growth = lived(3600, |t| 1e-9 * t).growth();
        let again = Growth::from_deviations(&growth.deviations()).unwrap();
        assert!((again.variance(500.0) / growth.variance(500.0) - 1.0).abs() < 1e-12);
        assert_eq!(Growth::from_deviations(&[1e-6; 6]), None);
        assert_eq!(Growth::from_deviations(&[1e-6, 1e-6, 1e-6, f64::NAN, 1e-6, 1e-6, 1e-6]), None);
        assert_eq!(Growth::from_deviations(&[1e-6, 1e-6, 1e-6, 1e-7, 1e-6, 1e-6, 1e-6]), None);
    }

    #[test]
    fn a_random_walk_is_learned() {
        // 1 ppb/sqrt(s): sigma after h is 1e-9 sqrt(h^3/3).
        let mut rng = Rng::new(7);
        let mut y = 5e-6;
        let record = lived(12 * 3600, |_| {
            y += 1e-9 * rng.normal();
            y
        });
        for h in [64.0, 300.0, 1024.0, 4096.0, 8000.0] {
            let expected = 1e-9 * f64::sqrt(h * h * h / 3.0);
            let ratio = record.growth().variance(h).sqrt() / expected;
            assert!((0.7..2.0).contains(&ratio), "{h}: {ratio}");
        }
    }

    #[test]
    fn a_crystal_that_follows_its_room_is_not_trusted_as_if_it_wandered() {
        // 0.1 ppm to either side, once in two hours.
        let record = lived(8 * 3600, |t| 1e-7 * libm::sin(2.0 * std::f64::consts::PI * t / 7200.0));
        let after_half_an_hour = record.growth().variance(1800.0).sqrt();
        assert!((85e-6..150e-6).contains(&after_half_an_hour), "{after_half_an_hour:e}");
    }

    #[test]
    fn the_variance_grows_with_time_and_gaps_do_no_harm() {
        let mut record = HorizonRecord::new(None);
        let origin = origin();
        let e = Estimate { frequency: 1e-6, ..Estimate::default() };
        for second in (0..20_000).filter(|s| !(5_000..9_000).contains(s)) {
            let e = Estimate { phase: 1e-6 * second as f64, ..e };
            let fed = if second % 3000 < 2000 { second } else { second - second % 3000 + 2000 };
            record.note(Timestamp::from_nanos(second * S), origin, &e, 1000, Timestamp::from_nanos(fed * S));
        }
        let growth = record.growth();
        let steps: Vec<f64> = (0..200).map(|i| growth.variance(f64::from(i) * 100.0)).collect();
        assert!(steps.is_sorted(), "{steps:?}");
        // It was predictable all the time, so experience beats the prior.
        assert!(growth.variance(64.0) < 0.05 * Growth::default().variance(64.0));
    }
}
