//! Noise models: what one measurement says about the phase, learned online, one per source.
//!
//! A model is a mixture. Each component explains an innovation `e = z - x` (measured minus predicted
//! phase) in its own way and gives a Gaussian posterior of the phase; the mixture's first two
//! moments are handed to the filter (assumed-density filtering; Minka 2001).

mod late;
mod network;
mod route;

pub use late::LateNoise;
pub use network::NetworkNoise;
pub use route::DelayRecord;

/// One way to explain an innovation.
#[derive(Clone, Copy, Debug)]
struct Component {
    /// ln(prior weight) + ln evidence.
    ln_weight: f64,
    /// Posterior mean of the phase, relative to the prediction, s.
    mean: f64,
    /// Posterior variance of the phase, s^2.
    variance: f64,
}

/// What a measurement says to one filter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Posterior {
    /// ln of the mixture's evidence.
    pub ln_evidence: f64,
    /// Posterior mean of the phase, relative to the prediction, s.
    pub mean: f64,
    /// Posterior variance of the phase, s^2.
    pub variance: f64,
}

/// Folds components to their first two moments. Returns each one's share as well.
fn moments<const N: usize>(components: &[Component; N]) -> (Posterior, [f64; N]) {
    let most = components.iter().map(|c| c.ln_weight).fold(f64::NEG_INFINITY, f64::max);
    let mut shares = components.map(|c| libm::exp(c.ln_weight - most));
    let sum: f64 = shares.iter().sum();
    let (mut mean, mut second) = (0.0, 0.0);
    for (share, c) in shares.iter_mut().zip(components) {
        *share /= sum;
        mean += *share * c.mean;
        second += *share * (c.variance + c.mean * c.mean);
    }
    let posterior = Posterior { ln_evidence: most + libm::log(sum), mean, variance: (second - mean * mean).max(0.0) };
    (posterior, shares)
}

/// A model of one source's noise.
#[derive(Clone, Debug)]
pub enum Noise {
    /// Reference clocks: Gaussian, sometimes late.
    Late(LateNoise),
    /// Network servers: bounded by the excess delay.
    Network(NetworkNoise),
}

/// What is worth remembering of a source's noise from one life to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnownNoise {
    /// Reference clocks: one standard deviation of prompt stamps. Servers: mean excess delay. s.
    pub jitter: f64,
    /// Probability that a stamp is late, and by how much on the average, s.
    pub late: (f64, f64),
    /// Servers: the least round-trip delay, s.
    pub least_delay: Option<f64>,
}

/// What one measurement taught, collected over the members of the bank.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one a measurement, on the stack")]
pub enum Lesson {
    /// For [`LateNoise`].
    Late(late::Lesson),
    /// For [`NetworkNoise`].
    Network(network::Lesson),
}

impl Noise {
    /// An empty lesson to collect into, for a measurement with this excess delay, s.
    pub fn lesson(&self, excess: f64) -> Lesson {
        match self {
            Self::Late(noise) => Lesson::Late(noise.lesson()),
            Self::Network(noise) => Lesson::Network(noise.lesson(excess)),
        }
    }

    /// The posterior of a filter that predicted the phase with variance `p` (s^2) and was off by
    /// `innovation` (s). `weight` is the filter's share of the bank, for the lesson.
    pub fn posterior(&self, innovation: f64, p: f64, weight: f64, lesson: &mut Lesson) -> Posterior {
        match (self, lesson) {
            (Self::Late(noise), Lesson::Late(lesson)) => noise.posterior(innovation, p, weight, lesson),
            (Self::Network(noise), Lesson::Network(lesson)) => noise.posterior(innovation, p, weight, lesson),
            // A lesson is always made by the model that it is for.
            _ => Posterior { ln_evidence: 0.0, mean: 0.0, variance: p },
        }
    }

    /// Learns from one measurement.
    pub fn learn(&mut self, lesson: &Lesson) {
        match (self, lesson) {
            (Self::Late(noise), Lesson::Late(lesson)) => noise.learn(lesson),
            (Self::Network(noise), Lesson::Network(lesson)) => noise.learn(lesson),
            _ => {}
        }
    }

    /// What is known of it.
    pub fn known(&self) -> KnownNoise {
        let late = match self {
            Self::Late(noise) => (noise.p, noise.mu),
            Self::Network(_) => (0.0, 0.0),
        };
        KnownNoise { jitter: self.jitter(), late, least_delay: None }
    }

    /// One standard deviation of a good measurement, s.
    pub fn jitter(&self) -> f64 {
        match self {
            Self::Late(noise) => noise.r.sqrt(),
            Self::Network(noise) => noise.scale(),
        }
    }
}
