//! The serial shell: a port that may not be there, at a speed that may not be known.

use std::io;
use std::path::Path;

use tokio::io::unix::AsyncFd;

use super::comeback::Comeback;
use super::{Delivery, Tap};
use crate::device::{DevicePhase, DeviceReason};
use crate::receiver::{self, Driver, Hunt};
use crate::sys::clock::raw_now;
use crate::sys::tty::Tty;

/// Which port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialConfig {
    /// Path, e.g. `/dev/gps0`.
    pub path: String,
    /// Speed, bit/s; `None` finds it.
    pub baud: Option<u32>,
    /// May others open it? Only where its DCD input carries a pulse that another shell reads.
    pub shared: bool,
    /// The driver's settings.
    pub receiver: receiver::Config,
}

/// Reads a port for ever.
pub async fn run(config: SerialConfig, sink: impl FnMut(Delivery)) {
    run_tapped(config, Tap::default(), sink).await;
}

/// The same, with all bytes for a tap as well.
pub async fn run_tapped(config: SerialConfig, tap: Tap, mut sink: impl FnMut(Delivery)) {
    let mut driver = Driver::new(config.receiver);
    let mut comeback = Comeback::default();
    loop {
        let opened = Tty::open(&config.path, config.baud, config.shared).and_then(Tty::watch);
        match opened {
            Ok(tty) => {
                driver.set_baud(tty.get_ref().baud());
                driver.handle_open(raw_now());
                deliver(&mut driver, &mut sink);
                let reason = listen(&tty, (&config, &tap), &mut driver, &mut comeback, &mut sink).await;
                driver.handle_fault(DevicePhase::Absent, reason, raw_now());
            }
            Err(error) => {
                let (phase, reason) = super::explain_open(config.path.clone(), &error);
                driver.handle_fault(phase, reason, raw_now());
            }
        }
        deliver(&mut driver, &mut sink);
        comeback.wait(Some(Path::new(&config.path))).await;
    }
}

/// Reads until the port goes away; returns how.
async fn listen(
    tty: &AsyncFd<Tty>,
    (config, tap): (&SerialConfig, &Tap),
    driver: &mut Driver,
    comeback: &mut Comeback,
    sink: &mut impl FnMut(Delivery),
) -> DeviceReason {
    let mut buffer = [0; 4096];
    // A receiver that is to be set to a speed has another one perhaps.
    let may_differ = config.baud.is_none() || config.receiver.configure.is_some();
    let mut hunt = Hunt::new(may_differ && !tty.get_ref().is_pty(), raw_now());
    loop {
        let due = driver.poll_timeout().into_iter().chain(hunt.poll_timeout()).min();
        let wait = due.map(|at| (at - raw_now()).to_duration());
        let ready = async {
            match wait {
                Some(wait) => tokio::time::timeout(wait, tty.readable()).await.ok(),
                None => Some(tty.readable().await),
            }
        };
        match ready.await {
            Some(Ok(mut guard)) => match guard.try_io(|tty| tty.get_ref().read(&mut buffer)) {
                Ok(Ok((0, _))) => return DeviceReason::Unplugged { path: config.path.clone() },
                Ok(Ok((n, at))) => {
                    let bytes = buffer.get(..n).unwrap_or_default();
                    tap.hear(at, bytes);
                    driver.handle_bytes(bytes, at);
                    hunt.handle_bytes(driver.understands(), at);
                    if driver.understands() {
                        comeback.reset();
                    }
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return gone(&config.path, &error),
                Err(_would_block) => {}
            },
            Some(Err(error)) => return gone(&config.path, &error),
            // A port that is silent may be one that nobody will speak on again.
            None if tty.get_ref().is_gone() => return DeviceReason::Unplugged { path: config.path.clone() },
            None => driver.handle_timeout(raw_now()),
        }
        while let Some(bytes) = driver.poll_transmit() {
            // What does not go out is not answered, and then sent again or given up.
            let _ = tty.get_ref().write(&bytes);
        }
        if let Some(speed) = driver.poll_speed() {
            // Where the port cannot follow, the receiver is not heard, and asked to come back.
            let _ = tty.get_ref().set_baud(speed);
        }
        if let Some(speed) = hunt.next_speed(raw_now())
            && tty.get_ref().set_baud(speed).is_ok()
        {
            driver.set_baud(Some(speed));
        }
        deliver(driver, sink);
    }
}

fn gone(path: &str, error: &io::Error) -> DeviceReason {
    match error.raw_os_error() {
        Some(libc::EIO | libc::ENXIO | libc::ENODEV) => DeviceReason::Unplugged { path: path.to_owned() },
        _ => DeviceReason::Io { path: path.to_owned(), error: error.to_string() },
    }
}

fn deliver(driver: &mut Driver, sink: &mut impl FnMut(Delivery)) {
    while let Some(report) = driver.poll_report() {
        sink(Delivery { at: raw_now(), report, health: driver.health() });
    }
}
