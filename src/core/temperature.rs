//! What the temperature does to our crystal, learned while the clock is fed and used while it is not.
//!
//! ```text
//! k = sum dy dT / sum dT^2          dy, dT: changes of frequency and temperature over half an hour
//! k is shrunk by max(0, 1 - var(k) / k^2): what is not beyond its own error does no harm
//! ```
//!
//! While the clock is fed the filters follow the frequency themselves. While it coasts, the frequency
//! is carried on by `k dT`, but only once experience has shown that this predicts better than
//! doing nothing ([`super::holdover`]).

use std::collections::VecDeque;

use refclocks::time::{Raw, Timestamp};

/// Readings are averaged over this, s: sensors are coarse and noisy.
const AVERAGED_OVER: f64 = 60.0;
/// A reading older than this is none, s.
const STALE: f64 = 300.0;
/// Entries between the two ends of a difference: half an hour of entries 64 s apart.
const APART: usize = 28;
/// Memory of the regression, entries: about a day.
const MEMORY: f64 = 1350.0;
/// A sensor reads plausible temperatures, degrees Celsius.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = -60.0..=150.0;

/// The sensor's averaged reading, and the regression.
#[derive(Clone, Debug, Default)]
pub struct Temperature {
    average: Option<(Timestamp<Raw>, f64)>,
    /// Frequency (s/s) and temperature, one entry each 64 s.
    entries: VecDeque<Option<(f64, f64)>>,
    /// Of the differences: number, and sums of dT^2, dT dy, dy^2, forgetting.
    n: f64,
    sxx: f64,
    sxy: f64,
    syy: f64,
}

impl Temperature {
    /// A reading of the sensor, degrees Celsius. Implausible ones are ignored.
    pub fn read(&mut self, now: Timestamp<Raw>, celsius: f64) {
        if !PLAUSIBLE.contains(&celsius) {
            return;
        }
        self.average = Some(match self.average {
            Some((at, average)) if (now - at).seconds() < STALE => {
                let share = 1.0 - libm::exp(-(now - at).seconds().max(0.0) / AVERAGED_OVER);
                (now, average + share * (celsius - average))
            }
            _ => (now, celsius),
        });
    }

    /// The temperature now, averaged, degrees Celsius.
    pub fn at(&self, now: Timestamp<Raw>) -> Option<f64> {
        self.average.filter(|(at, _)| (now - *at).seconds() < STALE).map(|(_, average)| average)
    }

    /// Learns from an entry of the horizon record: the frequency (s/s) while it was well known, and the
    /// temperature; `None` otherwise.
    pub fn learn(&mut self, entry: Option<(f64, f64)>) {
        self.entries.push_back(entry);
        if self.entries.len() <= APART {
            return;
        }
        if let (Some((y, t)), Some(Some((y0, t0)))) = (entry, self.entries.pop_front()) {
            let (dy, dt) = (y - y0, t - t0);
            let fade = 1.0 - 1.0 / MEMORY;
            self.n = fade * self.n + 1.0;
            self.sxx = fade * self.sxx + dt * dt;
            self.sxy = fade * self.sxy + dt * dy;
            self.syy = fade * self.syy + dy * dy;
        }
    }

    /// The crystal's temperature coefficient as far as it is known, (s/s)/degree; 0 while it is not.
    pub fn coefficient(&self) -> f64 {
        // Differences overlap: only every APART-th is a new one.
        let independent = self.n / APART as f64;
        if independent < 3.0 || self.sxx <= 0.0 {
            return 0.0;
        }
        let k = self.sxy / self.sxx;
        let residual = (self.syy - k * self.sxy).max(0.0) / self.n;
        let variance = residual / (self.sxx / self.n) / (independent - 1.0);
        if k == 0.0 { 0.0 } else { k * (1.0 - variance / (k * k)).max(0.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Rng;

    fn learned(coefficient: f64) -> f64 {
        let mut rng = Rng::new(3);
        let mut temperature = Temperature::default();
        let mut walk = 0.0;
        for k in 0..600 {
            let t = 2.0 * libm::sin(f64::from(k) * 64.0 * std::f64::consts::TAU / 7200.0);
            walk += 8e-10 * rng.normal();
            temperature.learn(Some((12e-6 + walk + coefficient * t, 45.0 + t + 0.1 * rng.normal())));
        }
        temperature.coefficient()
    }

    #[test]
    fn a_coefficient_is_learned_and_one_that_is_not_there_is_not() {
        let k = learned(50e-9);
        assert!((k / 50e-9 - 1.0).abs() < 0.1, "{k:e}");
        assert!(learned(0.0).abs() < 1e-9);
    }

    #[test]
    fn readings_are_averaged_and_absurd_or_old_ones_are_none() {
        let at = |s: i64| Timestamp::<Raw>::from_parts(s, 0);
        let mut temperature = Temperature::default();
        assert_eq!(temperature.at(at(0)), None);
        for s in (0..600).step_by(10) {
            temperature.read(at(s), if s % 20 == 0 { 40.0 } else { 41.0 });
        }
        temperature.read(at(600), f64::NAN);
        temperature.read(at(600), 85_000.0);
        assert!((temperature.at(at(600)).unwrap() - 40.5).abs() < 0.1);
        assert_eq!(temperature.at(at(1000)), None);
    }
}
