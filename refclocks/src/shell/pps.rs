//! The PPS shell: one fetch a second from a device that may not be there.

use std::io;
use std::time::Duration;

use super::Delivery;
use crate::device::{Backoff, DevicePhase, DeviceReason};
use crate::pps::Tracker;
use crate::report::Edge;
use crate::sys::clock::{bracket, raw_now};
use crate::sys::pps::{OpenError, PpsDevice};

/// Which device, and which edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PpsConfig {
    /// Path, e.g. `/dev/pps0`.
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
        match PpsDevice::open(&config.path, config.edge).and_then(|device| tried(device).map_err(OpenError::Io)) {
            Ok(device) => {
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
        OpenError::Io(error) => super::explain_open(path, error),
    }
}
