//! A whole daemon's core and drivers in virtual time: no tokio, no pty, no socket.
//!
//! One loop pops the earliest of the world's next happening and the deadlines of engine, drivers and
//! associations, hands bytes, edges and packets with their stamps to the same sans-IO code that the
//! shells feed, and steers the simulated clock.

use std::net::{Ipv4Addr, SocketAddr};

use refclocks::pps::{self, PpsInfo};
use refclocks::receiver;
use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Realtime, Span, Tai, Timestamp, Utc};
use refclocks::{Edge, Health, LocalStamp, Report, Sample};

use super::judge::{Judge, Score};
use super::scenario::Model;
use super::{Happening, Rng, Scenario, ServerModel, World};
use crate::clock::{DisciplinedClock, SoftwareClock};
use crate::core::event::Event;
use crate::core::leap::UtcMap;
use crate::core::measurement::Measurement;
use crate::core::memory::Memory;
use crate::core::snapshot::Snapshot;
use crate::ntp::client::{self, Association};

/// How long the daemon takes to run after something happened, s: a quiet machine's wake-up.
const WAKE_UP: f64 = 50e-6;
/// The thermometer is read so often, s.
const THERMOMETER_EVERY: i64 = 10;

/// A rehearsal.
pub struct Rehearsal {
    world: World,
    clock: DisciplinedClock,
    devices: Vec<Device>,
    start: Timestamp<Tai>,
    /// True time as far as it has been played.
    now: Timestamp<Tai>,
    /// REALTIME - RAW of the simulated machine: its system clock is not ours to steer.
    realtime_at_zero: Timestamp<Realtime>,
    judge: Judge,
    utc: UtcMap,
}

/// What stands between a source and the engine.
enum Device {
    Messages(Box<receiver::Driver>),
    Pulse { tracker: Box<pps::Tracker>, edge: PpsInfo },
    Numbered(Health),
    Server(Box<Association>),
}

impl Rehearsal {
    /// Sets the stage: the world begins at `start`, or where its leap second wants it to, and the daemon remembers what it is told to.
    pub fn new(scenario: Scenario, seed: u64, start: Timestamp<Utc>, memory: &Memory) -> Self {
        let utc = scenario.utc();
        let start = scenario.begins(start);
        // The machine has been up for a while: its raw counter reads something odd.
        let raw = Timestamp::<Raw>::from_parts(40, 123_456_789);
        let devices = scenario.sources.iter().zip(0..).map(|(s, i)| Device::new(&s.model, seed ^ (i << 32))).collect();
        let judge = Judge::new(scenario.judged_from);
        let engine = scenario.engine();
        let world = World::new(scenario, seed, start, raw);
        let system = world.system_clock_at_start();
        let clock = DisciplinedClock::new(engine, memory, Box::new(SoftwareClock::new(raw, system)), raw);
        let realtime: Timestamp<Realtime> = utc.utc(system).0.reinterpret();
        Self {
            world,
            clock,
            devices,
            start,
            now: start,
            realtime_at_zero: realtime - (raw - Timestamp::EPOCH),
            judge,
            utc,
        }
    }

    /// What the daemon would write to its drift file now.
    pub fn memory(&mut self) -> Memory {
        let raw = self.world.crystal().raw_at(self.now);
        self.clock.memory(raw)
    }

    /// Plays until so many seconds after the start. `see` is shown each true second's snapshot and
    /// error (s), every measurement, and every event.
    pub fn play(&mut self, seconds: f64, mut see: impl FnMut(Scene<'_>)) -> Score {
        let end = self.start + Span::from_seconds(seconds);
        loop {
            let next = self.world.next_at();
            // What is due at once, or was missed, is done now.
            let deadline = self.next_deadline().max(self.now);
            if next.min(deadline) > end {
                return self.judge.score();
            }
            self.now = next.min(deadline);
            if deadline < next {
                self.handle_timeouts(deadline);
            } else if let Some((at, happening)) = self.world.next_happening() {
                self.handle(at, happening, &mut see);
            }
            while let Some((source, exponent)) = self.clock.poll_wanted_poll() {
                if let Some(Device::Server(association)) = self.devices.get_mut(source) {
                    association.handle_wanted_poll(exponent);
                }
            }
            while let Some(event) = self.clock.poll_event() {
                see(Scene::Event(&event));
            }
        }
    }

    fn handle(&mut self, at: Timestamp<Tai>, happening: Happening, see: &mut impl FnMut(Scene<'_>)) {
        let now = self.bracket(at + Span::from_seconds(WAKE_UP));
        match happening {
            Happening::Second => {
                let raw = self.world.crystal().raw_at(at);
                let snapshot = self.clock.snapshot(raw);
                let error = (self.clock.now(raw).clock - at).seconds();
                let since = (at - self.start).seconds();
                let serving = snapshot.system_at(raw).stratum < 16;
                self.judge.second(since, error, snapshot.bound_at(raw), snapshot.state, serving);
                see(Scene::Second { at: self.utc.utc(at).0, tai: at, raw, error, snapshot: &snapshot });
                if at.whole_seconds() % THERMOMETER_EVERY == 0
                    && let Some(celsius) = self.world.read_temperature()
                {
                    self.clock.handle_temperature(celsius, raw);
                }
            }
            Happening::Edge { source, late } => {
                self.judge.pulse((at - self.start).seconds());
                let raw = self.world.crystal().raw_at(at) + Span::from_seconds(late);
                // The kernel stamps in whole nanoseconds.
                let stamp = Timestamp::from_nanos(self.realtime(raw).to_nanos());
                if let Some(Device::Pulse { edge, .. }) = self.devices.get_mut(source) {
                    edge.assert_sequence = edge.assert_sequence.wrapping_add(1);
                    edge.assert = stamp;
                }
                let m = Measurement { raw, tai: at.round(), delay: None };
                see(Scene::Measured { source, measurement: &m });
            }
            Happening::Stamp { source, at: edge, late, says, second60 } => {
                self.judge.pulse((edge - self.start).seconds());
                let raw = self.world.crystal().raw_at(edge) + Span::from_seconds(late);
                let local = LocalStamp::Realtime(self.realtime(raw));
                let sample = Sample { local, reference: says, second60, quantum: Span::ZERO, leap: None };
                let Some(Device::Numbered(health)) = self.devices.get_mut(source) else { return };
                health.frames += 1;
                let health = *health;
                let m = Measurement { raw, tai: self.utc.tai(says, second60), delay: None };
                see(Scene::Measured { source, measurement: &m });
                self.clock.handle_report(source, &Report::Sample(sample), &health, &now);
            }
            Happening::Bytes { source, bytes } => {
                if let Some(Device::Messages(driver)) = self.devices.get_mut(source) {
                    driver.handle_bytes(&bytes, now.raw_after);
                }
                self.deliver(&now);
            }
            Happening::Reply { source, bytes } => {
                let stamp_error = self.world.stamp_error(source);
                let received = self.world.crystal().raw_at(at) + Span::from_seconds(stamp_error);
                let Some(Device::Server(association)) = self.devices.get_mut(source) else { return };
                let answer = association.handle_receive(&bytes, received, now.raw_after);
                self.clock.handle_reach(source, association.reach(), association.poll());
                if let Ok(m) = answer {
                    let (measurement, says) = m.hand_over(m.at, &self.clock.utc());
                    see(Scene::Measured { source, measurement: &measurement });
                    self.clock.handle_exchange(source, measurement, says, now.raw_after);
                }
            }
        }
    }

    fn handle_timeouts(&mut self, at: Timestamp<Tai>) {
        let awake = at + Span::from_seconds(WAKE_UP);
        let now = self.bracket(awake);
        let raw = now.raw_after;
        for (source, device) in self.devices.iter_mut().enumerate() {
            match device {
                Device::Messages(driver) => {
                    if driver.poll_timeout().is_some_and(|due| due <= raw) {
                        driver.handle_timeout(raw);
                    }
                }
                Device::Pulse { tracker, edge } => {
                    if tracker.poll_timeout().is_none_or(|due| due <= raw) {
                        tracker.handle_fetch(edge, &now);
                    }
                }
                Device::Numbered(_) => {}
                Device::Server(association) => {
                    if let Some(request) = association.poll_transmit(raw) {
                        let stamp_error = self.world.stamp_error(source);
                        association.handle_transmitted(raw + Span::from_seconds(stamp_error));
                        self.world.ask(source, request.octets(), awake);
                        self.clock.handle_reach(source, association.reach(), association.poll());
                    }
                }
            }
        }
        self.deliver(&now);
        if self.clock.poll_timeout() <= raw {
            self.clock.handle_timeout(&now);
        }
    }

    /// Hands over what the drivers have to report.
    fn deliver(&mut self, now: &Bracket) {
        for (source, device) in self.devices.iter_mut().enumerate() {
            loop {
                let (report, health) = match device {
                    Device::Messages(driver) => (driver.poll_report(), driver.health()),
                    Device::Pulse { tracker, .. } => (tracker.poll_report(), tracker.health()),
                    Device::Numbered(_) | Device::Server(_) => break,
                };
                let Some(report) = report else { break };
                self.clock.handle_report(source, &report, &health, now);
            }
        }
    }

    fn next_deadline(&self) -> Timestamp<Tai> {
        let mut due = self.clock.poll_timeout();
        for device in &self.devices {
            let own = match device {
                Device::Messages(driver) => driver.poll_timeout(),
                Device::Pulse { tracker, .. } => Some(tracker.poll_timeout().unwrap_or(Timestamp::EPOCH)),
                Device::Numbered(_) => None,
                Device::Server(association) => association.poll_timeout(),
            };
            due = own.map_or(due, |own| own.min(due));
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

impl Device {
    fn new(model: &Model, seed: u64) -> Self {
        match model {
            Model::Messages(_) => {
                let config = receiver::Config { not_before: crate::NOT_BEFORE, ..receiver::Config::default() };
                Self::Messages(Box::new(receiver::Driver::new(config)))
            }
            Model::Pulse(_) => {
                Self::Pulse { tracker: Box::new(pps::Tracker::new(Some(Edge::Assert))), edge: PpsInfo::default() }
            }
            Model::Numbered(_) => Self::Numbered(Health::default()),
            Model::Server(model) => Self::Server(Box::new(association(model, seed))),
        }
    }
}

/// An association with a simulated server.
pub fn association(server: &ServerModel, seed: u64) -> Association {
    let address = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 123));
    let ServerModel { iburst, minpoll, maxpoll, .. } = *server;
    let mut rng = Rng::new(seed);
    Association::new(client::Config {
        address,
        iburst,
        minpoll,
        maxpoll,
        version: 4,
        key: None,
        xleave: false,
        presend: None,
        filters: client::Filters::default(),
        seed: std::array::from_fn(|_| rng.bits() as u8),
    })
}

/// What a spectator is shown.
pub enum Scene<'a> {
    /// A true second begins.
    Second {
        /// True UTC.
        at: Timestamp<Utc>,
        /// The same on the continuous scale.
        tai: Timestamp<Tai>,
        /// The raw counter there.
        raw: Timestamp<Raw>,
        /// Clock - true time, s.
        error: f64,
        /// What readers know.
        snapshot: &'a Snapshot,
    },
    /// A source gave a measurement.
    Measured {
        /// Which source.
        source: usize,
        /// What it says. Of a pulse without a number: the second it marks.
        measurement: &'a Measurement,
    },
    /// Something an operator would read.
    Event(&'a Event),
}
