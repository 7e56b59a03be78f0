//! Daemons of this machine that are told what we know: a pulse with its number, or our own clock.
//!
//! Somebody who trusts an ntpd or chronyd with the system clock adopts only our half that way: the
//! receiver, the number of its seconds, and the judgement of both.

use refclocks::shell::feed::{Comparison, Feed};
use refclocks::sys::clock::Bracket;
use refclocks::sys::shm::ShmSegment;
use refclocks::time::{Raw, Realtime, Span, Timestamp};
use refclocks::{DeviceReason, LocalStamp, Report};
use tracing::{info, warn};

use crate::config;
use crate::core::snapshot::{Snapshot, SourceKind, SourceReport};
use crate::core::state::State;
use crate::core::verdict::Verdict;
use crate::observe::fed::{Fed, FedBoard, Tellings};

/// Our own clock is told so often.
const EVERY: Span = Span::from_whole_seconds(1);
/// A pulse is numbered by a clock that is known to within this, and no further from it, s: whatever
/// happens, that is the right second.
const NUMBERS: f64 = 0.25;
/// What kernel stamps of pulses are worth at best, log2 s.
const PULSE_PRECISION: i8 = -20;

/// All of them.
#[derive(Debug, Default)]
pub struct Feeds {
    feeds: Vec<Running>,
    /// Where readers see how they stand.
    board: FedBoard,
    next: Option<Timestamp<Raw>>,
}

#[derive(Debug)]
struct Running {
    config: config::Feed,
    feed: Feed,
    /// What was said of it last: nothing yet, that it is told, or why it cannot be.
    said: Option<Result<(), DeviceReason>>,
    tellings: Tellings,
}

impl Feeds {
    /// Makes the feeds those of a configuration; what stays is not interrupted. `attached` finds the
    /// memory of a unit that is attached already.
    pub fn apply(&mut self, wanted: &[config::Feed], mut attached: impl FnMut(u8) -> Option<ShmSegment>) {
        let mut before = std::mem::take(&mut self.feeds);
        for config in wanted {
            let stays = before.iter().position(|running| running.config == *config);
            self.feeds.push(match stays {
                Some(at) => before.swap_remove(at),
                None => {
                    let segment = config.unit().and_then(&mut attached);
                    let feed = Feed::new(config.driver.clone(), segment);
                    Running { config: config.clone(), feed, said: None, tellings: Tellings::default() }
                }
            });
        }
        self.show();
    }

    /// Has readers see how they stand.
    pub fn show_on(&mut self, board: FedBoard) {
        self.board = board;
        self.show();
    }

    fn show(&self) {
        self.board.write(self.feeds.iter().map(Running::seen).collect());
    }

    /// When our own clock is to be told next, if anybody wants it.
    pub fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        self.next.filter(|_| self.feeds.iter().any(|running| running.config.source.is_none()))
    }

    /// Time passed.
    pub fn handle_wake_up(&mut self, snapshot: &Snapshot, now: &Bracket) {
        if self.feeds.is_empty() || self.next.is_some_and(|next| now.raw_after < next) {
            return;
        }
        self.next = Some(now.raw_after + EVERY);
        let mut is_news = false;
        for running in self.feeds.iter_mut().filter(|running| running.config.source.is_none()) {
            if let Some(comparison) = of_our_clock(snapshot, running.config.within, now) {
                is_news |= running.tell(&comparison, now.raw_after);
            }
        }
        if is_news {
            self.show();
        }
    }

    /// Does any of them want what sources report?
    pub fn follow_sources(&self) -> bool {
        self.feeds.iter().any(|running| running.config.source.is_some())
    }

    /// A source reported. `offset`: its constant lateness, s.
    pub fn handle_report(&mut self, source: &str, offset: f64, report: &Report, snapshot: &Snapshot, now: &Bracket) {
        let mut is_news = false;
        for running in self.feeds.iter_mut().filter(|running| running.config.source.as_deref() == Some(source)) {
            let Some(report_of) = snapshot.sources.iter().find(|s| s.name == source) else { continue };
            if let Some(comparison) = of_pulse(report_of, offset, report, snapshot, running.config.within, now) {
                is_news |= running.tell(&comparison, now.raw_after);
            }
        }
        if is_news {
            self.show();
        }
    }
}

impl Running {
    /// Tells it. True if it stands differently now.
    fn tell(&mut self, comparison: &Comparison, now: Timestamp<Raw>) -> bool {
        let told = self.feed.tell(comparison);
        if told.is_ok() {
            self.tellings.count(now);
        }
        if self.said.as_ref() == Some(&told) {
            return false;
        }
        let (whom, what) = (self.config.address(), self.config.source.as_deref().unwrap_or("our clock's time"));
        match &told {
            Ok(()) => info!("{whom} is told {what}"),
            Err(reason) => {
                let action = reason.action().map(|action| format!(" {action}")).unwrap_or_default();
                warn!("{whom} is not told {what}: {reason}.{action}");
            }
        }
        self.said = Some(told);
        true
    }

    /// How it stands, for its readers.
    fn seen(&self) -> Fed {
        Fed {
            address: self.config.address(),
            source: self.config.source.clone(),
            state: self.said.clone(),
            tellings: self.tellings.clone(),
        }
    }
}

/// May anybody be told anything that follows from our clock?
fn is_known(snapshot: &Snapshot, within: f64, raw: Timestamp<Raw>) -> bool {
    let vouched = snapshot.system_at(raw).stratum < 16 && snapshot.state != State::Local;
    vouched && snapshot.bound_at(raw) <= within
}

/// CLOCK_REALTIME beside our own clock.
fn of_our_clock(snapshot: &Snapshot, within: f64, now: &Bracket) -> Option<Comparison> {
    let raw = now.raw_before + Span::from_nanos((now.raw_after - now.raw_before).nanos() / 2);
    let (reference, second60) = snapshot.utc_at(raw);
    if !is_known(snapshot, within, raw) || second60 {
        return None;
    }
    let precision = libm::log2(snapshot.bound_at(raw)).ceil().clamp(-31.0, 0.0) as i8;
    Some(Comparison { local: now.realtime, reference, leap: snapshot.system_at(raw).leap, precision })
}

/// The stamp of a pulse beside the second that it is.
fn of_pulse(
    source: &SourceReport,
    offset: f64,
    report: &Report,
    snapshot: &Snapshot,
    within: f64,
    now: &Bracket,
) -> Option<Comparison> {
    let stamp = match report {
        // Where both edges are reported, only one of them is on the second.
        Report::Pulse(pulse) if source.edge.as_ref().is_some_and(|(edge, _)| *edge != pulse.edge) => return None,
        Report::Pulse(pulse) => realtime(pulse.local)?,
        Report::Sample(sample) if source.kind == SourceKind::NumberedPulse => realtime(sample.local)?,
        _ => return None,
    };
    if !matches!(source.verdict, Verdict::Selected | Verdict::Agrees { .. }) {
        return None;
    }
    let local = stamp - Span::from_seconds(offset);
    let raw = now.raw_after - (now.realtime - local);
    let (about, second60) = snapshot.utc_at(raw);
    let reference = about.round();
    if !is_known(snapshot, within.min(NUMBERS), raw) || second60 || (about - reference).seconds().abs() > NUMBERS {
        return None;
    }
    Some(Comparison { local, reference, leap: snapshot.system_at(raw).leap, precision: PULSE_PRECISION })
}

fn realtime(stamp: LocalStamp) -> Option<Timestamp<Realtime>> {
    match stamp {
        LocalStamp::Realtime(at) => Some(at),
        LocalStamp::Raw(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::report::made_up::{NOW, holdover, locked, starting};
    use refclocks::{Edge, Pulse};

    /// The present of the made-up snapshots on a system clock that is 25 ms ahead of UTC.
    fn now() -> Bracket {
        let utc = locked().utc_at(NOW).0;
        Bracket { raw_before: NOW, realtime: utc.reinterpret() + Span::from_millis(25), raw_after: NOW }
    }

    /// A pulse that was stamped so long ago by that clock, ms.
    fn pulse(ago: i64) -> Report {
        let local = LocalStamp::Realtime(now().realtime - Span::from_millis(ago));
        Report::Pulse(Pulse { local, edge: Edge::Assert, sequence: 7, missed: 0 })
    }

    fn told(snapshot: &Snapshot, name: &str, offset: f64, ago: i64) -> Option<(Span, i64)> {
        let source = snapshot.sources.iter().find(|s| s.name == name).unwrap();
        let comparison = of_pulse(source, offset, &pulse(ago), snapshot, 1e-3, &now())?;
        Some((comparison.reference - comparison.local.reinterpret(), comparison.reference.to_parts().0))
    }

    #[test]
    fn a_pulse_is_told_with_its_second() {
        // UTC is 0.000123 s into a second.
        let second = locked().utc_at(NOW).0.to_parts().0;
        let (offset, reference) = told(&locked(), "PPS", 0.0, 0).unwrap();
        assert_eq!(reference, second);
        assert!((offset + Span::from_millis(25)).abs() < Span::from_millis(1));
        // A pulse that is known to be stamped 10 ms late came that much earlier.
        let (late, _) = told(&locked(), "PPS", 0.010, 0).unwrap();
        assert!((late - offset - Span::from_millis(10)).abs() < Span::from_nanos(1));
        assert_eq!(told(&locked(), "PPS", 0.0, 1000).unwrap().1, second - 1);
        // Half a second from any second it is no pulse of ours.
        assert_eq!(told(&locked(), "PPS", 0.0, 500), None);
    }

    #[test]
    fn nobody_is_told_what_is_not_known() {
        assert_eq!(told(&locked(), "GPS", 0.0, 0), None, "messages");
        assert_eq!(told(&holdover(), "PPS", 0.0, 0), None, "a pulse that is not used");
        assert_eq!(of_our_clock(&starting(), 1.0, &now()), None);
        let bound = locked().bound_at(NOW);
        assert_eq!(of_our_clock(&locked(), bound / 2.0, &now()), None);
        let comparison = of_our_clock(&locked(), bound * 2.0, &now()).unwrap();
        assert_eq!(comparison.reference, locked().utc_at(NOW).0);
        assert!(f64::from(comparison.precision).exp2() >= bound);
        let local = Snapshot { state: State::Local, ..locked() };
        assert_eq!(of_our_clock(&local, 1.0, &now()), None);
    }
}
