//! A clock and the engine that disciplines it: the loop, closed.

use std::collections::VecDeque;

use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Span, Tai, Timestamp};
use refclocks::{Health, LeapIndicator, Report};
use thiserror::Error;

use super::{Announcement, Clock};
use crate::core::by_hand::Outcome;
use crate::core::engine::{ClockCommand, Engine, EngineConfig, Now};
use crate::core::event::Event;
use crate::core::leap::UtcMap;
use crate::core::local::LocalPolicy;
use crate::core::measurement::{Measurement, SourceId};
use crate::core::memory::Memory;
use crate::core::snapshot::{ClockKind, ClockRefusal, Snapshot};
use crate::core::source::{ServerSays, SourceConfig};
use crate::core::state::State;
use crate::core::steering::StepPolicy;
use crate::core::verdict::Verdict;
use crate::recording::call::Call;
use crate::recording::write::Tape;
use crate::recording::{Line, digest};

/// Why the operator's command did not move the clock.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unmoved {
    /// Nobody steers it.
    #[error("the clock is only watched")]
    Watched,
    /// The system refused.
    #[error("{0}")]
    Refused(String),
}

/// The loop. Every input settles at once: commands are applied before the call returns.
pub struct DisciplinedClock {
    engine: Engine,
    clock: Box<dyn Clock>,
    /// What was last told of it: which clock it is, and why the system's cannot be set.
    kind: ClockKind,
    refusal: Option<ClockRefusal>,
    events: VecDeque<Event>,
    /// Where all that comes is recorded.
    tape: Option<Tape>,
}

impl DisciplinedClock {
    /// Closes the loop around a clock; `raw` is now.
    pub fn new(mut config: EngineConfig, memory: &Memory, clock: Box<dyn Clock>, raw: Timestamp<Raw>) -> Self {
        let now = Now { raw, clock: clock.read(raw), rate: clock.rate() };
        let kind = clock.kind();
        config.steers_realtime = kind == ClockKind::System;
        let engine = Engine::new(config, memory, now);
        let mut disciplined = Self { engine, clock, kind, refusal: None, events: VecDeque::new(), tape: None };
        disciplined.settle(raw);
        disciplined
    }

    /// Records all that comes from now on. It can be replayed if nothing has come yet and the clock is one
    /// of our own: what the system's reads is not ours to say.
    pub fn record_to(&mut self, tape: Tape) {
        self.tape = Some(tape);
    }

    fn note(&self, call: impl FnOnce() -> Call) {
        if let Some(tape) = &self.tape {
            tape.note(Line::Call(Box::new(call())));
        }
    }

    /// Records what was decided.
    pub fn note_decision(&self, snapshot: &Snapshot) {
        if let Some(tape) = &self.tape {
            tape.note(Line::Decided { at: snapshot.at, digest: digest(snapshot) });
        }
    }

    /// A source has come; see [`Engine::add_source`].
    pub fn add_source(&mut self, config: SourceConfig) -> SourceId {
        self.note(|| Call::AddSource(config.clone()));
        self.engine.add_source(config)
    }

    /// A source has left; see [`Engine::remove_source`].
    pub fn remove_source(&mut self, id: SourceId) {
        self.note(|| Call::RemoveSource(id));
        self.engine.remove_source(id);
    }

    /// The operator says something else of a source; see [`Engine::configure_source`].
    pub fn configure_source(&mut self, id: SourceId, config: SourceConfig) {
        self.note(|| Call::ConfigureSource(id, config.clone()));
        self.engine.configure_source(id, config);
    }

    /// What a driver reported; see [`Engine::handle_report`].
    pub fn handle_report(&mut self, source: SourceId, report: &Report, health: &Health, bracket: &Bracket) {
        // A remark is for the log alone.
        if !matches!(report, Report::Remark(_)) {
            self.note(|| Call::Report { source, report: report.clone(), health: *health, at: *bracket });
        }
        let raw = bracket.raw_after;
        self.engine.handle_report(source, report, health, bracket, self.now(raw));
        self.settle(raw);
    }

    /// A packet exchange; see [`Engine::handle_exchange`].
    pub fn handle_exchange(&mut self, source: SourceId, m: Measurement, says: ServerSays, raw: Timestamp<Raw>) {
        self.note(|| Call::Exchange { source, measurement: m, says, at: raw });
        self.engine.handle_exchange(source, m, says, self.now(raw));
        self.settle(raw);
    }

    /// Reach and poll of a server; see [`Engine::handle_reach`].
    pub fn handle_reach(&mut self, source: SourceId, reach: u8, poll: i8) {
        self.note(|| Call::Reach { source, reach, poll });
        self.engine.handle_reach(source, reach, poll);
    }

    /// How a server stands; see [`Engine::handle_server_state`].
    pub fn handle_server_state(&mut self, source: SourceId, text: String, action: Option<String>) {
        self.note(|| Call::ServerState { source, text: text.clone(), action: action.clone() });
        self.engine.handle_server_state(source, text, action);
    }

    /// The machine slept for so long, its raw counter with it; `raw` is now. The kernel has set the
    /// system clock on by itself.
    pub fn handle_sleep(&mut self, slept: Span, raw: Timestamp<Raw>) {
        self.note(|| Call::Sleep { slept, at: raw });
        if self.clock.kind() == ClockKind::Own {
            self.clock.apply(raw, ClockCommand::Step(slept));
        }
        self.engine.handle_sleep(slept, self.now(raw));
        self.settle(raw);
    }

    /// The operator has taken a server offline, or brought it back; see [`Engine::handle_offline`].
    pub fn handle_offline(&mut self, source: SourceId, offline: bool, raw: Timestamp<Raw>) {
        self.note(|| Call::Offline { source, offline, at: raw });
        self.engine.handle_offline(source, offline, self.now(raw));
        self.settle(raw);
    }

    /// The thermometer beside our crystal reads so many degrees Celsius; see
    /// [`Engine::handle_temperature`].
    pub fn handle_temperature(&mut self, celsius: f64, raw: Timestamp<Raw>) {
        self.note(|| Call::Temperature { celsius, at: raw });
        self.engine.handle_temperature(celsius, self.now(raw));
    }

    /// The operator wants the offset stepped away; see [`Engine::handle_step`].
    ///
    /// # Errors
    ///
    /// [`Unmoved`], if the clock is not ours to step.
    pub fn handle_step(&mut self, raw: Timestamp<Raw>) -> Result<Option<(f64, bool)>, Unmoved> {
        self.note(|| Call::Step(raw));
        self.is_steered()?;
        let stepped = self.engine.handle_step(self.now(raw));
        self.settle_at_once(raw)?;
        Ok(stepped)
    }

    /// The operator says that it is `tai` now; see [`Engine::handle_set`].
    ///
    /// # Errors
    ///
    /// [`Unmoved`], if the clock is not ours to set.
    pub fn handle_set(&mut self, tai: Timestamp<Tai>, raw: Timestamp<Raw>) -> Result<Outcome, Unmoved> {
        self.note(|| Call::Set { tai, at: raw });
        self.is_steered()?;
        let outcome = self.engine.handle_set(tai, self.now(raw));
        self.settle_at_once(raw)?;
        Ok(outcome)
    }

    fn is_steered(&self) -> Result<(), Unmoved> {
        if self.clock.kind() == ClockKind::Watched { Err(Unmoved::Watched) } else { Ok(()) }
    }

    /// Carries out what is to be done, and tells if the system refuses it.
    fn settle_at_once(&mut self, raw: Timestamp<Raw>) -> Result<(), Unmoved> {
        let before = self.refusal.take();
        self.settle(raw);
        let refused = self.refusal.clone().map(|refusal| Unmoved::Refused(refusal.to_string()));
        self.refusal = self.refusal.take().or(before);
        refused.map_or(Ok(()), Err)
    }

    /// The operator wants something else than before; see [`Engine::configure`].
    pub fn configure(&mut self, step: StepPolicy, holdover_budget: f64, local: Option<LocalPolicy>) {
        self.note(|| Call::Configure { step, holdover_budget, local });
        self.engine.configure(step, holdover_budget, local);
    }

    /// How far the clock is off, s, if that is further than it may be moved; see [`Engine::panic`].
    pub fn panic(&self) -> Option<f64> {
        self.engine.panic()
    }

    /// TAI and UTC around now.
    pub fn utc(&self) -> UtcMap {
        self.engine.utc()
    }

    /// What is thought of a source.
    pub fn verdict_of(&self, source: SourceId) -> Option<&Verdict> {
        self.engine.verdict_of(source)
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, bracket: &Bracket) {
        self.note(|| Call::Timeout(*bracket));
        self.engine.handle_bracket(bracket);
        self.engine.handle_timeout(self.now(bracket.raw_after));
        self.settle(bracket.raw_after);
    }

    /// When to call [`DisciplinedClock::handle_timeout`].
    pub fn poll_timeout(&self) -> Timestamp<Raw> {
        let engine = self.engine.poll_timeout();
        self.clock.poll_timeout().map_or(engine, |clock| clock.min(engine))
    }

    /// The next server that ought to be polled at another interval; see [`Engine::poll_wanted_poll`].
    pub fn poll_wanted_poll(&mut self) -> Option<(SourceId, i8)> {
        self.engine.poll_wanted_poll()
    }

    /// The next thing to tell the operator.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| self.engine.poll_event())
    }

    /// Tells the rest of the machine how good the clock is, as of a snapshot.
    pub fn announce(&mut self, snapshot: &Snapshot) {
        let system = snapshot.system_at(snapshot.at);
        let announcement = Announcement {
            synchronised: system.stratum < 16 && snapshot.state != State::Local,
            max_error: snapshot.distance_at(snapshot.at),
            estimated_error: snapshot.bound.probable(snapshot.at),
            utc: snapshot.utc,
            leap_today: match system.leap {
                LeapIndicator::Insert => 1,
                LeapIndicator::Delete => -1,
                LeapIndicator::None | LeapIndicator::Unsynchronised => 0,
            },
        };
        self.clock.announce(snapshot.at, &announcement);
        self.look_at_clock(snapshot.at);
    }

    /// Leaves the clock to itself: what is left of a slew is given up, the crystal's error stays
    /// corrected.
    pub fn leave(&mut self) {
        if let Some(rate) = self.engine.free_rate() {
            self.clock.leave(self.engine.last_seen(), rate);
        }
    }

    /// The present by this clock.
    pub fn now(&self, raw: Timestamp<Raw>) -> Now {
        Now { raw, clock: self.clock.read(raw), rate: self.clock.rate() }
    }

    /// Everything a reader may want to know.
    pub fn snapshot(&self, raw: Timestamp<Raw>) -> Snapshot {
        let snapshot = self.engine.snapshot(self.now(raw));
        Snapshot {
            clock_kind: self.clock.kind(),
            clock_refusal: self.refusal.clone(),
            leap_left: self.clock.leap_left(raw).map(Span::seconds),
            ..snapshot
        }
    }

    /// What to remember for the next start.
    pub fn memory(&self, raw: Timestamp<Raw>) -> Memory {
        self.engine.memory(self.now(raw))
    }

    fn settle(&mut self, raw: Timestamp<Raw>) {
        self.clock.handle_timeout(raw);
        self.look_at_clock(raw);
        while let Some(command) = self.engine.poll_command() {
            self.clock.apply(raw, command);
            if let ClockCommand::Step(by) = command
                && self.clock.kind() == ClockKind::System
            {
                self.engine.handle_own_step(by, raw);
            }
        }
        if let Some(hand) = self.clock.foreign_hand() {
            self.engine.handle_foreign_rate(hand.found, hand.ours, raw);
        }
        self.look_at_clock(raw);
    }

    /// Sees whether it is still the same clock that is steered, and may be.
    fn look_at_clock(&mut self, raw: Timestamp<Raw>) {
        let kind = self.clock.kind();
        let before = std::mem::replace(&mut self.kind, kind);
        if before != kind {
            self.engine.handle_clock(before, kind);
        }
        let retaken = self.clock.retaken();
        if let Some(by) = retaken {
            self.engine.handle_own_step(by, raw);
        }
        let refusal = self.clock.refusal().cloned();
        if refusal != self.refusal {
            self.events.push_back(match &refusal {
                Some(refusal) => Event::ClockRefused(refusal.clone()),
                None => Event::ClockTaken { stepped: retaken.map(Span::seconds) },
            });
            self.refusal = refusal;
        }
    }
}
