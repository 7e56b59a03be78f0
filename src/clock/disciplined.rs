//! A clock and the engine that disciplines it: the loop, closed.

use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Timestamp};
use refclocks::{Health, Report};

use super::Clock;
use crate::core::engine::{Engine, EngineConfig, Now};
use crate::core::estimator::Measurement;
use crate::core::event::Event;
use crate::core::memory::Memory;
use crate::core::snapshot::Snapshot;
use crate::core::source::ServerSays;

/// The loop. Every input settles at once: commands are applied before the call returns.
pub struct DisciplinedClock {
    engine: Engine,
    clock: Box<dyn Clock>,
    refusal: Option<String>,
}

impl DisciplinedClock {
    /// Closes the loop around a clock; `raw` is now.
    pub fn new(config: EngineConfig, memory: &Memory, clock: Box<dyn Clock>, raw: Timestamp<Raw>) -> Self {
        let now = Now { raw, clock: clock.read(raw) };
        let mut disciplined = Self { engine: Engine::new(config, memory, now), clock, refusal: None };
        disciplined.settle(raw);
        disciplined
    }

    /// What a driver reported; see [`Engine::handle_report`].
    pub fn handle_report(&mut self, source: usize, report: &Report, health: &Health, bracket: &Bracket) {
        let raw = bracket.raw_after;
        self.engine.handle_report(source, report, health, bracket, self.now(raw));
        self.settle(raw);
    }

    /// A packet exchange; see [`Engine::handle_exchange`].
    pub fn handle_exchange(&mut self, source: usize, m: Measurement, says: ServerSays, raw: Timestamp<Raw>) {
        self.engine.handle_exchange(source, m, says, self.now(raw));
        self.settle(raw);
    }

    /// Reach and poll of a server; see [`Engine::handle_reach`].
    pub fn handle_reach(&mut self, source: usize, reach: u8, poll: i8) {
        self.engine.handle_reach(source, reach, poll);
    }

    /// How a server stands; see [`Engine::handle_server_state`].
    pub fn handle_server_state(&mut self, source: usize, text: String, action: Option<String>) {
        self.engine.handle_server_state(source, text, action);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, bracket: &Bracket) {
        self.engine.handle_bracket(bracket);
        self.engine.handle_timeout(self.now(bracket.raw_after));
        self.settle(bracket.raw_after);
    }

    /// When to call [`DisciplinedClock::handle_timeout`].
    pub fn poll_timeout(&self) -> Timestamp<Raw> {
        self.engine.poll_timeout()
    }

    /// The next thing to tell the operator.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.engine.poll_event()
    }

    /// Why the clock could not be moved, once each time that changes.
    pub fn poll_refusal(&mut self) -> Option<String> {
        self.refusal.take()
    }

    /// The present by this clock.
    pub fn now(&self, raw: Timestamp<Raw>) -> Now {
        Now { raw, clock: self.clock.read(raw) }
    }

    /// Everything a reader may want to know.
    pub fn snapshot(&self, raw: Timestamp<Raw>) -> Snapshot {
        self.engine.snapshot(self.now(raw))
    }

    /// What to remember for the next start.
    pub fn memory(&self, raw: Timestamp<Raw>) -> Memory {
        self.engine.memory(self.now(raw))
    }

    fn settle(&mut self, raw: Timestamp<Raw>) {
        while let Some(command) = self.engine.poll_command() {
            if let Err(error) = self.clock.apply(raw, command) {
                self.refusal = Some(error.to_string());
            }
        }
    }
}
