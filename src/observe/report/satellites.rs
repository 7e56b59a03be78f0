//! What the receivers see of the sky.

use refclocks::quality::Quality;
use refclocks::time::{Raw, Timestamp};
use refclocks::ubx::setup::{NotTaken, Outcome};
use refclocks::{DevicePhase, ReceiverReport};
use serde::{Deserialize, Serialize};

use super::numbers::{name_of, nanos_up, utc_text};
use crate::core::snapshot::{Snapshot, SourceReport};
use crate::observe::plain::plain;

/// `refclockd.satellites/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SatellitesReport {
    /// Name and version of this layout.
    pub schema: String,
    /// Version of the daemon.
    pub version: String,
    /// What the served clock says, RFC 3339.
    pub time_utc: String,
    /// The receivers that have said something.
    pub receivers: Vec<ReceiverSky>,
}

/// One receiver's sky.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReceiverSky {
    /// Name of its source.
    pub source: String,
    /// Does it talk now? If not, the rest is what it said last.
    pub current: bool,
    /// `none`, `time`, `two_d` or `three_d`.
    pub fix: Option<String>,
    /// Satellites used.
    pub used: Option<u16>,
    /// Satellites seen; unknown when the receiver does not list them.
    pub seen: Option<u16>,
    /// TAI - UTC as the receiver knows it, s.
    pub tai_minus_utc_s: Option<i32>,
    /// The coming leap second, if the sky has told it of one.
    pub coming_leap: Option<ComingLeapSecond>,
    /// What it says of itself.
    #[serde(flatten)]
    pub condition: Condition,
    /// The satellites: used ones first, the strongest first.
    pub satellites: Vec<SatelliteSeen>,
}

/// What a receiver says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Its antenna: `ok`, `open` or `short`; unknown where it does not measure it.
    pub antenna: Option<String>,
    /// Interference, as it judges it: `none`, `warning` or `critical`.
    pub jamming: Option<String>,
    /// Counterfeit signals, as it judges them: `none`, `indicated` or `affirmed`.
    pub spoofing: Option<String>,
    /// How good its fix is, by its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualityReport>,
    /// How it took what it was to be set to, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_up: Option<SetUp>,
}

/// How good a receiver's fix is, by its own word: standard deviations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QualityReport {
    /// The position: north, east, up.
    pub position_m: Option<[f64; 3]>,
    /// The distances to the satellites.
    pub ranges_m: Option<f64>,
    /// The time.
    pub time_ns: Option<u64>,
    /// Its time as it follows from these, where it is poor: what it stands for is widened by thrice that.
    pub poor_ns: Option<u64>,
    /// The satellite whose signal most likely is wrong, e.g. `G07`, and by how much.
    pub failing: Option<String>,
    /// By how much that one's distance is wrong.
    pub failing_bias_m: Option<f64>,
    /// In words.
    pub text: String,
}

impl QualityReport {
    fn of(quality: &Quality) -> Self {
        Self {
            position_m: quality.position_m,
            ranges_m: quality.ranges_m,
            time_ns: quality.time_s.and_then(nanos_up),
            poor_ns: quality.doubt().and_then(nanos_up),
            failing: quality.failing.as_ref().map(|f| short_name(&name_of(&f.constellation), f.number)),
            failing_bias_m: quality.failing.and_then(|f| f.bias_m),
            text: quality.to_string(),
        }
    }
}

/// One letter for the system, as RINEX has it, and the number: `G05`.
pub fn short_name(gnss: &str, number: u16) -> String {
    let letter = match gnss {
        "gps" => 'G',
        "glonass" => 'R',
        "galileo" => 'E',
        "bei_dou" => 'C',
        "qzss" => 'J',
        "nav_ic" => 'I',
        "sbas" => 'S',
        _ => '?',
    };
    format!("{letter}{number:02}")
}

/// How a receiver took what it was to be set to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetUp {
    /// Was it set up? If not, it does not answer, or not any more.
    pub done: bool,
    /// What it did not take.
    pub not_taken: Vec<NotTaken>,
    /// In words.
    pub text: String,
}

impl SetUp {
    fn of(outcome: &Outcome) -> Self {
        let (done, not_taken) = match outcome {
            Outcome::Done(not_taken) => (true, not_taken.clone()),
            Outcome::NoAnswer | Outcome::Lost(_) => (false, Vec::new()),
        };
        Self { done, not_taken, text: outcome.to_string() }
    }
}

impl Condition {
    fn of(receiver: &ReceiverReport) -> Self {
        Self {
            antenna: receiver.antenna.as_ref().map(name_of),
            jamming: receiver.jamming.as_ref().map(name_of),
            spoofing: receiver.spoofing.as_ref().map(name_of),
            quality: receiver.quality.as_ref().map(QualityReport::of),
            set_up: receiver.set_up.as_ref().map(SetUp::of),
        }
    }
}

/// A leap second that a receiver announces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComingLeapSecond {
    /// The first second after it, RFC 3339.
    pub at_utc: String,
    /// +1 inserts a second, -1 leaves one out.
    pub change: i8,
}

/// One satellite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SatelliteSeen {
    /// `gps`, `glonass`, `galileo`, `bei_dou`, `qzss`, `nav_ic`, `sbas` or `unknown`.
    pub gnss: String,
    /// Its number within the system, as the receiver counts.
    pub number: u16,
    /// Degrees above the horizon.
    pub elevation_deg: Option<i8>,
    /// Degrees clockwise from north.
    pub azimuth_deg: Option<u16>,
    /// Carrier to noise density.
    pub cn0_dbhz: Option<u8>,
    /// Used in the fix.
    pub used: bool,
}

impl SatellitesReport {
    /// What the snapshot says at the reader's now.
    pub fn new(snapshot: &Snapshot, raw: Timestamp<Raw>) -> Self {
        Self {
            schema: "refclockd.satellites/1".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            time_utc: utc_text(snapshot, raw),
            receivers: snapshot.sources.iter().filter_map(ReceiverSky::of).collect(),
        }
    }
}

impl ReceiverSky {
    /// What a source's receiver sees; `None` if it has said nothing.
    pub fn of(source: &SourceReport) -> Option<Self> {
        let receiver = source.receiver.as_ref()?;
        let mut satellites: Vec<SatelliteSeen> = receiver
            .satellites
            .iter()
            .map(|s| SatelliteSeen {
                gnss: name_of(&s.constellation),
                number: s.number,
                elevation_deg: s.elevation,
                azimuth_deg: s.azimuth,
                cn0_dbhz: s.signal,
                used: s.used,
            })
            .collect();
        satellites.sort_by(|a, b| {
            (b.used, b.cn0_dbhz).cmp(&(a.used, a.cn0_dbhz)).then_with(|| (&a.gnss, a.number).cmp(&(&b.gnss, b.number)))
        });
        let seen = u16::try_from(satellites.len()).unwrap_or(u16::MAX);
        Some(Self {
            source: plain(&source.name).into_owned(),
            current: source
                .device
                .as_ref()
                .is_none_or(|d| matches!(d.phase, DevicePhase::Good | DevicePhase::WaitingForFix)),
            fix: receiver.fix.as_ref().map(name_of),
            used: receiver.satellites_used,
            seen: (seen > 0).then_some(seen),
            tai_minus_utc_s: receiver.tai_minus_utc,
            coming_leap: receiver.leap.map(|l| ComingLeapSecond { at_utc: l.at.to_string(), change: l.change }),
            condition: Condition::of(receiver),
            satellites,
        })
    }
}
