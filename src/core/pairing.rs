//! Which second is this pulse?
//!
//! A message follows the second it names. With no other knowledge its first byte lies 0 to 1 s after
//! that second's pulse, so each message votes for a number of the pulse before it. What is tested is
//! the learned *mean* delay, with its standard error, not one message's spread and not half a
//! second: a number counts when its posterior exceeds 1 - 1e-6, and is refused, with the reason,
//! until then and whenever sources contradict each other. The clock itself (peers, the last
//! numbering, holdover) settles doubt when it knows the time to better than 0.4 s.

use std::collections::VecDeque;

use refclocks::time::{Raw, Span, Tai, Timestamp};

use super::numerics::{median, normal_below};

/// Messages remembered for the test.
const WINDOW: usize = 64;
/// The standard error of a mean delay is never believed to be smaller than this, s.
const LEAST_ERROR: f64 = 0.002;
/// A number counts when all others together are less probable than this.
const DOUBT: f64 = 1e-6;
/// A known delay still moves by so much (receivers jump by 200 ms), s.
const KNOWN_DELAY_SD: f64 = 0.1;
/// Numbers to either side of the likeliest that are weighed.
const CANDIDATES: i64 = 2;
/// Fewest messages that can number a pulse.
const FEWEST: usize = 3;
/// A gap in the pulses that the raw counter alone cannot bridge (1000 ppm of it is 0.1 s), s.
const LONGEST_GAP: f64 = 100.0;

/// What the messages of one source say about the number of a pulse train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Numbering {
    /// Nothing to judge by.
    Nothing,
    /// More messages are needed.
    Undecided(Evidence),
    /// So many that more would hardly help: the delay lies at the edge of a second.
    Ambiguous(Evidence),
    /// The messages say one second and the clock another, so many seconds away.
    Contradicted {
        /// What the messages say minus what the clock says, s.
        seconds: i64,
    },
    /// The pulse train's last pulse is this second.
    Numbered {
        /// True time of the last pulse.
        tai: Timestamp<Tai>,
        /// What it rests on; `None` when the clock alone settled it.
        evidence: Option<Evidence>,
    },
}

/// The learned delay of a message source against a pulse train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// Messages in the window.
    pub messages: usize,
    /// Mean delay of the first byte after the pulse of the second it names, under the number that
    /// fits best, s.
    pub delay: f64,
    /// Standard deviation of single delays, s.
    pub sd: f64,
    /// Standard error of the mean, s.
    pub error: f64,
}

/// A train of pulses on the raw scale, counted from an arbitrary one.
#[derive(Clone, Debug, Default)]
pub struct PulseTrain {
    last: Option<(Timestamp<Raw>, i64)>,
    generation: u64,
}

impl PulseTrain {
    /// Notes a pulse. `rate` is our counter's frequency error as far as it is known, s/s. A pulse that
    /// does not fit the grid (a bounce, or a gap too long to count across) starts a new train.
    pub fn push(&mut self, at: Timestamp<Raw>, rate: f64) {
        let index = match self.last {
            Some((last, index)) => {
                let elapsed = (at - last).seconds() / (1.0 + rate);
                let count = elapsed.round();
                if !(0.0..LONGEST_GAP).contains(&elapsed) || count < 1.0 || (elapsed - count).abs() > 0.1 {
                    self.generation += 1;
                    0
                } else {
                    index + count as i64
                }
            }
            None => 0,
        };
        self.last = Some((at, index));
    }

    /// What comes next is another train.
    pub fn restart(&mut self) {
        *self = Self { last: None, generation: self.generation + 1 };
    }

    /// The last pulse and its index in the train.
    pub fn last(&self) -> Option<(Timestamp<Raw>, i64)> {
        self.last
    }

    /// Has a second pulse just confirmed that the train began anew?
    pub fn is_confirmed_anew(&self) -> bool {
        self.generation > 0 && self.last.is_some_and(|(_, index)| index == 1)
    }

    /// Changes whenever indices start anew.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// The record of one message source against one pulse train.
#[derive(Clone, Debug, Default)]
pub struct MessageRecord {
    /// Number of the train's pulse 0 that all delays are counted under, whole TAI seconds.
    base: Option<i64>,
    generation: u64,
    /// Delays under `base`, s.
    delays: VecDeque<f64>,
    /// The delay that the configuration or the disk knows, s.
    known: Option<f64>,
}

impl MessageRecord {
    /// A record, with the delay if it is known beforehand, s.
    pub fn new(known: Option<f64>) -> Self {
        Self { known, ..Self::default() }
    }

    /// Notes a message whose first byte came at `at` and that names the second (or fraction) `named`.
    pub fn push(&mut self, train: &PulseTrain, at: Timestamp<Raw>, named: Timestamp<Tai>) {
        let Some((pulse, index)) = train.last() else { return };
        let after = (at - pulse).seconds();
        if !(-2.0..3.0).contains(&after) {
            // The train has stopped: nothing to be late against.
            return;
        }
        if self.generation != train.generation() {
            self.generation = train.generation();
            self.base = None;
            self.delays.clear();
        }
        let base = *self.base.get_or_insert(named.whole_seconds() - index);
        let number = Timestamp::<Tai>::from_parts(base + index, 0);
        let delay = after - (named - number).seconds();
        if delay.abs() > 1e6 {
            // Another date altogether: a receiver that mended its week. Count from the new one.
            self.base = None;
            self.delays.clear();
            return;
        }
        self.delays.push_back(delay);
        if self.delays.len() > WINDOW {
            self.delays.pop_front();
        }
    }

    /// Forgets what was seen, not what is known.
    pub fn clear(&mut self) {
        self.base = None;
        self.delays.clear();
    }

    /// Judges the number of the train's last pulse. `clock` is the time our own clock gives to that
    /// pulse, when it is known to better than 0.4 s.
    pub fn judge(&self, train: &PulseTrain, clock: Option<Timestamp<Tai>>) -> Numbering {
        let Some((_, index)) = train.last() else { return Numbering::Nothing };
        let by_clock = clock.map(|tai| tai.round());
        // What was counted along an earlier train says nothing about this one.
        let by_messages = if self.generation == train.generation() { self.candidate() } else { None };
        match (by_messages, by_clock) {
            (None, None) => Numbering::Nothing,
            (None, Some(tai)) => Numbering::Numbered { tai, evidence: None },
            (Some(c), clock) => {
                let base = self.base.unwrap_or_default() + c.shift;
                let tai = Timestamp::from_parts(base + index, 0);
                let apart = clock.map_or(0, |clock| tai.whole_seconds() - clock.whole_seconds());
                match clock {
                    // Further than the candidates reach is beyond doubt however few the messages are.
                    Some(_) if apart != 0 && c.agree && (c.doubt < DOUBT || apart.abs() > CANDIDATES) => {
                        Numbering::Contradicted { seconds: apart }
                    }
                    Some(clock) => {
                        // Told under the clock's number, which may differ from what fits best.
                        let moved = (clock.whole_seconds() - tai.whole_seconds()) as f64;
                        let evidence = Evidence { delay: c.evidence.delay + moved, ..c.evidence };
                        Numbering::Numbered { tai: clock, evidence: Some(evidence) }
                    }
                    None if c.doubt < DOUBT => Numbering::Numbered { tai, evidence: Some(c.evidence) },
                    None if c.evidence.messages == WINDOW => Numbering::Ambiguous(c.evidence),
                    None => Numbering::Undecided(c.evidence),
                }
            }
        }
    }

    /// The number that fits best, and the probability of all others.
    fn candidate(&self) -> Option<Candidate> {
        if self.delays.len() < FEWEST {
            return None;
        }
        let mut delays = [0.0; WINDOW];
        let given = self.delays.iter().zip(&mut delays).map(|(from, to)| *to = *from).count();
        let middle = median(delays.get_mut(..given)?)?;
        // A message that came whole fractions of a second away from the rest has another cause.
        let near = || self.delays.iter().copied().filter(|d| (d - middle).abs() < 0.5);
        let count = near().count();
        if count == 0 {
            // Half of them name one second and half another.
            return None;
        }
        let n = count as f64;
        let mean = near().sum::<f64>() / n;
        // One prior message with 0.1 s of spread keeps the first few from looking too sure.
        let spread = near().map(|d| (d - mean) * (d - mean)).sum::<f64>() + 0.01;
        let sd = (spread / (n - 1.0).max(1.0)).sqrt();
        let error = (sd / n.sqrt()).max(LEAST_ERROR);
        let evidence_for = |shift: i64| {
            // Adding one to the pulse's number makes its messages one second less late... of a later
            // pulse: the delay grows by the shift.
            let m = mean + shift as f64;
            match self.known {
                Some(known) => {
                    let z = (m - known) / KNOWN_DELAY_SD.hypot(error);
                    libm::exp(-0.5 * z * z)
                }
                None => (normal_below((1.0 - m) / error) - normal_below(-m / error)).max(0.0),
            }
        };
        let around = -(mean.floor() as i64);
        let mut candidates = [(0, 0.0); 2 * CANDIDATES as usize + 1];
        for (candidate, shift) in candidates.iter_mut().zip(around - CANDIDATES..) {
            *candidate = (shift, evidence_for(shift));
        }
        let total: f64 = candidates.iter().map(|c| c.1).sum();
        let (shift, best) = candidates.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a })?;
        let others: f64 = candidates.iter().filter(|c| c.0 != shift).map(|c| c.1).sum();
        // Messages that do not even agree among themselves make no number.
        let agree = count * 5 >= self.delays.len() * 4;
        let doubt = if !agree || total <= 0.0 || best < 1e-3 { 1.0 } else { others / total };
        Some(Candidate {
            shift,
            doubt,
            agree,
            evidence: Evidence { messages: self.delays.len(), delay: mean + shift as f64, sd, error },
        })
    }
}

struct Candidate {
    shift: i64,
    doubt: f64,
    /// Do the messages agree among themselves?
    agree: bool,
    evidence: Evidence,
}

/// The delay of one message source as it is known: learned against a numbered pulse or a good clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearnedDelay {
    /// Mean, s.
    pub mean: f64,
    /// Variance of single messages, s^2.
    pub variance: f64,
    /// Messages learned from, up to the memory's length.
    pub n: f64,
}

impl LearnedDelay {
    /// Memory, messages: long enough to average the jitter, short enough to follow a receiver that
    /// changes its mind.
    const MEMORY: f64 = 300.0;

    /// A delay known from before, to be refined.
    pub fn known(mean: f64, sd: f64) -> Self {
        Self { mean, variance: sd * sd, n: 16.0 }
    }

    /// The first delay seen.
    pub fn first(delay: f64) -> Self {
        Self { mean: delay, variance: 0.0, n: 1.0 }
    }

    /// Learns from one more delay, s.
    pub fn push(&mut self, delay: f64) {
        self.n = (self.n + 1.0).min(Self::MEMORY);
        let off = delay - self.mean;
        self.mean += off / self.n;
        self.variance += (off * off - self.variance) / self.n;
    }

    /// Have enough been seen to rely on?
    pub fn is_settled(&self) -> bool {
        self.n >= 16.0
    }

    /// One standard deviation of single messages, s.
    pub fn sd(&self) -> f64 {
        self.variance.sqrt()
    }
}

/// The delay of a message against the estimated time of its first byte, s.
pub fn message_delay(estimated: Timestamp<Tai>, named: Timestamp<Tai>) -> f64 {
    let delay: Span = estimated - named;
    delay.seconds()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Rng;

    /// True time at which our counter reads 0, so that nothing is aligned by chance.
    const START: i64 = 1_767_225_637;

    enum Outcome {
        Right { after: i64 },
        Wrong,
        Refused,
    }

    fn draw(rng: &mut Rng, mean: f64, sd: f64, seconds: i64) -> Outcome {
        let (mut train, mut record) = (PulseTrain::default(), MessageRecord::default());
        let ppm = 80e-6 * (2.0 * rng.uniform() - 1.0);
        let raw = |t: f64| Timestamp::<Raw>::EPOCH + Span::from_seconds(5.0 + t * (1.0 + ppm));
        for k in 0..seconds {
            train.push(raw(k as f64), 0.0);
            let delay = loop {
                let delay = mean + sd * rng.normal();
                if delay > 0.0 && delay < 1.0 {
                    break delay;
                }
            };
            record.push(&train, raw(k as f64 + delay), Timestamp::from_parts(START + k, 0));
            if let Numbering::Numbered { tai, .. } = record.judge(&train, None) {
                let right = tai.whole_seconds() == START + k;
                return if right { Outcome::Right { after: k } } else { Outcome::Wrong };
            }
        }
        Outcome::Refused
    }

    #[test]
    fn delays_50_to_900_ms_are_numbered_within_a_minute() {
        let mut rng = Rng::new(1);
        let mut slow = 0;
        for _ in 0..2000 {
            let (mean, sd) = (0.05 + 0.85 * rng.uniform(), 0.03 * rng.uniform());
            match draw(&mut rng, mean, sd, 600) {
                Outcome::Right { after } if after <= 60 => {}
                Outcome::Right { .. } | Outcome::Refused => slow += 1,
                Outcome::Wrong => panic!("wrong second at mean {mean} sd {sd}"),
            }
        }
        assert!(slow <= 20, "{slow} of 2000 took longer than a minute");
    }

    #[test]
    fn never_wrong_in_10_000_draws_and_seldom_refused() {
        let mut rng = Rng::new(2);
        let mut refused = 0;
        for _ in 0..10_000 {
            let (mean, sd) = (0.02 + 0.93 * rng.uniform(), 0.1 * rng.uniform());
            match draw(&mut rng, mean, sd, 600) {
                Outcome::Right { .. } => {}
                Outcome::Refused => refused += 1,
                Outcome::Wrong => panic!("wrong second at mean {mean} sd {sd}"),
            }
        }
        assert!(refused <= 2000, "{refused} of 10000 refused");
    }

    #[test]
    fn half_a_second_is_no_special_case() {
        let mut rng = Rng::new(3);
        assert!(matches!(draw(&mut rng, 0.5, 0.02, 60), Outcome::Right { after: ..=20 }));
    }

    #[test]
    fn a_good_clock_settles_doubt_and_contradiction_is_named() {
        let (mut train, mut record) = (PulseTrain::default(), MessageRecord::default());
        let raw = |t: f64| Timestamp::<Raw>::EPOCH + Span::from_seconds(t);
        for k in 0..70 {
            train.push(raw(k as f64), 0.0);
            record.push(&train, raw(k as f64 + 0.999), Timestamp::from_parts(START + k, 0));
        }
        assert!(matches!(record.judge(&train, None), Numbering::Ambiguous(_)));
        let clock = |late: i64| Some(Timestamp::from_parts(START + 69 + late, 100_000_000));
        assert!(
            matches!(record.judge(&train, clock(0)), Numbering::Numbered { tai, .. } if tai.whole_seconds() == START + 69)
        );
        let (mut train, mut record) = (PulseTrain::default(), MessageRecord::default());
        for k in 0..70 {
            train.push(raw(k as f64), 0.0);
            record.push(&train, raw(k as f64 + 0.12), Timestamp::from_parts(START + k, 0));
        }
        assert_eq!(record.judge(&train, clock(3)), Numbering::Contradicted { seconds: -3 });
    }

    #[test]
    fn messages_that_do_not_agree_contradict_nobody() {
        let (mut train, mut record) = (PulseTrain::default(), MessageRecord::default());
        let raw = |t: f64| Timestamp::<Raw>::EPOCH + Span::from_seconds(t);
        let clock = |k: i64| Some(Timestamp::<Tai>::from_parts(START + k, 0));
        for k in 0..20 {
            train.push(raw(k as f64), 0.0);
            // Every other one is a minute old.
            let named = START + k - 60 * (k % 2);
            record.push(&train, raw(k as f64 + 0.12), Timestamp::from_parts(named, 0));
            let judged = record.judge(&train, clock(k));
            let by_clock = matches!(judged, Numbering::Numbered { tai, evidence }
                if tai.whole_seconds() == START + k && evidence.is_none_or(|e| e.delay.is_finite()));
            assert!(by_clock, "after {k}: {judged:?}");
        }
    }

    #[test]
    fn a_known_delay_beyond_a_second_is_believed() {
        let (mut train, mut record) = (PulseTrain::default(), MessageRecord::new(Some(1.1)));
        let raw = |t: f64| Timestamp::<Raw>::EPOCH + Span::from_seconds(t);
        for k in 0..10 {
            train.push(raw(k as f64), 0.0);
            record.push(&train, raw(k as f64 + 0.1), Timestamp::from_parts(START + k - 1, 0));
        }
        assert!(
            matches!(record.judge(&train, None), Numbering::Numbered { tai, .. } if tai.whole_seconds() == START + 9)
        );
    }

    #[test]
    fn missed_pulses_keep_the_count() {
        let mut train = PulseTrain::default();
        let raw = |t: f64| Timestamp::<Raw>::EPOCH + Span::from_seconds(t);
        train.push(raw(10.0), 0.0);
        train.push(raw(13.000_2), 0.0);
        assert_eq!(train.last().map(|l| l.1), Some(3));
        let generation = train.generation();
        train.push(raw(13.4), 0.0);
        assert_ne!(train.generation(), generation);
    }
}
