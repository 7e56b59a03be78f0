//! Reference clock drivers and the vocabulary of time.
//!
//! A driver turns one device's bytes or edges into [`Sample`]s (a local stamp beside the time the
//! device named) or [`Pulse`]s (an edge that does not say which second it is). It knows nothing of
//! statistics, of other sources or of our oscillator.
//!
//! Every driver has three parts, each usable alone:
//!
//! * a **sans-IO parser**: bytes and arrival stamps in, [`Report`]s out; no clock, no file, no socket;
//! * a thin **shell** (`shell`, feature `tokio`) that owns the device, comes back when it does,
//!   and stamps what arrives;
//! * a [`DeviceState`] with its reason: a device is a state, never a condition of life.
//!
//! | module | device |
//! |---|---|
//! | `receiver` | a GNSS receiver on a serial port or pty: NMEA, UBX or both |
//! | `nmea` | NMEA 0183: sentences; also the writer, the parser's inverse |
//! | `ubx` | UBX, u-blox's binary messages; also their writer |
//! | `pps` | kernel PPS (RFC 2783) |
//! | `phc` | PTP hardware clocks, and pulses on their inputs |
//! | `gpsd` | gpsd's JSON socket |
//! | `shm` | NTP shared memory segments |
//! | `sock` | chrony's SOCK datagrams |
//!
//! One sign everywhere: offset = local - reference, positive = the local clock is ahead.

pub mod calendar;
pub mod device;
pub mod gpsd;
pub mod nmea;
pub mod phc;
pub mod pps;
pub mod quality;
pub mod receiver;
pub mod report;
pub mod satellite;
#[cfg(feature = "tokio")]
pub mod shell;
pub mod shm;
pub mod sock;
pub mod sys;
pub mod time;
pub mod ubx;

pub use device::{Backoff, DevicePhase, DeviceReason, DeviceState, Health};
pub use report::{
    Antenna, ComingLeap, Edge, Fix, Jamming, LeapIndicator, LocalStamp, Pulse, ReceiverReport, ReferenceId, Remark,
    Report, Sample, Sawtooth, Spoofing,
};
pub use satellite::{Constellation, Satellite};
pub use time::{Frequency, NtpTimestamp, Raw, Realtime, Scale, Span, Tai, Timestamp, Utc};
