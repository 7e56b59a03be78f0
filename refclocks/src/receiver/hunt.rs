//! The search for the speed of a line, by listening only: nothing is sent, and while what comes makes
//! sense nothing is changed.

use crate::time::{Raw, Span, Timestamp};

/// Speeds tried, in the order of how common they are, bit/s.
pub const SPEEDS: [u32; 8] = [9600, 115_200, 38_400, 4800, 57_600, 19_200, 230_400, 460_800];
/// How long to listen at one speed: receivers speak once a second.
const LISTEN: Span = Span::from_millis(1500);
/// A silence this long may be a wrong speed that hides everything, ...
const SILENT: Span = Span::from_millis(10_000);
/// ... and a receiver that has been understood is given this long to make sense again.
const PATIENCE: Span = Span::from_millis(5000);

/// The search. It begins at the speed that the port has.
#[derive(Clone, Debug)]
pub struct Hunt {
    on: bool,
    /// When it listens for the first time at this speed.
    since: Timestamp<Raw>,
    heard_any: bool,
    /// Since when what comes makes no sense, once it has made some.
    lost: Option<Timestamp<Raw>>,
    tried: usize,
}

impl Hunt {
    /// A search that begins now; `on`: where the line has a speed, and it is not given.
    pub fn new(on: bool, now: Timestamp<Raw>) -> Self {
        Self { on, since: now, heard_any: false, lost: on.then_some(now), tried: 0 }
    }

    /// Bytes came; does what comes make sense?
    pub fn handle_bytes(&mut self, understood: bool, now: Timestamp<Raw>) {
        self.heard_any = true;
        self.lost = if understood { None } else { Some(self.lost.unwrap_or(now)) };
        if understood {
            // From here on it takes more to move on.
            self.since = now + PATIENCE - LISTEN;
        }
    }

    /// When to ask for the next speed.
    pub fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        let wait = if self.heard_any { LISTEN } else { SILENT };
        (self.on && self.lost.is_some()).then(|| self.since + wait)
    }

    /// The speed to go on with, if it is another, bit/s.
    pub fn next_speed(&mut self, now: Timestamp<Raw>) -> Option<u32> {
        self.poll_timeout().filter(|due| *due <= now)?;
        self.since = now;
        self.heard_any = false;
        let speed = SPEEDS.get(self.tried).copied();
        self.tried = (self.tried + 1) % SPEEDS.len();
        speed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: i64) -> Timestamp<Raw> {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    /// Plays a receiver that speaks once a second at a speed, to a port that has another. Returns the
    /// speeds the port had, each with when.
    fn play(speaks: impl Fn(i64) -> Option<u32>, mut port: u32, seconds: i64) -> Vec<(i64, u32)> {
        let mut hunt = Hunt::new(true, at(0));
        let mut had = vec![(0, port)];
        for ms in (0..seconds * 1000).step_by(100) {
            if ms % 1000 < 300
                && let Some(speed) = speaks(ms / 1000)
            {
                hunt.handle_bytes(speed == port, at(ms));
            }
            if let Some(speed) = hunt.next_speed(at(ms)) {
                port = speed;
                had.push((ms, port));
            }
        }
        had
    }

    proptest! {
        #[test]
        fn every_speed_is_found_and_then_left_alone(speaks in prop::sample::select(SPEEDS.to_vec()), port in prop::sample::select(SPEEDS.to_vec())) {
            let had = play(|_| Some(speaks), port, 120);
            let (when, last) = *had.last().unwrap();
            prop_assert_eq!(last, speaks);
            prop_assert!(when <= 15_000, "{} ms", when);
            if port == speaks {
                prop_assert_eq!(had.len(), 1, "a receiver that is understood is not disturbed");
            }
        }
    }

    #[test]
    fn a_receiver_that_falls_silent_keeps_its_speed_and_one_that_changes_it_is_found_again() {
        let had = play(|second| (second < 30).then_some(9600), 9600, 120);
        assert_eq!(had.len(), 1, "{had:?}");
        let had = play(|second| Some(if second < 30 { 115_200 } else { 9600 }), 115_200, 120);
        assert_eq!(had.last().map(|h| h.1), Some(9600));
        assert!(had[1].0 >= 34_000, "not at once: {had:?}");
    }

    #[test]
    fn a_speed_that_is_given_stays() {
        let mut hunt = Hunt::new(false, at(0));
        hunt.handle_bytes(false, at(1));
        assert_eq!((hunt.poll_timeout(), hunt.next_speed(at(100_000))), (None, None));
    }

    #[test]
    fn silence_is_waited_out() {
        let had = play(|_| None, 9600, 60);
        assert!(had.len() <= 6 && had[1].0 >= 10_000, "{had:?}");
    }
}
