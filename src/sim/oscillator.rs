//! A crystal: what its frequency is made of, and the counter that runs on it.
//!
//! ```text
//! y(t) = offset + random walk + flicker + coefficient T(t) + steps        white FM is added to the phase
//! ```

use refclocks::time::{Raw, Span, Tai, Timestamp};

use super::Rng;

/// How finely frequency is drawn, s.
const STEP: f64 = 0.25;
/// Time constants of the relaxations that make up flicker noise, s: powers of four from a second to
/// some weeks.
const RELAXATIONS: i32 = 11;
const RELAXATION_RATIO: f64 = 4.0;

/// What a crystal is like.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Crystal {
    /// Frequency error at the start, s/s; positive = it gains.
    pub frequency: f64,
    /// Random-walk FM, (s/s)/sqrt(s).
    pub wander: f64,
    /// Flicker FM: the Allan deviation of its floor, s/s.
    pub flicker: f64,
    /// White FM: Allan deviation at 1 s, s/s; so many s per sqrt(s) of phase.
    pub white: f64,
    /// What the temperature does to it.
    pub temperature: Option<Temperature>,
}

/// A temperature that goes up and down, and what that does to the crystal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// Amplitude of its sine, degrees.
    pub swing: f64,
    /// Period of its sine, s.
    pub period: f64,
    /// Standard deviation of what it does besides (a first-order process of 30 min), degrees.
    pub wobble: f64,
    /// Frequency error per degree, (s/s)/degree.
    pub coefficient: f64,
    /// The thermometer beside the crystal, if there is one.
    pub sensor: Option<Sensor>,
}

/// A thermometer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sensor {
    /// It reads whole multiples of this, degrees.
    pub grain: f64,
    /// Standard deviation of its readings before that, degrees.
    pub noise: f64,
}

impl Sensor {
    /// What it reads at a temperature.
    pub fn read(&self, temperature: f64, rng: &mut Rng) -> f64 {
        let noisy = temperature + self.noise * rng.normal();
        if self.grain > 0.0 { (noisy / self.grain).round() * self.grain } else { noisy }
    }
}

/// Time constant of the temperature's wobble, s.
const WOBBLE_TIME: f64 = 1800.0;

/// A free-running counter that gains or loses against true time.
#[derive(Clone, Debug)]
pub struct Oscillator {
    rng: Rng,
    crystal: Crystal,
    /// Sum of the random walk and of steps, s/s.
    walk: f64,
    /// Relaxation processes whose sum is flicker noise, s/s.
    relaxations: Vec<f64>,
    /// Phase of the temperature's sine at the beginning, rad, and what it wobbles by now, degrees.
    phase: f64,
    wobble: f64,
    /// Steps drawn so far.
    steps: u64,
    /// Frequency error until the next draw, s/s, the white part included.
    frequency: f64,
    /// True time and counter where the present frequency began.
    at: Timestamp<Tai>,
    raw: Timestamp<Raw>,
}

impl Oscillator {
    /// A counter that reads `raw` at the true time `at`.
    pub fn new(mut rng: Rng, at: Timestamp<Tai>, raw: Timestamp<Raw>, crystal: Crystal) -> Self {
        let has_flicker = crystal.flicker > 0.0;
        let sd = flicker_part(crystal.flicker);
        let relaxations = (0..if has_flicker { RELAXATIONS } else { 0 }).map(|_| sd * rng.normal()).collect();
        let (mut phase, mut wobble) = (0.0, 0.0);
        if let Some(temperature) = crystal.temperature {
            phase = std::f64::consts::TAU * rng.uniform();
            wobble = temperature.wobble * rng.normal();
        }
        let mut oscillator =
            Self { rng, crystal, walk: 0.0, relaxations, phase, wobble, steps: 0, frequency: 0.0, at, raw };
        oscillator.frequency = oscillator.next_frequency();
        oscillator
    }

    /// The counter at a true time, which must not go back.
    pub fn raw_at(&mut self, at: Timestamp<Tai>) -> Timestamp<Raw> {
        while (at - self.at).seconds() > STEP {
            self.raw = self.extrapolate(STEP);
            self.at += Span::from_seconds(STEP);
            self.steps += 1;
            if self.crystal.wander > 0.0 {
                self.walk += self.crystal.wander * STEP.sqrt() * self.rng.normal();
            }
            self.frequency = self.next_frequency();
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

    /// The temperature now, degrees off its mean.
    pub fn temperature(&self) -> f64 {
        self.crystal.temperature.map_or(0.0, |t| {
            let turn = std::f64::consts::TAU * self.steps as f64 * STEP / t.period;
            t.swing * libm::sin(turn + self.phase) + self.wobble
        })
    }

    /// The frequency jumps by so much, s/s.
    pub fn step(&mut self, by: f64) {
        self.walk += by;
        self.frequency += by;
    }

    /// The counter jumps ahead by so much, s.
    pub fn jump(&mut self, by: f64) {
        self.raw += Span::from_seconds(by);
    }

    /// From now on its random walk is another, (s/s)/sqrt(s).
    pub fn set_wander(&mut self, wander: f64) {
        self.crystal.wander = wander;
    }

    /// Draws what varies and adds it up.
    fn next_frequency(&mut self) -> f64 {
        let mut frequency = self.crystal.frequency + self.walk;
        let sd = flicker_part(self.crystal.flicker);
        let mut time = 1.0;
        for relaxation in &mut self.relaxations {
            let keep = libm::exp(-STEP / time);
            *relaxation = keep * *relaxation + sd * (1.0 - keep * keep).sqrt() * self.rng.normal();
            frequency += *relaxation;
            time *= RELAXATION_RATIO;
        }
        if let Some(t) = self.crystal.temperature {
            if t.wobble > 0.0 {
                let keep = libm::exp(-STEP / WOBBLE_TIME);
                self.wobble = keep * self.wobble + t.wobble * (1.0 - keep * keep).sqrt() * self.rng.normal();
            }
            frequency += t.coefficient * self.temperature();
        }
        if self.crystal.white > 0.0 {
            frequency += self.crystal.white / STEP.sqrt() * self.rng.normal();
        }
        frequency
    }

    fn extrapolate(&self, seconds: f64) -> Timestamp<Raw> {
        self.raw + Span::from_seconds(seconds) + Span::from_seconds(seconds * self.frequency)
    }
}

/// Standard deviation of each relaxation so that their sum has this flicker floor, s/s. With time
/// constants a ratio rho apart the sum's spectrum is sigma^2 / (ln rho f), and a spectrum h/f has the
/// Allan variance 2 ln 2 h (IEEE 1139).
fn flicker_part(floor: f64) -> f64 {
    floor * (libm::log(RELAXATION_RATIO) / (2.0 * std::f64::consts::LN_2)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oscillator(seed: u64, crystal: Crystal) -> (Oscillator, Timestamp<Tai>) {
        let at = Timestamp::from_parts(1_000_000, 0);
        (Oscillator::new(Rng::new(seed), at, Timestamp::from_parts(7, 0), crystal), at)
    }

    /// Allan deviation at `tau` seconds of so many samples.
    fn allan(crystal: Crystal, tau: i64, samples: i64) -> f64 {
        let (mut oscillator, start) = oscillator(5, crystal);
        let mut read = |k: i64| {
            let at = start + Span::from_whole_seconds(k * tau);
            ((oscillator.raw_at(at) - Timestamp::from_parts(7, 0)) - (at - start)).seconds()
        };
        let phases: Vec<f64> = (0..samples).map(&mut read).collect();
        let squares: Vec<f64> = phases.windows(3).map(|w| (w[2] - 2.0 * w[1] + w[0]).powi(2)).collect();
        (squares.iter().sum::<f64>() / squares.len() as f64 / 2.0).sqrt() / tau as f64
    }

    #[test]
    fn a_steady_crystal_gains_its_frequency() {
        let (mut crystal, at) = oscillator(1, Crystal { frequency: 12e-6, ..Crystal::default() });
        let raw = crystal.raw_at(at);
        let later = crystal.raw_at(at + Span::from_whole_seconds(1000));
        assert!(((later - raw).seconds() - 1000.012).abs() < 1e-9);
        assert!(((crystal.tai_of(later) - at).seconds() - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn noises_have_the_allan_deviation_they_say() {
        let flicker = Crystal { flicker: 1e-9, ..Crystal::default() };
        for tau in [4, 64, 1024] {
            let found = allan(flicker, tau, 3000);
            assert!((found / 1e-9 - 1.0).abs() < 0.15, "flicker at {tau} s: {found:e}");
        }
        let white = allan(Crystal { white: 1e-9, ..Crystal::default() }, 16, 3000);
        assert!((white / 0.25e-9 - 1.0).abs() < 0.1, "white: {white:e}");
        let walk = allan(Crystal { wander: 1e-9, ..Crystal::default() }, 48, 3000);
        assert!((walk / 4e-9 - 1.0).abs() < 0.1, "random walk: {walk:e}");
    }

    #[test]
    fn temperature_moves_it_and_a_step_stays() {
        let temperature = Temperature { swing: 2.0, period: 7200.0, wobble: 0.0, coefficient: 5e-8, sensor: None };
        let (mut crystal, at) = oscillator(2, Crystal { temperature: Some(temperature), ..Crystal::default() });
        let mut most: f64 = 0.0;
        for k in 0..7200 {
            crystal.raw_at(at + Span::from_whole_seconds(k));
            most = most.max(crystal.frequency());
        }
        assert!((most / 1e-7 - 1.0).abs() < 1e-3, "{most:e}");
        let before = crystal.frequency();
        crystal.step(1e-6);
        crystal.raw_at(at + Span::from_whole_seconds(14_400));
        assert!((crystal.frequency() - before - 1e-6).abs() < 2e-9);
    }
}
