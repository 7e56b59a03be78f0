//! What sources say of a leap second to come. A table of leap seconds that has not expired knows better;
//! without one, the majority of the sources that agree on the time is believed (RFC 5905, leap indicator).

use refclocks::LeapIndicator;
use refclocks::calendar::{CivilTime, DAY, days_from_civil};
use refclocks::time::{Timestamp, Utc};

/// What more than half of those say that say anything.
pub fn majority(voices: impl IntoIterator<Item = LeapIndicator>) -> Option<LeapIndicator> {
    let (mut insert, mut delete, mut none) = (0, 0, 0);
    for voice in voices {
        match voice {
            LeapIndicator::Insert => insert += 1,
            LeapIndicator::Delete => delete += 1,
            LeapIndicator::None => none += 1,
            LeapIndicator::Unsynchronised => {}
        }
    }
    let all = insert + delete + none;
    let is_most = |count: usize| 2 * count > all;
    [(insert, LeapIndicator::Insert), (delete, LeapIndicator::Delete), (none, LeapIndicator::None)]
        .into_iter()
        .find_map(|(count, indicator)| is_most(count).then_some(indicator))
}

/// The midnight at which a leap second is due that is announced now: the end of this month, if it is
/// June or December. In other months none has ever been, and what says so is mistaken.
pub fn due(now: Timestamp<Utc>) -> Option<Timestamp<Utc>> {
    let CivilTime { year, month, .. } = CivilTime::from_utc(now);
    let (year, month) = match month {
        6 => (year, 7),
        12 => (year + 1, 1),
        _ => return None,
    };
    Some(Timestamp::from_parts(days_from_civil(year, month, 1) * DAY, 0))
}

#[cfg(test)]
mod tests {
    use refclocks::calendar::parse_iso8601;

    use super::*;

    #[test]
    fn more_than_half_of_those_that_speak() {
        use LeapIndicator::{Delete, Insert, None as Nothing, Unsynchronised};
        assert_eq!(majority([]), None);
        assert_eq!(majority([Insert]), Some(Insert));
        assert_eq!(majority([Insert, Nothing]), None);
        assert_eq!(majority([Insert, Nothing, Insert, Unsynchronised, Unsynchronised]), Some(Insert));
        assert_eq!(majority([Insert, Nothing, Delete, Nothing, Nothing]), Some(Nothing));
    }

    #[test]
    fn at_the_end_of_june_and_december_only() {
        let due = |text: &str| due(parse_iso8601(text).unwrap().0).map(|at| at.to_string());
        assert_eq!(due("2026-12-01T00:00:00Z").as_deref(), Some("2027-01-01T00:00:00Z"));
        assert_eq!(due("2026-06-30T23:59:59Z").as_deref(), Some("2026-07-01T00:00:00Z"));
        assert_eq!(due("2026-11-30T12:00:00Z"), None);
    }
}
