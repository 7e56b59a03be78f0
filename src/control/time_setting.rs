//! The time as an operator types it. Pure.
//!
//! ```text
//! now                                  the system clock of the machine is right
//! +2.5 s, -300 ms, +1 min              our clock is behind, or ahead, by so much
//! 2026-11-26 12:00:00                  it is then, UTC
//! 2026-11-26T13:00:00.5+01:00          the same half a second later, with the offset of a time zone
//! 16:30, 16:30:05                      today, or the day that is nearest
//! ```

use std::fmt;
use std::str::FromStr;

use refclocks::calendar::{CivilTime, DAY, parse_fraction, parse_iso8601};
use refclocks::time::{Span, Timestamp, Utc};
use serde::{Deserialize, Serialize};

use crate::config::parse_duration;

/// The furthest that a time can be told by an offset, s.
const FURTHEST: f64 = 1e9;

/// What it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TimeSetting {
    /// What the system clock says.
    Now,
    /// What our clock says, and so much more, s.
    By(f64),
    /// This.
    At(Timestamp<Utc>),
    /// This time of the day, s since midnight UTC.
    Today(f64),
}

/// It is none of what we read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "That is not a time. Write it like \"2026-11-26 12:00:00\" (UTC, or with an offset such as +01:00), 16:30:05, \
     +2.5s, or now."
)]
pub struct NotATime;

impl TimeSetting {
    /// The time meant, by our clock and the system's as they stand.
    pub fn resolve(self, ours: Timestamp<Utc>, system: Timestamp<Utc>) -> Timestamp<Utc> {
        match self {
            Self::Now => system,
            Self::By(seconds) => ours + Span::from_seconds(seconds),
            Self::At(at) => at,
            Self::Today(since_midnight) => {
                let midnight = Timestamp::from_parts(ours.whole_seconds().div_euclid(DAY) * DAY, 0);
                let day = Span::from_whole_seconds(DAY);
                let today = midnight + Span::from_seconds(since_midnight);
                let nearest = |at: &Timestamp<Utc>| (*at - ours).abs();
                [today - day, today, today + day].into_iter().min_by_key(nearest).unwrap_or(today)
            }
        }
    }
}

impl FromStr for TimeSetting {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("now") {
            return Ok(Self::Now);
        }
        let read = if text.starts_with(['+', '-', '\u{2212}']) {
            by(text)
        } else if text.contains('-') {
            at(text).map(Self::At)
        } else {
            of_day(text).map(Self::Today)
        };
        read.ok_or(NotATime)
    }
}

fn by(text: &str) -> Option<TimeSetting> {
    let seconds = parse_duration(&text.replace('\u{2212}', "-"))?;
    (seconds.abs() <= FURTHEST).then_some(TimeSetting::By(seconds))
}

/// A date and a time, in UTC unless an offset follows.
fn at(text: &str) -> Option<Timestamp<Utc>> {
    let (date, time) = text.split_once(['T', ' '])?;
    let time = time.trim();
    let (time, offset) = if let Some(time) = time.strip_suffix(['Z', 'z']) {
        (time, 0)
    } else if let Some(time) = time.strip_suffix("UTC") {
        (time.trim_end(), 0)
    } else if let Some(sign) = time.find(['+', '-']) {
        let (time, offset) = time.split_at(sign);
        (time.trim_end(), zone(offset)?)
    } else {
        (time, 0)
    };
    let seconds = if time.matches(':').count() == 1 { ":00" } else { "" };
    let (local, _) = parse_iso8601(&format!("{}T{time}{seconds}Z", date.trim()))?;
    Some(local - Span::from_whole_seconds(offset))
}

/// `+01:00`, `-0530` or `+1`: seconds east of Greenwich.
fn zone(text: &str) -> Option<i64> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits: String = text.get(1..)?.replacen(':', "", 1);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = match digits.len() {
        1 | 2 => (digits.parse::<i64>().ok()?, 0),
        4 => (digits.get(..2)?.parse().ok()?, digits.get(2..)?.parse::<i64>().ok()?),
        _ => return None,
    };
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// `16:30` or `16:30:05.5`, s.
fn of_day(text: &str) -> Option<f64> {
    let mut parts = text.splitn(3, ':');
    let number = |part: &str, below: u32| {
        let digits = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse::<u32>().ok()).flatten().filter(|n| *n < below)
    };
    let (hour, minute) = (number(parts.next()?, 24)?, number(parts.next()?, 60)?);
    let second = parts.next().unwrap_or("0");
    let (second, fraction) = second.split_once('.').unwrap_or((second, ""));
    let nanos = parse_fraction(fraction)?;
    Some(f64::from(hour * 3600 + minute * 60 + number(second, 60)?) + f64::from(nanos) * 1e-9)
}

impl TryFrom<String> for TimeSetting {
    type Error = NotATime;

    fn try_from(text: String) -> Result<Self, NotATime> {
        text.parse()
    }
}

impl From<TimeSetting> for String {
    fn from(setting: TimeSetting) -> Self {
        setting.to_string()
    }
}

impl fmt::Display for TimeSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            Self::By(seconds) => write!(f, "{seconds:+.9}s"),
            Self::At(at) => write!(f, "{at:.9}"),
            Self::Today(seconds) => {
                let CivilTime { hour, minute, second, nanos, .. } =
                    CivilTime::from_utc(Timestamp::EPOCH + Span::from_seconds(*seconds));
                write!(f, "{hour:02}:{minute:02}:{second:02}.{nanos:09}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-26 12:00:00 UTC.
    const NOON: Timestamp<Utc> = Timestamp::from_parts(1_795_694_400, 0);

    fn at_noon(text: &str) -> String {
        let setting: TimeSetting = text.parse().unwrap_or_else(|_| panic!("{text}"));
        format!("{:.1}", setting.resolve(NOON, NOON + Span::from_whole_seconds(7)))
    }

    #[test]
    fn times_as_people_write_them() {
        for (text, meant) in [
            ("2026-11-26 12:00:00", "2026-11-26T12:00:00.0Z"),
            (" 2026-11-26T12:00:00Z ", "2026-11-26T12:00:00.0Z"),
            ("2026-11-26 12:00", "2026-11-26T12:00:00.0Z"),
            ("2026-11-26 12:00:00 UTC", "2026-11-26T12:00:00.0Z"),
            ("2026-11-26 13:00:00.5+01:00", "2026-11-26T12:00:00.5Z"),
            ("2026-11-26 01:30 -1030", "2026-11-26T12:00:00.0Z"),
            ("2016-12-31 23:59:60", "2017-01-01T00:00:00.0Z"),
            ("now", "2026-11-26T12:00:07.0Z"),
            ("+2.5 s", "2026-11-26T12:00:02.5Z"),
            ("-300ms", "2026-11-26T11:59:59.7Z"),
            ("+1 min", "2026-11-26T12:01:00.0Z"),
            ("16:30", "2026-11-26T16:30:00.0Z"),
            ("16:30:05.5", "2026-11-26T16:30:05.5Z"),
            ("0:00:01", "2026-11-26T00:00:01.0Z"),
        ] {
            assert_eq!(at_noon(text), meant, "{text}");
        }
        // Just after midnight, 23:59 is of the day before.
        let setting: TimeSetting = "23:59:30".parse().unwrap();
        let after_midnight = Timestamp::from_parts(1_795_651_200 + 20, 0);
        assert_eq!(format!("{:.0}", setting.resolve(after_midnight, NOON)), "2026-11-25T23:59:30Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "noon",
            "12",
            "25:00",
            "12:60",
            "12:00:61",
            "2026-13-01 00:00:00",
            "2026-02-30 00:00",
            "2026-11-26",
            "+",
            "+5 days",
            "+1e99",
            "12:00:00 PM",
            "2026-11-26 12:00:00 CET",
            "12:0x",
            "1:2:3:4",
            "2026-11-26 12:00+25:00",
        ] {
            assert_eq!(text.parse::<TimeSetting>(), Err(NotATime), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_is_written_alike(text in "[-+0-9: TZ.a-z\u{e9}]{0,30}") {
            if let Ok(setting) = text.parse::<TimeSetting>() {
                let again: TimeSetting = setting.to_string().parse().unwrap();
                let apart = again.resolve(NOON, NOON) - setting.resolve(NOON, NOON);
                prop_assert!(apart.seconds().abs() < 1e-8, "{text}: {setting} {again}");
            }
        }
    }
}
