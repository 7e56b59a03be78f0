//! A pulse whose shape does not tell which of its edges is on the second: whoever knows where the second is
//! decides, a server before a message whose delay is known.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use refclockd::clock::{DisciplinedClock, SoftwareClock};
use refclockd::core::engine::EngineConfig;
use refclockd::core::leap::UtcMap;
use refclockd::core::measurement::Measurement;
use refclockd::core::memory::Memory;
use refclockd::core::snapshot::{Snapshot, SourceKind};
use refclockd::core::source::{ServerSays, SourceConfig};
use refclockd::core::state::State;
use refclocks::pps::{PpsInfo, Tracker};
use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Realtime, Span, Tai, Timestamp, Utc};
use refclocks::{Edge, Health, LocalStamp, Report, Sample};

const START: Timestamp<Utc> = Timestamp::from_parts(1_795_651_200, 0);

/// What there is. Edges are as late after the second, ms.
#[derive(Clone, Copy)]
struct Scene {
    assert: i64,
    clear: i64,
    /// Servers, and the second from which on they answer.
    servers: usize,
    from: i64,
    /// The delay of the receiver's messages, as the operator gave it, s.
    delay: Option<f64>,
}

const SQUARE: Scene = Scene { assert: 500, clear: 0, servers: 0, from: 0, delay: None };

struct Outcome {
    snapshot: Snapshot,
    error: f64,
    worst_served: f64,
    /// Edges as they were found, and by whom.
    found: Vec<(Edge, String)>,
}

impl Outcome {
    /// The edge in use, and who said so.
    fn edge(&self) -> Option<(Edge, Option<&str>)> {
        self.snapshot.sources[1].edge.as_ref().map(|(edge, by)| (*edge, by.as_deref()))
    }

    fn is_right(&self) -> bool {
        self.snapshot.state == State::Locked && self.error.abs() < 1e-4
    }
}

/// Three minutes of it: the kernel's view of the pulse through the tracker, and messages 120 ms after the second.
fn play(scene: Scene) -> Outcome {
    let utc = UtcMap::default();
    let (raw0, start) = (Timestamp::<Raw>::from_parts(40, 0), utc.tai(START, false));
    let gps = SourceConfig { delay: scene.delay, ..SourceConfig::new("GPS", SourceKind::Message) };
    let mut sources = vec![gps, SourceConfig::new("PPS", SourceKind::Pulse)];
    sources.extend((0..scene.servers).map(|i| SourceConfig::new(["A", "B", "C"][i], SourceKind::Network)));
    let config = EngineConfig { sources, holdover_budget: 1e-3, utc, ..EngineConfig::default() };
    let clock = SoftwareClock::new(raw0, start + Span::from_millis(3));
    let mut clock = DisciplinedClock::new(config, &Memory::default(), Box::new(clock), raw0);
    let realtime = |ms: i64| -> Timestamp<Realtime> { START.reinterpret() + Span::from_millis(ms) };
    let bracket = |ms: i64| {
        let raw = raw0 + Span::from_millis(ms);
        Bracket { raw_before: raw, realtime: realtime(ms), raw_after: raw }
    };
    let mut tracker = Tracker::new(None);
    tracker.handle_open(raw0);
    let (mut found, mut worst_served, mut last) = (Vec::new(), 0.0f64, None);
    for ms in (1000..180_000).step_by(10) {
        let at = raw0 + Span::from_millis(ms);
        let tai = |ms: i64| -> Timestamp<Tai> { start + Span::from_millis(ms) };
        let mut reports = Vec::new();
        if tracker.poll_timeout().is_some_and(|due| due <= at) {
            let edge = |late: i64| (ms - late).div_euclid(1000);
            let [asserts, clears] = [scene.assert, scene.clear].map(edge);
            let info = PpsInfo {
                assert_sequence: asserts as u32,
                assert: realtime(1000 * asserts + scene.assert),
                clear_sequence: clears as u32,
                clear: realtime(1000 * clears + scene.clear),
            };
            tracker.handle_fetch(&info, &bracket(ms));
            reports.extend(std::iter::from_fn(|| tracker.poll_report()).map(|report| (1, report)));
        }
        if ms % 1000 == 130 {
            let sample = Sample {
                local: LocalStamp::Raw(at - Span::from_millis(10)),
                reference: utc.utc(tai(ms - 130)).0,
                second60: false,
                quantum: Span::ZERO,
                leap: None,
            };
            reports.push((0, Report::Sample(sample)));
        }
        for (source, report) in reports {
            clock.handle_report(source, &report, &Health::default(), &bracket(ms));
        }
        for i in (0..scene.servers).filter(|_| ms % 2000 == 200 && ms >= 1000 * scene.from) {
            let m = Measurement { raw: at - Span::from_millis(5), tai: tai(ms - 5), delay: Some(0.004) };
            let says = ServerSays { root_dispersion: 1e-5, stratum: 1, ..ServerSays::default() };
            clock.handle_reach(2 + i, 255, 6);
            clock.handle_exchange(2 + i, m, says, at);
        }
        if clock.poll_timeout() <= at {
            clock.handle_timeout(&bracket(ms));
        }
        while let Some(event) = clock.poll_event() {
            if let refclockd::core::event::Event::EdgeFound { edge, by, .. } = &event {
                found.push((*edge, by.clone()));
            }
        }
        let snapshot = clock.snapshot(at);
        let error = (clock.now(at).clock - tai(ms)).seconds();
        if snapshot.system.stratum < 16 {
            worst_served = worst_served.max(error.abs());
        }
        last = Some((snapshot, error));
    }
    let (snapshot, error) = last.unwrap();
    Outcome { snapshot, error, worst_served, found }
}

#[test]
fn a_short_pulse_tells_by_itself() {
    for (assert, clear) in [(0, 100), (100, 0)] {
        let outcome = play(Scene { assert, clear, ..SQUARE });
        assert!(outcome.is_right() && outcome.found.is_empty(), "{} {:?}", outcome.error, outcome.snapshot.reason);
        assert_eq!(outcome.edge(), None);
    }
}

#[test]
fn a_server_tells_the_edges_of_a_square_wave_apart() {
    let outcome = play(Scene { servers: 1, ..SQUARE });
    assert_eq!(outcome.found, [(Edge::Clear, "A".to_owned())]);
    assert_eq!(outcome.edge(), Some((Edge::Clear, Some("A"))));
    assert!(outcome.is_right() && outcome.worst_served < 0.1, "{} {}", outcome.error, outcome.worst_served);
    // The usual way round there is nothing to find, and it is confirmed.
    let outcome = play(Scene { assert: 0, clear: 500, servers: 1, ..SQUARE });
    assert_eq!((outcome.found.len(), outcome.edge()), (0, Some((Edge::Assert, Some("A")))));
    assert!(outcome.is_right() && outcome.worst_served < 0.1, "{} {}", outcome.error, outcome.worst_served);
}

#[test]
fn a_long_pulse_that_looks_upside_down_is_told_by_a_server() {
    let outcome = play(Scene { assert: 0, clear: 650, servers: 1, ..SQUARE });
    assert_eq!(outcome.found, [(Edge::Assert, "A".to_owned())]);
    assert!(outcome.is_right() && outcome.worst_served < 0.1, "{} {}", outcome.error, outcome.worst_served);
}

#[test]
fn a_message_whose_delay_is_known_tells_as_well() {
    let outcome = play(Scene { delay: Some(0.12), ..SQUARE });
    assert_eq!(outcome.found, [(Edge::Clear, "GPS".to_owned())]);
    assert!(outcome.is_right(), "{} {:?}", outcome.error, outcome.snapshot.reason);
}

#[test]
fn without_a_witness_the_assert_edge_counts_and_nobody_is_said_to_have_told_so() {
    let outcome = play(Scene { assert: 0, clear: 500, ..SQUARE });
    assert_eq!((outcome.found.len(), outcome.edge()), (0, Some((Edge::Assert, None))));
    assert!(outcome.is_right(), "{} {:?}", outcome.error, outcome.snapshot.reason);
}

#[test]
fn servers_that_come_late_put_it_right() {
    let outcome = play(Scene { servers: 2, from: 60, ..SQUARE });
    assert_eq!(outcome.found, [(Edge::Clear, "A".to_owned())]);
    assert!(outcome.is_right() && outcome.worst_served > 0.4, "{} {}", outcome.error, outcome.worst_served);
}
