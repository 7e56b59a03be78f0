//! Setting up a u-blox receiver for timing: only where it was asked for, in the receiver's volatile memory
//! only, so that a restart of the receiver undoes it.
//!
//! The receiver is asked which protocol it speaks. Older ones (before 27: u-blox 5 to 8) take a message
//! for each subject, newer ones keys with values. First comes the speed of the line, with a way back. Then
//! each setting is asked for, set if it is another, and asked for again: what the receiver acknowledged and
//! did not take is told like what it refused.

mod position;
mod setting;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::position::{Position, Timing};
use self::setting::{BAUD, GET_KEYS, PORT, Setting, Way};
use super::write::message;
use crate::time::{Raw, Span, Timestamp};

/// How long a receiver may take to answer.
const PATIENCE: Span = Span::from_millis(1500);
/// How long at another speed: it must be over before the search for a speed begins anew.
const PATIENCE_AT_A_SPEED: Span = Span::from_millis(900);
/// What was sent has left the port by then, and the receiver speaks at its new speed.
const SETTLING: Span = Span::from_millis(250);
/// How often it is asked.
const TRIES: u8 = 2;
/// The first protocol with keys and values.
const WITH_KEYS: u8 = 27;
/// Class of settings.
const CFG: u8 = 0x06;

/// What is asked for beside a cycle a second, the messages that a clock reads, and a pulse of 100 ms that is
/// only there while it is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The speed of the line, bit/s; `None` leaves it.
    pub baud: Option<u32>,
    /// Work for time only, at a position that is surveyed or known. For an antenna that stays.
    pub timing: Option<Timing>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All of it is set but for these, and the receiver was asked whether it is.
    Done(Vec<NotTaken>),
    /// The receiver does not answer: it is no u-blox, or our way to it is not connected.
    NoAnswer,
    /// It is heard neither at the speed it was to have, bit/s, nor at the one before.
    Lost(u32),
}

/// A setting that the receiver did not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotTaken {
    /// Which, e.g. `pulse`, `NAV-SAT`, `survey-in`.
    pub subject: String,
    /// Why.
    pub why: Why,
    /// It would tell more of the receiver; a clock does without.
    pub extra: bool,
}

/// Why a setting was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The receiver refused it.
    Refused,
    /// It did not answer.
    NoAnswer,
    /// It acknowledged it, and is set otherwise.
    OtherValue,
    /// It acknowledged it, and does not tell how it is set.
    NotTold,
}

/// Where it stands.
#[derive(Clone, Debug)]
enum Stage {
    /// Asked for its protocol.
    Version,
    /// Asked for the settings of the port, by the language it speaks.
    Port { keys: bool },
    /// It was told another speed; our port follows when that has left it.
    Settling { speeds: Speeds },
    /// Asked for its protocol at the new speed, or back at the old one.
    AtSpeed { speeds: Speeds, back: bool },
    /// The first of the settings left, by one of its ways.
    Setting { way: usize, phase: Phase },
    /// No more.
    Over,
}

/// A change of speed, bit/s.
#[derive(Clone, Copy, Debug)]
struct Speeds {
    keys: bool,
    port: u8,
    old: u32,
    new: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Asked how it is set.
    Ask,
    /// Told how to set it.
    Set,
    /// Asked again.
    Check,
}

/// The set-up under way.
#[derive(Clone, Debug)]
pub struct Setup {
    wishes: Wishes,
    /// The line's speed, bit/s, where it has one.
    line: Option<u32>,
    stage: Stage,
    settings: VecDeque<Setting>,
    transmit: VecDeque<Vec<u8>>,
    speed: Option<u32>,
    /// When it was asked often enough, or is asked again.
    due: Option<Timestamp<Raw>>,
    tries: u8,
    /// Did the receiver answer how the present setting is?
    answered: bool,
    not_taken: Vec<NotTaken>,
    outcome: Option<Outcome>,
    told: bool,
}

impl Setup {
    /// Begins by asking for the version, on a line of so many bit/s, if it has a speed.
    pub fn new(wishes: Wishes, line: Option<u32>, now: Timestamp<Raw>) -> Self {
        let mut setup = Self {
            wishes,
            line,
            stage: Stage::Version,
            settings: VecDeque::new(),
            transmit: VecDeque::new(),
            speed: None,
            due: None,
            tries: 0,
            answered: false,
            not_taken: Vec::new(),
            outcome: None,
            told: false,
        };
        setup.send(now);
        setup
    }

    /// The receiver told its protocol's version.
    pub fn handle_version(&mut self, protocol: u8, now: Timestamp<Raw>) {
        match self.stage {
            Stage::Version => {
                let keys = protocol >= WITH_KEYS;
                // By messages the port's number is needed as well.
                if keys && self.speed_to_set().is_none() {
                    return self.begin_settings(keys, 1, now);
                }
                self.enter(Stage::Port { keys }, now);
            }
            Stage::AtSpeed { speeds, back } => {
                if back {
                    self.not_taken("speed", Why::NoAnswer, false);
                    if speeds.keys {
                        // It was another port's speed.
                        self.transmit.push_back(setting::set_keys(&[(BAUD, speeds.old)]));
                    }
                } else {
                    self.line = Some(speeds.new);
                }
                self.begin_settings(speeds.keys, speeds.port, now);
            }
            _ => {}
        }
    }

    /// The receiver told how something is set.
    pub fn handle_setting(&mut self, id: u8, payload: &[u8], now: Timestamp<Raw>) {
        match self.stage {
            Stage::Port { keys: false } if id == PORT => {
                let port = payload.first().copied().unwrap_or(1);
                let change = self.speed_to_set().and_then(|(old, new)| {
                    Some((setting::port_at(payload, new)?, Speeds { keys: false, port, old, new }))
                });
                match change {
                    Some((bytes, speeds)) => self.change_speed(bytes, speeds, now),
                    None => self.begin_settings(false, port, now),
                }
            }
            Stage::Port { keys: true } if id == GET_KEYS => {
                let is = setting::value_of(payload, BAUD);
                match self.speed_to_set().filter(|_| is.is_some()) {
                    Some((old, new)) => {
                        let speeds = Speeds { keys: true, port: 1, old: is.unwrap_or(old), new };
                        self.change_speed(setting::set_keys(&[(BAUD, new)]), speeds, now);
                    }
                    None => self.begin_settings(true, 1, now),
                }
            }
            Stage::Setting { way, phase: phase @ (Phase::Ask | Phase::Check) } => {
                let Some(current) = self.way(way).filter(|w| w.is_answered_by(id, payload)) else { return };
                let as_wished = current.is_as_wished(payload);
                self.answered = true;
                match (as_wished, phase) {
                    (true, _) => self.next_setting(now),
                    (false, Phase::Check) => self.give_up_setting(Why::OtherValue, now),
                    (false, _) => self.enter(Stage::Setting { way, phase: Phase::Set }, now),
                }
            }
            _ => {}
        }
    }

    /// The receiver took a setting, or refused it, or does not have what it was asked for.
    pub fn handle_answer(&mut self, of: (u8, u8), taken: bool, now: Timestamp<Raw>) {
        let (CFG, id) = of else { return };
        match self.stage {
            Stage::Port { keys } if !taken && id == if keys { GET_KEYS } else { PORT } => {
                self.leave_speed(keys, Why::Refused, now);
            }
            Stage::Setting { way, phase } => {
                let Some(current) = self.way(way) else { return };
                let (ask, set) = (current.ask_id, current.set_id);
                match phase {
                    Phase::Set if id == set && taken => self.enter(Stage::Setting { way, phase: Phase::Check }, now),
                    Phase::Set if id == set => self.refused(way, now),
                    Phase::Ask if id == ask && !taken => self.enter(Stage::Setting { way, phase: Phase::Set }, now),
                    // It told before: what it refuses is what was set in between.
                    Phase::Check if id == set && !taken && self.answered => self.refused(way, now),
                    Phase::Check if id == ask && !taken => self.give_up_setting(Why::NotTold, now),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Timestamp<Raw>) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        if let Stage::Settling { speeds } = self.stage {
            self.speed = Some(speeds.new);
            return self.enter(Stage::AtSpeed { speeds, back: false }, now);
        }
        if self.tries < TRIES {
            return self.send(now);
        }
        match self.stage {
            Stage::Version => self.end(Outcome::NoAnswer),
            Stage::Port { keys } => self.leave_speed(keys, Why::NoAnswer, now),
            Stage::AtSpeed { speeds, back: false } => {
                // The line's own speed: what a receiver says of it may be another port's.
                self.speed = self.line;
                self.enter(Stage::AtSpeed { speeds, back: true }, now);
            }
            Stage::AtSpeed { speeds, back: true } => self.end(Outcome::Lost(speeds.new)),
            Stage::Setting { way, phase: Phase::Ask } => self.enter(Stage::Setting { way, phase: Phase::Set }, now),
            Stage::Setting { phase: Phase::Set, .. } => self.give_up_setting(Why::NoAnswer, now),
            Stage::Setting { phase: Phase::Check, .. } => self.give_up_setting(Why::NotTold, now),
            Stage::Settling { .. } | Stage::Over => {}
        }
    }

    /// When to call [`Setup::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        self.due
    }

    /// What to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.pop_front()
    }

    /// The speed to go on with, bit/s. What was to be sent before has been sent by then.
    pub fn poll_speed(&mut self) -> Option<u32> {
        self.speed.take()
    }

    /// How it ended; told once.
    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        let first = !std::mem::replace(&mut self.told, self.outcome.is_some());
        self.outcome.clone().filter(|_| first)
    }

    /// Is another speed being tried? Then what comes may make no sense for a moment.
    pub fn tries_a_speed(&self) -> bool {
        matches!(self.stage, Stage::Settling { .. } | Stage::AtSpeed { .. })
    }

    /// Did it end with a receiver that sends NAV-PVT? One that does not any more has forgotten all.
    pub fn made_it_speak(&self) -> bool {
        matches!(&self.outcome, Some(Outcome::Done(not)) if not.iter().all(|n| n.subject != "NAV-PVT"))
    }

    /// From what speed to what speed the line is to go, bit/s.
    fn speed_to_set(&self) -> Option<(u32, u32)> {
        Some((self.line?, self.wishes.baud?)).filter(|(old, new)| old != new)
    }

    fn leave_speed(&mut self, keys: bool, why: Why, now: Timestamp<Raw>) {
        if self.speed_to_set().is_some() {
            self.not_taken("speed", why, false);
        }
        self.begin_settings(keys, 1, now);
    }

    fn change_speed(&mut self, bytes: Vec<u8>, speeds: Speeds, now: Timestamp<Raw>) {
        self.transmit.push_back(bytes);
        self.stage = Stage::Settling { speeds };
        self.due = Some(now + SETTLING);
    }

    fn begin_settings(&mut self, keys: bool, port: u8, now: Timestamp<Raw>) {
        let timing = self.wishes.timing;
        self.settings = if keys { setting::by_keys(timing) } else { setting::by_messages(timing, port) }.into();
        self.enter(Stage::Setting { way: 0, phase: Phase::Ask }, now);
    }

    fn way(&self, way: usize) -> Option<&Way> {
        self.settings.front()?.ways.get(way)
    }

    /// The receiver does not have this way of setting it.
    fn refused(&mut self, way: usize, now: Timestamp<Raw>) {
        if self.way(way + 1).is_some() {
            self.enter(Stage::Setting { way: way + 1, phase: Phase::Ask }, now);
        } else {
            self.give_up_setting(Why::Refused, now);
        }
    }

    fn give_up_setting(&mut self, why: Why, now: Timestamp<Raw>) {
        if let Some(setting) = self.settings.front() {
            let (subject, extra) = (setting.subject, setting.extra);
            self.not_taken(subject, why, extra);
        }
        self.next_setting(now);
    }

    fn not_taken(&mut self, subject: &str, why: Why, extra: bool) {
        self.not_taken.push(NotTaken { subject: subject.to_owned(), why, extra });
    }

    fn next_setting(&mut self, now: Timestamp<Raw>) {
        self.settings.pop_front();
        if self.settings.is_empty() {
            let not_taken = std::mem::take(&mut self.not_taken);
            return self.end(Outcome::Done(not_taken));
        }
        self.enter(Stage::Setting { way: 0, phase: Phase::Ask }, now);
    }

    fn enter(&mut self, stage: Stage, now: Timestamp<Raw>) {
        self.answered &= !matches!(stage, Stage::Setting { phase: Phase::Ask, .. });
        self.stage = stage;
        self.tries = 0;
        self.send(now);
    }

    /// Sends what the stage asks, once more.
    fn send(&mut self, now: Timestamp<Raw>) {
        let version = || message(0x0a, 0x04, &[]);
        let bytes = match self.stage {
            Stage::Version | Stage::AtSpeed { .. } => Some(version()),
            Stage::Port { keys: false } => Some(setting::ask_port()),
            Stage::Port { keys: true } => Some(setting::get_keys([BAUD].into_iter())),
            Stage::Setting { way, phase: Phase::Set } => self.way(way).map(|way| way.set.clone()),
            Stage::Setting { way, .. } => self.way(way).map(|way| way.ask.clone()),
            Stage::Settling { .. } | Stage::Over => None,
        };
        self.transmit.extend(bytes);
        self.tries += 1;
        let patience = if self.tries_a_speed() { PATIENCE_AT_A_SPEED } else { PATIENCE };
        self.due = Some(now + patience);
    }

    fn end(&mut self, outcome: Outcome) {
        self.stage = Stage::Over;
        self.settings.clear();
        self.due = None;
        self.outcome = Some(outcome);
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::NoAnswer => "no answer",
            Self::OtherValue => "acknowledged, and set otherwise",
            Self::NotTold => "acknowledged, and not told when asked",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(not_taken) if not_taken.is_empty() => f.write_str("it is set up"),
            Self::Done(not_taken) => {
                let list: Vec<String> = not_taken.iter().map(|n| format!("{} ({})", n.subject, n.why)).collect();
                write!(f, "it is set up but for {}", list.join(", "))
            }
            Self::NoAnswer => f.write_str("it does not answer: it is no u-blox, or the line to it is not connected"),
            Self::Lost(baud) => write!(f, "it was told to speak at {baud} bit/s, and is not heard since"),
        }
    }
}
