//! What is thought of a source, as a code with its numbers and in words.

use std::fmt;

use serde::Serialize;

use super::quantity::{Bound, Magnitude};

/// What the selection thinks of a source.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Verdict {
    /// It feeds the clock.
    Selected,
    /// It says which second the pulse is.
    NamesTheSecond {
        /// Name of the pulse source.
        pulse: String,
    },
    /// It agrees, and a better one feeds the clock.
    Agrees {
        /// Half-width of what it stands for, s.
        interval_s: f64,
    },
    /// It disagrees with the majority.
    Falseticker {
        /// Its offset from what the majority says, s.
        offset_s: f64,
        /// The half-width it claims, s.
        interval_s: f64,
    },
    /// Sources disagree, and no majority tells which is right.
    NoMajority {
        /// How many have a voice.
        sources: usize,
    },
    /// It says a time before the last good one of an earlier life, and nobody else does.
    DateInDoubt {
        /// That last good time, RFC 3339.
        last_good: String,
    },
    /// At a start, its date is near nothing that we know, and the servers are about to say what they know.
    DateWaits,
    /// At a start, it is not known which edge of the pulse is on the second, and the servers are about to say.
    EdgeWaits,
    /// Too few samples so far.
    TooFewSamples {
        /// Have.
        have: u32,
        /// Need.
        need: u32,
    },
    /// No message source numbers this pulse.
    NothingNumbersIt,
    /// The messages' delay does not tell yet which second it is.
    NumberingUndecided {
        /// Name of the message source.
        messages: String,
        /// Messages so far.
        have: u32,
        /// Learned mean delay of the messages after the pulse, s.
        delay_s: f64,
        /// Its standard error, s.
        error_s: f64,
    },
    /// The messages come at the edge of a second: no number is safe.
    NumberingAmbiguous {
        /// Name of the message source.
        messages: String,
        /// Learned mean delay of the messages after the pulse, s.
        delay_s: f64,
        /// Its standard error, s.
        error_s: f64,
    },
    /// Two things say different seconds.
    NumberingContradicted {
        /// Name of the message source.
        messages: String,
        /// Whole seconds between what the messages say and what we hold.
        seconds: i64,
    },
    /// A message source whose delay is not known does not feed a clock that knows better.
    DelayUnknown,
    /// The device gives nothing now; see its state.
    NoData,
    /// A server that does not answer.
    Unreachable,
    /// A server that says it has no time.
    ServerUnsynchronised,
    /// It agrees, but none of those that the configuration requires does.
    RequiredMissing,
    /// The configuration says so.
    NoSelect,
    /// The operator has taken it offline.
    Offline,
    /// A server that has its time from us.
    FollowsUs,
    /// A server whose clock nobody checks, as ours, and that we do not follow.
    Orphan {
        /// Would we follow it if there was no better source?
        elder: bool,
    },
}

impl Verdict {
    /// The verdict in one or two words, for a table's column: at most 12 letters.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Selected => "used",
            Self::NamesTheSecond { .. } => "names second",
            Self::Agrees { .. } => "agrees",
            Self::Falseticker { .. } => "disagrees",
            Self::NoMajority { .. } => "no majority",
            Self::DateInDoubt { .. } => "date doubted",
            Self::DateWaits => "date waits",
            Self::EdgeWaits => "edge waits",
            Self::TooFewSamples { .. } => "few samples",
            Self::NothingNumbersIt => "not numbered",
            Self::NumberingUndecided { .. } => "undecided",
            Self::NumberingAmbiguous { .. } => "ambiguous",
            Self::NumberingContradicted { .. } => "contradicted",
            Self::DelayUnknown => "delay open",
            Self::NoData => "no data",
            Self::Unreachable => "unreachable",
            Self::ServerUnsynchronised => "has no time",
            Self::RequiredMissing => "required missing",
            Self::NoSelect => "noselect",
            Self::Offline => "offline",
            Self::FollowsUs => "follows us",
            Self::Orphan { .. } => "orphan",
        }
    }

    /// What is expected next, or what a person can do about it, in one sentence.
    pub fn next(&self) -> Option<String> {
        Some(match self {
            Self::DateInDoubt { .. } => {
                "Add a second witness, such as a network server; if it is right, stop the daemon and delete \
                 `drift.toml` from its state folder."
                    .into()
            }
            Self::DateWaits | Self::EdgeWaits => "Wait a few seconds for the servers.".into(),
            Self::TooFewSamples { have, need } => {
                format!("Wait for {} more.", need.saturating_sub(*have).max(1))
            }
            Self::NothingNumbersIt => {
                "Wait for the receiver's first fix, or add its messages (`nmea`) or a network server.".into()
            }
            Self::NumberingUndecided { .. } => "Wait: each message makes it surer.".into(),
            Self::NumberingAmbiguous { messages, .. } => {
                format!("Set the `delay` of {messages}, send fewer sentences or a higher speed, or add a server.")
            }
            Self::NumberingContradicted { .. } => {
                "Compare with a network server; if the receiver is wrong, restart it.".into()
            }
            Self::Falseticker { .. } => {
                "If it is a server, look at the network path to it, and at its own sources.".into()
            }
            Self::NoMajority { .. } => "Add a source, so that a majority can be found.".into(),
            Self::RequiredMissing => "See why the source with `require` does not agree.".into(),
            Self::DelayUnknown => "Add a pulse or a network server to learn its delay, or set `delay`.".into(),
            Self::Unreachable => "Check the address, the network and firewalls (UDP port 123).".into(),
            Self::ServerUnsynchronised => "Wait for it, or use another server.".into(),
            Self::Offline => "Bring it back: `refclockd set online`.".into(),
            Self::Selected
            | Self::NamesTheSecond { .. }
            | Self::Agrees { .. }
            | Self::NoData
            | Self::NoSelect
            | Self::FollowsUs
            | Self::Orphan { .. } => {
                return None;
            }
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Selected => f.write_str("used"),
            Self::NamesTheSecond { pulse } => write!(f, "names the second of {pulse}"),
            Self::Agrees { .. } => f.write_str("agrees; a better source is used"),
            Self::Falseticker { offset_s, interval_s } => write!(
                f,
                "not used: {} {} what the others say, and claims {}",
                Magnitude(offset_s.abs()),
                if *offset_s < 0.0 { "behind" } else { "ahead of" },
                Bound(*interval_s)
            ),
            Self::NoMajority { sources } => {
                write!(f, "not used: {sources} sources disagree and none has a majority")
            }
            Self::DateInDoubt { last_good } => {
                write!(
                    f,
                    "not used: it says a time before {last_good}, the last good one we know, and nobody else does"
                )
            }
            Self::DateWaits => f.write_str(
                "not used yet: its date is near neither the last good time nor the system clock, and the servers are asked",
            ),
            Self::EdgeWaits => f.write_str(
                "not used yet: its shape does not tell which of its edges is on the second, and the servers are asked",
            ),
            Self::TooFewSamples { have, need } => write!(f, "not used yet: sample {have} of {need}"),
            Self::NothingNumbersIt => f.write_str("not used: no time message says which second each pulse is"),
            Self::NumberingUndecided { messages, have, delay_s, error_s } => write!(
                f,
                "not used yet: {messages}'s messages come {:.3} s ± {:.3} s after the pulse ({have} so far); more are needed to tell which second they name",
                delay_s, error_s
            ),
            Self::NumberingAmbiguous { messages, delay_s, error_s } => write!(
                f,
                "not used: {messages}'s messages come {:.3} s ± {:.3} s after the pulse, so it cannot be told which second they name",
                delay_s, error_s
            ),
            Self::NumberingContradicted { messages, seconds } => {
                write!(f, "not used: {messages}'s messages now name a second {seconds:+} away from the one we hold")
            }
            Self::DelayUnknown => f.write_str("not used: how late its messages come is not known"),
            Self::NoData => f.write_str("not used: it gives no time now"),
            Self::Unreachable => f.write_str("not used: it does not answer"),
            Self::ServerUnsynchronised => f.write_str("not used: it says that it has no time itself"),
            Self::RequiredMissing => {
                f.write_str("not used: it agrees, but no source that the configuration requires does")
            }
            Self::NoSelect => f.write_str("not used: the configuration says `noselect`"),
            Self::Offline => f.write_str("not used: the operator has taken it offline"),
            Self::FollowsUs => f.write_str("not used: it has its time from us"),
            Self::Orphan { elder: true } => {
                f.write_str("not used: nobody checks its clock, and there is a better source")
            }
            Self::Orphan { elder: false } => {
                f.write_str("not used: nobody checks its clock, and it is for others to follow us")
            }
        }
    }
}
