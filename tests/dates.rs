//! Dates. The last good time of an earlier life against what sources say now: a quorum wins, nobody alone does.
//! A receiver that is wrong by whole days against those who agree on the day: it is repaired.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use refclockd::clock::{DisciplinedClock, SoftwareClock};
use refclockd::core::engine::EngineConfig;
use refclockd::core::event::Event;
use refclockd::core::leap::UtcMap;
use refclockd::core::memory::Memory;
use refclockd::core::snapshot::{Snapshot, SourceKind};
use refclockd::core::source::{ServerSays, SourceConfig};
use refclockd::core::state::{State, StateReason};
use refclockd::core::verdict::Verdict;
use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Realtime, Span, Tai, Timestamp, Utc};
use refclocks::{Edge, Health, LocalStamp, Pulse, Report, Sample};

const DAY: i64 = 86_400;
/// True time at the start: 2026-11-26T00:00:00Z.
const NOW: Timestamp<Utc> = Timestamp::from_parts(1_795_651_200, 0);

/// What there is. Offsets are what somebody says too much, s.
#[derive(Clone, Copy, Default)]
struct Scene<'a> {
    receiver: Option<i64>,
    servers: &'a [i64],
    /// The system clock; stopped at 1970 if there is none.
    system: Option<i64>,
    /// The last good time remembered, against true time, s.
    remembered: i64,
    /// The second in which the receiver finds the day itself, and the one from which on servers answer.
    mends_at: Option<i64>,
    servers_from: i64,
}

struct Outcome {
    /// The last second's.
    snapshot: Snapshot,
    error: f64,
    /// Error whenever clients were served.
    worst_served: f64,
    refuted_by: Option<[String; 2]>,
    /// What was added to the receiver's date, as it was told, and by whom.
    moved: Vec<(i64, String)>,
    memory: Memory,
}

impl Outcome {
    fn verdict(&self, name: &str) -> &Verdict {
        &self.snapshot.sources.iter().find(|s| s.name == name).unwrap().verdict
    }

    /// The right time is served, and no other ever was.
    fn is_right(&self) -> bool {
        self.snapshot.system.stratum < 16 && self.error.abs() < 2e-3 && self.worst_served < 0.5
    }

    fn is_silent(&self) -> bool {
        self.snapshot.state == State::Unsynchronised && self.worst_served == 0.0
    }
}

/// Two minutes of it.
fn play(scene: Scene<'_>) -> Outcome {
    let utc = UtcMap::default();
    let (raw0, start) = (Timestamp::<Raw>::from_parts(40, 123_456_789), utc.tai(NOW, false));
    let last = NOW + Span::from_whole_seconds(scene.remembered);
    let mut sources = Vec::new();
    if scene.receiver.is_some() {
        sources = vec![SourceConfig::new("GPS", SourceKind::Message), SourceConfig::new("PPS", SourceKind::Pulse)];
    }
    let first_server = sources.len();
    sources.extend((0..scene.servers.len()).map(|i| SourceConfig::new(["A", "B", "C"][i], SourceKind::Network)));
    let config = EngineConfig { sources, holdover_budget: 1e-3, utc, ..EngineConfig::default() };
    let mut memory = Memory::default();
    memory.last_utc = Some(last);
    // A machine without a clock of its own begins at the last good time.
    let clock = SoftwareClock::new(raw0, utc.tai(last, false));
    let mut clock = DisciplinedClock::new(config, &memory, Box::new(clock), raw0);
    let bracket = |raw: Timestamp<Raw>| {
        let system = scene.system.map_or(Timestamp::EPOCH, |ahead| NOW + Span::from_whole_seconds(ahead));
        let realtime: Timestamp<Realtime> = system.reinterpret() + (raw - raw0);
        Bracket { raw_before: raw, realtime, raw_after: raw }
    };
    let (mut refuted_by, mut worst_served, mut last_seen, mut moved) = (None, 0.0f64, None, Vec::new());
    for k in 1..120 {
        let at = |ms: i64| raw0 + Span::from_millis(1000 * k + ms);
        let tai = |ms: i64| -> Timestamp<Tai> { start + Span::from_millis(1000 * k + ms) };
        let error = (clock.now(at(0)).clock - tai(0)).seconds();
        let snapshot = clock.snapshot(at(0));
        if snapshot.system.stratum < 16 {
            worst_served = worst_served.max(error.abs());
        }
        last_seen = Some((snapshot, error));
        let mut reports = Vec::new();
        if let Some(ahead) =
            scene.receiver.map(|ahead| if scene.mends_at.is_some_and(|at| k >= at) { 0 } else { ahead })
        {
            let pulse = Pulse { local: LocalStamp::Raw(at(0)), edge: Edge::Assert, sequence: k as u32, missed: 0 };
            let sample = Sample {
                local: LocalStamp::Raw(at(120)),
                reference: utc.utc(tai(0)).0 + Span::from_whole_seconds(ahead),
                second60: false,
                quantum: Span::ZERO,
                leap: None,
            };
            reports = vec![(1, 3, Report::Pulse(pulse)), (0, 120, Report::Sample(sample))];
        }
        for (i, ms, report) in reports {
            clock.handle_report(i, &report, &Health::default(), &bracket(at(ms)));
        }
        for (i, ahead) in scene.servers.iter().enumerate().filter(|_| k % 2 == 0 && k >= scene.servers_from) {
            let reference = tai(200) + Span::from_whole_seconds(*ahead);
            let m = refclockd::core::measurement::Measurement { raw: at(200), tai: reference, delay: Some(0.002) };
            let says = ServerSays { root_dispersion: 1e-5, stratum: 1, ..ServerSays::default() };
            clock.handle_reach((first_server + i) as _, 255, 6);
            clock.handle_exchange((first_server + i) as _, m, says, at(202));
        }
        if clock.poll_timeout() <= at(950) || k % 3 == 0 {
            clock.handle_timeout(&bracket(at(950)));
        }
        while let Some(event) = clock.poll_event() {
            if let Event::DateMoved { source, days, by } = &event {
                assert!(source == "GPS" && event.is_warning());
                moved.push((*days, by.join(" ")));
            }
            if let Event::LastGoodRefuted { witnesses, last_good, .. } = &event {
                assert_eq!(*last_good, last);
                assert!(event.is_warning() && refuted_by.is_none());
                refuted_by = Some(witnesses.clone());
            }
        }
    }
    let (snapshot, error) = last_seen.unwrap();
    let memory = clock.memory(raw0 + Span::from_whole_seconds(120));
    Outcome { snapshot, error, worst_served, refuted_by, moved, memory }
}

/// The file says 2040.
const FUTURE: i64 = 5000 * DAY;

#[test]
fn a_receiver_and_a_server_are_believed_against_it() {
    let outcome = play(Scene { receiver: Some(0), servers: &[0], remembered: FUTURE, ..Scene::default() });
    assert_eq!(outcome.refuted_by, Some(["GPS".into(), "A".into()]));
    assert!(outcome.is_right(), "{} {:?}", outcome.error, outcome.snapshot.reason);
    assert_eq!(outcome.snapshot.state, State::Locked);
    // What is remembered from now on is right.
    let remembered = outcome.memory.last_utc.unwrap() - NOW;
    assert!((remembered.seconds() - 120.0).abs() < 1.0, "{remembered:?}");
}

#[test]
fn two_servers_are_believed_against_it() {
    let outcome = play(Scene { servers: &[0, 0], remembered: FUTURE, ..Scene::default() });
    assert_eq!(outcome.refuted_by, Some(["A".into(), "B".into()]));
    assert!(outcome.is_right(), "{} {:?}", outcome.error, outcome.snapshot.reason);
}

#[test]
fn a_receiver_and_the_system_clock_are_believed_against_it() {
    // The system clock need not be good for that.
    let outcome = play(Scene { receiver: Some(0), system: Some(3600), remembered: FUTURE, ..Scene::default() });
    assert_eq!(outcome.refuted_by, Some(["GPS".into(), "the system clock".into()]));
    assert!(outcome.is_right(), "{} {:?}", outcome.error, outcome.snapshot.reason);
}

#[test]
fn nobody_is_believed_against_it_alone() {
    let alone = [
        Scene { receiver: Some(0), remembered: FUTURE, ..Scene::default() },
        Scene { servers: &[0], remembered: FUTURE, ..Scene::default() },
        // They do not say the same.
        Scene { receiver: Some(0), servers: &[-400 * DAY], remembered: FUTURE, ..Scene::default() },
        // The system clock says what is remembered.
        Scene { receiver: Some(0), system: Some(FUTURE), remembered: FUTURE, ..Scene::default() },
    ];
    for scene in alone {
        let outcome = play(scene);
        assert!(outcome.is_silent(), "{:?}", outcome.snapshot.reason);
        assert_eq!(outcome.refuted_by, None);
        let name = if scene.receiver.is_some() { "GPS" } else { "A" };
        let verdict = outcome.verdict(name);
        assert!(
            matches!(verdict, Verdict::DateInDoubt { last_good } if last_good.starts_with("2040-08-04")),
            "{verdict:?}"
        );
        assert!(verdict.next().unwrap().contains("drift.toml"));
        assert_eq!(outcome.snapshot.reason, StateReason::DateInDoubt { source: name.into() });
    }
}

#[test]
fn a_receiver_that_went_back_in_time_is_not_followed() {
    let scene = Scene { receiver: Some(-400 * DAY), remembered: -3600, ..Scene::default() };
    assert!(play(scene).is_silent());
    // With a server there is the right time; the pulse is numbered by it.
    let outcome = play(Scene { servers: &[0], ..scene });
    assert!(outcome.is_right() && outcome.refuted_by.is_none(), "{} {:?}", outcome.error, outcome.snapshot.reason);
    assert_eq!(outcome.verdict("PPS"), &Verdict::Selected);
    assert!(matches!(outcome.verdict("GPS"), Verdict::DateInDoubt { .. }), "{:?}", outcome.verdict("GPS"));
}

#[test]
fn a_last_good_time_that_is_one_is_in_nobodys_way() {
    // An hour or a year ago; and a little ahead, which is a clock that was set back.
    for remembered in [-3600, -400 * DAY, 3 * DAY] {
        for (receiver, servers) in [(Some(0), &[][..]), (Some(0), &[0]), (None, &[0])] {
            let outcome = play(Scene { receiver, servers, remembered, ..Scene::default() });
            assert!(outcome.is_right(), "{remembered} {} {:?}", outcome.error, outcome.snapshot.reason);
            assert_eq!(outcome.refuted_by, None);
        }
    }
}

#[test]
fn a_receiver_that_is_wrong_by_whole_days_is_repaired_by_those_who_agree() {
    // 1024 weeks, a day, an odd number; before and after what is remembered, by two servers or by one and the
    // system clock.
    for days in [7168, -7168, 1, -1, 300, -300, 3654] {
        for (servers, system, by) in [(&[0, 0][..], None, "A B"), (&[0], Some(-3600), "A the system clock")] {
            let scene =
                Scene { receiver: Some(days * DAY), servers, system, remembered: -9000 * DAY, ..Scene::default() };
            let outcome = play(scene);
            assert!(
                outcome.is_right(),
                "{days} {} {} {:?}",
                outcome.error,
                outcome.worst_served,
                outcome.snapshot.reason
            );
            assert_eq!(outcome.moved, [(-days, by.to_owned())]);
            assert_eq!(outcome.snapshot.state, State::Locked);
            assert_eq!(outcome.verdict("GPS"), &Verdict::NamesTheSecond { pulse: "PPS".into() });
            let gps = outcome.snapshot.sources.iter().find(|s| s.name == "GPS").unwrap();
            assert_eq!(gps.repair.as_ref().map(|r| r.days), Some(-days));
        }
    }
}

#[test]
fn a_disagreement_is_never_served_wrong() {
    let wrong = Scene { receiver: Some(-7168 * DAY), remembered: -9000 * DAY, ..Scene::default() };
    let scenes = [
        // One server alone; two that disagree; one that does not say whole days.
        Scene { servers: &[0], ..wrong },
        Scene { servers: &[0, 40], ..wrong },
        Scene { servers: &[-7168 * DAY + 5, 3], ..wrong },
    ];
    for scene in scenes {
        let outcome = play(scene);
        assert_eq!(outcome.moved, []);
        assert!(outcome.worst_served == 0.0, "{} {:?}", outcome.worst_served, outcome.snapshot.reason);
    }
    // Two servers are believed, whether or not the receiver can be repaired.
    let outcome = play(Scene { receiver: Some(-7168 * DAY + 40), servers: &[0, 0], ..wrong });
    assert!(outcome.moved.is_empty() && outcome.is_right(), "{} {:?}", outcome.error, outcome.snapshot.reason);
}

#[test]
fn a_receiver_that_finds_the_day_itself_is_taken_as_it_is() {
    let scene = Scene { receiver: Some(-7168 * DAY), servers: &[0, 0], remembered: -9000 * DAY, ..Scene::default() };
    let outcome = play(Scene { mends_at: Some(60), ..scene });
    let moved: Vec<i64> = outcome.moved.iter().map(|m| m.0).collect();
    assert_eq!(moved, [7168, 0]);
    assert!(outcome.is_right(), "{} {} {:?}", outcome.error, outcome.worst_served, outcome.snapshot.reason);
}

#[test]
fn servers_that_come_late_still_put_it_right() {
    let scene = Scene { receiver: Some(300 * DAY), servers: &[0, 0], remembered: -9000 * DAY, ..Scene::default() };
    let outcome = play(Scene { servers_from: 50, ..scene });
    assert!(outcome.worst_served > 1e6, "nobody knew better");
    assert_eq!(outcome.moved.iter().map(|m| m.0).collect::<Vec<_>>(), [-300]);
    assert!(
        outcome.error.abs() < 2e-3 && outcome.snapshot.state == State::Locked,
        "{} {:?}",
        outcome.error,
        outcome.snapshot.reason
    );
}
