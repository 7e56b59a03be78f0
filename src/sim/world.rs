//! The world around the daemon: true time, a crystal, receivers, servers. What happens, and when.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use refclocks::calendar::CivilTime;
use refclocks::time::{Raw, Span, Tai, Timestamp, Utc};

use super::fault::{Condition, What};
use super::scenario::{ClockAtStart, InsertedSecond, MessageModel, Model};
use super::server::Server;
use super::{Oscillator, PulseNoise, Receiver, Rng, Scenario};
use crate::core::leap::UtcMap;

/// Something that happens at a true time.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// A true second begins: the moment to judge the clock.
    Second,
    /// An edge was stamped by the kernel.
    Edge {
        /// Whose.
        source: usize,
        /// Stamp minus the instant it happened, s.
        late: f64,
    },
    /// A stamp that comes with its second is handed over.
    Stamp {
        /// Whose.
        source: usize,
        /// The true instant that was stamped.
        at: Timestamp<Tai>,
        /// Stamp minus that instant, s.
        late: f64,
        /// The time it says that was.
        says: Timestamp<Utc>,
        /// Is that within an inserted second? It then lies a second before what it says.
        second60: bool,
    },
    /// Bytes have come from a receiver, the last of them just now.
    Bytes {
        /// From which.
        source: usize,
        /// They.
        bytes: Vec<u8>,
    },
    /// A server's reply arrives.
    Reply {
        /// From which.
        source: usize,
        /// Its octets.
        bytes: Vec<u8>,
    },
}

/// A program that hands stamps over does so this long after it took them, s.
const HANDED_OVER: f64 = 0.003;
/// Seconds that are made ahead: what a fault moves to the second before must not come too late.
const AHEAD: i64 = 2;

/// One source at work.
#[derive(Clone, Debug)]
enum Part {
    Messages { rng: Rng, receiver: Receiver, model: MessageModel },
    Pulse(PulseNoise),
    Numbered(PulseNoise),
    Server(Box<Server>),
}

/// The world.
#[derive(Clone, Debug)]
pub struct World {
    scenario: Scenario,
    start: Timestamp<Tai>,
    utc: UtcMap,
    crystal: Oscillator,
    parts: Vec<Part>,
    second: i64,
    /// Which of the faults of the crystal are on.
    crystal_faults: Vec<bool>,
    queue: BinaryHeap<Reverse<Entry>>,
    queued: u64,
    start_offset: f64,
    /// The noise of the thermometer.
    thermometer: Rng,
}

/// What a thermometer reads when it is as warm as on the average, degrees Celsius.
const WARM: f64 = 45.0;

impl World {
    /// A world that begins at a true time, with the counter at `raw`.
    pub fn new(scenario: Scenario, seed: u64, start: Timestamp<Tai>, raw: Timestamp<Raw>) -> Self {
        let mut rng = Rng::new(seed);
        let crystal = Oscillator::new(rng.fork(), start, raw, scenario.crystal);
        let sign = if rng.uniform() < 0.5 { -1.0 } else { 1.0 };
        let start_offset = sign * (0.010 + 0.090 * rng.uniform());
        let parts = scenario.sources.iter().map(|s| Part::new(&s.model, &mut rng)).collect();
        let crystal_faults = vec![false; scenario.faults.len()];
        let mut world = Self {
            utc: scenario.utc(),
            scenario,
            start,
            crystal,
            parts,
            second: 0,
            crystal_faults,
            queue: BinaryHeap::new(),
            queued: 0,
            start_offset,
            thermometer: Rng::new(seed ^ 0x7e3b),
        };
        for _ in 0..AHEAD {
            world.make_second();
        }
        world
    }

    /// What the system clock says when the world begins.
    pub fn system_clock_at_start(&self) -> Timestamp<Tai> {
        match self.scenario.start {
            ClockAtStart::Drawn => self.start + Span::from_seconds(self.start_offset),
            ClockAtStart::Ahead(by) => self.start + Span::from_seconds(by),
            ClockAtStart::In1970 => self.utc.tai(Timestamp::from_parts(5, 0), false),
        }
    }

    /// The story.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The crystal.
    pub fn crystal(&mut self) -> &mut Oscillator {
        &mut self.crystal
    }

    /// What the thermometer beside the crystal reads now, degrees Celsius, if there is one.
    pub fn read_temperature(&mut self) -> Option<f64> {
        let sensor = self.scenario.crystal.temperature?.sensor?;
        Some(sensor.read(WARM + self.crystal.temperature(), &mut self.thermometer))
    }

    /// The true time at which the counter will read `raw`.
    pub fn tai_of(&self, raw: Timestamp<Raw>) -> Timestamp<Tai> {
        self.crystal.tai_of(raw)
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Timestamp<Tai> {
        self.queue.peek().map_or(self.start, |Reverse(entry)| entry.at)
    }

    /// The next thing that happens.
    pub fn next_happening(&mut self) -> Option<(Timestamp<Tai>, Happening)> {
        let Reverse(Entry { at, happening, .. }) = self.queue.pop()?;
        if happening == Happening::Second {
            self.make_second();
            self.treat_crystal((at - self.start).seconds());
        }
        Some((at, happening))
    }

    /// A request leaves for a server at `sent`. A reply happens by itself.
    pub fn ask(&mut self, source: usize, request: &[u8], sent: Timestamp<Tai>) {
        let since = (sent - self.start).seconds();
        let detour = Condition::of(source, &self.scenario.faults, since).detour();
        if let Some(Part::Server(server)) = self.parts.get_mut(source)
            && let Some(reply) = server.ask(request, sent, &detour, &self.utc)
        {
            self.queue(reply.at, Happening::Reply { source, bytes: reply.bytes });
        }
    }

    /// The error of one of our own stamps of a server's packets, s.
    pub fn stamp_error(&mut self, source: usize) -> f64 {
        match self.parts.get_mut(source) {
            Some(Part::Server(server)) => server.stamp_error(),
            _ => 0.0,
        }
    }

    /// Makes what happens in and around one more second.
    fn make_second(&mut self) {
        // The world begins between two seconds of true time: pulses come on whole ones.
        let at = Timestamp::<Tai>::from_parts(self.start.whole_seconds() + 1 + self.second, 0);
        let k = self.second;
        self.second += 1;
        let since = (at - self.start).seconds();
        self.queue(at, Happening::Second);
        for source in 0..self.parts.len() {
            let condition = Condition::of(source, &self.scenario.faults, since);
            for (at, happening) in self.happenings_of(source, k, at, &condition) {
                self.queue(at, happening);
            }
        }
    }

    fn happenings_of(
        &mut self,
        source: usize,
        k: i64,
        at: Timestamp<Tai>,
        condition: &Condition,
    ) -> Vec<(Timestamp<Tai>, Happening)> {
        let Some(part) = self.parts.get_mut(source) else { return Vec::new() };
        let whole = condition.ahead.round();
        let fraction = condition.ahead - whole;
        let utc = |at| self.utc.utc(at);
        match part {
            Part::Server(_) => Vec::new(),
            Part::Messages { rng, receiver, model } => {
                let delay = (model.delay + model.jitter * rng.normal()).clamp(0.001, 1.9);
                let (says, inside) = utc(at + Span::from_seconds(whole));
                let mut civil = CivilTime::from_utc(says + Span::from_whole_seconds(condition.weeks * 7 * 86_400));
                match model.inserted {
                    InsertedSecond::Sixty if inside => civil.second = 60,
                    InsertedSecond::Zero if inside => {
                        civil = CivilTime::from_utc(civil.to_utc() + Span::from_whole_seconds(1));
                    }
                    _ => {}
                }
                let bytes = receiver.cycle(civil, !condition.no_fix);
                let happening = Happening::Bytes { source, bytes };
                let comes = at + Span::from_seconds(delay - fraction);
                if condition.silent { Vec::new() } else { vec![(comes, happening)] }
            }
            Part::Pulse(noise) => {
                let edges = noise.edges_in(k);
                let seen = edges.filter_map(|after| Some((after, noise.draw()?)));
                let is_dead = condition.silent || condition.no_fix;
                seen.filter(|_| !is_dead)
                    .map(|(after, late)| (at + Span::from_seconds(after - fraction), Happening::Edge { source, late }))
                    .collect()
            }
            Part::Numbered(noise) => {
                let edges = noise.edges_in(k);
                let seen = edges.filter_map(|after| Some((after, noise.draw()?)));
                let is_dead = condition.silent || condition.no_fix;
                let weeks = Span::from_whole_seconds(condition.weeks * 7 * 86_400);
                seen.filter(|_| !is_dead)
                    .map(|(after, late)| {
                        let edge = at + Span::from_seconds(after);
                        let (says, second60) = utc(edge + Span::from_seconds(condition.ahead));
                        // Second 60 is told as the first of the next day, and as what it is.
                        let says = says + weeks + Span::from_whole_seconds(second60.into());
                        let comes = edge + Span::from_seconds(late.max(0.0) + HANDED_OVER);
                        (comes, Happening::Stamp { source, at: edge, late, says, second60 })
                    })
                    .collect()
            }
        }
    }

    /// Lets the crystal's faults begin and end.
    fn treat_crystal(&mut self, since: f64) {
        for i in 0..self.scenario.faults.len() {
            let fault = &self.scenario.faults[i];
            let is_on = fault.is_on(since);
            if std::mem::replace(&mut self.crystal_faults[i], is_on) == is_on {
                continue;
            }
            match fault.what {
                What::Frequency(by) => self.crystal.step(if is_on { by } else { -by }),
                What::Phase(by) => self.crystal.jump(if is_on { by } else { -by }),
                What::Wander(wander) => {
                    self.crystal.set_wander(if is_on { wander } else { self.scenario.crystal.wander });
                }
                _ => {}
            }
        }
    }

    fn queue(&mut self, at: Timestamp<Tai>, happening: Happening) {
        self.queued += 1;
        self.queue.push(Reverse(Entry { at, number: self.queued, happening }));
    }
}

impl Part {
    fn new(model: &Model, rng: &mut Rng) -> Self {
        match model {
            Model::Messages(model) => {
                Self::Messages { receiver: Receiver::new(rng.fork()), rng: rng.fork(), model: *model }
            }
            Model::Pulse(model) => Self::Pulse(PulseNoise::new(rng.fork(), model.clone())),
            Model::Numbered(model) => Self::Numbered(PulseNoise::new(rng.fork(), model.clone())),
            Model::Server(model) => Self::Server(Box::new(Server::new(rng.fork(), model.clone()))),
        }
    }
}

/// What is queued: the earliest first, and of the same instant what was queued first.
#[derive(Clone, Debug)]
struct Entry {
    at: Timestamp<Tai>,
    number: u64,
    happening: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at).then(self.number.cmp(&other.number))
    }
}
