//! The stamps of a pulse: Gaussian, sometimes late, sometimes missing, sawtoothed.

use super::Rng;

/// What the stamps of a pulse are like. Late means stamped after the edge.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct PulseModel {
    /// Standard deviation of every stamp, s.
    pub jitter: f64,
    /// Reasons to be late: share of the stamps, mean of the exponential lateness, s.
    pub late: Vec<(f64, f64)>,
    /// Share of the edges that are not seen.
    pub missing: f64,
    /// Half-width of the receiver's sawtooth: its own clock's grain, s.
    pub sawtooth: f64,
    /// Edges a second; below one, an edge every so many seconds.
    pub rate: f64,
}

/// The receiver's clock drifts through its grain by this much a second: about a turn in 13 s, and not
/// a whole fraction of anything.
const SAWTOOTH_TURN: f64 = 0.077_4;

/// Draws one stamp after the other.
#[derive(Clone, Debug)]
pub struct PulseNoise {
    rng: Rng,
    model: PulseModel,
    turn: f64,
}

impl PulseNoise {
    /// A source of stamps.
    pub fn new(mut rng: Rng, model: PulseModel) -> Self {
        let turn = rng.uniform();
        Self { rng, model, turn }
    }

    /// How late the next stamp is, s; `None`: the edge is missing.
    pub fn draw(&mut self) -> Option<f64> {
        let Self { rng, model, turn } = self;
        let mut late = model.jitter * rng.normal();
        // One draw decides among the reasons, so that their shares do not overlap.
        let mut which = rng.uniform();
        for (share, mean) in &model.late {
            if which < *share {
                late += mean * rng.exponential();
                break;
            }
            which -= share;
        }
        if model.sawtooth > 0.0 {
            *turn = (*turn + SAWTOOTH_TURN).fract();
            late += model.sawtooth * (2.0 * *turn - 1.0);
        }
        let is_missing = model.missing > 0.0 && rng.uniform() < model.missing;
        (!is_missing).then_some(late)
    }

    /// When the edges of the second `k` are due, s after its beginning.
    pub fn edges_in(&self, k: i64) -> impl Iterator<Item = f64> + use<> {
        let rate = self.model.rate;
        let count = if rate >= 1.0 {
            rate.round() as i64
        } else {
            i64::from(k.rem_euclid((1.0 / rate.max(1e-6)).round() as i64) == 0)
        };
        (0..count).map(move |i| i as f64 / rate.max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_and_missing_come_as_often_as_they_say() {
        let model = PulseModel {
            jitter: 1e-6,
            late: vec![(0.05, 20e-6), (0.1, 200e-6)],
            missing: 0.2,
            rate: 1.0,
            ..PulseModel::default()
        };
        let mut noise = PulseNoise::new(Rng::new(1), model);
        let drawn: Vec<Option<f64>> = (0..100_000).map(|_| noise.draw()).collect();
        let seen: Vec<f64> = drawn.iter().flatten().copied().collect();
        let share = |n: usize, of: usize| n as f64 / of as f64;
        assert!((share(seen.len(), drawn.len()) - 0.8).abs() < 0.01);
        // Beyond 100 us: e^-5 of the first kind, e^-0.5 of the second.
        let far = seen.iter().filter(|late| **late > 100e-6).count();
        let expected = 0.05 * (-5.0f64).exp() + 0.1 * (-0.5f64).exp();
        assert!((share(far, seen.len()) / expected - 1.0).abs() < 0.1);
    }

    #[test]
    fn rates_other_than_one() {
        let noise = |rate| PulseNoise::new(Rng::new(1), PulseModel { rate, ..PulseModel::default() });
        assert_eq!(noise(5.0).edges_in(7).collect::<Vec<_>>(), [0.0, 0.2, 0.4, 0.6, 0.8]);
        assert_eq!(noise(0.5).edges_in(7).count() + noise(0.5).edges_in(8).count(), 1);
    }

    #[test]
    fn the_sawtooth_stays_within_its_grain() {
        let model = PulseModel { sawtooth: 10e-9, rate: 1.0, ..PulseModel::default() };
        let mut noise = PulseNoise::new(Rng::new(1), model);
        let drawn: Vec<f64> = (0..1000).filter_map(|_| noise.draw()).collect();
        assert!(drawn.iter().all(|late| late.abs() <= 10e-9));
        assert!(drawn.iter().copied().fold(0.0, f64::max) > 9e-9);
    }
}
