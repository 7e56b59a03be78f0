use super::*;
use crate::calendar::CivilTime;
use crate::calendar::parse_iso8601;
use crate::nmea::write;
use crate::time::Span;
use proptest::prelude::*;

fn driver() -> Driver {
    let not_before = parse_iso8601("2025-07-01T00:00:00Z").unwrap().0;
    Driver::new(Config { not_before, ..Config::default() })
}

fn civil(text: &str, plus: i64) -> CivilTime {
    CivilTime::from_utc(parse_iso8601(text).unwrap().0 + Span::from_whole_seconds(plus))
}

fn samples(driver: &mut Driver) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(report) = driver.poll_report() {
        if let Report::Sample(s) = report {
            found.push(s.reference.to_string());
        }
    }
    found
}

#[test]
fn one_sample_a_cycle_from_the_first_stable_sentence() {
    let mut driver = driver();
    for k in 0..6 {
        let at = civil("2026-01-01T23:59:57Z", k);
        let text = write::gga("GN", &at, true, 9) + &write::rmc("GN", &at, true) + &write::zda("GN", &at);
        driver.handle_bytes(text.as_bytes(), Timestamp::from_parts(100 + k, 0));
    }
    // The first GGA comes before any date; the third even cycle gives the first sample.
    let got = samples(&mut driver);
    assert_eq!(got, ["2026-01-01T23:59:59Z", "2026-01-02T00:00:00Z", "2026-01-02T00:00:01Z", "2026-01-02T00:00:02Z"]);
    assert_eq!(driver.health().no_fix, 0);
}

#[test]
fn what_waited_unread_tells_no_time() {
    let mut driver = driver();
    let second = |k| write::rmc("GP", &civil("2026-01-01T12:00:00Z", k), true);
    for k in 0..6 {
        driver.handle_bytes(second(k).as_bytes(), Timestamp::from_parts(100 + k, 0));
    }
    samples(&mut driver);
    // Nothing is read for a minute; the rest comes a moment after the first read.
    let waited: String = (6..60).map(second).collect();
    driver.handle_bytes(waited.as_bytes(), Timestamp::from_parts(166, 0));
    driver.handle_bytes((60..66).map(second).collect::<String>().as_bytes(), Timestamp::from_parts(166, 1_000_000));
    assert_eq!(samples(&mut driver), Vec::<String>::new());
    driver.handle_bytes(second(66).as_bytes(), Timestamp::from_parts(167, 120_000_000));
    assert_eq!(samples(&mut driver), ["2026-01-01T12:01:06Z"]);
    let health = driver.health();
    assert_eq!((health.stale, health.samples), (60, 4 + 1));
}

#[test]
fn no_fix_gives_no_sample_whatever_the_date() {
    let mut driver = driver();
    for k in 0..10 {
        let at = civil("2026-01-01T12:00:00Z", k);
        let text = write::rmc("GP", &at, false) + &write::zda("GP", &at);
        driver.handle_bytes(text.as_bytes(), Timestamp::from_parts(100 + k, 0));
    }
    assert_eq!(samples(&mut driver), Vec::<String>::new());
    assert_eq!(driver.mind.phase(), Some(DevicePhase::WaitingForFix));
    assert_eq!(driver.health().no_fix, 20);
}

#[test]
fn a_jump_of_a_second_is_waited_out() {
    let mut driver = driver();
    let mut got = Vec::new();
    for k in 0..12 {
        let jump = if k >= 6 { -2 } else { 0 };
        let at = civil("2026-01-01T12:00:00Z", k + jump);
        driver.handle_bytes(write::rmc("GP", &at, true).as_bytes(), Timestamp::from_parts(100 + k, 0));
        got.push(samples(&mut driver).len());
    }
    assert_eq!(got, [0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1]);
}

#[test]
fn rolled_over_weeks_are_repaired_and_counted() {
    let mut driver = driver();
    for k in 0..4 {
        let at = civil("2006-05-18T12:00:00Z", k);
        driver.handle_bytes(write::rmc("GP", &at, true).as_bytes(), Timestamp::from_parts(100 + k, 0));
    }
    assert_eq!(samples(&mut driver), ["2026-01-01T12:00:02Z", "2026-01-01T12:00:03Z"]);
    assert_eq!(driver.health().rollover_repaired, 4);
}

#[test]
fn silence_and_garbage_are_states() {
    let mut driver = driver();
    let now = Timestamp::from_parts(100, 0);
    driver.handle_open(now);
    driver.handle_bytes(&[0xf3; 500], now);
    assert_eq!(driver.mind.phase(), Some(DevicePhase::Faulty));
    for k in 0..4 {
        let at = civil("2026-01-01T12:00:00Z", k);
        driver.handle_bytes(write::rmc("GP", &at, true).as_bytes(), Timestamp::from_parts(101 + k, 0));
    }
    assert_eq!(driver.mind.phase(), Some(DevicePhase::Good));
    let due = driver.poll_timeout().unwrap();
    assert_eq!(due, Timestamp::from_parts(108, 0));
    driver.handle_timeout(due);
    assert_eq!(driver.mind.phase(), Some(DevicePhase::Stale));
}

#[test]
fn the_leap_second_is_told_as_such() {
    let not_before = parse_iso8601("2016-01-01T00:00:00Z").unwrap().0;
    let mut driver = Driver::new(Config { not_before, ..Config::default() });
    let mut told = Vec::new();
    for (k, time) in ["235957", "235958", "235959", "235960", "000000", "000001"].iter().enumerate() {
        let date = if k < 4 { "311216" } else { "010117" };
        let text = write::sentence(&format!("GPRMC,{time},A,,,,,,,{date},,,A"));
        driver.handle_bytes(text.as_bytes(), Timestamp::from_parts(100 + k as i64, 0));
        while let Some(report) = driver.poll_report() {
            if let Report::Sample(s) = report {
                told.push((s.reference.to_string(), s.second60));
            }
        }
    }
    assert_eq!(told[0], ("2016-12-31T23:59:59Z".to_owned(), false));
    assert_eq!(told[1], ("2017-01-01T00:00:00Z".to_owned(), true));
}

proptest! {
    #[test]
    fn arbitrary_bytes_give_no_sample(bytes in proptest::collection::vec(any::<u8>(), 0..2000), chunk in 1usize..100) {
        let mut driver = driver();
        for (k, part) in bytes.chunks(chunk).enumerate() {
            driver.handle_bytes(part, Timestamp::from_parts(k as i64, 0));
        }
        prop_assert!(samples(&mut driver).is_empty());
    }
}
