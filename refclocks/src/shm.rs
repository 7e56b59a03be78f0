//! NTP shared memory segments (ntpd's driver 28), without I/O: what the words of a segment say.
//!
//! The layout is C's for the writer's word size: 96 bytes with 64-bit time, 80 with 32-bit. Both are
//! read and written; another size is a state with its reason.

use serde::{Deserialize, Serialize};

use crate::device::Health;
use crate::report::{LeapIndicator, LocalStamp, Sample};
use crate::sys::clock::Bracket;
use crate::time::{Realtime, Span, Timestamp};

/// A sample older than this when it is read is not one of now.
const OLDEST: Span = Span::from_whole_seconds(5);
/// Clocks that differ by more than this are not being compared, s.
const ABSURD: Span = Span::from_whole_seconds(1 << 33);

/// A copy of a segment's fields, whatever its word size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// 0: `valid` alone guards; 1: `count` guards as well.
    pub mode: i32,
    /// The writer's count.
    pub count: i32,
    /// Reference time: s, us, ns.
    pub clock: (i64, i32, u32),
    /// System time at the same event: s, us, ns.
    pub receive: (i64, i32, u32),
    /// NTP leap indicator.
    pub leap: i32,
    /// log2 s.
    pub precision: i32,
    /// A sample waits.
    pub valid: i32,
}

/// Why a segment gave no sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShmError {
    /// Neither mode 0 nor 1.
    #[error("its mode is {0}, not 0 or 1")]
    Mode(i32),
    /// The writer wrote while it was read.
    #[error("its writer was writing")]
    Clash,
    /// The writer says that it is not synchronised.
    #[error("its writer is not synchronised")]
    Unsynchronised,
    /// Fields that no writer writes.
    #[error("its {0} is absurd")]
    Absurd(&'static str),
    /// From before now, or after.
    #[error("its sample is stale")]
    Stale,
}

/// Reads copies of one segment.
#[derive(Debug, Default)]
pub struct ShmReader {
    health: Health,
    last: Option<(Timestamp<Realtime>, i32)>,
}

impl ShmReader {
    /// The sample in a copy, if there is one. `after` is the count read after the copy was made.
    pub fn read(&mut self, copy: &Segment, after: i32, now: &Bracket) -> Option<Result<Sample, ShmError>> {
        if copy.valid == 0 && matches!(copy.mode, 0 | 1) {
            return None;
        }
        let read = parse(copy, after).and_then(|sample| {
            let LocalStamp::Realtime(at) = sample.local else { return Err(ShmError::Absurd("stamp")) };
            let age = now.realtime - at;
            // Where nobody clears `valid`, the same sample is read again.
            let again = self.last == Some((at, copy.count));
            if again || age < Span::from_millis(-1) || age > OLDEST {
                return Err(ShmError::Stale);
            }
            self.last = Some((at, copy.count));
            Ok(sample)
        });
        match &read {
            Ok(_) => {
                self.health.frames += 1;
                self.health.samples += 1;
            }
            Err(ShmError::Mode(_) | ShmError::Clash) => self.health.bad_checksum += 1,
            Err(ShmError::Unsynchronised) => self.health.no_fix += 1,
            Err(ShmError::Absurd(_)) => self.health.malformed += 1,
            Err(ShmError::Stale) => self.health.stale += 1,
        }
        Some(read)
    }

    /// The counters.
    pub fn health(&self) -> Health {
        self.health
    }
}

/// Judges a copy.
pub fn parse(copy: &Segment, after: i32) -> Result<Sample, ShmError> {
    match copy.mode {
        0 => {}
        1 if copy.count != after => return Err(ShmError::Clash),
        1 => {}
        other => return Err(ShmError::Mode(other)),
    }
    let leap = match copy.leap {
        0 => LeapIndicator::None,
        1 => LeapIndicator::Insert,
        2 => LeapIndicator::Delete,
        3 => return Err(ShmError::Unsynchronised),
        _ => return Err(ShmError::Absurd("leap indicator")),
    };
    let (clock_nanos, receive_nanos) = nanos(copy.clock, copy.receive)?;
    let plausible = |s: i64| (0..=1 << 40).contains(&s);
    if !plausible(copy.clock.0) || !plausible(copy.receive.0) {
        return Err(ShmError::Absurd("time"));
    }
    let local = Timestamp::<Realtime>::from_parts(copy.receive.0, receive_nanos);
    let reference = Timestamp::from_parts(copy.clock.0, clock_nanos);
    if (local.reinterpret() - reference).abs() > ABSURD {
        return Err(ShmError::Absurd("time"));
    }
    Ok(Sample {
        local: LocalStamp::Realtime(local),
        reference,
        second60: false,
        quantum: Span::from_nanos(1000),
        leap: Some(leap),
    })
}

/// Nanoseconds of both stamps. Old writers leave the nanosecond fields at zero or stale: they count
/// only if both agree with their microseconds.
fn nanos(clock: (i64, i32, u32), receive: (i64, i32, u32)) -> Result<(u32, u32), ShmError> {
    let micros = |us: i32| u32::try_from(us).ok().filter(|us| *us < 1_000_000).ok_or(ShmError::Absurd("microseconds"));
    let (a, b) = (micros(clock.1)?, micros(receive.1)?);
    if clock.2 / 1000 == a && receive.2 / 1000 == b { Ok((clock.2, receive.2)) } else { Ok((a * 1000, b * 1000)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment() -> Segment {
        Segment {
            mode: 1,
            count: 4,
            clock: (1_795_319_391, 0, 0),
            receive: (1_795_319_391, 1, 1672),
            valid: 1,
            precision: -20,
            ..Segment::default()
        }
    }

    fn at(seconds: i64) -> Bracket {
        let raw = Timestamp::from_parts(7, 0);
        Bracket { raw_before: raw, realtime: Timestamp::from_parts(seconds, 0), raw_after: raw }
    }

    #[test]
    fn nanoseconds_count_only_if_both_agree() {
        let local = |s: &Segment| match parse(s, s.count).unwrap().local {
            LocalStamp::Realtime(at) => at.to_parts().1,
            LocalStamp::Raw(_) => unreachable!(),
        };
        assert_eq!(local(&segment()), 1672);
        assert_eq!(local(&Segment { receive: (1_795_319_391, 1, 0), ..segment() }), 1000);
        assert_eq!(local(&Segment { clock: (1_795_319_391, 5, 0), ..segment() }), 1000);
    }

    #[test]
    fn each_refusal_has_its_name() {
        assert_eq!(parse(&Segment { mode: 2, ..segment() }, 4), Err(ShmError::Mode(2)));
        assert_eq!(parse(&segment(), 5), Err(ShmError::Clash));
        assert_eq!(parse(&Segment { leap: 3, ..segment() }, 4), Err(ShmError::Unsynchronised));
        assert_eq!(parse(&Segment { clock: (1, -3, 0), ..segment() }, 4), Err(ShmError::Absurd("microseconds")));
    }

    #[test]
    fn stale_and_repeated_samples_are_not_given() {
        let mut reader = ShmReader::default();
        assert_eq!(reader.read(&segment(), 4, &at(1_795_319_400)), Some(Err(ShmError::Stale)));
        assert!(matches!(reader.read(&segment(), 4, &at(1_795_319_392)), Some(Ok(_))));
        assert_eq!(reader.read(&segment(), 4, &at(1_795_319_392)), Some(Err(ShmError::Stale)));
        assert_eq!(reader.read(&Segment { valid: 0, ..segment() }, 4, &at(1_795_319_392)), None);
        assert_eq!(reader.health().stale, 2);
    }

    proptest! {
        #[test]
        fn never_panics(mode in any::<i32>(), c in any::<(i64, i32, u32)>(), r in any::<(i64, i32, u32)>(), leap in -1i32..5) {
            let _ = parse(&Segment { mode: mode % 3, clock: c, receive: r, leap, valid: 1, ..Segment::default() }, 0);
        }
    }
}
