//! A receiver that says its own fix is poor: what it and its pulse stand for becomes wider, and only that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use refclockd::clock::{DisciplinedClock, SoftwareClock};
use refclockd::core::engine::EngineConfig;
use refclockd::core::memory::Memory;
use refclockd::core::snapshot::SourceKind;
use refclockd::core::source::SourceConfig;
use refclockd::core::state::State;
use refclocks::calendar::CivilTime;
use refclocks::nmea::write;
use refclocks::receiver::{Config, Driver};
use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Span, Timestamp, Utc};
use refclocks::{Edge, Health, LocalStamp, Pulse, Report};

/// Ten minutes of pulses and sentences; `gst` is what is said of the fix in each second. Returns the bound and
/// the state at the end of each minute, s.
fn run(gst: impl Fn(i64) -> &'static str) -> Vec<(f64, State)> {
    let raw0 = Timestamp::<Raw>::from_parts(40, 0);
    let utc0 = Timestamp::<Utc>::from_parts(1_767_225_637, 0);
    let config = EngineConfig {
        sources: vec![SourceConfig::new("GPS", SourceKind::Message), SourceConfig::new("PPS", SourceKind::Pulse)],
        holdover_budget: 1e-3,
        ..EngineConfig::default()
    };
    let clock = SoftwareClock::new(raw0, config.utc.tai(utc0, false));
    let mut clock = DisciplinedClock::new(config, &Memory::default(), Box::new(clock), raw0);
    let mut driver = Driver::new(Config::default());
    let mut said = Vec::new();
    for k in 0..600 {
        let whole = raw0 + Span::from_whole_seconds(k);
        let deliver = |clock: &mut DisciplinedClock, raw: Timestamp<Raw>, source, report: &Report| {
            let bracket = Bracket { raw_before: raw, realtime: raw.reinterpret(), raw_after: raw };
            clock.handle_report(source, report, &Health::default(), &bracket);
        };
        // 200 ns to either side, by turns.
        let stamped = whole + Span::from_nanos(200 * (k % 2) - 100);
        let pulse = Pulse { local: LocalStamp::Raw(stamped), edge: Edge::Assert, sequence: k as u32, missed: 0 };
        deliver(&mut clock, stamped, 1, &Report::Pulse(pulse));
        let at = CivilTime::from_utc(utc0 + Span::from_whole_seconds(k));
        let text = write::rmc("GP", &at, true) + &write::sentence(&format!("GPGST,,{}", gst(k)));
        let arrived = whole + Span::from_millis(140 + k % 7);
        driver.handle_bytes(text.as_bytes(), arrived);
        while let Some(report) = driver.poll_report() {
            deliver(&mut clock, arrived, 0, &report);
        }
        if k % 60 == 59 {
            let snapshot = clock.snapshot(arrived);
            said.push((snapshot.bound_at(arrived), snapshot.state));
        }
    }
    said
}

#[test]
fn a_poor_fix_widens_the_bound_as_long_as_it_lasts() {
    let good = run(|_| "21,,,,0.7,0.5,1.1");
    let silent = run(|_| ",,,,,,");
    assert_eq!(good, silent, "a good fix makes no claim better");
    // 50 km in minutes 5 and 6: thrice 167 us.
    let poor = run(|k| if (300..420).contains(&k) { "21,,,,3e4,4e4,1.1" } else { "21,,,,0.7,0.5,1.1" });
    assert_eq!(poor[..5], good[..5]);
    for minute in [5, 6] {
        assert!((poor[minute].0 - good[minute].0 - 500e-6).abs() < 20e-6, "{poor:?}");
    }
    assert!(poor[9].0 < 2.0 * good[9].0 && poor[9].1 == State::Locked, "{poor:?}");
}
