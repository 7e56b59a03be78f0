//! How far a clock that coasts may have gone: by experience, not by a model alone.
//!
//! The Kalman variance is honest only for an oscillator that wanders as its model says; one that
//! follows the temperature of its room does not. So, while the clock is fed, it is asked all the time
//! how wrong it would be now, had it coasted for the last h seconds:
//!
//! ```text
//! e_h(t) = x(t) - x(t - h) - h y(t - h)          h = 64, 128, ... 4096 s, once every 64 s
//! v_h    = (v0_h / 4 + sum w e_h^2) / (1/4 + W) (1 + 2 / (1 + W))
//!                                                w = 64 s / h: windows that overlap count once; W = sum w
//! ```
//!
//! With a thermometer the same is asked of a clock that would have coasted with its temperature
//! compensated ([`super::temperature`]), and the better of the two is what coasting does from then on.
//!
//! v0_h stands for what is believed before: what the drift file remembers, or a frequency that changes
//! by 0.1 ppm. Between the
//! horizons the variance follows a power of the time, below the first its square, beyond the last its cube
//! (random-walk frequency).

use std::collections::VecDeque;

use refclocks::time::{Raw, Span, Timestamp};

use super::bank::Estimate;
use super::measurement::Origin;
use super::temperature::Temperature;

/// Horizons.
const HORIZONS: usize = 7;
/// The first horizon, and how often the record is written, s.
const STEP: f64 = 64.0;
/// What is believed of an unknown crystal: its frequency changes by so much while nobody looks, s/s.
const PRIOR_CHANGE: f64 = 1e-7;
/// How many observations that belief is worth.
const PRIOR_WEIGHT: f64 = 0.25;
/// Experience older than this fades, s: a season is not a day.
const MEMORY: f64 = 7.0 * 86_400.0;
/// Compensation proves itself from the horizon of 512 s on (0 is 64 s), each seen with such a weight...
const PROOF_FROM: usize = 3;
const PROOF_WEIGHT: f64 = 4.0;
/// ...by a mean square error so many times smaller somewhere.
const MUCH_BETTER: f64 = 0.7;
/// Measurements before the first entry: the estimate must have settled.
const SETTLED: u64 = 16;

/// How far a coasting clock goes: variance of the phase error at each horizon, s^2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth([f64; HORIZONS]);

impl Default for Growth {
    fn default() -> Self {
        Self(std::array::from_fn(|k| (PRIOR_CHANGE * length(k)) * (PRIOR_CHANGE * length(k))))
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
                let beyond = t / length(HORIZONS - 1);
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
    /// One entry each [`STEP`], or `None` while nothing fed the clock.
    entries: VecDeque<Option<Entry>>,
    plain: Experience,
    compensated: Experience,
    temperature: Temperature,
    /// Sum of all temperatures at the entries, degrees times entries.
    degrees: f64,
    growth: Growth,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Phase, s.
    x: f64,
    /// Frequency, s/s.
    y: f64,
    /// The temperature, and the sum of all before, where there is a thermometer.
    temperature: Option<(f64, f64)>,
}

/// Of each horizon: weight and weighted sum of squares, s^2.
#[derive(Clone, Copy, Debug, Default)]
struct Experience([(f64, f64); HORIZONS]);

impl HorizonRecord {
    /// A record without entries. `prior` is what an earlier life learned.
    pub fn new(prior: Option<Growth>) -> Self {
        let prior = prior.unwrap_or_default();
        Self {
            prior,
            origin: None,
            next: None,
            entries: VecDeque::new(),
            plain: Experience::default(),
            compensated: Experience::default(),
            temperature: Temperature::default(),
            degrees: 0.0,
            growth: prior,
        }
    }

    /// What experience says.
    pub fn growth(&self) -> Growth {
        self.growth
    }

    /// A reading of the thermometer, degrees Celsius.
    pub fn read_temperature(&mut self, now: Timestamp<Raw>, celsius: f64) {
        self.temperature.read(now, celsius);
    }

    /// The temperature now, degrees Celsius, if there is a thermometer.
    pub fn temperature(&self, now: Timestamp<Raw>) -> Option<f64> {
        self.temperature.at(now)
    }

    /// What the frequency of a coasting clock changes by with the temperature, (s/s)/degree; `None`
    /// unless experience has shown that this predicts better than nothing.
    pub fn compensation(&self) -> Option<f64> {
        self.compensated.beats(&self.plain).then(|| self.temperature.coefficient())
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
                self.enter(Some((e.phase, e.frequency)), now);
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
            self.enter(None, now);
        }
        // As of the instant it was due: ticks come up to a second later.
        let behind = late - missed as f64 * STEP;
        self.enter(fed.then_some((e.phase - behind * e.frequency, e.frequency)), now);
        self.next = Some(next + Span::from_seconds(STEP * (missed + 1) as f64));
    }

    fn capacity(&self) -> usize {
        (1 << (HORIZONS - 1)) + 1
    }

    fn enter(&mut self, estimate: Option<(f64, f64)>, now: Timestamp<Raw>) {
        let celsius = self.temperature.at(now);
        let temperature = celsius.map(|t| (t, self.degrees));
        self.degrees += celsius.unwrap_or(0.0);
        self.temperature.learn(estimate.zip(celsius).map(|((_, y), t)| (y, t)));
        if self.entries.len() == self.capacity() {
            self.entries.pop_front();
        }
        self.entries.push_back(estimate.map(|(x, y)| Entry { x, y, temperature }));
        let Some(Some(end)) = self.entries.back().copied() else { return };
        let newest = self.entries.len() - 1;
        let k = self.temperature.coefficient();
        for horizon in 0..HORIZONS {
            let then = newest.checked_sub(1 << horizon).and_then(|i| self.entries.get(i));
            let Some(&Some(begin)) = then else { continue };
            let e = end.x - begin.x - length(horizon) * begin.y;
            self.plain.add(horizon, e);
            if let (Some((t0, sum0)), Some((_, sum))) = (begin.temperature, end.temperature) {
                // What following the temperature from the beginning on would have added.
                let warmth = STEP * ((sum - sum0) - (1u64 << horizon) as f64 * t0);
                self.compensated.add(horizon, e - k * warmth);
            }
        }
        self.growth =
            if self.compensated.beats(&self.plain) { &self.compensated } else { &self.plain }.growth(&self.prior);
    }
}

impl Experience {
    fn add(&mut self, horizon: usize, e: f64) {
        let (weight, squares) = &mut self.0[horizon];
        let fade = 1.0 - STEP / MEMORY;
        let w = STEP / length(horizon);
        *weight = fade * *weight + w;
        *squares = fade * *squares + w * e * e;
    }

    /// Was it better than the other over all that was seen more than a few times, and much better
    /// somewhere?
    fn beats(&self, other: &Self) -> bool {
        let seen = self.0.iter().zip(&other.0).skip(PROOF_FROM).filter(|((weight, _), _)| *weight >= PROOF_WEIGHT);
        let ratios: Vec<f64> = seen.map(|(a, b)| (a.1 / a.0) / (b.1 / b.0)).collect();
        ratios.iter().all(|r| *r < 1.0) && ratios.iter().any(|r| *r < MUCH_BETTER)
    }

    fn growth(&self, prior: &Growth) -> Growth {
        let mut least: f64 = 0.0;
        let mut growth = *prior;
        for (variance, (weight, squares)) in growth.0.iter_mut().zip(self.0) {
            let mean = (PRIOR_WEIGHT * *variance + squares) / (PRIOR_WEIGHT + weight);
            // A mean of few is itself uncertain.
            let mean = mean * (1.0 + 2.0 / (1.0 + weight));
            // A horizon that was hardly ever seen is not better than the one below lets expect.
            let expected = if weight < 1.0 { 8.0 * least } else { least };
            *variance = mean.max(expected);
            least = *variance;
        }
        growth
    }
}

/// Length of a horizon, s.
fn length(horizon: usize) -> f64 {
    STEP * (1u64 << horizon) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::estimator::Estimator;
    use crate::core::measurement::Measurement;
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
