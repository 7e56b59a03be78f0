//! Leap smear: the leap second spread over the hours before it, so that clients never meet it. Pure.
//!
//! Smeared time leaves UTC at the beginning of the interval, runs evenly, and is UTC again where the leap
//! second is over. It is a time scale of its own: nobody may mix it with UTC.

use refclocks::time::{Span, Tai, Timestamp, Utc};

use crate::core::leap::{LeapSecond, UtcMap};

/// How a leap second is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Smear {
    /// Over how long before the leap second's end, s.
    pub interval: u32,
}

impl Default for Smear {
    /// A day: 11.6 ppm, which every client follows.
    fn default() -> Self {
        Self { interval: 86_400 }
    }
}

/// The shortest time in which a second is spread, s: 1000 ppm, twice what some clients can follow.
pub const SHORTEST: u32 = 1000;

/// How one leap second is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    begin: Timestamp<Tai>,
    end: Timestamp<Tai>,
    /// TAI - UTC before the leap second, s.
    tai_minus_utc: i32,
    /// +1 for a second that is inserted, -1 for one left out.
    change: i32,
}

impl Spread {
    /// Spread time at a TAI instant; `None` when it is UTC again.
    pub fn utc(&self, at: Timestamp<Tai>) -> Option<Timestamp<Utc>> {
        if at >= self.end {
            return None;
        }
        let share = (at - self.begin).seconds() / (self.end - self.begin).seconds();
        let before: Timestamp<Utc> = (at - Span::from_whole_seconds(self.tai_minus_utc.into())).reinterpret();
        Some(before - Span::from_seconds(f64::from(self.change) * share.max(0.0)))
    }
}

impl Smear {
    /// How the coming leap second is spread, if there is one, by who has always known of it.
    pub fn spread(&self, map: &UtcMap) -> Option<Spread> {
        let LeapSecond { at: midnight, change } = map.next?;
        let old = |utc: Timestamp<Utc>| utc.reinterpret() + Span::from_whole_seconds(map.tai_minus_utc.into());
        let begin = old(midnight - Span::from_whole_seconds(self.interval.into()));
        // By the old offset the leap second is over when it is midnight and the change.
        let end = old(midnight + Span::from_whole_seconds(change.into()));
        Some(Spread { begin, end, tai_minus_utc: map.tai_minus_utc, change })
    }

    /// The same by who has served UTC until `heard` and hears of the leap second only then: what is left of the
    /// interval has to do, and if that is too short, it goes on after the leap second.
    pub fn spread_late(&self, map: &UtcMap, heard: Timestamp<Tai>) -> Option<Spread> {
        let usual = self.spread(map)?;
        let begin = usual.begin.max(heard);
        let end = usual.end.max(begin + Span::from_whole_seconds(SHORTEST.into()));
        (heard > usual.begin && heard < usual.end).then_some(Spread { begin, end, ..usual })
    }

    /// Smeared time - UTC, at a TAI instant: 0 outside the interval; within it, what UTC has not
    /// leapt yet and smeared time has gone already. `late` is a spread that began late, if there is one.
    pub fn correction(&self, map: &UtcMap, late: Option<&Spread>, at: Timestamp<Tai>) -> Span {
        self.utc(map, late, at) - map.utc(at).0
    }

    /// Smeared time at a TAI instant.
    pub fn utc(&self, map: &UtcMap, late: Option<&Spread>, at: Timestamp<Tai>) -> Timestamp<Utc> {
        let spread = || self.spread(map).filter(|usual| at >= usual.begin)?.utc(at);
        late.and_then(|late| late.utc(at)).or_else(spread).unwrap_or_else(|| map.utc(at).0)
    }
}

/// Notices leap seconds that are heard of too late.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hearing {
    /// What was known when it was looked at last.
    known: Option<Option<LeapSecond>>,
    /// How the last one is spread that came late.
    late: Option<Spread>,
}

impl Hearing {
    /// What is known now of the coming leap second. Returns how it is spread, if it came late. What was known
    /// from the beginning is not late: an earlier life will have spread it, and so will others.
    pub fn handle_map(&mut self, smear: &Smear, map: &UtcMap, at: Timestamp<Tai>) -> Option<Spread> {
        let before = self.known.replace(map.next);
        if map.next.is_some() && before.is_some_and(|before| before != map.next) {
            self.late = smear.spread_late(map, at);
        }
        // One that is taken back is not spread any more; one that is over, until it is spread.
        let taken_back = |late: &Spread| map.next.is_none() && map.tai_minus_utc == late.tai_minus_utc;
        self.late = self.late.filter(|late| at < late.end && !taken_back(late));
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIDNIGHT: Timestamp<Utc> = Timestamp::from_parts(1_483_228_800, 0);

    fn map(change: i32) -> UtcMap {
        UtcMap { tai_minus_utc: 36, next: Some(LeapSecond { at: MIDNIGHT, change }) }
    }

    /// So many seconds of continuous time after the midnight that the old offset gives.
    fn after(seconds: f64) -> Timestamp<Tai> {
        MIDNIGHT.reinterpret::<Tai>() + Span::from_whole_seconds(36) + Span::from_seconds(seconds)
    }

    #[test]
    fn a_day_before_it_is_utc_at_noon_half_a_second_off_and_after_the_leap_utc_again() {
        let smear = Smear::default();
        for (change, seconds, expected) in [
            (1, -86_401.0, 0.0),
            (1, -86_400.0, 0.0),
            (1, -43_199.5, -0.5),
            (1, -0.5, -86_399.5 / 86_401.0),
            (1, 1.0, 0.0),
            (1, 500.0, 0.0),
            (-1, -86_400.0, 0.0),
            (-1, -43_200.5, 0.5),
            (-1, -1.0, 0.0),
            (-1, 100.0, 0.0),
        ] {
            let correction = smear.correction(&map(change), None, after(seconds)).seconds();
            assert!((correction - expected).abs() < 1e-6, "{change} {seconds}: {correction}");
        }
        assert_eq!(smear.correction(&UtcMap::default(), None, after(-100.0)), Span::ZERO);
    }

    /// The map when the leap second is over.
    fn over(change: i32) -> UtcMap {
        UtcMap { tai_minus_utc: 36 + change, next: None }
    }

    #[test]
    fn a_leap_second_heard_of_late_is_spread_from_then_on() {
        let smear = Smear::default();
        let mut hearing = Hearing::default();
        let nothing = UtcMap { next: None, ..map(1) };
        assert_eq!(hearing.handle_map(&smear, &nothing, after(-50_000.0)), None);
        let late = hearing.handle_map(&smear, &map(1), after(-43_199.0)).unwrap();
        assert_eq!(hearing.handle_map(&smear, &map(1), after(0.0)), Some(late));
        assert_eq!(hearing.handle_map(&smear, &over(1), after(1.0)), None);
        let correction = |map: &UtcMap, seconds| smear.correction(map, Some(&late), after(seconds)).seconds();
        // A stamp of before that is served afterwards is UTC; then half a day has to do.
        for (seconds, expected) in [(-43_200.0, 0.0), (-43_199.0, 0.0), (-21_599.0, -0.5), (0.999, -1.0)] {
            let found = correction(&map(1), seconds);
            // Within the inserted second UTC stands still.
            let expected = if seconds > 0.0 { 0.0 } else { expected };
            assert!((found - expected).abs() < 1e-4, "{seconds}: {found}");
        }
        assert_eq!(correction(&over(1), 1.0), 0.0);

        // Known from the beginning, or more than a day before: by the book.
        assert_eq!(Hearing::default().handle_map(&smear, &map(1), after(-100.0)), None);
        let mut hearing = Hearing::default();
        assert_eq!(hearing.handle_map(&smear, &nothing, after(-100_000.0)), None);
        assert_eq!(hearing.handle_map(&smear, &map(1), after(-99_999.0)), None);
    }

    #[test]
    fn one_heard_of_at_the_last_moment_is_still_spread_after_it() {
        let smear = Smear::default();
        for change in [1, -1] {
            let late = smear.spread_late(&map(change), after(-100.0)).unwrap();
            // Smeared time runs evenly through the leap second, whichever map is in force.
            let mut last = smear.utc(&map(change), Some(&late), after(-101.0));
            for second in -100..1000 {
                let map = if second < change { map(change) } else { over(change) };
                let now = smear.utc(&map, Some(&late), after(f64::from(second)));
                let step = (now - last).seconds() - 1.0;
                assert!(step.abs() < 1.01e-3, "{change} {second}: {step}");
                last = now;
            }
            assert_eq!(smear.correction(&over(change), Some(&late), after(900.0)), Span::ZERO);
            // It goes on when the leap second is over, and not when there was none.
            let nothing = UtcMap { next: None, ..map(change) };
            let mut hearing = Hearing::default();
            hearing.handle_map(&smear, &nothing, after(-101.0));
            assert_eq!(hearing.handle_map(&smear, &map(change), after(-100.0)), Some(late));
            let mut taken_back = hearing;
            assert_eq!(taken_back.handle_map(&smear, &nothing, after(-50.0)), None);
            assert_eq!(hearing.handle_map(&smear, &over(change), after(10.0)), Some(late));
            assert_eq!(hearing.handle_map(&smear, &over(change), after(900.0)), None);
        }
    }

    proptest! {
        /// It neither jumps nor turns back, and its rate is that of the interval.
        #[test]
        fn it_runs_evenly(
            seconds in -100_000.0f64..100.0,
            step in 0.001f64..1000.0,
            insert: bool,
            interval in 1000u32..100_000,
        ) {
            let smear = Smear { interval };
            let map = map(if insert { 1 } else { -1 });
            let (a, b) = (smear.utc(&map, None, after(seconds)), smear.utc(&map, None, after(seconds + step)));
            let rate = ((b - a).seconds() - step) / step;
            prop_assert!(rate.abs() < 1.01 / (f64::from(interval) - 1.0) + 1e-6, "{rate}");
        }
    }
}
