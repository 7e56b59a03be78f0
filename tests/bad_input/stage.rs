//! A small true world around the core, and whatever else somebody hands to it.

use refclockd::clock::{Clock, DisciplinedClock, SoftwareClock};
use refclockd::core::engine::EngineConfig;
use refclockd::core::measurement::Measurement;
use refclockd::core::memory::Memory;
use refclockd::core::snapshot::{Snapshot, SourceKind};
use refclockd::core::source::{ServerSays, SourceConfig};
use refclockd::sim::Rng;
use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Span, Tai, Timestamp, Utc};
use refclocks::{Edge, Health, LocalStamp, Pulse, Report, Sample};

/// The sources by their number.
pub const GPS: usize = 0;
pub const PPS: usize = 1;
pub const SHM: usize = 2;
pub const LAN: [usize; 3] = [3, 4, 5];
pub const WAN: usize = 6;
pub const ALL: [usize; 7] = [GPS, PPS, SHM, 3, 4, 5, WAN];

/// Our crystal gains so much, s/s.
const GAIN: f64 = 23e-6;
const EPOCH: Timestamp<Tai> = Timestamp::from_parts(1_767_225_637, 0);
const RAW_AT_EPOCH: Timestamp<Raw> = Timestamp::from_parts(40, 123_456_789);
/// log2 of the poll interval, s.
const POLL: i8 = 4;

/// The world, the core, and the clock that it steers.
pub struct Stage {
    pub clock: DisciplinedClock,
    rng: Rng,
    /// The second that was played last.
    pub second: i64,
    /// Whose true inputs do not come.
    pub silent: Vec<usize>,
    /// Seconds in which the true time lay outside what was claimed while it was served.
    pub outside: u32,
}

impl Stage {
    /// A clock of our own, 0.3 s off, and seven sources.
    pub fn new(memory: &Memory) -> Self {
        Self::around(Box::new(SoftwareClock::new(RAW_AT_EPOCH, EPOCH + Span::from_seconds(0.3))), memory)
    }

    /// Around this clock.
    pub fn around(clock: Box<dyn Clock>, memory: &Memory) -> Self {
        let network = |name| SourceConfig::new(name, SourceKind::Network);
        let sources = vec![
            SourceConfig::new("GPS", SourceKind::Message),
            SourceConfig::new("PPS", SourceKind::Pulse),
            SourceConfig::new("SHM", SourceKind::NumberedPulse),
            network("LANa"),
            network("LANb"),
            network("LANc"),
            network("WAN"),
        ];
        let engine = EngineConfig { sources, holdover_budget: 1e-3, ..EngineConfig::default() };
        Self {
            clock: DisciplinedClock::new(engine, memory, clock, RAW_AT_EPOCH),
            rng: Rng::new(11),
            second: 0,
            silent: Vec::new(),
            outside: 0,
        }
    }

    /// True time, so many seconds into this second.
    pub fn tai(&self, after: f64) -> Timestamp<Tai> {
        EPOCH + Span::from_whole_seconds(self.second) + Span::from_seconds(after)
    }

    /// The raw counter there.
    pub fn raw(&self, after: f64) -> Timestamp<Raw> {
        let elapsed = self.tai(after) - EPOCH;
        RAW_AT_EPOCH + elapsed + Span::from_seconds(GAIN * elapsed.seconds())
    }

    /// What is read of the clocks there: REALTIME runs with the counter.
    pub fn bracket(&self, after: f64) -> Bracket {
        let raw = self.raw(after);
        let realtime = Timestamp::from_parts(1_767_225_600, 0) + (raw - RAW_AT_EPOCH);
        Bracket { raw_before: raw, realtime, raw_after: raw }
    }

    /// Clock - true time, s.
    pub fn error(&self, after: f64) -> f64 {
        (self.clock.now(self.raw(after)).clock - self.tai(after)).seconds()
    }

    pub fn snapshot(&self, after: f64) -> Snapshot {
        self.clock.snapshot(self.raw(after))
    }

    /// One more second with everything true in it. Returns clock - true time and what is claimed of that
    /// when it begins, s; `None` while the clock is not served.
    pub fn play(&mut self) -> Option<(f64, f64)> {
        self.second += 1;
        let (error, raw) = (self.error(0.0), self.raw(0.0));
        let snapshot = self.clock.snapshot(raw);
        let served = (snapshot.system_at(raw).stratum < 16).then(|| (error, snapshot.distance_at(raw)));
        if served.is_some_and(|(error, bound)| error.abs() > bound) {
            self.outside += 1;
        }
        // In the order in which they come.
        for source in [PPS, SHM, GPS, LAN[0], LAN[1], LAN[2], WAN] {
            if !self.silent.contains(&source) {
                self.tell_truth(source);
            }
        }
        let quiet = self.bracket(0.9);
        self.clock.handle_timeout(&quiet);
        while self.clock.poll_wanted_poll().is_some() {}
        served
    }

    fn tell_truth(&mut self, source: usize) {
        let late = 1e-6 * self.rng.normal();
        match source {
            PPS => self.pulse(PPS, self.raw(late), 0.003),
            SHM => {
                let late = 5.0 * late;
                self.sample(SHM, self.raw(late), utc(self.tai(0.0)), 0.004);
            }
            GPS => {
                let comes = 0.12 + 0.01 * self.rng.uniform();
                self.sample(GPS, self.raw(comes), utc(self.tai(0.0)), comes);
            }
            server if (self.second + server as i64) % (1 << POLL) == 0 => {
                let (base, mean) = if server == WAN { (20e-3, 5e-3) } else { (100e-6, 20e-6) };
                let there = base + mean * self.rng.exponential();
                let back = base + mean * self.rng.exponential();
                let sent = 0.3 + 0.05 * server as f64;
                let (t1, t4) = (self.raw(sent), self.raw(sent + there + back));
                let delay = (t4 - t1).seconds();
                let middle = t1 + Span::from_seconds(0.5 * delay);
                let m = Measurement { raw: middle, tai: self.tai(sent + there), delay: Some(delay) };
                self.clock.handle_reach(server, 255, POLL);
                self.clock.handle_exchange(server, m, honest(), t4);
            }
            _ => {}
        }
    }

    /// An edge stamped at `raw`, fetched so many seconds into this second.
    pub fn pulse(&mut self, source: usize, raw: Timestamp<Raw>, fetched: f64) {
        let sequence = self.second as u32;
        let pulse = Pulse { local: LocalStamp::Raw(raw), edge: Edge::Assert, sequence, missed: 0 };
        let bracket = self.bracket(fetched);
        self.clock.handle_report(source, &Report::Pulse(pulse), &Health::default(), &bracket);
    }

    /// Something stamped at `raw` says that it was `says`; it is handed over so many seconds into this
    /// second.
    pub fn sample(&mut self, source: usize, raw: Timestamp<Raw>, says: Timestamp<Utc>, comes: f64) {
        let local = LocalStamp::Raw(raw);
        let sample = Sample { local, reference: says, second60: false, quantum: Span::ZERO, leap: None };
        let bracket = self.bracket(comes);
        self.clock.handle_report(source, &Report::Sample(sample), &Health::default(), &bracket);
    }

    /// A standard normal number.
    pub fn noise(&mut self) -> f64 {
        self.rng.normal()
    }

    /// Takes all events; their text.
    pub fn events(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.clock.poll_event()).map(|event| format!("{event:?}")).collect()
    }
}

/// What an honest server says.
pub fn honest() -> ServerSays {
    ServerSays { root_dispersion: 1e-5, stratum: 1, ..ServerSays::default() }
}

/// UTC at a TAI instant.
pub fn utc(tai: Timestamp<Tai>) -> Timestamp<Utc> {
    refclockd::core::leap::UtcMap::default().utc(tai).0
}

/// What is no number in a text that has all numbers in it, and what is infinite where it may not be.
pub fn unsound(text: &str) -> Option<String> {
    // What is not known is as wide as it gets.
    const MAY_BE_INFINITE: [&str; 7] =
        ["bound", "fixed", "frequency_sd", "interval", "interval_s", "bound_s", "distance"];
    let context = |at: usize| text[at.saturating_sub(60)..(at + 20).min(text.len())].to_owned();
    if let Some(at) = text.find("NaN") {
        return Some(context(at));
    }
    for (at, _) in text.match_indices("inf") {
        let before = text[..at].trim_end_matches(['-', '(', ' ']).trim_end_matches("Some").trim_end_matches(['(', ' ']);
        let Some(before) = before.strip_suffix(':') else { continue };
        let field = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        if !MAY_BE_INFINITE.contains(&field) {
            return Some(context(at));
        }
    }
    None
}
