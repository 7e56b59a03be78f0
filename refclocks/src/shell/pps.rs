//! The PPS shell: one fetch a second from a device that may not be there.
//!
//! Where the pulse comes on the DCD input of a serial port, the port is named, and the kernel's line
//! discipline is attached to it; the PPS device is the one that appears then.

use std::io;
use std::time::Duration;

use super::Delivery;
use crate::device::{Backoff, DevicePhase, DeviceReason};
use crate::pps::Tracker;
use crate::report::Edge;
use crate::sys::clock::{bracket, raw_now};
use crate::sys::line_discipline::{PulsePort, pulse_device, serial_port};
use crate::sys::pps::{OpenError, PpsDevice};

/// Which device, and which edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PpsConfig {
    /// Path, e.g. `/dev/pps0`, or of the serial port whose DCD input carries the pulse.
    pub path: String,
    /// The edge on the second.
    pub edge: Edge,
}

/// Reads pulses for ever.
pub async fn run(config: PpsConfig, mut sink: impl FnMut(Delivery)) {
    let mut tracker = Tracker::new(config.edge);
    let mut backoff = Backoff::default();
    loop {
        // A device that cannot be fetched from is not open: it would only come and go.
        match open(&config).and_then(|(device, port)| Ok((tried(device).map_err(OpenError::Io)?, port))) {
            Ok((device, _port)) => {
                tracker.handle_open(raw_now());
                let error = follow(&device, &mut tracker, &mut backoff, &mut sink).await;
                let (phase, reason) = match error.raw_os_error() {
                    Some(libc::ENODEV | libc::ENXIO | libc::EIO | libc::EBADF) => {
                        (DevicePhase::Absent, DeviceReason::Unplugged { path: config.path.clone() })
                    }
                    _ => super::explain_open(config.path.clone(), &error),
                };
                tracker.handle_fault(phase, reason, raw_now());
            }
            Err(error) => {
                let (phase, reason) = explain(&config.path, &error);
                tracker.handle_fault(phase, reason, raw_now());
            }
        }
        deliver(&mut tracker, &mut sink);
        tokio::time::sleep(backoff.next_delay().to_duration()).await;
    }
}

/// Opens the device; with it the serial port that has it only for as long as the port is open.
fn open(config: &PpsConfig) -> Result<(PpsDevice, Option<PulsePort>), OpenError> {
    let Some(name) = serial_port(&config.path) else {
        return Ok((PpsDevice::open(&config.path, config.edge)?, None));
    };
    // Attached by another program, it is there already.
    let port = if pulse_device(&name).is_none() { Some(PulsePort::attach(&config.path)?) } else { None };
    let path = pulse_device(&name).ok_or(io::Error::from_raw_os_error(libc::ENODEV))?;
    Ok((PpsDevice::open(&path.to_string_lossy(), config.edge)?, port))
}

async fn follow(
    device: &PpsDevice,
    tracker: &mut Tracker,
    backoff: &mut Backoff,
    sink: &mut impl FnMut(Delivery),
) -> io::Error {
    loop {
        let info = match device.fetch() {
            Ok(info) => info,
            Err(error) if is_nothing_new(&error) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            Err(error) => return error,
        };
        tracker.handle_fetch(&info, &bracket());
        if tracker.health().pulses > 0 {
            backoff.reset();
        }
        deliver(tracker, sink);
        let wait = tracker.poll_timeout().map_or(Duration::ZERO, |due| (due - raw_now()).to_duration());
        tokio::time::sleep(wait).await;
    }
}

/// The device, once a fetch from it has not failed.
fn tried(device: PpsDevice) -> io::Result<PpsDevice> {
    match device.fetch() {
        Err(error) if !is_nothing_new(&error) => Err(error),
        _ => Ok(device),
    }
}

/// There are kernels for whom a timeout of zero means that.
fn is_nothing_new(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIMEDOUT | libc::EINTR | libc::EAGAIN))
}

fn deliver(tracker: &mut Tracker, sink: &mut impl FnMut(Delivery)) {
    while let Some(report) = tracker.poll_report() {
        sink(Delivery { at: raw_now(), report, health: tracker.health() });
    }
}

fn explain(path: &str, error: &OpenError) -> (DevicePhase, DeviceReason) {
    let path = path.to_owned();
    match error {
        OpenError::NotPps => (DevicePhase::Faulty, DeviceReason::NotThisKind { path, expected: "a PPS device" }),
        OpenError::EdgeNotCaptured => (DevicePhase::Faulty, DeviceReason::EdgeNotCaptured { path }),
        OpenError::NoLineDiscipline => (DevicePhase::Faulty, DeviceReason::NoLineDiscipline { path }),
        OpenError::Io(error) => super::explain_open(path, error),
    }
}
