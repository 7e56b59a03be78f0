//! How fast the drivers read, and that they ask for no memory while they do.
//!
//! `cargo test --release -p refclocks --test throughput -- --nocapture` prints the figures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use refclocks::calendar::CivilTime;
use refclocks::gpsd::{Config as GpsdConfig, Session};
use refclocks::nmea::write;
use refclocks::receiver::{Config, Driver};
use refclocks::shm::{Segment, ShmReader};
use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Span, Timestamp};
use refclocks::{Constellation, LeapIndicator, Report, Satellite, sock, ubx};

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

fn at(second: i64) -> CivilTime {
    CivilTime::from_utc(Timestamp::from_parts(1_767_225_637 + second, 0))
}

fn satellite(number: u16) -> Satellite {
    Satellite {
        constellation: Constellation::Gps,
        number,
        elevation: Some(40),
        azimuth: Some(200),
        signal: Some(44),
        used: true,
    }
}

/// A second of a usual NMEA receiver: 8 kinds of sentences.
fn nmea(second: i64) -> Vec<u8> {
    let sky: Vec<Satellite> = (1..12).map(satellite).collect();
    let used: Vec<u16> = (1..12).collect();
    let at = at(second);
    let rest = ["GPVTG,,T,,M,0.01,N,0.02,K,A", "GPGST,120000.00,1.2,,,,0.9,0.8,1.9"].map(write::sentence).concat();
    (write::rmc("GP", &at, true)
        + &write::gga("GP", &at, true, 11)
        + &write::gsa("GP", 3, &used)
        + &write::gsv("GP", &sky))
        .into_bytes()
        .into_iter()
        .chain(write::zda("GP", &at).into_bytes())
        .chain(rest.into_bytes())
        .collect()
}

/// A second of a u-blox receiver that speaks UBX.
fn ubx_second(second: i64) -> Vec<u8> {
    let sky: Vec<Satellite> = (1..25).map(satellite).collect();
    [
        ubx::write::nav_pvt(&at(second), 12, true),
        ubx::write::nav_timeutc(&at(second), 12, true),
        ubx::write::nav_timels(18, 0, 0),
        ubx::write::tim_tp(2399, (second as u32 % 604_800) * 1000, 4321),
        ubx::write::nav_sat(&sky),
        ubx::write::message(0x0a, 0x09, &[2; 60]),
        ubx::write::message(0x02, 0x15, &[7; 800]),
    ]
    .concat()
}

/// A second of gpsd's.
fn gpsd(second: i64) -> Vec<u8> {
    let s = 1_767_225_637 + second;
    let satellites: Vec<String> = (1..25)
        .map(|n| {
            format!("{{\"PRN\":{n},\"gnssid\":0,\"svid\":{n},\"el\":40.0,\"az\":200.0,\"ss\":44.0,\"used\":true}}")
        })
        .collect();
    format!(
        "{{\"class\":\"TPV\",\"device\":\"/dev/gps0\",\"mode\":3,\"time\":\"2026-01-01T00:00:00.000Z\",\"leapseconds\":18}}\r\n\
         {{\"class\":\"TOFF\",\"device\":\"/dev/gps0\",\"real_sec\":{s},\"real_nsec\":0,\"clock_sec\":{s},\"clock_nsec\":120000000}}\r\n\
         {{\"class\":\"PPS\",\"device\":\"/dev/gps0\",\"real_sec\":{s},\"real_nsec\":0,\"clock_sec\":{s},\"clock_nsec\":1000,\"precision\":-20}}\r\n\
         {{\"class\":\"SKY\",\"device\":\"/dev/gps0\",\"satellites\":[{}]}}\r\n",
        satellites.join(",")
    )
    .into_bytes()
}

/// Gives the seconds to a reader, 64 bytes at a time, for as long as `until` wants; returns bytes and time.
fn feed(
    seconds: &[Vec<u8>],
    mut handle: impl FnMut(&[u8], Timestamp<Raw>),
    mut until: impl FnMut(usize, Duration) -> bool,
) -> (usize, Duration) {
    let (began, mut bytes) = (Instant::now(), 0);
    for (k, second) in seconds.iter().enumerate() {
        if until(k, began.elapsed()) {
            break;
        }
        let begin = Timestamp::<Raw>::from_parts(1000 + k as i64, 0);
        for (i, part) in second.chunks(64).enumerate() {
            handle(part, begin + Span::from_millis(2 * i as i64));
            bytes += part.len();
        }
    }
    (bytes, began.elapsed())
}

/// Seconds of a receiver, one after another.
fn story(second: fn(i64) -> Vec<u8>, seconds: i64) -> Vec<Vec<u8>> {
    (0..seconds).map(second).collect()
}

fn both(second: i64) -> Vec<u8> {
    [nmea(second), ubx_second(second)].concat()
}

#[test]
fn a_receiver_that_goes_on_as_before_asks_for_no_memory() {
    for (name, second) in [("nmea", nmea as fn(i64) -> Vec<u8>), ("ubx", ubx_second), ("both", both)] {
        let seconds = story(second, 400);
        let mut driver = Driver::new(Config { baud: Some(115_200), ..Config::default() });
        let (mut samples, mut asked) = (0, 0);
        feed(
            &seconds,
            |part, at| {
                driver.handle_bytes(part, at);
                while let Some(report) = driver.poll_report() {
                    samples += u32::from(matches!(report, Report::Sample(_)));
                }
            },
            |k, _| {
                // The first seconds find out how much room the rest takes.
                if k == 100 {
                    asked = ASKED.get();
                }
                false
            },
        );
        assert_eq!(ASKED.get() - asked, 0, "{name}");
        assert!(samples > 390, "{name}: {samples}");
    }
}

/// The figures; and no driver is slower than a hundred of the fastest serial lines.
#[test]
fn throughput() {
    let floor = if cfg!(debug_assertions) { 0.1 } else { 4.6 };
    let told = |name: &str, (bytes, took): (usize, Duration)| {
        let rate = bytes as f64 / took.as_secs_f64() / 1e6;
        println!("{name:<24} {rate:8.1} MB/s");
        assert!(rate > floor, "{name}: {rate} MB/s");
    };
    for (name, second) in
        [("receiver, NMEA", nmea as fn(i64) -> Vec<u8>), ("receiver, UBX", ubx_second), ("receiver, both", both)]
    {
        let seconds = story(second, 4000);
        let mut driver = Driver::new(Config { baud: Some(115_200), ..Config::default() });
        let handle = |part: &[u8], at| {
            driver.handle_bytes(part, at);
            while driver.poll_report().is_some() {}
        };
        told(name, feed(&seconds, handle, |_, _| false));
    }
    let seconds: Vec<Vec<u8>> = std::iter::once(
        b"{\"class\":\"VERSION\",\"release\":\"3.25\",\"proto_major\":3,\"proto_minor\":15}\r\n".to_vec(),
    )
    .chain(story(gpsd, 2000))
    .collect();
    let mut session =
        Session::new(GpsdConfig { device: None, not_before: Timestamp::EPOCH, last_good: Timestamp::EPOCH });
    session.handle_open(Timestamp::from_parts(999, 0));
    let mut given = 0;
    let handle = |part: &[u8], at| {
        session.handle_bytes(part, at).unwrap();
        while let Some((_, report)) = session.poll_report() {
            given += u32::from(matches!(report, Report::Sample(_)));
        }
    };
    told("gpsd", feed(&seconds, handle, |_, _| false));
    assert!(given > 3000, "{given}");
    told("SOCK", datagrams(400_000));
    told("SHM", segments(400_000));
}

/// Datagrams of chrony's SOCK, one a second.
fn datagrams(many: i64) -> (usize, Duration) {
    let utc = |k: i64| Timestamp::from_parts(1_767_225_600 + k, 0);
    let local = |k: i64| Timestamp::from_parts(1_767_225_600 + k, 1_234_000);
    let all: Vec<Vec<u8>> =
        (0..many).map(|k| sock::write(local(k), utc(k), LeapIndicator::None, sock::OWN_TIME)).collect();
    let (began, mut reader, asked) = (Instant::now(), sock::SockReader::default(), ASKED.get());
    let bytes = all.iter().map(|datagram| datagram.len() * usize::from(reader.read(datagram).is_ok())).sum();
    assert_eq!((reader.health().samples, ASKED.get() - asked), (many as u64, 0));
    (bytes, began.elapsed())
}

/// Segments of NTP's shared memory, read once a second: 96 bytes each.
fn segments(many: i64) -> (usize, Duration) {
    let all: Vec<(Segment, Bracket)> = (0..many)
        .map(|k| {
            let clock = (1_767_225_600 + k, 0, 0);
            let receive = (clock.0, 1234, 1_234_000);
            let segment = Segment { mode: 1, count: 2 * k as i32 + 2, clock, receive, valid: 1, ..Segment::default() };
            let raw = Timestamp::from_parts(1000 + k, 5_000_000);
            let realtime = Timestamp::from_parts(clock.0, 5_000_000);
            (segment, Bracket { raw_before: raw, realtime, raw_after: raw })
        })
        .collect();
    let (began, mut reader, asked) = (Instant::now(), ShmReader::default(), ASKED.get());
    for (segment, now) in &all {
        let _ = std::hint::black_box(reader.read(segment, segment.count, now));
    }
    assert_eq!((reader.health().samples, ASKED.get() - asked), (many as u64, 0));
    (96 * all.len(), began.elapsed())
}
