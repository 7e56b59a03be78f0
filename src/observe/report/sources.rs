//! The sources, one by one.

use std::collections::BTreeMap;

use refclocks::Edge;
use refclocks::time::{Raw, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::numbers::{code_and_data, finite, name_of, nanos, nanos_up, utc_text};
use crate::core::delays::{BIN, DelayHistogram};
use crate::core::sawtooth::SawtoothState;
use crate::core::snapshot::{Snapshot, SourceKind, SourceReport};
use crate::core::source::Stamps;
use crate::core::verdict::Verdict;
use crate::observe::plain::plain;

/// `refclockd.sources/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourcesReport {
    /// Name and version of this layout.
    pub schema: String,
    /// Version of the daemon.
    pub version: String,
    /// What the served clock says, RFC 3339.
    pub time_utc: String,
    /// All sources, in the order of the configuration.
    pub sources: Vec<SourceEntry>,
}

/// A histogram of delays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelayCounts {
    /// Where the first bin begins.
    pub from_ms: i64,
    /// How wide each is.
    pub bin_ms: i64,
    /// How many messages came in each.
    pub counts: Vec<u32>,
}

impl DelayCounts {
    fn of(delays: &DelayHistogram) -> Option<Self> {
        let (first, counts) = delays.counts()?;
        let bin_ms = (BIN * 1e3).round() as i64;
        Some(Self { from_ms: i64::from(first) * bin_ms, bin_ms, counts })
    }
}

/// One source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceEntry {
    /// Its name, unique.
    pub name: String,
    /// Reference ID.
    pub refid: String,
    /// Driver or protocol.
    pub driver: String,
    /// Device path or address.
    pub address: String,
    /// `pulse`, `numbered_pulse`, `message` or `network`.
    pub kind: String,
    /// Stratum it gives itself; 0 for a reference clock, unknown for a server that has not answered.
    pub stratum: Option<u8>,
    /// What we think of it.
    pub verdict: VerdictWords,
    /// local - reference by its last sample, delay taken off.
    pub offset_ns: Option<i64>,
    /// Half-width of what it stands for.
    pub interval_ns: Option<u64>,
    /// One standard deviation of its noise.
    pub jitter_ns: Option<u64>,
    /// Messages: learned delay after the pulse. Network: round trip.
    pub delay_ns: Option<i64>,
    /// Messages: how late they came after the second, one by one.
    pub delay_histogram: Option<DelayCounts>,
    /// Servers: how far it is behind, as was learned from something better; taken off when it feeds the
    /// clock.
    pub bias_ns: Option<i64>,
    /// Is a message's delay learned or configured? Unknown for what has no such delay.
    pub calibrated: Option<bool>,
    /// Of the last eight polls or seconds, how many brought something: `7/8`.
    pub reach: String,
    /// The same as the eight bits that RFC 5905 shows in octal.
    pub reach_octal: String,
    /// Poll interval, s.
    pub poll_s: f64,
    /// Since its last sample, s.
    pub last_s: Option<f64>,
    /// Samples used so far.
    pub samples: u64,
    /// The driver's counters.
    pub health: BTreeMap<String, u64>,
    /// Where its device stands, for a reference clock.
    pub device: Option<DeviceWords>,
    /// Where it stands, for a server.
    pub server: Option<ServerWords>,
    /// Servers: who stamps our part of the exchanges: `hardware`, `kernel` or `daemon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamps: Option<Stamps>,
    /// How the correction of the receiver's sawtooth stands, for a pulse of which the receiver tells it.
    pub sawtooth: Option<SawtoothState>,
    /// For a pulse whose shape does not tell which edge is on the second: the one in use, and who said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<EdgeInUse>,
    /// What is added to its dates, since others agree that it is wrong by whole days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_repair: Option<DateRepair>,
}

/// The edge of a pulse in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeInUse {
    /// `assert` or `clear`.
    pub edge: Edge,
    /// Who knows where the second is; unknown: nobody has said so, it is the likelier one.
    pub by: Option<String>,
}

/// What is added to a receiver's dates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DateRepair {
    /// Days; negative where the receiver is ahead.
    pub days: i64,
    /// Who agrees on that.
    pub by: Vec<String>,
}

/// A verdict: its code and numbers, and its words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictWords {
    /// The code.
    pub code: String,
    /// In one or two words.
    pub word: String,
    /// In one sentence, without a full stop.
    pub text: String,
    /// What is expected next, or what to do.
    pub action: Option<String>,
    /// The verdict's numbers and names.
    #[serde(flatten)]
    pub data: BTreeMap<String, Value>,
}

/// A device's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceWords {
    /// `absent`, `opening`, `waiting_for_fix`, `good`, `stale` or `faulty`.
    pub phase: String,
    /// Why, without a full stop.
    pub reason: String,
    /// What a person can do about it.
    pub action: Option<String>,
    /// For how long, s.
    pub since_s: Option<f64>,
}

/// A server's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerWords {
    /// How it stands, without a full stop.
    pub text: String,
    /// What a person can do about it.
    pub action: Option<String>,
}

impl SourcesReport {
    /// What the snapshot says at the reader's now.
    pub fn new(snapshot: &Snapshot, raw: Timestamp<Raw>) -> Self {
        Self {
            schema: "refclockd.sources/1".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            time_utc: utc_text(snapshot, raw),
            sources: snapshot.sources.iter().map(|s| SourceEntry::new(s, raw)).collect(),
        }
    }
}

impl SourceEntry {
    fn new(source: &SourceReport, raw: Timestamp<Raw>) -> Self {
        let since = |at: Timestamp<Raw>| finite((raw - at).seconds().max(0.0));
        let is_network = source.kind == SourceKind::Network;
        Self {
            name: plain(&source.name).into_owned(),
            refid: source.refid.to_string(),
            driver: source.driver.into(),
            address: plain(&source.address).into_owned(),
            kind: name_of(&source.kind),
            stratum: (!is_network || source.last_sample.is_some()).then_some(source.stratum),
            verdict: VerdictWords::new(&source.verdict),
            offset_ns: source.offset.and_then(nanos),
            interval_ns: source.interval.and_then(nanos_up),
            jitter_ns: source.jitter.and_then(nanos_up),
            delay_ns: source.delay.and_then(nanos),
            delay_histogram: DelayCounts::of(&source.delays),
            bias_ns: source.bias.and_then(|(bias, _)| nanos(bias)),
            calibrated: (source.kind == SourceKind::Message).then_some(source.calibrated),
            reach: format!("{}/8", source.reach.count_ones()),
            reach_octal: format!("{:03o}", source.reach),
            poll_s: 2f64.powi(source.poll.into()),
            last_s: source.last_sample.and_then(since),
            samples: source.samples,
            health: counters(source),
            device: source.device.as_ref().map(|device| DeviceWords {
                phase: name_of(&device.phase),
                reason: plain(&device.reason.to_string()).into_owned(),
                action: device.reason.action().map(|text| plain(&text).into_owned()),
                since_s: since(device.since),
            }),
            server: source.server.as_ref().map(|(text, action)| ServerWords {
                text: plain(text).into_owned(),
                action: action.as_deref().map(|text| plain(text).into_owned()),
            }),
            stamps: source.stamps,
            sawtooth: source.sawtooth,
            edge: source
                .edge
                .as_ref()
                .map(|(edge, by)| EdgeInUse { edge: *edge, by: by.as_deref().map(|by| plain(by).into_owned()) }),
            date_repair: source.repair.as_ref().map(|repair| DateRepair {
                days: repair.days,
                by: repair.by.iter().map(|name| plain(name).into_owned()).collect(),
            }),
        }
    }

    /// Does it deserve a word of its own under a table?
    pub fn is_odd(&self) -> bool {
        let well = matches!(self.verdict.code.as_str(), "selected" | "names_the_second" | "agrees" | "no_select");
        !well || self.device.as_ref().is_some_and(|device| device.phase != "good")
    }
}

impl VerdictWords {
    /// A verdict's words.
    pub fn new(verdict: &Verdict) -> Self {
        let (code, data) = code_and_data(verdict);
        Self {
            code,
            word: verdict.word().into(),
            text: plain(&verdict.to_string()).into_owned(),
            action: verdict.next().map(|text| plain(&text).into_owned()),
            data,
        }
    }
}

fn counters(source: &SourceReport) -> BTreeMap<String, u64> {
    serde_json::to_value(source.health).and_then(serde_json::from_value).unwrap_or_default()
}
