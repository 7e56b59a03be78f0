//! The world around the daemon: true time, a crystal, a receiver. What happens, and when.

use std::collections::VecDeque;

use refclocks::time::{Raw, Span, Tai, Timestamp};

use super::{Oscillator, Receiver, Rng, Scenario};
use crate::core::leap::UtcMap;

/// Something that happens at a true time.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// A true second begins: the moment to judge the clock.
    Second,
    /// The pulse's edge was stamped by the kernel, with so much error, s.
    Edge {
        /// Stamp minus true second.
        late: f64,
    },
    /// These bytes have come from the receiver, the last of them just now.
    Bytes(Vec<u8>),
}

/// The world.
#[derive(Clone, Debug)]
pub struct World {
    scenario: Scenario,
    start: Timestamp<Tai>,
    utc: UtcMap,
    crystal: Oscillator,
    receiver: Receiver,
    rng: Rng,
    second: i64,
    ahead: VecDeque<(Timestamp<Tai>, Happening)>,
    start_offset: f64,
}

impl World {
    /// A world that begins at a true time, with the counter at `raw`.
    pub fn new(scenario: Scenario, seed: u64, start: Timestamp<Tai>, raw: Timestamp<Raw>) -> Self {
        let mut rng = Rng::new(seed);
        let crystal = Oscillator::new(Rng::new(rng.bits()), start, raw, scenario.frequency, scenario.wander);
        let receiver = Receiver::new(Rng::new(rng.bits()), scenario.weeks_off);
        let sign = if rng.uniform() < 0.5 { -1.0 } else { 1.0 };
        let start_offset = sign * (0.010 + 0.090 * rng.uniform());
        Self {
            scenario,
            start,
            utc: UtcMap::default(),
            crystal,
            receiver,
            rng,
            second: 0,
            ahead: VecDeque::new(),
            start_offset,
        }
    }

    /// What the system clock says when the world begins: 10 to 100 ms off, or 1970.
    pub fn system_clock_at_start(&self) -> Timestamp<Tai> {
        if self.scenario.starts_in_1970 {
            self.utc.tai(Timestamp::from_parts(5, 0), false)
        } else {
            self.start + Span::from_seconds(self.start_offset)
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

    /// The true time at which the counter will read `raw`.
    pub fn tai_of(&self, raw: Timestamp<Raw>) -> Timestamp<Tai> {
        self.crystal.tai_of(raw)
    }

    /// When the next thing happens.
    pub fn next_at(&mut self) -> Timestamp<Tai> {
        self.fill();
        self.ahead.front().map_or(self.start, |(at, _)| *at)
    }

    /// The next thing that happens.
    pub fn next_happening(&mut self) -> Option<(Timestamp<Tai>, Happening)> {
        self.fill();
        self.ahead.pop_front()
    }

    /// Keeps one second of happenings ahead.
    fn fill(&mut self) {
        if !self.ahead.is_empty() {
            return;
        }
        // The world begins between two seconds of true time: pulses come on whole ones.
        let at = Timestamp::<Tai>::from_parts(self.start.whole_seconds() + 1 + self.second, 0);
        self.second += 1;
        let since = (at - self.start).seconds();
        let sky = self.scenario.sees_sky(since);
        self.ahead.push_back((at, Happening::Second));
        let mut late = self.scenario.pulse_jitter * self.rng.normal();
        let (how_often, how_much) = self.scenario.pulse_late;
        if self.rng.uniform() < how_often {
            late += how_much * self.rng.exponential();
        }
        if self.scenario.pulse && sky {
            self.ahead.push_back((at, Happening::Edge { late }));
        }
        let (mean, sd) = self.scenario.message_delay;
        let delay = (mean + sd * self.rng.normal()).clamp(0.001, 0.9);
        let text = self.receiver.cycle(self.utc.utc(at).0, sky);
        self.ahead.push_back((at + Span::from_seconds(delay), Happening::Bytes(text)));
    }
}
