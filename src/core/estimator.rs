//! One estimate of our oscillator, fed by every source that survived the selection.
//!
//! Everything is estimated in free-running coordinates: the raw counter against true time. The
//! estimator never sees a slew or a step, so control cannot disturb it and history can be filtered
//! again at will. Time enters as exact stamps; `f64` holds differences only.

use std::collections::{BTreeMap, VecDeque};

use refclocks::time::{Raw, Tai, Timestamp};

use super::bank::{Bank, Estimate, Prior};
use super::by_hand::CONTRADICTION;
use super::lines::{repeated_median_slope, second_difference_variance};
use super::measurement::{Measurement, Origin, SourceId};
use super::noise::{DelayRecord, KnownNoise, LateNoise, NetworkNoise, Noise};
use super::numerics::median;

/// Start-up: measurements kept, and filtered again each time their number doubles.
const START_UP: usize = 64;
/// A reference clock's noise cannot be told from fewer measurements.
const FEWEST: usize = 4;

/// What the estimator knows of one source.
#[derive(Clone, Debug, Default)]
struct Feeder {
    noise: Option<Noise>,
    /// What an earlier life knew of its noise.
    remembered: Option<KnownNoise>,
    delays: DelayRecord,
    /// The first measurements, while they still teach the noise.
    history: Vec<Measurement>,
}

/// The estimator.
#[derive(Clone, Debug)]
pub struct Estimator {
    prior: Prior,
    bank: Bank,
    origin: Option<Origin>,
    /// The time the bank stands at; `None` before the first measurement that counted.
    at: Option<Timestamp<Raw>>,
    feeders: BTreeMap<SourceId, Feeder>,
    fed_by: FedBy,
    /// The last measurements, whoever they came from: to be filtered again without one that lied.
    log: VecDeque<(SourceId, Measurement)>,
}

/// What has fed the bank since it was started.
#[derive(Clone, Copy, Debug, PartialEq)]
enum FedBy {
    Nobody,
    Only(SourceId),
    Several,
}

impl Estimator {
    /// An estimator that has seen nothing.
    pub fn new(prior: Prior) -> Self {
        Self {
            prior,
            bank: Bank::new(&prior),
            origin: None,
            at: None,
            feeders: BTreeMap::new(),
            fed_by: FedBy::Nobody,
            log: VecDeque::with_capacity(START_UP),
        }
    }

    /// Where the phase is counted from, once there was a measurement.
    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// The estimate and the instant it holds for, once there is one.
    pub fn estimate(&self) -> Option<(Timestamp<Raw>, &Estimate)> {
        self.at.map(|at| (at, self.bank.estimate()))
    }

    /// Phase predicted at `raw`, s.
    pub fn phase_at(&self, raw: Timestamp<Raw>) -> Option<f64> {
        let (at, e) = self.estimate()?;
        let dt = (raw - at).seconds();
        Some(e.phase + dt * (e.frequency + 0.5 * dt * e.drift))
    }

    /// True time at `raw` as estimated.
    pub fn tai_at(&self, raw: Timestamp<Raw>) -> Option<Timestamp<Tai>> {
        let (origin, phase) = (self.origin?, self.phase_at(raw)?);
        Some(origin.tai(raw, phase))
    }

    /// The bank, for its spread and wander.
    pub fn bank(&self) -> &Bank {
        &self.bank
    }

    /// One standard deviation of a good measurement of this source, s, once known.
    pub fn jitter(&self, source: SourceId) -> Option<f64> {
        self.feeders.get(&source)?.noise.as_ref().map(Noise::jitter)
    }

    /// How probable it is that a stamp of this source is late, and by how much on the average, s.
    pub fn lateness(&self, source: SourceId) -> Option<(f64, f64)> {
        match self.feeders.get(&source)?.noise.as_ref()? {
            Noise::Late(late) => Some((late.p, late.mu)),
            Noise::Network(_) => None,
        }
    }

    /// How much of what is believed of a server rests on ways there and back that are not alike, 0 to 1.
    pub fn tilted_share(&self, source: SourceId) -> Option<f64> {
        match self.feeders.get(&source)?.noise.as_ref()? {
            Noise::Network(network) => Some(network.tilted_share()),
            Noise::Late(_) => None,
        }
    }

    /// The least round-trip delay of this source, s.
    pub fn least_delay(&self, source: SourceId) -> Option<f64> {
        self.feeders.get(&source).map(|f| f.delays.least()).filter(|d| d.is_finite())
    }

    /// Has this source fed before, so that its noise is known?
    pub fn knows(&self, source: SourceId) -> bool {
        self.feeders.get(&source).is_some_and(|f| f.noise.is_some())
    }

    /// The delays of a server that has not fed the bank yet, its newest left out: that will come with its
    /// measurement. s.
    pub fn learn_delays(&mut self, source: SourceId, delays: impl Iterator<Item = f64>) {
        let feeder = self.feeders.entry(source).or_default();
        if feeder.delays.is_empty() {
            let mut delays = delays.peekable();
            while let (Some(delay), Some(_)) = (delays.next(), delays.peek()) {
                feeder.delays.push(delay);
            }
        }
    }

    /// Lets time pass up to `now`, so that the estimate is the one for now.
    pub fn advance(&mut self, now: Timestamp<Raw>) {
        if let Some(at) = &mut self.at
            && now > *at
        {
            self.bank.predict((now - *at).seconds());
            *at = now;
        }
    }

    /// A much better source takes over from what fed the bank so far. Its first few measurements are
    /// only collected; then the bank starts afresh from them: the phase is new, the frequency is
    /// kept with some doubt. Returns whether the estimate now rests on it.
    pub fn take_over(&mut self, source: SourceId, m: Measurement) -> bool {
        let feeder = self.feeders.entry(source).or_default();
        feeder.history.push(m);
        if let Some(delay) = m.delay {
            feeder.delays.push(delay);
        }
        if feeder.history.len() < FEWEST {
            return false;
        }
        let history = feeder.history.clone();
        let frequency = self.frequency_belief();
        self.start_again_from(source, history, frequency);
        true
    }

    /// What is believed of the frequency by a bank that starts afresh: what it is now, with some doubt
    /// added. Mean and standard deviation, s/s.
    pub fn frequency_belief(&self) -> (f64, f64) {
        match self.estimate() {
            Some((_, e)) => (e.frequency, (3.0 * e.frequency_variance.sqrt() + 1e-6).min(200e-6)),
            None => self.prior.frequency,
        }
    }

    /// The phase or the frequency has jumped: starts the bank afresh from what one source gave since,
    /// and what is believed of the frequency now (mean and standard deviation, s/s). The source's
    /// noise and the wander are what they were.
    pub fn follow_jump(&mut self, source: SourceId, since: Vec<Measurement>, frequency: (f64, f64)) {
        let learned = self.feeders.get(&source).filter(|f| f.history.len() >= START_UP).and_then(|f| f.noise.clone());
        let (Some(mut noise), Some(last)) = (learned, since.last()) else {
            return self.start_again_from(source, since, frequency);
        };
        self.prior.frequency = frequency;
        let origin = Origin::of(last);
        let mut bank = self.bank.begun_again(&self.prior);
        if let Some(feeder) = self.feeders.get(&source) {
            feeder.run_through(&mut bank, &mut noise, &since, origin);
        }
        self.log = since.iter().map(|m| (source, *m)).collect();
        (self.bank, self.origin, self.at, self.fed_by) = (bank, Some(origin), Some(last.raw), FedBy::Only(source));
    }

    /// Starts the bank afresh from what one source gave lately, and what is believed of the frequency
    /// (mean and standard deviation, s/s).
    pub fn start_again_from(&mut self, source: SourceId, history: Vec<Measurement>, frequency: (f64, f64)) {
        let Some(last) = history.last() else { return };
        self.prior.frequency = frequency;
        let origin = Origin::of(last);
        self.origin = Some(origin);
        self.fed_by = FedBy::Only(source);
        self.log = history.iter().map(|m| (source, *m)).collect();
        for feeder in self.feeders.values_mut() {
            feeder.history.clear();
        }
        let feeder = self.feeders.entry(source).or_default();
        feeder.history = history;
        let noise = feeder.initial_noise(origin);
        self.filter_again(source, origin, noise);
    }

    /// A source that has fed the bank turned out false: filters the last measurements again without
    /// its. The frequency is kept with some doubt if the bank is older than they are. If there are no
    /// others, what it gave while it was true is all that is known: the bank stays, and doubts its phase
    /// by as much as the estimate lies outside what the others agree on, `off` s.
    pub fn leave_out(&mut self, source: SourceId, off: f64) {
        if !self.log.iter().any(|(from, _)| *from == source) {
            return;
        }
        if self.log.iter().all(|(from, _)| *from == source) {
            self.log.clear();
            self.fed_by = FedBy::Several;
            return self.bank.doubt(off * off, 0.0);
        }
        self.log.retain(|(from, _)| *from != source);
        if self.bank.measurements() > START_UP as u64
            && let Some((_, e)) = self.estimate()
        {
            self.prior.frequency = (e.frequency, (10.0 * e.frequency_variance.sqrt() + 1e-6).min(200e-6));
        }
        self.bank = Bank::new(&self.prior);
        self.fed_by = FedBy::Nobody;
        self.at = None;
        self.origin = None;
        for feeder in self.feeders.values_mut() {
            feeder.history.clear();
            feeder.delays = DelayRecord::default();
        }
        let known: Vec<SourceId> = self.feeders.keys().copied().collect();
        for (from, m) in std::mem::take(&mut self.log) {
            self.measure(from, m);
        }
        // What a source gave counts although it has left; there is no more to come from it.
        self.feeders.retain(|from, _| known.contains(from));
    }

    /// An earlier life knew the noise of a source that comes now.
    pub fn remember(&mut self, source: SourceId, known: KnownNoise) {
        let feeder = self.feeders.entry(source).or_default();
        feeder.remembered = Some(known);
        feeder.delays = DelayRecord::remembering(&known);
    }

    /// What is known of a source's noise, once it has fed for a while.
    pub fn known_noise(&self, source: SourceId) -> Option<KnownNoise> {
        let feeder = self.feeders.get(&source).filter(|f| f.history.len() >= START_UP)?;
        let least_delay = Some(feeder.delays.least()).filter(|least| least.is_finite());
        feeder.noise.as_ref().map(|noise| KnownNoise { least_delay, ..noise.known() })
    }

    /// A source has left. What it gave stays in the estimate.
    pub fn forget(&mut self, source: SourceId) {
        self.feeders.remove(&source);
    }

    /// Takes a measurement whose noise is known, one standard deviation in s, and which is to be believed
    /// whatever was before: the operator's. If it contradicts what fed the bank so far, the phase starts
    /// anew from it, the frequency is kept with some doubt, and the answer is `true`.
    pub fn set(&mut self, source: SourceId, m: Measurement, sd: f64) -> bool {
        let expected = self.phase_at(m.raw).zip(self.origin);
        self.advance(m.raw);
        let contradicted = match (expected, self.estimate()) {
            (Some((phase, origin)), Some((_, e))) => {
                let off = origin.phase(&m) - phase;
                off.abs() > CONTRADICTION * (e.phase_variance + sd * sd).sqrt()
            }
            _ => true,
        };
        let had_any = self.estimate().is_some();
        if contradicted {
            if let Some((_, e)) = self.estimate() {
                self.prior.frequency = (e.frequency, (3.0 * e.frequency_variance.sqrt() + 1e-6).min(200e-6));
            }
            self.bank = Bank::new(&self.prior);
            let (frequency, doubt) = self.prior.frequency;
            self.bank.start_from(0.0, sd * sd, frequency, doubt * doubt);
            self.origin = Some(Origin::of(&m));
            self.at = Some(m.raw);
        }
        self.fed_by = FedBy::Several;
        self.log.clear();
        for feeder in self.feeders.values_mut() {
            feeder.history.clear();
        }
        let feeder = self.feeders.entry(source).or_default();
        let noise = feeder.noise.insert(Noise::Late(LateNoise::prompt(sd * sd)));
        if let Some(origin) = self.origin.filter(|_| !contradicted) {
            self.bank.measure(noise, origin.phase(&m), 0.0);
        }
        contradicted && had_any
    }

    /// Forgets the measurements that a source's take-over had collected so far: they are too old.
    pub fn abandon_take_over(&mut self, source: SourceId) {
        if let Some(feeder) = self.feeders.get_mut(&source)
            && feeder.noise.is_none()
        {
            feeder.history.clear();
        }
    }

    /// Doubts the estimate: adds variance to its phase, s^2, and to its frequency, (s/s)^2.
    pub fn doubt(&mut self, phase: f64, frequency: f64) {
        self.bank.doubt(phase, frequency);
    }

    /// Nothing is measured for a while: the frequency is held as it is, without drift.
    pub fn hold_frequency(&mut self) {
        self.bank.hold_frequency();
    }

    /// Something known from elsewhere has changed our crystal's frequency by so much, s/s.
    pub fn shift_frequency(&mut self, by: f64) {
        self.bank.shift_frequency(by);
    }

    /// Takes one measurement. Returns whether the estimate now rests on it (a source's first few
    /// are only collected).
    pub fn measure(&mut self, source: SourceId, m: Measurement) -> bool {
        let origin = *self.origin.get_or_insert(Origin::of(&m));
        self.fed_by = match self.fed_by {
            FedBy::Nobody => FedBy::Only(source),
            FedBy::Only(only) if only == source => FedBy::Only(source),
            FedBy::Only(_) | FedBy::Several => FedBy::Several,
        };
        let sole = self.fed_by == FedBy::Only(source);
        self.log.push_back((source, m));
        if self.log.len() > START_UP {
            self.log.pop_front();
        }
        let feeder = self.feeders.entry(source).or_default();
        if let Some(delay) = m.delay {
            feeder.delays.push(delay);
        }
        if feeder.history.len() < START_UP {
            feeder.history.push(m);
            let n = feeder.history.len();
            if m.delay.is_none() && n < FEWEST && feeder.noise.is_none() {
                return false;
            }
            if n.is_power_of_two() && n >= FEWEST {
                let noise = feeder.initial_noise(origin);
                if sole {
                    self.filter_again(source, origin, noise);
                    return true;
                }
                if feeder.noise.is_none() || m.delay.is_none() {
                    feeder.noise = Some(noise);
                }
            }
        }
        let excess = feeder.excess(&m);
        if feeder.noise.is_none() {
            feeder.noise = Some(feeder.initial_noise(origin));
        }
        if self.at.is_none() {
            self.at = Some(m.raw);
        }
        self.advance(m.raw);
        let feeder = self.feeders.entry(source).or_default();
        if let Some(noise) = &mut feeder.noise {
            if let Noise::Network(network) = noise {
                network.set_scale(feeder.delays.mean_excess());
            }
            // What is told late was measured on the way to where the bank stands.
            let late = self.at.map_or(0.0, |at| (at - m.raw).seconds().max(0.0));
            let phase = origin.phase(&m) + late * self.bank.estimate().frequency;
            self.bank.measure(noise, phase, excess);
            if sole && self.bank.measurements() < 2 * START_UP as u64 && is_lost(noise) {
                let noise = feeder.initial_noise(origin);
                self.filter_again(source, origin, noise);
            }
        }
        true
    }

    /// Starts the bank afresh and runs it through the source's history with the noise model as it is
    /// known by now. From 8 measurements on it starts from a repeated-median line, so that one late
    /// pulse among the first few cannot be taken for frequency.
    fn filter_again(&mut self, source: SourceId, origin: Origin, mut noise: Noise) {
        let Some(feeder) = self.feeders.get_mut(&source) else { return };
        let (Some(first), Some(last)) = (feeder.history.first(), feeder.history.last()) else { return };
        let mut bank = Bank::new(&self.prior);
        if let Noise::Late(late) = &noise
            && feeder.history.len() >= 2 * FEWEST
        {
            let line: Vec<(f64, f64)> =
                feeder.history.iter().map(|m| ((m.raw - first.raw).seconds(), origin.phase(m))).collect();
            let span = (last.raw - first.raw).seconds().max(1.0);
            let variance = 400.0 * late.r / (span * span) + 1e-16 * span;
            let (frequency, sd) = self.prior.frequency;
            let (frequency, variance) =
                if sd * sd < variance { (frequency, sd * sd) } else { (repeated_median_slope(&line), variance) };
            let mut phases: Vec<f64> = line.iter().map(|(t, z)| z - frequency * t).collect();
            let phase = median(&mut phases).unwrap_or(0.0);
            bank.start_from(phase, 100.0 * late.r + 1e-14, frequency, variance);
        }
        feeder.run_through(&mut bank, &mut noise, &feeder.history, origin);
        self.bank = bank;
        self.at = Some(last.raw);
        feeder.noise = Some(noise);
    }
}

impl Feeder {
    /// The noise model that the history suggests.
    fn initial_noise(&self, origin: Origin) -> Noise {
        if !self.delays.is_empty() {
            return Noise::Network(NetworkNoise::new(self.delays.mean_excess()));
        }
        let points: Vec<(f64, f64)> = self.history.iter().map(|m| (origin.elapsed(m.raw), origin.phase(m))).collect();
        let r = second_difference_variance(&points).unwrap_or(1e-4);
        Noise::Late(match &self.remembered {
            Some(known) => LateNoise::remembered(r, known),
            None => LateNoise::with_variance(r),
        })
    }

    /// Runs a bank that has seen nothing through some of the source's measurements, the oldest first.
    fn run_through(&self, bank: &mut Bank, noise: &mut Noise, history: &[Measurement], origin: Origin) {
        let mut before: Option<&Measurement> = None;
        for m in history {
            bank.predict(before.replace(m).map_or(0.0, |before| (m.raw - before.raw).seconds()));
            bank.measure(noise, origin.phase(m), self.excess(m));
        }
    }

    fn excess(&self, m: &Measurement) -> f64 {
        m.delay.map_or(0.0, |delay| self.delays.excess(delay).max(1e-12))
    }
}

/// Does only the safety component explain most of the recent samples?
fn is_lost(noise: &Noise) -> bool {
    matches!(noise, Noise::Late(late) if late.unexplained() > 0.6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_late_pulse_at_the_start_is_not_taken_for_frequency() {
        let mut estimator = Estimator::new(Prior::default());
        for k in 0..16i64 {
            let late = if k == 1 { 60_000 } else { 0 };
            let raw = Timestamp::from_nanos(k * 1_000_000_000 + k * 12_000 + late + (k * 7919) % 1500);
            estimator.measure(0, Measurement { raw, tai: Timestamp::from_parts(1_000_000 + k, 0), delay: None });
        }
        let (_, e) = estimator.estimate().unwrap();
        assert!((e.frequency - 12e-6).abs() < 0.5e-6, "{e:?}");
    }
}
