//! The state's label and the system variables that follow from it.

use refclocks::time::{Raw, Timestamp, Utc};
use refclocks::{LeapIndicator, ReferenceId};

use super::event::Event;
use super::local::{Kinship, LocalPolicy, Readiness};
use super::snapshot::{ErrorBound, SourceKind, SystemVariables};
use super::source::Source;
use super::state::{State, StateReason};

/// A clock with a pulse is settled when its bound is within so many standard deviations of the pulse...
const SETTLED_JITTERS: f64 = 10.0;
/// ...or within this, s, whichever is wider.
const SETTLED_FLOOR: f64 = 5e-6;
/// A locked clock stays so until its bound is so many times wider.
const HYSTERESIS: f64 = 4.0;
/// A pulse counts as present so long after it was used, s.
const PULSE_PATIENCE: f64 = 4.0;
/// Messages count as present so long, s.
const MESSAGE_PATIENCE: f64 = 10.0;
/// A clock that may be off by more than this is told to nobody, s.
const WRONG_SECOND: f64 = 0.4;
/// A clock that was never locked coasts until its bound is this wide, s.
const NEVER_LOCKED_BUDGET: f64 = 1.0;

/// What the label depends on.
#[derive(Clone, Debug)]
pub(super) struct Facts<'a> {
    pub now: Timestamp<Raw>,
    pub bound: f64,
    /// The part of the bound that is there because sources are against the clock, s.
    pub doubted: f64,
    /// A source that went astray, and by how much, s.
    pub astray: Option<(String, f64)>,
    /// Seconds since something fed the clock, and its kind.
    pub since_feed: Option<(f64, SourceKind)>,
    /// How long a server may be silent, s.
    pub network_patience: f64,
    /// The pulse that feeds the clock, and its noise, s.
    pub pulse: Option<(&'a str, f64)>,
    pub message: Option<&'a str>,
    pub calibrated: bool,
    pub servers: usize,
    pub any_source: bool,
    /// A pulse or message source that delivers, used or not.
    pub live_pulse: Option<&'a str>,
    pub live_message: Option<&'a str>,
    /// A source that says a time before the last good one of an earlier life.
    pub date_in_doubt: Option<&'a str>,
    pub pulse_wait: f64,
    pub budget: f64,
    /// The bound from now on, if nothing feeds the clock any more.
    pub bound_ahead: ErrorBound,
    pub local: Readiness,
    /// The clock follows, or followed last, a clock that nobody checks.
    pub orphan: bool,
    pub panic: Option<(f64, f64)>,
    pub disagreement: Option<usize>,
}

/// Whose time the clock has or had last, as its clients are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reference {
    /// Our stratum.
    pub stratum: u8,
    pub refid: ReferenceId,
    /// s.
    pub root_delay: f64,
    /// Nobody checks that clock either.
    pub orphan: bool,
}

impl Reference {
    /// What a source makes of a clock that it feeds.
    pub fn to(s: &Source, kinship: Kinship) -> Self {
        let orphan = kinship == Kinship::Elder;
        match s.config.kind {
            SourceKind::Network => Self {
                stratum: s.says.stratum.saturating_add(1).min(15),
                refid: s.says.id,
                root_delay: s.says.root_delay + s.recent.back().and_then(|m| m.delay).unwrap_or(0.0),
                orphan,
            },
            _ => Self { stratum: (s.config.stratum + 1).min(15), refid: s.config.refid, root_delay: 0.0, orphan },
        }
    }
}

/// The label, since when, and why.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    pub state: State,
    pub since: Timestamp<Raw>,
    pub previous: Option<State>,
    pub reason: StateReason,
    pub has_been_locked: bool,
}

impl Labels {
    pub fn new(now: Timestamp<Raw>) -> Self {
        Self {
            state: State::Unsynchronised,
            since: now,
            previous: None,
            reason: StateReason::NothingYet,
            has_been_locked: false,
        }
    }

    /// Labels anew. Returns the event when the label changed.
    pub fn update(&mut self, facts: &Facts<'_>) -> Option<Event> {
        let (state, reason) = match (self.judge(facts), facts.local) {
            // A source that is only known to within that much is no better than none.
            ((State::Coarse | State::Holdover | State::Network, _), Readiness::Ready { distance })
                if facts.bound > distance =>
            {
                let bound_s = facts.bound;
                (State::Local, StateReason::TooFar { bound_s, distance_s: distance })
            }
            (judged, _) => judged,
        };
        self.reason = reason;
        if state == self.state {
            return None;
        }
        let from = std::mem::replace(&mut self.state, state);
        self.previous = Some(from);
        self.since = facts.now;
        self.has_been_locked |= state == State::Locked;
        Some(Event::State { from, to: state, reason: self.reason.clone(), bound: facts.bound })
    }

    fn judge(&self, f: &Facts<'_>) -> (State, StateReason) {
        if let Some((offset_s, limit_s)) = f.panic {
            return (State::Unsynchronised, StateReason::Panic { offset_s, limit_s });
        }
        if let Some((source, by_s)) = f.astray.clone().filter(|_| f.bound.is_finite()) {
            let state = match self.state {
                _ if by_s.abs() > WRONG_SECOND => self.fallback(f),
                State::Locked if f.bound > f.budget => State::Coarse,
                State::Locked => State::Holdover,
                other => other,
            };
            return (state, StateReason::Astray { source, by_s });
        }
        let Some((since, kind)) = f.since_feed.filter(|_| f.bound.is_finite()) else {
            return (self.fallback(f), self.nothing(f));
        };
        match (kind, &f.pulse) {
            (SourceKind::Pulse | SourceKind::NumberedPulse, Some((source, jitter))) if since < PULSE_PATIENCE => {
                let source = (*source).to_owned();
                let settled = (SETTLED_JITTERS * jitter).max(SETTLED_FLOOR);
                let range = if self.state == State::Locked { HYSTERESIS * settled } else { settled };
                // A moment's doubt widens the bound; it takes more to lose the lock.
                if f.bound - f.doubted <= range {
                    return (State::Locked, StateReason::PulseAndSecondAgree { source });
                }
                let reason = StateReason::Settling { source, bound_s: f.bound };
                // A lock that merely widens is not lost; a clock on its way in says where it is.
                let state = match self.state {
                    State::Unsynchronised | State::Locked if f.bound > f.budget => State::Coarse,
                    State::Unsynchronised | State::Local => State::Coarse,
                    State::Locked => State::Holdover,
                    other => other,
                };
                (state, reason)
            }
            (SourceKind::Message, _) if since < MESSAGE_PATIENCE => {
                let source = f.message.unwrap_or_default().to_owned();
                (State::Coarse, StateReason::MessagesOnly { source, calibrated: f.calibrated })
            }
            (SourceKind::Manual, _) => (self.fallback(f), StateReason::SetByHand { ago_s: since, bound_s: f.bound }),
            (SourceKind::Network, _) if since < f.network_patience => {
                (State::Network, StateReason::FollowingNetwork { servers: f.servers.max(1) })
            }
            // There is no true time in it to coast on.
            _ if f.orphan => (self.fallback(f), without(f, StateReason::Undisciplined)),
            _ => {
                let budget = if self.has_been_locked { f.budget } else { f.budget.max(NEVER_LOCKED_BUDGET) };
                if f.bound <= budget {
                    let remaining_s = self.has_been_locked.then(|| f.bound_ahead.lasts(f.now, f.budget)).flatten();
                    let reason = match f.disagreement {
                        Some(sources) => StateReason::SourcesDisagree { sources },
                        None => StateReason::NoReference { for_s: since, remaining_s },
                    };
                    (State::Holdover, reason)
                } else {
                    let spent = StateReason::HoldoverSpent { budget_s: budget };
                    let reason = if f.local.is_ready() { StateReason::Undisciplined } else { without(f, spent) };
                    (self.fallback(f), reason)
                }
            }
        }
    }

    fn fallback(&self, f: &Facts<'_>) -> State {
        if f.local.is_ready() { State::Local } else { State::Unsynchronised }
    }

    /// Why there is no time at all.
    fn nothing(&self, f: &Facts<'_>) -> StateReason {
        if !f.any_source {
            return if f.local.is_ready() { StateReason::Undisciplined } else { without(f, StateReason::NoSources) };
        }
        if let Some(source) = f.date_in_doubt {
            return StateReason::DateInDoubt { source: source.to_owned() };
        }
        match (f.live_pulse, f.live_message, f.disagreement) {
            (_, _, Some(sources)) if sources > 1 => StateReason::SourcesDisagree { sources },
            (None, Some(source), _) if f.pulse_wait > 0.0 => {
                StateReason::WaitingForPulse { source: source.to_owned(), wait_s: f.pulse_wait }
            }
            (Some(source), _, _) => StateReason::PulseNotNumbered { source: source.to_owned() },
            _ => without(f, StateReason::NothingYet),
        }
    }

    /// What NTP packets say.
    pub fn system(
        &self,
        reference: Option<Reference>,
        local: Option<LocalPolicy>,
        reference_time: Option<Timestamp<Utc>>,
        leap: LeapIndicator,
    ) -> SystemVariables {
        let base = SystemVariables { reference_time, leap, ..SystemVariables::UNSYNCHRONISED };
        match (self.state, reference) {
            (State::Unsynchronised, _) => SystemVariables::UNSYNCHRONISED,
            (State::Local, _) => {
                let stratum = local.map_or(15, |local| local.stratum);
                SystemVariables { stratum, refid: ReferenceId([127, 127, 1, 1]), ..base }
            }
            (_, Some(Reference { stratum, refid, root_delay, .. })) => {
                SystemVariables { stratum, refid, root_delay, ..base }
            }
            // No label but those above without a reference.
            (_, None) => SystemVariables::UNSYNCHRONISED,
        }
    }
}

/// Why there is no time, where `[local]` would serve the clock but for something.
fn without(f: &Facts<'_>, reason: StateReason) -> StateReason {
    match f.local {
        Readiness::Off | Readiness::Ready { .. } => reason,
        Readiness::NotActivated { activate } => StateReason::LocalNotActivated { activate_s: activate },
        Readiness::Waiting { left } => StateReason::LocalWaits { left_s: left },
    }
}
