//! The objects gpsd sends. Times are integers throughout: a float loses 100 ns at today's dates.

use serde::Deserialize;

/// One object. What we do not know is ignored, as the protocol asks.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "class")]
pub enum Message {
    /// The greeting.
    #[serde(rename = "VERSION")]
    Version(Version),
    /// Time, position, velocity: here the kind of fix and the leap count.
    #[serde(rename = "TPV")]
    Tpv(Tpv),
    /// Satellites.
    #[serde(rename = "SKY")]
    Sky(Sky),
    /// The receiver's time and the system's when a message came.
    #[serde(rename = "TOFF")]
    Toff(Stamps),
    /// The receiver's time and the system's at a pulse.
    #[serde(rename = "PPS")]
    Pps(Stamps),
    /// All devices.
    #[serde(rename = "DEVICES")]
    Devices(Devices),
    /// One device came or went.
    #[serde(rename = "DEVICE")]
    Device(Device),
    /// The oscillator of a disciplined receiver.
    #[serde(rename = "OSC")]
    Osc(Osc),
    /// Something we asked for was wrong.
    #[serde(rename = "ERROR")]
    Error(ErrorText),
    /// Anything else.
    #[serde(other)]
    Other,
}

/// VERSION.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Version {
    /// gpsd's release.
    #[serde(default)]
    pub release: String,
    /// Protocol version.
    #[serde(default)]
    pub proto_major: i64,
    /// Its minor part.
    #[serde(default)]
    pub proto_minor: i64,
}

/// TPV.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Tpv {
    /// Which device.
    #[serde(default)]
    pub device: String,
    /// 0 unknown, 1 none, 2 2D, 3 3D.
    #[serde(default)]
    pub mode: i64,
    /// ISO 8601.
    pub time: Option<String>,
    /// How the fix was made; 7: time only, at a surveyed place.
    pub status: Option<i64>,
    /// GPS - UTC, s.
    pub leapseconds: Option<i64>,
}

/// OSC.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Osc {
    /// Which device.
    #[serde(default)]
    pub device: String,
    /// It runs.
    #[serde(default)]
    pub running: bool,
    /// It has a reference, a GNSS or another.
    #[serde(default)]
    pub reference: bool,
    /// It follows that reference.
    #[serde(default)]
    pub disciplined: bool,
}

/// SKY.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Sky {
    /// Which device.
    #[serde(default)]
    pub device: String,
    /// Absent in the objects that carry only dilutions.
    pub satellites: Option<Vec<SkySatellite>>,
}

/// One satellite of SKY.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct SkySatellite {
    /// gpsd's number.
    #[serde(rename = "PRN")]
    pub prn: Option<i64>,
    /// Constellation.
    pub gnssid: Option<i64>,
    /// Number within the constellation.
    pub svid: Option<i64>,
    /// Elevation, degrees.
    pub el: Option<f64>,
    /// Azimuth, degrees.
    pub az: Option<f64>,
    /// Signal, dB-Hz.
    pub ss: Option<f64>,
    /// Used in the fix.
    #[serde(default)]
    pub used: bool,
}

/// TOFF and PPS.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Stamps {
    /// Which device.
    #[serde(default)]
    pub device: String,
    /// The receiver's time: seconds...
    pub real_sec: i64,
    /// ...and nanoseconds, which may be negative or beyond a second.
    pub real_nsec: i64,
    /// The system's time: seconds...
    pub clock_sec: i64,
    /// ...and nanoseconds.
    pub clock_nsec: i64,
    /// Quantisation error of the pulse, ps, where the receiver told it. Not applied.
    #[serde(rename = "qErr")]
    pub q_err: Option<i64>,
}

/// DEVICES.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Devices {
    /// The devices.
    #[serde(default)]
    pub devices: Vec<Device>,
}

/// DEVICE.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Device {
    /// Its path.
    #[serde(default)]
    pub path: String,
    /// When it was opened: a text or a number; absent, empty or 0 if it is not.
    pub activated: Option<serde_json::Value>,
}

/// ERROR.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct ErrorText {
    /// What was wrong.
    #[serde(default)]
    pub message: String,
}

/// Parses one line.
pub fn parse(line: &[u8]) -> Result<Message, serde_json::Error> {
    serde_json::from_slice(line)
}
