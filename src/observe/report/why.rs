//! Why things are as they are, in sentences.

use refclocks::DevicePhase;
use refclocks::time::{Raw, Timestamp};
use serde::{Deserialize, Serialize};

use super::numbers::{code_and_data, utc_text};
use super::status::{reason, reason_at};
use crate::core::snapshot::{ClockKind, ClockRefusal, Snapshot, SourceKind, SourceReport};
use crate::core::state::{Bound, Duration, Magnitude, State, StateReason, direction};
use crate::core::verdict::Verdict;
use crate::observe::plain::plain;

/// `refclockd.why/1`. Every string is one or more whole sentences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyReport {
    /// Name and version of this layout.
    pub schema: String,
    /// Version of the daemon.
    pub version: String,
    /// What the served clock says, RFC 3339.
    pub time_utc: String,
    /// The label.
    pub state: State,
    /// The state, since when, and how good the time is.
    pub headline: String,
    /// Why the daemon is in that state.
    pub because: String,
    /// Why clients are served, or are not.
    pub serving: String,
    /// Which clock is steered, and why not the one that was to be.
    pub clock: String,
    /// What is expected next, and what a person can do.
    pub next: Vec<String>,
    /// Why each source is used, or is not.
    pub sources: Vec<WhySource>,
}

/// Why a source is used, or is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhySource {
    /// Its name.
    pub name: String,
    /// The verdict's code.
    pub code: String,
    /// Does it feed the clock, or name the seconds of what does?
    pub used: bool,
    /// Why.
    pub because: Vec<String>,
    /// What is expected next, and what a person can do.
    pub next: Vec<String>,
}

impl WhyReport {
    /// What the snapshot says at the reader's now: of all sources, or of the one named. `None` if no
    /// source has that name. Names are compared without regard to the case of letters.
    pub fn new(snapshot: &Snapshot, raw: Timestamp<Raw>, only: Option<&str>) -> Option<Self> {
        let wanted = |s: &&SourceReport| only.is_none_or(|name| s.name.eq_ignore_ascii_case(name));
        let sources: Vec<WhySource> =
            snapshot.sources.iter().filter(wanted).map(|s| WhySource::new(snapshot, s, raw)).collect();
        if only.is_some() && sources.is_empty() {
            return None;
        }
        let expired = raw > snapshot.valid_until;
        let state = if expired { State::Unsynchronised } else { snapshot.state };
        Some(Self {
            schema: "refclockd.why/1".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            time_utc: utc_text(snapshot, raw),
            state,
            headline: headline(snapshot, state, raw),
            because: reason(snapshot, raw).text,
            serving: serving(snapshot, state, raw),
            clock: clock(snapshot),
            next: next(snapshot, raw),
            sources,
        })
    }
}

fn headline(snapshot: &Snapshot, state: State, raw: Timestamp<Raw>) -> String {
    let bound = snapshot.distance_at(raw);
    let mut text = format!("{} for {}", state.headline(), Duration((raw - snapshot.state_since).seconds().max(0.0)));
    if let Some(previous) = snapshot.previous_state {
        text.push_str(&format!(", before that {}", previous.headline().to_lowercase()));
    }
    if bound.is_finite() {
        text.push_str(&format!(". Time is within {} of UTC", Bound(bound)));
        if let Some(offset) = snapshot.offset.filter(|o| (o * 1e9).round() != 0.0) {
            text.push_str(&format!("; local clock is {} {}", Magnitude(offset.abs()), direction(offset)));
        }
    } else {
        text.push_str(". How far the time is from UTC is not known");
    }
    text.push('.');
    text
}

fn serving(snapshot: &Snapshot, state: State, raw: Timestamp<Raw>) -> String {
    let system = snapshot.system_at(raw);
    let budget = Bound(snapshot.holdover_budget);
    if system.stratum >= 16 {
        let until = match &snapshot.reason {
            _ if raw > snapshot.valid_until => "until the daemon's deciding thread comes back",
            StateReason::Panic { .. } => "until the step is allowed",
            StateReason::SourcesDisagree { .. } => "until a majority agrees",
            StateReason::NoSources => "until a source is configured",
            StateReason::SetByHand { .. } => {
                "because nothing checks what was set and there is no [local] section to serve it all the same"
            }
            _ => "until a source has set it",
        };
        return format!("NTP clients are told not to use this clock (leap indicator 3), {until}.");
    }
    let served = format!("NTP clients are served as stratum {}, reference ID {}", system.stratum, system.refid);
    match state {
        State::Locked => format!("{served}: the pulse sets the clock."),
        State::Coarse => format!("{served}, with a root dispersion that says how coarse it is."),
        State::Holdover => format!("{served}: the bound is still under the holdover budget of {budget}."),
        State::Network => format!("{served}: one above the server we follow."),
        State::Local if matches!(snapshot.reason, StateReason::TooFar { .. }) => {
            format!("{served}: its own reference, because the sources are too uncertain for [local].")
        }
        State::Local => format!("{served}, because the configuration has a [local] section; nobody checks the clock."),
        State::Unsynchronised => format!("{served}."),
    }
}

fn clock(snapshot: &Snapshot) -> String {
    match (&snapshot.clock_refusal, snapshot.clock_kind) {
        (Some(refusal), _) => sentence(refusal),
        (None, ClockKind::System) => "The system clock is steered, for every program of this machine.".into(),
        (None, ClockKind::Own) => "A clock of our own is steered; the system clock is left alone.".into(),
        (None, ClockKind::Watched) => "No clock is steered; the system clock is watched and served as it is.".into(),
    }
}

/// What begins in small letters within a log's line, by itself.
pub(super) fn sentence(refusal: &ClockRefusal) -> String {
    let text = refusal.to_string();
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    format!("{}{}.", first.collect::<String>(), plain(letters.as_str()))
}

fn next(snapshot: &Snapshot, raw: Timestamp<Raw>) -> Vec<String> {
    let budget = Bound(snapshot.holdover_budget);
    let reason = reason_at(snapshot, raw);
    let expected = match &reason {
        _ if raw > snapshot.valid_until => None,
        StateReason::PulseAndSecondAgree { .. } => snapshot
            .would_last_s
            .map(|s| format!("If the signal went now, time would stay within {budget} for about {}.", Duration(s))),
        StateReason::Settling { .. } => Some("It will count as locked once the bound has settled.".into()),
        StateReason::NothingYet => Some("The first samples will set the clock.".into()),
        StateReason::WaitingForPulse { .. } => {
            Some("If no pulse comes in time, the messages alone will set the clock, coarsely.".into())
        }
        StateReason::PulseNotNumbered { .. } => {
            Some("The pulse will be used as soon as it is sure which second each one is.".into())
        }
        StateReason::NoReference { remaining_s: Some(left), .. } => Some(format!(
            "In about {} the bound will reach {budget}; from then on it is no longer stratum 1.",
            Duration(*left)
        )),
        StateReason::MessagesOnly { calibrated: false, .. } => {
            Some("A pulse or a network server would tell how late the messages come.".into())
        }
        _ => None,
    };
    let action = self::reason(snapshot, raw).action;
    let clock = snapshot.clock_refusal.as_ref().map(|refusal| refusal.action().to_owned());
    expected.into_iter().chain(action).chain(clock).collect()
}

/// How late the messages came one by one, once there are enough.
fn how_late(source: &SourceReport) -> Option<String> {
    let delays = &source.delays;
    let by = |share| delays.quantile(share).map(|seconds| (seconds * 1e3).round());
    let (few, half, most) = (by(0.05)?, by(0.5)?, by(0.95)?);
    (delays.total() >= 60).then(|| {
        format!(
            "Of its last {} messages 5 % came within {few} ms after the second, half within {half} ms, 95 % within {most} ms.",
            delays.total()
        )
    })
}

impl WhySource {
    fn new(snapshot: &Snapshot, source: &SourceReport, raw: Timestamp<Raw>) -> Self {
        let name = plain(&source.name).into_owned();
        let verdict = match &source.verdict {
            Verdict::Selected => format!("{name} is used: {}.", what_it_gives(source)),
            Verdict::NamesTheSecond { pulse } => {
                let late = match source.delay {
                    Some(delay) => format!(" Its messages come {} after the pulse.", Magnitude(delay)),
                    None => String::new(),
                };
                format!("{name} names the second of each pulse of {}.{late}", plain(pulse))
            }
            Verdict::Agrees { interval_s } => {
                let feeds = snapshot.sources.iter().find(|s| s.verdict == Verdict::Selected);
                let better = feeds.map_or_else(
                    || "our own clock is surer for now".into(),
                    |s| format!("{} is better and is used", plain(&s.name)),
                );
                format!("{name} agrees, within {}; {better}.", Bound(*interval_s))
            }
            other => format!("{name} is {}.", plain(&other.to_string())),
        };
        let mut because = vec![verdict];
        because.extend(how_late(source));
        let mut next: Vec<String> = source.verdict.next().into_iter().collect();
        if let Some(device) = source.device.as_ref().filter(|d| d.phase != DevicePhase::Good) {
            let since = Duration((raw - device.since).seconds().max(0.0));
            let phase = match device.phase {
                DevicePhase::Absent => "absent",
                DevicePhase::Opening => "starting",
                DevicePhase::WaitingForFix => "waiting for a fix",
                DevicePhase::Stale => "silent",
                DevicePhase::Good | DevicePhase::Faulty => "unusable",
            };
            because.push(format!("Its device has been {phase} for {since}: {}.", plain(&device.reason.to_string())));
            next.extend(device.reason.action());
        }
        let lacks_data = matches!(
            source.verdict,
            Verdict::NoData | Verdict::Unreachable | Verdict::ServerUnsynchronised | Verdict::TooFewSamples { .. }
        );
        if let Some((text, action)) = source.server.as_ref().filter(|_| lacks_data) {
            because.push(format!("The server: {}.", plain(text.trim_end_matches('.'))));
            // What the association advises knows more than the verdict.
            if action.is_some() {
                next.clear();
            }
            next.extend(action.clone());
        }
        if let Some((bias, sd)) = source.bias {
            because.push(format!(
                "It is {} {} what is better, ± {}: taken off whenever it feeds the clock.",
                Magnitude(bias.abs()),
                if bias < 0.0 { "ahead of" } else { "behind" },
                Magnitude(4.0 * sd)
            ));
        }
        if let Some(offset) = source.offset.filter(|o| o.is_finite()) {
            let noise = match source.jitter {
                Some(jitter) if jitter.is_finite() => format!(", with a noise of {} (1σ)", Magnitude(jitter)),
                _ => String::new(),
            };
            let way = if offset < 0.0 { "behind" } else { "ahead of" };
            because.push(format!("By its last sample our clock is {} {way} it{noise}.", Magnitude(offset.abs())));
        }
        if let Some(sawtooth) = &source.sawtooth {
            because.push(format!("Of {name}: {sawtooth}."));
        }
        next.dedup();
        Self {
            code: code_and_data(&source.verdict).0,
            used: matches!(source.verdict, Verdict::Selected | Verdict::NamesTheSecond { .. }),
            because,
            next: next.iter().map(|text| plain(text).into_owned()).collect(),
            name,
        }
    }
}

fn what_it_gives(source: &SourceReport) -> &'static str {
    match source.kind {
        SourceKind::Pulse | SourceKind::NumberedPulse => "its pulses set the clock",
        SourceKind::Message => "its messages set the clock",
        SourceKind::Network => "its answers set the clock",
        SourceKind::Manual => "what the operator set is followed",
    }
}
