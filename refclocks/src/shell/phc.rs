//! The shell of a PTP hardware clock: one reading a second, or one after each edge on its input.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::unix::AsyncFd;

use super::comeback::Comeback;
use super::{Delivery, Look, Tap};
use crate::device::{DevicePhase, DeviceReason};
use crate::phc::{ClockReader, ClockScale, Event, InputReader, Reading};
use crate::report::Edge;
use crate::sys::clock::{bracket, raw_now};
use crate::sys::phc::{PhcDevice, PhcError};
use crate::time::{Tai, Timestamp, Utc};

/// How often a clock is read, and how long an edge may be late.
const LOOK: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_millis(1250);

/// Which clock, and what of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhcConfig {
    /// Path, e.g. `/dev/ptp0`.
    pub path: String,
    /// What is read.
    pub what: What,
}

/// What is read of a hardware clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Its time.
    Clock {
        /// Which time it keeps.
        scale: ClockScale,
        /// No date before this is possible.
        not_before: Timestamp<Utc>,
    },
    /// The pulse on one of its inputs.
    Input {
        /// Which input.
        channel: u32,
        /// The pin that becomes that input. `None`: whatever it is already.
        pin: Option<u32>,
        /// The edge on the second.
        edge: Edge,
    },
}

/// Reads a clock for ever. `to_utc` tells UTC of TAI, and whether it lies within an inserted second.
pub async fn run(
    config: PhcConfig,
    to_utc: impl Fn(Timestamp<Tai>) -> (Timestamp<Utc>, bool),
    sink: impl FnMut(Delivery),
) {
    run_tapped(config, to_utc, Tap::default(), sink).await;
}

/// The same, with each reading and all edges for a tap as well.
pub async fn run_tapped(
    config: PhcConfig,
    to_utc: impl Fn(Timestamp<Tai>) -> (Timestamp<Utc>, bool),
    tap: Tap,
    mut sink: impl FnMut(Delivery),
) {
    match config.what {
        What::Clock { scale, not_before } => {
            let mut reader = ClockReader::new(scale, not_before);
            let mut comeback = Comeback::default();
            loop {
                let error = match PhcDevice::open(&config.path) {
                    Ok(device) => {
                        reader.handle_open(raw_now());
                        comeback.reset();
                        follow(&device, (&mut reader, &tap), &to_utc, &mut sink).await.into()
                    }
                    Err(error) => error,
                };
                let (phase, reason) = explain(&config.path, &error);
                reader.handle_fault(phase, reason, raw_now());
                deliver(&mut reader, &mut sink);
                comeback.wait(Some(Path::new(&config.path))).await;
            }
        }
        What::Input { channel, pin, edge } => {
            let mut reader = InputReader::new(channel, edge);
            let mut comeback = Comeback::default();
            loop {
                let opened = PhcDevice::open(&config.path).and_then(|device| {
                    device.stamp_input(channel, pin, edge)?;
                    Ok(device.watch()?)
                });
                let error = match opened {
                    Ok(device) => {
                        reader.tracker().handle_open(raw_now());
                        comeback.reset();
                        follow_input(&device, (&mut reader, &tap), &mut sink).await.into()
                    }
                    Err(error) => error,
                };
                let (phase, reason) = explain(&config.path, &error);
                reader.tracker().handle_fault(phase, reason, raw_now());
                deliver_pulses(&mut reader, &mut sink);
                comeback.wait(Some(Path::new(&config.path))).await;
            }
        }
    }
}

/// Reads the clock each second until it goes away; returns how.
async fn follow(
    device: &PhcDevice,
    (reader, tap): (&mut ClockReader, &Tap),
    to_utc: &impl Fn(Timestamp<Tai>) -> (Timestamp<Utc>, bool),
    sink: &mut impl FnMut(Delivery),
) -> io::Error {
    loop {
        let reading = match device.read() {
            Ok(reading) => reading,
            Err(error) if is_passing(&error) => Reading::Bracketed(Vec::new()),
            Err(error) => return error,
        };
        let now = bracket();
        tap.look(&now, || Look::Clock(reading.clone()));
        reader.handle_reading(&reading, to_utc, &now);
        deliver(reader, sink);
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits for edges until the clock goes away; returns how.
async fn follow_input(
    device: &AsyncFd<PhcDevice>,
    (reader, tap): (&mut InputReader, &Tap),
    sink: &mut impl FnMut(Delivery),
) -> io::Error {
    loop {
        let events: Vec<Event> = match tokio::time::timeout(LATE, device.readable()).await {
            Err(_) => Vec::new(),
            Ok(Err(error)) => return error,
            Ok(Ok(mut guard)) => match guard.try_io(|device| device.get_ref().events()) {
                Ok(Ok(events)) => events,
                Ok(Err(error)) if is_passing(&error) => continue,
                Ok(Err(error)) => return error,
                Err(_would_block) => continue,
            },
        };
        match device.get_ref().read() {
            Ok(reading) => {
                let now = bracket();
                tap.look(&now, || Look::Input(reading.clone(), events.clone()));
                reader.handle_events(&events, &reading, &now);
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => return error,
        }
        deliver_pulses(reader, sink);
    }
}

/// The hardware was busy, or we were.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EINTR | libc::EAGAIN | libc::ETIMEDOUT))
}

fn deliver(reader: &mut ClockReader, sink: &mut impl FnMut(Delivery)) {
    while let Some(report) = reader.poll_report() {
        sink(Delivery { at: raw_now(), report, health: reader.health() });
    }
}

fn deliver_pulses(reader: &mut InputReader, sink: &mut impl FnMut(Delivery)) {
    while let Some(report) = reader.tracker().poll_report() {
        sink(Delivery { at: raw_now(), report, health: reader.tracker().health() });
    }
}

fn explain(path: &str, error: &PhcError) -> (DevicePhase, DeviceReason) {
    let path = path.to_owned();
    match error {
        PhcError::NotPhc => (DevicePhase::Faulty, DeviceReason::NotThisKind { path, expected: "a PTP hardware clock" }),
        PhcError::NoSuchInput => {
            (DevicePhase::Faulty, DeviceReason::NotThisKind { path, expected: "a clock with that input or pin" })
        }
        PhcError::Io(error) => match error.raw_os_error() {
            Some(libc::ENODEV | libc::ENXIO | libc::EIO) => (DevicePhase::Absent, DeviceReason::Unplugged { path }),
            _ => super::explain_open(path, error),
        },
    }
}
