//! The driver of a receiver on a line, without I/O: bytes in, samples and states out.

use super::config::Config;
use super::cycle::Cycle;
use super::framer::{Content, Framer};
use super::heard::Heard;
use super::mind::{Mind, Place, QUIET};
use crate::device::{DevicePhase, DeviceReason, Health};
use crate::report::Report;
use crate::time::{Raw, Timestamp};
use crate::ubx::setup::Setup;

/// So many bytes without one frame are another language, or another speed.
const GARBAGE: u64 = 400;

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

    /// The line's speed changed: the receiver there may be another, or restarted.
    pub fn set_baud(&mut self, baud: Option<u32>) {
        self.mind.setup = None;
        self.follow_speed(baud);
    }

    fn follow_speed(&mut self, baud: Option<u32>) {
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
        let tries_a_speed = mind.setup.as_ref().is_some_and(Setup::tries_a_speed);
        if mind.bytes_since_frame > GARBAGE && !tries_a_speed && mind.last_frame.is_none_or(|at| arrived - at > QUIET) {
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

    /// The speed that the receiver was told to have, bit/s: the line is to follow, once nothing is left to
    /// send.
    pub fn poll_speed(&mut self) -> Option<u32> {
        let speed = self.mind.setup.as_mut()?.poll_speed()?;
        self.follow_speed(Some(speed));
        Some(speed)
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

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "habits_tests.rs"]
mod habits_tests;
