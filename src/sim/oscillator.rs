//! A crystal: frequency offset and random-walk wander.

use refclocks::time::{Raw, Span, Tai, Timestamp};

use super::Rng;

/// How finely the wander is drawn, s.
const STEP: f64 = 0.25;

/// A free-running counter that gains or loses against true time.
#[derive(Clone, Debug)]
pub struct Oscillator {
    rng: Rng,
    /// Random walk of the frequency, (s/s)/sqrt(s).
    wander: f64,
    /// Frequency error until the next draw, s/s.
    frequency: f64,
    /// True time and counter where the present frequency began.
    at: Timestamp<Tai>,
    raw: Timestamp<Raw>,
}

impl Oscillator {
    /// A counter that reads `raw` at the true time `at`. `frequency` in s/s, `wander` in
    /// (s/s)/sqrt(s).
    pub fn new(rng: Rng, at: Timestamp<Tai>, raw: Timestamp<Raw>, frequency: f64, wander: f64) -> Self {
        Self { rng, wander, frequency, at, raw }
    }

    /// The counter at a true time, which must not go back.
    pub fn raw_at(&mut self, at: Timestamp<Tai>) -> Timestamp<Raw> {
        while (at - self.at).seconds() > STEP {
            self.raw = self.extrapolate(STEP);
            self.at += Span::from_seconds(STEP);
            self.frequency += self.wander * STEP.sqrt() * self.rng.normal();
        }
        self.extrapolate((at - self.at).seconds())
    }

    /// The true time at which the counter will read `raw`, at the present frequency.
    pub fn tai_of(&self, raw: Timestamp<Raw>) -> Timestamp<Tai> {
        let elapsed = raw - self.raw;
        let gained = elapsed.seconds() * self.frequency / (1.0 + self.frequency);
        self.at + elapsed - Span::from_seconds(gained)
    }

    /// The frequency error now, s/s.
    pub fn frequency(&self) -> f64 {
        self.frequency
    }

    fn extrapolate(&self, seconds: f64) -> Timestamp<Raw> {
        self.raw + Span::from_seconds(seconds) + Span::from_seconds(seconds * self.frequency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_crystal_gains_its_frequency() {
        let (at, raw) = (Timestamp::from_parts(1_000_000, 0), Timestamp::from_parts(7, 0));
        let mut crystal = Oscillator::new(Rng::new(1), at, raw, 12e-6, 0.0);
        let later = crystal.raw_at(at + Span::from_whole_seconds(1000));
        assert!(((later - raw).seconds() - 1000.012).abs() < 1e-9);
        assert!((crystal.tai_of(later) - at).seconds() - 1000.0 < 1e-9);
    }
}
