//! One source as the core sees it: its recent measurements, its reach, the interval it stands for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use refclocks::time::{Raw, Span, Timestamp};
use refclocks::{DevicePhase, DeviceReason, DeviceState, Health, LeapIndicator, ReceiverReport, ReferenceId};

use serde::{Deserialize, Deserializer, Serialize};

use super::bias::Bias;
use super::by_hand::{FIXED, NOISE};
use super::day::Repair;
use super::delays::DelayHistogram;
use super::edge::Edges;
use super::measurement::{Measurement, SourceId};
use super::numerics::median;
use super::pairing::{LearnedDelay, MessageRecord, Numbering, PulseTrain};
use super::polling::Polling;
use super::sawtooth::Sawtooth;
use super::selection::SelectionOptions;
use super::snapshot::{SourceKind, SourceReport};
use super::verdict::Verdict;

/// What the configuration says of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceConfig {
    /// Name, unique.
    pub name: String,
    /// Reference ID.
    pub refid: ReferenceId,
    /// Driver or protocol.
    #[serde(deserialize_with = "driver")]
    pub driver: DriverName,
    /// Device path or address.
    pub address: String,
    /// What kind of source.
    pub kind: SourceKind,
    /// Pulses: name of the only source that may number them.
    pub lock: Option<String>,
    /// Messages: the delay after the pulse, when the operator gives it, s.
    pub delay: Option<f64>,
    /// What is known of the stamps' constant lateness (cable, interrupt), s; taken off each stamp.
    pub offset: f64,
    /// What the operator says of it.
    pub options: SelectionOptions,
    /// Stratum it gives itself; 0 for reference clocks.
    pub stratum: u8,
}

/// The name of a driver.
pub type DriverName = &'static str;

/// The drivers there are. Of another version's, it is only known that it was one.
fn driver<'de, D: Deserializer<'de>>(from: D) -> Result<DriverName, D::Error> {
    const KNOWN: [&str; 8] = ["nmea", "ubx", "pps", "phc", "gpsd", "shm", "sock", "ntp"];
    let name = String::deserialize(from)?;
    Ok(KNOWN.into_iter().find(|known| *known == name).unwrap_or("another"))
}

impl SourceConfig {
    /// A source of which the operator says nothing: its reference ID is its name, as far as that can be one,
    /// and its driver the usual one of its kind.
    pub fn new(name: &str, kind: SourceKind) -> Self {
        let driver = match kind {
            SourceKind::Message => "nmea",
            SourceKind::Pulse => "pps",
            SourceKind::NumberedPulse => "shm",
            SourceKind::Network => "ntp",
            SourceKind::Manual => "manual",
        };
        Self {
            name: name.to_owned(),
            refid: ReferenceId::from_name(name).unwrap_or_default(),
            driver,
            address: String::new(),
            kind,
            lock: None,
            delay: None,
            offset: 0.0,
            options: SelectionOptions::default(),
            stratum: 0,
        }
    }
}

/// Who stamped both ends of our part of an exchange with a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stamps {
    /// The network card.
    Hardware,
    /// The kernel.
    #[default]
    Kernel,
    /// We ourselves, at one end at least.
    Daemon,
}

/// What a server said of itself in its last answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerSays {
    /// Round trip to its primary reference, s.
    pub root_delay: f64,
    /// Its dispersion, s.
    pub root_dispersion: f64,
    /// Its stratum.
    pub stratum: u8,
    /// Its reference ID.
    pub refid: ReferenceId,
    /// Its leap indicator.
    pub leap: LeapIndicator,
    /// The reference ID that stands for its address.
    pub id: ReferenceId,
    /// The reference ID that stands for ours, as it sees it.
    pub our_id: ReferenceId,
    /// Who stamped our part of the exchange.
    #[serde(default, skip_serializing_if = "Stamps::are_usual")]
    pub stamps: Stamps,
}

impl Stamps {
    fn are_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// Measurements remembered.
const KEPT: usize = 64;
/// Measurements that the interval is made of.
const RECENT: usize = 8;

/// Standard deviations, as a receiver gives them, in a half-width.
const SIGMAS: f64 = 3.0;

/// A source.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub config: SourceConfig,
    pub device: Option<DeviceState>,
    pub health: Health,
    pub receiver: Option<ReceiverReport>,
    pub recent: VecDeque<Measurement>,
    pub last: Option<Timestamp<Raw>>,
    pub samples: u64,
    /// Polls or seconds, newest in the lowest bit; of a reference clock, as of `last`.
    pub reach: u8,
    pub poll: i8,
    pub verdict: Verdict,
    /// Messages: the learned delay.
    pub delay: Option<LearnedDelay>,
    /// Messages: how late they came, one by one.
    pub delays: Arc<DelayHistogram>,
    /// Messages: the record against each pulse source.
    pub records: BTreeMap<SourceId, MessageRecord>,
    /// Pulses.
    pub train: PulseTrain,
    pub numbering: Numbering,
    pub numbered_by: Option<SourceId>,
    /// Pulses: which edge counts, where both are reported.
    pub edges: Edges,
    /// Pulses: what the receiver says of each.
    pub sawtooth: Sawtooth,
    /// Since when the numbering is contradicted.
    pub contradicted_since: Option<Timestamp<Raw>>,
    /// What is added to its dates, since others agree that it is wrong by whole days.
    pub repair: Option<Repair>,
    /// What it says of a leap second to come.
    pub leap: Option<LeapIndicator>,
    /// Network.
    pub says: ServerSays,
    /// Network: what it is off by, learned from something better.
    pub bias: Option<Bias>,
    /// How the server stands, in words, and what to do about it.
    pub server_state: Option<(String, Option<String>)>,
    /// Network: the operator wants it not to be asked.
    pub offline: bool,
    pub polling: Polling,
    /// Offset from our line and excess delay of the last answer, s.
    pub last_answer: Option<(f64, f64)>,
}

/// What a source stands for at an instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    /// local - reference against the common line, s.
    pub offset: f64,
    /// Half-width that averaging does not shrink, s.
    pub fixed: f64,
    /// How much of that is only there if the way to a server and the way back take unequally long, s.
    pub path: f64,
    /// Half-width, s.
    pub width: f64,
    /// One standard deviation of single measurements, s.
    pub jitter: f64,
}

impl Source {
    pub fn new(config: SourceConfig, known_delay: Option<LearnedDelay>) -> Self {
        let delay = config.delay.map(given).or(known_delay);
        let is_device = !matches!(config.kind, SourceKind::Network | SourceKind::Manual);
        Self {
            device: is_device.then_some(DeviceState {
                phase: DevicePhase::Opening,
                reason: DeviceReason::NotStarted,
                since: Timestamp::EPOCH,
            }),
            health: Health::default(),
            receiver: None,
            recent: VecDeque::with_capacity(KEPT),
            last: None,
            samples: 0,
            reach: 0,
            poll: 0,
            verdict: Verdict::NoData,
            delays: Arc::default(),
            records: BTreeMap::new(),
            delay,
            train: PulseTrain::default(),
            numbering: Numbering::Nothing,
            numbered_by: None,
            edges: Edges::default(),
            sawtooth: Sawtooth::default(),
            contradicted_since: None,
            repair: None,
            leap: None,
            says: ServerSays::default(),
            bias: None,
            server_state: None,
            offline: false,
            polling: Polling::default(),
            last_answer: None,
            config,
        }
    }

    /// What is added to its dates: whole days.
    pub fn days_added(&self) -> Span {
        Span::from_whole_seconds(86_400 * self.repair.as_ref().map_or(0, |repair| repair.days))
    }

    /// What it says is taken as it is again, and what it said is forgotten.
    pub fn forget_repair(&mut self) -> Option<Repair> {
        let repair = self.repair.take()?;
        self.recent.clear();
        self.records.clear();
        Some(repair)
    }

    /// Notes a measurement.
    pub fn push(&mut self, m: Measurement) {
        self.recent.push_back(m);
        if self.recent.len() > KEPT {
            self.recent.pop_front();
        }
        self.samples += 1;
    }

    /// What it measured so far says nothing of what it measures from now on.
    pub fn forget_measurements(&mut self) {
        self.recent.clear();
        self.samples = 0;
        self.last_answer = None;
        self.bias = None;
    }

    /// Network: by how much the round trip of an answer exceeds the least of the last ones, s.
    pub fn excess_delay(&self, m: &Measurement) -> f64 {
        let delay = m.delay.unwrap_or(0.0);
        delay - self.recent.iter().filter_map(|m| m.delay).fold(delay, f64::min)
    }

    /// A server that has its time from us knows nothing that we do not. On a loopback address many
    /// servers are one.
    pub fn follows_us(&self) -> bool {
        let ServerSays { stratum, refid, our_id, .. } = self.says;
        stratum > 1 && refid == our_id && our_id != ReferenceId::default() && our_id.0[0] != 127
    }

    /// A measurement without the bias that is known.
    pub fn unbiased(&self, m: Measurement) -> Measurement {
        match self.bias.as_ref().and_then(Bias::learned) {
            Some((bias, _)) => Measurement { tai: m.tai + Span::from_seconds(bias), ..m },
            None => m,
        }
    }

    /// How wrong it may be once its bias is taken off, s; `None` while that is not known. Half of the bias
    /// may be gone with the next change of route.
    pub fn doubt_without_bias(&self) -> Option<f64> {
        let (bias, sd) = self.bias.as_ref()?.learned()?;
        Some(self.says.root_dispersion + 0.5 * bias.abs() + 4.0 * sd)
    }

    /// Messages: the record against this pulse source.
    pub fn record(&mut self, pulse: SourceId) -> &mut MessageRecord {
        let known = self.delay.filter(LearnedDelay::is_settled).map(|d| d.mean);
        self.records.entry(pulse).or_insert_with(|| MessageRecord::new(known))
    }

    /// Pulses: may this source number them?
    pub fn may_be_numbered_by(&self, name: &str) -> bool {
        self.config.lock.as_deref().is_none_or(|lock| lock == name)
    }

    /// Something came from a reference clock. It counts as if it were polled each second.
    pub fn arrived(&mut self, at: Timestamp<Raw>) {
        let seconds = self.last.map_or(0.0, |last| (at - last).seconds().round());
        self.reach = shifted(self.reach, seconds) | 1;
        self.last = Some(at);
    }

    fn reach_at(&self, now: Timestamp<Raw>) -> u8 {
        match self.last.filter(|_| self.device.is_some()) {
            // The next one may be late by half a second before it is missed.
            Some(last) => shifted(self.reach, ((now - last).seconds() - 0.5).floor()),
            None => self.reach,
        }
    }

    /// Has something come lately: within 4 s of a clock that ticks each second, or 3 polls?
    pub fn is_fresh(&self, now: Timestamp<Raw>) -> bool {
        let patience = match self.config.kind {
            SourceKind::Network => 3.5 * libm::exp2(f64::from(self.poll.max(2))),
            SourceKind::Message => 5.0,
            SourceKind::Pulse | SourceKind::NumberedPulse => 4.0,
            // What was set stays set.
            SourceKind::Manual => f64::INFINITY,
        };
        self.recent.back().is_some_and(|m| (now - m.raw).seconds() < patience)
    }

    /// Half-width of a message's unknown or imperfectly known delay, s.
    fn delay_uncertainty(&self) -> f64 {
        match self.delay {
            // Receivers change their mind by more than their jitter.
            Some(delay) if delay.is_settled() => 0.01 + 4.0 * delay.sd(),
            _ => 0.5,
        }
    }

    /// The delay of its messages, if it was learned and not given.
    pub fn learned_delay(&self) -> Option<LearnedDelay> {
        self.delay.filter(|d| self.config.delay.is_none() && d.is_settled())
    }

    /// Is the delay of its messages known?
    pub fn is_calibrated(&self) -> bool {
        self.config.kind != SourceKind::Message || self.delay.is_some_and(|d| d.is_settled())
    }

    /// The delay to take off a message: as far as it is known, or the middle of what is possible, s.
    pub fn message_delay(&self) -> f64 {
        self.delay.map_or(0.5, |d| d.mean)
    }

    /// Its last few measurements, the newest first, if they are not too old.
    fn lately(&self, now: Timestamp<Raw>) -> impl Iterator<Item = &Measurement> {
        // However seldom a server is polled, its last few answers count.
        let (most, oldest) = match self.config.kind {
            SourceKind::Manual => (1, f64::INFINITY),
            _ => (RECENT, (libm::exp2(f64::from(self.poll)) * RECENT as f64).max(4096.0)),
        };
        self.recent.iter().rev().take(most).take_while(move |m| (now - m.raw).seconds() < oldest)
    }

    /// The one of them whose round trip took the least time.
    fn quickest(&self, now: Timestamp<Raw>) -> Option<&Measurement> {
        self.lately(now).min_by(|a, b| a.delay.unwrap_or(0.0).total_cmp(&b.delay.unwrap_or(0.0)))
    }

    /// The half-width of its interval that averaging does not shrink, and how much of that is its path's, s.
    /// `poor` is what its receiver's fix is to be doubted by, s.
    pub fn fixed(&self, now: Timestamp<Raw>, poor: f64) -> Option<(f64, f64)> {
        let quickest = self.quickest(now)?;
        let (fixed, path) = match self.config.kind {
            SourceKind::Pulse | SourceKind::NumberedPulse => (0.0, 0.0),
            SourceKind::Message => (self.delay_uncertainty(), 0.0),
            SourceKind::Manual => (FIXED + 4.0 * NOISE, 0.0),
            SourceKind::Network => {
                let path = 0.5 * (quickest.delay.unwrap_or(0.0) + self.says.root_delay);
                (path + self.says.root_dispersion, path)
            }
        };
        Some((fixed + poor, path))
    }

    /// By its receiver's own word its time is as poor as this, s: half-width; 0 where it is good, or where
    /// nothing is said.
    pub fn poor_fix(&self) -> f64 {
        let doubt = self.receiver.as_ref().and_then(|receiver| receiver.quality?.doubt());
        SIGMAS * doubt.unwrap_or(0.0)
    }

    /// What it stands for, against a common line from raw instants to local time. `rate_doubt` is how
    /// far that line may be off in rate, s/s; `poor` is what its receiver says against itself, s.
    pub fn interval(
        &self,
        now: Timestamp<Raw>,
        rate_doubt: f64,
        poor: f64,
        local: impl Fn(Timestamp<Raw>) -> refclocks::Timestamp<refclocks::Tai>,
    ) -> Option<Interval> {
        let recent = || self.lately(now);
        let off = |m: &Measurement| (local(m.raw) - m.tai).seconds();
        let newest = recent().next()?;
        let age = (now - newest.raw).seconds();
        let mut offsets = [0.0; RECENT];
        let given = recent().zip(&mut offsets).map(|(m, offset)| *offset = off(m)).count();
        let offsets = offsets.get_mut(..given)?;
        let least = self.quickest(now)?;
        let offset = match self.config.kind {
            SourceKind::Network => off(least),
            _ => median(offsets)?,
        };
        // They are deviations from here on. The median one of a Gaussian is 0.6745 sd.
        offsets.iter_mut().for_each(|o| *o = (*o - offset).abs());
        let jitter = median(offsets)? / 0.6745;
        let (fixed, path) = self.fixed(now, poor)?;
        let span = (newest.raw - recent().last()?.raw).seconds() + age;
        let width = fixed + 4.0 * jitter + 5e-6 + rate_doubt * span;
        Some(Interval { offset, fixed, path, width, jitter })
    }

    pub fn report(&self, interval: Option<Interval>, now: Timestamp<Raw>) -> SourceReport {
        SourceReport {
            name: self.config.name.clone(),
            refid: if self.config.kind == SourceKind::Network { self.says.refid } else { self.config.refid },
            driver: self.config.driver,
            address: self.config.address.clone(),
            kind: self.config.kind,
            device: self.device.clone(),
            server: self.server_state.clone(),
            stamps: (self.config.kind == SourceKind::Network && self.samples > 0).then_some(self.says.stamps),
            verdict: self.verdict.clone(),
            offset: interval.map(|i| i.offset),
            interval: interval.map(|i| i.width),
            jitter: interval.map(|i| i.jitter),
            delay: match self.config.kind {
                SourceKind::Message => self.delay.map(|d| d.mean),
                SourceKind::Network => self.recent.back().and_then(|m| m.delay),
                _ => None,
            },
            delays: Arc::clone(&self.delays),
            bias: self.bias.as_ref().and_then(Bias::learned),
            calibrated: self.is_calibrated(),
            reach: self.reach_at(now),
            poll: self.poll,
            stratum: if self.config.kind == SourceKind::Network { self.says.stratum } else { self.config.stratum },
            last_sample: self.last,
            samples: self.samples,
            health: self.health,
            receiver: self.receiver.clone(),
            sawtooth: self.sawtooth.state(),
            edge: self.edges.told().map(|(edge, by)| (edge, by.map(str::to_owned))),
            repair: self.repair.clone(),
        }
    }
}

/// A message's delay that the operator gave, s: he has seen that it varies.
pub(super) fn given(delay: f64) -> LearnedDelay {
    LearnedDelay::known(delay, 0.02)
}

/// The reach register so many polls later, nothing having come.
fn shifted(reach: u8, polls: f64) -> u8 {
    reach.checked_shl(polls.clamp(0.0, 8.0) as u32).unwrap_or(0)
}

/// The offset that a stamp has from the constant lateness the operator gave.
pub(super) fn without_offset(at: Timestamp<Raw>, config: &SourceConfig) -> Timestamp<Raw> {
    at - Span::from_seconds(config.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reach_counts_seconds_with_and_without_a_sample() {
        let mut source = Source::new(SourceConfig::new("PPS", SourceKind::Pulse), None);
        let at = |seconds: f64| Timestamp::EPOCH + Span::from_seconds(100.0 + seconds);
        assert_eq!(source.reach_at(at(0.0)), 0);
        for second in [0.0, 1.0, 2.01, 2.99, 6.0] {
            source.arrived(at(second));
        }
        // 0, 1, 2 and 3 came, 4 and 5 did not, 6 came.
        let reaches = [6.0, 7.4, 7.6, 12.6, 14.6, 99.0].map(|now| source.reach_at(at(now)));
        assert_eq!(reaches, [0b111_1001, 0b111_1001, 0b1111_0010, 0b0100_0000, 0, 0]);
    }
}
