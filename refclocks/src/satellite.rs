//! Satellites, as a receiver tells of them.

use serde::{Deserialize, Serialize};

/// One satellite in view.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Satellite {
    /// Whose satellite.
    pub constellation: Constellation,
    /// Its number within the constellation, as the receiver counts.
    pub number: u16,
    /// Degrees above the horizon.
    pub elevation: Option<i8>,
    /// Degrees clockwise from north.
    pub azimuth: Option<u16>,
    /// Carrier to noise density, dB-Hz.
    pub signal: Option<u8>,
    /// Used in the fix.
    pub used: bool,
}

/// Satellite systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constellation {
    /// United States.
    Gps,
    /// Russia.
    Glonass,
    /// European Union.
    Galileo,
    /// China.
    BeiDou,
    /// Japan.
    Qzss,
    /// India.
    NavIc,
    /// Augmentation satellites.
    Sbas,
    /// Not told.
    Unknown,
}
