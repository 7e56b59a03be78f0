//! The service manager, where there is one: it is told when we are ready, reload and stop, and its
//! watchdog hears from us for as long as the deciding thread lives (sd_notify(3)).

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::{info, warn};

use super::Reader;
use crate::observe::Look;

/// A watchdog less patient than this is a mistake of somebody's.
const SHORTEST: Duration = Duration::from_secs(1);

/// Whoever started us.
#[derive(Debug)]
pub struct Supervisor {
    is_there: bool,
}

impl Supervisor {
    /// Finds it, and starts its watchdog's thread if it wants one. Telling it may block for as long as
    /// the service manager itself hangs, so the deciding thread does not do it while it runs.
    pub fn find(reader: Reader) -> Self {
        if let Some(patience) = sd_notify::watchdog_enabled().filter(|patience| *patience >= SHORTEST) {
            let started = std::thread::Builder::new().name("watchdog".into()).spawn(move || watch(patience, &reader));
            match started {
                Ok(_) => info!("the service manager's watchdog hears from us every {:?}", patience / 3),
                Err(error) => warn!("no thread for the watchdog: {error}. The service manager may restart us."),
            }
        }
        Self { is_there: std::env::var_os("NOTIFY_SOCKET").is_some() }
    }

    /// Requests are answered from now on.
    pub fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// The configuration is being read anew; [`Supervisor::ready`] ends it.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    /// We are about to end.
    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    fn tell(&self, state: &[NotifyState<'_>]) {
        if self.is_there
            && let Err(error) = sd_notify::notify(state)
        {
            warn!("the service manager could not be told: {error}");
        }
    }
}

/// Lets the watchdog hear from us while the deciding thread publishes.
fn watch(patience: Duration, reader: &Reader) {
    loop {
        let (snapshot, now) = reader.look();
        if now.raw <= snapshot.valid_until {
            // Whoever does not hear it restarts us; there is nobody else to tell.
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
        std::thread::sleep(patience / 3);
    }
}
