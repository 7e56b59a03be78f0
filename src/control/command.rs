//! What an operator may command, and what he is answered.

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::reply::ErrorReply;
use super::time_setting::TimeSetting;

/// A command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "set", rename_all = "snake_case")]
pub enum Command {
    /// Step away what is left of the offset, whatever its size.
    Step,
    /// Set the time by hand.
    Time {
        /// What it is.
        to: TimeSetting,
    },
    /// Ask a server again, or all of them.
    Online {
        /// Its name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// Ask a server no more, or none at all.
    Offline {
        /// Its name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// Ask a server, or all of them, a few times in quick succession.
    Burst {
        /// Its name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// Forget who has asked for the time.
    ForgetClients,
    /// Read the configuration again.
    Reload,
}

/// What can be commanded.
pub const COMMANDS: &str = "step, time, online, offline, burst, forget_clients, reload";

impl Command {
    /// Its word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Time { .. } => "time",
            Self::Online { .. } => "online",
            Self::Offline { .. } => "offline",
            Self::Burst { .. } => "burst",
            Self::ForgetClients => "forget_clients",
            Self::Reload => "reload",
        }
    }
}

/// `refclockd.set/1`: a command that was carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetReply {
    /// Name and version of this layout.
    pub schema: String,
    /// Version of the daemon.
    pub version: String,
    /// The command.
    pub set: String,
    /// What was done, in whole sentences.
    pub text: String,
    /// Servers and pools that were given the order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// What has changed with the configuration, each in a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// What of it takes a restart, each in a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs_restart: Vec<String>,
    /// What was done to the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockMoved>,
    /// What settings by hand have taught.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<ByHand>,
}

/// What was done to the clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClockMoved {
    /// Our clock - what it ought to read, before.
    pub offset_ns: Option<i64>,
    /// Was it stepped?
    pub stepped: bool,
    /// The same after that: what is being slewed away.
    pub remaining_ns: Option<i64>,
}

/// What settings by hand have taught.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ByHand {
    /// Is the last one followed?
    pub used: bool,
    /// How wrong the clock can be.
    pub bound_ns: Option<u64>,
    /// Our crystal's frequency error; positive = it gains.
    pub frequency_ppb: Option<f64>,
    /// One standard deviation of it.
    pub frequency_sd_ppb: Option<f64>,
    /// All settings that are followed, oldest first.
    pub settings: Vec<Setting>,
}

/// A setting, and how well it fits the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// What was set, RFC 3339.
    pub utc: String,
    /// The line through all settings - this one.
    pub residual_ns: Option<i64>,
}

impl SetReply {
    /// A command was carried out.
    pub fn new(command: &Command, text: impl Into<String>) -> Self {
        Self {
            schema: "refclockd.set/1".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            set: command.word().into(),
            text: text.into(),
            sources: Vec::new(),
            changes: Vec::new(),
            needs_restart: Vec::new(),
            clock: None,
            by_hand: None,
        }
    }
}

/// What a command is answered.
pub type Answer = Result<SetReply, ErrorReply>;

/// A command on its way, and where its answer goes.
#[derive(Debug)]
pub struct Commission {
    /// The command.
    pub command: Command,
    /// Whoever waits for the answer; nobody does for a signal.
    pub answer: Option<oneshot::Sender<Answer>>,
}

impl Commission {
    /// Answers it.
    pub fn answer(self, answer: Answer) {
        if let Some(sender) = self.answer {
            // Who has gone need not be told.
            let _ = sender.send(answer);
        }
    }
}

/// Who may command: root, and whoever the daemon runs as. Others that may ask may not command.
pub fn may_command(peer: u32, ourselves: u32) -> bool {
    peer == 0 || peer == ourselves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_ourselves_may_command() {
        assert!(may_command(0, 990) && may_command(990, 990) && may_command(0, 0));
        assert!(!may_command(1000, 990) && !may_command(1000, 0));
    }
}
