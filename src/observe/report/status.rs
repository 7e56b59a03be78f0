//! The state of the whole: may the time be trusted, how well, why, and what if the signal goes.

use std::collections::BTreeMap;

use refclocks::DevicePhase;
use refclocks::time::{Raw, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::accuracy::{Accuracy, CrystalReport, OffsetReport};
use super::feeds::FeedReport;
use super::ntp::{CardReport, NtpReport};
use super::numbers::{civil_text, code_and_data, finite, nanos, nanos_up, utc_text};
use super::satellites::{Condition, ReceiverSky};
use crate::core::snapshot::{ClockKind, Snapshot, SourceKind, SourceReport};
use crate::core::state::{Duration, State, StateReason};
use crate::core::verdict::Verdict;
use crate::ntp::counters::Totals;
use crate::ntp::hardware::Cards;
use crate::observe::Moment;
use crate::observe::fed::Fed;
use crate::observe::outages::{Missing, Outage};
use crate::observe::plain::plain;

/// `refclockd.status/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Name and version of this layout.
    pub schema: String,
    /// Version of the daemon.
    pub version: String,
    /// What the served clock says, RFC 3339.
    pub time_utc: String,
    /// Seconds since the daemon started.
    pub uptime_s: f64,
    /// The label.
    pub state: State,
    /// Since when, by the served clock.
    pub state_since_utc: String,
    /// For how long, s.
    pub state_for_s: f64,
    /// The label before this one.
    pub previous_state: Option<State>,
    /// Why.
    pub reason: ReasonWords,
    /// How bad the state is.
    pub severity: Severity,
    /// How wrong the served time can be.
    pub accuracy: Accuracy,
    /// How wrong it most likely is; `None` before the first estimate.
    pub offset: Option<OffsetReport>,
    /// The crystal; `None` before the first estimate.
    pub frequency: Option<CrystalReport>,
    /// What NTP clients are told.
    pub ntp: NtpReport,
    /// Coasting.
    pub holdover: HoldoverReport,
    /// TAI - UTC and leap seconds.
    pub leap: LeapReport,
    /// The receiver, if there is one and it talks.
    pub receiver: Option<ReceiverSummary>,
    /// The pulse, if one is configured.
    pub pulse: Option<PulseReport>,
    /// The served clock beside the system's.
    pub clock: ClockReport,
    /// Names of all sources, in the order of the configuration.
    pub sources: Vec<String>,
    /// Daemons of this machine that are told what we know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feeds: Vec<FeedReport>,
    /// Network cards that are to stamp packets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cards: Vec<CardReport>,
    /// What deserves attention whatever the state is.
    pub notices: Vec<Notice>,
}

/// A reason: its code and numbers, its words, and what to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReasonWords {
    /// The code.
    pub code: String,
    /// In one sentence.
    pub text: String,
    /// What a person can do about it.
    pub action: Option<String>,
    /// The reason's numbers and names.
    #[serde(flatten)]
    pub data: BTreeMap<String, Value>,
}

/// How bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Good to know.
    Notice,
    /// Served, and less good than it could be.
    Caution,
    /// Not to be trusted.
    Bad,
}

impl Severity {
    /// The severity of a state.
    pub const fn of(state: State) -> Self {
        match state {
            State::Locked => Self::Ok,
            State::Coarse | State::Holdover | State::Network => Self::Caution,
            State::Local | State::Unsynchronised => Self::Bad,
        }
    }
}

/// Coasting without a reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldoverReport {
    /// Is it coasting?
    pub active: bool,
    /// For how long so far.
    pub elapsed_s: Option<f64>,
    /// How long until the bound reaches the limit.
    pub remaining_s: Option<f64>,
    /// How long it would last if the reference went away now.
    pub would_last_s: Option<f64>,
}

/// TAI - UTC and leap seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeapReport {
    /// `none`, `insert` or `delete`.
    pub pending: String,
    /// The first second after it.
    pub when_utc: Option<String>,
    /// TAI - UTC in force, s.
    pub tai_minus_utc_s: i32,
}

/// The receiver in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReceiverSummary {
    /// Name of its source.
    pub source: String,
    /// `none`, `time`, `two_d` or `three_d`.
    pub fix: Option<String>,
    /// Satellites used.
    pub sats_used: Option<u16>,
    /// Satellites seen; unknown when the receiver does not list them.
    pub sats_seen: Option<u16>,
    /// Median signal of the satellites used, or of all when it does not say which are.
    pub cn0_median_dbhz: Option<u8>,
    /// What it says of itself.
    #[serde(flatten)]
    pub condition: Condition,
}

/// The pulse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PulseReport {
    /// Name of its source.
    pub source: String,
    /// Pulses that became samples.
    pub used: u64,
    /// Pulses that came and went unread.
    pub missed: u64,
    /// Since the last one, s.
    pub last_s: Option<f64>,
    /// One standard deviation of its noise.
    pub jitter_ns: Option<u64>,
    /// Who names its seconds.
    pub named_by: Option<String>,
    /// How long after the pulse that source's message comes, on the average.
    pub message_delay_ns: Option<i64>,
}

/// The served clock beside the system's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClockReport {
    /// The served clock.
    pub utc: String,
    /// Which clock that is.
    pub kind: ClockKind,
    /// Served clock - CLOCK_REALTIME; unknown where nobody read the latter.
    pub minus_system_ns: Option<i64>,
}

/// Something that deserves attention whatever the state is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// The code.
    pub code: String,
    /// How bad.
    pub severity: Severity,
    /// The source it is about.
    pub source: Option<String>,
    /// In one sentence.
    pub text: String,
    /// What a person can do about it.
    pub action: Option<String>,
}

impl StatusReport {
    /// What the snapshot says at the reader's now. Past [`Snapshot::valid_until`] nobody vouches for
    /// the clock, and the report says so.
    pub fn new(snapshot: &Snapshot, now: impl Into<Moment>) -> Self {
        let Moment { raw, system } = now.into();
        let expired = raw > snapshot.valid_until;
        let state = if expired { State::Unsynchronised } else { snapshot.state };
        let since = if expired { snapshot.valid_until } else { snapshot.state_since };
        let time_utc = utc_text(snapshot, raw);
        let minus_system = system.map(|system| snapshot.utc_at(raw).0 - system.reinterpret());
        Self {
            schema: "refclockd.status/1".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            time_utc: time_utc.clone(),
            uptime_s: seconds_between(snapshot.started, raw),
            state,
            state_since_utc: utc_text(snapshot, since),
            state_for_s: seconds_between(since, raw),
            previous_state: if expired { Some(snapshot.state) } else { snapshot.previous_state },
            reason: reason(snapshot, raw),
            severity: Severity::of(state),
            accuracy: Accuracy::new(snapshot, raw),
            offset: OffsetReport::new(snapshot, raw),
            frequency: CrystalReport::new(snapshot),
            ntp: NtpReport::new(snapshot, raw),
            holdover: holdover(snapshot, raw),
            leap: leap(snapshot, raw),
            receiver: snapshot.sources.iter().find_map(receiver),
            pulse: pulse(snapshot, raw),
            clock: ClockReport {
                utc: time_utc,
                kind: snapshot.clock_kind,
                minus_system_ns: minus_system.map(|span| span.nanos()),
            },
            sources: snapshot.sources.iter().map(|s| plain(&s.name).into_owned()).collect(),
            feeds: Vec::new(),
            cards: Vec::new(),
            notices: super::notices::notices(snapshot, raw),
        }
    }

    /// The same, with what came on the NTP port.
    #[must_use]
    pub fn with_requests(mut self, requests: Option<Totals>) -> Self {
        self.ntp.requests = requests;
        self
    }

    /// The same, with the places where nobody is answered.
    #[must_use]
    pub fn with_outages(mut self, outages: &BTreeMap<String, Outage>) -> Self {
        self.notices.extend(outages.iter().map(|(place, outage)| {
            let (place, reason) = (plain(place), plain(&outage.reason));
            let (code, text) = match outage.missing {
                Missing::Answers => ("not_served", format!("NTP is not served on {place}: {reason}.")),
                Missing::Broadcasts => ("not_heard", format!("Broadcasts to {place} are not heard: {reason}.")),
            };
            let action = outage.action.clone();
            Notice { code: code.into(), severity: Severity::Caution, source: None, text, action }
        }));
        self.notices.sort_by_key(|notice| std::cmp::Reverse(notice.severity));
        self
    }

    /// The same, with those who are told what we know.
    #[must_use]
    pub fn with_feeds(mut self, fed: &[Fed], now: impl Into<Moment>) -> Self {
        let raw = now.into().raw;
        self.feeds = fed.iter().map(|fed| FeedReport::new(fed, raw)).collect();
        self
    }

    /// The same, with the network cards that are to stamp packets.
    #[must_use]
    pub fn with_cards(mut self, cards: &Cards) -> Self {
        self.cards = cards.cards.iter().map(CardReport::new).collect();
        self
    }
}

fn seconds_between(from: Timestamp<Raw>, to: Timestamp<Raw>) -> f64 {
    finite((to - from).seconds().max(0.0)).unwrap_or(0.0)
}

/// The reason as it holds at the reader's now: what counts seconds has gone on counting.
pub(super) fn reason_at(snapshot: &Snapshot, raw: Timestamp<Raw>) -> StateReason {
    let since = (raw - snapshot.at).seconds().max(0.0);
    match snapshot.reason.clone() {
        StateReason::NoReference { for_s, remaining_s } => {
            StateReason::NoReference { for_s: for_s + since, remaining_s: remaining_s.map(|s| (s - since).max(0.0)) }
        }
        StateReason::WaitingForPulse { source, wait_s } => {
            StateReason::WaitingForPulse { source, wait_s: (wait_s - since).max(0.0) }
        }
        StateReason::SetByHand { ago_s, .. } => {
            StateReason::SetByHand { ago_s: ago_s + since, bound_s: snapshot.distance_at(raw) }
        }
        StateReason::LocalWaits { left_s } => StateReason::LocalWaits { left_s: (left_s - since).max(0.0) },
        StateReason::Settling { source, .. } => StateReason::Settling { source, bound_s: snapshot.distance_at(raw) },
        other => other,
    }
}

pub(super) fn reason(snapshot: &Snapshot, raw: Timestamp<Raw>) -> ReasonWords {
    if raw > snapshot.valid_until {
        let silent = Duration((raw - snapshot.at).seconds());
        return ReasonWords {
            code: "daemon_stalled".into(),
            text: format!("The daemon's deciding thread has been silent for {silent}."),
            action: Some("Look at the machine's load and at the daemon's log.".into()),
            data: BTreeMap::new(),
        };
    }
    let reason = reason_at(snapshot, raw);
    let (code, data) = code_and_data(&reason);
    let text = plain(&reason.to_string()).into_owned();
    ReasonWords { code, text, action: reason.action().map(Into::into), data }
}

fn holdover(snapshot: &Snapshot, raw: Timestamp<Raw>) -> HoldoverReport {
    let active = snapshot.state == State::Holdover && raw <= snapshot.valid_until;
    let (elapsed_s, remaining_s) = match reason_at(snapshot, raw) {
        StateReason::NoReference { for_s, remaining_s } => (finite(for_s), remaining_s.and_then(finite)),
        _ => (None, None),
    };
    HoldoverReport { active, elapsed_s, remaining_s, would_last_s: snapshot.would_last_s.and_then(finite) }
}

fn leap(snapshot: &Snapshot, raw: Timestamp<Raw>) -> LeapReport {
    let (utc, inside) = snapshot.utc_at(raw);
    let map = snapshot.utc;
    let over = |leap: &crate::core::leap::LeapSecond| utc >= leap.at && !inside;
    match map.next {
        Some(leap) if over(&leap) => {
            LeapReport { pending: "none".into(), when_utc: None, tai_minus_utc_s: map.tai_minus_utc + leap.change }
        }
        Some(leap) => LeapReport {
            pending: if leap.change > 0 { "insert" } else { "delete" }.into(),
            when_utc: Some(civil_text(leap.at, false)),
            tai_minus_utc_s: map.tai_minus_utc,
        },
        None => LeapReport { pending: "none".into(), when_utc: None, tai_minus_utc_s: map.tai_minus_utc },
    }
}

/// A receiver that does not talk now has nothing to say, whatever it said last.
pub(super) fn receiver(source: &SourceReport) -> Option<ReceiverSummary> {
    let talks = source.device.as_ref().is_none_or(|device| {
        matches!(device.phase, DevicePhase::Good | DevicePhase::WaitingForFix | DevicePhase::Opening)
    });
    let sky = ReceiverSky::of(source).filter(|_| talks)?;
    let mut signals: Vec<u8> =
        sky.satellites.iter().filter(|s| s.used || sky.used == Some(0)).filter_map(|s| s.cn0_dbhz).collect();
    if signals.is_empty() {
        signals = sky.satellites.iter().filter_map(|s| s.cn0_dbhz).collect();
    }
    signals.sort_unstable();
    Some(ReceiverSummary {
        cn0_median_dbhz: signals.get(signals.len() / 2).copied(),
        source: sky.source,
        fix: sky.fix,
        sats_used: sky.used,
        sats_seen: sky.seen,
        condition: sky.condition,
    })
}

fn pulse(snapshot: &Snapshot, raw: Timestamp<Raw>) -> Option<PulseReport> {
    let is_pulse = |s: &&SourceReport| matches!(s.kind, SourceKind::Pulse | SourceKind::NumberedPulse);
    let mut pulses = snapshot.sources.iter().filter(is_pulse);
    // The one that feeds the clock, else the first.
    let first = pulses.clone().next()?;
    let pulse = pulses.find(|s| s.verdict == Verdict::Selected).unwrap_or(first);
    let names_it =
        |s: &&SourceReport| matches!(&s.verdict, Verdict::NamesTheSecond { pulse: named } if *named == pulse.name);
    let messages = snapshot.sources.iter().find(names_it);
    Some(PulseReport {
        source: plain(&pulse.name).into_owned(),
        used: pulse.samples,
        missed: pulse.health.missed_pulses,
        last_s: pulse.last_sample.map(|at| seconds_between(at, raw)),
        jitter_ns: pulse.jitter.and_then(nanos_up),
        named_by: messages.map(|s| plain(&s.name).into_owned()),
        message_delay_ns: messages.and_then(|s| s.delay).and_then(nanos),
    })
}
