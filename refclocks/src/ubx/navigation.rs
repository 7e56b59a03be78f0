//! Class NAV: what time it is, and how far that may be believed.

use super::{DecodeError, Payload};
use crate::calendar::{CivilTime, DAY, days_from_civil};
use crate::report::{ComingLeap, Fix};
use crate::time::{Span, Timestamp, Utc};

/// A receiver that knows its time to worse than this has it from its own clock, ns.
const WORST_ACCURACY: u32 = 10_000_000;
/// A leap second is announced half a year before at most, and receivers count down from less, s.
const LONGEST_NOTICE: i32 = 200 * 86_400;

/// NAV-PVT. Time, and how well the position is known, which is no business of a clock itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NavPvt {
    /// UTC; `None` where the fields hold no date or time.
    pub utc: Option<Instant>,
    /// Date and time are valid, the second is fully resolved, and there is a fix.
    pub valid: bool,
    /// The receiver knows the whole second: it has the leap seconds from the sky.
    pub resolved: bool,
    /// Accuracy, ns.
    pub accuracy: u32,
    /// Kind of fix.
    pub fix: Option<Fix>,
    /// Satellites used.
    pub satellites: u8,
    /// Standard deviations of the position, horizontal and vertical, mm; 0 where it does not say.
    pub position_accuracy: [u32; 2],
}

/// An instant as UBX has it: whole seconds, which may be second 60, and signed nanoseconds from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant {
    /// Date and time of day; `nanos` is 0.
    pub civil: CivilTime,
    /// -1e9 to 1e9, to be added.
    pub nanos: i32,
}

impl Instant {
    fn read(p: &Payload<'_>, date: usize, nanos: i32, name: &'static str) -> Result<Option<Self>, DecodeError> {
        let civil = CivilTime {
            year: i32::from(p.u16(date)),
            month: p.u8(date + 2),
            day: p.u8(date + 3),
            hour: p.u8(date + 4),
            minute: p.u8(date + 5),
            second: p.u8(date + 6),
            nanos: 0,
        };
        if !(-1_000_000_000..=1_000_000_000).contains(&nanos) {
            return Err(DecodeError::Field { name, field: "nanoseconds" });
        }
        Ok(civil.is_valid().then_some(Self { civil, nanos }))
    }

    /// The POSIX instant; second 60 is the first second of the next minute.
    pub fn to_utc(self) -> Timestamp<Utc> {
        self.civil.to_utc() + Span::from_nanos(self.nanos.into())
    }
}

impl NavPvt {
    pub(super) fn decode(p: Payload<'_>) -> Result<Self, DecodeError> {
        let (valid, accuracy, fix) = (p.u8(11), p.u32(12), p.u8(20));
        let resolved = valid & 4 != 0;
        Ok(Self {
            utc: Instant::read(&p, 4, p.i32(16), "NAV-PVT")?,
            valid: valid & 7 == 7 && p.bit(21, 0) && accuracy <= WORST_ACCURACY,
            resolved,
            accuracy,
            fix: fix_type(fix),
            satellites: p.u8(23),
            position_accuracy: [p.u32(40), p.u32(44)],
        })
    }
}

/// Kinds of fix, as NAV-PVT and NAV-STATUS count them.
fn fix_type(code: u8) -> Option<Fix> {
    match code {
        // Dead reckoning alone is no fix to take a time from.
        0 | 1 => Some(Fix::None),
        2 => Some(Fix::TwoD),
        3 | 4 => Some(Fix::ThreeD),
        5 => Some(Fix::Time),
        _ => None,
    }
}

/// NAV-TIMEUTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NavTimeUtc {
    /// UTC; `None` where the fields hold no date or time.
    pub utc: Option<Instant>,
    /// Time of week, week and leap seconds are all known.
    pub valid: bool,
    /// The leap seconds are known.
    pub resolved: bool,
    /// Accuracy, ns.
    pub accuracy: u32,
}

impl NavTimeUtc {
    pub(super) fn decode(p: Payload<'_>) -> Result<Self, DecodeError> {
        let accuracy = p.u32(4);
        Ok(Self {
            utc: Instant::read(&p, 12, p.i32(8), "NAV-TIMEUTC")?,
            valid: p.u8(19) & 7 == 7 && accuracy <= WORST_ACCURACY,
            resolved: p.bit(19, 2),
            accuracy,
        })
    }
}

/// NAV-TIMEGPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NavTimeGps {
    /// GPS time, counted from 1980-01-06 as if it were POSIX: it runs ahead of UTC by the leap seconds.
    pub gps: Timestamp<Utc>,
    /// GPS - UTC, s.
    pub leap_seconds: i8,
    /// Time of week, week and leap seconds are all known.
    pub valid: bool,
    /// The leap seconds are known.
    pub resolved: bool,
    /// Accuracy, ns.
    pub accuracy: u32,
}

impl NavTimeGps {
    pub(super) fn decode(p: Payload<'_>) -> Result<Self, DecodeError> {
        let (milliseconds, fraction, accuracy) = (p.u32(0), p.i32(4), p.u32(12));
        let field = |field| DecodeError::Field { name: "NAV-TIMEGPS", field };
        if milliseconds >= 7 * 86_400_000 {
            return Err(field("time of week"));
        }
        if fraction.unsigned_abs() > 1_000_000 {
            return Err(field("nanoseconds"));
        }
        let week = u32::try_from(p.i16(8)).map_err(|_| field("week"))?;
        let nanos = i64::from(milliseconds) * 1_000_000 + i64::from(fraction);
        Ok(Self {
            gps: gps_week(week) + Span::from_nanos(nanos),
            leap_seconds: p.i8(10),
            valid: p.u8(11) & 7 == 7 && accuracy <= WORST_ACCURACY,
            resolved: p.bit(11, 2),
            accuracy,
        })
    }

    /// UTC.
    pub fn to_utc(self) -> Timestamp<Utc> {
        self.gps - Span::from_whole_seconds(self.leap_seconds.into())
    }
}

/// The beginning of a GPS week, counted as if GPS had leap seconds.
pub(super) fn gps_week(week: u32) -> Timestamp<Utc> {
    Timestamp::from_parts((days_from_civil(1980, 1, 6) + 7 * i64::from(week)) * DAY, 0)
}

/// NAV-TIMELS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NavTimeLs {
    /// GPS - UTC, s; `None` while the receiver has only its firmware's default.
    pub leap_seconds: Option<i8>,
    /// Does the sky tell of leap seconds to come, or that there is none?
    pub knows_of_coming: bool,
    /// The next one: +1 inserts, -1 leaves out, and how many seconds from now.
    pub coming: Option<(i8, i32)>,
}

impl NavTimeLs {
    pub(super) fn decode(p: Payload<'_>) -> Self {
        // 0: the firmware's default; 255: unknown.
        let from_the_sky = !matches!(p.u8(8), 0 | 255);
        let (change, seconds, knows_of_coming) = (p.i8(11), p.i32(12), p.bit(23, 1));
        let is_leap = matches!(change, 1 | -1) && (1..LONGEST_NOTICE).contains(&seconds);
        Self {
            leap_seconds: (p.bit(23, 0) && from_the_sky).then(|| p.i8(9)),
            knows_of_coming,
            coming: (knows_of_coming && is_leap).then_some((change, seconds)),
        }
    }

    /// The coming leap second, when it is now so late. `None` as well if it would not be at the end of a
    /// month.
    pub fn coming_at(&self, now: Timestamp<Utc>) -> Option<ComingLeap> {
        let (change, seconds) = self.coming?;
        // Seconds are whole in the message; the midnight within two of them is meant.
        let at = now + Span::from_whole_seconds(seconds.into());
        let midnight = (at.whole_seconds() + DAY / 2).div_euclid(DAY) * DAY;
        let is_near = (at - Timestamp::from_parts(midnight, 0)).abs() <= Span::from_whole_seconds(2);
        let at = Timestamp::from_parts(midnight, 0);
        (is_near && CivilTime::from_utc(at).day == 1).then_some(ComingLeap { at, change })
    }
}

/// NAV-STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NavStatus {
    /// Kind of fix.
    pub fix: Option<Fix>,
    /// The fix is within the receiver's limits of accuracy.
    pub fix_ok: bool,
    /// Counterfeit signals: 0 unknown, 1 none, 2 indicated, 3 several signs.
    pub spoofing: u8,
}

impl NavStatus {
    pub(super) fn decode(p: Payload<'_>) -> Self {
        Self { fix: fix_type(p.u8(4)), fix_ok: p.bit(5, 0), spoofing: p.u8(7) >> 3 & 3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_iso8601;
    use crate::ubx::{Frame, Message, write};

    fn utc(text: &str) -> Timestamp<Utc> {
        parse_iso8601(text).unwrap().0
    }

    fn decode(bytes: &[u8]) -> Message<'_> {
        Message::decode(Frame::from_bytes(bytes).unwrap()).unwrap()
    }

    #[test]
    fn valid_means_all_of_it() {
        let at = CivilTime::from_utc(utc("2026-11-26T12:00:00Z"));
        let flags = |valid: u8, fix_ok: bool, accuracy: u32| {
            let mut bytes = write::nav_pvt(&at, -123, true);
            bytes[6 + 11] = valid;
            bytes[6 + 21] = u8::from(fix_ok);
            bytes[6 + 12..6 + 16].copy_from_slice(&accuracy.to_le_bytes());
            let again = write::message(1, 7, &bytes[6..bytes.len() - 2]);
            let Message::NavPvt(pvt) = decode(&again) else { panic!() };
            (pvt.valid, pvt.resolved)
        };
        assert_eq!(flags(0xf7, true, 31), (true, true));
        assert_eq!(flags(0x03, true, 31), (false, false), "the second is not resolved");
        assert_eq!(flags(0x05, true, 31), (false, true));
        assert_eq!(flags(0x06, true, 31), (false, true));
        assert_eq!(flags(0x07, false, 31), (false, true), "no fix");
        assert_eq!(flags(0x07, true, u32::MAX), (false, true), "the receiver's own clock");
    }

    #[test]
    fn nanoseconds_may_be_negative_and_the_second_60() {
        let at = CivilTime { second: 60, ..CivilTime::from_utc(utc("2016-12-31T23:59:59Z")) };
        let bytes = write::nav_pvt(&at, -250_000_000, true);
        let Message::NavPvt(pvt) = decode(&bytes) else { panic!() };
        let instant = pvt.utc.unwrap();
        assert_eq!((instant.civil.second, instant.nanos), (60, -250_000_000));
        assert_eq!(instant.to_utc(), utc("2016-12-31T23:59:59.75Z"));
    }

    #[test]
    fn gps_time_is_ahead_by_the_leap_seconds() {
        let mut payload = [0; 16];
        payload[..4].copy_from_slice(&403_075_000u32.to_le_bytes());
        payload[8..10].copy_from_slice(&2307i16.to_le_bytes());
        payload[10] = 18;
        payload[11] = 7;
        let Ok(Message::NavTimeGps(gps)) = Message::decode(Frame { class: 1, id: 0x20, payload: &payload }) else {
            panic!()
        };
        assert!(gps.valid);
        assert_eq!(gps.to_utc(), utc("2024-03-28T15:57:37Z"));
        payload[11] = 3;
        let Ok(Message::NavTimeGps(gps)) = Message::decode(Frame { class: 1, id: 0x20, payload: &payload }) else {
            panic!()
        };
        assert!(!gps.valid && !gps.resolved);
    }

    #[test]
    fn a_leap_second_is_announced_at_the_end_of_a_month_only() {
        let now = utc("2016-12-30T12:00:00Z");
        let said = |change, seconds| {
            let bytes = write::nav_timels(18, change, seconds);
            let Message::NavTimeLs(ls) = decode(&bytes) else { panic!() };
            (ls.leap_seconds, ls.coming_at(now))
        };
        let at = utc("2017-01-01T00:00:00Z");
        assert_eq!(said(1, 129_600), (Some(18), Some(ComingLeap { at, change: 1 })));
        assert_eq!(said(-1, 129_601), (Some(18), Some(ComingLeap { at, change: -1 })));
        assert_eq!(said(1, 129_604).1, None, "not at midnight");
        assert_eq!(said(1, 43_200).1, None, "not the last day");
        assert_eq!(said(1, 0).1, None, "it is over");
        assert_eq!(said(2, 129_600).1, None);
        assert_eq!(said(0, 129_600).1, None);
        let mut bytes = write::nav_timels(18, 1, 129_600);
        bytes[6 + 8] = 0;
        let again = write::message(1, 0x26, &bytes[6..30]);
        let Message::NavTimeLs(ls) = decode(&again) else { panic!() };
        assert_eq!(ls.leap_seconds, None, "the firmware's default is no knowledge");
    }
}
