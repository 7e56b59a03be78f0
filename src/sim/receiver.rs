//! A GNSS receiver: what it writes each second.

use refclocks::calendar::CivilTime;
use refclocks::nmea::write;
use refclocks::time::{Span, Timestamp, Utc};

use super::Rng;

/// One satellite of the simulated sky.
#[derive(Clone, Copy, Debug)]
struct InView {
    number: u16,
    elevation: f64,
    azimuth: f64,
    signal: f64,
}

/// The receiver.
#[derive(Clone, Debug)]
pub struct Receiver {
    rng: Rng,
    weeks_off: i64,
    sky: Vec<InView>,
    cycles: u64,
}
