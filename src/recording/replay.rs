//! From a recording: the same calls on a new loop.

use std::collections::BTreeMap;
use std::io::BufRead;

use refclocks::time::{Raw, Span, Timestamp, Utc};
use thiserror::Error;

use super::association::{Came, Turn, Whose};
use super::call::{Call, is_possible};
use super::contents::Contents;
use super::fault::Faults;
use super::rerun::{Measured, Reruns};
use super::{Header, Line, OLDEST_VERSION, VERSION, digest};
use crate::clock::{DisciplinedClock, SoftwareClock};
use crate::core::engine::EngineConfig;
use crate::core::event::Event;
use crate::core::measurement::SourceId;
use crate::core::memory::Memory;
use crate::core::snapshot::Snapshot;
use crate::core::source::ServerSays;
use crate::ntp::reference_id::reference_id;

/// Why a recording cannot be replayed.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// It could not be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// It is none.
    #[error("its first line is not that of a recording ({0})")]
    NotARecording(String),
    /// It is of another version.
    #[error("it has version {0} of the format, and this program reads {OLDEST_VERSION} to {VERSION}")]
    Version(u32),
    /// A line is none of ours.
    #[error("line {line} is not one of a recording: {error}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        error: String,
    },
    /// The memory it begins with cannot be read.
    #[error("what the last life had learned cannot be read: {0}")]
    Memory(String),
}

/// The loop as it stood when a recording began.
///
/// # Errors
///
/// [`ReplayError::Memory`].
pub fn begin(header: &Header) -> Result<DisciplinedClock, ReplayError> {
    let memory = Memory::from_text(&header.memory).map_err(|error| ReplayError::Memory(error.to_string()))?;
    let config = EngineConfig {
        sources: Vec::new(),
        step: header.step,
        holdover_budget: header.holdover_budget,
        local: header.local,
        utc: header.utc,
        table_until: header.table_until,
        steers_realtime: false,
    };
    let raw = header.at.raw_after;
    Ok(DisciplinedClock::new(config, &memory, Box::new(SoftwareClock::new(raw, header.clock)), raw))
}

/// Reads the first line.
///
/// # Errors
///
/// That it is not a recording, or not one for us.
pub fn header(text: &str) -> Result<Header, ReplayError> {
    let not = |error: serde_json::Error| ReplayError::NotARecording(error.to_string());
    let value: serde_json::Value = serde_json::from_str(text).map_err(not)?;
    match value.get("refclockd_recording").and_then(serde_json::Value::as_u64) {
        Some(version) if (u64::from(OLDEST_VERSION)..=u64::from(VERSION)).contains(&version) => {
            let header: Header = serde_json::from_value(value).map_err(not)?;
            let possible = is_possible(&header.step) && (1e-9..=1e3).contains(&header.holdover_budget);
            possible.then_some(header).ok_or_else(|| ReplayError::NotARecording("no configuration says that".into()))
        }
        Some(version) => Err(ReplayError::Version(u32::try_from(version).unwrap_or(u32::MAX))),
        None => Err(ReplayError::NotARecording("it has no `refclockd_recording`".into())),
    }
}

/// What a replay came to.
#[derive(Debug)]
pub struct Replayed {
    /// What there is in the recording.
    pub contents: Contents,
    /// Calls made.
    pub calls: u64,
    /// Turns of NTP associations taken.
    pub turns: u64,
    /// Decisions that were compared, and those that were others.
    pub compared: u64,
    /// See there.
    pub different: u64,
    /// Requests, outcomes of datagrams and exchanges that were others.
    pub otherwise: u64,
    /// The first of all that was otherwise.
    pub first: Option<Difference>,
    /// How it stood at the end.
    pub last: Snapshot,
}

/// Something that was otherwise than recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The line of the recording.
    pub line: usize,
    /// What.
    pub words: String,
}

impl Replayed {
    fn is_otherwise(&mut self, line: usize, words: String) {
        self.otherwise += 1;
        self.first.get_or_insert(Difference { line, words });
    }
}

/// What can be seen of a replay.
#[derive(Clone, Copy, Debug)]
pub enum Scene<'a> {
    /// Something happened, by our clock's time.
    Told(Timestamp<Utc>, &'a Event),
    /// All that came at one wake-up has been dealt with.
    Decided(&'a Snapshot),
    /// Bytes came from a receiver.
    Heard(SourceId, &'a [u8]),
    /// This is the next line, which is played now.
    Line(&'a Line),
}

/// Replays a recording. With faults, decisions are made anew,
/// and are not compared.
///
/// # Errors
///
/// That it cannot be read, with the line.
pub fn replay(
    mut file: impl BufRead,
    faults: Option<&mut Faults>,
    mut see: impl FnMut(Scene<'_>),
) -> Result<Replayed, ReplayError> {
    let mut text = String::new();
    file.read_line(&mut text)?;
    let header = header(text.trim_end())?;
    let mut player = Player::new(&header, faults)?;
    for number in 2.. {
        text.clear();
        if file.read_line(&mut text)? == 0 {
            break;
        }
        let read = serde_json::from_str(text.trim_end()).map_err(|error| error.to_string());
        let played = read.and_then(|line| player.play(number, line, &mut see));
        played.map_err(|error| ReplayError::Line { line: number, error })?;
    }
    let Player { replayed, .. } = player;
    Ok(Replayed { contents: replayed.contents.finish(), ..replayed })
}

/// Plays one line after the other.
struct Player<'a> {
    clock: DisciplinedClock,
    reruns: Reruns,
    faults: Option<&'a mut Faults>,
    order: Order,
    replayed: Replayed,
    /// What servers said of themselves and us last, for exchanges that the recording does not have.
    said: BTreeMap<SourceId, ServerSays>,
}

impl<'a> Player<'a> {
    fn new(header: &Header, faults: Option<&'a mut Faults>) -> Result<Self, ReplayError> {
        let clock = begin(header)?;
        let last = clock.snapshot(header.at.raw_after);
        let contents = Contents::new(header);
        let replayed =
            Replayed { contents, calls: 0, turns: 0, compared: 0, different: 0, otherwise: 0, first: None, last };
        let order = Order { last: header.at.raw_after, sources: 0 };
        Ok(Self { clock, reruns: Reruns::new(faults.is_some()), faults, order, replayed, said: BTreeMap::new() })
    }

    fn play(&mut self, number: usize, line: Line, see: &mut impl FnMut(Scene<'_>)) -> Result<(), String> {
        self.replayed.contents.count(&line);
        see(Scene::Line(&line));
        match line {
            Line::Call(call) => {
                self.order.admits(&call)?;
                if let Some(now) = call.at() {
                    self.take_late_datagrams(now)?;
                }
                let calls = match self.faults.as_deref_mut() {
                    Some(faults) => faults.pass(*call),
                    None => vec![*call],
                };
                for call in calls {
                    self.tell_new_exchanges(&call, see);
                    if let Some(call) = self.as_rerun(number, call) {
                        self.make(&call, see);
                    }
                }
            }
            Line::Heard { source, bytes, .. } => see(Scene::Heard(source, &bytes)),
            Line::Looked { .. } => {}
            Line::Ntp { of, turn } => {
                self.order.admits_turn(&turn)?;
                if let Some(now) = turn.at() {
                    self.take_late_datagrams(now)?;
                }
                self.take(number, of, turn)?;
            }
            Line::Decided { at, digest: said } => {
                let snapshot = self.clock.snapshot(at);
                if self.faults.is_none() {
                    self.replayed.compared += 1;
                    if digest(&snapshot) != said {
                        self.replayed.different += 1;
                        let words = "another decision".to_owned();
                        self.replayed.first.get_or_insert(Difference { line: number, words });
                    }
                }
                see(Scene::Decided(&snapshot));
                self.replayed.last = snapshot;
            }
        }
        Ok(())
    }

    /// One turn of an NTP association, and what is done to a datagram on its way.
    fn take(&mut self, number: usize, of: Whose, turn: Turn) -> Result<(), String> {
        self.replayed.turns += 1;
        let turn = match (turn, self.faults.as_deref_mut(), self.reruns.source_of(of)) {
            (Turn::Came(came), Some(faults), Some(source)) => match faults.datagram(source, of, came) {
                Some(came) => Turn::Came(came),
                None => return Ok(()),
            },
            (turn, ..) => turn,
        };
        if let Some(words) = self.reruns.handle(of, &turn)? {
            self.replayed.is_otherwise(number, words);
        }
        Ok(())
    }

    fn take_late_datagrams(&mut self, now: Timestamp<Raw>) -> Result<(), String> {
        while let Some((of, came)) = self.faults.as_deref_mut().and_then(|faults| faults.late_datagram(now)) {
            self.reruns.handle(of, &Turn::Came(came))?;
        }
        Ok(())
    }

    /// A call that follows from datagrams follows from them now as well.
    fn as_rerun(&mut self, number: usize, call: Call) -> Option<Call> {
        match call {
            Call::Exchange { source, measurement, says, at } if self.reruns.has(source) => {
                self.said.insert(source, says);
                let Some(Measured { measurement: now, .. }) = self.reruns.take_recorded(source) else {
                    // With faults each is told as it comes.
                    if self.faults.is_none() {
                        self.replayed.is_otherwise(number, "an exchange that follows from no datagram".to_owned());
                    }
                    return None;
                };
                let (now, says_now) = now.hand_over(now.at, &self.replayed.last.utc);
                let says_now = ServerSays { id: says.id, our_id: says.our_id, ..says_now };
                if (now, says_now) != (measurement, says) {
                    self.replayed.is_otherwise(number, "another measurement of the same datagram".to_owned());
                }
                Some(Call::Exchange { source, measurement: now, says: says_now, at })
            }
            Call::Reach { source, reach, poll } if self.faults.is_some() => {
                let (reach, poll) = self.reruns.standing(source).unwrap_or((reach, poll));
                Some(Call::Reach { source, reach, poll })
            }
            call => Some(call),
        }
    }

    /// Exchanges that the recording does not have are told when something else is, of the same instant.
    fn tell_new_exchanges(&mut self, call: &Call, see: &mut impl FnMut(Scene<'_>)) {
        let (Call::Report { .. } | Call::Exchange { .. } | Call::Timeout(_), Some(at)) = (call, call.at()) else {
            return;
        };
        while let Some((source, Measured { measurement, address, .. })) = self.reruns.take_new() {
            let (measurement, says) = measurement.hand_over(measurement.at, &self.replayed.last.utc);
            let before = self.said.get(&source).copied();
            let id = before.map_or_else(|| reference_id(address.ip()), |before| before.id);
            let our_id = before.map(|before| before.our_id).unwrap_or_default();
            let says = ServerSays { id, our_id, ..says };
            self.make(&Call::Exchange { source, measurement, says, at }, see);
        }
    }

    fn make(&mut self, call: &Call, see: &mut impl FnMut(Scene<'_>)) {
        self.replayed.calls += 1;
        call.make(&mut self.clock);
        while self.clock.poll_wanted_poll().is_some() {}
        while let Some(event) = self.clock.poll_event() {
            let raw = call.at().unwrap_or(self.order.last);
            let utc = self.clock.snapshot(raw).utc_at(raw).0;
            see(Scene::Told(utc, &event));
        }
    }
}

/// No daemon decides nothing for so long.
const LONGEST_PAUSE: Span = Span::from_whole_seconds(86_400);

/// The order that calls come in.
struct Order {
    last: Timestamp<Raw>,
    sources: usize,
}

/// Who records a year without a call has another problem.
const LONGEST_SILENCE: Span = Span::from_whole_seconds(366 * 86_400);

impl Order {
    /// May this call come next?
    fn admits(&mut self, call: &Call) -> Result<(), &'static str> {
        if matches!(call, Call::AddSource(_)) {
            self.sources += 1;
        }
        if call.source().is_some_and(|source| source >= self.sources) {
            return Err("it is of a source that has not come");
        }
        if !call.is_possible() {
            return Err("no daemon could have been told that");
        }
        let Some(at) = call.at() else { return Ok(()) };
        if at < self.last {
            return Err("it goes back in time");
        }
        if at - self.last > LONGEST_SILENCE {
            return Err("it comes more than a year after the one before");
        }
        self.last = at;
        Ok(())
    }

    /// May an association see this next? Its stamps are a little older than the calls before, or newer.
    fn admits_turn(&self, turn: &Turn) -> Result<(), &'static str> {
        let came = if let Turn::Came(Came { at, .. }) = turn { Some(at.best()) } else { None };
        let is_near = |at: Timestamp<Raw>| (at - self.last).abs() <= LONGEST_PAUSE;
        match turn {
            Turn::Source(source) if *source >= self.sources => Err("it is of a source that has not come"),
            _ if !turn.at().into_iter().chain(came).all(is_near) => Err("it is of another day than what is around it"),
            _ => Ok(()),
        }
    }
}
