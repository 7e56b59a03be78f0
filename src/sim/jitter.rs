//! Random lengths of time: what a queue, a scheduler or a serial line adds.

use super::Rng;

/// A distribution of positive lengths of time, by its mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter {
    /// Mean, s.
    pub mean: f64,
    /// The distribution.
    pub shape: Shape,
}

/// The shape of a distribution whose mean is given apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// A queue with random arrivals.
    Exponential,
    /// Sum of `k` exponentials, also for a k that is not whole: several queues in a row.
    Gamma(f64),
    /// Lomax's, (1 + x)^-alpha: now and then enormous. alpha above 1.
    Pareto(f64),
    /// exp of a normal with this standard deviation.
    Lognormal(f64),
}

impl Jitter {
    /// No length at all.
    pub const NONE: Self = Self { mean: 0.0, shape: Shape::Exponential };

    /// Draws a length, s.
    pub fn draw(&self, rng: &mut Rng) -> f64 {
        if self.mean <= 0.0 {
            return 0.0;
        }
        self.mean
            * match self.shape {
                Shape::Exponential => rng.exponential(),
                Shape::Gamma(k) => rng.gamma(k) / k,
                Shape::Pareto(alpha) => (libm::pow(rng.uniform(), -1.0 / alpha) - 1.0) * (alpha - 1.0),
                Shape::Lognormal(sd) => libm::exp(sd * rng.normal() - 0.5 * sd * sd),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_has_the_mean_it_says() {
        let mut rng = Rng::new(3);
        for shape in
            [Shape::Exponential, Shape::Gamma(3.0), Shape::Gamma(0.5), Shape::Pareto(4.0), Shape::Lognormal(1.0)]
        {
            let jitter = Jitter { mean: 20e-6, shape };
            let n = 200_000;
            let drawn: Vec<f64> = (0..n).map(|_| jitter.draw(&mut rng)).collect();
            let mean = drawn.iter().sum::<f64>() / f64::from(n);
            assert!((mean / 20e-6 - 1.0).abs() < 0.03, "{shape:?}: {mean:e}");
            assert!(drawn.iter().all(|d| *d >= 0.0), "{shape:?}");
        }
    }
}
