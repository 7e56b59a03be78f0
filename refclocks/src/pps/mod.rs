//! Kernel PPS (RFC 2783), without I/O: what the last fetch says, and when to fetch next.
//!
//! The kernel stamps the edge; fetching early gains nothing. So one fetch a second, just after the
//! edge is due, is enough: the stamp found tells when the next one is due.

mod shape;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::device::{DevicePhase, DeviceReason, DeviceState, Health};
use crate::report::{Edge, LocalStamp, Pulse, Remark, Report};
use crate::sys::clock::Bracket;
use crate::time::{Raw, Realtime, Span, Timestamp};
use shape::Shape;

/// A fetch comes so long after the edge is due: interrupt, and our own wake-up's early side.
const AFTER_EDGE: Span = Span::from_millis(2);
/// An edge that was not there when due may be late by a little...
const LATE: Span = Span::from_millis(20);
/// ...or missing: while nothing comes, look so often.
const SILENT: Span = Span::from_millis(500);
/// No pulse for so long: stale.
const QUIET: Span = Span::from_millis(2500);
/// An edge older than this when found is of no use.
const OLD: Span = Span::from_millis(1500);
/// More edges than seconds, so many times in a row: this is no pulse per second.
const TOO_MANY: u8 = 5;

/// What the kernel knows of the last edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PpsInfo {
    /// Count of assert edges; wraps.
    pub assert_sequence: u32,
    /// Count of clear edges; wraps.
    pub clear_sequence: u32,
    /// Stamp of the last assert edge; the epoch if there was none.
    pub assert: Timestamp<Realtime>,
    /// Stamp of the last clear edge; the epoch if there was none.
    pub clear: Timestamp<Realtime>,
}

impl PpsInfo {
    /// Count and stamp of an edge.
    fn of(&self, edge: Edge) -> (u32, Timestamp<Realtime>) {
        match edge {
            Edge::Assert => (self.assert_sequence, self.assert),
            Edge::Clear => (self.clear_sequence, self.clear),
        }
    }
}

impl Default for PpsInfo {
    fn default() -> Self {
        Self { assert_sequence: 0, clear_sequence: 0, assert: Timestamp::EPOCH, clear: Timestamp::EPOCH }
    }
}

/// Follows one edge of one PPS device.
#[derive(Debug)]
pub struct Tracker {
    /// The edge asked for; `None`: the one that begins the pulse.
    wanted: Option<Edge>,
    shape: Shape,
    sequence: Option<u32>,
    /// The last sequence number of the edge that is not in use, where that is reported as well.
    other: Option<u32>,
    last_edge: Option<Timestamp<Raw>>,
    next_fetch: Option<Timestamp<Raw>>,
    tries: u8,
    too_many: u8,
    health: Health,
    state: Option<DeviceState>,
    reports: VecDeque<Report>,
}

impl Tracker {
    /// A tracker that has seen nothing. `None` finds out which edge begins the pulse.
    pub fn new(edge: Option<Edge>) -> Self {
        Self {
            wanted: edge,
            shape: Shape::default(),
            sequence: None,
            other: None,
            last_edge: None,
            next_fetch: None,
            tries: 0,
            too_many: 0,
            health: Health::default(),
            state: None,
            reports: VecDeque::new(),
        }
    }

    /// The device was opened.
    pub fn handle_open(&mut self, now: Timestamp<Raw>) {
        self.health.opened += 1;
        self.shape = Shape::default();
        self.too_many = 0;
        (self.sequence, self.other) = (None, None);
        self.last_edge = None;
        self.next_fetch = Some(now);
        self.become_state(DevicePhase::Opening, DeviceReason::Silent, now);
    }

    /// The device could not be opened, or went away.
    pub fn handle_fault(&mut self, phase: DevicePhase, reason: DeviceReason, now: Timestamp<Raw>) {
        self.become_state(phase, reason, now);
    }

    /// What a fetch at `now` said; `now` was read with it.
    pub fn handle_fetch(&mut self, info: &PpsInfo, now: &Bracket) {
        let changed = self.shape.handle_fetch(info);
        self.health.pulse_width_us = self.shape.width().map_or(0, |width| (width.nanos() / 1000).unsigned_abs());
        if changed {
            self.judge_edge();
        }
        let Some(edge) = self.edge() else {
            self.look_again(now.raw_after);
            return;
        };
        let (sequence, stamp) = info.of(edge);
        let raw = now.raw_after - (now.realtime - stamp);
        let age = now.raw_after - raw;
        let is_credible = stamp != Timestamp::EPOCH && age >= Span::from_millis(-1) && age < OLD;
        let last = self.sequence.replace(sequence);
        let new = sequence.wrapping_sub(last.unwrap_or(sequence.wrapping_sub(1)));
        if new == 0 || !is_credible {
            // An edge from before we opened the device, or no edge at all.
            self.look_again(now.raw_after);
            return;
        }
        self.health.frames += u64::from(new);
        self.tries = 0;
        let seconds = self.last_edge.map(|last| whole_seconds(raw - last)).filter(|_| last.is_some());
        if let Some(seconds) = seconds.filter(|seconds| *seconds < new) {
            // One of these edges is on the second, and nobody can say which.
            self.health.double_pulses += u64::from(new - seconds);
            self.too_many = self.too_many.saturating_add(1);
            self.next_fetch = Some(now.raw_after.max(raw) + Span::from_whole_seconds(1));
            self.last_edge = Some(raw);
            if self.too_many >= TOO_MANY {
                self.become_state(DevicePhase::Faulty, DeviceReason::ManyEdges { each_second: new }, now.raw_after);
            }
            return;
        }
        self.too_many = 0;
        let missed = if last.is_some() { new - 1 } else { 0 };
        self.health.pulses += 1;
        self.health.missed_pulses += u64::from(missed);
        self.health.missing_pulses += u64::from(seconds.map_or(0, |seconds| seconds - new));
        self.last_edge = Some(raw);
        self.next_fetch = Some(raw + Span::from_whole_seconds(1) + AFTER_EDGE);
        self.become_state(DevicePhase::Good, DeviceReason::Delivering, now.raw_after);
        self.tell_other(edge, info, now);
        let pulse = Pulse { local: LocalStamp::Realtime(stamp), edge, sequence, missed };
        self.reports.push_back(Report::Pulse(pulse));
    }

    /// Where the shape does not tell which edge is on the second, the other one is told as well, from the second
    /// pulse on, so that the likelier one is first: who knows where the second is decides.
    fn tell_other(&mut self, used: Edge, info: &PpsInfo, now: &Bracket) {
        if self.wanted.is_some() || !self.shape.is_doubtful() {
            self.other = None;
            return;
        }
        let edge = if used == Edge::Assert { Edge::Clear } else { Edge::Assert };
        let (sequence, stamp) = info.of(edge);
        let is_new = self.other.replace(sequence).is_some_and(|last| last != sequence);
        if is_new && stamp != Timestamp::EPOCH && now.realtime - stamp < OLD {
            let pulse = Pulse { local: LocalStamp::Realtime(stamp), edge, sequence, missed: 0 };
            self.reports.push_back(Report::Pulse(pulse));
        }
    }

    /// The edge in use; `None` while it is not known which begins the pulse.
    pub fn edge(&self) -> Option<Edge> {
        self.wanted.or(self.shape.edge())
    }

    /// Has it been silent for longer than a pulse may be late?
    pub fn is_silent(&self) -> bool {
        self.tries > 2
    }

    /// It is known, perhaps anew, which edge begins the pulse.
    fn judge_edge(&mut self) {
        let Some(begins) = self.shape.edge() else { return };
        let width = self.shape.width();
        match self.wanted {
            None => {
                self.sequence = None;
                self.last_edge = None;
                self.reports.push_back(Report::Remark(Remark::Edge { edge: begins, width }));
            }
            Some(wanted) if wanted != begins && width.is_some() => {
                self.reports.push_back(Report::Remark(Remark::OtherEdge { wanted, begins, width }));
            }
            Some(_) => {}
        }
    }

    /// When to fetch next; at once if it never was.
    pub fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        self.next_fetch
    }

    /// The next report.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// The counters.
    pub fn health(&self) -> Health {
        self.health
    }

    fn look_again(&mut self, now: Timestamp<Raw>) {
        self.tries = self.tries.saturating_add(1);
        let due = self.last_edge.filter(|_| self.tries <= 2).map(|_| LATE);
        self.next_fetch = Some(now + due.unwrap_or(SILENT));
        if let Some(last) = self.last_edge
            && now - last > QUIET
        {
            self.become_state(DevicePhase::Stale, DeviceReason::Quiet { silence: now - last }, now);
        }
    }

    fn become_state(&mut self, phase: DevicePhase, reason: DeviceReason, since: Timestamp<Raw>) {
        let change = DeviceState::change(&mut self.state, phase, reason, since);
        self.reports.extend(change.map(Report::State));
    }
}

/// How many seconds there are in a distance between edges, to the nearest.
fn whole_seconds(distance: Span) -> u32 {
    u32::try_from((distance.nanos() + 500_000_000).div_euclid(1_000_000_000)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bracket(ms: i64) -> Bracket {
        let raw = Timestamp::from_nanos(ms * 1_000_000);
        Bracket { raw_before: raw, realtime: realtime(ms), raw_after: raw }
    }

    fn realtime(ms: i64) -> Timestamp<Realtime> {
        Timestamp::from_nanos((1_700_000_000_000 + ms) * 1_000_000)
    }

    fn pulses(tracker: &mut Tracker) -> Vec<Pulse> {
        std::iter::from_fn(|| tracker.poll_report())
            .filter_map(|r| if let Report::Pulse(p) = r { Some(p) } else { None })
            .collect()
    }

    /// Plays seconds whose pulses come 300 ms into each raw second, with some left out, and returns
    /// what was reported and how often it fetched.
    fn play(seconds: i64, present: impl Fn(i64) -> bool, first_sequence: u32) -> (Vec<Pulse>, usize, Tracker) {
        let mut tracker = Tracker::new(Some(Edge::Assert));
        tracker.handle_open(Timestamp::EPOCH);
        let mut found = Vec::new();
        let mut fetches = 0;
        let mut at = 0;
        while at < seconds * 1000 {
            let edges: Vec<i64> = (0..seconds).filter(|k| present(*k) && k * 1000 + 300 <= at).collect();
            let info = PpsInfo {
                assert_sequence: first_sequence.wrapping_add(edges.len() as u32),
                assert: edges.last().map_or(Timestamp::EPOCH, |k| realtime(k * 1000 + 300)),
                ..PpsInfo::default()
            };
            tracker.handle_fetch(&info, &bracket(at));
            fetches += 1;
            found.extend(pulses(&mut tracker));
            at = (tracker.poll_timeout().unwrap().to_nanos() + 999_999) / 1_000_000;
        }
        (found, fetches, tracker)
    }

    #[test]
    fn one_fetch_a_second_finds_every_pulse_over_the_wrap() {
        let (found, fetches, tracker) = play(100, |_| true, u32::MAX - 50);
        assert_eq!(found.len(), 100);
        assert!(fetches <= 103, "{fetches}");
        assert_eq!(tracker.health().missed_pulses, 0);
        assert!(found.iter().all(|p| p.missed == 0));
    }

    #[test]
    fn a_pause_is_told_and_ends() {
        let (found, _, tracker) = play(60, |k| !(20..40).contains(&k), 7);
        assert_eq!(found.len(), 40);
        assert_eq!(tracker.state.unwrap().phase, DevicePhase::Good);
    }

    /// Fetches that come after these edges, ms: what is given, and the tracker.
    fn fetched(edges: &[&[i64]], edge: Option<Edge>) -> (Vec<i64>, Tracker) {
        let mut tracker = Tracker::new(edge);
        tracker.handle_open(Timestamp::EPOCH);
        let (mut sequence, mut given) = (7u32, Vec::new());
        for edges in edges {
            sequence += edges.len() as u32;
            let last = edges.last().unwrap();
            let info = PpsInfo { assert_sequence: sequence, assert: realtime(*last), ..PpsInfo::default() };
            tracker.handle_fetch(&info, &bracket(*last + 2));
            given.extend(pulses(&mut tracker).iter().map(|_| *last));
        }
        (given, tracker)
    }

    #[test]
    fn missing_and_double_pulses_are_counted_and_a_double_one_is_not_used() {
        let rings: [&[i64]; 6] = [&[1000], &[2000], &[3000, 3001], &[4000], &[7000], &[8000]];
        let (given, tracker) = fetched(&rings, Some(Edge::Assert));
        assert_eq!(given, [1000, 2000, 4000, 7000, 8000]);
        let health = tracker.health();
        assert_eq!((health.double_pulses, health.missing_pulses, health.missed_pulses), (1, 2, 0));
        assert_eq!(tracker.state.unwrap().phase, DevicePhase::Good);
        // Late, but all there.
        let (given, tracker) = fetched(&[&[1000], &[2000, 3000, 4000], &[5000]], Some(Edge::Assert));
        assert_eq!(given.len(), 3);
        assert_eq!((tracker.health().double_pulses, tracker.health().missed_pulses), (0, 2));
    }

    #[test]
    fn five_pulses_a_second_are_refused_in_words() {
        let edges: Vec<Vec<i64>> = (1..12).map(|s| (0..5).map(|k| s * 1000 + k * 200).collect()).collect();
        let edges: Vec<&[i64]> = edges.iter().map(Vec::as_slice).collect();
        let (given, tracker) = fetched(&edges, Some(Edge::Assert));
        assert!(given.len() <= 1, "{given:?}");
        assert_eq!(
            tracker.state.unwrap().reason.to_string(),
            "5 edges a second: which of them is on the second cannot be told"
        );
    }

    #[test]
    fn the_edge_that_begins_the_pulse_is_found_before_any_is_given() {
        // Upside down: high until the second, low for 100 ms from it on.
        let mut tracker = Tracker::new(None);
        tracker.handle_open(Timestamp::EPOCH);
        let mut given = Vec::new();
        for half in 2..20i64 {
            let at = half * 500 + 2;
            let (second, sequence) = (at / 1000 * 1000, (at / 1000) as u32);
            let asserted = if at % 1000 >= 100 { second } else { second - 1000 } + 100;
            let info = PpsInfo {
                clear_sequence: sequence,
                clear: realtime(second),
                assert_sequence: sequence - u32::from(at % 1000 < 100),
                assert: realtime(asserted),
            };
            tracker.handle_fetch(&info, &bracket(at));
            while let Some(report) = tracker.poll_report() {
                match report {
                    Report::Pulse(pulse) => given.push((pulse.edge, pulse.local)),
                    Report::Remark(remark) => {
                        assert_eq!(
                            remark.to_string(),
                            "its clear edge begins the pulse and is used: it is high for 900.0 ms"
                        );
                        assert!(given.is_empty());
                    }
                    _ => {}
                }
            }
        }
        assert!(given.len() >= 4);
        assert!(given.iter().all(|(edge, _)| *edge == Edge::Clear));
        assert!(given.iter().any(|(_, local)| *local == LocalStamp::Realtime(realtime(9000))));
        assert_eq!(tracker.health().pulse_width_us, 900_000);
    }

    #[test]
    fn both_edges_of_a_square_wave_are_told_unless_one_is_named() {
        let told = |edge: Option<Edge>, high: i64| {
            let mut tracker = Tracker::new(edge);
            tracker.handle_open(Timestamp::EPOCH);
            let mut given = Vec::new();
            for k in 2..12i64 {
                let info = PpsInfo {
                    assert_sequence: k as u32,
                    assert: realtime(1000 * k),
                    clear_sequence: k as u32 - 1,
                    clear: realtime(1000 * (k - 1) + high),
                };
                tracker.handle_fetch(&info, &bracket(1000 * k + 2));
                given.extend(pulses(&mut tracker).iter().map(|p| (p.edge, p.sequence)));
            }
            given
        };
        let both = told(None, 500);
        assert_eq!(
            both.first_chunk(),
            Some(&[(Edge::Assert, 5), (Edge::Clear, 5), (Edge::Assert, 6), (Edge::Clear, 6)])
        );
        assert!(told(None, 100).iter().all(|(edge, _)| *edge == Edge::Assert));
        assert!(told(Some(Edge::Clear), 500).iter().all(|(edge, _)| *edge == Edge::Clear));
    }

    #[test]
    fn an_old_edge_at_the_opening_is_not_a_pulse() {
        let mut tracker = Tracker::new(Some(Edge::Assert));
        let info = PpsInfo { assert_sequence: 9, assert: realtime(-60_000), ..PpsInfo::default() };
        tracker.handle_fetch(&info, &bracket(0));
        assert_eq!(pulses(&mut tracker), []);
        tracker.handle_fetch(&PpsInfo { assert: realtime(4900), assert_sequence: 14, ..info }, &bracket(5000));
        assert_eq!(pulses(&mut tracker).first().map(|p| p.missed), Some(4));
    }
}
