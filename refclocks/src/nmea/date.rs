//! Receivers count weeks in ten bits, and every 1024 weeks some of them fall back 1024 weeks.

use crate::calendar::WEEK_ROLLOVER;
use crate::time::{Span, Timestamp, Utc};

/// Brings dates back into the time in which they can lie: 1024 weeks from the earliest, or from the
/// last good time known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateFold {
    /// No date can be earlier: the program was built after it. The epoch: that is not known, and dates
    /// stay as they are.
    pub not_before: Timestamp<Utc>,
    /// The last good time known, if it is later. It moves the end of what can be, and not its
    /// beginning: an earlier date may be right, and it wrong.
    pub last_good: Timestamp<Utc>,
}

/// A clock slightly behind the last good time is no rollover.
pub const MARGIN: Span = Span::from_whole_seconds(7 * 86_400);

impl DateFold {
    /// The date that was meant, and how many periods it was off; `None` if no whole number of
    /// periods (up to four either way) explains it.
    pub fn fold(&self, at: Timestamp<Utc>) -> Option<(Timestamp<Utc>, u8)> {
        if self.not_before == Timestamp::EPOCH {
            return Some((at, 0));
        }
        let earliest = self.not_before - MARGIN;
        let latest = earliest.max(self.last_good - MARGIN);
        let mut folded = at;
        for periods in 0..=4 {
            if folded < earliest {
                folded += WEEK_ROLLOVER;
            } else if folded - latest >= WEEK_ROLLOVER {
                folded = folded - WEEK_ROLLOVER;
            } else {
                return Some((folded, periods));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_iso8601;

    #[test]
    fn rolled_over_dates_come_back() {
        let utc = |text: &str| parse_iso8601(text).unwrap().0;
        let fold = DateFold { not_before: utc("2025-07-01T00:00:00Z"), last_good: Timestamp::EPOCH };
        assert_eq!(fold.fold(utc("2006-05-18T12:00:00Z")), Some((utc("2026-01-01T12:00:00Z"), 1)));
        assert_eq!(fold.fold(utc("2026-01-01T12:00:00Z")), Some((utc("2026-01-01T12:00:00Z"), 0)));
        assert_eq!(fold.fold(utc("2025-06-28T12:00:00Z")), Some((utc("2025-06-28T12:00:00Z"), 0)));
        assert_eq!(fold.fold(utc("1950-01-01T00:00:00Z")), Some((utc("2028-07-02T00:00:00Z"), 4)));
        assert_eq!(fold.fold(utc("2045-08-17T12:00:00Z")), Some((utc("2026-01-01T12:00:00Z"), 1)));
        assert_eq!(fold.fold(utc("1900-01-01T00:00:00Z")), None);
    }
    #[test]
    fn a_program_older_than_1024_weeks_goes_on_and_an_earlier_date_is_not_bent() {
        let utc = |text: &str| parse_iso8601(text).unwrap().0;
        let fold = DateFold { not_before: utc("2025-07-01T00:00:00Z"), last_good: utc("2046-03-01T00:00:00Z") };
        assert_eq!(fold.fold(utc("2046-03-02T00:00:00Z")), Some((utc("2046-03-02T00:00:00Z"), 0)));
        // Somebody else decides whether the last good time was one.
        assert_eq!(fold.fold(utc("2026-11-26T00:00:00Z")), Some((utc("2026-11-26T00:00:00Z"), 0)));
        assert_eq!(fold.fold(utc("2007-04-12T00:00:00Z")), Some((utc("2026-11-26T00:00:00Z"), 1)));
    }
}
