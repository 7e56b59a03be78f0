//! What may go wrong between a source and us, done to a recording on its way: what is decided then?

use std::collections::VecDeque;

use refclocks::time::{Raw, Span, Timestamp};
use refclocks::{DevicePhase, DeviceReason, DeviceState, LocalStamp, Report};

use super::association::{Came, Whose};
use super::call::Call;
use crate::core::measurement::SourceId;
use crate::sim::Rng;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The name of the source it happens to.
    pub source: String,
    /// What.
    pub what: What,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// This share of what it says is lost.
    Lose(f64),
    /// All of it comes so much later, s.
    Delay(f64),
    /// This share of it is not what was said: a bit of the second, of the stamp, or of the datagram is another.
    Corrupt(f64),
    /// It is unplugged from so many seconds after the beginning to so many; of a server no datagram comes meanwhile.
    Unplug(f64, f64),
}

/// Does it to the calls of one recording.
#[derive(Debug)]
pub struct Faults {
    faults: Vec<Fault>,
    rng: Rng,
    start: Timestamp<Raw>,
    names: Vec<String>,
    /// What is on its way, and when it comes.
    late: VecDeque<(Timestamp<Raw>, Call)>,
    late_datagrams: VecDeque<(Whose, Came)>,
    unplugged: Vec<SourceId>,
    done: u64,
}

impl Faults {
    /// These faults, the same for the same seed. `start` is when the recording begins.
    pub fn new(faults: Vec<Fault>, seed: u64, start: Timestamp<Raw>) -> Self {
        let (names, late, unplugged) = (Vec::new(), VecDeque::new(), Vec::new());
        let late_datagrams = VecDeque::new();
        Self { faults, rng: Rng::new(seed), start, names, late, late_datagrams, unplugged, done: 0 }
    }

    /// The first source that is to be at fault and that there never was.
    pub fn stranger(&self) -> Option<&str> {
        self.faults.iter().map(|fault| fault.source.as_str()).find(|name| !self.names.iter().any(|n| n == name))
    }

    /// The sources that there were, in their order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many calls and datagrams are not what they were.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// The calls that are made in place of this one.
    pub fn pass(&mut self, call: Call) -> Vec<Call> {
        if let Call::AddSource(config) = &call {
            self.names.push(config.name.clone());
        }
        let mut calls = Vec::new();
        if let Some(now) = call.at() {
            while self.late.front().is_some_and(|(due, _)| *due <= now) {
                calls.extend(self.late.pop_front().map(|(_, late)| made_at(late, &call)));
            }
        }
        match call {
            Call::Report { source, .. } => calls.extend(self.report(source, call)),
            other => calls.push(other),
        }
        calls
    }

    /// What is wrong with a source.
    fn of(&self, source: SourceId) -> Vec<What> {
        let name = self.names.get(source);
        self.faults.iter().filter(|fault| Some(&fault.source) == name).map(|fault| fault.what).collect()
    }

    /// The datagram that comes in place of this one of a server, if one does.
    pub fn datagram(&mut self, source: SourceId, of: Whose, mut came: Came) -> Option<Came> {
        for what in self.of(source) {
            let since = (came.read - self.start).seconds();
            match what {
                What::Lose(share) if self.rng.uniform() < share => {
                    self.done += 1;
                    return None;
                }
                What::Unplug(from, to) if (from..to).contains(&since) => {
                    self.done += 1;
                    return None;
                }
                What::Corrupt(share) if self.rng.uniform() < share => {
                    self.done += 1;
                    let at = self.rng.bits() as usize % came.octets.len().max(1);
                    let bit = 1 << (self.rng.bits() % 8);
                    came.octets.iter_mut().skip(at).take(1).for_each(|octet| *octet ^= bit);
                    // No signature outlives that.
                    came.signed = came.signed.map(|_| false);
                }
                What::Delay(seconds) => {
                    self.done += 1;
                    let by = Span::from_seconds(seconds);
                    came.at = came.at.later(by);
                    came.read += by;
                    self.late_datagrams.push_back((of, came));
                    return None;
                }
                What::Lose(_) | What::Corrupt(_) | What::Unplug(..) => {}
            }
        }
        Some(came)
    }

    /// The next late datagram that has come by now.
    pub fn late_datagram(&mut self, now: Timestamp<Raw>) -> Option<(Whose, Came)> {
        let at = self.late_datagrams.iter().position(|(_, came)| came.read <= now)?;
        self.late_datagrams.remove(at)
    }

    fn report(&mut self, source: SourceId, mut call: Call) -> Option<Call> {
        for what in self.of(source) {
            let Call::Report { report, at, .. } = &mut call else { return Some(call) };
            let says_time = matches!(report, Report::Sample(_) | Report::Pulse(_));
            let since = (at.raw_after - self.start).seconds();
            match what {
                What::Lose(share) if says_time && self.rng.uniform() < share => {
                    self.done += 1;
                    return None;
                }
                What::Corrupt(share) if says_time && self.rng.uniform() < share => {
                    self.done += 1;
                    self.corrupt(report);
                }
                What::Unplug(from, to) if (from..to).contains(&since) => {
                    self.done += 1;
                    if self.unplugged.contains(&source) {
                        return None;
                    }
                    self.unplugged.push(source);
                    let reason = DeviceReason::Told { words: "unplugged in this replay".into(), action: None };
                    *report = Report::State(DeviceState { phase: DevicePhase::Absent, reason, since: at.raw_after });
                }
                What::Unplug(_, to) if since >= to && self.unplugged.contains(&source) => {
                    self.unplugged.retain(|other| *other != source);
                }
                What::Delay(seconds) if says_time => {
                    self.done += 1;
                    let by = Span::from_seconds(seconds);
                    shift(report, by);
                    let due = at.raw_after + by;
                    self.late.push_back((due, call));
                    return None;
                }
                What::Lose(_) | What::Corrupt(_) | What::Unplug(..) | What::Delay(_) => {}
            }
        }
        Some(call)
    }

    /// Another second by a bit of it, or another stamp by up to a second.
    fn corrupt(&mut self, report: &mut Report) {
        let bit = self.rng.bits() % 32;
        if let Report::Sample(sample) = report
            && self.rng.uniform() < 0.5
        {
            let (seconds, fraction) = sample.reference.to_bits();
            sample.reference = Timestamp::from_bits(seconds ^ (1 << bit), fraction);
        } else {
            let by = self.rng.uniform() - 1.0;
            shift(report, Span::from_seconds(by));
        }
    }
}

/// A late call is made when another one is, of the same instant.
fn made_at(late: Call, other: &Call) -> Call {
    match (late, other) {
        (Call::Report { source, report, health, .. }, Call::Report { at, .. } | Call::Timeout(at)) => {
            Call::Report { source, report, health, at: *at }
        }
        (late, _) => late,
    }
}

/// Moves the local stamp; positive = later.
fn shift(report: &mut Report, by: Span) {
    let local = match report {
        Report::Sample(sample) => &mut sample.local,
        Report::Pulse(pulse) => &mut pulse.local,
        _ => return,
    };
    match local {
        LocalStamp::Raw(at) => *at += by,
        LocalStamp::Realtime(at) => *at += by,
    }
}
