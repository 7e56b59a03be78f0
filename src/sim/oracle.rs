//! How well the clock could be known: the bound that an estimator is measured against.
//!
//! A Kalman filter of phase and frequency that is told everything an estimator has to find out: how the
//! oscillator wanders, how every source's noise is distributed, how long the way to a server is at
//! least. It sees the same measurements, and its error is that of a clock without any lag of control.
//! It is the optimum for Gaussian noise, and for the others within some 2 % of it, as far as particle
//! filters can tell.

use refclocks::time::{Raw, Tai, Timestamp};

use super::Scenario;
use super::scenario::Model;
use crate::core::measurement::Measurement;
use crate::core::noise::{LateNoise, Noise};
use crate::core::numerics::{LnSum, cut_to_interval, ln_gaussian};

/// Jitter besides the excess delay that a server's samples are given, s^2.
const LEAST_VARIANCE: f64 = 1e-14;
/// Prior probability of anything else.
const LN_SAFETY: f64 = -6.907_755_278_982_137;

/// What the oracle is told of a source.
#[derive(Clone, Debug)]
enum Known {
    Stamps(Box<Noise>),
    /// The least round trip, s.
    Packets(f64),
}

/// The oracle.
#[derive(Clone, Debug)]
pub struct Oracle {
    sources: Vec<Option<Known>>,
    /// Variance of the random walk, (s/s)^2/s.
    q: f64,
    origin: Option<(Timestamp<Raw>, Timestamp<Tai>)>,
    at: Timestamp<Raw>,
    state: [f64; 2],
    p: [f64; 3],
}

impl Oracle {
    /// An oracle for a scenario. It ignores what a scenario's crystal does besides its random walk.
    pub fn new(scenario: &Scenario) -> Self {
        let known = |model: &Model| match model {
            Model::Pulse(pulse) | Model::Numbered(pulse) => {
                let (p, mu) = pulse.late.first().copied().unwrap_or((1e-9, 1.0));
                let variance = pulse.jitter * pulse.jitter;
                let mut noise = LateNoise::with_variance(variance);
                (noise.p, noise.mu) = (p.max(1e-9), mu);
                Some(Known::Stamps(Box::new(Noise::Late(noise))))
            }
            Model::Server(server) => Some(Known::Packets(server.there.base + server.back.base)),
            Model::Messages(_) => None,
        };
        Self {
            sources: scenario.sources.iter().map(|s| known(&s.model)).collect(),
            q: scenario.crystal.wander * scenario.crystal.wander,
            origin: None,
            at: Timestamp::EPOCH,
            state: [0.0; 2],
            p: [1e4, 0.0, 4e-8],
        }
    }

    /// A measurement.
    pub fn measure(&mut self, source: usize, m: &Measurement) {
        let Some(Some(known)) = self.sources.get(source).cloned() else { return };
        if self.origin.is_none() {
            self.origin = Some((m.raw, m.tai));
            self.at = m.raw;
        }
        let Some(z) = self.phase(m.raw, m.tai) else { return };
        self.advance(m.raw);
        let p = self.p[0];
        let e = z - self.state[0];
        let (mean, variance) = match known {
            Known::Stamps(noise) => {
                let posterior = noise.posterior(e, p, 1.0, &mut noise.lesson(0.0));
                (posterior.mean, posterior.variance)
            }
            Known::Packets(least) => packet(e, p, (m.delay.unwrap_or(0.0) - least).max(1e-12)),
        };
        let gain = self.p[1] / p;
        self.state = [self.state[0] + mean, self.state[1] + gain * mean];
        let less = p - variance.max(1e-12 * p);
        self.p = [p - less, self.p[1] - gain * less, self.p[2] - gain * gain * less];
    }

    /// The error of its estimate when the counter reads `raw` at the true time `tai`, s. `None` before
    /// the first measurement.
    pub fn error(&mut self, raw: Timestamp<Raw>, tai: Timestamp<Tai>) -> Option<f64> {
        let z = self.phase(raw, tai)?;
        Some(z - self.state[0] - self.state[1] * (raw - self.at).seconds())
    }

    /// Phase of the free-running counter against true time since the first measurement, s.
    fn phase(&self, raw: Timestamp<Raw>, tai: Timestamp<Tai>) -> Option<f64> {
        self.origin.map(|(raw0, tai0)| ((raw - raw0) - (tai - tai0)).seconds())
    }

    fn advance(&mut self, to: Timestamp<Raw>) {
        let dt = (to - self.at).seconds();
        if dt <= 0.0 {
            return;
        }
        self.at = to;
        let [p00, p01, p11] = self.p;
        self.state[0] += dt * self.state[1];
        self.p = [
            p00 + 2.0 * dt * p01 + dt * dt * p11 + self.q * dt * dt * dt / 3.0,
            p01 + dt * p11 + self.q * dt * dt / 2.0,
            p11 + self.q * dt,
        ];
    }
}

/// What a packet with this excess delay says: the error is uniform within half of it.
fn packet(e: f64, p: f64, excess: f64) -> (f64, f64) {
    let s = p + LEAST_VARIANCE;
    let gain = p / s;
    let b = 0.5 * excess.max(1e-3 * s.sqrt());
    let (ln_mass, cut, cut_variance) = cut_to_interval(e, s.sqrt(), b);
    let broad = 100.0 * (s + excess * excess / 12.0);
    let (ln_good, ln_other) = (ln_mass - libm::log(2.0 * b), LN_SAFETY + ln_gaussian(e, broad));
    let mut sum = LnSum::default();
    sum.add(ln_good);
    sum.add(ln_other);
    let total = sum.ln();
    let (good, other) = (libm::exp(ln_good - total), libm::exp(ln_other - total));
    let (mean_good, variance_good) = (gain * (e - cut), p * (1.0 - gain) + gain * gain * cut_variance);
    let (mean_other, variance_other) = (p / broad * e, p * (1.0 - p / broad));
    let mean = good * mean_good + other * mean_other;
    let second = good * (variance_good + mean_good * mean_good) + other * (variance_other + mean_other * mean_other);
    (mean, second - mean * mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::memory::Memory;
    use crate::sim::rehearsal::{Rehearsal, Scene};

    /// With Gaussian noise alone the optimum is a Riccati equation's solution: for the variance r of
    /// each second's stamp and a wander q it is 218 ns at 1 us and 1 ppb/sqrt(s).
    #[test]
    fn with_gaussian_noise_it_reaches_what_riccati_says() {
        let text = "[crystal]\nwander_ppb = 1\n[[numbered]]\njitter = \"1 us\"";
        let scenario = Scenario::from_toml(text).unwrap();
        let (mut squares, mut n) = (0.0f64, 0.0);
        for seed in 1..=5 {
            let mut oracle = Oracle::new(&scenario);
            let start = Timestamp::from_parts(1_767_225_600, 0);
            Rehearsal::new(scenario.clone(), seed, start, &Memory::default()).play(5000.0, |scene| match scene {
                Scene::Measured { source, measurement } => oracle.measure(source, measurement),
                Scene::Second { tai, raw, .. } => {
                    let error = oracle.error(raw, tai).unwrap_or(0.0);
                    if (raw - Timestamp::EPOCH).seconds() > 1000.0 {
                        squares += error * error;
                        n += 1.0;
                    }
                }
                Scene::Event(_) => {}
            });
        }
        let rms: f64 = (squares / n).sqrt();
        assert!((rms / 218e-9 - 1.0).abs() < 0.06, "{rms:e}");
    }
}
