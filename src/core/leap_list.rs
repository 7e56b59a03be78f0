//! leap-seconds.list: the table of leap seconds that IERS and NIST publish and distributions install.
//!
//! Lines of data are an NTP timestamp (seconds since 1900) and the TAI - UTC from then on; `#@` tells
//! until when the table is good; other lines that begin with `#` are comments.

use refclocks::time::{Timestamp, Utc};
use thiserror::Error;

use super::leap::{LeapSecond, UtcMap};

/// Seconds from 1900-01-01 to 1970-01-01.
const NTP_TO_POSIX: i64 = 2_208_988_800;
/// TAI - UTC outside this is no table of leap seconds, s.
const CREDIBLE: std::ops::RangeInclusive<i32> = 10..=100;

/// Why a table is not used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LeapListError {
    /// A line is not as the format has it.
    #[error("line {0} is not a time and a TAI - UTC")]
    Malformed(usize),
    /// Times or offsets do not follow each other.
    #[error("line {0} does not follow from the one before")]
    Disordered(usize),
    /// No data at all.
    #[error("it has no entry")]
    Empty,
}

/// The table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeapList {
    entries: Vec<(Timestamp<Utc>, i32)>,
    /// Until when nothing else can be announced; `None` if the table does not say.
    pub expires: Option<Timestamp<Utc>>,
}

impl LeapList {
    /// Reads the text of the file.
    pub fn parse(text: &str) -> Result<Self, LeapListError> {
        let mut entries: Vec<(Timestamp<Utc>, i32)> = Vec::new();
        let mut expires = None;
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(rest) = line.strip_prefix("#@") {
                expires = rest.split_whitespace().next().and_then(posix);
                continue;
            }
            let data = line.split('#').next().unwrap_or_default();
            let mut fields = data.split_whitespace();
            let (Some(at), Some(offset)) = (fields.next(), fields.next()) else {
                if data.trim().is_empty() {
                    continue;
                }
                return Err(LeapListError::Malformed(number));
            };
            let entry = posix(at).zip(offset.parse().ok().filter(|offset| CREDIBLE.contains(offset)));
            let (at, offset): (Timestamp<Utc>, i32) = entry.ok_or(LeapListError::Malformed(number))?;
            let follows = entries.last().is_none_or(|(last, before)| at > *last && (offset - before).abs() == 1);
            // Leap seconds are at the end of a UTC day.
            if !follows || at.whole_seconds() % 86_400 != 0 {
                return Err(LeapListError::Disordered(number));
            }
            entries.push((at, offset));
        }
        if entries.is_empty() { Err(LeapListError::Empty) } else { Ok(Self { entries, expires }) }
    }

    /// How TAI and UTC relate around an instant: the offset in force, and the next change if the table
    /// has one.
    pub fn map_at(&self, now: Timestamp<Utc>) -> UtcMap {
        let Some((_, first)) = self.entries.first() else { return UtcMap::default() };
        let in_force = self.entries.iter().rev().find(|(at, _)| *at <= now).map_or(*first, |(_, offset)| *offset);
        // Before the table begins its first entry is no change.
        let next = self.entries.iter().find(|(at, offset)| *at > now && *offset != in_force);
        UtcMap {
            tai_minus_utc: in_force,
            next: next.map(|(at, offset)| LeapSecond { at: *at, change: offset - in_force }),
        }
    }
}

fn posix(ntp: &str) -> Option<Timestamp<Utc>> {
    // Beyond this lies no date that anybody has a table for.
    let seconds: i64 = ntp.parse().ok().filter(|seconds| (0..=1 << 36).contains(seconds))?;
    Some(Timestamp::from_parts(seconds - NTP_TO_POSIX, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &str = "# comment\n#$ 3960230400\n#@ 3991766400\n2272060800\t10\t# 1 Jan 1972\n2287785600 11\n\n3692217600 12 # 1 Jan 2017\n";

    #[test]
    fn the_offset_in_force_and_the_next_one() {
        let list = LeapList::parse(TABLE).unwrap();
        assert_eq!(list.expires.unwrap().whole_seconds(), 1_782_777_600);
        let at = |seconds| list.map_at(Timestamp::from_parts(seconds, 0));
        assert_eq!(at(1_700_000_000), UtcMap { tai_minus_utc: 12, next: None });
        let before_all = LeapSecond { at: Timestamp::from_parts(78_796_800, 0), change: 1 };
        assert_eq!(at(0), UtcMap { tai_minus_utc: 10, next: Some(before_all) });
        let before = at(1_483_228_799);
        assert_eq!(before.tai_minus_utc, 11);
        assert_eq!(before.next, Some(LeapSecond { at: Timestamp::from_parts(1_483_228_800, 0), change: 1 }));
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_line() {
        let error = |text: &str| LeapList::parse(text).unwrap_err();
        assert_eq!(error("# nothing\n"), LeapListError::Empty);
        assert_eq!(error("2272060800\n"), LeapListError::Malformed(1));
        assert_eq!(error("2272060800 10\n2272060800 11\n"), LeapListError::Disordered(2));
        assert_eq!(error("2272060800 10\n2287785600 14\n"), LeapListError::Disordered(2));
        assert_eq!(error("2272060801 10\n"), LeapListError::Disordered(1));
        assert_eq!(error("2272060800 1000\n"), LeapListError::Malformed(1));
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in any::<String>()) {
            let _ = LeapList::parse(&text);
        }
    }

    #[test]
    fn the_table_of_this_machine_is_understood() {
        let Ok(text) = std::fs::read_to_string("/usr/share/zoneinfo/leap-seconds.list") else { return };
        let map = LeapList::parse(&text).unwrap().map_at(Timestamp::from_parts(1_767_225_600, 0));
        assert!(map.tai_minus_utc >= 37);
    }
}
