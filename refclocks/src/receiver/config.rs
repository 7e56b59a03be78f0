//! How a receiver's driver is set up.

use crate::time::{Timestamp, Utc};
use crate::ubx::setup::Wishes;

/// How the driver is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The line's speed, bit/s; `None` where bytes come at once (pty, USB).
    pub baud: Option<u32>,
    /// No date can be earlier: when the program was made. The epoch: dates stay as they are.
    pub not_before: Timestamp<Utc>,
    /// The last good time known; see [`DateFold`](crate::nmea::DateFold).
    pub last_good: Timestamp<Utc>,
    /// What to do with sentences that have no checksum.
    pub checksums: Checksums,
    /// Believe the time that a receiver gives without a fix: its own clock's.
    pub without_fix: bool,
    /// TAI - UTC, s: for receivers that send GPS time only.
    pub tai_minus_utc: i32,
    /// Only UBX messages may carry the time.
    pub only_ubx: bool,
    /// What to do with the sawtooth of the pulse.
    pub sawtooth: SawtoothUse,
    /// Set the receiver up, if it is a u-blox.
    pub configure: Option<Wishes>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            baud: None,
            not_before: Timestamp::EPOCH,
            last_good: Timestamp::EPOCH,
            checksums: Checksums::default(),
            without_fix: false,
            tai_minus_utc: 37,
            only_ubx: false,
            sawtooth: SawtoothUse::default(),
            configure: None,
        }
    }
}

/// What to do with the sawtooth that a receiver tells of its pulse. Whatever is asked, it is applied only
/// while it makes the pulses more even.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SawtoothUse {
    /// Correct it, with the sign that is found to be right.
    #[default]
    Auto,
    /// Leave it.
    Off,
    /// Add what is sent to the stamps.
    Add,
    /// Take it off.
    Subtract,
}

/// What to do with sentences that have no checksum. One that has a wrong one never counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Checksums {
    /// They count until one with a checksum has come: some old receivers send none.
    #[default]
    Auto,
    /// They never count.
    Required,
    /// They always count.
    Optional,
}
