//! How fast the drivers read: `cargo bench -p refclocks --bench throughput`. Bytes a second, and what they ask for of memory
//! beside it.
//!
//! The fastest serial line brings 0.05 MB/s; the aim is that none takes a hundredth of a core for its device.

#[path = "../tests/streams/mod.rs"]
mod streams;

use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher};
use refclocks::gpsd::{Config as GpsdConfig, Session};
use refclocks::phc::{ClockReader, ClockScale};
use refclocks::pps::{PpsInfo, Tracker};
use refclocks::receiver::{Config, Driver};
use refclocks::shm::{Segment, ShmReader};
use refclocks::sock::SockReader;
use refclocks::time::{Span, Timestamp};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

/// Seconds of a device that are read each time.
const SECONDS: i64 = 200;
/// Seconds before those that are timed: the driver has all the room that it takes.
const SETTLING: i64 = 100;

fn main() {
    divan::main();
}

/// The bytes of so many seconds.
fn bytes(seconds: &[Vec<u8>]) -> BytesCount {
    BytesCount::new(seconds.iter().map(Vec::len).sum::<usize>())
}

fn receiver(bencher: Bencher<'_, '_>, second: fn(i64) -> Vec<u8>) {
    let before = streams::story(second, SETTLING);
    let seconds: Vec<Vec<u8>> = (SETTLING..SETTLING + SECONDS).map(second).collect();
    let read = |driver: &mut Driver, seconds: &[Vec<u8>]| {
        let handle = |part: &[u8], at| {
            driver.handle_bytes(part, at);
            while let Some(report) = driver.poll_report() {
                divan::black_box_drop(report);
            }
        };
        streams::feed(seconds, handle, |_| {});
    };
    let settled = || {
        let mut driver = Driver::new(Config { baud: Some(115_200), ..Config::default() });
        read(&mut driver, &before);
        driver
    };
    bencher.counter(bytes(&seconds)).with_inputs(settled).bench_local_refs(|driver| read(driver, &seconds));
}

#[divan::bench]
fn receiver_nmea(bencher: Bencher<'_, '_>) {
    receiver(bencher, streams::nmea);
}

#[divan::bench]
fn receiver_ubx(bencher: Bencher<'_, '_>) {
    receiver(bencher, streams::ubx);
}

#[divan::bench]
fn receiver_both(bencher: Bencher<'_, '_>) {
    receiver(bencher, streams::both);
}

#[divan::bench]
fn gpsd(bencher: Bencher<'_, '_>) {
    let greeting = [streams::GREETING.to_vec()];
    let seconds = streams::story(streams::gpsd, SECONDS);
    let read = |session: &mut Session, seconds: &[Vec<u8>]| {
        let handle = |part: &[u8], at| {
            let _ = divan::black_box(session.handle_bytes(part, at));
            while let Some(report) = session.poll_report() {
                divan::black_box_drop(report);
            }
        };
        streams::feed(seconds, handle, |_| {});
    };
    let greeted = || {
        let config = GpsdConfig { device: None, not_before: Timestamp::EPOCH, last_good: Timestamp::EPOCH };
        let mut session = Session::new(config);
        session.handle_open(Timestamp::from_parts(999, 0));
        read(&mut session, &greeting);
        session
    };
    bencher.counter(bytes(&seconds)).with_inputs(greeted).bench_local_refs(|session| read(session, &seconds));
}

#[divan::bench]
fn sock(bencher: Bencher<'_, '_>) {
    let datagrams = streams::datagrams(SECONDS);
    bencher.counter(bytes(&datagrams)).with_inputs(SockReader::default).bench_local_refs(|reader| {
        datagrams.iter().for_each(|datagram| divan::black_box_drop(reader.read(datagram)));
    });
}

#[divan::bench]
fn shm(bencher: Bencher<'_, '_>) {
    let segments = streams::segments(SECONDS);
    let count = BytesCount::new(segments.len() * size_of::<Segment>());
    bencher.counter(count).with_inputs(ShmReader::default).bench_local_refs(|reader| {
        segments.iter().for_each(|(segment, now)| divan::black_box_drop(reader.read(segment, segment.count, now)));
    });
}

#[divan::bench]
fn pps(bencher: Bencher<'_, '_>) {
    let pulses = streams::pulses(SECONDS);
    let count = BytesCount::new(pulses.len() * size_of::<PpsInfo>());
    let opened = || {
        let mut tracker = Tracker::new(None);
        tracker.handle_open(Timestamp::from_parts(1000, 0));
        tracker
    };
    bencher.counter(count).with_inputs(opened).bench_local_refs(|tracker| {
        for (info, now) in &pulses {
            tracker.handle_fetch(info, now);
            while let Some(report) = tracker.poll_report() {
                divan::black_box_drop(report);
            }
        }
    });
}

#[divan::bench]
fn phc(bencher: Bencher<'_, '_>) {
    let readings = streams::readings(SECONDS);
    let to_utc = |tai: Timestamp<refclocks::Tai>| (tai.reinterpret() - Span::from_whole_seconds(37), false);
    // Five triples of time each.
    let count = BytesCount::new(readings.len() * 5 * size_of::<refclocks::phc::Triple>());
    let new = || ClockReader::new(ClockScale::Tai, Timestamp::EPOCH);
    bencher.counter(count).with_inputs(new).bench_local_refs(|reader| {
        for (reading, now) in &readings {
            reader.handle_reading(reading, to_utc, now);
            while let Some(report) = reader.poll_report() {
                divan::black_box_drop(report);
            }
        }
    });
}
