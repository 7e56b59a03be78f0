//! The fields of a sentence, and numbers, times and dates in them.

use thiserror::Error;

use crate::calendar::{days_in_month, parse_fraction};
use crate::satellite::{Constellation, Satellite};

/// A time of day as sent. `second` may be 60.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60.
    pub second: u8,
    /// 0 to 999 999 999.
    pub nanos: u32,
}

/// A date as sent: year, month, day. A two-digit year comes as 1980 to 2079.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Year.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31, within the month.
    pub day: u8,
}

/// Why a frame is not a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// Not `$`, letters and commas.
    #[error("not a sentence")]
    NotASentence,
    /// No `*hh` at its end.
    #[error("no checksum")]
    NoChecksum,
    /// The checksum is another.
    #[error("wrong checksum")]
    Checksum,
    /// A field of time, date or validity cannot be read.
    #[error("the field of {0} cannot be read")]
    Field(&'static str),
}

/// Fields that are kept: the longest sentences we read have 21.
const MOST: usize = 24;

/// The fields after the address, counted from 1.
pub(super) struct Fields<'a> {
    fields: [&'a str; MOST],
    /// How many there are.
    count: usize,
}

impl<'a> Fields<'a> {
    /// The address, and the fields behind it.
    pub fn split(body: &'a str) -> (&'a str, Self) {
        let mut parts = body.split(',');
        let address = parts.next().unwrap_or_default();
        let mut fields = [""; MOST];
        let mut count = 0;
        for (field, part) in fields.iter_mut().zip(parts) {
            *field = part;
            count += 1;
        }
        (address, Self { fields, count })
    }

    pub fn get(&self, i: usize) -> &'a str {
        i.checked_sub(1).and_then(|i| self.fields.get(i)).copied().unwrap_or_default()
    }

    pub fn number(&self, i: usize) -> Option<u16> {
        let text = self.get(i);
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    }

    /// A length with its sign, m. What no length on Earth is counts as not told.
    pub fn length(&self, i: usize) -> Option<f64> {
        self.get(i).parse().ok().filter(|metres: &f64| metres.abs() < 1e9)
    }

    /// A standard deviation, m; some give an expected error with a sign. Zero is what receivers send that do
    /// not know.
    pub fn deviation(&self, i: usize) -> Option<f64> {
        self.length(i).map(f64::abs).filter(|metres| *metres > 0.0)
    }

    /// Three, from this field on.
    pub fn deviations(&self, i: usize) -> Option<[f64; 3]> {
        Some([self.deviation(i)?, self.deviation(i + 1)?, self.deviation(i + 2)?])
    }

    pub fn time(&self, i: usize) -> Result<Option<Time>, ParseError> {
        let text = self.get(i);
        if text.is_empty() {
            return Ok(None);
        }
        let bad = ParseError::Field("time");
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let [hour, minute, second] = pairs(whole).ok_or(bad)?;
        let nanos = parse_fraction(fraction).ok_or(bad)?;
        if hour > 23 || minute > 59 || second > 60 {
            return Err(bad);
        }
        Ok(Some(Time { hour, minute, second, nanos }))
    }

    /// `ddmmyy`. Years 80 to 99 are of the 1900s: GPS's time began in 1980, and there a receiver goes back
    /// to that has lost count of its weeks.
    pub fn date(&self, i: usize) -> Result<Option<Date>, ParseError> {
        let text = self.get(i);
        if text.is_empty() {
            return Ok(None);
        }
        let [day, month, year] = pairs(text).ok_or(ParseError::Field("date"))?;
        let century = if year < 80 { 2000 } else { 1900 };
        checked_date(century + i32::from(year), month, day).map(Some)
    }

    /// Day, month and year in a field each.
    pub fn long_date(&self, i: usize) -> Result<Option<Date>, ParseError> {
        let (day, month, year) = (self.get(i), self.get(i + 1), self.get(i + 2));
        if day.is_empty() || month.is_empty() || year.is_empty() {
            return Ok(None);
        }
        let part = |i| self.number(i).ok_or(ParseError::Field("date"));
        let small = |i| u8::try_from(part(i)?).map_err(|_| ParseError::Field("date"));
        checked_date(i32::from(part(i + 2)?), small(i + 1)?, small(i)?).map(Some)
    }

    /// Four fields from this one on. A single one behind the last satellite is NMEA 4.1's signal.
    pub fn satellite(&self, i: usize) -> Option<Satellite> {
        if i + 3 > self.count {
            return None;
        }
        let number = self.number(i)?;
        Some(Satellite {
            constellation: Constellation::Unknown,
            number,
            elevation: self.get(i + 1).parse().ok().filter(|e| (-90..=90).contains(e)),
            azimuth: self.number(i + 2).filter(|a| *a <= 360),
            signal: self.number(i + 3).and_then(|s| u8::try_from(s).ok()),
            used: false,
        })
    }
}

fn checked_date(year: i32, month: u8, day: u8) -> Result<Date, ParseError> {
    if day == 0 || day > days_in_month(year, month) {
        return Err(ParseError::Field("date"));
    }
    Ok(Date { year, month, day })
}

/// Six digits as three numbers.
fn pairs(text: &str) -> Option<[u8; 3]> {
    let [a, b, c, d, e, f] = text.as_bytes() else { return None };
    let pair = |x: &u8, y: &u8| (x.is_ascii_digit() && y.is_ascii_digit()).then(|| (x - b'0') * 10 + (y - b'0'));
    Some([pair(a, b)?, pair(c, d)?, pair(e, f)?])
}
