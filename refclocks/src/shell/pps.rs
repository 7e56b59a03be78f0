//! The PPS shell: one fetch a second from a device that may not be there.
//!
//! Where the pulse comes on the DCD input of a serial port, the port is named, and the kernel's line
//! discipline is attached to it; the PPS device is the one that appears then.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::comeback::Comeback;
use super::{Delivery, Look, Tap};
use crate::device::{DevicePhase, DeviceReason};
use crate::pps::Tracker;
use crate::report::{Edge, Remark, Report};
use crate::sys::clock::{bracket, raw_now};
use crate::sys::line_discipline::{PulsePort, pulse_device, serial_port};
use crate::sys::pps::{OpenError, PpsDevice};
use crate::sys::pps_class::{CLASS, receivers};

/// Which device, which edge, and what is wanted besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PpsConfig {
    /// Path, e.g. `/dev/pps0`, or of the serial port whose DCD input carries the pulse. `None`: the one
    /// that is a receiver's.
    pub path: Option<String>,
    /// The edge on the second. `None`: the one that begins the pulse.
    pub edge: Option<Edge>,
    /// Have it echoed on the device's output.
    pub echo: bool,
    /// Hand it to the kernel's own discipline as well.
    pub kernel_consumer: bool,
}

/// Reads pulses for ever.
pub async fn run(config: PpsConfig, sink: impl FnMut(Delivery)) {
    run_tapped(config, Tap::default(), sink).await;
}

/// The same, with what each fetch says for a tap as well.
pub async fn run_tapped(config: PpsConfig, tap: Tap, mut sink: impl FnMut(Delivery)) {
    let mut tracker = Tracker::new(config.edge);
    let mut comeback = Comeback::default();
    loop {
        // A device that cannot be fetched from is not open: it would only come and go.
        let path = place(&config);
        let opened = path.and_then(|path| match open(&path, config.edge).and_then(tried) {
            Ok(opened) => Ok((path, opened)),
            Err(error) => Err((path, error)),
        });
        // What may make it appear: its own path, or any PPS device.
        let mut appears = config.path.clone().unwrap_or_else(|| "/dev/pps0".to_owned());
        match opened {
            Ok((path, (device, _port))) => {
                tracker.handle_open(raw_now());
                let error = follow(&device, (&config, &tap), &mut tracker, &mut comeback, &mut sink).await;
                let (phase, reason) = match error.raw_os_error() {
                    Some(libc::ENODEV | libc::ENXIO | libc::EIO | libc::EBADF) => {
                        (DevicePhase::Absent, DeviceReason::Unplugged { path: path.clone() })
                    }
                    _ => super::explain_open(path.clone(), &error),
                };
                appears = path;
                tracker.handle_fault(phase, reason, raw_now());
            }
            Err((path, error)) => {
                let (phase, reason) = explain(&path, &error);
                tracker.handle_fault(phase, reason, raw_now());
                if !path.is_empty() {
                    appears = path;
                }
            }
        }
        deliver(&mut tracker, &mut sink);
        comeback.wait(Some(Path::new(&appears))).await;
    }
}

/// The path to open.
fn place(config: &PpsConfig) -> Result<String, (String, OpenError)> {
    match &config.path {
        Some(path) => Ok(path.clone()),
        None => match receivers(Path::new(CLASS)) {
            Ok(path) => Ok(path.to_string_lossy().into_owned()),
            Err(others) => Err((String::new(), OpenError::NotAReceivers(others))),
        },
    }
}

/// Opens the device; with it the serial port that has it only for as long as the port is open.
fn open(path: &str, edge: Option<Edge>) -> Result<(PpsDevice, Option<PulsePort>), OpenError> {
    let Some(name) = serial_port(path) else {
        return Ok((PpsDevice::open(path, edge)?, None));
    };
    // Attached by another program, it is there already.
    let port = if pulse_device(&name).is_none() { Some(PulsePort::attach(path)?) } else { None };
    let path = pulse_device(&name).ok_or(io::Error::from_raw_os_error(libc::ENODEV))?;
    Ok((PpsDevice::open(&path.to_string_lossy(), edge)?, port))
}

async fn follow(
    device: &PpsDevice,
    (config, tap): (&PpsConfig, &Tap),
    tracker: &mut Tracker,
    comeback: &mut Comeback,
    sink: &mut impl FnMut(Delivery),
) -> io::Error {
    let mut asked = false;
    loop {
        let info = match device.fetch() {
            Ok(info) => info,
            Err(error) if is_nothing_new(&error) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            Err(error) => return error,
        };
        let now = bracket();
        tap.look(&now, || Look::Pulse(info));
        tracker.handle_fetch(&info, &now);
        if tracker.health().pulses > 0 {
            comeback.reset();
        }
        if tracker.is_silent() && device.is_gone() {
            return io::Error::from_raw_os_error(libc::ENODEV);
        }
        deliver(tracker, sink);
        if let Some(edge) = tracker.edge().filter(|_| !asked) {
            asked = true;
            for remark in ask_besides(device, config, edge) {
                sink(Delivery { at: raw_now(), report: Report::Remark(remark), health: tracker.health() });
            }
        }
        let wait = tracker.poll_timeout().map_or(Duration::ZERO, |due| (due - raw_now()).to_duration());
        tokio::time::sleep(wait).await;
    }
}

/// Asks for what is wanted besides the stamps; without it they are as good.
fn ask_besides(device: &PpsDevice, config: &PpsConfig, edge: Edge) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let mut say = |granted: &'static str, refused: &'static str, answer: io::Result<()>| {
        remarks.push(match answer {
            Ok(()) => Remark::Granted { what: granted },
            Err(error) => Remark::Refused { what: refused, why: why_refused(&error) },
        });
    };
    if config.echo {
        say("the pulse is echoed", "the pulse is not echoed", device.echo(edge));
    }
    if config.kernel_consumer {
        let bound = device.bind_kernel_consumer(edge);
        say(
            "the kernel's own discipline gets the pulse as well",
            "the kernel's own discipline does not get the pulse",
            bound,
        );
    }
    remarks
}

fn why_refused(error: &io::Error) -> String {
    match (error.kind(), error.raw_os_error()) {
        (_, Some(libc::EPERM | libc::EACCES)) => "only root and who has CAP_SYS_TIME may ask for that".into(),
        (io::ErrorKind::Unsupported, _) | (_, Some(libc::EOPNOTSUPP | libc::ENOTTY)) => {
            "this kernel or device cannot do it; kernels without a periodic tick, such as Debian's and Raspberry Pi \
             OS's, have no discipline of their own"
                .into()
        }
        _ => error.to_string(),
    }
}

/// The device, once a fetch from it has not failed.
fn tried(opened: (PpsDevice, Option<PulsePort>)) -> Result<(PpsDevice, Option<PulsePort>), OpenError> {
    match opened.0.fetch() {
        Err(error) if !is_nothing_new(&error) => Err(OpenError::Io(error)),
        _ => Ok(opened),
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
        OpenError::NotAReceivers(others) => {
            (DevicePhase::Absent, DeviceReason::NoPulseDevice { others: others.clone() })
        }
        OpenError::NoLineDiscipline => (DevicePhase::Faulty, DeviceReason::NoLineDiscipline { path }),
        OpenError::Io(error) => super::explain_open(path, error),
    }
}
