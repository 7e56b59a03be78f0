//! Noise of network samples: the excess delay bounds the error.
//!
//! With the minimum round trip known, a packet exchange whose round trip exceeds it by s has an
//! offset error within +-s/2 (constant asymmetry aside); for two independent equal exponentials it
//! is uniform there. How much Gaussian jitter comes on top, and whether one direction is the slower,
//! is learned as the weights of nineteen hypotheses.

use super::{Component, Posterior, moments};
use crate::core::numerics::{LnSum, cut_to_interval, ln_gaussian};

/// Memory of the hypothesis weights, samples.
const MEMORY: f64 = 1000.0;
/// No hypothesis falls below exp(-FLOOR) of the best.
const FLOOR: f64 = 12.0;
/// Prior probability of the safety component.
const LN_SAFETY: f64 = -6.907_755_278_982_137;

/// How unequal ways may be: the density within the bounds goes with exp(+-TILT u / mean excess).
const TILT: f64 = 4.0;
/// Hypotheses: of asymmetry and jitter where the excess delay bounds the error...
const TILTS: [f64; 3] = [0.0, -TILT, TILT];
const BOUNDED_RHOS: [f64; 5] = [0.005, 0.03, 0.12, 0.4, 1.5];
/// ...and of a Gaussian's width and jitter.
const KAPPAS: [f64; 2] = [0.25, 1.0];
const GAUSSIAN_RHOS: [f64; 2] = [0.03, 0.2];
const BOUNDED: usize = TILTS.len() * BOUNDED_RHOS.len();
const HYPOTHESES: usize = BOUNDED + KAPPAS.len() * GAUSSIAN_RHOS.len();

/// One hypothesis about the error of a sample with a given excess delay.
#[derive(Clone, Copy, Debug)]
struct Hypothesis {
    /// Gaussian jitter's sd in units of the mean excess delay.
    rho: f64,
    shape: Shape,
    /// Permanent ln prior.
    prior: f64,
    /// Accumulated ln evidence, forgetting.
    evidence: f64,
    /// Normalised weight, and its ln.
    weight: f64,
    ln_weight: f64,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Within +-s/2, density ~ exp(tilt u / m).
    Bounded { tilt: f64 },
    /// Gaussian of variance kappa s^2 / 12.
    Gaussian { kappa: f64 },
}

/// The model of one server's noise.
#[derive(Clone, Debug)]
pub struct NetworkNoise {
    hypotheses: Box<[Hypothesis; HYPOTHESES]>,
    /// Mean excess delay, s.
    mean_excess: f64,
    n: u64,
}

/// What one measurement taught, over the members of a bank, and what is the same for all of them.
#[derive(Clone, Debug)]
pub struct Lesson {
    ln_evidence: [LnSum; HYPOTHESES],
    /// Excess delay, s.
    excess: f64,
    /// ln of the norms of what is bounded by half of it: flat and tilted.
    flat: f64,
    tilted: f64,
}

impl NetworkNoise {
    /// A model that has seen nothing; `mean_excess` in s.
    pub fn new(mean_excess: f64) -> Self {
        let hypotheses = Box::new(std::array::from_fn(Hypothesis::new));
        let mut noise = Self { hypotheses, mean_excess: mean_excess.max(1e-9), n: 0 };
        noise.normalise();
        noise
    }

    /// The mean excess delay, s.
    pub fn scale(&self) -> f64 {
        self.mean_excess
    }

    /// How much of the weight says that one direction is the slower one, 0 to 1.
    pub fn tilted_share(&self) -> f64 {
        let is_tilted = |h: &&Hypothesis| matches!(h.shape, Shape::Bounded { tilt } if tilt != 0.0);
        self.hypotheses.iter().filter(is_tilted).map(|h| h.weight).sum()
    }

    /// Tells the model the mean excess delay as it is known now, s.
    pub fn set_scale(&mut self, mean_excess: f64) {
        self.mean_excess = mean_excess.max(1e-9);
    }

    pub(super) fn lesson(&self, excess: f64) -> Lesson {
        let b = 0.5 * excess;
        let (flat, tilted) = (ln_norm(0.0, b), ln_norm(TILT / self.mean_excess, b));
        Lesson { ln_evidence: [LnSum::default(); HYPOTHESES], excess, flat, tilted }
    }

    pub(super) fn posterior(&self, e: f64, p: f64, weight: f64, lesson: &mut Lesson) -> Posterior {
        let m = self.mean_excess;
        let ln_weight = libm::log(weight.max(1e-300));
        let Lesson { excess, flat, tilted, .. } = *lesson;
        let broad = 100.0 * (p + m * m + excess * excess);
        let safety = Component {
            ln_weight: LN_SAFETY + ln_gaussian(e, broad),
            mean: p / broad * e,
            variance: p * (1.0 - p / broad),
        };
        // One for each hypothesis; the last one stays.
        let mut components = [safety; HYPOTHESES + 1];
        let hypotheses = self.hypotheses.iter().zip(&mut lesson.ln_evidence);
        for ((hypothesis, ln_evidence), component) in hypotheses.zip(&mut components) {
            let c = hypothesis.component(e, p, excess, m, (flat, tilted));
            ln_evidence.add(c.ln_weight + ln_weight);
            *component = Component { ln_weight: c.ln_weight + hypothesis.ln_weight, ..c };
        }
        moments(&components).0
    }

    pub(super) fn learn(&mut self, lesson: &Lesson) {
        self.n += 1;
        let m = self.mean_excess;
        let ln_evidence = lesson.ln_evidence.map(|sum| sum.ln());
        let best = ln_evidence.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if best == f64::NEG_INFINITY {
            return;
        }
        // Everything may be an outlier: below this level no hypothesis is blamed further.
        let outlier = LN_SAFETY - 0.5 * libm::log(100.0 * (m * m + lesson.excess * lesson.excess)) - 2.0;
        for (hypothesis, ln_evidence) in self.hypotheses.iter_mut().zip(&ln_evidence) {
            hypothesis.evidence =
                hypothesis.evidence * (1.0 - 1.0 / MEMORY) + ln_evidence.max(outlier).max(best - 6.0) - best;
        }
        let top = self.hypotheses.iter().map(|h| h.evidence).fold(f64::NEG_INFINITY, f64::max);
        for hypothesis in self.hypotheses.iter_mut() {
            hypothesis.evidence = (hypothesis.evidence - top).max(-FLOOR);
        }
        self.normalise();
    }

    fn normalise(&mut self) {
        let sum: f64 = self.hypotheses.iter().map(|h| libm::exp(h.evidence + h.prior)).sum();
        for hypothesis in self.hypotheses.iter_mut() {
            hypothesis.weight = libm::exp(hypothesis.evidence + hypothesis.prior) / sum;
            hypothesis.ln_weight = libm::log(hypothesis.weight.max(1e-300));
        }
    }
}

impl Hypothesis {
    /// The one of this number.
    fn new(number: usize) -> Self {
        let (rho, shape, prior) = if number < BOUNDED {
            let tilt = TILTS[number / BOUNDED_RHOS.len()];
            // Asymmetry must be earned: the prior does not fade.
            let prior = if tilt == 0.0 { 0.0 } else { -3.0 };
            (BOUNDED_RHOS[number % BOUNDED_RHOS.len()], Shape::Bounded { tilt }, prior)
        } else {
            let kappa = KAPPAS[(number - BOUNDED) / GAUSSIAN_RHOS.len()];
            (GAUSSIAN_RHOS[(number - BOUNDED) % GAUSSIAN_RHOS.len()], Shape::Gaussian { kappa }, 0.0)
        };
        Self { rho, shape, prior, evidence: 0.0, weight: 0.0, ln_weight: 0.0 }
    }

    /// What the hypothesis makes of innovation `e` (s) against phase variance `p` (s^2), excess delay
    /// `excess` and mean excess delay `m` (s). The weight holds the evidence alone. `norms`: those of a
    /// flat and of a tilted density within half the excess delay.
    fn component(&self, e: f64, p: f64, excess: f64, m: f64, norms: (f64, f64)) -> Component {
        let jitter = self.rho * m;
        match self.shape {
            Shape::Gaussian { kappa } => {
                let s = p + jitter * jitter + kappa * excess * excess / 12.0;
                let gain = p / s;
                Component { ln_weight: ln_gaussian(e, s), mean: gain * e, variance: p * (1.0 - gain) }
            }
            Shape::Bounded { tilt } => {
                let s = p + jitter * jitter;
                let sd = s.sqrt();
                let gain = p / s;
                let b = 0.5 * excess.max(1e-3 * sd);
                let theta = tilt / m;
                let (ln_mass, mean, variance) = cut_to_interval(e + theta * s, sd, b);
                let ln_norm = match norms {
                    // The interval is a slit in the Gaussian, and was made wider.
                    _ if b > 0.5 * excess => ln_norm(theta, b),
                    (flat, _) if tilt == 0.0 => flat,
                    (_, tilted) => tilted,
                };
                Component {
                    ln_weight: ln_mass + theta * e + 0.5 * theta * theta * s - ln_norm,
                    mean: gain * (e - mean),
                    variance: p * (1.0 - gain) + gain * gain * variance,
                }
            }
        }
    }
}

/// ln of the integral of exp(theta u) over [-b, b], 2 sinh(theta b) / theta.
fn ln_norm(theta: f64, b: f64) -> f64 {
    let c = (theta * b).abs();
    if c < 1e-4 { libm::log(2.0 * b) } else { c + libm::log1p(-libm::exp(-2.0 * c)) - libm::log(theta.abs()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_at_the_minimum_delay_is_trusted_more() {
        let noise = NetworkNoise::new(40e-6);
        let (p, e) = (1e-8, 50e-6);
        let at = |excess: f64| noise.posterior(e, p, 1.0, &mut noise.lesson(excess));
        let (good, bad) = (at(1e-6), at(400e-6));
        assert!(good.variance < 0.2 * bad.variance, "{good:?} {bad:?}");
        assert!((good.mean - e).abs() < 10e-6, "{good:?}");
    }
}
