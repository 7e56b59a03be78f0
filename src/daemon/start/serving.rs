//! Serving NTP on every address that can be had, sooner or later.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use refclocks::time::{Tai, Timestamp};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, spawn_local};
use tracing::{info, warn};

use super::admission::Admission;
use super::broadcasting::Broadcasting;
use super::place::{Place, in_words};
use crate::config::{Broadcast, Config, Listen, Serve};
use crate::core::leap::UtcMap;
use crate::core::snapshot::Snapshot;
use crate::daemon::{Inbox, Input};
use crate::ntp::access::Access;
use crate::ntp::client::names::Names;
use crate::ntp::counters::Board;
use crate::ntp::hardware::Wish;
use crate::ntp::hardware::keeper::Keeper;
use crate::ntp::passing::{self, Passed};
use crate::ntp::served::Served;
use crate::ntp::smear::Hearing;
use crate::observe::outages::{Missing, Outage, OutageBoard};
use crate::sys::network_changes::NetworkChanges;
use crate::sys::networks::interfaces;

/// What answers NTP requests.
pub struct Serving {
    served: Served,
    admission: Admission,
    applied: Option<Serve>,
    hearing: Hearing,
    places: Vec<Place>,
    broadcasts: Vec<Broadcast>,
    broadcasting: Vec<Broadcasting>,
    outages: OutageBoard,
    inbox: Inbox,
    following: Option<Following>,
    /// Wakes whoever tries to have an address.
    changes: Rc<Notify>,
    /// Tends the network cards that stamp packets.
    cards: Option<Keeper>,
    wishes: Vec<Wish>,
}

/// Hands in that networks have changed. Dropping it ends that.
struct Following(AbortHandle);

impl Following {
    fn start(inbox: Inbox) -> Self {
        let follow = async move {
            let mut changes = NetworkChanges::watch();
            // What came before it was watched for is not missed.
            while inbox.send(Input::Networks).is_ok() {
                changes.next().await;
            }
        };
        Self(spawn_local(follow).abort_handle())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Serving {
    /// Nobody is answered yet. That networks have changed is handed in; strangers come out at the other end.
    pub fn new(published: &Arc<ArcSwap<Snapshot>>, names: Names, inbox: Inbox) -> (Self, mpsc::Receiver<Passed>) {
        let (ring, passed) = passing::ring();
        let served = Served { ring, ..Served::new(Arc::clone(published), Access::default()) };
        let admission = Admission::new(Arc::clone(&served.access), names);
        let serving = Self {
            served,
            admission,
            applied: None,
            hearing: Hearing::default(),
            places: Vec::new(),
            broadcasts: Vec::new(),
            broadcasting: Vec::new(),
            outages: OutageBoard::default(),
            inbox,
            following: None,
            changes: Rc::default(),
            cards: None,
            wishes: Vec::new(),
        };
        (serving, passed)
    }

    /// What is served, and to whom: as peers are told it, too.
    pub fn served(&self) -> Served {
        self.served.clone()
    }

    /// What came on the NTP port.
    pub fn board(&self) -> Board {
        self.served.board.clone()
    }

    /// Where nobody is answered.
    pub fn outages(&self) -> OutageBoard {
        self.outages.clone()
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
        let afresh = threads_differ || groups_differ;
        let gone = old.listen.iter().filter(|place| !new.listen.contains(place));
        said.extend(gone.map(|place| format!("NTP is no longer served on {place}.")));
        let come = new.listen.iter().filter(|place| !old.listen.contains(place));
        said.extend(come.map(|place| format!("NTP is served on {place}.")));
        for place in &old.listen {
            self.outages.clear(&place.to_string());
        }
        self.settle(new, afresh);
        if groups_differ && self.applied.is_some() {
            said.push("NTP is served in other groups.".into());
        }
        if threads_differ && !new.listen.is_empty() && !old.listen.is_empty() {
            said.push(format!("{} threads answer.", new.workers));
        }
        self.follow_cards(&config.hwtimestamps, &mut said);
        self.applied = serve.cloned();
        self.following = new.follows_interfaces().then(|| Following::start(self.inbox.clone()));
        self.broadcasts.clone_from(&config.broadcasts);
        self.broadcast();
        said
    }

    /// Interfaces or their addresses have come or gone.
    pub fn handle_networks(&mut self) {
        let Some(serve) = self.applied.clone() else { return };
        // An IPv6 address can be had some time after it came.
        self.changes.notify_waiters();
        if self.settle(&serve, false) {
            self.broadcast();
        }
        for place in &self.places {
            place.join(&serve.groups);
        }
    }

    /// Tells networks the time, from the places that there are now.
    fn broadcast(&mut self) {
        self.broadcasting.clear();
        for broadcast in &self.broadcasts {
            let family = self.places.iter().filter(|p| p.address.is_ipv4() == broadcast.address.is_ipv4());
            let answering = family.map(|place| Rc::clone(&place.answering)).collect();
            self.broadcasting.push(Broadcasting::start(broadcast.clone(), self.served.clone(), answering));
        }
    }

    /// Serves on each address that the configuration leads to as the interfaces are now, and on no other; `afresh`: with
    /// other sockets than before. `true`: these are others now.
    fn settle(&mut self, serve: &Serve, afresh: bool) -> bool {
        let interfaces = interfaces().unwrap_or_default();
        let wanted = serve.addresses(&interfaces);
        let by_name = |address: &SocketAddr| serve.listen.iter().all(|place| *place != Listen::At(*address));
        let before = self.places.len();
        self.places.retain_mut(|place| {
            let stays = !afresh && wanted.contains(&(place.address, place.served.smear));
            if !stays {
                place.end();
            }
            if by_name(&place.address) && wanted.iter().all(|(address, _)| *address != place.address) {
                info!("{} is gone: NTP is no longer served there", place.address);
            }
            stays
        });
        let mut differs = self.places.len() != before;
        for (address, smear) in wanted {
            if self.places.iter().any(|place| place.address == address) {
                continue;
            }
            if by_name(&address) {
                info!("{address} has come: NTP is to be served there");
            }
            differs = true;
            let served = Served { smear, ..self.served.clone() };
            self.places.push(Place::open(
                address,
                (serve.workers, &serve.groups),
                served,
                (self.outages.clone(), Rc::clone(&self.changes)),
            ));
        }
        for place in serve.listen.iter().filter(|place| matches!(place, Listen::On { .. })) {
            let name = place.to_string();
            if !place.addresses(&interfaces).is_empty() {
                self.outages.clear(&name);
                continue;
            }
            let reason = "this machine has no such interface, or it is down or has no address".to_owned();
            let action = Some("It is waited for; see `ip address`, or correct `listen`.".into());
            let outage = Outage { missing: Missing::Answers, reason, action };
            let said = in_words(&outage);
            if self.outages.note(&name, outage) {
                warn!("NTP is not served on {name}: {said}");
            }
        }
        differs
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
