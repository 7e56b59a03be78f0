//! Which day a time of day belongs to, and which era a date.

use crate::calendar::{CivilTime, DAY, WEEK_ROLLOVER, days_from_civil};
use crate::nmea::{Date, DateFold, Time};
use crate::time::{Raw, Span, Timestamp, Utc};

/// A date this old dates nothing: a machine that slept would not know it.
const OLDEST: Span = Span::from_whole_seconds(15 * 60);

/// A date this far from where the last one led is another date.
const FAR: Span = Span::from_whole_seconds(6 * 3600);

/// The dates of one receiver.
#[derive(Clone, Debug)]
pub(super) struct Dating {
    fold: DateFold,
    /// The last believed date and time as sent, and when it came.
    last: Option<(Timestamp<Utc>, Timestamp<Raw>)>,
    /// One that came since and is far from it: damaged, or the receiver has changed its mind.
    doubtful: Option<(Timestamp<Utc>, Timestamp<Raw>)>,
    /// A second date has followed from the first.
    confirmed: bool,
}

/// An instant as a receiver meant it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dated {
    /// As sent.
    pub sent: Timestamp<Utc>,
    /// Brought to where dates can lie; `None` if no whole number of periods does.
    pub utc: Option<Timestamp<Utc>>,
    /// How many periods of 1024 weeks were added.
    pub periods: i8,
}

impl Dating {
    pub fn new(fold: DateFold) -> Self {
        Self { fold, last: None, doubtful: None, confirmed: false }
    }

    /// An instant by its own date, or by the last one the receiver gave; `None` if there is no such.
    pub fn date(&self, time: Time, date: Option<Date>, at: Timestamp<Raw>) -> Option<Dated> {
        let of_day = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(time.second);
        let midnight = match date {
            Some(Date { year, month, day }) => days_from_civil(year, month, day) * DAY,
            None => {
                // The day that puts it nearest to what the last one has become since.
                let (last, then) = self.last.filter(|(_, then)| at - *then < OLDEST)?;
                let now = (last + (at - then)).whole_seconds();
                (now - of_day + DAY / 2).div_euclid(DAY) * DAY
            }
        };
        Some(self.place(Timestamp::from_parts(midnight + of_day, time.nanos)))
    }

    /// An instant with its date.
    pub fn place(&self, sent: Timestamp<Utc>) -> Dated {
        match self.fold.fold(sent) {
            Some((utc, _)) => {
                let periods = ((utc - sent).seconds() / WEEK_ROLLOVER.seconds()).round() as i8;
                Dated { sent, utc: Some(utc), periods }
            }
            None => Dated { sent, utc: None, periods: 0 },
        }
    }

    /// A date that is believed: messages that come without one are dated by it. One that is far from the
    /// last must be confirmed first.
    pub fn believe(&mut self, sent: Timestamp<Utc>, at: Timestamp<Raw>) {
        let follows = |(before, then): (Timestamp<Utc>, Timestamp<Raw>)| {
            at - then < OLDEST && ((sent - before) - (at - then)).abs() < FAR
        };
        let stale = self.last.is_none_or(|(_, then)| at - then >= OLDEST);
        let confirmed = self.last.is_some_and(follows) || self.doubtful.is_some_and(follows);
        if stale || confirmed {
            (self.last, self.doubtful, self.confirmed) = (Some((sent, at)), None, confirmed);
        } else {
            self.doubtful = Some((sent, at));
        }
    }

    /// The receiver was restarted, or another one is there.
    pub fn forget(&mut self) {
        (self.last, self.doubtful, self.confirmed) = (None, None, false);
    }

    /// Does the last date rest on more than one message?
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }
}

/// An impossible date, for a person to read.
pub(super) fn in_words(sent: Timestamp<Utc>) -> String {
    CivilTime::from_utc(sent).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_iso8601;
    use proptest::prelude::*;

    fn utc(text: &str) -> Timestamp<Utc> {
        parse_iso8601(text).unwrap().0
    }

    fn dating() -> Dating {
        Dating::new(DateFold { not_before: utc("2025-07-01T00:00:00Z"), last_good: Timestamp::EPOCH })
    }

    fn of_day(at: Timestamp<Utc>) -> Time {
        let CivilTime { hour, minute, second, nanos, .. } = CivilTime::from_utc(at);
        Time { hour, minute, second, nanos }
    }

    proptest! {
        #[test]
        fn a_time_of_day_is_of_the_day_it_came_in(start in 1_800_000_000i64..1_900_000_000, later in 0i64..800, off in -40_000i64..40_000) {
            let mut dating = dating();
            let believed = Timestamp::from_parts(start, 0);
            dating.believe(believed, Timestamp::from_parts(100, 0));
            let now = Timestamp::<Utc>::from_parts(start + later + off, 0);
            let dated = dating.date(of_day(now), None, Timestamp::from_parts(100 + later, 0));
            prop_assert_eq!(dated.and_then(|d| d.utc), Some(now));
        }
    }

    #[test]
    fn an_old_date_dates_nothing() {
        let mut dating = dating();
        let time = of_day(utc("2026-01-01T12:00:00Z"));
        assert_eq!(dating.date(time, None, Timestamp::from_parts(100, 0)), None);
        dating.believe(utc("2026-01-01T12:00:00Z"), Timestamp::from_parts(100, 0));
        assert!(dating.date(time, None, Timestamp::from_parts(999, 0)).is_some());
        assert_eq!(dating.date(time, None, Timestamp::from_parts(1000, 0)), None);
    }

    #[test]
    fn another_date_must_be_confirmed() {
        let mut dating = dating();
        let time = of_day(utc("2026-01-01T12:00:05Z"));
        let year = |dating: &Dating| dating.date(time, None, Timestamp::from_parts(105, 0)).unwrap().sent.to_string();
        dating.believe(utc("2026-01-01T12:00:00Z"), Timestamp::from_parts(100, 0));
        dating.believe(utc("2028-01-01T12:00:01Z"), Timestamp::from_parts(101, 0));
        assert_eq!(year(&dating), "2026-01-01T12:00:05Z");
        dating.believe(utc("2029-01-01T12:00:02Z"), Timestamp::from_parts(102, 0));
        dating.believe(utc("2028-01-01T12:00:03Z"), Timestamp::from_parts(103, 0));
        assert_eq!(year(&dating), "2026-01-01T12:00:05Z", "they do not confirm each other");
        dating.believe(utc("2028-01-01T12:00:04Z"), Timestamp::from_parts(104, 0));
        assert_eq!(year(&dating), "2028-01-01T12:00:05Z");
    }

    #[test]
    fn periods_are_told_with_their_sign() {
        let dating = dating();
        let placed = dating.place(utc("2006-05-18T12:00:00Z"));
        assert_eq!((placed.utc, placed.periods), (Some(utc("2026-01-01T12:00:00Z")), 1));
        assert_eq!(dating.place(utc("2045-08-17T12:00:00Z")).periods, -1);
        assert_eq!(dating.place(utc("1900-01-01T12:00:00Z")).utc, None);
    }
}
