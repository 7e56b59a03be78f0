//! One session with gpsd: bytes in; requests, samples and states out.

use std::collections::VecDeque;

use super::json::{Device, Message, Sky, SkySatellite, Stamps, Tpv, parse};
use super::pulse_window::PulseWindow;
use crate::device::{DevicePhase, DeviceReason, DeviceState, Health};
use crate::nmea::DateFold;
use crate::report::{Constellation, Fix, LocalStamp, ReceiverReport, Report, Sample, Satellite};
use crate::time::{Raw, Realtime, Span, Timestamp, Utc};

/// gpsd cuts lines off at this length.
const LONGEST: usize = 10_240;
/// No message for so long: stale.
const QUIET: Span = Span::from_whole_seconds(5);
/// A greeting that does not come in this time is not gpsd's.
const GREETING: Span = Span::from_whole_seconds(3);
/// What we ask for: TOFF comes only with pps.
const WATCH: &[u8] = b"?WATCH={\"enable\":true,\"json\":true,\"pps\":true};\n";

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Time messages.
    Message,
    /// Numbered pulses.
    Pulse,
}

/// How the session is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
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
    transmit: VecDeque<&'static [u8]>,
    reports: VecDeque<(Stream, Report)>,
    health: [Health; 2],
    states: [Option<DeviceState>; 2],
    mode: Option<i64>,
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
            mode: None,
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
        self.mode = None;
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
    pub fn poll_transmit(&mut self) -> Option<&'static [u8]> {
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
            self.transmit.push_back(WATCH);
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
            Message::Error(_) => self.health[0].malformed += 1,
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
        if !is_open && !device.path.is_empty() && self.last_message.is_none() {
            let path = format!("{} (through gpsd)", device.path);
            self.become_state(Stream::Message, DevicePhase::Absent, DeviceReason::Unplugged { path }, now);
        }
    }

    fn handle_tpv(&mut self, tpv: &Tpv, now: Timestamp<Raw>) {
        self.mode = Some(tpv.mode);
        self.leap_gps = tpv.leapseconds.or(self.leap_gps);
        if tpv.mode < 2 {
            self.last_message.get_or_insert(now);
            let reason = DeviceReason::NoFix { satellites_used: None };
            self.become_state(Stream::Message, DevicePhase::WaitingForFix, reason, now);
        }
        self.tell_receiver(None);
    }

    fn handle_sky(&mut self, sky: &Sky) {
        if let Some(satellites) = &sky.satellites {
            self.tell_receiver(Some(satellites.iter().filter_map(satellite).collect()));
        }
    }

    fn tell_receiver(&mut self, satellites: Option<Vec<Satellite>>) {
        let mut report = self.told.clone().unwrap_or_default();
        if let Some(satellites) = satellites {
            report.satellites_used = Some(satellites.iter().filter(|s| s.used).count() as u16);
            report.satellites = satellites;
        }
        report.fix = match self.mode {
            Some(2) => Some(Fix::TwoD),
            Some(3..) => Some(Fix::ThreeD),
            Some(_) => Some(Fix::None),
            None => None,
        };
        // GPS runs 19 s behind TAI.
        report.tai_minus_utc = self.leap_gps.and_then(|l| i32::try_from(l.checked_add(19)?).ok());
        if self.told.as_ref() != Some(&report) {
            self.told = Some(report.clone());
            self.reports.push_back((Stream::Message, Report::Receiver(report)));
        }
    }

    fn handle_toff(&mut self, stamps: &Stamps, now: Timestamp<Raw>) {
        self.last_message = Some(now);
        // gpsd gives TOFF only with a fix; a TPV that says otherwise is the better witness.
        if self.mode.is_some_and(|m| m < 2) {
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
        let slot = &mut self.states[stream as usize];
        let same_kind =
            |s: &DeviceState| s.phase == phase && std::mem::discriminant(&s.reason) == std::mem::discriminant(&reason);
        if !slot.as_ref().is_some_and(same_kind) {
            let state = DeviceState { phase, reason, since };
            *slot = Some(state.clone());
            self.reports.push_back((stream, Report::State(state)));
        }
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GREETING_LINE: &[u8] =
        b"{\"class\":\"VERSION\",\"release\":\"3.22\",\"rev\":\"3.22\",\"proto_major\":3,\"proto_minor\":14}\r\n";

    fn session() -> Session {
        let mut session =
            Session::new(Config { not_before: Timestamp::from_parts(1_751_328_000, 0), last_good: Timestamp::EPOCH });
        session.handle_open(Timestamp::from_parts(1, 0));
        session
    }

    fn feed(session: &mut Session, second: i64, text: &str) -> Vec<(Stream, Report)> {
        session.handle_bytes(text.as_bytes(), Timestamp::from_parts(second, 0)).unwrap();
        std::iter::from_fn(|| session.poll_report()).filter(|(_, r)| matches!(r, Report::Sample(_))).collect()
    }

    fn toff(real: i64, clock: i64, nanos: i64) -> String {
        format!(
            "{{\"class\":\"TOFF\",\"device\":\"/dev/ttyAMA0\",\"real_sec\":{real}, \"real_nsec\":0,\"clock_sec\":{clock},\"clock_nsec\":{nanos}}}\r\n"
        )
    }

    #[test]
    fn the_most_absurd_numbers_are_refused() {
        let mut session = session();
        session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0)).unwrap();
        assert_eq!(feed(&mut session, 2, &toff(1_795_319_391, 1_795_319_391, i64::MIN)), []);
        assert_eq!(session.health(Stream::Message).malformed, 1);
        let text = format!("{{\"class\":\"TPV\",\"mode\":3,\"leapseconds\":{}}}\n", i64::MAX);
        session.handle_bytes(text.as_bytes(), Timestamp::from_parts(2, 0)).unwrap();
        assert_eq!(session.told.map(|t| t.tai_minus_utc), Some(None));
    }

    #[test]
    fn asks_to_watch_once_gpsd_has_greeted() {
        let mut session = session();
        assert_eq!(session.poll_transmit(), None);
        session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0)).unwrap();
        assert_eq!(session.poll_transmit(), Some(WATCH));
    }

    #[test]
    fn messages_keep_every_nanosecond() {
        let mut session = session();
        session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0)).unwrap();
        let found = feed(&mut session, 2, &toff(1_795_319_465, 1_795_319_465, 141_078_203));
        let [(Stream::Message, Report::Sample(sample))] = &found[..] else { unreachable!("{found:?}") };
        assert_eq!(sample.local, LocalStamp::Realtime(Timestamp::from_nanos(1_795_319_465_141_078_203)));
        assert_eq!(feed(&mut session, 3, &toff(1_795_319_465, 1_795_319_465, 141_078_203)), []);
    }

    #[test]
    fn no_fix_gates_the_messages() {
        let mut session = session();
        session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0)).unwrap();
        feed(&mut session, 2, "{\"class\":\"TPV\",\"device\":\"/dev/gps0\",\"mode\":1}\r\n");
        assert_eq!(feed(&mut session, 2, &toff(1_795_319_465, 1_795_319_465, 1)), []);
        feed(&mut session, 3, "{\"class\":\"TPV\",\"device\":\"/dev/gps0\",\"mode\":3,\"leapseconds\":18}\r\n");
        assert_eq!(feed(&mut session, 3, &toff(1_795_319_466, 1_795_319_466, 1)).len(), 1);
    }

    #[test]
    fn a_date_1024_weeks_ahead_comes_back() {
        let mut session = session();
        session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0)).unwrap();
        let found = feed(&mut session, 2, &toff(1_795_319_465 + 619_315_200, 1_795_319_465, 1));
        let (_, Report::Sample(sample)) = &found[0] else { unreachable!() };
        assert_eq!(sample.reference.whole_seconds(), 1_795_319_465);
        assert_eq!(session.health(Stream::Message).rollover_repaired, 1);
    }

    #[test]
    fn other_servers_are_told_apart() {
        for text in ["SSH-2.0-OpenSSH_9\r\n", "{\"class\":\"TPV\",\"mode\":3}\r\n", "{\"hello\":1}\n"] {
            assert_eq!(
                session().handle_bytes(text.as_bytes(), Timestamp::from_parts(1, 0)),
                Err(Fatal::NotGpsd),
                "{text}"
            );
        }
        assert_eq!(session().handle_timeout(Timestamp::from_parts(5, 0)), Err(Fatal::NotGpsd));
    }

    #[test]
    fn bad_and_endless_lines_are_skipped() {
        let mut session = session();
        session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0)).unwrap();
        feed(&mut session, 2, &("{\"class\":\"TOFF\",".to_owned() + &"x".repeat(20_000) + "\n{broken\n"));
        assert_eq!(session.health(Stream::Message).malformed, 2);
        assert_eq!(feed(&mut session, 2, &toff(1_795_319_465, 1_795_319_465, 1)).len(), 1);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), numbers in any::<[i64; 4]>()) {
            let mut session = session();
            let _ = session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0));
            let _ = session.handle_bytes(&bytes, Timestamp::from_parts(1, 0));
            let [a, b, c, d] = numbers;
            for class in ["TOFF", "PPS"] {
                let text = format!("\n{{\"class\":\"{class}\",\"real_sec\":{a},\"real_nsec\":{b},\"clock_sec\":{c},\"clock_nsec\":{d}}}\n");
                let _ = session.handle_bytes(text.as_bytes(), Timestamp::from_parts(1, 0));
            }
        }
    }
}
