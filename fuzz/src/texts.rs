//! Texts: the configuration, scenarios, the drift file, questions on the control socket.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use refclockd::config::{Config, diagnostic};
use refclockd::control::lines::{LONGEST_LINE, Line, Lines};
use refclockd::control::protocol::handle_line;
use refclockd::core::leap::UtcMap;
use refclockd::core::leap_list::LeapList;
use refclockd::core::memory::Memory;
use refclockd::core::snapshot::{
    ClockKind, ClockReading, ClockRefusal, ErrorBound, Snapshot, SourceKind, SourceReport, SystemVariables,
};
use refclockd::core::state::{State, StateReason};
use refclockd::core::verdict::Verdict;
use refclockd::sim::Scenario;
use refclockd::sim::rehearsal::Rehearsal;
use refclocks::time::{Raw, Timestamp, Utc};
use refclocks::{Health, ReferenceId};

use crate::bytes::Tail;

/// When simulated worlds begin.
const START: Timestamp<Utc> = Timestamp::from_parts(1_767_225_600, 0);

/// A configuration, or everything that is wrong with it.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = Config::from_toml("refclockd.toml", text);
    let diagnostics = match &read {
        Ok((config, warnings)) => {
            assert!(!warnings.iter().any(diagnostic::Diagnostic::is_error), "a configuration with errors was taken");
            assert_sound(config);
            warnings
        }
        Err(all) => {
            assert!(all.iter().any(diagnostic::Diagnostic::is_error), "refused without an error");
            all
        }
    };
    assert_told("refclockd.toml", text, diagnostics);
}

/// A scenario of the simulation that can be played, or everything that is wrong with it.
pub fn scenario(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Scenario::from_toml(text) {
        Ok(scenario) => {
            let mut rehearsal = Rehearsal::new(scenario, 1, START, &Memory::default());
            let score = rehearsal.play(3.0, |_| ());
            assert!(score.early_max_error_s.is_none_or(f64::is_finite), "{score:?}");
        }
        Err(all) => {
            assert!(!all.is_empty(), "refused without a word");
            assert_told("scenario.toml", text, &all);
        }
    }
}

/// Messages lie in the text, say something, and do nothing to a terminal.
fn assert_told(file: &str, text: &str, diagnostics: &[diagnostic::Diagnostic]) {
    let lines = text.matches('\n').count() + 1;
    for d in diagnostics {
        assert!(!d.title.is_empty() && !d.help.is_empty(), "{d:?}");
        assert!(!d.title.contains(char::is_control) && !d.help.contains(char::is_control), "{d:?}");
        if d.span.is_some() {
            let Some((line, column)) = d.position(text) else { panic!("no position: {d:?}") };
            assert!(line <= lines && column <= text.len() + 1, "{line}:{column} in {lines} lines");
        }
    }
    let shown = diagnostic::render(file, text, diagnostics, false);
    let evil = shown.chars().find(|c| (c.is_control() && *c != '\n') || turns_text(*c));
    assert_eq!(evil, None, "the operator's terminal is not to be told what the file says: {shown:?}");
}

/// Marks that make the rest of a line run the other way.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What the rest of the program takes for granted.
fn assert_sound(config: &Config) {
    let mut names = BTreeSet::new();
    for name in config.refclocks.iter().map(|r| &r.name).chain(config.servers.iter().map(|s| &s.name)) {
        assert!(names.insert(name.as_str()), "two sources are named {name:?}");
        assert!(!name.is_empty());
    }
    for refclock in &config.refclocks {
        assert!(refclock.delay.is_none_or(f64::is_finite) && refclock.offset.is_finite());
        assert!(refclock.stratum < 16);
        assert!(refclock.lock.as_deref().is_none_or(|lock| names.contains(lock) && lock != refclock.name));
    }
    for server in &config.servers {
        assert!(server.minpoll <= server.maxpoll && server.port != 0 && !server.host.is_empty(), "{server:?}");
    }
    assert!((1e-6..=1.0).contains(&config.holdover_budget));
    assert!(config.clock.step_threshold.is_finite() && config.clock.panic.is_finite());
    assert!(config.serve.as_ref().is_none_or(|s| !s.listen.is_empty()));
    let mut told = BTreeSet::new();
    for feed in &config.feeds {
        assert!((1e-6..=1.0).contains(&feed.within) && told.insert(feed.address()), "{feed:?}");
        let is_read = |read: &refclockd::config::Refclock| read.driver.address() == feed.address();
        assert!(!config.refclocks.iter().any(is_read), "told and read: {feed:?}");
    }
    assert!(config.local.is_none_or(|l| (1..16).contains(&l.stratum)));
}

/// A drift file. What is believed can be written and read again.
pub fn drift(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(memory) = Memory::from_text(text) else { return };
    assert!(memory.frequency.is_none_or(|f| f.value.abs() <= 1.001e-3 && (0.0..=1.001e-3).contains(&f.sd)));
    assert!(memory.lg_wander.is_none_or(|w| w.abs() <= 30.0));
    let delay = memory.delay("GPS");
    assert!(delay.is_none_or(|d| d.mean.abs() <= 10.0 && (0.0..=10.0).contains(&d.sd)), "{delay:?}");
    let written = memory.to_text();
    let again = Memory::from_text(&written);
    let Ok(again) = again else { panic!("written but not read: {again:?}\n{written}") };
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * a.abs();
    match (memory.frequency, again.frequency) {
        (Some(a), Some(b)) => assert!(near(a.value, b.value) && near(a.sd, b.sd), "{a:?} {b:?}"),
        (a, b) => assert_eq!(a, b),
    }
    assert_eq!((memory.lg_wander, delay), (again.lg_wander, again.delay("GPS")));
    // Whole seconds are written.
    assert_eq!(memory.last_utc.map(|t| t.whole_seconds()), again.last_utc.map(|t| t.whole_seconds()));
}

/// A table of leap seconds. One that is taken leads from each leap second to the next.
pub fn leap_list(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(list) = LeapList::parse(text) else { return };
    // From before any leap second, and from today.
    for start in [0, 1_767_323_045] {
        let mut now = Timestamp::<Utc>::from_parts(start, 0);
        for _ in 0..=text.lines().count() {
            let map = list.map_at(now);
            assert!((10..=100).contains(&map.tai_minus_utc), "{map:?}");
            assert_eq!(map.utc(map.tai(now, false)), (now, false), "to TAI and back");
            let Some(next) = map.next else { break };
            assert!(next.at > now && next.at.whole_seconds() % 86_400 == 0, "{next:?}");
            assert_eq!(next.change.abs(), 1, "a leap second is one second: {next:?}");
            let after = list.map_at(next.at);
            assert_eq!(after.tai_minus_utc, map.tai_minus_utc + next.change);
            assert_eq!(map.tai(next.at, false), after.tai(next.at, false), "both say the same of that midnight");
            now = next.at;
        }
        assert_eq!(list.map_at(now).next, None, "there are more leap seconds than lines");
    }
}

/// What a client sends to the control socket, cut anywhere.
pub fn control(data: &[u8]) {
    let mut options = Tail(data);
    let chunk = 1 + usize::from(options.byte());
    let bytes = options.0;
    let mut whole = Lines::default();
    let mut expected = whole.push(bytes);
    expected.extend(whole.finish());
    let mut parts = Lines::default();
    let mut lines: Vec<Line> = bytes.chunks(chunk).flat_map(|part| parts.push(part)).collect();
    lines.extend(parts.finish());
    assert_eq!(lines, expected, "how the bytes are cut does not matter");
    let ends = bytes.iter().filter(|b| **b == b'\n').count();
    assert!(lines.len() == ends || lines.len() == ends + 1, "a line an answer");
    // Questions repeat themselves; the first few show what there is to see.
    for line in lines.iter().take(32) {
        let Line::Whole(line) = line else { continue };
        // Every byte that is no UTF-8 became three.
        assert!(line.len() <= 3 * LONGEST_LINE && !line.contains('\n'));
        assert_answer(&handle_line(line, &|| (Arc::new(SNAPSHOT.clone()), NOW.into())));
    }
}

/// One JSON object on one line, with nothing in it that a terminal would obey.
fn assert_answer(answer: &str) {
    assert!(!answer.contains(char::is_control), "{answer:?}");
    let Ok(serde_json::Value::Object(object)) = serde_json::from_str(answer) else {
        panic!("not one object: {answer}")
    };
    match object.get("error") {
        Some(error) => {
            let code = error.get("code").and_then(|c| c.as_str()).unwrap_or_default();
            let known = ["bad_request", "unknown_question", "unknown_source"];
            assert!(known.contains(&code), "{answer}");
            assert!(error.get("text").and_then(|t| t.as_str()).is_some_and(|t| !t.is_empty()));
            assert!(answer.len() < 1000, "an error is no place for what was sent: {} bytes", answer.len());
        }
        None => {
            let schema = object.get("schema").and_then(|s| s.as_str()).unwrap_or_default();
            assert!(schema.starts_with("refclockd."), "{answer}");
        }
    }
}

const NOW: Timestamp<Raw> = Timestamp::from_parts(1000, 0);

/// A daemon that has just started, with one source of an awkward name.
static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| Snapshot {
    at: NOW,
    valid_until: NOW,
    asleep: refclocks::time::Span::ZERO,
    started: NOW,
    clock: ClockReading { raw: NOW, tai: Timestamp::from_parts(1_767_323_082, 0), rate: 0.0 },
    clock_kind: ClockKind::Own,
    clock_refusal: Some(ClockRefusal {
        error: "setting its rate: Operation not \u{9b}permitted".into(),
        permission: true,
        instead: ClockKind::Own,
    }),
    leap_left: Some(-0.5),
    rival_seen: None,
    utc: UtcMap::default(),
    bound: ErrorBound::unknown(),
    system: SystemVariables::UNSYNCHRONISED,
    state: State::Unsynchronised,
    state_since: NOW,
    previous_state: None,
    reason: StateReason::NothingYet,
    offset: None,
    frequency: None,
    frequency_sd: f64::INFINITY,
    temperature: None,
    holdover_budget: 1e-3,
    would_last_s: None,
    sources: Arc::new([SourceReport {
        name: "GPS\u{1b}[2J\"\\\n\u{7f}\u{9b}".into(),
        refid: ReferenceId(*b"GPS\0"),
        driver: "nmea",
        address: "/dev/\u{1b}]0;evil\u{7}".into(),
        kind: SourceKind::Message,
        device: None,
        server: None,
        verdict: Verdict::NoData,
        offset: Some(f64::NAN),
        interval: Some(f64::INFINITY),
        jitter: None,
        delay: None,
        bias: None,
        delays: Default::default(),
        calibrated: false,
        reach: 0,
        poll: 0,
        stratum: 0,
        last_sample: None,
        samples: 0,
        health: Health::default(),
        receiver: None,
        sawtooth: None,
        edge: None,
        repair: None,
        stamps: None,
    }]),
});
