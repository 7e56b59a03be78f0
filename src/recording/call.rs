//! What is told to the loop that decides: its inputs as data.

use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Span, Tai, Timestamp, exact};
use refclocks::{Health, Report};
use serde::{Deserialize, Serialize};

use crate::clock::DisciplinedClock;
use crate::core::local::LocalPolicy;
use crate::core::measurement::{Measurement, SourceId};
use crate::core::source::{ServerSays, SourceConfig};
use crate::core::steering::StepPolicy;

/// Does any configuration say that?
pub fn is_possible(step: &StepPolicy) -> bool {
    let StepPolicy { threshold, panic, max_slew, .. } = *step;
    threshold > 0.0 && panic > 0.0 && (1e-9..=0.2).contains(&max_slew)
}

/// One input of [`DisciplinedClock`], named like the call that takes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// A source has come; sources are numbered from 0 in this order.
    AddSource(SourceConfig),
    /// A source has left.
    RemoveSource(SourceId),
    /// The operator says something else of a source.
    ConfigureSource(SourceId, SourceConfig),
    /// What a driver reported.
    Report {
        /// Whose.
        source: SourceId,
        /// What.
        report: Report,
        /// The driver's counters.
        health: Health,
        /// When it came.
        at: Bracket,
    },
    /// A packet exchange.
    Exchange {
        /// With whom.
        source: SourceId,
        /// What was measured.
        measurement: Measurement,
        /// What the server said of itself.
        says: ServerSays,
        /// When it came.
        at: Timestamp<Raw>,
    },
    /// Reach and poll of a server.
    Reach {
        /// Whose.
        source: SourceId,
        /// The last eight polls.
        reach: u8,
        /// log2 s.
        poll: i8,
    },
    /// How a server stands.
    ServerState {
        /// Which.
        source: SourceId,
        /// In words.
        text: String,
        /// What to do about it.
        action: Option<String>,
    },
    /// The machine slept.
    Sleep {
        /// For how long.
        #[serde(with = "exact")]
        slept: Span,
        /// When that was found.
        at: Timestamp<Raw>,
    },
    /// The operator has taken a server offline, or brought it back.
    Offline {
        /// Which.
        source: SourceId,
        /// Is it offline?
        offline: bool,
        /// When.
        at: Timestamp<Raw>,
    },
    /// The thermometer was read.
    Temperature {
        /// Degrees Celsius.
        celsius: f64,
        /// When.
        at: Timestamp<Raw>,
    },
    /// The operator wants the offset stepped away.
    Step(Timestamp<Raw>),
    /// The operator says what time it is.
    Set {
        /// That time.
        tai: Timestamp<Tai>,
        /// When.
        at: Timestamp<Raw>,
    },
    /// The operator wants something else than before.
    Configure {
        /// When the clock may be stepped.
        step: StepPolicy,
        /// When a coasting clock stops being stratum 1, s.
        holdover_budget: f64,
        /// `[local]`.
        local: Option<LocalPolicy>,
    },
    /// Time passed.
    Timeout(Bracket),
}

impl Call {
    /// Makes the call. What it returns was for whoever made it first.
    pub fn make(&self, clock: &mut DisciplinedClock) {
        match self.clone() {
            Self::AddSource(config) => drop(clock.add_source(config)),
            Self::RemoveSource(source) => clock.remove_source(source),
            Self::ConfigureSource(source, config) => clock.configure_source(source, config),
            Self::Report { source, report, health, at } => clock.handle_report(source, &report, &health, &at),
            Self::Exchange { source, measurement, says, at } => clock.handle_exchange(source, measurement, says, at),
            Self::Reach { source, reach, poll } => clock.handle_reach(source, reach, poll),
            Self::ServerState { source, text, action } => clock.handle_server_state(source, text, action),
            Self::Sleep { slept, at } => clock.handle_sleep(slept, at),
            Self::Offline { source, offline, at } => clock.handle_offline(source, offline, at),
            Self::Temperature { celsius, at } => clock.handle_temperature(celsius, at),
            Self::Step(at) => drop(clock.handle_step(at)),
            Self::Set { tai, at } => drop(clock.handle_set(tai, at)),
            Self::Configure { step, holdover_budget, local } => clock.configure(step, holdover_budget, local),
            Self::Timeout(at) => clock.handle_timeout(&at),
        }
    }

    /// Could a daemon have been told that? Its drivers, protocols and configuration keep to such limits.
    pub fn is_possible(&self) -> bool {
        match self {
            Self::AddSource(config) | Self::ConfigureSource(_, config) => {
                config.offset.abs() <= 1.0 && config.delay.is_none_or(|delay| (0.0..=2.0).contains(&delay))
            }
            Self::Report { report: Report::Sample(sample), .. } => {
                sample.quantum >= Span::ZERO && sample.quantum <= Span::from_whole_seconds(1)
            }
            Self::Exchange { measurement, says, .. } => {
                let few = |seconds: f64| (0.0..=1e5).contains(&seconds);
                few(says.root_delay) && few(says.root_dispersion) && measurement.delay.is_none_or(few)
            }
            Self::Temperature { celsius, .. } => celsius.abs() <= 300.0,
            Self::Sleep { slept, .. } => *slept >= Span::ZERO,
            Self::Configure { step, holdover_budget, .. } => {
                is_possible(step) && (1e-9..=1e3).contains(holdover_budget)
            }
            _ => true,
        }
    }

    /// Of which source it is, where it is one's.
    pub fn source(&self) -> Option<SourceId> {
        match self {
            Self::RemoveSource(source)
            | Self::ConfigureSource(source, _)
            | Self::Report { source, .. }
            | Self::Exchange { source, .. }
            | Self::Reach { source, .. }
            | Self::ServerState { source, .. }
            | Self::Offline { source, .. } => Some(*source),
            Self::AddSource(_)
            | Self::Sleep { .. }
            | Self::Temperature { .. }
            | Self::Step(_)
            | Self::Set { .. }
            | Self::Configure { .. }
            | Self::Timeout(_) => None,
        }
    }

    /// When it was made, where it says so.
    pub fn at(&self) -> Option<Timestamp<Raw>> {
        match self {
            Self::Report { at, .. } | Self::Timeout(at) => Some(at.raw_after),
            Self::Exchange { at, .. }
            | Self::Sleep { at, .. }
            | Self::Offline { at, .. }
            | Self::Temperature { at, .. }
            | Self::Step(at)
            | Self::Set { at, .. } => Some(*at),
            Self::AddSource(_)
            | Self::RemoveSource(_)
            | Self::ConfigureSource(..)
            | Self::Reach { .. }
            | Self::ServerState { .. }
            | Self::Configure { .. } => None,
        }
    }
}
