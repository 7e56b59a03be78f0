//! What is in a recording, counted: for whoever is sent one.

use std::collections::BTreeMap;
use std::fmt;

use refclocks::Report;
use refclocks::time::{Raw, Realtime, Timestamp, Utc};
use serde::Serialize;

use super::association::{Came, MEASURED, Turn, Whose};
use super::call::Call;
use super::{Header, Line};
use crate::core::measurement::SourceId;
use crate::observe::plain::plain;

/// What is in a recording.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contents {
    /// The version of the format.
    pub format: u32,
    /// The version of the program that wrote it.
    pub program: String,
    /// When it begins, by that machine's clock.
    #[serde(skip)]
    pub begins: Timestamp<Realtime>,
    #[serde(skip)]
    first: Timestamp<Raw>,
    #[serde(skip)]
    last: Timestamp<Raw>,
    /// The sources, in their order.
    pub sources: Vec<Source>,
    #[serde(skip)]
    datagrams: BTreeMap<Whose, Datagrams>,
    /// Which sources the broadcasters and strangers are.
    #[serde(skip)]
    came_by_themselves: BTreeMap<Whose, SourceId>,
}

/// So many reasons are told apart: some have figures in them.
const REASONS: usize = 32;

/// What there is of one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// What reads it.
    pub driver: String,
    /// Where.
    pub address: String,
    /// Bytes that came from it.
    pub bytes: u64,
    /// Looks at the device, where it is looked at: pulses fetched, segments and clocks read.
    pub looks: u64,
    /// Samples that its driver made.
    pub samples: u64,
    /// Pulses.
    pub pulses: u64,
    /// Exchanges that its datagrams came to.
    pub exchanges: u64,
    /// Its datagrams.
    pub datagrams: Datagrams,
}

/// Datagrams of one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Datagrams {
    /// Sent.
    pub sent: u64,
    /// Sent, with the stamp of when they left.
    pub stamped: u64,
    /// Came.
    pub came: u64,
    /// Of those, measured by.
    pub measured: u64,
    /// How many were not, by the reason.
    pub rejected: BTreeMap<String, u64>,
    /// Not heeded, as the access rules say.
    pub restricted: u64,
}

impl Contents {
    /// Nothing yet after the first line.
    pub(super) fn new(header: &Header) -> Self {
        Self {
            format: header.refclockd_recording,
            program: header.program.clone(),
            begins: header.at.realtime,
            first: header.at.raw_after,
            last: header.at.raw_after,
            sources: Vec::new(),
            datagrams: BTreeMap::new(),
            came_by_themselves: BTreeMap::new(),
        }
    }

    /// How long it is, s.
    pub fn seconds(&self) -> f64 {
        (self.last - self.first).seconds()
    }

    /// Counts a line.
    pub(super) fn count(&mut self, line: &Line) {
        match line {
            Line::Call(call) => {
                if let Some(at) = call.at() {
                    self.last = self.last.max(at);
                }
                self.count_call(call);
            }
            Line::Heard { source, bytes, .. } => self.of(*source, |source| source.bytes += bytes.len() as u64),
            Line::Looked { source, .. } => self.of(*source, |source| source.looks += 1),
            Line::Decided { .. } => {}
            Line::Ntp { of, turn: Turn::Source(source) } => drop(self.came_by_themselves.insert(*of, *source)),
            Line::Ntp { of, turn } => self.datagrams.entry(*of).or_default().count(turn),
        }
    }

    fn count_call(&mut self, call: &Call) {
        match call {
            Call::AddSource(config) => self.sources.push(Source {
                name: config.name.clone(),
                driver: config.driver.to_owned(),
                address: config.address.clone(),
                ..Source::default()
            }),
            Call::Report { source, report: Report::Sample(_), .. } => self.of(*source, |source| source.samples += 1),
            Call::Report { source, report: Report::Pulse(_), .. } => self.of(*source, |source| source.pulses += 1),
            Call::Exchange { source, .. } => self.of(*source, |source| source.exchanges += 1),
            _ => {}
        }
    }

    fn of(&mut self, source: SourceId, count: impl FnOnce(&mut Source)) {
        if let Some(source) = self.sources.get_mut(source) {
            count(source);
        }
    }

    /// All is counted: datagrams go to the sources they are of.
    pub(super) fn finish(mut self) -> Self {
        for (of, datagrams) in std::mem::take(&mut self.datagrams) {
            let source = match of {
                Whose::Source(source) => Some(source),
                Whose::Listener(_) | Whose::Heard(..) | Whose::Stranger(_) => self.came_by_themselves.get(&of).copied(),
            };
            if let Some(source) = source {
                self.of(source, |source| source.datagrams = datagrams);
            }
        }
        self
    }
}

impl Datagrams {
    fn count(&mut self, turn: &Turn) {
        match turn {
            Turn::Sent { .. } => self.sent += 1,
            Turn::Departed(_) => self.stamped += 1,
            Turn::Restricted { .. } => self.restricted += 1,
            Turn::Came(Came { outcome, .. }) => {
                self.came += 1;
                if outcome == MEASURED {
                    self.measured += 1;
                } else if self.rejected.len() < REASONS || self.rejected.contains_key(outcome) {
                    *self.rejected.entry(outcome.clone()).or_default() += 1;
                }
            }
            _ => {}
        }
    }
}

/// `11 bytes`, or nothing for none.
fn some(count: u64, what: &str) -> Option<String> {
    (count > 0).then(|| format!("{count} {what}"))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Datagrams { sent, stamped, came, measured, rejected, restricted } = &self.datagrams;
        let counts = [
            some(self.bytes, "bytes"),
            some(self.looks, "looks"),
            some(self.samples, "samples"),
            some(self.pulses, "pulses"),
            (*sent > 0).then(|| format!("{sent} datagrams sent ({stamped} with a stamp of their leaving)")),
            (*came > 0).then(|| format!("{came} came, {measured} measured by")),
            some(*restricted, "not heeded, as `restrict` says"),
            (*came == 0).then(|| some(self.exchanges, "exchanges")).flatten(),
        ];
        let counts: Vec<String> = counts.into_iter().flatten().collect();
        let counts = if counts.is_empty() { "nothing came".to_owned() } else { counts.join(", ") };
        write!(f, "{} ({} {}): {counts}", plain(&self.name), self.driver, plain(&self.address))?;
        rejected.iter().try_for_each(|(reason, count)| write!(f, "\n    {count} x {}", plain(reason)))
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (begins, seconds) = (self.begins.reinterpret::<Utc>(), self.seconds());
        writeln!(
            f,
            "Recorded by refclockd {} (format {}), from {begins:.0} on by that machine's clock, {seconds:.0} s.",
            plain(&self.program),
            self.format
        )?;
        self.sources.iter().try_for_each(|source| writeln!(f, "  {source}"))
    }
}
