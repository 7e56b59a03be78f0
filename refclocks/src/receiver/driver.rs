//! The driver of a receiver on a line, without I/O: bytes in, samples and states out.

use std::collections::VecDeque;

use super::cycle::{Cycle, Unsteady};
use super::dating::{Dated, Dating, in_words};
use super::framer::{Content, Framer};
use super::heard::{Heard, Outcome, Refusal, Speaker};
use super::sky::Sky;
use crate::calendar::CivilTime;
use crate::device::{DevicePhase, DeviceReason, DeviceState, Health};
use crate::nmea::{Date, DateFold, ParseError, Parsed, Sentence, Time};
use crate::report::{LeapIndicator, LocalStamp, Remark, Report, Sample, Sawtooth};
use crate::time::{Raw, Span, Tai, Timestamp, Utc};
use crate::ubx::setup::{self, Setup, Wishes};
use crate::ubx::{self, Message, Pulse};

/// Silence after which the device is stale.
const QUIET: Span = Span::from_whole_seconds(4);
/// A reader that was held up has caught up after this.
const CATCHING_UP: Span = Span::from_whole_seconds(1);
/// So many bytes without one frame are another language, or another speed.
const GARBAGE: u64 = 400;
/// GPS time in `$GPZDG` names the pulse to come.
const ONE_SECOND: Span = Span::from_whole_seconds(1);

/// How the driver is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The line's speed, bit/s; `None` where bytes come at once (pty, USB).
    pub baud: Option<u32>,
    /// No date can be earlier: when the program was made. The epoch: dates stay as they are.
    pub not_before: Timestamp<Utc>,
    /// The last good time known; see [`DateFold`].
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

/// The driver.
#[derive(Debug)]
pub struct Driver {
    framer: Framer,
    mind: Mind,
}

impl Driver {
    /// A driver that has seen nothing.
    pub fn new(config: Config) -> Self {
        Self { framer: Framer::new(config.baud), mind: Mind::new(config) }
    }

    /// A driver for a capture, whose own remarks, lines that begin with `#`, are dropped.
    pub fn for_capture(config: Config) -> Self {
        Self { framer: Framer::new(config.baud).dropping_remarks(), mind: Mind::new(config) }
    }

    /// The device was opened: nothing has come yet.
    pub fn handle_open(&mut self, now: Timestamp<Raw>) {
        self.framer.restart(self.mind.config.baud);
        self.mind.handle_open(now);
    }

    /// The device could not be opened, or went away.
    pub fn handle_fault(&mut self, phase: DevicePhase, reason: DeviceReason, now: Timestamp<Raw>) {
        self.mind.cycle = Cycle::default();
        self.mind.become_state(phase, reason, now);
    }

    /// The line's speed changed.
    pub fn set_baud(&mut self, baud: Option<u32>) {
        self.framer.restart(baud);
        self.mind.config.baud = baud;
        self.mind.bytes_since_frame = 0;
        self.mind.last_frame = None;
    }

    /// The bytes of one read, the last of which came at `arrived`.
    pub fn handle_bytes(&mut self, bytes: &[u8], arrived: Timestamp<Raw>) {
        self.handle_bytes_telling(bytes, arrived, |_| ());
    }

    /// The same, and tells of each message that was to name a time what came of it.
    pub fn handle_bytes_telling(&mut self, bytes: &[u8], arrived: Timestamp<Raw>, mut tell: impl FnMut(&Heard)) {
        let Self { framer, mind } = self;
        mind.health.bytes += bytes.len() as u64;
        mind.bytes_since_frame += bytes.len() as u64;
        framer.push(bytes, arrived, |frame| {
            let place = Place { at: frame.at, offset: frame.offset, arrived };
            let heard = match frame.content {
                Content::Nmea(bytes) => mind.handle_sentence(bytes, place),
                Content::Ubx(frame) => mind.handle_message(frame, place),
            };
            heard.iter().for_each(&mut tell);
        });
        if mind.bytes_since_frame > GARBAGE && mind.last_frame.is_none_or(|at| arrived - at > QUIET) {
            let reason = DeviceReason::Garbage { bytes: mind.bytes_since_frame, baud: mind.config.baud };
            mind.become_state(DevicePhase::Faulty, reason, arrived);
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Timestamp<Raw>) {
        self.mind.step_setup(now, |setup| setup.handle_timeout(now));
        let silent_since = match self.mind.phase() {
            Some(DevicePhase::Good) => self.mind.last_sample.map(|(_, at)| at),
            Some(DevicePhase::WaitingForFix) => self.mind.last_frame,
            _ => None,
        };
        if let Some(at) = silent_since.filter(|at| now - *at >= QUIET) {
            self.mind.become_state(DevicePhase::Stale, DeviceReason::Quiet { silence: now - at }, now);
        }
    }

    /// When to call [`Driver::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        let silence = match self.mind.phase() {
            Some(DevicePhase::Good) => self.mind.last_sample.map(|(_, at)| at + QUIET),
            Some(DevicePhase::WaitingForFix) => self.mind.last_frame.map(|at| at + QUIET),
            _ => None,
        };
        silence.into_iter().chain(self.mind.setup.as_ref().and_then(Setup::poll_timeout)).min()
    }

    /// What to send to the receiver: nothing, unless it is to be set up.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.mind.setup.as_mut()?.poll_transmit()
    }

    /// The next report.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.mind.reports.pop_front()
    }

    /// The counters.
    pub fn health(&self) -> Health {
        self.mind.health
    }

    /// Has any well-formed frame come since the last opening or change of speed, and does what comes make
    /// sense still?
    pub fn understands(&self) -> bool {
        let mind = &self.mind;
        mind.bytes_since_frame < GARBAGE && mind.last_frame.is_some_and(|at| mind.opened.is_none_or(|o| at >= o))
    }
}

/// Where a frame was found.
#[derive(Clone, Copy)]
struct Place {
    at: Timestamp<Raw>,
    offset: u64,
    /// When the read came in which it ended.
    arrived: Timestamp<Raw>,
}

/// What a message says of a time.
struct Said {
    speaker: Speaker,
    date: Option<Date>,
    time: Option<Time>,
    /// The instant, if it can be told.
    dated: Option<Dated>,
    /// Whether its time may be used, if it has a word on that.
    valid: Option<bool>,
    /// Does the receiver know the leap seconds, as far as this message tells?
    resolved: bool,
    /// The message lacks a checksum, and must not.
    unchecked: bool,
}

/// All but the framer.
#[derive(Debug)]
struct Mind {
    config: Config,
    health: Health,
    dating: Dating,
    cycle: Cycle,
    sky: Sky,
    reports: VecDeque<Report>,
    state: Option<DeviceState>,
    /// What the last message with a word on it said of the fix, and when one that also names a time did.
    valid: bool,
    worded: Option<Timestamp<Raw>>,
    /// A sentence with a checksum has come.
    checksum_seen: bool,
    last_sample: Option<(Timestamp<Utc>, Timestamp<Raw>)>,
    /// Until when the reader may be behind.
    behind_until: Option<Timestamp<Raw>>,
    last_frame: Option<Timestamp<Raw>>,
    opened: Option<Timestamp<Raw>>,
    bytes_since_frame: u64,
    /// Setting the receiver up, where that was asked for; begun as soon as it is understood.
    setup: Option<Setup>,
}

impl Mind {
    fn new(config: Config) -> Self {
        Self {
            dating: Dating::new(DateFold { not_before: config.not_before, last_good: config.last_good }),
            config,
            health: Health::default(),
            cycle: Cycle::default(),
            sky: Sky::default(),
            reports: VecDeque::new(),
            state: None,
            valid: false,
            worded: None,
            checksum_seen: false,
            last_sample: None,
            behind_until: None,
            last_frame: None,
            opened: None,
            bytes_since_frame: 0,
            setup: None,
        }
    }

    /// Takes a step of the set-up, and tells how it ended when it does.
    fn step_setup(&mut self, now: Timestamp<Raw>, step: impl FnOnce(&mut Setup)) {
        if let (None, Some(wishes), Some(_)) = (&self.setup, self.config.configure, self.last_frame) {
            self.setup = Some(Setup::new(wishes, now));
        }
        let Some(setup) = &mut self.setup else { return };
        step(setup);
        let Some(outcome) = setup.poll_outcome() else { return };
        let refused = |why| Remark::Refused { what: "setting up the receiver", why };
        self.reports.push_back(Report::Remark(match outcome {
            setup::Outcome::Done => Remark::Granted { what: "the receiver is set up" },
            setup::Outcome::Refused(subjects) => refused(format!("it refuses {}", subjects.join(", "))),
            setup::Outcome::NoAnswer => {
                refused("it does not answer: it is no u-blox, or the line to it is not connected".into())
            }
        }));
    }

    fn handle_open(&mut self, now: Timestamp<Raw>) {
        self.health.opened += 1;
        self.opened = Some(now);
        self.bytes_since_frame = 0;
        self.dating.forget();
        self.checksum_seen = false;
        self.setup = None;
        self.last_frame = None;
        self.valid = false;
        self.worded = None;
        self.become_state(DevicePhase::Opening, DeviceReason::Silent, now);
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

    fn understood(&mut self, place: Place) {
        self.health.frames += 1;
        self.bytes_since_frame = 0;
        self.last_frame = Some(place.arrived);
        self.step_setup(place.arrived, |_| ());
    }

    fn handle_sentence(&mut self, bytes: &[u8], place: Place) -> Option<Heard> {
        let Parsed { talker, sentence, checked } = match Parsed::from_bytes_unchecked(bytes) {
            Ok(parsed) => parsed,
            Err(ParseError::Checksum | ParseError::NoChecksum) => {
                self.health.bad_checksum += 1;
                return None;
            }
            Err(ParseError::NotASentence | ParseError::Field(_)) => {
                self.health.malformed += 1;
                return None;
            }
        };
        self.checksum_seen |= checked;
        let without = match self.config.checksums {
            Checksums::Auto => !self.checksum_seen,
            Checksums::Required => false,
            Checksums::Optional => true,
        };
        // At a wrong speed, bytes that look like an unknown sentence come by chance.
        let counts = checked || (without && sentence != Sentence::Other);
        if counts {
            self.understood(place);
            self.sky.push(talker, &sentence);
        } else {
            self.health.bad_checksum += 1;
        }
        let Some(speaker) = Speaker::of(talker, &sentence) else {
            if let (Sentence::Gsa { fix: Some(fix), .. }, true) = (sentence, counts) {
                self.hear_of_fix(fix != crate::report::Fix::None, place);
            }
            return None;
        };
        let mut said = Said {
            speaker,
            date: sentence.date(),
            time: sentence.time(),
            dated: sentence.time().and_then(|time| self.dating.date(time, sentence.date(), place.at)),
            valid: sentence.valid(),
            resolved: true,
            unchecked: !counts,
        };
        match sentence {
            Sentence::Pubx04 { leap_seconds, .. } => said.resolved = leap_seconds.is_some(),
            Sentence::Zdg { .. } => {
                // GPS time of the next pulse: the message follows the second before.
                let ahead = Span::from_whole_seconds(i64::from(self.config.tai_minus_utc) - 19) + ONE_SECOND;
                said.dated = said.dated.map(|dated| self.dating.place(dated.sent - ahead));
            }
            _ => {}
        }
        Some(self.hear(said, place))
    }

    /// A word on the fix from a message that names no time. One that does knows better.
    fn hear_of_fix(&mut self, fixed: bool, place: Place) {
        if self.worded.is_none_or(|at| place.arrived - at > QUIET) {
            self.valid = fixed;
        }
    }

    fn handle_message(&mut self, frame: ubx::Frame<'_>, place: Place) -> Option<Heard> {
        let message = match Message::decode(frame) {
            Ok(message) => message,
            Err(_) => {
                self.health.malformed += 1;
                return None;
            }
        };
        self.understood(place);
        self.sky.push_message(&message);
        let (name, instant, valid, resolved) = match message {
            Message::NavPvt(m) => ("NAV-PVT", m.utc, m.valid, m.resolved),
            Message::NavTimeUtc(m) => ("NAV-TIMEUTC", m.utc, m.valid && self.sky.has_fix(), m.resolved),
            Message::NavTimeGps(m) => {
                let civil = CivilTime::from_utc(m.to_utc());
                let instant = ubx::Instant { civil: CivilTime { nanos: 0, ..civil }, nanos: civil.nanos as i32 };
                ("NAV-TIMEGPS", Some(instant), m.valid && self.sky.has_fix(), m.resolved)
            }
            Message::NavTimeLs(m) => {
                let now = self.last_sample.map(|(utc, at)| utc + (place.arrived - at));
                self.sky.hear_of_leap_seconds(&m, now);
                return None;
            }
            Message::MonVer { protocol } => {
                self.step_setup(place.arrived, |setup| setup.handle_version(protocol, place.arrived));
                return None;
            }
            Message::Ack { of, taken } => {
                self.step_setup(place.arrived, |setup| setup.handle_answer(of, taken, place.arrived));
                return None;
            }
            Message::TimTp(m) => {
                self.hear_of_pulse(&m, place);
                return None;
            }
            _ => return None,
        };
        let dated = instant.map(|i| self.dating.place(i.to_utc()));
        let (date, time) = instant.map(|i| wire_fields(&i.civil)).unzip();
        let said =
            Said { speaker: Speaker::Ubx(name), date, time, dated, valid: Some(valid), resolved, unchecked: false };
        Some(self.hear(said, place))
    }

    fn hear_of_pulse(&mut self, tp: &ubx::TimTp, place: Place) {
        let sign = match self.config.sawtooth {
            SawtoothUse::Auto => None,
            SawtoothUse::Add => Some(1),
            SawtoothUse::Subtract => Some(-1),
            SawtoothUse::Off => return,
        };
        let Some(error_ps) = tp.error else { return };
        let tai_minus_utc = self.sky.tai_minus_utc().unwrap_or(self.config.tai_minus_utc);
        let pulse: Option<Timestamp<Tai>> = match tp.pulse {
            Pulse::Tai(at) => Some(at),
            Pulse::Utc(at) => Some(at.reinterpret() + Span::from_whole_seconds(tai_minus_utc.into())),
            Pulse::Other => None,
        };
        self.reports.push_back(Report::Sawtooth(Sawtooth { local: LocalStamp::Raw(place.at), pulse, error_ps, sign }));
    }

    /// What comes of a message that was to name a time.
    fn hear(&mut self, said: Said, place: Place) -> Heard {
        let second60 = said.time.is_some_and(|t| t.second == 60);
        let heard = Heard {
            at: place.at,
            offset: place.offset,
            speaker: said.speaker,
            date: said.date,
            time: said.time,
            utc: said.dated.and_then(|d| d.utc),
            second60,
            periods: said.dated.map_or(0, |d| d.periods),
            outcome: Outcome::Unsteady,
        };
        let outcome = match self.judge(&said, place) {
            Ok((utc, dated)) => {
                if said.date.is_some() {
                    self.dating.believe(dated.sent, place.at);
                }
                if dated.periods != 0 {
                    self.health.rollover_repaired += 1;
                }
                self.weigh(&said, utc, second60, place)
            }
            Err(refusal) => Outcome::Refused(refusal),
        };
        Heard { outcome, ..heard }
    }

    /// May its time be believed?
    fn judge(&mut self, said: &Said, place: Place) -> Result<(Timestamp<Utc>, Dated), Refusal> {
        if said.unchecked {
            return Err(Refusal::NoChecksum);
        }
        if let Some(valid) = said.valid {
            self.valid = valid;
            self.worded = Some(place.arrived);
        }
        if matches!(said.speaker, Speaker::Ubx(_)) {
            self.sky.hear_of_resolution(said.resolved);
        }
        let resolved = said.resolved && self.sky.is_resolved();
        if said.time.is_none() {
            if said.valid == Some(false) {
                self.no_fix(place.arrived);
                return Err(Refusal::NoFix);
            }
            return Err(Refusal::NoTime);
        }
        if !said.valid.unwrap_or(self.valid) && !self.config.without_fix {
            self.no_fix(place.arrived);
            return Err(if resolved { Refusal::NoFix } else { Refusal::LeapSecondsUnknown });
        }
        if !resolved {
            self.no_fix(place.arrived);
            return Err(Refusal::LeapSecondsUnknown);
        }
        let dated = said.dated.ok_or(Refusal::NoDate)?;
        let Some(utc) = dated.utc else {
            let reason = DeviceReason::ImpossibleDate { date: in_words(dated.sent) };
            self.become_state(DevicePhase::Faulty, reason, place.arrived);
            return Err(Refusal::ImpossibleDate);
        };
        Ok((utc, dated))
    }

    /// Is a time that may be believed to be used?
    fn weigh(&mut self, said: &Said, utc: Timestamp<Utc>, second60: bool, place: Place) -> Outcome {
        // What has no word on validity carries the time only if nothing else can.
        if said.valid.is_none() && self.worded.is_some_and(|at| place.arrived - at <= QUIET) {
            return if self.cycle.is_steady() { Outcome::NotChosen } else { Outcome::Unsteady };
        }
        if self.config.only_ubx && matches!(said.speaker, Speaker::Nmea(..)) {
            return Outcome::NotChosen;
        }
        if self.cycle.note(utc)
            && let Some(report) = self.sky.finish_cycle()
        {
            self.reports.push_back(Report::Receiver(report));
        }
        match self.cycle.carries(said.speaker) {
            Err(Unsteady) => return Outcome::Unsteady,
            Ok(false) => return Outcome::NotChosen,
            Ok(true) if said.date.is_none() && !self.dating.is_confirmed() => return Outcome::Unsteady,
            Ok(true) => {}
        }
        if self.last_sample.is_some_and(|(last, _)| last == utc) && !second60 {
            self.health.stale += 1;
            return Outcome::Repeated;
        }
        let waited = self.has_waited(place.arrived);
        let civil = CivilTime::from_utc(utc);
        self.last_sample = Some((utc, place.arrived));
        if waited {
            self.health.stale += 1;
            return Outcome::Waited;
        }
        self.become_state(DevicePhase::Good, DeviceReason::Delivering, place.arrived);
        if !second60 && (civil.day, civil.hour, civil.minute, civil.second) == (1, 0, 0, 0) {
            return Outcome::MonthBegins;
        }
        self.health.samples += 1;
        self.reports.push_back(Report::Sample(Sample {
            local: LocalStamp::Raw(place.at),
            reference: utc,
            second60,
            quantum: Span::from_millis(1),
            leap: self.leap_indicator(utc),
        }));
        Outcome::Sample
    }

    /// What the receiver says of the end of this month.
    fn leap_indicator(&self, utc: Timestamp<Utc>) -> Option<LeapIndicator> {
        let Some(coming) = self.sky.coming_leap()? else { return Some(LeapIndicator::None) };
        let this_month = CivilTime::from_utc(coming.at - ONE_SECOND).month == CivilTime::from_utc(utc).month;
        Some(match coming.change {
            _ if !this_month || utc >= coming.at => LeapIndicator::None,
            1.. => LeapIndicator::Insert,
            _ => LeapIndicator::Delete,
        })
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
        self.cycle.restart();
        if let Some(report) = self.sky.finish_cycle() {
            self.reports.push_back(Report::Receiver(report));
        }
        let reason = DeviceReason::NoFix { satellites_used: self.sky.used_without_fix() };
        self.become_state(DevicePhase::WaitingForFix, reason, now);
    }
}

/// Date and time of day as they stand in a message.
fn wire_fields(civil: &CivilTime) -> (Date, Time) {
    let CivilTime { year, month, day, hour, minute, second, nanos } = *civil;
    (Date { year, month, day }, Time { hour, minute, second, nanos })
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "habits_tests.rs"]
mod habits_tests;
