//! What a server's time is off by along our way to it: ways there and back of unequal length, and its own
//! error. No exchange with it can tell. While something better feeds the clock it is learned, so that the
//! clock does not move when the server has to take over:
//!
//! ```text
//! b ~ N(0, (d / 20)^2) at first, for a round trip d
//! offset = b + noise                 noise: N(0, r), r = (excess delay / 2)^2 + what our clock may be off
//! g = max(V / (V + r), 1/256);  b <- b + g (offset - b);  V <- (1 - g) V
//! ```
//!
//! The floor of the gain is the memory: routes change.

/// One standard deviation of what is believed before, in round trips.
const PRIOR: f64 = 0.05;
/// Exchanges remembered.
const MEMORY: f64 = 256.0;
/// Fewer have taught nothing.
const FEWEST: u32 = 8;

/// The bias of one server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bias {
    mean: f64,
    variance: f64,
    exchanges: u32,
}

impl Bias {
    /// Nothing is known of a server this far away, round trip in s.
    pub fn unknown(round_trip: f64) -> Self {
        let sd = PRIOR * round_trip;
        Self { mean: 0.0, variance: sd * sd, exchanges: 0 }
    }

    /// Learns from one exchange: `offset` = our clock, which knows better, - the server, s; `noise` is the
    /// variance of that, s^2.
    pub fn learn(&mut self, offset: f64, noise: f64) {
        let gain = (self.variance / (self.variance + noise)).max(1.0 / MEMORY);
        self.mean += gain * (offset - self.mean);
        self.variance *= 1.0 - gain;
        self.exchanges = self.exchanges.saturating_add(1);
    }

    /// The bias and its standard deviation, once something has been learned, s. Positive: the server is
    /// behind.
    pub fn learned(&self) -> Option<(f64, f64)> {
        (self.exchanges >= FEWEST).then(|| (self.mean, self.variance.sqrt()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Rng;

    #[test]
    fn a_constant_bias_is_learned_and_a_changed_one_again() {
        let mut rng = Rng::new(1);
        let mut bias = Bias::unknown(1e-3);
        assert_eq!(bias.learned(), None);
        for (truth, exchanges) in [(40e-6, 400), (-30e-6, 1200)] {
            for _ in 0..exchanges {
                bias.learn(truth + 10e-6 * rng.normal(), 1e-10);
            }
            let (mean, sd) = bias.learned().unwrap();
            assert!((mean - truth).abs() < 2e-6, "{mean:e} of {truth:e}");
            assert!(sd < 1e-6, "{sd:e}");
        }
    }
}
