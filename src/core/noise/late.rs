//! Noise of pulses and other reference clocks: Gaussian, and sometimes late.
//!
//! z - x = N(0, r) with probability 1-p, N(0, r) + Exp(mu) with probability p: the interrupt, or the
//! program that stamps, was held up. Late means z = local - reference is larger, never smaller. A
//! broad safety component keeps the evidence of anything else finite. r, p and mu are learned by
//! online expectation-maximisation.

use super::{Component, KnownNoise, Posterior, moments};
use crate::core::numerics::{cut_to_positive, ln_gaussian};

/// ln of the prior probability of the safety component, 1e-4.
const LN_SAFETY: f64 = -9.210_340_371_976_182;
/// Memory of the learning, samples.
const MEMORY: f64 = 2000.0;
/// What an earlier life knew counts as so many samples, if variances differ by less than this factor.
const REMEMBERED: f64 = 300.0;
const ALIKE: f64 = 10.0;
/// A variance below this is not credible for any stamp we can take, s^2 (1 ns).
const LEAST_VARIANCE: f64 = 1e-18;

/// The model's parameters and what it has learned from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LateNoise {
    /// Variance of the Gaussian part, s^2.
    pub r: f64,
    /// Probability of being late.
    pub p: f64,
    /// Mean lateness of late ones, s.
    pub mu: f64,
    /// Samples learned from.
    n: f64,
    /// Running averages of (responsibility x lateness) and of responsibility.
    lateness: f64,
    responsibility: f64,
    /// How much of recent samples only safety explains.
    unexplained: f64,
}

/// What one measurement taught, over the members of a bank, and what is the same for all of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lesson {
    /// ln of the probability that it was prompt, and of the density of lateness at its beginning, 1/s.
    ln_prompt: f64,
    ln_late: f64,
    weight: f64,
    noise_squared: f64,
    responsibility: f64,
    lateness: f64,
    unexplained: f64,
}

impl LateNoise {
    /// A model that starts from a guess of the Gaussian part's variance, s^2.
    pub fn with_variance(r: f64) -> Self {
        let r = r.max(LEAST_VARIANCE);
        Self { r, p: 0.02, mu: 10.0 * r.sqrt(), n: 0.0, lateness: 0.0, responsibility: 0.0, unexplained: 0.0 }
    }

    /// Noise as an earlier life knew it, if what is seen now, variance `r` in s^2, can be the same.
    pub fn remembered(r: f64, known: &KnownNoise) -> Self {
        let was = known.jitter * known.jitter;
        let is_the_same = (r / ALIKE..r * ALIKE).contains(&was);
        let (p, mu) = known.late;
        if !is_the_same || p <= 0.0 {
            return Self::with_variance(r);
        }
        let n = REMEMBERED;
        Self { p, mu, n, lateness: p * mu, responsibility: p, ..Self::with_variance(was) }
    }

    /// Noise that is hardly ever late, of a known variance, s^2.
    pub fn prompt(r: f64) -> Self {
        Self { p: 1e-6, ..Self::with_variance(r) }
    }

    /// How much of the last eight or so samples only the safety component explains, 0 to 1.
    pub fn unexplained(&self) -> f64 {
        self.unexplained
    }

    pub(super) fn lesson(&self) -> Lesson {
        Lesson { ln_prompt: libm::log(1.0 - self.p), ln_late: libm::log(self.p / self.mu), ..Lesson::default() }
    }

    pub(super) fn posterior(&self, e: f64, p: f64, weight: f64, lesson: &mut Lesson) -> Posterior {
        let Self { r, mu, .. } = *self;
        let s = p + r;
        let sd = s.sqrt();
        let gain = p / s;

        let prompt =
            Component { ln_weight: lesson.ln_prompt + ln_gaussian(e, s), mean: gain * e, variance: p * (1.0 - gain) };

        // Given that it was late, its lateness is N(e - s/mu, s) cut to what is positive.
        let (ln_mass, lateness, lateness_variance) = cut_to_positive(e - s / mu, sd);
        let late = Component {
            ln_weight: lesson.ln_late + s / (2.0 * mu * mu) - e / mu + ln_mass,
            mean: gain * (e - lateness),
            variance: p * (1.0 - gain) + gain * gain * lateness_variance,
        };

        let broad = 100.0 * s + 25.0 * mu * mu;
        let safety = Component {
            ln_weight: LN_SAFETY + ln_gaussian(e, broad),
            mean: p / broad * e,
            variance: p * (1.0 - p / broad),
        };

        let (posterior, [prompt, late, safety]) = moments(&[prompt, late, safety]);

        // E[n^2] of the Gaussian part n, given the total Gaussian g = e - lateness.
        let g_late = e - lateness;
        let g_safety = e * s / broad;
        let g_squared = prompt * e * e
            + late * (g_late * g_late + lateness_variance)
            + safety * (g_safety * g_safety + s - s * s / broad);
        lesson.weight += weight;
        lesson.noise_squared += weight * ((r / s) * (r / s) * g_squared + p * r / s);
        lesson.responsibility += weight * (late + safety);
        lesson.lateness += weight * (late + safety) * lateness;
        lesson.unexplained += weight * safety;
        posterior
    }

    pub(super) fn learn(&mut self, lesson: &Lesson) {
        if lesson.weight <= 0.0 {
            return;
        }
        self.n += 1.0;
        let [noise_squared, responsibility, lateness, unexplained] =
            [lesson.noise_squared, lesson.responsibility, lesson.lateness, lesson.unexplained]
                .map(|sum| sum / lesson.weight);
        self.r = (self.r + (noise_squared - self.r) / (self.n + 8.0).min(MEMORY)).max(LEAST_VARIANCE);
        let rate = 1.0 / (self.n + 40.0).min(MEMORY);
        self.p = (self.p + rate * (responsibility - self.p)).clamp(0.001, 0.4);
        self.lateness += rate * (lateness - self.lateness);
        self.responsibility += rate * (responsibility - self.responsibility);
        // A weak prior of 10 sd keeps mu where it is while nothing is late.
        let prior = 0.003;
        let sd = self.r.sqrt();
        self.mu = ((self.lateness + prior * 10.0 * sd) / (self.responsibility + prior)).max(2.0 * sd);
        self.unexplained += (unexplained - self.unexplained) / 8.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn posterior(noise: &LateNoise, e: f64, p: f64) -> Posterior {
        noise.posterior(e, p, 1.0, &mut noise.lesson())
    }

    #[test]
    fn a_prompt_sample_moves_the_phase_by_the_kalman_gain() {
        let noise = LateNoise { p: 1e-9, ..LateNoise::with_variance(1e-12) };
        let after = posterior(&noise, 0.5e-6, 1e-12);
        assert!((after.mean - 0.25e-6).abs() < 1e-9, "{after:?}");
        assert!((after.variance - 0.5e-12).abs() < 1e-14);
    }

    #[test]
    fn a_late_sample_hardly_moves_it() {
        let noise = LateNoise { mu: 20e-6, ..LateNoise::with_variance(1e-12) };
        let late = posterior(&noise, 60e-6, 1e-13);
        assert!(late.mean.abs() < 0.2e-6, "{late:?}");
    }

    proptest! {
        #[test]
        fn posteriors_are_finite(e in -1.0f64..1.0, ln_p in -45.0f64..5.0, ln_r in -41.0f64..-2.0) {
            let after = posterior(&LateNoise::with_variance(ln_r.exp()), e, ln_p.exp());
            prop_assert!(after.ln_evidence.is_finite() && after.mean.is_finite() && after.variance >= 0.0, "{after:?}");
            prop_assert!(after.mean.abs() <= e.abs() * 1.5 + 3.0 * ln_p.exp().sqrt());
        }
    }
}
