//! What comes of a receiver's frames: which may be believed, which carries the time, what the receiver is
//! like.

use std::collections::VecDeque;

use super::config::{Checksums, Config, SawtoothUse};
use super::cycle::{Cycle, Unsteady};
use super::dating::{Dated, Dating, in_words};
use super::heard::{Heard, Outcome, Refusal, Speaker};
use super::sky::Sky;
use crate::calendar::CivilTime;
use crate::device::{DevicePhase, DeviceReason, DeviceState, Health};
use crate::nmea::{Date, DateFold, ParseError, Parsed, Sentence, Time};
use crate::report::{Fix, LeapIndicator, LocalStamp, Remark, Report, Sample, Sawtooth};
use crate::time::{Raw, Span, Tai, Timestamp, Utc};
use crate::ubx::setup::{Outcome as SetUp, Setup};
use crate::ubx::{self, Message, Pulse};

/// Silence after which the device is stale.
pub(super) const QUIET: Span = Span::from_whole_seconds(4);
/// A reader that was held up has caught up after this.
const CATCHING_UP: Span = Span::from_whole_seconds(1);
/// A receiver that was set up sends messages every second: so long without one, among sentences, and it was
/// restarted.
const FORGOTTEN: Span = Span::from_whole_seconds(10);
/// GPS time in `$GPZDG` names the pulse to come.
const ONE_SECOND: Span = Span::from_whole_seconds(1);

/// Where a frame was found.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub at: Timestamp<Raw>,
    pub offset: u64,
    /// When the read came in which it ended.
    pub arrived: Timestamp<Raw>,
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

/// What the driver makes of frames.
#[derive(Debug)]
pub(super) struct Mind {
    pub config: Config,
    pub health: Health,
    pub dating: Dating,
    pub cycle: Cycle,
    pub sky: Sky,
    pub reports: VecDeque<Report>,
    pub state: Option<DeviceState>,
    /// What the last message with a word on it said of the fix, and when one that also names a time did.
    pub valid: bool,
    pub worded: Option<Timestamp<Raw>>,
    /// A sentence with a checksum has come.
    pub checksum_seen: bool,
    pub last_sample: Option<(Timestamp<Utc>, Timestamp<Raw>)>,
    /// Until when the reader may be behind.
    pub behind_until: Option<Timestamp<Raw>>,
    pub last_frame: Option<Timestamp<Raw>>,
    pub opened: Option<Timestamp<Raw>>,
    pub bytes_since_frame: u64,
    /// Setting the receiver up, where that was asked for; begun as soon as it is understood.
    pub setup: Option<Setup>,
    /// When the last UBX message came.
    pub last_message: Option<Timestamp<Raw>>,
}

impl Mind {
    pub fn new(config: Config) -> Self {
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
            last_message: None,
        }
    }

    /// Takes a step of the set-up, and tells how it ended when it does.
    pub fn step_setup(&mut self, now: Timestamp<Raw>, step: impl FnOnce(&mut Setup)) {
        if let (None, Some(wishes), Some(_)) = (&self.setup, self.config.configure, self.last_frame) {
            self.setup = Some(Setup::new(wishes, self.config.baud, now));
        }
        let Some(setup) = &mut self.setup else { return };
        step(setup);
        let Some(outcome) = setup.poll_outcome() else { return };
        self.reports.push_back(Report::Remark(match &outcome {
            SetUp::Done(not_taken) if not_taken.is_empty() => Remark::Granted { what: "the receiver is set up" },
            other => Remark::Refused { what: "setting up the receiver", why: other.to_string() },
        }));
        self.sky.hear_of_setup(Some(outcome));
    }

    /// A receiver that was restarted has forgotten what it was set to: it sends sentences as before, and
    /// messages no more.
    fn set_up_again_if_forgotten(&mut self, now: Timestamp<Raw>) {
        let forgotten = self.last_message.is_some_and(|at| now - at > FORGOTTEN);
        if forgotten && self.setup.as_ref().is_some_and(Setup::made_it_speak) {
            self.setup = None;
            self.last_message = None;
        }
    }

    pub fn handle_open(&mut self, now: Timestamp<Raw>) {
        self.health.opened += 1;
        self.opened = Some(now);
        self.bytes_since_frame = 0;
        self.dating.forget();
        self.checksum_seen = false;
        self.setup = None;
        self.sky.hear_of_setup(None);
        self.last_message = None;
        self.last_frame = None;
        self.valid = false;
        self.worded = None;
        self.become_state(DevicePhase::Opening, DeviceReason::Silent, now);
    }

    pub fn phase(&self) -> Option<DevicePhase> {
        self.state.as_ref().map(|s| s.phase)
    }

    pub fn become_state(&mut self, phase: DevicePhase, reason: DeviceReason, since: Timestamp<Raw>) {
        let change = DeviceState::change(&mut self.state, phase, reason, since);
        self.reports.extend(change.map(Report::State));
    }

    fn understood(&mut self, place: Place) {
        self.health.frames += 1;
        self.bytes_since_frame = 0;
        self.last_frame = Some(place.arrived);
        self.step_setup(place.arrived, |_| ());
    }

    pub fn handle_sentence(&mut self, bytes: &[u8], place: Place) -> Option<Heard> {
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
            self.set_up_again_if_forgotten(place.arrived);
            self.understood(place);
            self.sky.push(talker, &sentence);
        } else {
            self.health.bad_checksum += 1;
        }
        let Some(speaker) = Speaker::of(talker, &sentence) else {
            if let (Sentence::Gsa { fix: Some(fix), .. }, true) = (sentence, counts) {
                self.hear_of_fix(fix != Fix::None, place);
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

    pub fn handle_message(&mut self, frame: ubx::Frame<'_>, place: Place) -> Option<Heard> {
        let message = match Message::decode(frame) {
            Ok(message) => message,
            Err(_) => {
                self.health.malformed += 1;
                return None;
            }
        };
        self.last_message = Some(place.arrived);
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
            Message::Setting { id, payload } => {
                self.step_setup(place.arrived, |setup| setup.handle_setting(id, payload, place.arrived));
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
            self.reports.push_back(Report::Receiver(Box::new(report)));
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
            self.reports.push_back(Report::Receiver(Box::new(report)));
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
