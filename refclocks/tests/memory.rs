//! A driver whose device goes on as before asks for no memory. How fast they are: `cargo bench -p refclocks`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod streams;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use refclocks::phc::{ClockReader, ClockScale};
use refclocks::pps::Tracker;
use refclocks::receiver::{Config, Driver};
use refclocks::shm::ShmReader;
use refclocks::time::{Span, Timestamp};
use refclocks::{Report, sock};

/// Counts what this thread asks for.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every request goes on to the system's allocator as it is; only a number is changed besides.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends asks for nothing that we count.
        let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
        // SAFETY: the caller keeps the allocator's contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Seconds that find out how much room the rest takes.
const SETTLING: usize = 100;
const SECONDS: i64 = 400;

#[test]
fn receivers_ask_for_none() {
    for (name, second) in
        [("nmea", streams::nmea as fn(i64) -> Vec<u8>), ("ubx", streams::ubx), ("both", streams::both)]
    {
        let mut driver = Driver::new(Config { baud: Some(115_200), ..Config::default() });
        let (mut samples, mut asked) = (0, 0);
        let handle = |part: &[u8], at| {
            driver.handle_bytes(part, at);
            while let Some(report) = driver.poll_report() {
                samples += u32::from(matches!(report, Report::Sample(_)));
            }
        };
        streams::feed(&streams::story(second, SECONDS), handle, |second| {
            if second == SETTLING {
                asked = ASKED.get();
            }
        });
        assert_eq!(ASKED.get() - asked, 0, "{name}");
        assert!(samples > 390, "{name}: {samples}");
    }
}

/// Hands over one thing a second, and returns what was asked for after the first of them.
fn asked_for<T>(all: &[T], mut handle: impl FnMut(&T)) -> u64 {
    let mut asked = 0;
    for (k, one) in all.iter().enumerate() {
        if k == SETTLING {
            asked = ASKED.get();
        }
        handle(one);
    }
    ASKED.get() - asked
}

#[test]
fn looks_and_datagrams_ask_for_none() {
    let mut sock = sock::SockReader::default();
    let asked = asked_for(&streams::datagrams(SECONDS), |datagram| assert!(sock.read(datagram).is_ok()));
    assert_eq!((sock.health().samples, asked), (400, 0));

    let mut shm = ShmReader::default();
    let asked = asked_for(&streams::segments(SECONDS), |(segment, now)| {
        assert!(shm.read(segment, segment.count, now).is_some())
    });
    assert_eq!((shm.health().samples, asked), (400, 0));

    let (mut pps, mut pulses) = (Tracker::new(None), 0);
    pps.handle_open(Timestamp::from_parts(1000, 0));
    let asked = asked_for(&streams::pulses(SECONDS), |(info, now)| {
        pps.handle_fetch(info, now);
        while let Some(report) = pps.poll_report() {
            pulses += u32::from(matches!(report, Report::Pulse(_)));
        }
    });
    assert_eq!(asked, 0);
    assert!(pulses > 380, "{pulses}");

    let (mut phc, mut samples) = (ClockReader::new(ClockScale::Tai, Timestamp::EPOCH), 0);
    let to_utc = |tai: Timestamp<refclocks::Tai>| (tai.reinterpret() - Span::from_whole_seconds(37), false);
    let asked = asked_for(&streams::readings(SECONDS), |(reading, now)| {
        phc.handle_reading(reading, to_utc, now);
        while let Some(report) = phc.poll_report() {
            samples += u32::from(matches!(report, Report::Sample(_)));
        }
    });
    assert_eq!((samples, asked), (400, 0));
}
