//! Reports of made-up snapshots, frozen; and read back.

use crate::core::day::Repair;
use refclocks::Constellation;
use refclocks::quality::{Failing, Quality};
use refclocks::time::{Realtime, Span, Timestamp};
use refclocks::ubx::setup::{NotTaken, Outcome, Why};
use refclocks::{DevicePhase, DeviceReason, DeviceState};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::made_up::{NOW, holdover, locked, starting};
use super::*;
use crate::core::leap::LeapSecond;
use crate::core::snapshot::{ClockKind, ClockRefusal, Snapshot};
use crate::observe::Moment;

fn pretty(report: &impl Serialize) -> String {
    serde_json::to_string_pretty(report).unwrap()
}

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(report: T) {
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<T>(&text).unwrap(), report, "{text}");
}

#[test]
fn status_of_a_locked_clock() {
    let system = Timestamp::<Realtime>::from_parts(1_767_323_045, 0);
    let report = StatusReport::new(&locked(), Moment { raw: NOW, system: Some(system) });
    assert_eq!(report.clock.minus_system_ns, Some(123_456));
    insta::assert_snapshot!(pretty(&report));
}

#[test]
fn status_in_holdover() {
    insta::assert_snapshot!(pretty(&StatusReport::new(&holdover(), NOW)));
}

#[test]
fn status_at_a_start() {
    insta::assert_snapshot!(pretty(&StatusReport::new(&starting(), NOW)));
}

#[test]
fn sources() {
    insta::assert_snapshot!("sources_locked", pretty(&SourcesReport::new(&locked(), NOW)));
    insta::assert_snapshot!("sources_starting", pretty(&SourcesReport::new(&starting(), NOW)));
}

#[test]
fn why() {
    for (name, snapshot) in [("locked", locked()), ("holdover", holdover()), ("starting", starting())] {
        insta::assert_snapshot!(format!("why_{name}"), pretty(&WhyReport::new(&snapshot, NOW, None).unwrap()));
    }
    assert_eq!(WhyReport::new(&locked(), NOW, Some("pps")).unwrap().sources.len(), 1);
    assert_eq!(WhyReport::new(&locked(), NOW, Some("nobody")), None);
}

#[test]
fn a_clock_that_cannot_be_set_is_told_with_its_reason() {
    for (permission, instead, words, action) in [
        (true, ClockKind::Own, "a clock of our own is steered and served instead.", "CAP_SYS_TIME"),
        (false, ClockKind::Watched, "it is only watched.", "kernel's log"),
    ] {
        let error = "setting its rate: refused".to_owned();
        let refusal = Some(ClockRefusal { error, permission, instead });
        let snapshot = Snapshot { clock_kind: instead, clock_refusal: refusal, ..locked() };
        let status = StatusReport::new(&snapshot, NOW);
        assert_eq!((status.clock.kind, status.notices[0].code.as_str()), (instead, "clock_refused"));
        let said = format!("The system clock cannot be set (setting its rate: refused); {words}");
        assert_eq!(status.notices[0].text, said);
        assert!(status.notices[0].action.as_ref().unwrap().contains(action));
        let why = WhyReport::new(&snapshot, NOW, None).unwrap();
        assert_eq!(why.clock, said);
        assert!(why.next.last().unwrap().contains(action), "{:?}", why.next);
    }
}

#[test]
fn satellites() {
    insta::assert_snapshot!(pretty(&SatellitesReport::new(&locked(), NOW)));
}

#[test]
fn what_is_written_is_read_back() {
    for snapshot in [locked(), holdover(), starting()] {
        comes_back(StatusReport::new(&snapshot, NOW));
        comes_back(SourcesReport::new(&snapshot, NOW));
        comes_back(SatellitesReport::new(&snapshot, NOW));
        comes_back(WhyReport::new(&snapshot, NOW, None).unwrap());
    }
}

#[test]
fn fields_of_a_later_version_do_no_harm() {
    let mut value = serde_json::to_value(StatusReport::new(&locked(), NOW)).unwrap();
    value["temperature"] = serde_json::json!({"celsius": 48.3});
    value["ntp"]["requests_per_s"] = 14.2.into();
    assert!(serde_json::from_value::<StatusReport>(value).is_ok());
}

#[test]
fn nobody_vouches_for_a_stalled_daemon() {
    let snapshot = locked();
    let later = snapshot.valid_until + Span::from_whole_seconds(60);
    let report = StatusReport::new(&snapshot, later);
    assert!(!report.ntp.serving);
    assert_eq!(report.state, crate::core::state::State::Unsynchronised);
    assert_eq!(report.reason.code, "daemon_stalled");
    let why = WhyReport::new(&snapshot, later, None).unwrap();
    assert!(why.serving.contains("told not to use"), "{}", why.serving);
}

#[test]
fn counting_goes_on_after_the_snapshot() {
    let report = StatusReport::new(&holdover(), NOW + Span::from_whole_seconds(60));
    assert_eq!(report.holdover.elapsed_s, Some(900.0));
    assert_eq!(report.holdover.remaining_s, Some(20_340.0));
    assert!(report.accuracy.bound_ns > StatusReport::new(&holdover(), NOW).accuracy.bound_ns);
}

#[test]
fn a_system_clock_that_is_slewed_over_a_leap_second_is_told_of() {
    let told = |left| {
        let report = StatusReport::new(&Snapshot { leap_left: Some(left), ..locked() }, NOW);
        report.notices.into_iter().find(|n| n.code == "leap_slew").unwrap().text
    };
    let rest = "and slewed back to UTC; NTP clients are given UTC.";
    assert_eq!(told(0.5), format!("After the leap second the system clock is 500 ms ahead {rest}"));
    assert_eq!(told(-0.02), format!("After the leap second the system clock is 20.0 ms behind {rest}"));
}

#[test]
fn a_leap_second_is_told_and_written_as_second_60() {
    let base = locked();
    let midnight = Timestamp::from_parts(1_767_312_000 + 86_400, 0);
    let mut snapshot = Snapshot { utc: base.utc, ..base };
    snapshot.utc.next = Some(LeapSecond { at: midnight, change: 1 });
    let report = StatusReport::new(&snapshot, NOW);
    assert_eq!(report.leap.pending, "insert");
    assert!(report.notices.iter().any(|n| n.code == "leap_announced"));
    let inside = NOW + (midnight - snapshot.utc_at(NOW).0) + Span::from_millis(500);
    let report = StatusReport::new(&Snapshot { valid_until: inside, ..snapshot.clone() }, inside);
    assert_eq!(report.time_utc, "2026-01-02T23:59:60.500000000Z");
    assert_eq!(report.leap.tai_minus_utc_s, 37);
    let after = inside + Span::from_whole_seconds(1);
    assert_eq!(StatusReport::new(&snapshot, after).leap.tai_minus_utc_s, 38);
}

#[test]
fn what_devices_say_cannot_move_a_cursor() {
    let mut snapshot = holdover();
    let mut sources = snapshot.sources.to_vec();
    let reason = DeviceReason::NoSuchDevice { path: "/dev/gps\u{1b}[2J".into() };
    sources[1].device = Some(DeviceState { phase: DevicePhase::Absent, reason, since: NOW });
    snapshot.sources = sources.into();
    let notices = StatusReport::new(&snapshot, NOW).notices;
    assert!(notices.iter().all(|n| !n.text.contains(char::is_control)));
    assert!(notices.iter().any(|n| n.text.contains("/dev/gps\u{fffd}[2J")), "{notices:?}");
}

#[test]
fn what_a_receiver_says_of_antenna_and_interference_is_told() {
    let report = StatusReport::new(&holdover(), NOW);
    let receiver = report.receiver.unwrap();
    assert_eq!(receiver.condition.antenna.as_deref(), Some("open"));
    assert_eq!(receiver.condition.jamming.as_deref(), Some("critical"));
    assert_eq!(receiver.condition.spoofing.as_deref(), Some("indicated"));
    for code in ["antenna_open", "jamming", "spoofing"] {
        assert!(report.notices.iter().any(|n| n.code == code), "{code}");
    }
}

#[test]
fn what_a_receiver_did_not_take_is_told_and_what_it_only_lacks_is_no_matter() {
    let report = |outcome: Outcome| {
        let mut snapshot = locked();
        let mut sources = snapshot.sources.to_vec();
        let source = sources.iter_mut().find(|s| s.receiver.is_some()).unwrap();
        source.receiver.as_mut().unwrap().set_up = Some(outcome);
        snapshot.sources = sources.into();
        StatusReport::new(&snapshot, NOW)
    };
    let lacks = |subject: &str, extra| NotTaken { subject: subject.into(), why: Why::Refused, extra };
    let noticed = |report: &StatusReport| report.notices.iter().find(|n| n.code == "set_up").map(|n| n.text.clone());
    let said = |report: &StatusReport| report.receiver.clone().unwrap().condition.set_up.unwrap();

    let all = report(Outcome::Done(vec![]));
    assert_eq!((noticed(&all), said(&all).done), (None, true));
    let sky = report(Outcome::Done(vec![lacks("SEC-SIG", true)]));
    assert_eq!((noticed(&sky), said(&sky).not_taken), (None, vec![lacks("SEC-SIG", true)]));
    let survey = report(Outcome::Done(vec![lacks("survey-in", false)]));
    assert_eq!(noticed(&survey).unwrap(), "GPS's receiver: it is set up but for survey-in (refused).");
    let text = crate::cli::status::render(&survey, crate::cli::words::Style::PLAIN);
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words.join(" ").contains("antenna ok; it is set up but for survey-in (refused)"), "{text}");
    let mute = report(Outcome::NoAnswer);
    assert!(noticed(&mute).unwrap().contains("does not answer") && !said(&mute).done);
}

#[test]
fn what_a_receiver_says_against_its_fix_is_told() {
    let mut snapshot = locked();
    let mut sources = snapshot.sources.to_vec();
    let receiver = sources.iter_mut().find_map(|s| s.receiver.as_mut()).unwrap();
    let failing = Failing { constellation: Constellation::Gps, number: 7, bias_m: Some(-121.4) };
    let far = [3e3, 4e3, 0.0];
    receiver.quality = Some(Quality { position_m: Some(far), failing: Some(failing), ..Quality::default() });
    snapshot.sources = sources.into();
    let report = StatusReport::new(&snapshot, NOW);
    let text = |code: &str| report.notices.iter().find(|n| n.code == code).map(|n| n.text.as_str()).unwrap();
    assert!(text("poor_fix").starts_with("GPS has a poor fix, by its own word, and its time may be wrong by 16.7 µs"));
    assert_eq!(text("failing_satellite"), "GPS finds the signal of satellite G07 wrong by 121 m.");
    let quality = report.receiver.clone().unwrap().condition.quality.unwrap();
    assert_eq!((quality.poor_ns, quality.failing.as_deref()), (Some(16_679), Some("G07")));
    let shown = crate::cli::satellites::render(&SatellitesReport::new(&snapshot, NOW), crate::cli::words::Style::PLAIN);
    assert!(shown.contains("Its fix: position 3000 m north, 4000 m east, 0.0 m up (1σ)."), "{shown}");
    assert!(shown.contains("G07's signal wrong"), "{shown}");
}

#[test]
fn a_date_that_is_repaired_is_told_with_who_agrees_on_it() {
    let told = |days: i64| {
        let mut snapshot = locked();
        let mut sources = snapshot.sources.to_vec();
        sources[1].repair = Some(Repair { days, by: vec!["a".into(), "b".into()] });
        snapshot.sources = sources.into();
        let entry = SourcesReport::new(&snapshot, NOW).sources.swap_remove(1);
        assert_eq!(entry.date_repair, Some(DateRepair { days, by: vec!["a".into(), "b".into()] }));
        let notices = StatusReport::new(&snapshot, NOW).notices;
        notices.into_iter().find(|n| n.code == "date_repaired").unwrap().text
    };
    assert_eq!(told(7168), "GPS sends a date that is 1024 weeks behind, as a and b agree; it is repaired.");
    assert_eq!(told(-1), "GPS sends a date that is a day ahead, as a and b agree; it is repaired.");
}
