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

impl Smear {
    /// Smeared time - UTC, at a TAI instant: 0 outside the interval; within it, what UTC has not
    /// leapt yet and smeared time has gone already.
    pub fn correction(&self, map: &UtcMap, at: Timestamp<Tai>) -> Span {
        self.utc(map, at) - map.utc(at).0
    }

    /// Smeared time at a TAI instant.
    pub fn utc(&self, map: &UtcMap, at: Timestamp<Tai>) -> Timestamp<Utc> {
        let Some(LeapSecond { at: midnight, change }) = map.next else { return map.utc(at).0 };
        // By the old offset the leap second is over when it is midnight and the change.
        let before: Timestamp<Utc> = (at - Span::from_whole_seconds(map.tai_minus_utc.into())).reinterpret();
        let begin = midnight - Span::from_whole_seconds(self.interval.into());
        let end = midnight + Span::from_whole_seconds(change.into());
        if before < begin || before >= end {
            return map.utc(at).0;
        }
        let share = (before - begin).seconds() / (end - begin).seconds();
        before - Span::from_seconds(f64::from(change) * share)
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
            let correction = smear.correction(&map(change), after(seconds)).seconds();
            assert!((correction - expected).abs() < 1e-6, "{change} {seconds}: {correction}");
        }
        assert_eq!(smear.correction(&UtcMap::default(), after(-100.0)), Span::ZERO);
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
            let (a, b) = (smear.utc(&map, after(seconds)), smear.utc(&map, after(seconds + step)));
            let rate = ((b - a).seconds() - step) / step;
            prop_assert!(rate.abs() < 1.01 / (f64::from(interval) - 1.0) + 1e-6, "{rate}");
        }
    }
}
