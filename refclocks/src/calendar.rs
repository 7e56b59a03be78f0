//! The proleptic Gregorian calendar: days to dates and back, ISO 8601 text.

use std::fmt;

use crate::time::{Span, Timestamp, Utc};

/// Seconds in a day without leap second.
pub const DAY: i64 = 86_400;

/// A date and time of day in UTC, as a receiver writes it. `second` may be 60 in a leap second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CivilTime {
    /// Year, e.g. 2026.
    pub year: i32,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day of the month, 1 to 31.
    pub day: u8,
    /// Hour, 0 to 23.
    pub hour: u8,
    /// Minute, 0 to 59.
    pub minute: u8,
    /// Second, 0 to 60.
    pub second: u8,
    /// Nanoseconds, 0 to 999 999 999.
    pub nanos: u32,
}

impl CivilTime {
    /// Is every field in its range, and the day within its month?
    pub fn is_valid(&self) -> bool {
        (1..=12).contains(&self.month)
            && self.day >= 1
            && self.day <= days_in_month(self.year, self.month)
            && self.hour < 24
            && self.minute < 60
            && self.second <= 60
            && self.nanos < 1_000_000_000
    }

    /// The POSIX instant. Second 60 becomes the first second of the next minute: the caller keeps
    /// the fact that it was a leap second.
    pub fn to_utc(self) -> Timestamp<Utc> {
        let seconds = days_from_civil(self.year, self.month, self.day) * DAY
            + i64::from(self.hour) * 3600
            + i64::from(self.minute) * 60
            + i64::from(self.second);
        Timestamp::from_parts(seconds, self.nanos)
    }

    /// The date and time of day of an instant, to the nanosecond.
    pub fn from_utc(at: Timestamp<Utc>) -> Self {
        let (seconds, nanos) = at.to_parts();
        let (days, of_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        let (year, month, day) = civil_from_days(days);
        Self {
            year,
            month,
            day,
            hour: (of_day / 3600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
            nanos,
        }
    }
}

impl fmt::Display for CivilTime {
    /// `2026-01-01T00:00:00Z`; with a precision, so many digits of the second, cut off, not rounded.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second, nanos } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if let Some(digits @ 1..) = f.precision() {
            let text = format!("{nanos:09}");
            write!(f, ".{}", text.get(..digits.min(9)).unwrap_or(&text))?;
        }
        f.write_str("Z")
    }
}

impl fmt::Display for Timestamp<Utc> {
    /// ISO 8601, with as many digits of the second as the precision asks for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        CivilTime::from_utc(*self).fmt(f)
    }
}

/// Days from 1970-01-01 to the given date.
pub const fn days_from_civil(year: i32, month: u8, day: u8) -> i64 {
    // Years begin in March, so that the leap day is the last of its year.
    let year = year as i64 - (month <= 2) as i64;
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month as i64 + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day as i64 - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The date that lies `days` after 1970-01-01: year, month 1 to 12, day 1 to 31.
pub const fn civil_from_days(days: i64) -> (i32, u8, u8) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + (month <= 2) as i64;
    (year as i32, month as u8, day as u8)
}

/// Days in a month; 0 for a month that does not exist.
pub const fn days_in_month(year: i32, month: u8) -> u8 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 0,
    }
}

/// Reads `YYYY-MM-DDThh:mm:ss[.fraction]Z`. The second may be 60: then the flag is true and the
/// instant is the first of the next minute.
pub fn parse_iso8601(text: &str) -> Option<(Timestamp<Utc>, bool)> {
    let text = text.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (date.next()?, date.next()?, date.next()?);
    let mut time = time.splitn(3, ':');
    let (hour, minute, second) = (time.next()?, time.next()?, time.next()?);
    let (second, fraction) = second.split_once('.').unwrap_or((second, ""));
    let civil = CivilTime {
        year: digits(year, 4)? as i32,
        month: digits(month, 2)? as u8,
        day: digits(day, 2)? as u8,
        hour: digits(hour, 2)? as u8,
        minute: digits(minute, 2)? as u8,
        second: digits(second, 2)? as u8,
        nanos: parse_fraction(fraction)?,
    };
    civil.is_valid().then(|| (civil.to_utc(), civil.second == 60))
}

/// The digits after a decimal point as nanoseconds, cut off after the ninth. No digits are zero.
pub fn parse_fraction(text: &str) -> Option<u32> {
    let mut nanos = 0;
    let mut weight = 100_000_000;
    for byte in text.bytes() {
        if !byte.is_ascii_digit() {
            return None;
        }
        nanos += u32::from(byte - b'0') * weight;
        weight /= 10;
    }
    Some(nanos)
}

fn digits(text: &str, count: usize) -> Option<u32> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// 1024 weeks: how far a receiver with a ten-bit week counter falls back when it rolls over.
pub const WEEK_ROLLOVER: Span = Span::from_whole_seconds(1024 * 7 * DAY);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn days_round_trip(days in -1_000_000i64..3_000_000) {
            let (year, month, day) = civil_from_days(days);
            prop_assert_eq!(days_from_civil(year, month, day), days);
            prop_assert!(day >= 1 && day <= days_in_month(year, month));
        }

        #[test]
        fn iso8601_round_trips(nanos in 0i64..4_000_000_000_000_000_000) {
            let at = Timestamp::<Utc>::from_nanos(nanos);
            prop_assert_eq!(parse_iso8601(&format!("{at:.9}")), Some((at, false)));
        }

        #[test]
        fn iso8601_never_panics(text in "\\PC*") {
            let _ = parse_iso8601(&text);
        }
    }

    #[test]
    fn known_dates() {
        assert_eq!(days_from_civil(2026, 1, 1), 20_454);
        assert_eq!(Timestamp::<Utc>::from_parts(1_767_225_600, 0).to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(days_in_month(2000, 2), 29);
        assert_eq!(days_in_month(2100, 2), 28);
    }

    #[test]
    fn second_60_is_told() {
        let (at, leap) = parse_iso8601("2016-12-31T23:59:60.500Z").unwrap();
        assert!(leap);
        assert_eq!(at, Timestamp::from_parts(1_483_228_800, 500_000_000));
    }
}
