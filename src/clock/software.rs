//! A clock in user space: a line over the raw counter.

use refclocks::time::{Raw, Tai, Timestamp};

use super::Clock;
use crate::core::engine::ClockCommand;
use crate::core::snapshot::{ClockKind, ClockReading};

/// The clock. It never fails, needs no privileges, and nobody else can move it.
#[derive(Clone, Debug)]
pub struct SoftwareClock {
    line: ClockReading,
}

impl SoftwareClock {
    /// A clock that reads `tai` at `raw` and runs as fast as the raw counter.
    pub fn new(raw: Timestamp<Raw>, tai: Timestamp<Tai>) -> Self {
        Self { line: ClockReading { raw, tai, rate: 0.0 } }
    }
}

impl Clock for SoftwareClock {
    fn read(&self, raw: Timestamp<Raw>) -> Timestamp<Tai> {
        self.line.at(raw)
    }

    fn kind(&self) -> ClockKind {
        ClockKind::Own
    }

    fn rate(&self) -> f64 {
        self.line.rate
    }

    fn apply(&mut self, raw: Timestamp<Raw>, command: ClockCommand) {
        // Every change starts a new piece of the line where the old one stands: time is continuous
        // but for steps.
        let tai = self.line.at(raw);
        self.line = match command {
            ClockCommand::SetRate(rate) => ClockReading { raw, tai, rate },
            ClockCommand::Step(by) => ClockReading { raw, tai: tai + by, rate: self.line.rate },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use refclocks::time::Span;

    #[test]
    fn rate_changes_are_continuous_and_steps_step() {
        let raw = |s| Timestamp::<Raw>::from_parts(s, 0);
        let mut clock = SoftwareClock::new(raw(0), Timestamp::from_parts(1000, 0));
        clock.apply(raw(10), ClockCommand::SetRate(100e-6));
        assert_eq!(clock.read(raw(10)), Timestamp::from_parts(1010, 0));
        let after = clock.read(raw(20)) - Timestamp::from_parts(1020, 0);
        assert!((after.seconds() - 1e-3).abs() < 1e-12);
        clock.apply(raw(20), ClockCommand::Step(Span::from_millis(-1)));
        assert!((clock.read(raw(20)) - Timestamp::from_parts(1020, 0)).seconds().abs() < 1e-12);
    }
}
