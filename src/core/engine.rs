//! The engine: reports in, clock commands, events and snapshots out.
//!
//! The order of calls: any number of `handle_*`, then `poll_command` and `poll_event` until they give
//! nothing, then [`Engine::snapshot`], then sleep until `poll_timeout` or the next input. `now` must
//! not go backwards.

use std::collections::VecDeque;
use std::sync::Arc;

use refclocks::sys::clock::Bracket;
use refclocks::time::{Frequency, Raw, Span, Tai, Timestamp, Utc};
use refclocks::{Health, LocalStamp, Report, Sample};

use super::bank::Prior;
use super::estimator::{Estimator, Measurement};
use super::event::Event;
use super::labels::{Facts, Labels};
use super::leap::UtcMap;
use super::memory::Memory;
use super::pairing::{LearnedDelay, Numbering};
use super::selection::{Claim, select};
use super::snapshot::{ClockReading, ErrorBound, Snapshot, SourceKind};
use super::source::{Interval, ServerSays, Source, SourceConfig, without_offset};
use super::state::{State, StateReason, Verdict};
use super::steering::{Move, StepPolicy, decide};
use super::timebase::TimeBase;

/// Standard deviations in the error bound: 99 % two-sided, and 1.3 for what the model leaves out.
const BOUND_FACTOR: f64 = 2.576 * 1.3;
/// A clock known to better than this can number a pulse, s.
const NUMBERING_CLOCK: f64 = 0.4;
/// A clock known to better than this can calibrate a message's delay, s.
const CALIBRATING_CLOCK: f64 = 0.005;
/// How long messages wait for the pulse that is configured beside them, s.
const PULSE_PATIENCE: f64 = 30.0;
/// Samples that a server must have given before it has a voice, and how long all configured servers
/// may take for that, s: the first to answer must not set the clock alone.
const SERVER_SAMPLES: u64 = 3;
const SERVER_PATIENCE: f64 = 6.0;
/// How long a snapshot vouches for the clock without a new one.
const VALID_FOR: Span = Span::from_millis(4000);
/// The engine looks at the clock at least this often.
const TICK: Span = Span::from_millis(1050);
/// A contradicted number is given up after this, if it is young.
const CONTRADICTION_PATIENCE: f64 = 60.0;
/// A number this young may rest on a receiver's default leap second count, s.
const YOUNG_NUMBER: f64 = 900.0;

/// The present, read once per wake-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Now {
    /// The raw counter.
    pub raw: Timestamp<Raw>,
    /// What the served clock reads there.
    pub clock: Timestamp<Tai>,
}

/// How the engine is set up.
#[derive(Clone, Debug, Default)]
pub struct EngineConfig {
    /// The sources, in the order of the configuration.
    pub sources: Vec<SourceConfig>,
    /// When to step.
    pub step: StepPolicy,
    /// The bound at which a coasting clock stops being stratum 1, s.
    pub holdover_budget: f64,
    /// Serve the undisciplined clock at this stratum when all else is gone.
    pub local_stratum: Option<u8>,
    /// TAI and UTC.
    pub utc: UtcMap,
}

/// What to do with the clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClockCommand {
    /// Run at this rate against the raw counter, s/s.
    SetRate(f64),
    /// Add this to the clock.
    Step(Span),
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    started: Now,
    base: TimeBase,
    sources: Vec<Source>,
    estimator: Estimator,
    /// Sources that feed the estimate, and the half-width that averaging them does not remove, s.
    feeding: Vec<usize>,
    fixed: f64,
    last_feed: Option<(Timestamp<Raw>, SourceKind)>,
    /// What the estimate rests on since it was started from nothing.
    updates: u64,
    set: bool,
    panic: Option<f64>,
    disagreement: Option<usize>,
    first_message: Option<Timestamp<Raw>>,
    first_exchange: Option<Timestamp<Raw>>,
    numbered_at: Option<Timestamp<Raw>>,
    labels: Labels,
    rate: f64,
    next_tick: Timestamp<Raw>,
    commands: VecDeque<ClockCommand>,
    events: VecDeque<Event>,
}

impl Engine {
    /// An engine that has seen nothing but what it remembers from its last life.
    pub fn new(config: EngineConfig, memory: &Memory, now: Now) -> Self {
        let n = config.sources.len();
        let known = |c: &SourceConfig| memory.delay(&c.name).map(|d| LearnedDelay::known(d.mean, d.sd));
        let sources: Vec<Source> = config.sources.iter().map(|c| Source::new(c.clone(), n, known(c))).collect();
        let mut prior = Prior::default();
        if let Some(frequency) = memory.frequency {
            prior.frequency = (frequency.value, frequency.sd.clamp(1e-7, 200e-6));
        }
        if let Some(lg_wander) = memory.lg_wander {
            prior.wander = (lg_wander, 1.0);
        }
        let rate = memory.frequency.map_or(0.0, |f| -f.value);
        let mut engine = Self {
            estimator: Estimator::new(prior, n),
            started: now,
            base: TimeBase::default(),
            sources,
            feeding: Vec::new(),
            fixed: f64::INFINITY,
            last_feed: None,
            updates: 0,
            set: false,
            panic: None,
            disagreement: None,
            first_message: None,
            first_exchange: None,
            numbered_at: None,
            labels: Labels::new(now.raw),
            rate,
            next_tick: now.raw + TICK,
            commands: VecDeque::new(),
            events: VecDeque::new(),
            config,
        };
        if rate != 0.0 {
            engine.commands.push_back(ClockCommand::SetRate(rate));
        }
        engine
    }

    /// A reading of the kernel's clocks, at least once per wake-up that carries kernel stamps.
    pub fn handle_bracket(&mut self, bracket: &Bracket) {
        if let Some(step) = self.base.observe(bracket) {
            self.events.push_back(Event::ForeignStep { by: step.seconds() });
        }
    }

    /// What a driver reported, with its counters. `bracket` was read when it came.
    pub fn handle_report(&mut self, source: usize, report: &Report, health: &Health, bracket: &Bracket, now: Now) {
        self.handle_bracket(bracket);
        let Some(s) = self.sources.get_mut(source) else { return };
        if health.rollover_repaired > 0 && s.health.rollover_repaired == 0 {
            self.events.push_back(Event::DateRepaired { source: s.config.name.clone() });
        }
        s.health = *health;
        match report {
            Report::State(state) => {
                s.device = Some(state.clone());
                let event =
                    Event::Device { source: s.config.name.clone(), phase: state.phase, reason: state.reason.clone() };
                self.events.push_back(event);
            }
            Report::Receiver(receiver) => s.receiver = Some(receiver.clone()),
            Report::Pulse(pulse) => {
                if let Some(raw) = self.raw(source, pulse.local, bracket) {
                    self.handle_pulse(source, raw, now);
                }
            }
            Report::Sample(sample) => {
                if let Some(raw) = self.raw(source, sample.local, bracket) {
                    self.handle_sample(source, raw, sample, now);
                }
            }
        }
    }

    /// A packet exchange with a server: true time was `tai` when the raw counter read `raw`.
    pub fn handle_exchange(&mut self, source: usize, m: Measurement, says: ServerSays, now: Now) {
        let Some(s) = self.sources.get_mut(source) else { return };
        s.says = says;
        s.last = Some(m.raw);
        let m = Measurement { raw: without_offset(m.raw, &s.config), ..m };
        s.push(m);
        self.first_exchange.get_or_insert(m.raw);
        self.select(now);
        self.feed(source, m, now);
        self.finish(now);
    }

    /// Reach and poll of a server, whether it answers or not.
    pub fn handle_reach(&mut self, source: usize, reach: u8, poll: i8) {
        if let Some(s) = self.sources.get_mut(source) {
            s.reach = reach;
            s.poll = poll;
        }
    }

    /// How a server stands, in the client's words, and what to do about it.
    pub fn handle_server_state(&mut self, source: usize, text: String, action: Option<String>) {
        if let Some(s) = self.sources.get_mut(source) {
            self.events.push_back(Event::Server { source: s.config.name.clone(), text: text.clone() });
            s.server_state = Some((text, action));
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        if now.raw >= self.next_tick {
            self.select(now);
            self.finish(now);
        }
    }

    /// When to call [`Engine::handle_timeout`].
    pub fn poll_timeout(&self) -> Timestamp<Raw> {
        self.next_tick
    }

    /// The next thing to do with the clock.
    pub fn poll_command(&mut self) -> Option<ClockCommand> {
        self.commands.pop_front()
    }

    /// The next thing to tell the operator.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The operator allows one step of whatever size.
    pub fn allow_step(&mut self) {
        self.updates = 0;
        self.set = false;
        self.panic = None;
    }

    /// True time at a raw instant as estimated, and the bound of that, s.
    pub fn estimate_at(&self, raw: Timestamp<Raw>) -> Option<(Timestamp<Tai>, f64)> {
        Some((self.estimator.tai_at(raw)?, self.bound(0.0).at(raw)))
    }

    /// What to remember for the next start.
    pub fn memory(&self, now: Now) -> Memory {
        let mut memory = Memory::default();
        if self.labels.has_been_locked || self.labels.state == State::Network {
            memory.last_utc = Some(self.config.utc.utc(now.clock).0);
            if let Some((_, e)) = self.estimator.estimate() {
                memory.set_frequency(e.frequency, e.frequency_variance.sqrt());
                memory.lg_wander = Some(self.estimator.bank().lg_wander());
            }
        }
        for s in &self.sources {
            if let Some(delay) = s.delay.filter(|d| s.config.delay.is_none() && d.is_settled()) {
                memory.set_delay(&s.config.name, delay.mean, delay.sd());
            }
        }
        memory
    }

    fn raw(&mut self, source: usize, stamp: LocalStamp, bracket: &Bracket) -> Option<Timestamp<Raw>> {
        let s = self.sources.get_mut(source)?;
        match self.base.raw(stamp, bracket) {
            Ok(raw) => Some(without_offset(raw, &s.config)),
            Err(_) => {
                s.health.stale += 1;
                None
            }
        }
    }

    fn handle_pulse(&mut self, source: usize, raw: Timestamp<Raw>, now: Now) {
        let rate = self.estimator.estimate().map_or(-self.rate, |(_, e)| e.frequency);
        let s = &mut self.sources[source];
        s.last = Some(raw);
        s.train.push(raw, rate);
        self.number(source, raw, now);
        let s = &mut self.sources[source];
        if let Numbering::Numbered { tai, .. } = s.numbering {
            let m = Measurement { raw, tai, delay: None };
            s.push(m);
            self.select(now);
            self.feed(source, m, now);
        } else {
            self.select(now);
        }
        self.finish(now);
    }

    fn handle_sample(&mut self, source: usize, raw: Timestamp<Raw>, sample: &Sample, now: Now) {
        let named = self.config.utc.tai(sample.reference, sample.second60);
        let s = &mut self.sources[source];
        s.last = Some(raw);
        if s.config.kind != SourceKind::Message {
            let m = Measurement { raw, tai: named, delay: None };
            s.push(m);
            self.select(now);
            self.feed(source, m, now);
            return self.finish(now);
        }
        self.first_message.get_or_insert(raw);
        let clock = self.clock_at(raw, CALIBRATING_CLOCK).filter(|_| !self.feeding.contains(&source));
        for pulse in 0..self.sources.len() {
            if self.sources[pulse].config.kind == SourceKind::Pulse
                && self.sources[pulse].config.lock.is_none_or(|lock| lock == source)
            {
                let train = self.sources[pulse].train.clone();
                self.sources[source].records[pulse].push(&train, raw, named);
            }
        }
        let s = &mut self.sources[source];
        if let Some(tai) = clock
            && s.config.delay.is_none()
        {
            let delay = (tai - named).seconds();
            // Whole seconds are another matter than a delay.
            if (-0.5..2.0).contains(&delay) {
                match &mut s.delay {
                    Some(learned) => learned.push(delay),
                    None => s.delay = Some(LearnedDelay::first(delay)),
                }
            }
        }
        let m = Measurement { raw: raw - Span::from_seconds(s.message_delay()), tai: named, delay: None };
        s.push(m);
        self.select(now);
        self.feed(source, m, now);
        self.finish(now);
    }

    /// The time our own clock gives, where it is known to within `bound` s.
    fn clock_at(&self, raw: Timestamp<Raw>, bound: f64) -> Option<Timestamp<Tai>> {
        let (tai, own) = self.estimate_at(raw)?;
        (own < bound && self.panic.is_none()).then_some(tai)
    }

    fn number(&mut self, pulse: usize, raw: Timestamp<Raw>, now: Now) {
        let clock = self.clock_at(raw, NUMBERING_CLOCK);
        let p = &self.sources[pulse];
        let lock = p.config.lock;
        let train = &p.train;
        let mut by = None;
        let mut best = Numbering::Nothing;
        for (i, s) in self.sources.iter().enumerate() {
            let may = s.config.kind == SourceKind::Message && s.is_fresh(now.raw) && lock.is_none_or(|l| l == i);
            let Some(record) = s.records.get(pulse).filter(|_| may) else { continue };
            let judged = record.judge(train, clock);
            let rank = |n: &Numbering| match n {
                Numbering::Nothing => 0,
                Numbering::Undecided(_) => 1,
                Numbering::Ambiguous(_) => 2,
                Numbering::Numbered { .. } => 3,
                Numbering::Contradicted { .. } => 4,
            };
            match (best, judged) {
                (Numbering::Numbered { tai: a, .. }, Numbering::Numbered { tai: b, .. }) if a != b => {
                    best = Numbering::Contradicted { seconds: b.whole_seconds() - a.whole_seconds() };
                    by = Some(i);
                }
                _ if rank(&judged) > rank(&best) => {
                    best = judged;
                    by = Some(i);
                }
                _ => {}
            }
        }
        if best == Numbering::Nothing
            && let Some(tai) = clock
        {
            best = Numbering::Numbered { tai: tai.round(), evidence: None };
        }
        self.note_numbering(pulse, best, by, now);
    }

    fn note_numbering(&mut self, pulse: usize, numbering: Numbering, by: Option<usize>, now: Now) {
        let was = matches!(self.sources[pulse].numbering, Numbering::Numbered { .. });
        match numbering {
            Numbering::Numbered { evidence, .. } if !was => {
                self.numbered_at.get_or_insert(now.raw);
                self.events.push_back(Event::Numbered {
                    pulse: self.sources[pulse].config.name.clone(),
                    messages: by.map(|i| self.sources[i].config.name.clone()),
                    delay: evidence.map(|e| e.delay),
                });
            }
            Numbering::Contradicted { .. } => {
                let since = *self.sources[pulse].contradicted_since.get_or_insert(now.raw);
                let young = self.numbered_at.is_none_or(|at| (now.raw - at).seconds() < YOUNG_NUMBER);
                let untrusted = self.labels.state == State::Unsynchronised;
                if (now.raw - since).seconds() > CONTRADICTION_PATIENCE && (young || untrusted) {
                    // The messages have changed their mind for good, and what we hold is no better.
                    self.estimator = Estimator::new(self.estimator_prior(), self.sources.len());
                    self.numbered_at = None;
                    self.feeding.clear();
                    self.fixed = f64::INFINITY;
                    self.allow_step();
                    for s in &mut self.sources {
                        s.recent.clear();
                        s.contradicted_since = None;
                    }
                }
            }
            _ => {}
        }
        let p = &mut self.sources[pulse];
        if !matches!(numbering, Numbering::Contradicted { .. }) {
            p.contradicted_since = None;
        }
        p.numbering = numbering;
        p.numbered_by = by;
    }

    fn estimator_prior(&self) -> Prior {
        let mut prior = Prior::default();
        if let Some((_, e)) = self.estimator.estimate() {
            prior.frequency = (e.frequency, (3.0 * e.frequency_variance.sqrt() + 1e-6).min(200e-6));
        }
        prior
    }

    /// Judges every source and decides which feed the clock.
    fn select(&mut self, now: Now) {
        let estimated = self.estimator.estimate().is_some();
        let rate_doubt = match self.estimator.estimate() {
            Some((_, e)) => 3.0 * e.frequency_variance.sqrt(),
            None => 200e-6,
        };
        let intervals: Vec<Option<Interval>> = {
            let line = |raw| self.line_at(raw);
            self.sources.iter().map(|s| s.interval(now.raw, rate_doubt, line)).collect()
        };
        let mut claims = Vec::new();
        for (i, s) in self.sources.iter().enumerate() {
            if let Some(interval) =
                intervals[i].filter(|_| s.is_fresh(now.raw) && !s.config.noselect && self.may_vote(i, now))
            {
                let (offset, width) = (interval.offset, interval.width);
                claims.push(Claim { source: i, offset, interval: width, trusted: s.config.trust });
            }
        }
        let own = estimated.then(|| (0.0, self.bound(0.0).at(now.raw))).filter(|own| own.1.is_finite());
        let outcome = select(&claims, own);
        let survivors: Vec<usize> =
            outcome.truechimers.iter().filter_map(|c| claims.get(*c)).map(|c| c.source).collect();
        self.disagreement = (outcome.agreed.is_none() && !claims.is_empty()).then_some(claims.len());
        self.choose_feeders(&survivors, &intervals, now);
        let agreed = outcome.agreed.map(|(low, high)| 0.5 * (low + high));
        let claimed: Vec<usize> = claims.iter().map(|c| c.source).collect();
        for (i, interval) in intervals.iter().enumerate() {
            let verdict = self.verdict(i, &survivors, &claimed, agreed, *interval, now);
            if matches!(verdict, Verdict::Falseticker { .. }) && self.sources[i].verdict == Verdict::Selected {
                self.estimator.leave_out(i);
            }
            let s = &mut self.sources[i];
            if std::mem::discriminant(&s.verdict) != std::mem::discriminant(&verdict) {
                let worth_telling = !matches!(verdict, Verdict::NoData | Verdict::TooFewSamples { .. });
                if worth_telling {
                    self.events.push_back(Event::Verdict { source: s.config.name.clone(), verdict: verdict.clone() });
                }
            }
            s.verdict = verdict;
        }
    }

    /// The common line that intervals are told against: the estimate, or the served clock while
    /// there is none.
    fn line_at(&self, raw: Timestamp<Raw>) -> Timestamp<Tai> {
        self.estimator.tai_at(raw).unwrap_or_else(|| self.started.clock + (raw - self.started.raw))
    }

    /// Messages that number a pulse of ours are one voice with it; servers speak once they have given
    /// a few samples, and the first few wait for each other.
    fn may_vote(&self, i: usize, now: Now) -> bool {
        if self.sources[i].config.kind == SourceKind::Network {
            let waited = self.first_exchange.map_or(0.0, |first| (now.raw - first).seconds());
            let mut servers = self.sources.iter().filter(|s| s.config.kind == SourceKind::Network);
            return self.sources[i].samples >= SERVER_SAMPLES
                && (waited > SERVER_PATIENCE || servers.all(|s| s.samples >= SERVER_SAMPLES));
        }
        !self.sources.iter().any(|p| p.numbered_by == Some(i) && matches!(p.numbering, Numbering::Numbered { .. }))
            || self.sources[i].config.kind != SourceKind::Message
    }

    fn choose_feeders(&mut self, survivors: &[usize], intervals: &[Option<Interval>], now: Now) {
        let fixed = |i: usize| {
            let preferred = if self.sources[i].config.prefer { 0.1 } else { 1.0 };
            intervals.get(i).copied().flatten().map_or(f64::INFINITY, |v| v.fixed * preferred)
        };
        let allowed: Vec<usize> = survivors.iter().copied().filter(|i| self.may_feed(*i, now)).collect();
        let best = allowed.iter().map(|i| fixed(*i)).fold(f64::INFINITY, f64::min);
        let own = if self.estimator.estimate().is_some() { self.bound(0.0).at(now.raw) } else { f64::INFINITY };
        // A source that knows less than our coasting clock waits until the clock knows as little.
        let feeding: Vec<usize> = allowed
            .into_iter()
            .filter(|i| fixed(*i) <= 2.0 * best + 1e-6)
            .filter(|i| fixed(*i) <= own || self.feeding.contains(i))
            .collect();
        if !feeding.is_empty() {
            self.feeding = feeding;
        } else {
            self.feeding.retain(|i| survivors.contains(i));
        }
    }

    /// Is this source one that may feed the clock at all now?
    fn may_feed(&self, i: usize, now: Now) -> bool {
        let s = &self.sources[i];
        if s.config.kind != SourceKind::Message || s.is_calibrated() {
            return true;
        }
        // A clock that has been locked is never fed by a message of unknown delay.
        !self.labels.has_been_locked && self.pulse_wait(now) <= 0.0
    }

    /// How much longer messages wait for the pulse configured beside them, s.
    fn pulse_wait(&self, now: Now) -> f64 {
        let expected = self.sources.iter().any(|s| {
            s.config.kind == SourceKind::Pulse
                && !s.config.noselect
                && s.device.as_ref().is_some_and(|d| {
                    !matches!(d.phase, refclocks::DevicePhase::Absent | refclocks::DevicePhase::Faulty)
                })
        });
        match self.first_message {
            Some(first) if expected => PULSE_PATIENCE - (now.raw - first).seconds(),
            _ => 0.0,
        }
    }

    fn verdict(
        &self,
        i: usize,
        survivors: &[usize],
        claimed: &[usize],
        agreed: Option<f64>,
        interval: Option<Interval>,
        now: Now,
    ) -> Verdict {
        let s = &self.sources[i];
        let by = |messages: Option<usize>| messages.map_or_else(String::new, |m| self.sources[m].config.name.clone());
        if s.config.noselect {
            return Verdict::NoSelect;
        }
        if s.config.kind == SourceKind::Pulse && s.last.is_some_and(|last| (now.raw - last).seconds() < 4.0) {
            match s.numbering {
                Numbering::Nothing => return Verdict::NothingNumbersIt,
                Numbering::Undecided(e) => {
                    let (have, delay_s, error_s) = (e.messages as u32, e.delay, e.error);
                    return Verdict::NumberingUndecided { messages: by(s.numbered_by), have, delay_s, error_s };
                }
                Numbering::Ambiguous(e) => {
                    let messages = by(s.numbered_by);
                    return Verdict::NumberingAmbiguous { messages, delay_s: e.delay, error_s: e.error };
                }
                Numbering::Contradicted { seconds } => {
                    return Verdict::NumberingContradicted { messages: by(s.numbered_by), seconds };
                }
                Numbering::Numbered { .. } => {}
            }
        }
        if s.config.kind == SourceKind::Network && s.samples == 0 && (now.raw - self.started.raw).seconds() < 10.0 {
            return Verdict::TooFewSamples { have: 0, need: SERVER_SAMPLES as u32 };
        }
        if !s.is_fresh(now.raw) {
            return if s.config.kind == SourceKind::Network { Verdict::Unreachable } else { Verdict::NoData };
        }
        if self.feeding.contains(&i) {
            return Verdict::Selected;
        }
        if let Some(p) = self.sources.iter().find(|p| p.numbered_by == Some(i)) {
            return Verdict::NamesTheSecond { pulse: p.config.name.clone() };
        }
        if s.config.kind == SourceKind::Network && !claimed.contains(&i) {
            return Verdict::TooFewSamples { have: s.samples.min(SERVER_SAMPLES) as u32, need: SERVER_SAMPLES as u32 };
        }
        let interval_s = interval.map_or(f64::INFINITY, |v| v.width);
        if claimed.contains(&i) && agreed.is_none() {
            return Verdict::NoMajority { sources: claimed.len() };
        }
        if claimed.contains(&i) && !survivors.contains(&i) {
            let offset_s = interval.map_or(0.0, |v| v.offset) - agreed.unwrap_or(0.0);
            return Verdict::Falseticker { offset_s, interval_s };
        }
        if !s.is_calibrated() && !self.may_feed(i, now) {
            return Verdict::DelayUnknown;
        }
        Verdict::Agrees { interval_s }
    }

    /// Lets one measurement into the estimate, if its source feeds it.
    fn feed(&mut self, source: usize, m: Measurement, now: Now) {
        if self.panic.is_some() || !self.feeding.contains(&source) {
            self.estimator.abandon_take_over(source);
            return;
        }
        let kind = self.sources[source].config.kind;
        let fixed = self.feeders_fixed(now);
        let far_better = self.estimator.estimate().is_some() && fixed < 0.25 * self.fixed;
        let took = if far_better && !self.estimator.knows(source) {
            // A better class of source starts the phase anew, and may set the clock right at once
            // if nobody has been told yet that it was locked.
            let took = self.estimator.take_over(source, m);
            if took && !self.labels.has_been_locked {
                self.updates = 0;
            }
            took
        } else if self.estimator.estimate().is_none() && kind == SourceKind::Network {
            // What it gave while it had no voice yet counts as well.
            let so_far: Vec<Measurement> = self.sources[source].recent.iter().copied().collect();
            so_far.into_iter().fold(false, |_, m| self.estimator.measure(source, m))
        } else {
            if far_better && self.fixed.is_finite() {
                // What fed the clock so far may have been wrong by its fixed part.
                self.estimator.doubt_phase(self.fixed * self.fixed);
            }
            self.estimator.measure(source, m)
        };
        if took {
            self.fixed = fixed;
            self.updates += 1;
            self.last_feed = Some((m.raw, kind));
        }
    }

    fn feeders_fixed(&self, now: Now) -> f64 {
        let line = |raw| self.line_at(raw);
        self.feeding
            .iter()
            .filter_map(|i| self.sources.get(*i)?.interval(now.raw, 0.0, line))
            .map(|v| v.fixed)
            .fold(f64::INFINITY, f64::min)
    }

    /// Steers the clock and labels the state: the end of every wake-up that changed anything.
    fn finish(&mut self, now: Now) {
        self.estimator.advance(now.raw);
        let now = self.steer(now);
        for s in &mut self.sources {
            if s.config.kind != SourceKind::Network {
                let seconds = s.last.map_or(u8::MAX.into(), |last| (now.raw - last).seconds().max(0.0)) as u32;
                // One bit a second, as if the reference clock were polled each second.
                let missing = seconds.min(8);
                s.reach = if missing >= 8 {
                    0
                } else {
                    s.reach.checked_shl(u32::from(missing > 0)).unwrap_or(0) | u8::from(missing == 0)
                };
            }
        }
        self.label(now);
        self.next_tick = now.raw + TICK;
    }

    /// Commands the clock. Returns the present as it is once the commands are carried out.
    fn steer(&mut self, mut now: Now) -> Now {
        let Some((_, estimate)) = self.estimator.estimate() else { return now };
        let Some(tai) = self.estimator.tai_at(now.raw) else { return now };
        let offset = (now.clock - tai).seconds();
        match decide(estimate, offset, self.updates, self.set, &self.config.step) {
            Move::Slew(rate) => {
                self.rate = rate;
                self.set = true;
                self.commands.push_back(ClockCommand::SetRate(rate));
            }
            Move::Step(by, rate) => {
                self.rate = rate;
                self.commands.push_back(ClockCommand::Step(Span::from_seconds(by)));
                self.commands.push_back(ClockCommand::SetRate(rate));
                self.events.push_back(Event::Stepped { offset });
                now.clock += Span::from_seconds(by);
            }
            Move::Panic => {
                if self.panic.is_none() {
                    self.events.push_back(Event::Panic { offset, limit: self.config.step.panic });
                }
                self.panic = Some(offset);
            }
        }
        now
    }

    /// The bound as a function of time. `offset` is what is known to be uncorrected, s.
    fn bound(&self, offset: f64) -> ErrorBound {
        let Some((at, e)) = self.estimator.estimate() else { return ErrorBound::UNKNOWN };
        // The first minutes after a start are over-confident: the noise is barely known.
        let n = self.estimator.bank().measurements() as f64;
        let factor = BOUND_FACTOR * (1.0 + 1.5 * libm::exp(-n / 50.0));
        ErrorBound {
            raw: at,
            fixed: self.fixed,
            residual: (offset.abs() - e.phase_variance.sqrt()).max(0.0),
            variance: self.estimator.bank().variance_ahead(),
            factor,
        }
    }

    fn label(&mut self, now: Now) {
        let offset = self.offset(now);
        let bound = self.bound(offset.unwrap_or(0.0)).at(now.raw);
        let name = |kind: SourceKind| {
            let of = |i: &usize| self.sources.get(*i).filter(|s| s.config.kind == kind).map(|s| s.config.name.clone());
            self.feeding.iter().find_map(of)
        };
        let live = |kind: SourceKind| {
            let s = self
                .sources
                .iter()
                .find(|s| s.config.kind == kind && s.last.is_some_and(|l| (now.raw - l).seconds() < 4.0));
            s.map(|s| s.config.name.clone())
        };
        let jitter = self.feeding.iter().filter_map(|i| self.estimator.jitter(*i)).fold(f64::INFINITY, f64::min);
        let facts = Facts {
            now: now.raw,
            bound,
            jitter,
            since_feed: self.last_feed.map(|(at, kind)| ((now.raw - at).seconds(), kind)),
            network_patience: 3.5
                * self
                    .feeding
                    .iter()
                    .filter_map(|i| self.sources.get(*i))
                    .map(|s| libm::exp2(f64::from(s.poll.max(3))))
                    .fold(8.0, f64::max),
            pulse: name(SourceKind::Pulse).or_else(|| name(SourceKind::NumberedPulse)),
            message: name(SourceKind::Message),
            calibrated: self.feeding.iter().all(|i| self.sources.get(*i).is_some_and(Source::is_calibrated)),
            servers: self.feeding.iter().filter(|i| self.sources[**i].config.kind == SourceKind::Network).count(),
            any_source: !self.sources.is_empty(),
            live_pulse: live(SourceKind::Pulse),
            live_message: live(SourceKind::Message),
            pulse_wait: self.pulse_wait(now),
            budget: self.config.holdover_budget,
            would_last: self.would_last(now),
            local: self.config.local_stratum.is_some(),
            panic: self.panic.map(|offset| (offset, self.config.step.panic)),
            disagreement: self.disagreement,
        };
        if let Some(event) = self.labels.update(&facts) {
            self.events.push_back(event);
        }
    }

    /// Best estimate of clock - true time, s.
    fn offset(&self, now: Now) -> Option<f64> {
        self.estimator.tai_at(now.raw).map(|tai| (now.clock - tai).seconds())
    }

    /// Seconds until a clock without reference reaches the holdover budget.
    fn would_last(&self, now: Now) -> Option<f64> {
        let bound = self.bound(0.0);
        let at = |t: f64| bound.at(now.raw + Span::from_seconds(t));
        let budget = self.config.holdover_budget;
        if !at(0.0).is_finite() {
            return None;
        }
        if at(0.0) >= budget {
            return Some(0.0);
        }
        let (mut low, mut high) = (0.0, 30.0 * 86_400.0);
        if at(high) < budget {
            return Some(high);
        }
        for _ in 0..40 {
            let middle = 0.5 * (low + high);
            if at(middle) < budget { low = middle } else { high = middle }
        }
        Some(low)
    }

    /// Everything a reader may want to know. Call after the commands were applied, with a fresh `now`.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let estimated = self.estimator.estimate();
        let offset = self.offset(now);
        let bound = self.bound(offset.unwrap_or(0.0));
        let rate_doubt = estimated.map_or(200e-6, |(_, e)| 3.0 * e.frequency_variance.sqrt());
        let line = |raw| self.line_at(raw);
        let sources: Arc<[_]> = self.sources.iter().map(|s| s.report(s.interval(now.raw, rate_doubt, line))).collect();
        let feeder = self.feeding.first().and_then(|i| self.sources.get(*i));
        let reference_time: Option<Timestamp<Utc>> = self.last_feed.map(|(at, _)| {
            let since = now.raw - at;
            self.config.utc.utc(now.clock - since).0
        });
        let system =
            self.labels.system(feeder, self.config.local_stratum, reference_time, self.config.utc.indicator(now.clock));
        Snapshot {
            at: now.raw,
            valid_until: now.raw + VALID_FOR,
            started: self.started.raw,
            clock: ClockReading { raw: now.raw, tai: now.clock, rate: self.rate },
            utc: self.config.utc,
            bound,
            system,
            state: self.labels.state,
            state_since: self.labels.since,
            previous_state: self.labels.previous,
            reason: self.reason(),
            offset,
            frequency: estimated.map(|(_, e)| Frequency(e.frequency)),
            frequency_sd: estimated.map_or(f64::INFINITY, |(_, e)| e.frequency_variance.sqrt()),
            holdover_budget: self.config.holdover_budget,
            would_last_s: self.would_last(now),
            sources,
        }
    }

    fn reason(&self) -> StateReason {
        self.labels.reason.clone()
    }
}
