//! The sources as they run: for each a shell, and the number by which the engine knows it.
//!
//! They come, go and change with the configuration, with what the names of pools lead to, and at the
//! operator's word. What stays keeps its shell, its number and all that was learned of it.

mod listeners;
mod pools;
mod shells;
mod strangers;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use refclocks::sys::shm::ShmSegment;
use refclocks::time::{Raw, Span, Timestamp, Utc};
use tokio::sync::mpsc::{self, UnboundedSender};
use tracing::info;

use crate::clock::DisciplinedClock;
use crate::config::{Config, Driver, Keys, PassivePeer, Receiver, Refclock, Server};
use crate::core::measurement::SourceId;
use crate::core::snapshot::{Snapshot, SourceKind};
use crate::core::source::SourceConfig;
use crate::daemon::privileges::Taken;
use crate::daemon::{Inbox, Input};
use crate::ntp::client::names::{Names, ResolveError};
use crate::ntp::client::{ClientEvent, Order, ServerState};
use crate::ntp::keys::Key;
use crate::ntp::passing::Passed;
use crate::ntp::served::Served;
use crate::recording::write::Tape;

pub use listeners::ListenerId;
use listeners::RunningListener;
use pools::RunningPool;
use shells::Shell;
use strangers::RunningStranger;

/// A pool's number; given once.
pub type PoolId = usize;

/// Who is there.
pub struct Roster {
    inbox: Inbox,
    names: Names,
    taken: Taken,
    /// What UTC is of TAI is read here, for clocks that keep TAI.
    published: Arc<ArcSwap<Snapshot>>,
    /// Where all bytes of receivers are recorded.
    tape: Option<Tape>,
    /// The last good time known, by which receivers' dates are read.
    last_good: Timestamp<Utc>,
    /// The keys that requests are signed with.
    keys: Option<Keys>,
    /// What peers are told, and whose replies are heeded.
    served: Served,
    clocks: Vec<RunningClock>,
    servers: Vec<RunningServer>,
    pools: Vec<RunningPool>,
    next_pool: PoolId,
    listeners: Vec<RunningListener>,
    next_listener: ListenerId,
    /// The keys that the listeners and strangers know.
    listeners_keys: Option<Keys>,
    /// Who may come by themselves, and those who have.
    welcome: Vec<PassivePeer>,
    strangers: Vec<RunningStranger>,
    _knocking: Shell,
    look_at_pools: Timestamp<Raw>,
}

/// A reference clock; gpsd's are two sources. Dropping it ends its shell.
struct RunningClock {
    config: Refclock,
    /// Another one reads the pulse on the DCD input of its port.
    shared: bool,
    ids: Vec<SourceId>,
    _shell: Shell,
}

/// A server; dropping it ends its shell.
struct RunningServer {
    config: Server,
    id: SourceId,
    orders: UnboundedSender<Order>,
    /// Where its name leads.
    address: Option<SocketAddr>,
    refused: bool,
    key: Option<Arc<Key>>,
    _shell: Shell,
}

impl Roster {
    /// Nobody is there yet. `taken` is what root left us, `last_good` the last good time known,
    /// and `served` what peers are told, and whose replies are heeded. Strangers come out of `passed`.
    pub fn new(
        inbox: Inbox,
        names: Names,
        taken: Taken,
        last_good: Timestamp<Utc>,
        published: Arc<ArcSwap<Snapshot>>,
        served: Served,
        mut passed: mpsc::Receiver<Passed>,
    ) -> Self {
        let knocked = inbox.clone();
        let knocking = async move {
            while let Some(first) = passed.recv().await {
                drop(knocked.send(Input::StrangerCame(first)));
            }
        };
        let (clocks, servers, pools) = (Vec::new(), Vec::new(), Vec::new());
        let look_at_pools = Timestamp::EPOCH;
        Self {
            inbox,
            names,
            taken,
            published,
            tape: None,
            served,
            last_good,
            keys: None,
            clocks,
            servers,
            pools,
            next_pool: 0,
            listeners: Vec::new(),
            next_listener: 0,
            listeners_keys: None,
            welcome: Vec::new(),
            strangers: Vec::new(),
            _knocking: Shell::start(knocking),
            look_at_pools,
        }
    }

    /// Records all bytes of receivers that come from now on.
    pub fn record_to(&mut self, tape: Tape) {
        self.tape = Some(tape);
    }

    /// Makes the sources those of a configuration. Returns what has changed, in words.
    pub fn apply(&mut self, config: &Config, clock: &mut DisciplinedClock) -> Vec<String> {
        let mut said = Vec::new();
        self.keys.clone_from(&config.keys);
        // Who leaves does so before others come, who may want the same device or name.
        self.dismiss(config, clock, &mut said);
        for refclock in &config.refclocks {
            let shared = is_shared(refclock, config);
            match self.clocks.iter_mut().find(|c| c.config.driver == refclock.driver) {
                Some(running) if running.config == *refclock => {}
                Some(running) => {
                    running.config = refclock.clone();
                    for (id, source) in running.ids.iter().zip(sources_of(refclock)) {
                        clock.configure_source(*id, source);
                    }
                    said.push(format!("{} has other settings.", refclock.name));
                }
                None => {
                    let ids: Vec<SourceId> = sources_of(refclock).map(|source| clock.add_source(source)).collect();
                    let shell = self.start_clock(refclock, shared, &ids);
                    self.clocks.push(RunningClock { config: refclock.clone(), shared, ids, _shell: shell });
                    said.push(format!("{} is new.", refclock.name));
                }
            }
        }
        for server in &config.servers {
            match self.servers.iter_mut().find(|s| is_asked_alike(&s.config, server)) {
                Some(running) if running.config == *server => {}
                Some(running) => {
                    running.reconfigure(server, clock);
                    said.push(format!("{} has other settings.", server.name));
                }
                None => {
                    let id = clock.add_source(source_of(server));
                    let running = self.start_server(server.clone(), id);
                    self.servers.push(running);
                    said.push(format!("{} is new.", server.name));
                }
            }
        }
        self.apply_pools(&config.pools, clock, &mut said);
        self.step_pools(clock);
        let other_keys = self.keys != self.listeners_keys;
        self.listeners_keys.clone_from(&self.keys);
        self.apply_listeners(&config.broadcast_clients, other_keys, clock, &mut said);
        self.apply_strangers(&config.passive_peers, other_keys, clock, &mut said);
        said
    }

    /// Ends what a configuration does not have.
    fn dismiss(&mut self, config: &Config, clock: &mut DisciplinedClock, said: &mut Vec<String>) {
        self.clocks.retain(|running| {
            let is_this = |c: &Refclock| c.driver == running.config.driver && is_shared(c, config) == running.shared;
            let stays = config.refclocks.iter().any(is_this);
            if !stays {
                running.ids.iter().for_each(|id| clock.remove_source(*id));
                said.push(format!("{} is gone.", running.config.name));
            }
            stays
        });
        self.servers.retain(|running| {
            let stays = config.servers.iter().any(|s| is_asked_alike(s, &running.config))
                && running.key == key_of(&running.config, config.keys.as_ref());
            if !stays {
                clock.remove_source(running.id);
                said.push(format!("{} is gone.", running.config.name));
            }
            stays
        });
    }

    /// What a server's shell says that concerns the roster.
    pub fn handle_server(&mut self, id: SourceId, event: &ClientEvent) {
        let members = self.pools.iter_mut().flat_map(RunningPool::servers_mut);
        let Some(server) = self.servers.iter_mut().chain(members).find(|s| s.id == id) else { return };
        match event {
            ClientEvent::Polled { address, .. } => {
                if server.address.replace(*address) != Some(*address) {
                    self.want_strangers();
                }
            }
            ClientEvent::State { state, .. } => server.refused = matches!(state, ServerState::Refused { .. }),
            ClientEvent::Measurement { .. } | ClientEvent::Rejected { .. } => {}
        }
    }

    /// A server ought to be polled at another interval, log2 s.
    pub fn handle_wanted_poll(&mut self, id: SourceId, exponent: i8) {
        let members = self.pools.iter_mut().flat_map(RunningPool::servers_mut);
        if let Some(server) = self.servers.iter_mut().chain(members).find(|s| s.id == id) {
            server.order(Order::Poll(exponent));
        }
    }

    /// What a pool's name leads to.
    pub fn handle_resolved(
        &mut self,
        pool: PoolId,
        answer: Result<Vec<SocketAddr>, ResolveError>,
        clock: &mut DisciplinedClock,
        now: Timestamp<Raw>,
    ) {
        let asked = self.asked();
        if let Some(pool) = self.pools.iter_mut().find(|p| p.number == pool) {
            pool.handle_resolved(answer, |address| asked.contains(&address), clock, now);
        }
        self.step_pools(clock);
    }

    /// Time passed. To be called at every wake-up.
    pub fn handle_wake_up(&mut self, clock: &mut DisciplinedClock, now: Timestamp<Raw>) {
        if now < self.look_at_pools || self.pools.is_empty() {
            return;
        }
        self.look_at_pools = now + Span::from_whole_seconds(1);
        let asked = self.asked();
        for pool in &mut self.pools {
            pool.handle_timeout(|address| asked.contains(&address), clock, now);
        }
        self.step_pools(clock);
    }

    /// Gives an order to the server or pool of that name, or to all of them. Returns the names of
    /// those that got it; `None` if there is no such server.
    pub fn order(&mut self, name: Option<&str>, order: Order) -> Option<Vec<String>> {
        let mut told = Vec::new();
        let wanted = |other: &str| name.is_none_or(|name| name.eq_ignore_ascii_case(other));
        for server in self.servers.iter_mut().filter(|s| wanted(&s.config.name)) {
            server.order(order);
            told.push(server.config.name.clone());
        }
        for pool in &mut self.pools {
            if wanted(&pool.config.each.name) {
                pool.order(order);
                told.push(pool.config.each.name.clone());
            } else {
                for member in pool.servers_mut().filter(|s| wanted(&s.config.name)) {
                    member.order(order);
                    told.push(member.config.name.clone());
                }
            }
        }
        (!told.is_empty()).then_some(told)
    }

    /// The names that an order may be given to.
    pub fn orderable(&self) -> Vec<&str> {
        let pools = self.pools.iter().map(|p| p.config.each.name.as_str());
        self.servers.iter().map(|s| s.config.name.as_str()).chain(pools).collect()
    }

    /// Is there a reference clock of that name?
    pub fn has_clock(&self, name: &str) -> bool {
        self.clocks.iter().any(|c| c.config.name.eq_ignore_ascii_case(name))
    }

    /// The name of a reference clock's source, and how late its stamps are, s.
    pub fn name_of(&self, id: SourceId) -> Option<(String, f64)> {
        let clock = self.clocks.iter().find(|clock| clock.ids.contains(&id))?;
        let at = clock.ids.iter().position(|own| *own == id)?;
        sources_of(&clock.config).nth(at).map(|source| (source.name, source.offset))
    }

    /// A unit's shared memory that was taken as root.
    pub fn segment(&mut self, unit: u8) -> Option<ShmSegment> {
        self.taken.segment(unit)
    }

    /// Where the servers that are asked are.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = self.asked().iter().map(SocketAddr::ip).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// The addresses of all servers that are asked already.
    fn asked(&self) -> Vec<SocketAddr> {
        let members = self.pools.iter().flat_map(RunningPool::servers);
        let heard = self.listeners.iter().flat_map(RunningListener::addresses);
        let strangers = self.strangers.iter().filter_map(RunningStranger::source);
        self.servers.iter().chain(members).filter_map(|s| s.address).chain(heard).chain(strangers).collect()
    }
}

impl RunningServer {
    fn order(&mut self, order: Order) {
        if order == Order::Online {
            self.refused = false;
        }
        // A shell that is gone needs no orders.
        let _ = self.orders.send(order);
    }

    fn reconfigure(&mut self, server: &Server, clock: &mut DisciplinedClock) {
        self.config = server.clone();
        clock.configure_source(self.id, source_of(server));
    }
}

/// Does another refclock read the pulse on the DCD input of this one's port?
fn is_shared(clock: &Refclock, config: &Config) -> bool {
    let Driver::Receiver(Receiver { device: port, .. }) = &clock.driver else { return false };
    config
        .refclocks
        .iter()
        .any(|other| matches!(&other.driver, Driver::Pps { device: Some(device), .. } if device == port))
}

/// Would the same packets be sent, from and to the same place, as often, and the same replies be taken?
fn is_asked_alike(a: &Server, b: &Server) -> bool {
    (&a.host, a.port, a.iburst, a.minpoll, a.maxpoll, a.key) == (&b.host, b.port, b.iburst, b.minpoll, b.maxpoll, b.key)
        && (a.version, a.peer, a.xleave, a.presend) == (b.version, b.peer, b.xleave, b.presend)
        && (a.filters, &a.origin) == (b.filters, &b.origin)
}

/// The key that a server is asked with, if it has one and that is known.
fn key_of(server: &Server, keys: Option<&Keys>) -> Option<Arc<Key>> {
    keys?.get(server.key?)
}

/// A reference clock's sources, as the engine knows them.
fn sources_of(clock: &Refclock) -> impl Iterator<Item = SourceConfig> {
    let kind = match clock.driver {
        Driver::Receiver(_) | Driver::Gpsd { .. } => SourceKind::Message,
        Driver::Pps { .. } | Driver::Phc { input: Some(_), .. } => SourceKind::Pulse,
        Driver::Phc { input: None, .. } => SourceKind::NumberedPulse,
        // gpsd's are numbered although they are pulses.
        Driver::Shm { .. } | Driver::Sock { .. } if clock.driver.gives_pulses() => SourceKind::NumberedPulse,
        Driver::Shm { .. } | Driver::Sock { .. } => SourceKind::Message,
    };
    let source = SourceConfig {
        name: clock.name.clone(),
        refid: clock.refid,
        driver: clock.driver.name(),
        address: clock.driver.address(),
        kind,
        lock: clock.lock.clone(),
        delay: clock.delay,
        offset: clock.offset,
        options: clock.options,
        stratum: clock.stratum,
    };
    let pulse = matches!(clock.driver, Driver::Gpsd { .. }).then(|| SourceConfig {
        name: format!("{}-pulse", clock.name),
        refid: refclocks::ReferenceId(*b"PPS\0"),
        kind: SourceKind::NumberedPulse,
        delay: None,
        ..source.clone()
    });
    std::iter::once(source).chain(pulse)
}

/// A server, as the engine knows it.
fn source_of(server: &Server) -> SourceConfig {
    SourceConfig {
        // It says itself whose time it has.
        refid: refclocks::ReferenceId::default(),
        address: format!("{}:{}", server.host, server.port),
        options: server.options,
        ..SourceConfig::new(&server.name, SourceKind::Network)
    }
}

/// Tells the log what has changed.
pub fn tell(changes: &[String]) {
    for change in changes {
        info!("{change}");
    }
}
