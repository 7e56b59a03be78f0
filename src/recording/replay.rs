//! From a recording: the same calls on a new loop.

use std::io::BufRead;

use refclocks::time::{Raw, Span, Timestamp, Utc};
use thiserror::Error;

use super::call::{Call, is_possible};
use super::fault::Faults;
use super::{Header, Line, VERSION, bytes_of, digest};
use crate::clock::{DisciplinedClock, SoftwareClock};
use crate::core::engine::EngineConfig;
use crate::core::event::Event;
use crate::core::measurement::SourceId;
use crate::core::memory::Memory;
use crate::core::snapshot::Snapshot;

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
    #[error("it has version {0} of the format, and this program reads version {VERSION}")]
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
        Some(version) if version == u64::from(VERSION) => {
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
    /// Calls made.
    pub calls: u64,
    /// Decisions that were compared, and those that were others.
    pub compared: u64,
    /// See there.
    pub different: u64,
    /// The first line that says another decision.
    pub first_different: Option<usize>,
    /// How it stood at the end.
    pub last: Snapshot,
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
}

/// Replays a recording. With faults, decisions are made anew,
/// and are not compared.
///
/// # Errors
///
/// That it cannot be read, with the line.
pub fn replay(
    mut file: impl BufRead,
    mut faults: Option<&mut Faults>,
    mut see: impl FnMut(Scene<'_>),
) -> Result<Replayed, ReplayError> {
    let mut text = String::new();
    file.read_line(&mut text)?;
    let header = header(text.trim_end())?;
    let mut clock = begin(&header)?;
    let last = clock.snapshot(header.at.raw_after);
    let mut order = Order { last: header.at.raw_after, sources: 0 };
    let mut replayed = Replayed { calls: 0, compared: 0, different: 0, first_different: None, last };
    for number in 2.. {
        text.clear();
        if file.read_line(&mut text)? == 0 {
            break;
        }
        let read = serde_json::from_str(text.trim_end());
        match read.map_err(|error| ReplayError::Line { line: number, error: error.to_string() })? {
            Line::Call(call) => {
                order.admits(&call).map_err(|error| ReplayError::Line { line: number, error: error.into() })?;
                let calls = match faults.as_deref_mut() {
                    Some(faults) => faults.pass(*call),
                    None => vec![*call],
                };
                for call in calls {
                    replayed.calls += 1;
                    make(&call, &mut clock, &mut see);
                }
            }
            Line::Heard { source, bytes, .. } => {
                let bytes = bytes_of(&bytes).ok_or_else(|| "its bytes are not hexadecimal digits".to_owned());
                let bytes = bytes.map_err(|error| ReplayError::Line { line: number, error })?;
                see(Scene::Heard(source, &bytes));
            }
            Line::Decided { at, digest: said } => {
                let snapshot = clock.snapshot(at);
                if faults.is_none() {
                    replayed.compared += 1;
                    if digest(&snapshot) != said {
                        replayed.different += 1;
                        replayed.first_different.get_or_insert(number);
                    }
                }
                see(Scene::Decided(&snapshot));
                replayed.last = snapshot;
            }
        }
    }
    Ok(replayed)
}

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
}

fn make(call: &Call, clock: &mut DisciplinedClock, see: &mut impl FnMut(Scene<'_>)) {
    call.make(clock);
    while clock.poll_wanted_poll().is_some() {}
    while let Some(event) = clock.poll_event() {
        let raw = call.at().unwrap_or(Timestamp::EPOCH);
        let utc = clock.snapshot(raw).utc_at(raw).0;
        see(Scene::Told(utc, &event));
    }
}
