//! One address where NTP is served, or will be once it can be had.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};
use tracing::{info, warn};

use crate::ntp::served::Served;
use crate::ntp::worker::{self, Port, Workers};
use crate::observe::outages::{Missing, Outage, OutageBoard};

/// A port that could not be had is tried again so often.
const BIND_AGAIN: Duration = Duration::from_secs(5);

/// One address.
pub(super) struct Place {
    pub(super) address: SocketAddr,
    pub(super) served: Served,
    /// Whoever answers there, once the address is had.
    pub(super) answering: Rc<RefCell<Answering>>,
    outages: OutageBoard,
    /// Tries to have it.
    trying: Option<AbortHandle>,
}

pub(super) enum Answering {
    Nobody,
    Threads(Workers),
    Task(AbortHandle, Port),
}

impl Answering {
    /// The port they answer from; `None` if nobody answers.
    pub(super) fn port(&self) -> Option<Port> {
        match self {
            Self::Nobody => None,
            Self::Threads(workers) => workers.port(),
            Self::Task(_, port) => Some(port.clone()),
        }
    }
}

impl Place {
    /// Serves one address on that many threads; with none, on a task of this one. If it cannot be had,
    /// it is tried again, now and then and when `changes` tells that networks have changed.
    pub(super) fn open(
        address: SocketAddr,
        (threads, groups): (usize, &[IpAddr]),
        served: Served,
        (outages, changes): (OutageBoard, Rc<Notify>),
    ) -> Self {
        let answering = Rc::new(RefCell::new(Answering::Nobody));
        let trying = match serve_on(address, threads, &served) {
            Ok(served) => {
                answering.replace(served);
                None
            }
            Err(outage) => {
                warn!("NTP is not served on {address}: {}. Trying again every 5 s.", in_words(&outage));
                outages.note(&address.to_string(), outage);
                let (answering, served, outages) = (Rc::clone(&answering), served.clone(), outages.clone());
                let groups = groups.to_vec();
                let task = spawn_local(async move {
                    loop {
                        let _ = tokio::time::timeout(BIND_AGAIN, changes.notified()).await;
                        if let Ok(served) = serve_on(address, threads, &served) {
                            info!("NTP is served on {address} now");
                            outages.clear(&address.to_string());
                            answering.replace(served);
                            join(address, &answering.borrow(), &groups, &outages);
                            return;
                        }
                    }
                });
                Some(task.abort_handle())
            }
        };
        let place = Self { address, served, answering, outages, trying };
        place.join(groups);
        place
    }

    /// Hears what is sent to these groups, on all interfaces there are now.
    pub(super) fn join(&self, groups: &[IpAddr]) {
        join(self.address, &self.answering.borrow(), groups, &self.outages);
    }

    pub(super) fn end(&mut self) {
        if let Some(trying) = self.trying.take() {
            trying.abort();
        }
        self.outages.clear(&self.address.to_string());
        self.outages.clear(&in_groups(self.address));
        match self.answering.replace(Answering::Nobody) {
            Answering::Nobody => {}
            Answering::Threads(workers) => workers.stop(),
            Answering::Task(task, _) => task.abort(),
        }
    }
}

fn in_groups(address: SocketAddr) -> String {
    format!("{address} in multicast groups")
}

fn join(address: SocketAddr, answering: &Answering, groups: &[IpAddr], outages: &OutageBoard) {
    let (true, Some(port)) = (address.ip().is_unspecified(), answering.port()) else { return };
    match port.join(groups.iter().copied()) {
        Ok(()) => {
            if outages.clear(&in_groups(address)) {
                info!("NTP is served on {} now", in_groups(address));
            }
        }
        Err(error) => {
            let action = Some("It is tried again when an interface comes; see `ip link` for MULTICAST and UP.".into());
            let outage = Outage { missing: Missing::Answers, reason: error.to_string(), action };
            let said = format!("NTP is not served on {}: {}", in_groups(address), in_words(&outage));
            if outages.note(&in_groups(address), outage) {
                warn!("{said}");
            }
        }
    }
}

/// Reason and next step.
pub(super) fn in_words(outage: &Outage) -> String {
    match &outage.action {
        Some(action) => format!("{}. {action}", outage.reason),
        None => outage.reason.clone(),
    }
}

fn serve_on(address: SocketAddr, threads: usize, served: &Served) -> Result<Answering, Outage> {
    let failed = |reason: String| Outage { missing: Missing::Answers, reason, action: None };
    let listener = worker::bind_beside(address, threads, &served.ports)
        .map_err(|error| Outage { action: error.action(), ..failed(error.to_string()) })?;
    if threads > 0 {
        return listener.spawn(served).map(Answering::Threads).map_err(|error| failed(error.to_string()));
    }
    let inline = listener.inline(served).map_err(|error| failed(error.to_string()))?;
    let port = inline.port().ok_or_else(|| failed("there is no socket".into()))?;
    Ok(Answering::Task(spawn_local(inline.run()).abort_handle(), port))
}
