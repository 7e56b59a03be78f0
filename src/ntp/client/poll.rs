//! When the next request is due.

use refclocks::time::{Raw, Span, Timestamp};

/// log2 of the intervals that follow a start or a return, s: 2, 2, 2, 4, 8, 16, 32, 64. A burst that
/// jumps from 2 s to the poll interval leaves a frequency error of some ppm for the first long gap.
const RAMP: [i8; 8] = [1, 1, 1, 2, 3, 4, 5, 6];

/// The longest interval a kiss of death makes us take when the configured one is shorter: 2^10 s.
const PATIENCE: i8 = 10;

/// The shortest and the longest interval there is, log2 s.
const SHORTEST: i8 = -6;
const LONGEST: i8 = 17;

/// 2 to that power, s.
fn interval(exponent: i8) -> Span {
    Span::from_seconds(libm::exp2(f64::from(exponent.clamp(SHORTEST, LONGEST))))
}

/// The polls of one server: their interval and when the next one is due.
#[derive(Clone, Debug)]
pub(super) struct Poll {
    min: i8,
    max: i8,
    current: i8,
    /// The server asked for no shorter interval than this.
    floor: i8,
    /// Place in the ramp, if in it.
    ramp: Option<usize>,
    ramped: bool,
    sent: Option<Timestamp<Raw>>,
    due: Option<Timestamp<Raw>>,
}

impl Poll {
    /// The first poll is due at once. `min` and `max`: log2 of the interval, s.
    pub(super) fn new(min: i8, max: i8, ramped: bool) -> Self {
        let min = min.clamp(SHORTEST, LONGEST);
        Self {
            min,
            max: max.clamp(min, LONGEST),
            current: min,
            floor: min,
            ramp: ramped.then_some(0),
            ramped,
            sent: None,
            due: Some(Timestamp::EPOCH),
        }
    }

    /// When the next poll is due; `None`: never.
    pub(super) fn due(&self) -> Option<Timestamp<Raw>> {
        self.due
    }

    /// log2 of the interval in use, s.
    pub(super) fn exponent(&self) -> i8 {
        let ramp = self.ramp.and_then(|place| RAMP.get(place)).copied();
        ramp.map_or(self.current, |ramp| ramp.min(self.current))
    }

    /// A request goes out now. `noise` of 0 to 1 spreads the polls of many clients by 3 %.
    pub(super) fn sent(&mut self, now: Timestamp<Raw>, noise: f64) {
        let exponent = self.exponent();
        // The ramp is short and its intervals matter to the frequency estimate: no spreading there.
        let spread = if self.ramp.is_some() { 0.0 } else { (noise - 0.5) * 0.03 };
        self.due = Some(now + Span::from_seconds(interval(exponent).seconds() * (1.0 + spread)));
        self.sent = Some(now);
        // The ramp is over where it meets the poll interval.
        self.ramp =
            self.ramp.map(|place| place + 1).filter(|place| RAMP.get(*place).is_some_and(|ramp| *ramp < self.current));
    }

    /// The server answers again after a silence.
    pub(super) fn returned(&mut self) {
        if self.ramped && self.ramp.is_none() {
            self.ramp = Some(0);
            // The poll under way was scheduled for a silent server.
            if let Some(due) = &mut self.due {
                *due = (*due).min(*due - interval(self.current) + Span::from_whole_seconds(2));
            }
        }
    }

    /// The server asks for fewer requests (kiss code RATE). `asked`: the poll field of its reply.
    pub(super) fn slow_down(&mut self, now: Timestamp<Raw>, asked: i8) {
        let ceiling = self.max.max(PATIENCE);
        self.current = (self.current + 1).max(asked.min(ceiling)).min(ceiling);
        self.floor = self.current;
        self.ramp = None;
        self.ramped = false;
        self.due = Some(now + interval(self.current));
    }

    /// This interval is wanted from now on, log2 s; as far as the operator and the server allow.
    pub(super) fn want(&mut self, exponent: i8) {
        let wanted = exponent.clamp(self.floor, self.max.max(self.floor));
        if std::mem::replace(&mut self.current, wanted) <= wanted {
            return;
        }
        // The next one was to come after the longer interval.
        if let (Some(sent), Some(due)) = (self.sent, &mut self.due) {
            *due = (*due).min(sent + interval(wanted));
        }
    }

    /// A few quick polls are wanted, beginning now. Not of a server that asked for fewer.
    pub(super) fn burst(&mut self, now: Timestamp<Raw>) {
        if self.floor == self.min && self.due.is_some() {
            self.ramp = Some(0);
            self.due = Some(now);
        }
    }

    /// The server wants no requests at all (kiss codes DENY and RSTR).
    pub(super) fn end(&mut self) {
        self.due = None;
    }

    /// log2 of the shortest interval, s.
    pub(super) fn min(&self) -> i8 {
        self.min
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intervals(poll: &mut Poll, count: usize) -> Vec<i64> {
        let mut now = Timestamp::from_parts(1000, 0);
        (0..count)
            .map(|_| {
                poll.sent(now, 0.5);
                let due = poll.due().unwrap();
                let interval = due - now;
                now = due;
                interval.seconds().round() as i64
            })
            .collect()
    }

    #[test]
    fn ramp_doubles_up_to_the_poll_interval() {
        assert_eq!(intervals(&mut Poll::new(6, 10, true), 10), [2, 2, 2, 4, 8, 16, 32, 64, 64, 64]);
        assert_eq!(intervals(&mut Poll::new(4, 10, true), 8), [2, 2, 2, 4, 8, 16, 16, 16]);
        assert_eq!(intervals(&mut Poll::new(0, 10, true), 3), [1, 1, 1]);
        assert_eq!(intervals(&mut Poll::new(6, 10, false), 3), [64, 64, 64]);
    }

    #[test]
    fn intervals_may_be_parts_of_a_second() {
        let mut poll = Poll::new(-4, -2, false);
        let now = Timestamp::from_parts(1000, 0);
        poll.sent(now, 0.5);
        assert_eq!(poll.due(), Some(now + Span::from_nanos(62_500_000)));
        poll.want(-2);
        poll.sent(now, 0.5);
        assert_eq!(poll.due(), Some(now + Span::from_millis(250)));
        // Nobody asks more often than 64 times a second, and whoever is told to ask less does.
        assert_eq!(Poll::new(-20, 0, false).exponent(), -6);
        poll.slow_down(now, -3);
        assert_eq!(poll.due(), Some(now + Span::from_millis(500)));
    }

    #[test]
    fn a_return_ramps_again() {
        let mut poll = Poll::new(6, 10, true);
        intervals(&mut poll, 20);
        let due = poll.due().unwrap();
        poll.returned();
        assert_eq!((due - poll.due().unwrap()).seconds().round(), 62.0);
        assert_eq!(intervals(&mut poll, 9), [2, 2, 2, 4, 8, 16, 32, 64, 64]);
    }

    #[test]
    fn rate_slows_down_and_ends_the_ramp() {
        let mut poll = Poll::new(6, 8, true);
        let now = Timestamp::from_parts(50, 0);
        poll.slow_down(now, 6);
        assert_eq!(poll.due(), Some(now + Span::from_whole_seconds(128)));
        poll.slow_down(now, 17);
        assert_eq!(poll.exponent(), PATIENCE);
        poll.returned();
        assert_eq!(poll.exponent(), PATIENCE);
    }

    #[test]
    fn a_wanted_interval_is_taken_within_the_limits() {
        let mut poll = Poll::new(6, 10, false);
        let now = Timestamp::from_parts(1000, 0);
        poll.want(8);
        poll.sent(now, 0.5);
        assert_eq!(poll.due(), Some(now + Span::from_whole_seconds(256)));
        // A longer one begins with the next poll, a shorter one at once.
        poll.want(12);
        assert_eq!((poll.exponent(), poll.due()), (10, Some(now + Span::from_whole_seconds(256))));
        poll.want(3);
        assert_eq!((poll.exponent(), poll.due()), (6, Some(now + Span::from_whole_seconds(64))));
        // What the server asked for is the least from then on.
        poll.slow_down(now, 8);
        poll.want(6);
        assert_eq!(poll.exponent(), 8);
    }

    #[test]
    fn a_burst_is_a_ramp() {
        let mut poll = Poll::new(6, 10, false);
        intervals(&mut poll, 3);
        let now = Timestamp::from_parts(5000, 0);
        poll.burst(now);
        assert_eq!(poll.due(), Some(now));
        assert_eq!(intervals(&mut poll, 9), [2, 2, 2, 4, 8, 16, 32, 64, 64]);
        poll.slow_down(now, 7);
        let due = poll.due();
        poll.burst(now);
        assert_eq!(poll.due(), due);
    }

    #[test]
    fn polls_are_spread() {
        let mut poll = Poll::new(6, 10, false);
        let now = Timestamp::EPOCH;
        for (noise, expected) in [(0.0, 63.04), (1.0, 64.96)] {
            poll.sent(now, noise);
            assert!(((poll.due().unwrap() - now).seconds() - expected).abs() < 1e-9);
        }
    }
}
