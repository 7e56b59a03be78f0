//! The NMEA driver, without I/O: bytes in, samples and states out.

use std::collections::VecDeque;

use super::date::DateFold;
use super::framer::{Frame, Framer};
use super::sentence::{Date, ParseError, Parsed, Sentence, Time};
use super::sky::Sky;
use crate::calendar::{CivilTime, DAY, days_from_civil};
use crate::device::{DevicePhase, DeviceReason, DeviceState, Health};
use crate::report::{LocalStamp, Report, Sample};
use crate::time::{Raw, Span, Timestamp, Utc};

/// Cycles that must advance evenly before the time is believed: right after its first fix a receiver
/// may jump by whole seconds.
const STEADY_CYCLES: u32 = 3;
/// Cycles without the chosen sentence before another is chosen.
const MISSING_CYCLES: u32 = 5;
/// Silence after which the device is stale.
const QUIET: Span = Span::from_whole_seconds(4);
/// A reader that was held up has caught up after this.
const CATCHING_UP: Span = Span::from_whole_seconds(1);
/// So many bytes without one sentence are another language, or another speed.
const GARBAGE: u64 = 400;

/// How the driver is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The line's speed, bit/s; `None` where bytes come at once (pty, USB).
    pub baud: Option<u32>,
    /// No date can be earlier: when the program was made.
    pub not_before: Timestamp<Utc>,
    /// The last good time known; see [`DateFold`].
    pub last_good: Timestamp<Utc>,
}

impl Default for Config {
    fn default() -> Self {
        Self { baud: None, not_before: Timestamp::EPOCH, last_good: Timestamp::EPOCH }
    }
}

/// Which sentence: talker and type.
type Key = ([u8; 2], std::mem::Discriminant<Sentence>);

/// The driver.
#[derive(Debug)]
pub struct Driver {
    framer: Framer,
    fold: DateFold,
    config: Config,
    health: Health,
    sky: Sky,
    reports: VecDeque<Report>,
    state: Option<DeviceState>,
    /// The last dated sentence: midnight of its day, and its time of day, s.
    dated: Option<(i64, i64)>,
    /// Was the last sentence with a word on it valid?
    valid: bool,
    cycle: Cycle,
    carrier: Option<Key>,
    carrier_missing: u32,
    last_sample: Option<(Timestamp<Utc>, Timestamp<Raw>)>,
    /// Until when the reader may be behind.
    behind_until: Option<Timestamp<Raw>>,
    last_frame: Option<Timestamp<Raw>>,
    opened: Option<Timestamp<Raw>>,
    bytes_since_frame: u64,
}

/// The cycle under way: all sentences that name one time.
#[derive(Clone, Copy, Debug, Default)]
struct Cycle {
    utc: Option<Timestamp<Utc>>,
    length: Option<Span>,
    steady: u32,
    /// The first sentence of the cycle that could carry the time, and of the one before.
    first: Option<Key>,
    previous_first: Option<Key>,
}

impl Driver {
    /// A driver that has seen nothing.
    pub fn new(config: Config) -> Self {
        Self {
            framer: Framer::new(config.baud),
            fold: DateFold { not_before: config.not_before, last_good: config.last_good },
            config,
            health: Health::default(),
            sky: Sky::default(),
            reports: VecDeque::new(),
            state: None,
            dated: None,
            valid: false,
            cycle: Cycle::default(),
            carrier: None,
            carrier_missing: 0,
            last_sample: None,
            behind_until: None,
            last_frame: None,
            opened: None,
            bytes_since_frame: 0,
        }
    }

    /// The device was opened: nothing has come yet.
    pub fn handle_open(&mut self, now: Timestamp<Raw>) {
        self.health.opened += 1;
        self.opened = Some(now);
        self.bytes_since_frame = 0;
        self.framer = Framer::new(self.config.baud);
        self.become_state(DevicePhase::Opening, DeviceReason::Silent, now);
    }

    /// The device could not be opened, or went away.
    pub fn handle_fault(&mut self, phase: DevicePhase, reason: DeviceReason, now: Timestamp<Raw>) {
        self.cycle = Cycle::default();
        self.become_state(phase, reason, now);
    }

    /// The line's speed changed.
    pub fn set_baud(&mut self, baud: Option<u32>) {
        self.config.baud = baud;
        self.framer = Framer::new(baud);
        self.bytes_since_frame = 0;
    }

    /// The bytes of one read, the last of which came at `arrived`.
    pub fn handle_bytes(&mut self, bytes: &[u8], arrived: Timestamp<Raw>) {
        self.health.bytes += bytes.len() as u64;
        self.bytes_since_frame += bytes.len() as u64;
        let mut frames = Vec::new();
        self.framer.push(bytes, arrived, |frame| frames.push(frame));
        for frame in frames {
            self.handle_frame(&frame, arrived);
        }
        if self.bytes_since_frame > GARBAGE && self.last_frame.is_none_or(|at| arrived - at > QUIET) {
            let reason = DeviceReason::Garbage { bytes: self.bytes_since_frame, baud: self.config.baud };
            self.become_state(DevicePhase::Faulty, reason, arrived);
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Timestamp<Raw>) {
        if let Some((_, at)) = self.last_sample
            && now - at >= QUIET
            && self.phase() == Some(DevicePhase::Good)
        {
            self.become_state(DevicePhase::Stale, DeviceReason::Quiet { silence: now - at }, now);
        } else if let Some(at) = self.last_frame
            && now - at >= QUIET
            && self.phase() == Some(DevicePhase::WaitingForFix)
        {
            self.become_state(DevicePhase::Stale, DeviceReason::Quiet { silence: now - at }, now);
        }
    }

    /// When to call [`Driver::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        match self.phase() {
            Some(DevicePhase::Good) => self.last_sample.map(|(_, at)| at + QUIET),
            Some(DevicePhase::WaitingForFix) => self.last_frame.map(|at| at + QUIET),
            _ => None,
        }
    }

    /// The next report.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// The counters.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Has any well-formed sentence come since the last opening or change of speed?
    pub fn understands(&self) -> bool {
        self.bytes_since_frame < GARBAGE && self.last_frame.is_some_and(|at| self.opened.is_none_or(|o| at >= o))
    }

    fn phase(&self) -> Option<DevicePhase> {
        self.state.as_ref().map(|s| s.phase)
    }

    fn become_state(&mut self, phase: DevicePhase, reason: DeviceReason, since: Timestamp<Raw>) {
        let same_kind =
            |s: &DeviceState| s.phase == phase && std::mem::discriminant(&s.reason) == std::mem::discriminant(&reason);
        if !self.state.as_ref().is_some_and(same_kind) {
            let state = DeviceState { phase, reason, since };
            self.state = Some(state.clone());
            self.reports.push_back(Report::State(state));
        }
    }

    fn handle_frame(&mut self, frame: &Frame, arrived: Timestamp<Raw>) {
        let parsed = match Parsed::from_bytes(&frame.bytes) {
            Ok(parsed) => parsed,
            Err(ParseError::Checksum | ParseError::NoChecksum) => {
                self.health.bad_checksum += 1;
                return;
            }
            Err(ParseError::NotASentence | ParseError::Field(_)) => {
                self.health.malformed += 1;
                return;
            }
        };
        self.health.frames += 1;
        self.bytes_since_frame = 0;
        self.last_frame = Some(arrived);
        let Parsed { talker, sentence } = parsed;
        self.sky.push(talker, &sentence);
        if let Some(valid) = sentence.valid() {
            self.valid = valid;
        }
        let no_word = sentence.valid().is_none();
        let usable = sentence.valid().unwrap_or(self.valid);
        let Some(time) = sentence.time() else {
            if sentence.valid() == Some(false) {
                self.no_fix(arrived);
            }
            return;
        };
        if !usable {
            self.no_fix(arrived);
            return;
        }
        let Some((utc, second60)) = self.date_it(time, sentence.date(), arrived) else { return };
        self.note_cycle(utc);
        let key = (talker, std::mem::discriminant(&sentence));
        // ZDA has no word on validity; it carries the time only if nothing else can.
        if self.cycle.first.is_none() && !(no_word && self.carrier.is_none() && self.cycle.steady < STEADY_CYCLES) {
            self.cycle.first = Some(key);
        }
        if self.cycle.steady < STEADY_CYCLES {
            return;
        }
        if self.carrier.is_none() && self.cycle.first == Some(key) && self.cycle.previous_first == Some(key) {
            self.carrier = Some(key);
        }
        if self.carrier != Some(key) {
            return;
        }
        self.carrier_missing = 0;
        if self.last_sample.is_some_and(|(last, _)| last == utc) && !second60 {
            self.health.stale += 1;
            return;
        }
        let waited = self.has_waited(arrived);
        self.last_sample = Some((utc, arrived));
        if waited {
            self.health.stale += 1;
            return;
        }
        self.health.samples += 1;
        self.become_state(DevicePhase::Good, DeviceReason::Delivering, arrived);
        self.reports.push_back(Report::Sample(Sample {
            local: LocalStamp::Raw(frame.at),
            reference: utc,
            second60,
            quantum: Span::from_millis(1),
            leap: None,
        }));
    }

    /// A reader that was held up finds the messages of several cycles in one read. When they came is
    /// not known: neither of these nor of what is read right afterwards.
    fn has_waited(&mut self, read: Timestamp<Raw>) -> bool {
        let is_behind = |until: Option<Timestamp<Raw>>| until.is_some_and(|until| read < until);
        if self.last_sample.is_some_and(|(_, last_read)| last_read == read) {
            let first_of_them = self.reports.iter().rposition(|r| matches!(r, Report::Sample(_)));
            if let Some(first) = first_of_them.filter(|_| !is_behind(self.behind_until)) {
                self.reports.remove(first);
                self.health.samples -= 1;
                self.health.stale += 1;
            }
            self.behind_until = Some(read + CATCHING_UP);
        }
        is_behind(self.behind_until)
    }

    fn no_fix(&mut self, now: Timestamp<Raw>) {
        self.health.no_fix += 1;
        self.cycle = Cycle::default();
        if let Some(report) = self.sky.finish_cycle() {
            self.reports.push_back(Report::Receiver(report));
        }
        let reason = DeviceReason::NoFix { satellites_used: self.sky.used_without_fix() };
        self.become_state(DevicePhase::WaitingForFix, reason, now);
    }

    /// The instant a sentence names: by its own date, or by the last one the stream gave.
    fn date_it(&mut self, time: Time, date: Option<Date>, now: Timestamp<Raw>) -> Option<(Timestamp<Utc>, bool)> {
        let of_day = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(time.second);
        let midnight = match (date, self.dated) {
            (Some(Date { year, month, day }), _) => days_from_civil(year, month, day) * DAY,
            // The day that puts it within twelve hours of the last dated sentence.
            (None, Some((midnight, last))) => match of_day - last {
                ..-43_200 => midnight + DAY,
                43_201.. => midnight - DAY,
                _ => midnight,
            },
            (None, None) => return None,
        };
        if date.is_some() {
            self.dated = Some((midnight, of_day));
        }
        let sent = Timestamp::<Utc>::from_parts(midnight + of_day, time.nanos);
        match self.fold.fold(sent) {
            Some((utc, 0)) => Some((utc, time.second == 60)),
            Some((utc, _)) => {
                self.health.rollover_repaired += 1;
                Some((utc, time.second == 60))
            }
            None => {
                let date = CivilTime::from_utc(sent).to_string();
                self.become_state(DevicePhase::Faulty, DeviceReason::ImpossibleDate { date }, now);
                None
            }
        }
    }

    /// Follows the cycles: a new one begins when the time named changes.
    fn note_cycle(&mut self, utc: Timestamp<Utc>) {
        let Some(last) = self.cycle.utc else {
            self.cycle = Cycle { utc: Some(utc), steady: 1, ..Cycle::default() };
            return;
        };
        if utc == last {
            return;
        }
        let advance = utc - last;
        let even = self.cycle.length.is_none_or(|length| {
            // Lost cycles are no jump: the receiver's own count went on.
            let cycles = advance.seconds() / length.seconds();
            cycles > 0.5 && cycles < 10.5 && (cycles - cycles.round()).abs() < 0.01
        });
        let even = even && advance > Span::ZERO && advance <= Span::from_whole_seconds(10);
        let length = if even { self.cycle.length.map_or(advance, |l| l.min(advance)) } else { advance };
        self.carrier_missing += 1;
        if self.carrier_missing > MISSING_CYCLES {
            self.carrier = None;
        }
        self.cycle = Cycle {
            utc: Some(utc),
            length: (length > Span::ZERO).then_some(length),
            steady: if even { self.cycle.steady + 1 } else { 1 },
            first: None,
            previous_first: self.cycle.first,
        };
        if let Some(report) = self.sky.finish_cycle() {
            self.reports.push_back(Report::Receiver(report));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_iso8601;
    use crate::nmea::write;
    use proptest::prelude::*;

    fn driver() -> Driver {
        let not_before = parse_iso8601("2025-07-01T00:00:00Z").unwrap().0;
        Driver::new(Config { not_before, ..Config::default() })
    }

    fn civil(text: &str, plus: i64) -> CivilTime {
        CivilTime::from_utc(parse_iso8601(text).unwrap().0 + Span::from_whole_seconds(plus))
    }

    fn samples(driver: &mut Driver) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(report) = driver.poll_report() {
            if let Report::Sample(s) = report {
                found.push(s.reference.to_string());
            }
        }
        found
    }

    #[test]
    fn one_sample_a_cycle_from_the_first_stable_sentence() {
        let mut driver = driver();
        for k in 0..6 {
            let at = civil("2026-01-01T23:59:57Z", k);
            let text = write::gga("GN", &at, true, 9) + &write::rmc("GN", &at, true) + &write::zda("GN", &at);
            driver.handle_bytes(text.as_bytes(), Timestamp::from_parts(100 + k, 0));
        }
        // The first GGA comes before any date; the third even cycle gives the first sample.
        let got = samples(&mut driver);
        assert_eq!(
            got,
            ["2026-01-01T23:59:59Z", "2026-01-02T00:00:00Z", "2026-01-02T00:00:01Z", "2026-01-02T00:00:02Z"]
        );
        assert_eq!(driver.health().no_fix, 0);
    }

    #[test]
    fn what_waited_unread_tells_no_time() {
        let mut driver = driver();
        let second = |k| write::rmc("GP", &civil("2026-01-01T12:00:00Z", k), true);
        for k in 0..6 {
            driver.handle_bytes(second(k).as_bytes(), Timestamp::from_parts(100 + k, 0));
        }
        samples(&mut driver);
        // Nothing is read for a minute; the rest comes a moment after the first read.
        let waited: String = (6..60).map(second).collect();
        driver.handle_bytes(waited.as_bytes(), Timestamp::from_parts(166, 0));
        driver.handle_bytes((60..66).map(second).collect::<String>().as_bytes(), Timestamp::from_parts(166, 1_000_000));
        assert_eq!(samples(&mut driver), Vec::<String>::new());
        driver.handle_bytes(second(67).as_bytes(), Timestamp::from_parts(167, 120_000_000));
        assert_eq!(samples(&mut driver), ["2026-01-01T12:01:07Z"]);
        let health = driver.health();
        assert_eq!((health.stale, health.samples), (60, 4 + 1));
    }

    #[test]
    fn no_fix_gives_no_sample_whatever_the_date() {
        let mut driver = driver();
        for k in 0..10 {
            let at = civil("2026-01-01T12:00:00Z", k);
            let text = write::rmc("GP", &at, false) + &write::zda("GP", &at);
            driver.handle_bytes(text.as_bytes(), Timestamp::from_parts(100 + k, 0));
        }
        assert_eq!(samples(&mut driver), Vec::<String>::new());
        assert_eq!(driver.phase(), Some(DevicePhase::WaitingForFix));
        assert_eq!(driver.health().no_fix, 20);
    }

    #[test]
    fn a_jump_of_a_second_is_waited_out() {
        let mut driver = driver();
        let mut got = Vec::new();
        for k in 0..12 {
            let jump = if k >= 6 { -2 } else { 0 };
            let at = civil("2026-01-01T12:00:00Z", k + jump);
            driver.handle_bytes(write::rmc("GP", &at, true).as_bytes(), Timestamp::from_parts(100 + k, 0));
            got.push(samples(&mut driver).len());
        }
        assert_eq!(got, [0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1]);
    }

    #[test]
    fn rolled_over_weeks_are_repaired_and_counted() {
        let mut driver = driver();
        for k in 0..4 {
            let at = civil("2006-05-18T12:00:00Z", k);
            driver.handle_bytes(write::rmc("GP", &at, true).as_bytes(), Timestamp::from_parts(100 + k, 0));
        }
        assert_eq!(samples(&mut driver), ["2026-01-01T12:00:02Z", "2026-01-01T12:00:03Z"]);
        assert_eq!(driver.health().rollover_repaired, 4);
    }

    #[test]
    fn silence_and_garbage_are_states() {
        let mut driver = driver();
        let now = Timestamp::from_parts(100, 0);
        driver.handle_open(now);
        driver.handle_bytes(&[0xf3; 500], now);
        assert_eq!(driver.phase(), Some(DevicePhase::Faulty));
        for k in 0..4 {
            let at = civil("2026-01-01T12:00:00Z", k);
            driver.handle_bytes(write::rmc("GP", &at, true).as_bytes(), Timestamp::from_parts(101 + k, 0));
        }
        assert_eq!(driver.phase(), Some(DevicePhase::Good));
        let due = driver.poll_timeout().unwrap();
        assert_eq!(due, Timestamp::from_parts(108, 0));
        driver.handle_timeout(due);
        assert_eq!(driver.phase(), Some(DevicePhase::Stale));
    }

    #[test]
    fn the_leap_second_is_told_as_such() {
        let not_before = parse_iso8601("2016-01-01T00:00:00Z").unwrap().0;
        let mut driver = Driver::new(Config { not_before, ..Config::default() });
        let mut told = Vec::new();
        for (k, time) in ["235957", "235958", "235959", "235960", "000000", "000001"].iter().enumerate() {
            let date = if k < 4 { "311216" } else { "010117" };
            let text = write::sentence(&format!("GPRMC,{time},A,,,,,,,{date},,,A"));
            driver.handle_bytes(text.as_bytes(), Timestamp::from_parts(100 + k as i64, 0));
            while let Some(report) = driver.poll_report() {
                if let Report::Sample(s) = report {
                    told.push((s.reference.to_string(), s.second60));
                }
            }
        }
        assert_eq!(told[0], ("2016-12-31T23:59:59Z".to_owned(), false));
        assert_eq!(told[1], ("2017-01-01T00:00:00Z".to_owned(), true));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_give_no_sample(bytes in proptest::collection::vec(any::<u8>(), 0..2000), chunk in 1usize..100) {
            let mut driver = driver();
            for (k, part) in bytes.chunks(chunk).enumerate() {
                driver.handle_bytes(part, Timestamp::from_parts(k as i64, 0));
            }
            prop_assert!(samples(&mut driver).is_empty());
        }
    }
}
