//! The engine: reports in, clock commands, events and snapshots out.
//!
//! The order of calls: any number of `handle_*`, then `poll_command` and `poll_event` until they give
//! nothing, then [`Engine::snapshot`], then sleep until `poll_timeout` or the next input. `now` must
//! not go backwards.

mod by_hand;
mod choosing;
mod coasting;
mod coming;
mod dating;
mod edges;
mod finishing;
mod jumps;
mod leaping;
mod numbering;
mod refusing;
mod servers;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use refclocks::sys::clock::Bracket;
use refclocks::time::{Frequency, Raw, Span, Tai, Timestamp, Utc};
use refclocks::{DevicePhase, Health, LocalStamp, Report};

use self::jumps::Astray;
use crate::core::bank::Prior;
use crate::core::by_hand::Settings;
use crate::core::estimator::Estimator;
use crate::core::event::Event;
use crate::core::holdover::HorizonRecord;
use crate::core::labels::{Labels, Reference};
use crate::core::last_good::LastGood;
use crate::core::leap::UtcMap;
use crate::core::local::{LocalPolicy, LocalReference};
use crate::core::measurement::SourceId;
use crate::core::memory::{Memory, is_a_date};
use crate::core::snapshot::{ClockKind, ClockReading, CrystalTemperature, Snapshot, SourceKind};
use crate::core::source::{Source, SourceConfig, without_offset};
use crate::core::state::{State, StateReason};
use crate::core::steering::{StepPolicy, WORST_CRYSTAL};
use crate::core::timebase::{OLDEST, TimeBase};
use crate::core::verdict::Verdict;

/// How long a snapshot vouches for the clock without a new one.
const VALID_FOR: Span = Span::from_millis(4000);
/// The engine looks at the clock at least this often.
const TICK: Span = Span::from_millis(1050);

/// The present, read once per wake-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Now {
    /// The raw counter.
    pub raw: Timestamp<Raw>,
    /// What the served clock reads there.
    pub clock: Timestamp<Tai>,
    /// How much faster than the raw counter it runs, s/s.
    pub rate: f64,
}

/// How the engine is set up.
#[derive(Clone, Debug, Default)]
pub struct EngineConfig {
    /// The sources to begin with, numbered from 0 in this order.
    pub sources: Vec<SourceConfig>,
    /// When to step.
    pub step: StepPolicy,
    /// The bound at which a coasting clock stops being stratum 1, s.
    pub holdover_budget: f64,
    /// Serve the undisciplined clock when all else is gone.
    pub local: Option<LocalPolicy>,
    /// TAI and UTC.
    pub utc: UtcMap,
    /// Until when the table of leap seconds behind it tells of all there are; `None` without a table.
    pub table_until: Option<Timestamp<Utc>>,
    /// Is it CLOCK_REALTIME that we steer, so that a step of it by somebody else is to be taken back?
    /// Whoever closes the loop around a clock sets it.
    pub steers_realtime: bool,
}

impl EngineConfig {
    /// A time base that has seen nothing.
    fn time_base(&self) -> TimeBase {
        TimeBase::new(self.steers_realtime.then_some(self.step.max_slew))
    }
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
    sources: BTreeMap<SourceId, Source>,
    next_source: SourceId,
    /// What the last life learned, and what sources that have left did.
    remembered: Memory,
    last_good: LastGood,
    estimator: Estimator,
    /// Sources that feed the estimate, and the half-width that averaging them does not remove, s.
    feeding: Vec<SourceId>,
    fixed: f64,
    /// How much of that is only there if ways there and back take unequally long, s.
    path: f64,
    last_feed: Option<(Timestamp<Raw>, SourceKind)>,
    /// How far our clock goes when nothing feeds it.
    record: HorizonRecord,
    /// What the estimate rests on since it was started from nothing.
    updates: u64,
    set: bool,
    panic: Option<f64>,
    /// The operator wants the offset stepped away; and by how much we stepped the clock last, s.
    step_asked: bool,
    stepped_by: f64,
    /// What the operator has set by hand.
    settings: Settings,
    /// Somebody else stepped the clock, and that is to be taken back.
    take_back: bool,
    /// When somebody else last moved the system clock.
    rival_seen: Option<Timestamp<Raw>>,
    disagreement: Option<usize>,
    /// How far the estimate lies outside what the sources agree on, s.
    against_the_agreed: f64,
    /// A source that feeds the clock and is far from it.
    astray: Option<Astray>,
    /// Pulses that came late, or that tell of a jump, one after the other.
    late: Option<Astray>,
    first_message: Option<Timestamp<Raw>>,
    first_exchange: Option<Timestamp<Raw>>,
    numbered_at: Option<Timestamp<Raw>>,
    /// Who announced the leap second to come, unless a table did.
    leap_by: Vec<String>,
    labels: Labels,
    /// Whose time the clock has, or had last.
    reference: Option<Reference>,
    local: LocalReference,
    rate: f64,
    next_tick: Timestamp<Raw>,
    commands: VecDeque<ClockCommand>,
    /// Servers that ought to be polled at another interval, log2 s.
    wanted_polls: VecDeque<(SourceId, i8)>,
    events: VecDeque<Event>,
}

impl Engine {
    /// An engine that has seen nothing but what it remembers from its last life.
    pub fn new(mut config: EngineConfig, memory: &Memory, now: Now) -> Self {
        let mut prior = Prior::default();
        if let Some(frequency) = memory.frequency {
            prior.frequency = (frequency.value, frequency.sd.clamp(1e-7, 200e-6));
        }
        if let Some(lg_wander) = memory.lg_wander {
            prior.wander = (lg_wander, 0.7);
        }
        let rate = memory.frequency.map_or(now.rate, |f| -f.value);
        let sources = std::mem::take(&mut config.sources);
        let mut engine = Self {
            estimator: Estimator::new(prior),
            started: now,
            base: config.time_base(),
            sources: BTreeMap::new(),
            next_source: 0,
            remembered: memory.clone(),
            last_good: LastGood::new(memory.last_utc.map(|last| config.utc.tai(last, false))),
            feeding: Vec::new(),
            fixed: f64::INFINITY,
            path: 0.0,
            last_feed: None,
            record: HorizonRecord::new(memory.growth),
            updates: 0,
            set: false,
            panic: None,
            step_asked: false,
            stepped_by: 0.0,
            settings: Settings::default(),
            take_back: false,
            rival_seen: None,
            disagreement: None,
            against_the_agreed: 0.0,
            astray: None,
            late: None,
            first_message: None,
            first_exchange: None,
            numbered_at: None,
            leap_by: Vec::new(),
            labels: Labels::new(now.raw),
            reference: None,
            local: LocalReference::new(config.local),
            rate,
            next_tick: now.raw + TICK,
            commands: VecDeque::new(),
            wanted_polls: VecDeque::new(),
            events: VecDeque::new(),
            config,
        };
        for source in sources {
            engine.add_source(source);
        }
        if rate != now.rate {
            engine.commands.push_back(ClockCommand::SetRate(rate));
        }
        engine
    }

    /// A reading of the kernel's clocks, at least once per wake-up that carries kernel stamps.
    pub fn handle_bracket(&mut self, bracket: &Bracket) {
        let Some(step) = self.base.observe(bracket) else { return };
        if self.is_leap(step, bracket) {
            return;
        }
        self.events.push_back(Event::ForeignStep { by: step.seconds(), taken_back: self.config.steers_realtime });
        self.rival_seen = Some(bracket.raw_after);
        self.take_back = self.config.steers_realtime;
    }

    /// Another clock is steered from now on. One that was only watched stands where it may: it is set as
    /// at a start.
    pub fn handle_clock(&mut self, from: ClockKind, to: ClockKind) {
        self.config.steers_realtime = to == ClockKind::System;
        self.base.steer(self.config.steers_realtime.then_some(self.config.step.max_slew));
        self.take_back = false;
        if from == ClockKind::Watched {
            self.allow_step();
        }
    }

    /// We stepped CLOCK_REALTIME ourselves.
    pub fn handle_own_step(&mut self, by: Span, raw: Timestamp<Raw>) {
        self.base.stepped(by, raw);
    }

    /// Somebody else changed the clock's rate, s/s; ours is set again.
    pub fn handle_foreign_rate(&mut self, found: f64, ours: f64, raw: Timestamp<Raw>) {
        self.events.push_back(Event::ForeignRate { found, ours });
        self.rival_seen = Some(raw);
    }

    /// The kernel inserts or leaves out a second of CLOCK_REALTIME by itself.
    fn is_leap(&self, step: Span, bracket: &Bracket) -> bool {
        let Some(leap) = self.config.utc.next else { return false };
        let expected = Span::from_whole_seconds(-i64::from(leap.change));
        let utc: Timestamp<Utc> = bracket.realtime.reinterpret();
        (step - expected).abs() < Span::from_millis(10) && (utc - leap.at).abs() < Span::from_whole_seconds(10)
    }

    /// What a driver reported, with its counters. `bracket` was read when it came.
    pub fn handle_report(&mut self, source: SourceId, report: &Report, health: &Health, bracket: &Bracket, now: Now) {
        // A remark is for the log alone, and recorded by nobody: it decides nothing, nor does when it came.
        if !matches!(report, Report::Remark(_)) {
            self.handle_bracket(bracket);
        }
        let Some(s) = self.sources.get_mut(&source) else { return };
        if health.rollover_repaired > 0 && s.health.rollover_repaired == 0 {
            self.events.push_back(Event::DateRepaired { source: s.config.name.clone() });
        }
        s.health = *health;
        match report {
            Report::State(state) => {
                if matches!(state.phase, DevicePhase::Absent | DevicePhase::Opening) {
                    // The next one may be another, that knows the day.
                    s.forget_repair();
                }
                s.device = Some(state.clone());
                let event =
                    Event::Device { source: s.config.name.clone(), phase: state.phase, reason: state.reason.clone() };
                self.events.push_back(event);
            }
            Report::Receiver(receiver) => s.receiver = Some((**receiver).clone()),
            Report::Remark(remark) => {
                let (source, remark) = (s.config.name.clone(), remark.clone());
                self.events.push_back(Event::Remark { source, remark });
            }
            Report::Sawtooth(sawtooth) => {
                if let Some(raw) = self.raw(source, sawtooth.local, bracket) {
                    self.handle_sawtooth(source, raw, sawtooth);
                }
            }
            Report::Pulse(pulse) => {
                if let Some(raw) = self.raw(source, pulse.local, bracket) {
                    self.handle_pulse(source, raw, pulse.edge, now);
                }
            }
            Report::Sample(sample) if !is_a_date(sample.reference) => s.health.malformed += 1,
            Report::Sample(sample) => {
                if let Some(raw) = self.raw(source, sample.local, bracket) {
                    self.handle_sample(source, raw, sample, now);
                }
            }
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

    /// The next server that ought to be polled at another interval, log2 s.
    pub fn poll_wanted_poll(&mut self) -> Option<(SourceId, i8)> {
        self.wanted_polls.pop_front()
    }

    /// The next thing to tell the operator.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The operator wants something else than before. What was learned and what is served stay.
    pub fn configure(&mut self, step: StepPolicy, holdover_budget: f64, local: Option<LocalPolicy>) {
        self.config.step = step;
        self.config.holdover_budget = holdover_budget;
        self.local.configure(local);
    }

    /// Is the clock further off than it may be moved, so that it is left alone? How far, s.
    pub fn panic(&self) -> Option<f64> {
        self.panic
    }

    /// TAI and UTC around now.
    pub fn utc(&self) -> UtcMap {
        self.config.utc
    }

    /// What is thought of a source.
    pub fn verdict_of(&self, source: SourceId) -> Option<&Verdict> {
        self.sources.get(&source).map(|s| &s.verdict)
    }

    /// The operator allows one step of whatever size.
    pub fn allow_step(&mut self) {
        self.updates = 0;
        self.set = false;
        self.panic = None;
    }

    /// True time at a raw instant as estimated, and the bound of that, s.
    pub fn estimate_at(&self, raw: Timestamp<Raw>) -> Option<(Timestamp<Tai>, f64)> {
        Some((self.estimator.tai_at(raw)?, self.bound(0.0).distance(raw)))
    }

    /// The rate at which our crystal's error alone is corrected, s/s; `None` while it is not known.
    pub fn free_rate(&self) -> Option<f64> {
        self.estimator.estimate().map(|(_, e)| -e.frequency)
    }

    /// The latest present that the engine was told of.
    pub fn last_seen(&self) -> Timestamp<Raw> {
        self.next_tick - TICK
    }

    /// What to remember for the next start.
    pub fn memory(&self, now: Now) -> Memory {
        let mut memory = self.remembered.clone();
        let checked = self.labels.state == State::Network && self.reference.is_some_and(|r| !r.orphan);
        if self.labels.has_been_locked || checked || self.is_by_hand() {
            memory.last_utc = Some(self.config.utc.utc(now.clock).0).filter(|at| is_a_date(*at));
            if let Some((_, e)) = self.estimator.estimate() {
                if e.frequency.abs() <= WORST_CRYSTAL {
                    memory.set_frequency(e.frequency, e.frequency_variance.sqrt().min(WORST_CRYSTAL));
                }
                memory.lg_wander = Some(self.estimator.bank().lg_wander());
                memory.growth = Some(self.record.growth());
            }
        }
        for (id, s) in &self.sources {
            if let Some(delay) = s.learned_delay() {
                memory.set_delay(&s.config.name, delay.mean, delay.sd());
            }
            if s.delays.total() > 0 {
                memory.set_histogram(&s.config.name, &s.delays);
            }
            if let Some(noise) = self.estimator.known_noise(*id) {
                memory.set_noise(&s.config.name, noise);
            }
        }
        memory
    }

    fn raw(&mut self, source: SourceId, stamp: LocalStamp, bracket: &Bracket) -> Option<Timestamp<Raw>> {
        let s = self.sources.get_mut(&source)?;
        match self.base.raw(stamp, bracket) {
            // What was told before, or is told late, tells nothing. Further back it is the counter itself
            // that has gone back.
            Ok(raw) => {
                let raw = without_offset(raw, &s.config);
                let is_news = s.last.is_none_or(|last| raw > last || last - raw > OLDEST);
                s.health.stale += u64::from(!is_news);
                is_news.then_some(raw)
            }
            Err(_) => {
                s.health.stale += 1;
                None
            }
        }
    }

    /// Everything a reader may want to know. Call after the commands were applied, with a fresh `now`.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let estimated = self.estimator.estimate();
        let offset = self.offset(now);
        let bound = self.bound(offset.unwrap_or(0.0));
        let rate_doubt = estimated.map_or(200e-6, |(_, e)| 3.0 * e.frequency_variance.sqrt());
        let line = |raw| self.line_at(raw);
        let sources: Arc<[_]> = self
            .sources
            .values()
            .map(|s| s.report(s.interval(now.raw, rate_doubt, self.poor_fix(s), line), now.raw))
            .collect();
        let reference_time: Option<Timestamp<Utc>> = self.last_feed.map(|(at, _)| {
            let since = now.raw - at;
            self.config.utc.utc(now.clock - since).0
        });
        // A clock that is its own reference is always up to date.
        let reference_time = match self.labels.state {
            State::Local => Some(self.config.utc.utc(now.clock).0),
            _ => reference_time,
        };
        let system = self.labels.system(
            self.reference,
            self.local.policy(),
            reference_time,
            self.config.utc.indicator(now.clock),
        );
        Snapshot {
            at: now.raw,
            valid_until: now.raw + VALID_FOR,
            asleep: Span::ZERO,
            started: self.started.raw,
            clock: ClockReading { raw: now.raw, tai: now.clock, rate: now.rate },
            clock_kind: ClockKind::default(),
            clock_refusal: None,
            leap_left: None,
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
            temperature: self
                .record
                .temperature(now.raw)
                .map(|celsius| CrystalTemperature { celsius, coefficient: self.record.compensation() }),
            holdover_budget: self.config.holdover_budget,
            would_last_s: self.bound(0.0).lasts(now.raw, self.config.holdover_budget),
            rival_seen: self.rival_seen,
            sources,
        }
    }

    fn reason(&self) -> StateReason {
        self.labels.reason.clone()
    }
}
