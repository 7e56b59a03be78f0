//! Other programs' clocks: chrony's SOCK and NTP's shared memory.

use refclocks::shm::{Segment, ShmError, ShmReader};
use refclocks::sock::{self as datagrams, SockError, SockReader};
use refclocks::sys::clock::Bracket;
use refclocks::time::{Span, Timestamp};
use refclocks::{LeapIndicator, LocalStamp, Sample};

use crate::bytes::Tail;

/// One datagram of a SOCK.
pub fn sock(data: &[u8]) {
    let mut reader = SockReader::default();
    let read = reader.read(data);
    assert_eq!(read, datagrams::parse(data), "reading keeps no state");
    let health = reader.health();
    assert_eq!(health.frames + health.bad_checksum + health.malformed + health.no_fix, 1, "each is counted once");
    assert_eq!(health.samples, u64::from(read.is_ok()));
    match read {
        Ok((sample, _)) => {
            assert!(data.ends_with(&0x534f_434bi32.to_ne_bytes()), "no SOCK without its magic number");
            let (words, rest) = data.split_at(data.len() - 24);
            let (seconds, micros) = match words.len() {
                16 => (i64::from_ne_bytes(part(words, 0)), i64::from_ne_bytes(part(words, 8))),
                8 => (i32::from_ne_bytes(part(words, 0)).into(), i32::from_ne_bytes(part(words, 4)).into()),
                other => unreachable!("a datagram with {other} bytes of time"),
            };
            let LocalStamp::Realtime(local) = sample.local else { unreachable!("stamped by its writer") };
            assert_eq!(local.to_parts(), (seconds, micros as u32 * 1000));
            let offset = f64::from_ne_bytes(part(rest, 0));
            let seen = (sample.reference - local.reinterpret()).seconds();
            // Stamps resolve 2^-64 s.
            assert!((seen - offset).abs() <= offset.abs() * f64::EPSILON + 1e-19, "{seen} for {offset}");
            assert_leap(&sample, i32::from_ne_bytes(part(rest, 12)));
            // What we would write of it says the same.
            let leap = sample.leap.unwrap_or_default();
            let written = datagrams::write(local, sample.reference, leap, datagrams::TimeWidth::Bits64);
            let (again, pulse) = datagrams::parse(&written).expect("our own datagram");
            assert_eq!((again.local, again.leap, pulse), (sample.local, sample.leap, false));
            let moved = (again.reference - sample.reference).seconds();
            assert!(moved.abs() <= offset.abs() * f64::EPSILON + 1e-19, "{moved}");
        }
        Err(SockError::Length(length)) => assert!(length == data.len() && length != 40 && length != 32),
        Err(_) => assert!(matches!(data.len(), 40 | 32)),
    }
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn assert_leap(sample: &Sample, said: i32) {
    let expected = [LeapIndicator::None, LeapIndicator::Insert, LeapIndicator::Delete];
    assert_eq!(sample.leap, usize::try_from(said).ok().and_then(|i| expected.get(i)).copied());
}

/// Copies of a segment, read one after the other: 41 bytes each, taken from the end.
pub fn shm(data: &[u8]) {
    let mut words = Tail(data);
    let mut reader = ShmReader::default();
    let mut reads = 0;
    let mut given = Vec::new();
    for _ in 0..64 {
        if words.is_empty() {
            break;
        }
        let choice = words.byte();
        let base = 1_795_319_391;
        // Mostly of our days: arbitrary seconds would never be near each other.
        let mut seconds = || if choice & 1 != 0 { words.i64() } else { base + words.i64() % 8 };
        let (clock, receive) = (seconds(), seconds());
        let copy = Segment {
            mode: if choice & 2 != 0 { words.i32() } else { words.i32() & 1 },
            count: words.i32(),
            clock: (clock, words.i32() >> (choice & 12), words.i32() as u32),
            receive: (receive, words.i32() >> (choice & 12), words.i32() as u32),
            leap: if choice & 16 != 0 { words.i32() } else { 0 },
            precision: -20,
            valid: i32::from(choice & 32 == 0),
        };
        let after = if choice & 64 != 0 { words.i32() } else { copy.count };
        let raw = Timestamp::from_parts(7, 0);
        let now = Bracket { raw_before: raw, realtime: Timestamp::from_parts(base + 4, 0), raw_after: raw };
        let Some(read) = reader.read(&copy, after, &now) else {
            assert_eq!(copy.valid, 0);
            continue;
        };
        reads += 1;
        match read {
            Ok(sample) => {
                assert!(copy.mode == 0 || (copy.mode == 1 && copy.count == after));
                assert_leap(&sample, copy.leap);
                let LocalStamp::Realtime(local) = sample.local else { unreachable!("stamped by its writer") };
                assert_eq!((local.whole_seconds(), sample.reference.whole_seconds()), (receive, clock));
                let micros = |stamp: u32| stamp / 1000;
                assert_eq!(micros(local.to_parts().1), copy.receive.1 as u32, "microseconds are what they were");
                assert_eq!(micros(sample.reference.to_parts().1), copy.clock.1 as u32);
                let age = now.realtime - local;
                assert!(age >= Span::from_millis(-1) && age <= Span::from_whole_seconds(5), "{age:?}");
                assert_ne!(given.last(), Some(&(local, copy.count)), "the same sample was given twice");
                given.push((local, copy.count));
            }
            Err(ShmError::Clash) => assert!(copy.mode == 1 && copy.count != after),
            Err(ShmError::Mode(mode)) => assert!(mode == copy.mode && !matches!(mode, 0 | 1)),
            Err(_) => {}
        }
    }
    let health = reader.health();
    assert_eq!(health.frames + health.bad_checksum + health.no_fix + health.malformed + health.stale, reads);
    assert_eq!(health.samples, given.len() as u64);
}
