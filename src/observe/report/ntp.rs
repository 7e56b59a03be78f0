//! What NTP clients are told, what they asked, and the network cards that stamp it.

use refclocks::LeapIndicator;
use refclocks::time::{Raw, Timestamp};
use serde::{Deserialize, Serialize};

use super::numbers::{civil_text, finite, name_of, nanos_up};
use crate::core::snapshot::Snapshot;
use crate::ntp::counters::Totals;
use crate::ntp::hardware::Card;
use crate::observe::plain::plain;

/// What NTP clients are told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NtpReport {
    /// May clients use us?
    pub serving: bool,
    /// 1 to 15, or 16 while unsynchronised.
    pub stratum: u8,
    /// Reference ID: letters, or four numbers.
    pub refid: String,
    /// `none`, `insert`, `delete` or `unsynchronised`.
    pub leap: String,
    /// Round trip to the primary reference.
    pub root_delay_ns: Option<u64>,
    /// Root dispersion.
    pub root_dispersion_ns: Option<u64>,
    /// log2 of the clock's reading precision in seconds.
    pub precision_log2: i8,
    /// When a reference last set or corrected the clock.
    pub reference_utc: Option<String>,
    /// What came on our port since the start, and what became of it; none where it is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Totals>,
}

impl NtpReport {
    /// At the reader's now, without what came on our port.
    pub(super) fn new(snapshot: &Snapshot, raw: Timestamp<Raw>) -> Self {
        let system = snapshot.system_at(raw);
        Self {
            serving: system.stratum < 16 && system.leap != LeapIndicator::Unsynchronised,
            stratum: system.stratum,
            refid: system.refid.to_string(),
            leap: name_of(&system.leap),
            root_delay_ns: nanos_up(system.root_delay),
            root_dispersion_ns: nanos_up(snapshot.root_dispersion_at(raw)),
            precision_log2: system.precision,
            reference_utc: system.reference_time.map(|at| civil_text(at, false)),
            requests: None,
        }
    }
}

/// A network card that is to stamp packets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CardReport {
    /// Its interface.
    pub interface: String,
    /// Are its stamps used?
    pub stamping: bool,
    /// How it stands.
    pub text: String,
    /// Its clock's device, if it has one.
    pub clock: Option<String>,
    /// How much faster its clock runs than our raw counter.
    pub frequency_ppb: Option<f64>,
    /// How far off its stamps may be placed on our clock.
    pub error_ns: Option<u64>,
}

impl CardReport {
    /// As it stands.
    pub(super) fn new(card: &Card) -> Self {
        Self {
            interface: plain(&card.name).into_owned(),
            stamping: card.line.is_some(),
            text: plain(&card.state.to_string()).into_owned(),
            clock: card.clock.map(|clock| format!("/dev/ptp{clock}")),
            frequency_ppb: card.line.and_then(|line| finite(line.frequency() * 1e9)),
            error_ns: card.line.and_then(|line| nanos_up(line.error())),
        }
    }
}
