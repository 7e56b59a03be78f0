//! A whole daemon's core and drivers in virtual time: no tokio, no pty, no socket.
//!
//! One loop pops the earliest of the world's next happening and the deadlines of engine and drivers,
//! hands bytes and edges with their stamps to the same sans-IO drivers that the shells feed, and
//! steers the simulated clock.

use refclocks::nmea;
use refclocks::pps::{self, PpsInfo};
use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Realtime, Span, Tai, Timestamp, Utc};
use refclocks::{Edge, Report};

use super::judge::{Judge, Score};
use super::{Happening, Scenario, World};
use crate::clock::{DisciplinedClock, SoftwareClock};
use crate::core::engine::EngineConfig;
use crate::core::event::Event;
use crate::core::leap::UtcMap;
use crate::core::memory::Memory;
use crate::core::snapshot::Snapshot;

/// How long the daemon takes to run after something happened, s: a quiet machine's wake-up.
const WAKE_UP: f64 = 50e-6;

/// A rehearsal.
pub struct Rehearsal {
    world: World,
    clock: DisciplinedClock,
    nmea: nmea::Driver,
    pps: Option<pps::Tracker>,
    edge: PpsInfo,
    start: Timestamp<Tai>,
    /// REALTIME - RAW of the simulated machine: its system clock is not ours to steer.
    realtime_at_zero: Timestamp<Realtime>,
    judge: Judge,
    utc: UtcMap,
}

/// The sources of every rehearsal and of the demo: what the configuration of a hat says.
pub fn hat(pulse: bool) -> EngineConfig {
    use crate::core::snapshot::SourceKind;
    use crate::core::source::SourceConfig;
    use refclocks::ReferenceId;
    let source = |name: &str, driver, address: &str, kind| SourceConfig {
        name: name.into(),
        refid: ReferenceId::from_name(name).unwrap_or_default(),
        driver,
        address: address.into(),
        kind,
        lock: None,
        delay: None,
        offset: 0.0,
        prefer: false,
        noselect: false,
        trust: false,
        stratum: 0,
    };
    let mut sources = vec![source("GPS", "nmea", "/dev/gps0", SourceKind::Message)];
    if pulse {
        sources.push(source("PPS", "pps", "/dev/pps0", SourceKind::Pulse));
    }
    EngineConfig { sources, holdover_budget: 1e-3, ..EngineConfig::default() }
}

impl Rehearsal {
    /// Sets the stage: the world begins at `start`.
    pub fn new(scenario: Scenario, seed: u64, start: Timestamp<Utc>) -> Self {
        let utc = UtcMap::default();
        let start = utc.tai(start, false);
        // The machine has been up for a while: its raw counter reads something odd.
        let raw = Timestamp::<Raw>::from_parts(40, 123_456_789);
        let pulse = scenario.pulse;
        let world = World::new(scenario, seed, start, raw);
        let system = world.system_clock_at_start();
        let clock = SoftwareClock::new(raw, system);
        let clock = DisciplinedClock::new(hat(pulse), &Memory::default(), Box::new(clock), raw);
        let realtime: Timestamp<Realtime> = utc.utc(system).0.reinterpret();
        Self {
            world,
            clock,
            nmea: nmea::Driver::new(nmea::Config { not_before: crate::NOT_BEFORE, ..nmea::Config::default() }),
            pps: pulse.then(|| pps::Tracker::new(Edge::Assert)),
            edge: PpsInfo::default(),
            start,
            realtime_at_zero: realtime - (raw - Timestamp::EPOCH),
            judge: Judge::default(),
            utc,
        }
    }

    /// Plays so many seconds. `see` is shown each true second's snapshot and error (s), and every
    /// event with its time.
    pub fn play(&mut self, seconds: f64, mut see: impl FnMut(Scene<'_>)) -> Score {
        let end = self.start + Span::from_seconds(seconds);
        loop {
            let next = self.world.next_at();
            let deadline = self.next_deadline();
            if next.min(deadline) > end {
                return self.judge.score();
            }
            if deadline < next {
                self.handle_timeouts(deadline);
            } else if let Some((at, happening)) = self.world.next_happening() {
                self.handle(at, happening, &mut see);
            }
            while let Some(event) = self.clock.poll_event() {
                see(Scene::Event(&event));
            }
        }
    }

    fn handle(&mut self, at: Timestamp<Tai>, happening: Happening, see: &mut impl FnMut(Scene<'_>)) {
        match happening {
            Happening::Second => {
                let raw = self.world.crystal().raw_at(at);
                let snapshot = self.clock.snapshot(raw);
                let error = (self.clock.now(raw).clock - at).seconds();
                let since = (at - self.start).seconds();
                let serving = snapshot.system_at(raw).stratum < 16;
                self.judge.second(since, error, snapshot.bound_at(raw), snapshot.state, serving);
                see(Scene::Second { at: self.utc.utc(at).0, error, snapshot: &snapshot });
            }
            Happening::Edge { late } => {
                self.judge.pulse((at - self.start).seconds());
                let raw = self.world.crystal().raw_at(at) + Span::from_seconds(late);
                self.edge.assert_sequence = self.edge.assert_sequence.wrapping_add(1);
                // The kernel stamps in whole nanoseconds.
                self.edge.assert = Timestamp::from_nanos(self.realtime(raw).to_nanos());
            }
            Happening::Bytes(bytes) => {
                let now = self.bracket(at + Span::from_seconds(WAKE_UP));
                self.nmea.handle_bytes(&bytes, now.raw_after);
                self.deliver(&now);
            }
        }
    }

    fn handle_timeouts(&mut self, at: Timestamp<Tai>) {
        let now = self.bracket(at + Span::from_seconds(WAKE_UP));
        let raw = now.raw_after;
        if self.nmea.poll_timeout().is_some_and(|due| due <= raw) {
            self.nmea.handle_timeout(raw);
        }
        if let Some(pps) = &mut self.pps
            && pps.poll_timeout().is_none_or(|due| due <= raw)
        {
            pps.handle_fetch(&self.edge, &now);
        }
        self.deliver(&now);
        if self.clock.poll_timeout() <= raw {
            self.clock.handle_timeout(&now);
        }
    }

    fn deliver(&mut self, now: &Bracket) {
        while let Some(report) = self.nmea.poll_report() {
            self.clock.handle_report(0, &report, &self.nmea.health(), now);
        }
        let Some(pps) = &mut self.pps else { return };
        let mut reports: Vec<Report> = Vec::new();
        while let Some(report) = pps.poll_report() {
            reports.push(report);
        }
        let health = pps.health();
        for report in reports {
            self.clock.handle_report(1, &report, &health, now);
        }
    }

    fn next_deadline(&self) -> Timestamp<Tai> {
        let mut due = self.clock.poll_timeout();
        if let Some(nmea) = self.nmea.poll_timeout() {
            due = due.min(nmea);
        }
        if let Some(pps) = &self.pps {
            due = due.min(pps.poll_timeout().unwrap_or(Timestamp::EPOCH));
        }
        self.world.tai_of(due)
    }

    fn realtime(&self, raw: Timestamp<Raw>) -> Timestamp<Realtime> {
        self.realtime_at_zero + (raw - Timestamp::EPOCH)
    }

    fn bracket(&mut self, at: Timestamp<Tai>) -> Bracket {
        let raw = self.world.crystal().raw_at(at);
        Bracket { raw_before: raw, realtime: self.realtime(raw), raw_after: raw }
    }
}

/// What a spectator is shown.
pub enum Scene<'a> {
    /// A true second begins.
    Second {
        /// True UTC.
        at: Timestamp<Utc>,
        /// Clock - true time, s.
        error: f64,
        /// What readers know.
        snapshot: &'a Snapshot,
    },
    /// Something an operator would read.
    Event(&'a Event),
}
