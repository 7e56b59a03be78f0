//! `refclockd replay FILE --samples` of a recording: each sample, pulse and datagram in it, and what came of that.

use std::collections::BTreeMap;

use refclocks::Report;
use refclocks::time::{NtpTimestamp, Raw, Timestamp, Utc};
use serde::Serialize;

use crate::core::measurement::SourceId;
use crate::ntp::packet::Packet;
use crate::observe::plain::plain;
use crate::recording::association::{MEASURED, Turn, Whose};
use crate::recording::call::Call;
use crate::recording::{Header, Line};

/// What one line of a recording says of a source.
#[derive(Debug, PartialEq, Serialize)]
struct Said {
    /// Since the recording began, s.
    after_s: f64,
    /// The source's name.
    source: String,
    /// What it was.
    what: &'static str,
    /// The time that it named, ISO 8601.
    utc: Option<String>,
    /// Was it used for a measurement?
    valid: bool,
    /// Why not.
    why: Option<String>,
}

/// Lists what a recording has, line by line.
pub struct Listing {
    begins: Timestamp<Raw>,
    /// Stamps on the wire lie within 68 years of this.
    pivot: Timestamp<Utc>,
    names: Vec<String>,
    came_by_themselves: BTreeMap<Whose, SourceId>,
    json: bool,
}

impl Listing {
    /// Of the recording that begins so.
    pub fn new(header: &Header, json: bool) -> Self {
        let (begins, pivot) = (header.at.raw_after, header.at.realtime.reinterpret());
        Self { begins, pivot, names: Vec::new(), came_by_themselves: BTreeMap::new(), json }
    }

    /// What to print for a line.
    pub fn line(&mut self, line: &Line) -> Option<String> {
        let said = self.said(line)?;
        if self.json {
            return serde_json::to_string(&said).ok();
        }
        let utc = said.utc.as_deref().unwrap_or("-");
        let why = said.why.as_deref().unwrap_or("used");
        let name = plain(&said.source);
        Some(format!("{:>12.6} s  {name:<16}  {:<8}  {utc:<30}  {}", said.after_s, said.what, plain(why)))
    }

    fn said(&mut self, line: &Line) -> Option<Said> {
        match line {
            Line::Call(call) => match &**call {
                Call::AddSource(config) => {
                    self.names.push(config.name.clone());
                    None
                }
                Call::Report { source, report: Report::Sample(sample), at, .. } => {
                    Some(self.of(*source, at.raw_after, "sample", Some(sample.reference)))
                }
                Call::Report { source, report: Report::Pulse(_), at, .. } => {
                    Some(self.of(*source, at.raw_after, "pulse", None))
                }
                _ => None,
            },
            Line::Ntp { of, turn: Turn::Source(source) } => {
                self.came_by_themselves.insert(*of, *source);
                None
            }
            Line::Ntp { of, turn: Turn::Came(came) } => {
                let source = match of {
                    Whose::Source(source) => Some(*source),
                    _ => self.came_by_themselves.get(of).copied(),
                };
                let transmit = Packet::new_checked(&came.octets).ok().map(|packet| packet.transmit());
                let utc =
                    transmit.filter(|stamp| *stamp != NtpTimestamp::UNKNOWN).map(|stamp| stamp.to_utc(self.pivot));
                let valid = came.outcome == MEASURED;
                let why = (!valid).then(|| came.outcome.clone());
                let said = self.of(source.unwrap_or(SourceId::MAX), came.at.best(), "datagram", utc);
                Some(Said { valid, why, ..said })
            }
            _ => None,
        }
    }

    fn of(&self, source: SourceId, at: Timestamp<Raw>, what: &'static str, utc: Option<Timestamp<Utc>>) -> Said {
        let source = self.names.get(source).cloned().unwrap_or_else(|| "(no source yet)".to_owned());
        let utc = utc.map(|utc| format!("{utc:.9}"));
        Said { after_s: (at - self.begins).seconds(), source, what, utc, valid: true, why: None }
    }
}
