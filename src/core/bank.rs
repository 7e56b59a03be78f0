//! The oscillator: a bank of Kalman filters that differ in their process noise (Magill 1965).
//!
//! State (x, y, d): phase of the free-running counter against true time (s, positive = ahead), its
//! frequency error (s/s) and the drift of that (1/s). Between events
//!
//! ```text
//! F = [[1, dt, dt^2/2], [0, 1, dt], [0, 0, 1]]
//! Q = q2 [[dt^3/3, dt^2/2], [dt^2/2, dt]]                        random-walk frequency, (s/s)^2/s
//!   + q3 [[dt^5/20, dt^4/8, dt^3/6], [., dt^3/3, dt^2/2], [., ., dt]]   smooth drift (temperature)
//! ```
//!
//! Each member is weighted by how well it predicts. A member that has become hopeless restarts from
//! the combined state, so that after a change of the oscillator every hypothesis is alive at once.

use super::noise::Noise;

/// Memory of the weights: so many measurements, or so many of the filter's own time constants, whichever
/// lasts longer. What comes within one time constant tells little of the wander.
const MEMORY: f64 = 1000.0;
const MEMORY_TIME_CONSTANTS: f64 = 10.0;
/// A member whose evidence falls below exp(-FLOOR) of the best restarts.
const FLOOR: f64 = 12.0;

/// A symmetric 3x3 covariance.
type Covariance = [[f64; 3]; 3];

#[derive(Clone, Copy, Debug)]
struct Member {
    state: [f64; 3],
    p: Covariance,
    q2: f64,
    q3: f64,
    ln_prior: f64,
    evidence: f64,
    weight: f64,
}

/// The combined estimate.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Estimate {
    /// Phase, s.
    pub phase: f64,
    /// Frequency error, s/s.
    pub frequency: f64,
    /// Drift of the frequency, 1/s.
    pub drift: f64,
    /// Variance of the phase, s^2.
    pub phase_variance: f64,
    /// Variance of the frequency, (s/s)^2.
    pub frequency_variance: f64,
}

impl Estimate {
    /// The filter's own time constant, s: how long it averages.
    pub fn time_constant(&self) -> f64 {
        (self.phase_variance / self.frequency_variance.max(1e-30)).sqrt()
    }
}

/// The bank.
#[derive(Clone, Debug)]
pub struct Bank {
    members: Vec<Member>,
    estimate: Estimate,
    measurements: u64,
    /// Since the last measurement, s.
    since: f64,
}

/// What is believed of the oscillator before the first measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prior {
    /// Phase, s, and its standard deviation.
    pub phase: (f64, f64),
    /// Frequency error, s/s, and its standard deviation.
    pub frequency: (f64, f64),
    /// log10 of the wander variance q2, and its standard deviation.
    pub wander: (f64, f64),
}

impl Default for Prior {
    /// Any crystal: within 200 ppm, wandering 1 ppb/sqrt(s) give or take a factor of 5.
    fn default() -> Self {
        Self { phase: (0.0, 100.0), frequency: (0.0, 200e-6), wander: (-18.0, 1.5) }
    }
}

impl Bank {
    /// A bank that has seen nothing.
    pub fn new(prior: &Prior) -> Self {
        let mut members = Vec::with_capacity(17);
        let wander = |lg_q2: f64| {
            let z = (lg_q2 - prior.wander.0) / prior.wander.1;
            -0.5 * z * z
        };
        for lg_q2 in -22..=-14 {
            members.push(Member::new(prior, f64::from(lg_q2), None, wander(f64::from(lg_q2))));
        }
        // From rooms that take a day to warm up to those that take a quarter of an hour.
        for lg_q3 in [-26.0f64, -24.0, -22.0, -21.0] {
            for lg_q2 in [-20.0, -18.0] {
                let z = (lg_q3 + 25.0) / 2.0;
                members.push(Member::new(prior, lg_q2, Some(lg_q3), wander(lg_q2) - 0.5 * z * z - 2.0));
            }
        }
        let mut bank = Self { members, estimate: Estimate::default(), measurements: 0, since: 0.0 };
        bank.combine();
        bank
    }

    /// A bank that knows of the wander what this one does, but has seen nothing of phase and frequency.
    pub fn begun_again(&self, prior: &Prior) -> Self {
        let mut bank = Self::new(prior);
        for (member, known) in bank.members.iter_mut().zip(&self.members) {
            // What made it begin again may be that the wander is another one now.
            member.evidence = known.evidence.max(-0.5 * FLOOR);
        }
        bank.combine();
        bank
    }

    /// The combined estimate at the time of the last prediction or measurement.
    pub fn estimate(&self) -> &Estimate {
        &self.estimate
    }

    /// Measurements taken since the start.
    pub fn measurements(&self) -> u64 {
        self.measurements
    }

    /// log10 of the wander variance q2, weighted mean: what the drift file remembers.
    pub fn lg_wander(&self) -> f64 {
        self.members.iter().map(|m| m.weight * libm::log10(m.q2)).sum()
    }

    /// Lets `dt` seconds pass.
    pub fn predict(&mut self, dt: f64) {
        if dt > 0.0 {
            self.since += dt;
            for member in &mut self.members {
                member.predict(dt);
            }
            self.combine();
        }
    }

    /// One measured phase `z` (s), with its excess delay (s) where the noise model uses one. Both
    /// the bank and the noise model learn.
    pub fn measure(&mut self, noise: &mut Noise, z: f64, excess: f64) {
        let mut lesson = noise.lesson(excess);
        let memory = self.memory();
        for member in &mut self.members {
            let p = member.p[0][0];
            let posterior = noise.posterior(z - member.state[0], p, member.weight, &mut lesson);
            member.evidence = member.evidence * (1.0 - 1.0 / memory) + posterior.ln_evidence;
            member.correct(posterior.mean, posterior.variance.max(1e-8 * p));
        }
        noise.learn(&lesson);
        let best = self.members.iter().map(|m| m.evidence).fold(f64::NEG_INFINITY, f64::max);
        for member in &mut self.members {
            member.evidence -= best;
        }
        self.combine();
        self.restart_hopeless();
        self.measurements += 1;
        self.since = 0.0;
    }

    /// How many measurements like the one to come the weights remember.
    fn memory(&self) -> f64 {
        (MEMORY_TIME_CONSTANTS * self.estimate.time_constant() / self.since.max(1e-3)).clamp(MEMORY, 1e6)
    }

    /// Adds variance to the phase (s^2) and frequency ((s/s)^2): something happened that the
    /// process noise does not describe.
    pub fn doubt(&mut self, phase: f64, frequency: f64) {
        for member in &mut self.members {
            member.p[0][0] += phase;
            member.p[1][1] += frequency;
        }
        self.combine();
    }

    /// Nothing is measured for a while: the frequency is held as it is. A drift carried on over an hour
    /// does more harm than good, because rooms get warmer and colder again.
    pub fn hold_frequency(&mut self) {
        for member in &mut self.members {
            member.state[2] = 0.0;
            for i in 0..3 {
                member.p[2][i] = 0.0;
                member.p[i][2] = 0.0;
            }
        }
        self.combine();
    }

    /// Something known from elsewhere has changed the frequency by so much, s/s.
    pub fn shift_frequency(&mut self, by: f64) {
        for member in &mut self.members {
            member.state[1] += by;
        }
        self.combine();
    }

    /// Starts every member from a line through the data: phase and frequency with their variances.
    pub fn start_from(&mut self, phase: f64, phase_variance: f64, frequency: f64, frequency_variance: f64) {
        for member in &mut self.members {
            member.state[0] = phase;
            member.state[1] = frequency;
            member.p[0][0] = phase_variance;
            member.p[1][1] = frequency_variance;
        }
        self.combine();
    }

    /// Variance of the phase after `t` more seconds without measurement, as a polynomial in t, s^2.
    /// Drift states are not extrapolated: holdover runs on phase and frequency.
    pub fn variance_ahead(&self) -> [f64; 4] {
        let mut v = [0.0; 4];
        let (x, y) = (self.estimate.phase, self.estimate.frequency);
        for Member { weight: w, state, p, q2, .. } in &self.members {
            let (dx, dy) = (state[0] - x, state[1] - y);
            v[0] += w * (p[0][0] + dx * dx);
            v[1] += w * 2.0 * (p[0][1] + dx * dy);
            v[2] += w * (p[1][1] + dy * dy);
            v[3] += w * q2 / 3.0;
        }
        v
    }

    fn combine(&mut self) {
        let top = self.members.iter().map(|m| m.evidence + m.ln_prior).fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        for member in &mut self.members {
            member.weight = libm::exp(member.evidence + member.ln_prior - top);
            sum += member.weight;
        }
        let mut e = Estimate::default();
        for Member { weight, state, .. } in &mut self.members {
            *weight /= sum;
            e.phase += *weight * state[0];
            e.frequency += *weight * state[1];
            e.drift += *weight * state[2];
        }
        for Member { weight, state, p, .. } in &self.members {
            let (dx, dy) = (state[0] - e.phase, state[1] - e.frequency);
            e.phase_variance += weight * (p[0][0] + dx * dx);
            e.frequency_variance += weight * (p[1][1] + dy * dy);
        }
        self.estimate = e;
    }

    fn restart_hopeless(&mut self) {
        let Some(best) = self.members.iter().copied().reduce(|a, b| if b.weight > a.weight { b } else { a }) else {
            return;
        };
        let e = self.estimate;
        for member in &mut self.members {
            if member.evidence >= -FLOOR {
                continue;
            }
            let smooth = member.q3 > 0.0;
            member.evidence = -FLOOR;
            member.state = [e.phase, e.frequency, if smooth { e.drift } else { 0.0 }];
            member.p = best.p;
            member.p[0][0] = member.p[0][0].max(e.phase_variance);
            member.p[1][1] = member.p[1][1].max(e.frequency_variance);
            if !smooth {
                for i in 0..3 {
                    member.p[2][i] = 0.0;
                    member.p[i][2] = 0.0;
                }
            } else if best.q3 == 0.0 {
                // The best knows nothing of drift: a tenth of the frequency's doubt over 100 s.
                member.p[2][2] = e.frequency_variance / 1e6;
            }
        }
    }
}

impl Member {
    fn new(prior: &Prior, lg_q2: f64, lg_q3: Option<f64>, ln_prior: f64) -> Self {
        let mut p = [[0.0; 3]; 3];
        p[0][0] = prior.phase.1 * prior.phase.1;
        p[1][1] = prior.frequency.1 * prior.frequency.1;
        p[2][2] = if lg_q3.is_some() { 1e-18 } else { 0.0 };
        Self {
            state: [prior.phase.0, prior.frequency.0, 0.0],
            p,
            q2: libm::exp10(lg_q2),
            q3: lg_q3.map_or(0.0, libm::exp10),
            ln_prior,
            evidence: 0.0,
            weight: 0.0,
        }
    }

    fn predict(&mut self, dt: f64) {
        let half = 0.5 * dt * dt;
        let [x, y, d] = self.state;
        self.state = [x + y * dt + d * half, y + d * dt, d];

        // P <- F P F' + Q, written out for the symmetric half.
        let [[p00, p01, p02], [_, p11, p12], [_, _, p22]] = self.p;
        let a0 = p00 + dt * p01 + half * p02;
        let a1 = p01 + dt * p11 + half * p12;
        let a2 = p02 + dt * p12 + half * p22;
        let b1 = p11 + dt * p12;
        let b2 = p12 + dt * p22;
        let (dt2, dt3) = (dt * dt, dt * dt * dt);
        let (q2, q3) = (self.q2, self.q3);
        let n00 = a0 + dt * a1 + half * a2 + q2 * dt3 / 3.0 + q3 * dt3 * dt2 / 20.0;
        let n01 = a1 + dt * a2 + q2 * dt2 / 2.0 + q3 * dt2 * dt2 / 8.0;
        let n02 = a2 + q3 * dt3 / 6.0;
        let n11 = b1 + dt * b2 + q2 * dt + q3 * dt3 / 3.0;
        let n12 = b2 + q3 * dt2 / 2.0;
        let n22 = p22 + q3 * dt;
        self.p = [[n00, n01, n02], [n01, n11, n12], [n02, n12, n22]];
    }

    /// The phase turns out to be `mean` s off the prediction, with variance `variance` s^2; the rest
    /// of the state follows by regression on the phase.
    fn correct(&mut self, mean: f64, variance: f64) {
        let p = self.p[0][0];
        let gain = [1.0, self.p[1][0] / p, self.p[2][0] / p];
        for (state, g) in self.state.iter_mut().zip(gain) {
            *state += g * mean;
        }
        for i in 0..3 {
            for j in 0..=i {
                let v = self.p[i][j] - gain[i] * gain[j] * (p - variance);
                self.p[i][j] = v;
                self.p[j][i] = v;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::noise::LateNoise;

    #[test]
    fn a_noiseless_ramp_is_followed() {
        let mut bank = Bank::new(&Prior::default());
        let mut noise = Noise::Late(LateNoise::with_variance(1e-12));
        for k in 0..200 {
            bank.predict(1.0);
            bank.measure(&mut noise, 0.03 + 12e-6 * f64::from(k), 0.0);
        }
        let e = bank.estimate();
        assert!((e.phase - (0.03 + 12e-6 * 199.0)).abs() < 50e-9, "{e:?}");
        assert!((e.frequency - 12e-6).abs() < 5e-9, "{e:?}");
    }

    #[test]
    fn variance_ahead_agrees_with_prediction() {
        let mut bank = Bank::new(&Prior::default());
        let mut noise = Noise::Late(LateNoise::with_variance(1e-12));
        for k in 0..100 {
            bank.predict(1.0);
            bank.measure(&mut noise, 1e-6 * f64::from(k % 3), 0.0);
        }
        let [a, b, c, d] = bank.variance_ahead();
        let t = 50.0;
        let ahead = a + t * (b + t * (c + t * d));
        bank.predict(t);
        let predicted = bank.estimate().phase_variance;
        // The smooth members' drift is left out of the polynomial.
        assert!(ahead <= predicted * 1.0001 && ahead > 0.5 * predicted, "{ahead} {predicted}");
    }

    #[test]
    fn a_forgotten_drift_leaves_the_frequency_as_it_is() {
        let mut bank = Bank::new(&Prior::default());
        let mut noise = Noise::Late(LateNoise::with_variance(1e-14));
        // 1 ppb/s, as in a room that warms up.
        for k in 0..600 {
            bank.predict(1.0);
            bank.measure(&mut noise, 0.5e-9 * f64::from(k * k), 0.0);
        }
        let before = *bank.estimate();
        assert!((before.drift - 1e-9).abs() < 0.3e-9, "{before:?}");
        bank.hold_frequency();
        bank.predict(3600.0);
        let after = bank.estimate();
        assert_eq!(after.drift, 0.0);
        assert!((after.frequency - before.frequency).abs() < 1e-12, "{before:?} {after:?}");
    }
}
