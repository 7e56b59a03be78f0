//! What a reader may know, at one instant: immutable, published once per update.
//!
//! It holds functions rather than values: the served clock, the error bound and the leap map are
//! evaluated at the reader's own now. Past [`Snapshot::valid_until`] nobody vouches for them, and
//! the NTP server answers "not synchronised": a hung main thread must not serve on.

use std::fmt;
use std::sync::Arc;

use refclocks::time::{Frequency, Raw, Span, Tai, Timestamp, Utc};
use refclocks::{DeviceState, Edge, Health, LeapIndicator, ReceiverReport, ReferenceId};

use super::day::Repair;
use super::delays::DelayHistogram;
use super::holdover::Growth;
use super::leap::UtcMap;
use super::sawtooth::SawtoothState;
use super::source::Stamps;
use super::state::{State, StateReason};
use super::verdict::Verdict;

/// Everything a reader may want to know.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was made.
    pub at: Timestamp<Raw>,
    /// Until when it may be used to serve time.
    pub valid_until: Timestamp<Raw>,
    /// How long the machine had slept until then since it was started: if it has slept since, its
    /// counter stood still, and nothing of this holds any more.
    pub asleep: Span,
    /// When the daemon started.
    pub started: Timestamp<Raw>,
    /// The clock we serve from.
    pub clock: ClockReading,
    /// Which clock that is.
    pub clock_kind: ClockKind,
    /// Why the system clock cannot be set, while that is asked for and refused.
    pub clock_refusal: Option<ClockRefusal>,
    /// How far the system clock is ahead of UTC while it is slewed over a leap second, s; negative: behind.
    /// The served clock is not.
    pub leap_left: Option<f64>,
    /// TAI to UTC.
    pub utc: UtcMap,
    /// How wrong the clock can be.
    pub bound: ErrorBound,
    /// What NTP packets say of us.
    pub system: SystemVariables,
    /// The label.
    pub state: State,
    /// Since when.
    pub state_since: Timestamp<Raw>,
    /// The label before this one, if there was one.
    pub previous_state: Option<State>,
    /// Why.
    pub reason: StateReason,
    /// Best estimate of served clock - true time, s; `None` before the first.
    pub offset: Option<f64>,
    /// Our crystal's frequency error; positive = it gains. `None` before the first estimate.
    pub frequency: Option<Frequency>,
    /// One standard deviation of it, s/s.
    pub frequency_sd: f64,
    /// The thermometer beside it, if there is one.
    pub temperature: Option<CrystalTemperature>,
    /// The bound at which a coasting clock stops being stratum 1, s.
    pub holdover_budget: f64,
    /// Seconds that a clock that lost its reference now would stay within the budget, if known.
    pub would_last_s: Option<f64>,
    /// When another program last moved the system clock, if one did.
    pub rival_seen: Option<Timestamp<Raw>>,
    /// All sources, in the order of the configuration.
    pub sources: Arc<[SourceReport]>,
}

/// Which clock we serve from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockKind {
    /// The system clock, steered.
    System,
    /// One of our own; the system clock is left alone.
    #[default]
    Own,
    /// The system clock, which is only watched.
    Watched,
}

/// Why the system clock cannot be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockRefusal {
    /// What was tried, and the system's words.
    pub error: String,
    /// Is it a matter of permission?
    pub permission: bool,
    /// What is done instead.
    pub instead: ClockKind,
}

impl ClockRefusal {
    /// What a person can do about it, in one imperative sentence.
    pub const fn action(&self) -> &'static str {
        if self.permission {
            "Run as root, or give the program CAP_SYS_TIME; it is tried again by itself."
        } else {
            "Look at the kernel's log; it is tried again by itself."
        }
    }
}

impl fmt::Display for ClockRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instead = match self.instead {
            ClockKind::Own => "a clock of our own is steered and served instead",
            ClockKind::Watched | ClockKind::System => "it is only watched",
        };
        write!(f, "the system clock cannot be set ({}); {instead}", self.error)
    }
}

/// A clock as a function of the raw counter: `tai + (raw - self.raw) * (1 + rate)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockReading {
    /// The instant on the raw scale at which the clock reads `tai`.
    pub raw: Timestamp<Raw>,
    /// The clock's reading there.
    pub tai: Timestamp<Tai>,
    /// How much faster than the raw counter the clock runs, s/s.
    pub rate: f64,
}

impl ClockReading {
    /// The clock's reading at a raw instant, before or after its own.
    pub fn at(&self, raw: Timestamp<Raw>) -> Timestamp<Tai> {
        let elapsed = raw - self.raw;
        self.tai + elapsed + Span::from_seconds(elapsed.seconds() * self.rate)
    }
}

/// How wrong the served clock can be, as a function of the raw instant, s. Infinite before the
/// first estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorBound {
    /// The instant `variance` counts from.
    pub raw: Timestamp<Raw>,
    /// What no averaging removes: unknown delay, quantum, a server's own dispersion, s.
    pub fixed: f64,
    /// What no measurement can tell: how unequally long the ways to a server and back may take, s.
    /// Half the round trip at most.
    pub path: f64,
    /// What is known to be still uncorrected, s.
    pub residual: f64,
    /// Variance of the estimated phase as a polynomial in seconds since `raw`, s^2.
    pub variance: [f64; 4],
    /// The model's standard deviation may be short by this factor, 1 or more.
    pub doubt: f64,
    /// When the clock was last fed, and how far it goes from there by experience.
    pub coasting: Coasting,
    /// Standard deviations in the bound.
    pub factor: f64,
}

/// How warm our crystal is, and what that does to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrystalTemperature {
    /// Degrees Celsius, averaged over a minute.
    pub celsius: f64,
    /// What its frequency changes by, (s/s)/degree, once that is known well enough to be used while
    /// the clock coasts.
    pub coefficient: Option<f64>,
}

/// A clock left to itself: since when, and how far that may take it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coasting {
    /// The last measurement that fed the clock.
    pub since: Timestamp<Raw>,
    /// What experience says of the time since.
    pub growth: Growth,
}

impl Coasting {
    /// An unknown crystal, left to itself since then.
    pub fn since(since: Timestamp<Raw>) -> Self {
        Self { since, growth: Growth::default() }
    }
}

/// Standard deviations are so many times what a filter says that knows its model only.
pub const LEFT_OUT: f64 = 1.3;

impl ErrorBound {
    /// Nothing is known.
    pub fn unknown() -> Self {
        Self {
            raw: Timestamp::EPOCH,
            fixed: f64::INFINITY,
            path: 0.0,
            residual: 0.0,
            variance: [0.0; 4],
            doubt: 1.0,
            coasting: Coasting::since(Timestamp::EPOCH),
            factor: 0.0,
        }
    }

    /// The bound at a raw instant for all that can be measured, s: it holds if ways there and back
    /// take equally long, apart from their jitter.
    pub fn at(&self, raw: Timestamp<Raw>) -> f64 {
        self.fixed + self.residual + self.factor * self.greatest_sigma(raw)
    }

    /// The bound at a raw instant whatever the ways do, s: the root distance of RFC 5905.
    pub fn distance(&self, raw: Timestamp<Raw>) -> f64 {
        self.at(raw) + self.path
    }

    /// What the error probably is at a raw instant, s: one standard deviation, with what the model leaves
    /// out and half of what it may be short by. The kernel's `esterror`.
    pub fn probable(&self, raw: Timestamp<Raw>) -> f64 {
        self.residual + LEFT_OUT * self.doubting(self.doubt.sqrt(), raw)
    }

    /// Seconds from a raw instant on until it reaches `limit`, s, to a hundredth of them; `None` if it is
    /// infinite already.
    pub fn lasts(&self, raw: Timestamp<Raw>, limit: f64) -> Option<f64> {
        let at = |t: f64| self.distance(raw + Span::from_seconds(t));
        let now = at(0.0);
        if !now.is_finite() {
            return None;
        }
        if now >= limit {
            return Some(0.0);
        }
        let (mut low, mut high) = (1.0, 30.0 * 86_400.0);
        if at(high) < limit {
            return Some(high);
        }
        while high > 1.01 * low {
            let middle = (low * high).sqrt();
            if at(middle) < limit { low = middle } else { high = middle }
        }
        Some(low)
    }

    /// One standard deviation of the estimated phase at a raw instant, s: what the model says or what
    /// experience says, whichever is more.
    pub fn sigma(&self, raw: Timestamp<Raw>) -> f64 {
        self.doubting(1.0, raw)
    }

    /// The same, with what the model may be short by, s.
    pub fn greatest_sigma(&self, raw: Timestamp<Raw>) -> f64 {
        self.doubting(self.doubt, raw)
    }

    fn doubting(&self, doubt: f64, raw: Timestamp<Raw>) -> f64 {
        let t = (raw - self.raw).seconds().max(0.0);
        let [a, b, c, d] = self.variance;
        let by_model = doubt * doubt * (a + t * (b + t * (c + t * d)));
        let by_experience = self.coasting.growth.variance((raw - self.coasting.since).seconds());
        by_model.max(by_experience).max(0.0).sqrt()
    }
}

/// The system variables of RFC 5905 that go on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SystemVariables {
    /// Leap indicator; `Unsynchronised` while clients must not use us.
    pub leap: LeapIndicator,
    /// 1 to 15, or 16 while unsynchronised.
    pub stratum: u8,
    /// Whose time it is.
    pub refid: ReferenceId,
    /// Round trip to the primary reference, s.
    pub root_delay: f64,
    /// log2 of the clock's reading precision, s.
    pub precision: i8,
    /// When the clock was last set or corrected by a reference.
    pub reference_time: Option<Timestamp<Utc>>,
}

impl SystemVariables {
    /// A clock that nobody may use.
    pub const UNSYNCHRONISED: Self = Self {
        leap: LeapIndicator::Unsynchronised,
        stratum: 16,
        refid: ReferenceId(*b"INIT"),
        root_delay: 0.0,
        precision: -20,
        reference_time: None,
    };
}

/// What kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Edges without a number (kernel PPS).
    Pulse,
    /// Pulses that come with their number (gpsd's PPS, SHM and SOCK fed by a pulse).
    NumberedPulse,
    /// Time messages, late by an unknown but learnable delay.
    Message,
    /// An NTP server.
    Network,
    /// The operator, who sets the time by hand.
    Manual,
}

/// One source, as its readers see it.
#[derive(Clone, Debug)]
pub struct SourceReport {
    /// Name, unique.
    pub name: String,
    /// Reference ID.
    pub refid: ReferenceId,
    /// Driver or protocol, e.g. `nmea`, `pps`, `ntp`.
    pub driver: &'static str,
    /// Device path or address.
    pub address: String,
    /// What kind of source.
    pub kind: SourceKind,
    /// State of the device, for reference clocks.
    pub device: Option<DeviceState>,
    /// How a server stands, in words, and what to do about it.
    pub server: Option<(String, Option<String>)>,
    /// Who stamped our part of the last exchange with a server.
    pub stamps: Option<Stamps>,
    /// What we think of it.
    pub verdict: Verdict,
    /// local - reference by its last sample, delay taken off, s.
    pub offset: Option<f64>,
    /// Half-width of what it stands for, s.
    pub interval: Option<f64>,
    /// Its noise: one standard deviation, s.
    pub jitter: Option<f64>,
    /// Messages: learned delay after the pulse. Network: round-trip delay. s.
    pub delay: Option<f64>,
    /// Messages: how late they came, one by one.
    pub delays: Arc<DelayHistogram>,
    /// Network: what it is off by, as was learned from something better, and the standard deviation of
    /// that, s; positive = it is behind.
    pub bias: Option<(f64, f64)>,
    /// Is a message's delay learned (against a pulse or peers) or configured?
    pub calibrated: bool,
    /// The last eight polls or seconds, newest in the lowest bit.
    pub reach: u8,
    /// log2 of the poll interval, s.
    pub poll: i8,
    /// Stratum the source gives itself (0 for reference clocks).
    pub stratum: u8,
    /// When its last sample came.
    pub last_sample: Option<Timestamp<Raw>>,
    /// Samples used so far.
    pub samples: u64,
    /// The driver's counters.
    pub health: Health,
    /// What its receiver sees, if it is one.
    pub receiver: Option<ReceiverReport>,
    /// Pulses: how the correction of the receiver's sawtooth stands, if it tells of one.
    pub sawtooth: Option<SawtoothState>,
    /// Pulses: the edge in use where the shape does not tell it, and who said that it is on the second.
    pub edge: Option<(Edge, Option<String>)>,
    /// What is added to its dates, since others agree that it is wrong by whole days.
    pub repair: Option<Repair>,
}

impl Snapshot {
    /// The served UTC at a raw instant, and whether it lies within an inserted leap second.
    pub fn utc_at(&self, raw: Timestamp<Raw>) -> (Timestamp<Utc>, bool) {
        self.utc.utc(self.clock.at(raw))
    }

    /// The error bound at a raw instant, s, if ways to servers and back take equally long.
    pub fn bound_at(&self, raw: Timestamp<Raw>) -> f64 {
        self.bound.at(raw)
    }

    /// The error bound at a raw instant, s, whatever the ways to servers do.
    pub fn distance_at(&self, raw: Timestamp<Raw>) -> f64 {
        self.bound.distance(raw)
    }

    /// The system variables as they hold at a raw instant: past `valid_until` nobody vouches for us.
    pub fn system_at(&self, raw: Timestamp<Raw>) -> SystemVariables {
        if raw > self.valid_until {
            SystemVariables { precision: self.system.precision, ..SystemVariables::UNSYNCHRONISED }
        } else {
            self.system
        }
    }

    /// Root dispersion at a raw instant, s: what of the bound is not half the root delay. A clock that
    /// is served as its own reference is its own root, however far that is from UTC.
    pub fn root_dispersion_at(&self, raw: Timestamp<Raw>) -> f64 {
        if self.state == State::Local && raw <= self.valid_until {
            return 0.0;
        }
        (self.bound.distance(raw) - self.system.root_delay / 2.0).max(0.0)
    }
}
