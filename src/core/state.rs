//! The labels a person reads: state, verdicts, and the reason for each as data.
//!
//! Words are made here, in one place, and only where a person reads them.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use super::quantity::{Bound, Crystal, Duration, Magnitude, Signed, direction, round_up};

/// Where the daemon's time comes from. A label: a pure function of the snapshot with a short
/// hysteresis, never an input to a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Numbered pulses were used within the last 4 s and the bound has settled.
    Locked,
    /// Time messages only.
    Coarse,
    /// No reference; coasting on the trained crystal.
    Holdover,
    /// Following network servers.
    Network,
    /// Nobody checks this clock; it is served because the configuration says so.
    Local,
    /// Clients are told not to use this clock.
    Unsynchronised,
}

impl State {
    /// The state as JSON writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Coarse => "coarse",
            Self::Holdover => "holdover",
            Self::Network => "network",
            Self::Local => "local",
            Self::Unsynchronised => "unsynchronised",
        }
    }

    /// The headline a person reads.
    pub const fn headline(self) -> &'static str {
        match self {
            Self::Locked => "Locked",
            Self::Coarse => "Coarse",
            Self::Holdover => "Holdover",
            Self::Network => "Network",
            Self::Local => "Local only",
            Self::Unsynchronised => "Not synchronised",
        }
    }

    /// A shape that carries the same meaning without colour.
    pub const fn shape(self) -> char {
        match self {
            Self::Locked => '●',
            Self::Coarse => '◐',
            Self::Holdover => '◔',
            Self::Network => '◌',
            Self::Local => '▲',
            Self::Unsynchronised => '✕',
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the daemon is in its state.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum StateReason {
    /// Pulse and messages agree on the second.
    PulseAndSecondAgree {
        /// Name of the pulse source.
        source: String,
    },
    /// The pulse is used, and the bound is still shrinking to its settled range.
    Settling {
        /// Name of the pulse source.
        source: String,
        /// Bound now, s.
        bound_s: f64,
    },
    /// No source has given anything yet.
    NothingYet,
    /// No source is configured.
    NoSources,
    /// Messages come; their pulse is awaited before the clock is set.
    WaitingForPulse {
        /// Name of the message source.
        source: String,
        /// How long we go on waiting, s.
        wait_s: f64,
    },
    /// A source says a time before the last good one of an earlier life, and nobody else does.
    DateInDoubt {
        /// Its name.
        source: String,
    },
    /// Pulses come, but nothing says which second they are.
    PulseNotNumbered {
        /// Name of the pulse source.
        source: String,
    },
    /// Time comes from messages; there is no pulse.
    MessagesOnly {
        /// Name of the message source.
        source: String,
        /// Is the message delay known?
        calibrated: bool,
    },
    /// Following network servers.
    FollowingNetwork {
        /// How many are used.
        servers: usize,
    },
    /// The source that sets the clock is far from it all at once; it is not known yet whether it stays there.
    Astray {
        /// Its name.
        source: String,
        /// Our clock - the source, s; its magnitude if seconds have other names too.
        by_s: f64,
    },
    /// The last reference went away.
    NoReference {
        /// Seconds without it.
        for_s: f64,
        /// Seconds until the bound reaches the budget.
        remaining_s: Option<f64>,
    },
    /// Coasted longer than the budget allows.
    HoldoverSpent {
        /// The budget, s.
        budget_s: f64,
    },
    /// No reference; the configuration asks to serve the clock as it is.
    Undisciplined,
    /// The operator has set the clock.
    SetByHand {
        /// So long ago, s.
        ago_s: f64,
        /// Bound now, s.
        bound_s: f64,
    },
    /// The clock would be served as it is, but it was never known well enough.
    LocalNotActivated {
        /// It has to be known to better than this once, s.
        activate_s: f64,
    },
    /// The clock will be served as it is, but not yet.
    LocalWaits {
        /// For so long, s.
        left_s: f64,
    },
    /// What the sources say of the clock is worth no more than the clock as it is.
    TooFar {
        /// Bound now, s.
        bound_s: f64,
        /// The limit, s.
        distance_s: f64,
    },
    /// The clock is further off than it may be moved.
    Panic {
        /// local - reference, s.
        offset_s: f64,
        /// The limit, s.
        limit_s: f64,
    },
    /// Sources disagree and none wins.
    SourcesDisagree {
        /// How many sources.
        sources: usize,
    },
}

impl StateReason {
    /// What a person can do about it, in one imperative sentence; `None` where waiting or nothing is right.
    pub fn action(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoSources => "Name a receiver or a server in the configuration.",
            Self::WaitingForPulse { .. } => "If no pulse is wired, wait; else check the PPS wire and its pin.",
            Self::DateInDoubt { .. } => {
                "Add a second witness, such as a network server, or delete `drift.toml` if what it says is wrong."
            }
            Self::PulseNotNumbered { .. } => "Wait for the receiver's first fix, or add a network server.",
            Self::MessagesOnly { .. } => "Wire the receiver's PPS output and add a `pps` reference clock.",
            Self::FollowingNetwork { .. } => "See `refclockd why` for what the reference clocks lack.",
            Self::NoReference { .. } | Self::HoldoverSpent { .. } => {
                "Restore the signal: look at the antenna, the cable and the receiver's power."
            }
            Self::SetByHand { .. } => "Set it again some hours later to learn its drift: `refclockd set time`.",
            Self::LocalNotActivated { .. } => "Give it a source once, or set it: `refclockd set time`.",
            Self::TooFar { .. } => "See `refclockd why` for what makes the sources so uncertain.",
            Self::Undisciplined => "Give it a receiver or a server: see `refclockd why`.",
            Self::Panic { .. } => "If the sources are right, allow the step: `refclockd set step`.",
            Self::SourcesDisagree { .. } => "Add a source, so that a majority can be found.",
            Self::PulseAndSecondAgree { .. }
            | Self::Settling { .. }
            | Self::Astray { .. }
            | Self::NothingYet
            | Self::LocalWaits { .. } => {
                return None;
            }
        })
    }
}

impl fmt::Display for StateReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PulseAndSecondAgree { source } => write!(f, "Locked to the satellite pulse ({source})."),
            Self::Settling { source, bound_s } => {
                write!(f, "Following the pulse ({source}); settling, within {} so far.", Bound(*bound_s))
            }
            Self::NothingYet => f.write_str("No source has given the time yet."),
            Self::NoSources => f.write_str("No time source is configured."),
            Self::WaitingForPulse { source, wait_s } => {
                write!(f, "{source} sends time; waiting up to {wait_s:.0} s for its pulse before setting the clock.")
            }
            Self::DateInDoubt { source } => {
                write!(f, "{source} says a time before the last good one of an earlier life, and nobody else does.")
            }
            Self::PulseNotNumbered { source } => {
                write!(f, "{source} pulses, but nothing says yet which second each pulse is.")
            }
            Self::MessagesOnly { source, calibrated: true } => {
                write!(f, "Time comes from {source}'s messages; there is no pulse.")
            }
            Self::MessagesOnly { source, calibrated: false } => {
                write!(f, "Time comes from {source}'s messages alone; how late they come is not known.")
            }
            Self::FollowingNetwork { servers: 1 } => f.write_str("Following one network server, not satellites."),
            Self::FollowingNetwork { servers } => write!(f, "Following {servers} network servers, not satellites."),
            Self::Astray { source, by_s } => write!(
                f,
                "{source} is {} off all at once; a few more of its samples tell whether it stays there.",
                Magnitude(by_s.abs())
            ),
            Self::NoReference { for_s, remaining_s } => {
                write!(f, "No reference for {}. Coasting on the trained crystal", Duration(*for_s))?;
                match remaining_s {
                    Some(left) => write!(f, ", good for about {} more.", Duration(*left)),
                    None => f.write_str("."),
                }
            }
            Self::HoldoverSpent { budget_s } => {
                write!(f, "Coasted longer than the budget of {} allows.", Bound(*budget_s))
            }
            Self::Undisciplined => {
                f.write_str("Nobody checks this clock. It is served because the configuration says so.")
            }
            Self::SetByHand { ago_s, bound_s } => {
                write!(f, "Set by hand {} ago, good to {} by now; no other source.", Duration(*ago_s), Bound(*bound_s))
            }
            Self::LocalNotActivated { activate_s } => {
                write!(
                    f,
                    "Nobody has checked this clock to within {} yet; until then [local] does not serve it.",
                    Bound(*activate_s)
                )
            }
            Self::LocalWaits { left_s } => {
                write!(f, "No reference. [local] serves the clock as it is in {} unless one comes.", Duration(*left_s))
            }
            Self::TooFar { bound_s, distance_s } => write!(
                f,
                "What the sources say is good to {} only, more than the {} of [local]: the clock is served as its own reference.",
                Bound(*bound_s),
                Bound(*distance_s)
            ),
            Self::Panic { offset_s, limit_s } => write!(
                f,
                "The clock is {} {}: more than the {} it may be moved.",
                Magnitude(offset_s.abs()),
                direction(*offset_s),
                Magnitude(*limit_s)
            ),
            Self::SourcesDisagree { sources } => write!(f, "{sources} sources disagree and none wins."),
        }
    }
}
