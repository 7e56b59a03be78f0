//! The serial shell: a port that may not be there, at a speed that may not be known.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::unix::AsyncFd;

use super::Delivery;
use super::comeback::Comeback;
use crate::device::{DevicePhase, DeviceReason};
use crate::receiver::{self, Driver};
use crate::sys::clock::raw_now;
use crate::sys::tty::Tty;

/// Speeds tried, in the order of how common they are, bit/s.
const SPEEDS: [u32; 8] = [9600, 115_200, 38_400, 4800, 57_600, 19_200, 230_400, 460_800];
/// How long to listen at one speed.
const LISTEN: Duration = Duration::from_millis(2500);

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
pub async fn run(config: SerialConfig, mut sink: impl FnMut(Delivery)) {
    let mut driver = Driver::new(config.receiver);
    let mut comeback = Comeback::default();
    loop {
        let opened = Tty::open(&config.path, config.baud, config.shared).and_then(Tty::watch);
        match opened {
            Ok(tty) => {
                driver.set_baud(tty.get_ref().baud());
                driver.handle_open(raw_now());
                deliver(&mut driver, &mut sink);
                let reason = listen(&tty, &config, &mut driver, &mut comeback, &mut sink).await;
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
    config: &SerialConfig,
    driver: &mut Driver,
    comeback: &mut Comeback,
    sink: &mut impl FnMut(Delivery),
) -> DeviceReason {
    let mut buffer = [0; 4096];
    let mut hunt = Hunt::new(config.baud.is_none() && !tty.get_ref().is_pty());
    loop {
        let due = driver.poll_timeout().map(|at| (at - raw_now()).to_duration());
        let wait = match (due, hunt.left()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
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
                    driver.handle_bytes(buffer.get(..n).unwrap_or_default(), at);
                    hunt.heard(driver.understands());
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
        if let Some(speed) = hunt.next_speed()
            && tty.get_ref().set_baud(speed).is_ok()
        {
            driver.set_baud(Some(speed));
        }
        deliver(driver, sink);
    }
}

/// The search for the speed: first the one the port has, then the common ones, until sentences come.
struct Hunt {
    on: bool,
    heard_any: bool,
    next: usize,
    until: tokio::time::Instant,
}

impl Hunt {
    fn new(on: bool) -> Self {
        Self { on, heard_any: false, next: 0, until: tokio::time::Instant::now() + LISTEN }
    }

    fn heard(&mut self, understood: bool) {
        self.heard_any = true;
        if understood {
            self.on = false;
        }
    }

    /// A silent port has no wrong speed: only bytes that make no sense move the search on, or a
    /// silence so long that the wrong speed may be hiding all of them.
    fn left(&self) -> Option<Duration> {
        self.on.then(|| self.until.saturating_duration_since(tokio::time::Instant::now()))
    }

    fn next_speed(&mut self) -> Option<u32> {
        if !self.on || self.left() != Some(Duration::ZERO) {
            return None;
        }
        self.until = tokio::time::Instant::now() + LISTEN;
        if !std::mem::take(&mut self.heard_any) {
            return None;
        }
        let speed = SPEEDS.iter().cycle().nth(self.next).copied();
        self.next = (self.next + 1) % SPEEDS.len();
        speed
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
