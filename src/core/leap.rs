//! UTC and TAI: the leap table. Time inside the core is continuous (TAI); UTC exists at the edges.

use refclocks::LeapIndicator;
use refclocks::time::{Span, Tai, Timestamp, Utc};
use serde::{Deserialize, Serialize};

/// TAI - UTC since 2017-01-01, s. No leap second has been announced since (IERS Bulletin C).
pub const TAI_MINUS_UTC: i32 = 37;

/// How TAI and UTC relate around now: the offset in force, and the next change if one is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UtcMap {
    /// TAI - UTC before the next change, s.
    pub tai_minus_utc: i32,
    /// The next leap second, if announced.
    pub next: Option<LeapSecond>,
}

/// A coming change of TAI - UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeapSecond {
    /// The POSIX instant of the first second of the new offset (a midnight UTC).
    pub at: Timestamp<Utc>,
    /// +1 inserts 23:59:60, -1 leaves 23:59:59 out.
    pub change: i32,
}

impl Default for UtcMap {
    fn default() -> Self {
        Self { tai_minus_utc: TAI_MINUS_UTC, next: None }
    }
}

impl UtcMap {
    /// UTC at a TAI instant, and whether it lies within an inserted second. During an inserted
    /// second POSIX time repeats the last second of the day.
    pub fn utc(&self, at: Timestamp<Tai>) -> (Timestamp<Utc>, bool) {
        let before: Timestamp<Utc> = (at - Span::from_whole_seconds(self.tai_minus_utc.into())).reinterpret();
        match self.next {
            // An inserted second begins where the old offset reaches midnight; a deleted one ends
            // the day a second early.
            Some(LeapSecond { at, change }) if change > 0 && before >= at => {
                let after = before - Span::from_whole_seconds(change.into());
                (after, after < at)
            }
            Some(LeapSecond { at, change }) if change < 0 && before >= at + Span::from_whole_seconds(change.into()) => {
                (before - Span::from_whole_seconds(change.into()), false)
            }
            _ => (before, false),
        }
    }

    /// TAI at a UTC instant. `second60`: the instant was written as second 60, so it lies one second
    /// before its POSIX twin.
    pub fn tai(&self, at: Timestamp<Utc>, second60: bool) -> Timestamp<Tai> {
        let mut offset = i64::from(self.tai_minus_utc);
        if let Some(leap) = self.next
            && at >= leap.at
        {
            offset += i64::from(leap.change) - i64::from(second60 && leap.change > 0);
        }
        at.reinterpret() + Span::from_whole_seconds(offset)
    }

    /// The instant at which a clock that knows nothing of the next leap second parts from UTC: where the
    /// inserted second begins, or the one that is left out would.
    pub fn parting(&self) -> Option<Timestamp<Tai>> {
        let leap = self.next?;
        let seconds = i64::from(self.tai_minus_utc) + i64::from(leap.change.min(0));
        Some(leap.at.reinterpret() + Span::from_whole_seconds(seconds))
    }

    /// The warning to give clients at that instant: during the last day before the change.
    pub fn indicator(&self, at: Timestamp<Tai>) -> LeapIndicator {
        let Some(leap) = self.next else { return LeapIndicator::None };
        let (utc, inside) = self.utc(at);
        let day = Span::from_whole_seconds(86_400);
        if inside || (utc < leap.at && leap.at - utc <= day) {
            if leap.change > 0 { LeapIndicator::Insert } else { LeapIndicator::Delete }
        } else {
            LeapIndicator::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(change: i32) -> (UtcMap, Timestamp<Utc>) {
        let midnight = Timestamp::from_parts(1_483_228_800, 0);
        (UtcMap { tai_minus_utc: 36, next: Some(LeapSecond { at: midnight, change }) }, midnight)
    }

    #[test]
    fn inserted_second_is_continuous_in_tai() {
        let (map, midnight) = map(1);
        let start = map.tai(midnight - Span::from_whole_seconds(3), false);
        let said: Vec<_> = (0..6)
            .map(|i| {
                let (utc, inside) = map.utc(start + Span::from_whole_seconds(i));
                (utc.whole_seconds() - midnight.whole_seconds(), inside)
            })
            .collect();
        assert_eq!(said, [(-3, false), (-2, false), (-1, false), (-1, true), (0, false), (1, false)]);
        assert_eq!(map.tai(midnight, true), start + Span::from_whole_seconds(3));
        assert_eq!(map.tai(midnight, false), start + Span::from_whole_seconds(4));
        assert_eq!(map.parting(), Some(start + Span::from_whole_seconds(3)));
    }

    #[test]
    fn deleted_second_is_continuous_in_tai() {
        let (map, midnight) = map(-1);
        let start = map.tai(midnight - Span::from_whole_seconds(3), false);
        let said: Vec<_> = (0..4)
            .map(|i| map.utc(start + Span::from_whole_seconds(i)).0.whole_seconds() - midnight.whole_seconds())
            .collect();
        assert_eq!(said, [-3, -2, 0, 1]);
        assert_eq!(map.parting(), Some(start + Span::from_whole_seconds(2)));
    }

    #[test]
    fn clients_are_warned_for_a_day() {
        let (map, midnight) = map(1);
        let at = |before: i64| map.indicator(map.tai(midnight - Span::from_whole_seconds(before), false));
        assert_eq!(at(86_401), LeapIndicator::None);
        assert_eq!(at(86_400), LeapIndicator::Insert);
        assert_eq!(at(1), LeapIndicator::Insert);
        assert_eq!(at(-1), LeapIndicator::None);
    }
}
