//! One session with gpsd: bytes in; requests, samples and states out.

use std::collections::VecDeque;

use super::devices::Devices;
use super::json::{Device, Message, Osc, Sky, SkySatellite, Stamps, Tpv, parse};
use super::pulse_window::PulseWindow;
use super::stream::Stream;
use crate::device::{DevicePhase, DeviceReason, DeviceState, Health};
use crate::nmea::DateFold;
use crate::report::{Fix, LocalStamp, ReceiverReport, Remark, Report, Sample};
use crate::satellite::{Constellation, Satellite};
use crate::time::{Raw, Realtime, Span, Timestamp, Utc};

/// gpsd cuts lines off at this length.
const LONGEST: usize = 10_240;
/// No message for so long: stale.
const QUIET: Span = Span::from_whole_seconds(5);
/// A greeting that does not come in this time is not gpsd's.
const GREETING: Span = Span::from_whole_seconds(3);

/// How the session is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The receiver to follow, by gpsd's path of it. `None`: the first that has time.
    pub device: Option<String>,
    /// No date can be earlier; gpsd adds 1024 weeks to dates it does not believe.
    pub not_before: Timestamp<Utc>,
    /// The last good time known; see [`DateFold`].
    pub last_good: Timestamp<Utc>,
}

/// The session.
#[derive(Debug)]
pub struct Session {
    fold: DateFold,
    line: Vec<u8>,
    skipping: bool,
    greeted: bool,
    transmit: VecDeque<Vec<u8>>,
    reports: VecDeque<(Stream, Report)>,
    health: [Health; 2],
    states: [Option<DeviceState>; 2],
    devices: Devices,
    status: Option<i64>,
    oscillator: Option<Osc>,
    complaint: Option<String>,
    leap_gps: Option<i64>,
    window: PulseWindow,
    last_message: Option<Timestamp<Raw>>,
    last_pulse: Option<Timestamp<Raw>>,
    opened: Option<Timestamp<Raw>>,
    last_named: Option<Timestamp<Utc>>,
    told: Option<ReceiverReport>,
}

/// The session cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// What answers is not gpsd.
    #[error("what answers there is not gpsd")]
    NotGpsd,
}

impl Session {
    /// A session that has not begun.
    pub fn new(config: Config) -> Self {
        Self {
            fold: DateFold { not_before: config.not_before, last_good: config.last_good },
            line: Vec::new(),
            skipping: false,
            greeted: false,
            transmit: VecDeque::new(),
            reports: VecDeque::new(),
            health: [Health::default(); 2],
            states: [None, None],
            devices: Devices::new(config.device),
            status: None,
            oscillator: None,
            complaint: None,
            leap_gps: None,
            window: PulseWindow::default(),
            last_message: None,
            last_pulse: None,
            opened: None,
            last_named: None,
            told: None,
        }
    }

    /// Connected.
    pub fn handle_open(&mut self, now: Timestamp<Raw>) {
        for health in &mut self.health {
            health.opened += 1;
        }
        self.line.clear();
        self.skipping = false;
        self.greeted = false;
        self.devices.clear();
        self.status = None;
        self.window.clear();
        self.opened = Some(now);
        self.last_message = None;
        self.last_pulse = None;
        self.both(DevicePhase::Opening, &DeviceReason::Silent, now);
    }

    /// Not connected, and why.
    pub fn handle_fault(&mut self, phase: DevicePhase, reason: &DeviceReason, now: Timestamp<Raw>) {
        self.opened = None;
        self.both(phase, reason, now);
    }

    /// Bytes came.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Timestamp<Raw>) -> Result<(), Fatal> {
        self.health[0].bytes += bytes.len() as u64;
        for &byte in bytes {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                if std::mem::take(&mut self.skipping) {
                    self.health[0].malformed += 1;
                } else if line.iter().any(|b| !b.is_ascii_whitespace()) {
                    self.handle_line(&line, now)?;
                }
            } else if self.line.len() < LONGEST {
                self.line.push(byte);
            } else {
                self.skipping = true;
            }
        }
        if !self.greeted && self.health[0].bytes > LONGEST as u64 && self.health[0].frames == 0 {
            return Err(Fatal::NotGpsd);
        }
        Ok(())
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Timestamp<Raw>) -> Result<(), Fatal> {
        if let Some(opened) = self.opened
            && !self.greeted
            && now - opened >= GREETING
        {
            return Err(Fatal::NotGpsd);
        }
        for (stream, last) in [(Stream::Message, self.last_message), (Stream::Pulse, self.last_pulse)] {
            if let Some(at) = last
                && now - at >= QUIET
                && self.phase(stream) != Some(DevicePhase::Stale)
            {
                self.become_state(stream, DevicePhase::Stale, DeviceReason::Quiet { silence: now - at }, now);
            }
        }
        Ok(())
    }

    /// When to call [`Session::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        let opened = self.opened?;
        if !self.greeted {
            return Some(opened + GREETING);
        }
        let due = |stream, last: Option<Timestamp<Raw>>| {
            last.filter(|_| self.phase(stream) != Some(DevicePhase::Stale)).map(|at| at + QUIET)
        };
        let (a, b) = (due(Stream::Message, self.last_message), due(Stream::Pulse, self.last_pulse));
        match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// What to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.pop_front()
    }

    /// The next report, and of which stream.
    pub fn poll_report(&mut self) -> Option<(Stream, Report)> {
        self.reports.pop_front()
    }

    /// The counters of a stream.
    pub fn health(&self, stream: Stream) -> Health {
        self.health[stream as usize]
    }

    fn handle_line(&mut self, line: &[u8], now: Timestamp<Raw>) -> Result<(), Fatal> {
        let message = match parse(line) {
            Ok(message) => message,
            Err(_) => {
                self.health[0].malformed += 1;
                return if self.greeted { Ok(()) } else { Err(Fatal::NotGpsd) };
            }
        };
        self.health[0].frames += 1;
        if !self.greeted {
            // gpsd speaks first, and says who it is.
            let Message::Version(_) = message else { return Err(Fatal::NotGpsd) };
            self.greeted = true;
            self.transmit.push_back(self.devices.watch());
            return Ok(());
        }
        match message {
            Message::Tpv(tpv) => self.handle_tpv(&tpv, now),
            Message::Sky(sky) => self.handle_sky(&sky),
            Message::Toff(stamps) => self.handle_toff(&stamps, now),
            Message::Pps(stamps) => self.handle_pps(&stamps, now),
            Message::Device(device) => self.handle_device(&device, now),
            Message::Devices(devices) => {
                for device in &devices.devices {
                    self.handle_device(device, now);
                }
            }
            Message::Osc(osc) => self.handle_oscillator(osc),
            Message::Error(error) => {
                self.health[0].malformed += 1;
                if self.complaint.as_ref() != Some(&error.message) {
                    self.complaint = Some(error.message.clone());
                    self.remark(Remark::Refused { what: "gpsd refuses what we asked", why: error.message });
                }
            }
            Message::Version(_) | Message::Other => {}
        }
        Ok(())
    }

    fn handle_device(&mut self, device: &Device, now: Timestamp<Raw>) {
        let is_open = match &device.activated {
            None => false,
            Some(serde_json::Value::String(text)) => !text.is_empty(),
            Some(serde_json::Value::Number(n)) => n.as_f64().is_some_and(|at| at > 0.0),
            Some(_) => true,
        };
        if is_open || device.path.is_empty() {
            return;
        }
        for stream in [Stream::Message, Stream::Pulse] {
            let last = if stream == Stream::Message { &mut self.last_message } else { &mut self.last_pulse };
            // Nothing came of any device yet, or it was this one's.
            let is_this = match self.devices.followed(stream) {
                Some(followed) => followed == device.path,
                None => last.is_none() && stream == Stream::Message,
            };
            if is_this {
                *last = None;
                self.devices.left(stream);
                let path = format!("{} (through gpsd)", device.path);
                self.become_state(stream, DevicePhase::Absent, DeviceReason::Unplugged { path }, now);
            }
        }
    }

    fn handle_tpv(&mut self, tpv: &Tpv, now: Timestamp<Raw>) {
        self.devices.handle_mode(&tpv.device, tpv.mode);
        if !self.devices.may_be(Stream::Message, &tpv.device) {
            return;
        }
        self.leap_gps = tpv.leapseconds.or(self.leap_gps);
        self.status = tpv.status;
        if self.devices.mode(&tpv.device).is_some_and(|mode| mode < 2) {
            self.last_message.get_or_insert(now);
            let reason = DeviceReason::NoFix { satellites_used: None };
            self.become_state(Stream::Message, DevicePhase::WaitingForFix, reason, now);
        }
        self.tell_receiver(&tpv.device, None);
    }

    fn handle_oscillator(&mut self, osc: Osc) {
        if self.devices.may_be(Stream::Message, &osc.device) && self.oscillator.as_ref() != Some(&osc) {
            let Osc { running, reference, disciplined, .. } = osc;
            self.remark(Remark::Oscillator { running, reference, disciplined });
            self.oscillator = Some(osc);
        }
    }

    fn remark(&mut self, remark: Remark) {
        self.reports.push_back((Stream::Message, Report::Remark(remark)));
    }

    /// Is this the device to follow? Others that send as well are told once each.
    fn follows(&mut self, stream: Stream, device: &str, last: Option<Timestamp<Raw>>, now: Timestamp<Raw>) -> bool {
        let is_silent = last.is_none_or(|last| now - last >= QUIET);
        if self.devices.follow(stream, device, is_silent) {
            return true;
        }
        if let Some(followed) = self.devices.first_seen(stream, device) {
            self.remark(Remark::OtherDevice { followed, other: device.to_owned() });
        }
        false
    }

    fn handle_sky(&mut self, sky: &Sky) {
        if let Some(satellites) = &sky.satellites
            && self.devices.may_be(Stream::Message, &sky.device)
        {
            self.tell_receiver(&sky.device, Some(satellites.iter().filter_map(satellite).collect()));
        }
    }

    fn tell_receiver(&mut self, device: &str, satellites: Option<Vec<Satellite>>) {
        let mut report = self.told.clone().unwrap_or_default();
        if let Some(satellites) = satellites {
            report.satellites_used = Some(satellites.iter().filter(|s| s.used).count() as u16);
            report.satellites = satellites;
        }
        report.fix = match self.devices.mode(device) {
            Some(2..) if self.status == Some(7) => Some(Fix::Time),
            Some(2) => Some(Fix::TwoD),
            Some(3..) => Some(Fix::ThreeD),
            Some(_) => Some(Fix::None),
            None => None,
        };
        // GPS runs 19 s behind TAI.
        report.tai_minus_utc = self.leap_gps.and_then(|l| i32::try_from(l.checked_add(19)?).ok());
        if self.told.as_ref() != Some(&report) {
            self.told = Some(report.clone());
            self.reports.push_back((Stream::Message, Report::Receiver(Box::new(report))));
        }
    }

    fn handle_toff(&mut self, stamps: &Stamps, now: Timestamp<Raw>) {
        if !self.follows(Stream::Message, &stamps.device, self.last_message, now) {
            return;
        }
        self.last_message = Some(now);
        // gpsd gives TOFF only with a fix; a TPV that says otherwise is the better witness.
        if self.devices.mode(&stamps.device).is_some_and(|m| m < 2) {
            self.health[0].no_fix += 1;
            return;
        }
        let Some((local, reference)) = self.instants(stamps) else { return };
        if self.last_named == Some(reference) {
            self.health[0].stale += 1;
            return;
        }
        self.last_named = Some(reference);
        self.health[0].samples += 1;
        self.become_state(Stream::Message, DevicePhase::Good, DeviceReason::Delivering, now);
        self.reports.push_back((Stream::Message, sample(local, reference, Span::from_millis(1))));
    }

    fn handle_pps(&mut self, stamps: &Stamps, now: Timestamp<Raw>) {
        self.health[1].frames += 1;
        if !self.follows(Stream::Pulse, &stamps.device, self.last_pulse, now) {
            return;
        }
        self.last_pulse = Some(now);
        let Some((local, reference)) = self.instants(stamps) else { return };
        if !self.window.admits(local.reinterpret() - reference) {
            self.health[1].stale += 1;
            return;
        }
        self.health[1].samples += 1;
        self.health[1].pulses += 1;
        self.become_state(Stream::Pulse, DevicePhase::Good, DeviceReason::Delivering, now);
        self.reports.push_back((Stream::Pulse, sample(local, reference, Span::from_nanos(100))));
    }

    /// System time and receiver time, the latter with its date brought back where it can lie.
    fn instants(&mut self, stamps: &Stamps) -> Option<(Timestamp<Realtime>, Timestamp<Utc>)> {
        let plausible = |seconds: i64, nanos: i64| {
            let near = (-2_000_000_000..=2_000_000_000).contains(&nanos);
            ((0..=1 << 40).contains(&seconds) && near).then(|| Span::from_nanos(nanos))
        };
        let made = plausible(stamps.real_sec, stamps.real_nsec).zip(plausible(stamps.clock_sec, stamps.clock_nsec));
        let Some((real_nanos, clock_nanos)) = made else {
            self.health[0].malformed += 1;
            return None;
        };
        let local = Timestamp::<Realtime>::from_parts(stamps.clock_sec, 0) + clock_nanos;
        let said = Timestamp::<Utc>::from_parts(stamps.real_sec, 0) + real_nanos;
        let Some((reference, periods)) = self.fold.fold(said) else {
            self.health[0].malformed += 1;
            return None;
        };
        if periods > 0 {
            self.health[0].rollover_repaired += 1;
        }
        Some((local, reference))
    }

    fn phase(&self, stream: Stream) -> Option<DevicePhase> {
        self.states[stream as usize].as_ref().map(|s| s.phase)
    }

    fn both(&mut self, phase: DevicePhase, reason: &DeviceReason, now: Timestamp<Raw>) {
        for stream in [Stream::Message, Stream::Pulse] {
            self.become_state(stream, phase, reason.clone(), now);
        }
    }

    fn become_state(&mut self, stream: Stream, phase: DevicePhase, reason: DeviceReason, since: Timestamp<Raw>) {
        let change = DeviceState::change(&mut self.states[stream as usize], phase, reason, since);
        self.reports.extend(change.map(|state| (stream, Report::State(state))));
    }
}

fn sample(local: Timestamp<Realtime>, reference: Timestamp<Utc>, quantum: Span) -> Report {
    Report::Sample(Sample { local: LocalStamp::Realtime(local), reference, second60: false, quantum, leap: None })
}

fn satellite(s: &SkySatellite) -> Option<Satellite> {
    let number = s.svid.or(s.prn)?;
    Some(Satellite {
        constellation: match s.gnssid {
            Some(0) => Constellation::Gps,
            Some(1) => Constellation::Sbas,
            Some(2) => Constellation::Galileo,
            Some(3) => Constellation::BeiDou,
            Some(5) => Constellation::Qzss,
            Some(6) => Constellation::Glonass,
            Some(7) => Constellation::NavIc,
            _ => Constellation::Unknown,
        },
        number: u16::try_from(number).ok()?,
        elevation: s.el.filter(|e| e.abs() <= 90.0).map(|e| e as i8),
        azimuth: s.az.filter(|a| (0.0..=360.0).contains(a)).map(|a| a as u16),
        signal: s.ss.filter(|v| (0.0..=99.0).contains(v)).map(|v| v as u8),
        used: s.used,
    })
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
