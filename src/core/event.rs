//! What happened, for the log: data here, words in `Display`.

use std::fmt;

use refclocks::time::{Timestamp, Utc};
use refclocks::{DevicePhase, DeviceReason, Edge, Remark};

use super::sawtooth::SawtoothState;
use super::snapshot::ClockRefusal;
use super::state::{Magnitude, State, StateReason, direction};
use super::verdict::Verdict;

/// Something an operator wants to read about.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The state changed.
    State {
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// Why.
        reason: StateReason,
        /// Error bound now, s.
        bound: f64,
    },
    /// A source is judged differently.
    Verdict {
        /// Its name.
        source: String,
        /// The new verdict.
        verdict: Verdict,
    },
    /// A device changed its state.
    Device {
        /// The source's name.
        source: String,
        /// The new phase.
        phase: DevicePhase,
        /// Why.
        reason: DeviceReason,
    },
    /// A driver says something beside its state.
    Remark {
        /// The source's name.
        source: String,
        /// What.
        remark: Remark,
    },
    /// A receiver's date is a whole number of 1024-week periods off, and is being repaired.
    DateRepaired {
        /// The source's name.
        source: String,
    },
    /// A receiver's date is whole days off, as others agree, and is repaired; 0 days: it needs that no more.
    DateMoved {
        /// The source's name.
        source: String,
        /// What is added from now on.
        days: i64,
        /// Who agrees on it.
        by: Vec<String>,
    },
    /// A server stands differently.
    Server {
        /// The source's name.
        source: String,
        /// How.
        text: String,
    },
    /// A pulse train has its number.
    Numbered {
        /// The pulse source.
        pulse: String,
        /// Who named the second; `None` when the clock itself did.
        messages: Option<String>,
        /// Mean delay of those messages, s.
        delay: Option<f64>,
    },
    /// It is found which edge of a pulse is on the second, and it is another than was thought.
    EdgeFound {
        /// The pulse source.
        pulse: String,
        /// The edge in use from now on.
        edge: Edge,
        /// Who knows where the second is.
        by: String,
    },
    /// How the correction of a pulse's sawtooth stands from now on.
    Sawtooth {
        /// The pulse source.
        pulse: String,
        /// How it stands.
        state: SawtoothState,
    },
    /// Two witnesses say a time before the last good one that was remembered, which is forgotten.
    LastGoodRefuted {
        /// What was remembered.
        last_good: Timestamp<Utc>,
        /// Who says otherwise.
        witnesses: [String; 2],
        /// The present by the first of them.
        now: Timestamp<Utc>,
    },
    /// Sources say that a leap second comes.
    LeapAnnounced {
        /// The midnight after it.
        at: Timestamp<Utc>,
        /// +1: a second more; -1: one less.
        change: i32,
        /// Who.
        by: Vec<String>,
    },
    /// They have taken that back.
    LeapTakenBack {
        /// The midnight.
        at: Timestamp<Utc>,
    },
    /// The clock was stepped by us.
    Stepped {
        /// local - reference before the step, s.
        offset: f64,
    },
    /// CLOCK_REALTIME was stepped by somebody else.
    ForeignStep {
        /// By how much, s.
        by: f64,
        /// Is it the clock we steer, so that we step it back?
        taken_back: bool,
    },
    /// Somebody else changed the rate of the system clock; ours was set again.
    ForeignRate {
        /// What it was found at, s/s.
        found: f64,
        /// What we had set, s/s.
        ours: f64,
    },
    /// The system clock may not be set.
    ClockRefused(ClockRefusal),
    /// It may be set again, and is steered.
    ClockTaken {
        /// How far it was stepped to where our own clock was, s; `None` if it was watched.
        stepped: Option<f64>,
    },
    /// The machine slept, and its counter with it.
    Slept {
        /// For how long, s.
        for_s: f64,
    },
    /// A source has moved against our counter, all at once and for good; we follow.
    Moved {
        /// The source's name.
        source: String,
        /// Our clock - the source, s.
        by: f64,
        /// Do its seconds have other names too, so that it was our counter that stood still?
        seconds_too: bool,
    },
    /// The clock is further off than it may be moved.
    Panic {
        /// local - reference, s.
        offset: f64,
        /// The limit, s.
        limit: f64,
    },
}

/// Days, and weeks where they are whole periods that receivers lose.
pub(crate) struct Days(pub i64);

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("a day"),
            days if days % 7168 == 0 => write!(f, "{} weeks", days / 7),
            days => write!(f, "{days} days"),
        }
    }
}

impl Event {
    /// Does it deserve a warning?
    pub fn is_warning(&self) -> bool {
        match self {
            Self::State { to, .. } => *to != State::Locked,
            Self::Verdict { verdict, .. } => {
                matches!(
                    verdict,
                    Verdict::Falseticker { .. } | Verdict::NumberingContradicted { .. } | Verdict::DateInDoubt { .. }
                )
            }
            Self::Device { phase, .. } => {
                matches!(phase, DevicePhase::Absent | DevicePhase::Faulty | DevicePhase::Stale)
            }
            Self::Remark { remark, .. } => remark.is_warning(),
            Self::ForeignStep { .. }
            | Self::ForeignRate { .. }
            | Self::ClockRefused(_)
            | Self::LastGoodRefuted { .. }
            | Self::LeapTakenBack { .. }
            | Self::Panic { .. }
            | Self::DateRepaired { .. }
            | Self::DateMoved { .. }
            | Self::EdgeFound { .. }
            | Self::Slept { .. }
            | Self::Moved { .. } => true,
            Self::ClockTaken { .. }
            | Self::Numbered { .. }
            | Self::LeapAnnounced { .. }
            | Self::Sawtooth { .. }
            | Self::Stepped { .. }
            | Self::Server { .. } => false,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State { from, to, reason, bound } => {
                write!(f, "{from} → {to}: {reason}")?;
                if bound.is_finite() { write!(f, " Within ±{} of UTC.", Magnitude(*bound)) } else { Ok(()) }
            }
            Self::Verdict { source, verdict } => write!(f, "{source}: {verdict}"),
            Self::Device { source, reason, .. } => {
                write!(f, "{source}: {reason}")?;
                match reason.action() {
                    Some(action) => write!(f, ". {action}"),
                    None => Ok(()),
                }
            }
            Self::Remark { source, remark } => write!(f, "{source}: {remark}"),
            Self::DateRepaired { source } => write!(
                f,
                "{source}: its date is 1024 weeks off (its week counter rolled over); repaired. A firmware update may mend it for good."
            ),
            Self::DateMoved { source, days: 0, by } => {
                write!(f, "{source}: its date is right again, as {} say, and taken as it is", by.join(" and "))
            }
            Self::DateMoved { source, days, by } => write!(
                f,
                "{source}: its date is {} {}, as {} agree; repaired. A firmware update may mend it for good.",
                Days(days.abs()),
                if *days > 0 { "behind" } else { "ahead" },
                by.join(" and ")
            ),
            Self::Server { source, text } => write!(f, "{source}: {text}"),
            Self::Numbered { pulse, messages: Some(messages), delay: Some(delay) } => {
                write!(f, "{pulse}: each pulse is the second that {messages} names {:.0} ms later", delay * 1e3)
            }
            Self::Numbered { pulse, .. } => write!(f, "{pulse}: numbered by our own clock"),
            Self::EdgeFound { pulse, edge, by } => write!(
                f,
                "{pulse}: its {edge} edge is on the second, by {by}, and is used from now on; name it: `edge = \"{edge}\"`"
            ),
            Self::Sawtooth { pulse, state } => write!(f, "{pulse}: {state}"),
            Self::LastGoodRefuted { last_good, witnesses: [a, b], now } => write!(
                f,
                "the last good time known, {last_good:.0}, is not believed: {a} and {b} agree that it is {now:.0}"
            ),
            Self::LeapAnnounced { at, change, by } => {
                let what = if *change > 0 { "inserted" } else { "left out" };
                let says = if by.len() == 1 { "says" } else { "say" };
                write!(f, "a second will be {what} just before {at:.0}, {} {says}", by.join(", "))
            }
            Self::LeapTakenBack { at } => {
                write!(f, "no leap second before {at:.0}: the sources that announced it have taken that back")
            }
            Self::Stepped { offset } => {
                write!(f, "clock stepped: it was {} {}", Magnitude(offset.abs()), direction(*offset))
            }
            Self::ForeignStep { by, taken_back } => write!(
                f,
                "another program stepped the system clock by {} {}; {}",
                Magnitude(by.abs()),
                if *by < 0.0 { "back" } else { "forward" },
                if *taken_back { "we step it back. Stop that program" } else { "stamps from before are dropped" }
            ),
            Self::ForeignRate { found, ours } => write!(
                f,
                "another program changed the rate of the system clock from {:+.3} to {:+.3} ppm; ours is set again. Stop that program",
                ours * 1e6,
                found * 1e6
            ),
            Self::ClockRefused(refusal) => write!(f, "{refusal}. {}", refusal.action()),
            Self::ClockTaken { stepped: Some(by) } => write!(
                f,
                "the system clock may be set again: stepped {} {} to where our own was, and steered",
                Magnitude(by.abs()),
                if *by < 0.0 { "back" } else { "forward" }
            ),
            Self::ClockTaken { stepped: None } => f.write_str("the system clock may be set again, and is steered"),
            Self::Slept { for_s } => {
                write!(f, "the machine slept for {}: what time it is must be learned anew", Magnitude(*for_s))
            }
            Self::Moved { source, seconds_too: true, .. } => write!(
                f,
                "{source}: its pulses have moved and have other names: this machine's counter stood still (a paused virtual machine?). What time it is must be learned anew"
            ),
            Self::Moved { source, by, .. } => write!(
                f,
                "{source}: it has moved by {} all at once and stays there; we follow. Either this machine's counter stood still or the source jumped",
                Magnitude(by.abs())
            ),
            Self::Panic { offset, limit } => write!(
                f,
                "the clock is {} {}, more than the {} it may be moved: not touching it",
                Magnitude(offset.abs()),
                direction(*offset),
                Magnitude(*limit)
            ),
        }
    }
}
