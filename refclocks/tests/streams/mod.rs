//! What receivers, gpsd and other producers send while all is well, second by second: for what is measured of the drivers.
#![allow(dead_code, unreachable_pub)]

use refclocks::calendar::CivilTime;
use refclocks::nmea::write;
use refclocks::pps::PpsInfo;
use refclocks::shm::Segment;
use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Realtime, Span, Timestamp};
use refclocks::ubx::write as messages;
use refclocks::{Constellation, LeapIndicator, Satellite, sock};

/// 2026-01-01.
const BEGINS: i64 = 1_767_225_600;

/// The greeting of a gpsd.
pub const GREETING: &[u8] = b"{\"class\":\"VERSION\",\"release\":\"3.25\",\"proto_major\":3,\"proto_minor\":15}\r\n";

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
pub fn nmea(second: i64) -> Vec<u8> {
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
pub fn ubx(second: i64) -> Vec<u8> {
    let sky: Vec<Satellite> = (1..25).map(satellite).collect();
    [
        messages::nav_pvt(&at(second), 12, true),
        messages::nav_timeutc(&at(second), 12, true),
        messages::nav_timels(18, 0, 0),
        messages::tim_tp(2399, (second as u32 % 604_800) * 1000, 4321),
        messages::nav_sat(&sky),
        messages::message(0x0a, 0x09, &[2; 60]),
        messages::message(0x02, 0x15, &[7; 800]),
    ]
    .concat()
}

/// A second of gpsd's.
pub fn gpsd(second: i64) -> Vec<u8> {
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

/// A second of a u-blox receiver that speaks both.
pub fn both(second: i64) -> Vec<u8> {
    [nmea(second), ubx(second)].concat()
}

/// Seconds, one after another.
pub fn story(second: fn(i64) -> Vec<u8>, seconds: i64) -> Vec<Vec<u8>> {
    (0..seconds).map(second).collect()
}

/// Gives the seconds to a reader, 64 bytes at a time as a serial port does; `began` says when one begins.
pub fn feed(seconds: &[Vec<u8>], mut handle: impl FnMut(&[u8], Timestamp<Raw>), mut began: impl FnMut(usize)) {
    for (second, bytes) in seconds.iter().enumerate() {
        began(second);
        let begin = raw(second as i64);
        for (i, part) in bytes.chunks(64).enumerate() {
            handle(part, begin + Span::from_millis(2 * i as i64));
        }
    }
}

fn raw(second: i64) -> Timestamp<Raw> {
    Timestamp::from_parts(1000 + second, 0)
}

fn bracket(second: i64) -> Bracket {
    let after = Span::from_millis(5);
    let realtime = Timestamp::from_parts(BEGINS + second, 0) + after;
    Bracket { raw_before: raw(second) + after, realtime, raw_after: raw(second) + after }
}

/// Datagrams of chrony's SOCK, one a second.
pub fn datagrams(many: i64) -> Vec<Vec<u8>> {
    let utc = |second: i64| Timestamp::from_parts(BEGINS + second, 0);
    let local = |second: i64| Timestamp::from_parts(BEGINS + second, 1_234_000);
    (0..many).map(|k| sock::write(local(k), utc(k), LeapIndicator::None, sock::OWN_TIME)).collect()
}

/// Segments of NTP's shared memory, and when they are read, once a second.
pub fn segments(many: i64) -> Vec<(Segment, Bracket)> {
    let segment = |k: i64| {
        let clock = (BEGINS + k, 0, 0);
        let receive = (clock.0, 1234, 1_234_000);
        Segment { mode: 1, count: 2 * k as i32 + 2, clock, receive, valid: 1, ..Segment::default() }
    };
    (0..many).map(|k| (segment(k), bracket(k))).collect()
}

/// What the kernel says of a pulse of 100 ms, fetched 5 ms after each edge.
pub fn pulses(many: i64) -> Vec<(PpsInfo, Bracket)> {
    let at = |k: i64, nanos| Timestamp::<Realtime>::from_parts(BEGINS + k, nanos);
    let info = |k: i64| PpsInfo {
        assert_sequence: k as u32 + 1,
        clear_sequence: k as u32,
        assert: at(k, 1200),
        clear: at(k - 1, 100_001_200),
    };
    (1..=many).map(|k| (info(k), bracket(k))).collect()
}

/// Readings of a network card's clock, 37 s ahead as TAI is, each between two of the system's.
pub fn readings(many: i64) -> Vec<(refclocks::phc::Reading, Bracket)> {
    use refclocks::phc::{Reading, Triple};
    let reading = |k: i64| {
        let triple = |n: u32| Triple {
            before: Timestamp::from_parts(BEGINS + k, 1000 * n),
            device: Timestamp::from_parts(BEGINS + 37 + k, 1000 * n + 400),
            after: Timestamp::from_parts(BEGINS + k, 1000 * n + 900),
        };
        Reading::Bracketed((0..5).map(triple).collect())
    };
    (0..many).map(|k| (reading(k), bracket(k))).collect()
}
