//! Kernel PPS (RFC 2783), without I/O: what the last fetch says, and when to fetch next.
//!
//! The kernel stamps the edge; fetching early gains nothing. So one fetch a second, just after the
//! edge is due, is enough: the stamp found tells when the next one is due.

use std::collections::VecDeque;

use crate::device::{DevicePhase, DeviceReason, DeviceState, Health};
use crate::report::{Edge, LocalStamp, Pulse, Report};
use crate::sys::clock::Bracket;
use crate::time::{Raw, Realtime, Span, Timestamp};

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

/// What the kernel knows of the last edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Default for PpsInfo {
    fn default() -> Self {
        Self { assert_sequence: 0, clear_sequence: 0, assert: Timestamp::EPOCH, clear: Timestamp::EPOCH }
    }
}

/// Follows one edge of one PPS device.
#[derive(Debug)]
pub struct Tracker {
    edge: Edge,
    sequence: Option<u32>,
    last_edge: Option<Timestamp<Raw>>,
    next_fetch: Option<Timestamp<Raw>>,
    tries: u8,
    health: Health,
    state: Option<DeviceState>,
    reports: VecDeque<Report>,
}

impl Tracker {
    /// A tracker that has seen nothing.
    pub fn new(edge: Edge) -> Self {
        Self {
            edge,
            sequence: None,
            last_edge: None,
            next_fetch: None,
            tries: 0,
            health: Health::default(),
            state: None,
            reports: VecDeque::new(),
        }
    }

    /// The device was opened.
    pub fn handle_open(&mut self, now: Timestamp<Raw>) {
        self.health.opened += 1;
        self.sequence = None;
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
        let (sequence, stamp) = match self.edge {
            Edge::Assert => (info.assert_sequence, info.assert),
            Edge::Clear => (info.clear_sequence, info.clear),
        };
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
        let missed = if last.is_some() { new - 1 } else { 0 };
        self.health.frames += 1;
        self.health.pulses += 1;
        self.health.missed_pulses += u64::from(missed);
        self.last_edge = Some(raw);
        self.tries = 0;
        self.next_fetch = Some(raw + Span::from_whole_seconds(1) + AFTER_EDGE);
        self.become_state(DevicePhase::Good, DeviceReason::Delivering, now.raw_after);
        let pulse = Pulse { local: LocalStamp::Realtime(stamp), edge: self.edge, sequence, missed };
        self.reports.push_back(Report::Pulse(pulse));
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
        let same_kind =
            |s: &DeviceState| s.phase == phase && std::mem::discriminant(&s.reason) == std::mem::discriminant(&reason);
        if !self.state.as_ref().is_some_and(same_kind) {
            let state = DeviceState { phase, reason, since };
            self.state = Some(state.clone());
            self.reports.push_back(Report::State(state));
        }
    }
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
        let mut tracker = Tracker::new(Edge::Assert);
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

    #[test]
    fn an_old_edge_at_the_opening_is_not_a_pulse() {
        let mut tracker = Tracker::new(Edge::Assert);
        let info = PpsInfo { assert_sequence: 9, assert: realtime(-60_000), ..PpsInfo::default() };
        tracker.handle_fetch(&info, &bracket(0));
        assert_eq!(pulses(&mut tracker), []);
        tracker.handle_fetch(&PpsInfo { assert: realtime(4900), assert_sequence: 14, ..info }, &bracket(5000));
        assert_eq!(pulses(&mut tracker).first().map(|p| p.missed), Some(4));
    }
}
