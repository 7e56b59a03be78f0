//! A receiver's UBX messages and its pulses through the driver and the engine: the sawtooth that it tells
//! of is taken off where the pulses are stamped well enough, and left where they are not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use refclockd::clock::{DisciplinedClock, SoftwareClock};
use refclockd::core::engine::EngineConfig;
use refclockd::core::memory::Memory;
use refclockd::core::sawtooth::SawtoothState;
use refclockd::core::snapshot::SourceKind;
use refclockd::core::source::SourceConfig;
use refclockd::sim::Rng;
use refclocks::calendar::CivilTime;
use refclocks::receiver::{Config, Driver, SawtoothUse};
use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Span, Timestamp, Utc};
use refclocks::ubx::write;
use refclocks::{Edge, Health, LocalStamp, Pulse, Report};
/// Ticks of the receiver's oscillator, s.
const TICK: f64 = 20.8e-9;
/// 2026-01-01T00:00:37Z, week 2399 of GPS.
const START: i64 = 1_767_225_637;

/// Runs ten minutes with pulses stamped with `noise`, s. Returns how the correction stands, the events
/// about it, and the last error of the clock, s.
fn run(noise: f64, sawtooth: SawtoothUse) -> (Option<SawtoothState>, Vec<String>, f64) {
    let mut rng = Rng::new(1);
    let raw0 = Timestamp::<Raw>::from_parts(40, 0);
    let utc0 = Timestamp::<Utc>::from_parts(START, 0);
    let config = EngineConfig {
        sources: vec![SourceConfig::new("GPS", SourceKind::Message), SourceConfig::new("PPS", SourceKind::Pulse)],
        holdover_budget: 1e-3,
        ..EngineConfig::default()
    };
    let tai0 = config.utc.tai(utc0, false);
    let clock = SoftwareClock::new(raw0, tai0 + Span::from_millis(3));
    let mut clock = DisciplinedClock::new(config, &Memory::default(), Box::new(clock), raw0);
    let mut driver = Driver::new(Config { baud: Some(38_400), sawtooth, ..Config::default() });
    let mut events = Vec::new();
    let mut off = 0.0;
    for k in 0..600 {
        let whole = raw0 + Span::from_whole_seconds(k);
        let deliver = |clock: &mut DisciplinedClock, raw: Timestamp<Raw>, source, report: &Report| {
            let realtime = Timestamp::EPOCH + (raw - Timestamp::EPOCH);
            let bracket = Bracket { raw_before: raw, realtime, raw_after: raw };
            clock.handle_report(source, report, &Health::default(), &bracket);
        };
        // The message of the second before has told of this pulse.
        let stamped = whole + Span::from_seconds(off + noise * rng.normal());
        let pulse = Pulse { local: LocalStamp::Raw(stamped), edge: Edge::Assert, sequence: k as u32, missed: 0 };
        deliver(&mut clock, stamped, 1, &Report::Pulse(pulse));

        off = TICK * (rng.uniform() - 0.5);
        let next = utc0 + Span::from_whole_seconds(k + 1);
        let gps = next.whole_seconds() + 18 - 315_964_800;
        let (week, of_week) = (gps / 604_800, gps % 604_800);
        let mut bytes = write::nav_pvt(&CivilTime::from_utc(utc0 + Span::from_whole_seconds(k)), 20, true);
        bytes.extend(write::tim_tp(week as u16, of_week as u32 * 1000, (off * 1e12) as i32));
        let arrived = whole + Span::from_millis(150) + Span::from_seconds(0.005 * rng.uniform());
        driver.handle_bytes(&bytes, arrived);
        while let Some(report) = driver.poll_report() {
            deliver(&mut clock, arrived, 0, &report);
        }
        while let Some(event) = clock.poll_event() {
            let text = event.to_string();
            if text.contains("sawtooth") {
                events.push(text);
            }
        }
    }
    let end = raw0 + Span::from_whole_seconds(599);
    let error = (clock.now(end).clock - (tai0 + Span::from_whole_seconds(599))).seconds();
    (clock.snapshot(end).sources[1].sawtooth, events, error)
}

#[test]
fn it_is_taken_off_pulses_that_are_stamped_well() {
    let (state, events, error) = run(1e-9, SawtoothUse::Auto);
    let Some(SawtoothState::Applied { sign: -1, without_s, with_s }) = state else { panic!("{state:?}") };
    assert!(without_s > 5e-9 && with_s < 1.5e-9, "{without_s} {with_s}");
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(error.abs() < 20e-9, "{error}");
}

#[test]
fn it_is_left_on_pulses_that_are_stamped_worse_and_that_is_said() {
    let (state, events, _) = run(2e-6, SawtoothUse::Auto);
    assert!(matches!(state, Some(SawtoothState::NoUse { .. })), "{state:?}");
    assert!(events.len() == 1 && events[0].contains("not applied"), "{events:?}");
}

#[test]
fn a_wrong_sign_is_not_applied_and_off_is_off() {
    let (state, ..) = run(1e-9, SawtoothUse::Add);
    assert!(matches!(state, Some(SawtoothState::NoUse { .. })), "{state:?}");
    assert_eq!(run(1e-9, SawtoothUse::Off).0, None);
}
