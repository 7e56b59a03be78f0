//! Telling whole networks the time, from the sockets that answer them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use refclocks::sys::clock;
use tokio::task::{AbortHandle, spawn_local};
use tracing::warn;

use super::place::Answering;
use crate::config::Broadcast;
use crate::ntp::broadcast::{MAX_LEN, packet};
use crate::ntp::served::Served;
use crate::ntp::server::View;

/// One network that is told. Dropping it ends that.
pub(super) struct Broadcasting(AbortHandle);

impl Drop for Broadcasting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Broadcasting {
    /// Tells it from the first of these that answers in the address's family.
    pub(super) fn start(config: Broadcast, served: Served, answering: Vec<Rc<RefCell<Answering>>>) -> Self {
        Self(spawn_local(tell(config, served, answering)).abort_handle())
    }
}

async fn tell(config: Broadcast, served: Served, answering: Vec<Rc<RefCell<Answering>>>) {
    let mut told = false;
    loop {
        tokio::time::sleep(Duration::from_secs_f64(config.interval)).await;
        let keys = served.keys.load();
        let key = match config.key {
            None => None,
            Some(id) => match keys.get(id) {
                Some(key) => Some(key.as_ref()),
                // What ought to be signed is not sent without.
                None => continue,
            },
        };
        let snapshot = served.snapshot.load();
        let raw = served.raw_map.load().apply(clock::raw_now());
        let mut octets = [0; MAX_LEN];
        let Some(len) = packet(&View::at(&snapshot, raw), snapshot.utc_at(raw).0, config.interval, key, &mut octets)
        else {
            continue;
        };
        let octets = octets.get(..len).unwrap_or_default();
        let port = answering.iter().find_map(|answering| answering.borrow().port());
        let error = match port.map(|port| port.broadcast(octets, config.address, config.ttl, config.from)) {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(error.to_string()),
            None => Some("nobody answers in its family; see `listen`".to_owned()),
        };
        if let (Some(error), false) = (&error, told) {
            warn!("{} is not told the time: {error}. Trying again each time.", config.address);
        }
        told = error.is_some();
    }
}
