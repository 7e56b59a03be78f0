//! What a configuration has put in place, and how it is changed while it runs.
//!
//! Sources, servers, access lists and policies follow the file when it is read again; the estimate, the
//! sockets and the sources that stay are left alone. A file with an error changes nothing.

use std::path::{Path, PathBuf};

use tracing::{info, warn};

use super::feeding::Feeds;
use super::roster::Roster;
use super::start::engine::step_policy;
use super::start::serving::Serving;
use super::supervisor::Supervisor;
use super::{Inbox, Input};
use crate::clock::DisciplinedClock;
use crate::config::{Config, diagnostic};
use crate::control::command::{Answer, Command, Commission, SetReply};
use crate::control::reply::ErrorReply;

/// A configuration that was read again, or why there is none.
pub type ReadAgain = Result<Box<Config>, String>;

/// What is in place.
pub struct Installation {
    file: PathBuf,
    config: Config,
    inbox: Inbox,
    pub(super) roster: Roster,
    pub(super) feeds: Feeds,
    pub(super) serving: Serving,
    supervisor: Supervisor,
    /// May a thread be started to read the file?
    threads: bool,
}

impl Installation {
    /// Puts a configuration in place that was read from a file.
    pub fn new(
        file: PathBuf,
        config: &Config,
        (mut roster, serving): (Roster, Serving),
        supervisor: Supervisor,
        (inbox, threads): (Inbox, bool),
        clock: &mut DisciplinedClock,
    ) -> Self {
        roster.apply(config, clock);
        let mut feeds = Feeds::default();
        feeds.apply(&config.feeds, |unit| roster.segment(unit));
        Self { file, config: config.clone(), inbox, roster, feeds, serving, supervisor, threads }
    }

    /// Does a clock that is too far off end the program?
    pub fn panic_exit(&self) -> bool {
        self.config.clock.panic_exit
    }

    /// Ends what serves.
    pub fn stop(self) {
        self.supervisor.stopping();
        self.serving.stop();
    }

    /// Reads the file again, without waiting for it: what it says comes as an input.
    pub(super) fn read_again(&self, commission: Commission) {
        self.supervisor.reloading();
        let (file, inbox, workers) = (self.file.clone(), self.inbox.clone(), self.threads);
        let read = move || {
            let read = read(&file, workers);
            drop(inbox.send(Input::Configuration(read, commission)));
        };
        if !self.threads {
            return read();
        }
        if let Err(error) = std::thread::Builder::new().name("configuration".into()).spawn(read) {
            // The commission went with the thread that was not to be; whoever waits is told by that.
            warn!("no thread to read the configuration on: {error}");
        }
    }

    /// Takes over what was read.
    pub(super) fn take_over(&mut self, read: ReadAgain, clock: &mut DisciplinedClock) -> Answer {
        let answer = match read {
            Ok(config) => Ok(self.apply(*config, clock)),
            Err(error) => {
                let text = format!("The configuration stays as it is. {error}");
                Err(ErrorReply::new("bad_configuration", text))
            }
        };
        self.supervisor.ready();
        answer
    }

    fn apply(&mut self, mut new: Config, clock: &mut DisciplinedClock) -> SetReply {
        let old = &self.config;
        // Keys that cannot be read any more, of a daemon that is no longer root, are the old ones.
        if let (Some(new), Some(old)) = (&mut new.keys, &old.keys)
            && new.table.is_none()
            && new.file == old.file
        {
            new.table.clone_from(&old.table);
        }
        let other_keys = old.keys != new.keys;
        let needs_restart: Vec<String> = [
            (old.control_socket != new.control_socket, "[control] socket stays where it is until a restart."),
            (old.state_dir != new.state_dir, "[state] dir stays where it is until a restart."),
            (old.process != new.process, "[process] stays as it is until a restart."),
            (old.thermometer != new.thermometer, "The thermometer is another one only after a restart."),
            (
                (old.clock.discipline, old.clock.otherwise) != (new.clock.discipline, new.clock.otherwise),
                "[clock] discipline and otherwise stay as they are until a restart.",
            ),
            (old.clock.leap != new.clock.leap, "[clock] leap stays as it is until a restart."),
            (old.clock.leap_file != new.clock.leap_file, "[clock] leap_file is read anew only at a restart."),
        ]
        .into_iter()
        .filter(|(differs, _)| *differs)
        .map(|(_, text)| text.to_owned())
        .collect();
        let mut changes = self.roster.apply(&new, clock);
        if old.feeds != new.feeds {
            self.feeds.apply(&new.feeds, |unit| self.roster.segment(unit));
            changes.push("Other daemons are told other things.".into());
        }
        changes.extend(self.serving.apply(&new));
        if step_policy(old) != step_policy(&new) || old.clock.panic_exit != new.clock.panic_exit {
            changes.push("The clock may be moved by other rules.".into());
        }
        if other_keys {
            let known = new.keys.as_ref().and_then(|keys| keys.table.as_ref()).map_or(0, |table| table.len());
            changes.push(format!("{known} keys are known."));
        }
        if old.holdover_budget != new.holdover_budget {
            changes.push(format!("The holdover budget is {}.", crate::core::state::Bound(new.holdover_budget)));
        }
        if old.local != new.local {
            changes.push(match new.local {
                Some(local) => format!("Without reference the clock is served at stratum {}.", local.stratum),
                None => "Without reference the clock is not served.".into(),
            });
        }
        clock.configure(step_policy(&new), new.holdover_budget, new.local);
        let text = match changes.len() + needs_restart.len() {
            0 => "The configuration was read again; nothing has changed.".to_owned(),
            _ => "The configuration was read again.".to_owned(),
        };
        changes.iter().chain(&needs_restart).for_each(|change| info!("{change}"));
        self.config = new;
        SetReply { changes, needs_restart, ..SetReply::new(&Command::Reload, text) }
    }
}

/// Reads a configuration; what is wrong with it in words, each thing with its place.
fn read(file: &Path, threads: bool) -> ReadAgain {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{name} cannot be read: {error}."))?;
    match Config::from_toml(&name, &text) {
        Ok((mut config, warnings)) => {
            if !warnings.is_empty() {
                warn!("{}", diagnostic::in_words(&name, &text, &warnings));
            }
            if !threads {
                config.without_threads();
            }
            config.read_keys().iter().for_each(|said| warn!("{said}"));
            Ok(Box::new(config))
        }
        Err(all) => Err(diagnostic::in_words(&name, &text, &all)),
    }
}
