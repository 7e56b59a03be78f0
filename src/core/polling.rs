//! How often a server is worth asking.
//!
//! Each answer takes away some of the doubt about our clock's phase. An answer that takes away little
//! could have come later: the next ones say the same. One that takes away much came late: the clock had
//! gone astray since the last. What an answer takes away is counted in nats,
//!
//! ```text
//! taught = ln(Vx before / Vx after) / 2
//! ```
//!
//! so that noise, delay, wander, and all other servers and reference clocks are in it already. In the
//! steady state of a filter of gain g it is -ln(1 - g) / 2, and the filter averages some 2 / g answers.

/// An answer that teaches less than this could have come later (the filter averages 25 answers)...
const LITTLE: f64 = 0.04;
/// ...and one that teaches more ought to have come sooner (7 answers). An interval twice as long
/// teaches 1.7 times as much, so the two do not alternate.
const MUCH: f64 = 0.15;
/// Answers at one interval before it is judged.
const PATIENCE: u32 = 8;
/// A measurement off by so many times what it is known to within was not to be expected.
const SURPRISE: f64 = 2.0;

/// The polling of one server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Polling {
    /// log2 of the interval in use, s.
    exponent: i8,
    /// Answers at that interval, and what they taught together.
    answers: u32,
    taught: f64,
}

/// What one more answer said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// What it took away of the doubt about our clock, nats; nothing if it was only watched.
    pub taught: f64,
    /// How far it was from what was expected, against how far both may be off.
    pub surprise: f64,
}

impl Polling {
    /// The interval that is wanted after one more answer, log2 s; `None`: as it is. `exponent` is the
    /// one in use.
    pub fn handle_answer(&mut self, exponent: i8, answer: Answer) -> Option<i8> {
        if exponent != self.exponent {
            *self = Self { exponent, ..Self::default() };
        }
        self.answers += 1;
        self.taught += answer.taught;
        if answer.surprise > SURPRISE {
            *self = Self { exponent, ..Self::default() };
            return Some(exponent - 1);
        }
        if self.answers < PATIENCE {
            return None;
        }
        let each = self.taught / f64::from(self.answers);
        *self = Self { exponent, ..Self::default() };
        if each > MUCH { Some(exponent - 1) } else { (each < LITTLE).then_some(exponent + 1) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What an answer teaches a Kalman filter in its steady state: noise s, crystal walking at random by
    /// so many ppb/sqrt(s), polled each 2^exponent s.
    fn taught(noise: f64, ppb: f64, exponent: i8) -> f64 {
        let t = libm::exp2(f64::from(exponent));
        let (q, r) = (1e-18 * ppb * ppb, noise * noise);
        let (mut a, mut b, mut c) = (1.0, 0.0, 1e-8);
        let mut gain = 0.0;
        for _ in 0..5000 {
            (a, b, c) = (a + 2.0 * t * b + t * t * c + q * t * t * t / 3.0, b + t * c + q * t * t / 2.0, c + q * t);
            gain = a / (a + r);
            (a, b, c) = (a * (1.0 - gain), b * (1.0 - gain), c - b * b / (a + r));
        }
        -0.5 * libm::log(1.0 - gain)
    }

    /// The interval between 2^min and 2^max s after so many answers, and how often it turned.
    fn polled(noise: f64, ppb: f64, answers: usize, (min, max): (i8, i8)) -> (i8, u32) {
        let teaches: Vec<f64> = (min..=max).map(|exponent| taught(noise, ppb, exponent)).collect();
        let (mut polling, mut exponent, mut turns, mut up) = (Polling::default(), min, 0, true);
        for _ in 0..answers {
            let answer = Answer { taught: teaches[(exponent - min) as usize], surprise: 0.0 };
            let wanted = polling.handle_answer(exponent, answer).unwrap_or(exponent).clamp(min, max);
            if wanted != exponent {
                turns += u32::from((wanted > exponent) != up);
                up = wanted > exponent;
            }
            exponent = wanted;
        }
        (exponent, turns)
    }

    #[test]
    fn the_noisier_the_network_and_the_calmer_the_crystal_the_rarer() {
        let settled = |noise, ppb| polled(noise, ppb, 200, (6, 10)).0;
        // A wide network; a local one; the same with a crystal in a draught, and with one in an oven.
        assert_eq!(
            [settled(5e-3, 1.0), settled(10e-6, 1.0), settled(10e-6, 100.0), settled(10e-6, 0.01)],
            [10, 6, 6, 8]
        );
    }

    #[test]
    fn a_server_that_is_only_watched_is_asked_seldom() {
        let (mut polling, mut exponent) = (Polling::default(), 6);
        for _ in 0..40 {
            let watched = Answer { taught: 0.0, surprise: 0.1 };
            exponent = polling.handle_answer(exponent, watched).unwrap_or(exponent).min(10);
        }
        assert_eq!(exponent, 10);
    }

    #[test]
    fn a_surprise_is_looked_at_sooner_and_patience_begins_anew() {
        let mut polling = Polling::default();
        let usual = Answer { taught: 0.01, surprise: 0.5 };
        let asked: Vec<_> = (0..8).map(|_| polling.handle_answer(8, usual)).collect();
        assert_eq!((asked[..7].iter().flatten().count(), asked[7]), (0, Some(9)));
        assert_eq!(polling.handle_answer(9, Answer { surprise: 5.0, ..usual }), Some(8));
        assert!((0..7).all(|_| polling.handle_answer(8, usual).is_none()));
        assert_eq!(polling.handle_answer(8, usual), Some(9));
    }

    proptest! {
        #[test]
        fn it_settles_and_does_not_alternate(lg_noise in -6.0f64..-1.0, lg_ppb in -3.0f64..3.0) {
            let (_, turns) = polled(10f64.powf(lg_noise), 10f64.powf(lg_ppb), 400, (0, 17));
            prop_assert!(turns <= 1, "{turns} turns");
        }
    }
}
