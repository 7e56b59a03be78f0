//! chrony's SOCK datagrams, without I/O.
//!
//! A producer (gpsd, ptp4l, SatPulse) sends one datagram a sample: its system clock's time of the
//! event, and true - system in seconds. gpsd rounds the time to the microsecond and keeps the offset
//! exact, so the offset is the measurement and the time only says when: the local stamp is taken as
//! sent, and the reference as that stamp plus the offset.

use crate::device::Health;
use crate::report::{LeapIndicator, LocalStamp, Sample};
use crate::time::{Realtime, Span, Timestamp, Utc};

/// "SOCK".
const MAGIC: i32 = 0x534f_434b;
/// An offset beyond this is no offset, s (a century).
const ABSURD: f64 = 3.2e9;

/// How wide the time in a datagram is. Some 32-bit systems have one, some the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeWidth {
    /// 32 bits: 32 bytes in all.
    Bits32,
    /// 64 bits: 40 bytes in all.
    Bits64,
}

/// The width that C programs of this system have.
pub const OWN_TIME: TimeWidth = if size_of::<libc::time_t>() == 8 { TimeWidth::Bits64 } else { TimeWidth::Bits32 };

/// Bytes of a datagram.
pub const fn size(time: TimeWidth) -> usize {
    match time {
        TimeWidth::Bits32 => 32,
        TimeWidth::Bits64 => 40,
    }
}

/// The datagram that says: when CLOCK_REALTIME was `local`, it was `reference`. The inverse of [`parse`].
pub fn write(local: Timestamp<Realtime>, reference: Timestamp<Utc>, leap: LeapIndicator, time: TimeWidth) -> Vec<u8> {
    let (seconds, nanos) = local.to_parts();
    let micros = nanos / 1000;
    let mut bytes = Vec::with_capacity(size(time));
    match time {
        TimeWidth::Bits64 => {
            bytes.extend(seconds.to_ne_bytes());
            bytes.extend(i64::from(micros).to_ne_bytes());
        }
        // Wraps in 2038, as all time does there.
        TimeWidth::Bits32 => {
            bytes.extend((seconds as i32).to_ne_bytes());
            bytes.extend((micros as i32).to_ne_bytes());
        }
    }
    bytes.extend((reference - local.reinterpret()).seconds().to_ne_bytes());
    let (pulse, padding) = (0i32, 0i32);
    for field in [pulse, i32::from(leap.bits()), padding, MAGIC] {
        bytes.extend(field.to_ne_bytes());
    }
    bytes
}

/// Why a datagram is not a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SockError {
    /// Neither 40 bytes (64-bit time) nor 32 (32-bit time).
    #[error("it has {0} bytes, not 40 or 32")]
    Length(usize),
    /// The magic number is another.
    #[error("its magic number is wrong")]
    Magic,
    /// Microseconds beyond a second, an offset that is no number, and the like.
    #[error("its {0} is absurd")]
    Absurd(&'static str),
    /// The producer says that it is not synchronised.
    #[error("its producer is not synchronised")]
    Unsynchronised,
}

/// Reads datagrams.
#[derive(Debug, Default)]
pub struct SockReader {
    health: Health,
}

impl SockReader {
    /// The sample in a datagram, and whether it is a pulse of unknown second (then only the
    /// sub-second part of its reference means anything).
    pub fn read(&mut self, datagram: &[u8]) -> Result<(Sample, bool), SockError> {
        self.health.bytes += datagram.len() as u64;
        let read = parse(datagram);
        match &read {
            Ok(_) => {
                self.health.frames += 1;
                self.health.samples += 1;
            }
            Err(SockError::Length(_) | SockError::Magic) => self.health.bad_checksum += 1,
            Err(SockError::Absurd(_)) => self.health.malformed += 1,
            Err(SockError::Unsynchronised) => self.health.no_fix += 1,
        }
        read
    }

    /// The counters.
    pub fn health(&self) -> Health {
        self.health
    }
}

/// Parses a datagram in the byte order of this machine.
pub fn parse(datagram: &[u8]) -> Result<(Sample, bool), SockError> {
    let length = SockError::Length(datagram.len());
    let mut fields = Fields(datagram);
    let (seconds, micros) = match datagram.len() {
        40 => (fields.i64().ok_or(length)?, fields.i64().ok_or(length)?),
        32 => (i64::from(fields.i32().ok_or(length)?), i64::from(fields.i32().ok_or(length)?)),
        _ => return Err(length),
    };
    let offset = fields.f64().ok_or(length)?;
    let pulse = fields.i32().ok_or(length)?;
    let leap = fields.i32().ok_or(length)?;
    let _padding = fields.i32().ok_or(length)?;
    if fields.i32() != Some(MAGIC) {
        return Err(SockError::Magic);
    }
    let leap = match leap {
        0 => LeapIndicator::None,
        1 => LeapIndicator::Insert,
        2 => LeapIndicator::Delete,
        3 => return Err(SockError::Unsynchronised),
        _ => return Err(SockError::Absurd("leap indicator")),
    };
    if !offset.is_finite() || offset.abs() > ABSURD {
        return Err(SockError::Absurd("offset"));
    }
    let nanos = u32::try_from(micros).ok().filter(|m| *m < 1_000_000).ok_or(SockError::Absurd("time"))? * 1000;
    if !(0..=1 << 40).contains(&seconds) {
        return Err(SockError::Absurd("time"));
    }
    let local = Timestamp::<Realtime>::from_parts(seconds, nanos);
    let reference = (local + Span::from_seconds(offset)).reinterpret();
    let sample = Sample {
        local: LocalStamp::Realtime(local),
        reference,
        second60: false,
        quantum: Span::from_nanos(100),
        leap: Some(leap),
    };
    Ok((sample, pulse != 0))
}

/// Native-endian fields, one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_ne_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_ne_bytes)
    }

    fn f64(&mut self) -> Option<f64> {
        self.take().map(f64::from_ne_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn datagram(micros: i64, offset: f64, leap: i32, magic: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(1_795_319_391i64.to_ne_bytes());
        bytes.extend(micros.to_ne_bytes());
        bytes.extend(offset.to_ne_bytes());
        for field in [0, leap, 0, magic] {
            bytes.extend(field.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn the_offset_is_the_measurement() {
        let (sample, pulse) = parse(&datagram(501, -0.000_500_621, 0, MAGIC)).unwrap();
        assert!(!pulse);
        let LocalStamp::Realtime(local) = sample.local else { unreachable!() };
        let offset = sample.reference - local.reinterpret();
        assert_eq!(offset.nanos(), -500_621);
    }

    #[test]
    fn what_is_written_is_read_in_both_widths() {
        let local = Timestamp::<Realtime>::from_parts(1_795_319_391, 501_234);
        let reference = Timestamp::<Utc>::from_parts(1_795_319_391, 0);
        for time in [TimeWidth::Bits32, TimeWidth::Bits64] {
            let bytes = write(local, reference, LeapIndicator::Insert, time);
            assert_eq!(bytes.len(), size(time));
            let (sample, pulse) = parse(&bytes).unwrap();
            let LocalStamp::Realtime(when) = sample.local else { unreachable!() };
            assert_eq!(
                (when.to_parts(), pulse, sample.leap),
                ((1_795_319_391, 501_000), false, Some(LeapIndicator::Insert))
            );
            assert_eq!((sample.reference - when.reinterpret()).nanos(), -501_234);
        }
    }

    #[test]
    fn bad_datagrams_are_named() {
        assert_eq!(parse(&datagram(0, 0.0, 0, 7)), Err(SockError::Magic));
        assert_eq!(parse(&datagram(0, f64::NAN, 0, MAGIC)), Err(SockError::Absurd("offset")));
        assert_eq!(parse(&datagram(1_000_000, 0.0, 0, MAGIC)), Err(SockError::Absurd("time")));
        assert_eq!(parse(&datagram(0, 0.0, 3, MAGIC)), Err(SockError::Unsynchronised));
        assert_eq!(parse(&datagram(0, 0.0, 0, MAGIC)[..39]), Err(SockError::Length(39)));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&bytes);
        }
    }
}
