//! Serving NTP on every address that can be had, sooner or later.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use refclocks::time::{Tai, Timestamp};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_local};
use tracing::{info, warn};

use super::admission::Admission;
use super::broadcasting::Broadcasting;
use crate::config::{Config, Serve};
use crate::core::leap::UtcMap;
use crate::core::snapshot::Snapshot;
use crate::ntp::access::Access;
use crate::ntp::client::names::Names;
use crate::ntp::counters::Board;
use crate::ntp::hardware::Wish;
use crate::ntp::hardware::keeper::Keeper;
use crate::ntp::passing::{self, Passed, Ring};
use crate::ntp::served::Served;
use crate::ntp::smear::Hearing;
use crate::ntp::worker::{self, Port, Workers};

/// A port that could not be had is tried again so often.
const BIND_AGAIN: Duration = Duration::from_secs(5);

/// What answers NTP requests.
pub struct Serving {
    served: Served,
    admission: Admission,
    applied: Option<Serve>,
    hearing: Hearing,
    places: Vec<Place>,
    broadcasting: Vec<Broadcasting>,
    passed: Option<mpsc::Receiver<Passed>>,
    /// Tends the network cards that stamp packets.
    cards: Option<Keeper>,
    wishes: Vec<Wish>,
}

/// One address.
struct Place {
    address: SocketAddr,
    served: Served,
    /// Whoever answers there, once the address is had.
    answering: Rc<RefCell<Answering>>,
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

impl Serving {
    /// Nobody is answered yet.
    pub fn new(published: &Arc<ArcSwap<Snapshot>>, names: Names) -> Self {
        let (ring, passed) = passing::ring();
        let served = Served { ring, ..Served::new(Arc::clone(published), Access::default()) };
        let admission = Admission::new(Arc::clone(&served.access), names);
        Self {
            served,
            admission,
            applied: None,
            hearing: Hearing::default(),
            places: Vec::new(),
            broadcasting: Vec::new(),
            passed: Some(passed),
            cards: None,
            wishes: Vec::new(),
        }
    }

    /// Where that comes out which the workers pass on to the main thread; it can be taken once.
    pub fn take_passed(&mut self) -> Option<mpsc::Receiver<Passed>> {
        self.passed.take()
    }

    /// Says what is to be passed on: [`Ring::want`].
    pub fn ring(&self) -> &Ring {
        &self.served.ring
    }

    /// Sends a datagram from the port that is served, to somebody who will answer there.
    ///
    /// # Errors
    ///
    /// Those of sendto(2); `NotConnected` if nothing is served in the address's family (yet).
    pub fn send(&self, octets: &[u8], to: SocketAddr) -> io::Result<()> {
        let family = self.places.iter().filter(|place| place.address.is_ipv4() == to.is_ipv4());
        let port = family.filter_map(|place| place.answering.borrow().port()).next();
        port.ok_or(io::ErrorKind::NotConnected)?.send(octets, to)
    }

    /// What is served, and to whom: as peers are told it, too.
    pub fn served(&self) -> Served {
        self.served.clone()
    }

    /// What came on the NTP port.
    pub fn board(&self) -> Board {
        self.served.board.clone()
    }

    /// These are our sources: rules may be for them.
    pub fn handle_sources(&mut self, sources: impl FnOnce() -> Vec<IpAddr>) {
        self.admission.handle_sources(sources);
    }

    /// What clients are told of the coming leap second from now on.
    pub fn handle_leap(&mut self, map: &UtcMap, at: Timestamp<Tai>) {
        let Some(serve) = self.applied.as_ref().filter(|serve| !serve.smeared.is_empty()) else { return };
        let late = self.hearing.handle_map(&serve.smear, map, at);
        if self.served.late.load().as_deref() != late.as_ref() {
            if late.is_some() {
                warn!("a leap second was heard of late: it is spread over what is left of its interval");
            }
            self.served.late.store(late.map(Arc::new));
        }
    }

    /// Serves as a configuration says. Returns what has changed, in words.
    pub fn apply(&mut self, config: &Config) -> Vec<String> {
        let (serve, keys) = (config.serve.as_ref(), config.keys.as_ref());
        let mut said = Vec::new();
        let usual = Serve { listen: Vec::new(), ..Serve::default() };
        let (new, old) = (serve.unwrap_or(&usual), self.applied.clone().unwrap_or(usual.clone()));
        if new.policy() != old.policy() {
            said.push("Other clients are answered.".into());
        }
        if self.applied.is_none() || new.policy() != old.policy() {
            self.admission.apply(new.policy());
        }
        self.served.board.monitors.set_room(new.clients);
        self.served.limits.store(new.limits().map(Arc::new));
        self.served.keys.store(keys.and_then(|keys| keys.table.clone()).unwrap_or_default());
        // With other threads the sockets are others, too.
        let threads_differ = new.workers != old.workers;
        let groups_differ = new.groups != old.groups;
        self.places.retain_mut(|place| {
            let as_before = new.smear_at(place.address) == place.served.smear;
            let stays = !threads_differ && !groups_differ && as_before && new.listen.contains(&place.address);
            if !stays {
                place.end();
            }
            if !new.listen.contains(&place.address) {
                said.push(format!("NTP is no longer served on {}.", place.address));
            }
            stays
        });
        for address in new.listen.iter().copied() {
            if !self.places.iter().any(|p| p.address == address) {
                let served = Served { smear: new.smear_at(address), ..self.served.clone() };
                self.places.push(Place::open(address, (new.workers, &new.groups), served));
                if !old.listen.contains(&address) {
                    said.push(format!("NTP is served on {address}."));
                }
            }
        }
        if groups_differ && self.applied.is_some() {
            said.push("NTP is served in other groups.".into());
        }
        if threads_differ && !new.listen.is_empty() && !old.listen.is_empty() {
            said.push(format!("{} threads answer.", new.workers));
        }
        self.follow_cards(&config.hwtimestamps, &mut said);
        self.applied = serve.cloned();
        self.broadcasting.clear();
        for broadcast in &config.broadcasts {
            let family = self.places.iter().filter(|p| p.address.is_ipv4() == broadcast.address.is_ipv4());
            let answering = family.map(|place| Rc::clone(&place.answering)).collect();
            self.broadcasting.push(Broadcasting::start(broadcast.clone(), self.served.clone(), answering));
        }
        said
    }

    /// Has these network cards stamp packets.
    fn follow_cards(&mut self, wishes: &[Wish], said: &mut Vec<String>) {
        if wishes == self.wishes {
            return;
        }
        match (&self.cards, wishes) {
            (_, []) => {
                self.cards = None;
                said.push("No network card stamps packets any more.".into());
            }
            (Some(keeper), _) => {
                keeper.follow(wishes.to_vec());
                said.push("Other network cards stamp packets.".into());
            }
            (None, _) => match Keeper::start(wishes.to_vec(), Arc::clone(&self.served.cards)) {
                Ok(keeper) => {
                    self.cards = Some(keeper);
                    said.push("Network cards stamp packets where they can.".into());
                }
                Err(error) => warn!("no thread for the network cards: {error}. The kernel stamps packets."),
            },
        }
        self.wishes = wishes.to_vec();
    }

    /// Ends it.
    pub fn stop(mut self) {
        self.broadcasting.clear();
        self.places.iter_mut().for_each(Place::end);
    }
}

impl Place {
    /// Serves one address on that many threads; with none, on a task of this one. If it cannot be had,
    /// it is tried again.
    fn open(address: SocketAddr, (threads, groups): (usize, &[IpAddr]), served: Served) -> Self {
        let answering = Rc::new(RefCell::new(Answering::Nobody));
        let trying = match serve_on(address, (threads, groups), &served) {
            Ok(served) => {
                answering.replace(served);
                None
            }
            Err(error) => {
                warn!("NTP is not served on {address}: {error}. Trying again every 5 s.");
                let (answering, served, groups) = (Rc::clone(&answering), served.clone(), groups.to_vec());
                let task = spawn_local(async move {
                    loop {
                        tokio::time::sleep(BIND_AGAIN).await;
                        if let Ok(served) = serve_on(address, (threads, &groups), &served) {
                            info!("NTP is served on {address} now");
                            answering.replace(served);
                            return;
                        }
                    }
                });
                Some(task.abort_handle())
            }
        };
        Self { address, served, answering, trying }
    }

    fn end(&mut self) {
        if let Some(trying) = self.trying.take() {
            trying.abort();
        }
        match self.answering.replace(Answering::Nobody) {
            Answering::Nobody => {}
            Answering::Threads(workers) => workers.stop(),
            Answering::Task(task, _) => task.abort(),
        }
    }
}

fn serve_on(address: SocketAddr, (threads, groups): (usize, &[IpAddr]), served: &Served) -> Result<Answering, String> {
    let listener = worker::bind_beside(address, threads, &served.ports).map_err(|e| match e.action() {
        Some(action) => format!("{e}. {action}"),
        None => e.to_string(),
    })?;
    if address.ip().is_unspecified()
        && let Err(error) = listener.join(groups.iter().copied())
    {
        warn!("NTP is not served in multicast groups: {error}");
    }
    if threads > 0 {
        return listener.spawn(served).map(Answering::Threads).map_err(|e| e.to_string());
    }
    let inline = listener.inline(served).map_err(|e| e.to_string())?;
    let port = inline.port().ok_or("there is no socket")?;
    Ok(Answering::Task(spawn_local(inline.run()).abort_handle(), port))
}
