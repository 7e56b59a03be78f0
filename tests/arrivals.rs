//! A real receiver's messages, as late as they really came (the captures' lea-m8t_rmc_arrival.csv): its pulses
//! are numbered by them, and the delay that is learned is the one that was measured.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../refclocks/tests/outside/mod.rs"]
mod outside;

use outside::folder;
use refclockd::clock::{DisciplinedClock, SoftwareClock};
use refclockd::core::engine::EngineConfig;
use refclockd::core::leap::UtcMap;
use refclockd::core::memory::Memory;
use refclockd::core::numerics::median;
use refclockd::core::snapshot::SourceKind;
use refclockd::core::source::SourceConfig;
use refclockd::core::state::State;
use refclockd::core::verdict::Verdict;
use refclocks::calendar::CivilTime;
use refclocks::nmea::write;
use refclocks::receiver::{Config, Driver};
use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Span, Timestamp, Utc};
use refclocks::{Edge, Health, LocalStamp, Pulse, Report};

/// The minute they are of: 2026-03-27T03:20.
const MINUTE: Timestamp<Utc> = Timestamp::from_parts(1_774_581_600, 0);

/// Each second of the minute, and how late the first byte of its message came, s.
fn arrivals() -> Option<Vec<(i64, f64)>> {
    let text = std::fs::read_to_string(folder("REFCLOCKD_CAPTURES")?.join("lea-m8t_rmc_arrival.csv")).unwrap();
    let row = |line: &str| {
        let mut fields = line.split(',');
        (fields.next().unwrap().parse().unwrap(), fields.next().unwrap().parse().unwrap())
    };
    Some(text.lines().skip(1).map(row).collect())
}

#[test]
fn the_delay_of_a_real_receiver_is_learned_as_it_was_measured() {
    let Some(arrivals) = arrivals() else { return };
    let utc = UtcMap::default();
    let raw0 = Timestamp::<Raw>::from_parts(40, 123_456_789);
    let sources = vec![SourceConfig::new("GPS", SourceKind::Message), SourceConfig::new("PPS", SourceKind::Pulse)];
    let config = EngineConfig { sources, utc, ..EngineConfig::default() };
    let clock = SoftwareClock::new(raw0, utc.tai(MINUTE, false));
    let mut clock = DisciplinedClock::new(config, &Memory::default(), Box::new(clock), raw0);
    let mut receiver = Driver::new(Config { not_before: refclockd::NOT_BEFORE, ..Config::default() });
    let bracket =
        |raw: Timestamp<Raw>| Bracket { raw_before: raw, realtime: Timestamp::EPOCH + (raw - raw0), raw_after: raw };
    for (second, late) in &arrivals {
        let on = raw0 + Span::from_whole_seconds(*second);
        let pulse = Pulse { local: LocalStamp::Raw(on), edge: Edge::Assert, sequence: *second as u32, missed: 0 };
        clock.handle_report(1, &Report::Pulse(pulse), &Health::default(), &bracket(on + Span::from_millis(3)));
        let text = write::rmc("GP", &CivilTime::from_utc(MINUTE + Span::from_whole_seconds(*second)), true);
        // 9600 bit/s: a byte each 1.04 ms, in the lumps of 8 that a UART hands over.
        for (lump, bytes) in text.as_bytes().chunks(8).enumerate() {
            let arrived = on + Span::from_seconds(late + 8.0 * lump as f64 / 960.0);
            receiver.handle_bytes(bytes, arrived);
            while let Some(report) = receiver.poll_report() {
                clock.handle_report(0, &report, &receiver.health(), &bracket(arrived));
            }
        }
    }
    let (last, _) = arrivals[arrivals.len() - 1];
    let end = raw0 + Span::from_whole_seconds(last) + Span::from_millis(500);
    let snapshot = clock.snapshot(end);
    assert_eq!(snapshot.state, State::Locked);
    let error = clock.now(end).clock - utc.tai(MINUTE + Span::from_whole_seconds(last), false) - Span::from_millis(500);
    assert!(error.seconds().abs() < 1e-6, "{error:?}");
    let [gps, pps] = &snapshot.sources[..] else { panic!("two sources") };
    assert_eq!(pps.verdict, Verdict::Selected);
    assert_eq!(gps.verdict, Verdict::NamesTheSecond { pulse: "PPS".into() });
    // It learns from the moment on at which the clock is known.
    let learned = gps.delays.total() as usize;
    assert!(learned >= 16, "{learned}");
    let mut measured: Vec<f64> = arrivals.iter().rev().take(learned).map(|(_, late)| *late).collect();
    let mean = measured.iter().sum::<f64>() / learned as f64;
    assert!((gps.delay.unwrap() - mean).abs() < 1e-4, "{:?} {mean}", gps.delay);
    let half = median(&mut measured).unwrap();
    let by = gps.delays.quantile(0.5).unwrap();
    assert!((0.0..=0.02).contains(&(by - half)), "{by} {half}");
    println!("{learned} messages: mean {:.1} ms, half of them within {:.0} ms", 1e3 * mean, 1e3 * by);
}
