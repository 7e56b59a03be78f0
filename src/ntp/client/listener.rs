//! The shell around [`Overheard`]: a socket for each network that is listened to, and for each broadcaster a task with
//! a socket for its volley.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use refclocks::sys::clock;
use refclocks::time::{Raw, Span, Timestamp};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::event::ClientEvent;
use super::filters::Filters;
use super::ours::Ours;
use super::overheard::{Config, Overheard, checked};
use super::random::seed;
use super::shell::{arrivals, until};
use super::socket::{ClientSocket, Origin};
use super::standing::{Deafness, ServerState};
use super::{Measurement, Rejected};
use crate::ntp::flake::Flake;
use crate::ntp::hardware::CardBoard;
use crate::ntp::keys::Key;
use crate::ntp::packet::FirstOctet;
use crate::ntp::served::Served;
use crate::ntp::stamp::Relation;
use crate::recording::association::{Begin, Came, Turn, Witness};
use crate::sys::batch::Batch;
use crate::sys::network_changes::NetworkChanges;
use crate::sys::networks::interfaces;
use crate::sys::udp::UdpSocket;

/// Interfaces come and go: who listens looks again so often.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Datagrams of one broadcaster that may wait.
const WAITING: usize = 16;

/// What is listened to, and whom to believe.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// A broadcast or multicast address. `None`: the broadcast addresses of all interfaces.
    pub address: Option<IpAddr>,
    /// UDP port.
    pub port: u16,
    /// On this interface only.
    pub interface: Option<String>,
    /// Believe only what is signed with this key. `None`: anybody.
    pub key: Option<Arc<Key>>,
    /// The assumed round trip of those that answer no volley. `None`: measured.
    pub delay: Option<Span>,
    /// No packet is believed that was under way for longer.
    pub max_delay: Span,
    /// Which are not good enough besides.
    pub filters: Filters,
    /// So many broadcasters at most.
    pub most: usize,
    /// Our own clock, and whose packets are heeded.
    pub served: Served,
    /// Who records what is sent and comes.
    pub witness: Witness,
}

/// Listens for ever. The sink gets what there is to tell of each broadcaster, `None` once it is gone; `hears`, that what is sent
/// to an address can be heard, or why it cannot.
pub async fn run(
    config: ListenerConfig,
    sink: impl FnMut(SocketAddr, Option<ClientEvent>) + Clone + 'static,
    hears: impl FnMut(SocketAddr, Option<Deafness>),
) {
    let mut listening: BTreeMap<SocketAddr, AbortHandle> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut deaf = Deaf { places: BTreeMap::new(), tell: hears };
    let mut changes = NetworkChanges::watch();
    loop {
        let places = places(&config);
        listening.retain(|place, task| {
            let stays = places.contains(place) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        deaf.forget_all_but(&places);
        for place in places {
            listening.entry(place).or_insert_with(|| {
                let opened = UdpSocket::listener(place, config.interface.as_deref(), &config.served.ports);
                match opened.and_then(UdpSocket::watch) {
                    Ok(socket) => {
                        deaf.hears(place);
                        tasks.spawn_local(listen(config.clone(), (place, socket), sink.clone()))
                    }
                    Err(error) => {
                        deaf.note(place, &error);
                        // One that has ended is tried again.
                        tasks.spawn_local(std::future::ready(None))
                    }
                }
            });
        }
        let look_again = sleep_until(Instant::now() + LOOK_AGAIN);
        tokio::pin!(look_again);
        loop {
            tokio::select! {
                () = &mut look_again => break,
                () = changes.next() => break,
                Some(ended) = tasks.join_next() => {
                    // One that was told to end has nothing to say.
                    if let Ok(Some((place, error))) = ended {
                        deaf.note(place, &error);
                    }
                }
            }
        }
    }
}

/// What cannot be heard, and why; told when it changes. Once nobody listens there is nothing to tell.
struct Deaf<T: FnMut(SocketAddr, Option<Deafness>)> {
    places: BTreeMap<SocketAddr, Deafness>,
    tell: T,
}

impl<T: FnMut(SocketAddr, Option<Deafness>)> Deaf<T> {
    fn note(&mut self, place: SocketAddr, error: &io::Error) {
        let deafness = deafness(place, error);
        if self.places.insert(place, deafness.clone()).as_ref() != Some(&deafness) {
            (self.tell)(place, Some(deafness));
        }
    }

    fn hears(&mut self, place: SocketAddr) {
        if self.places.remove(&place).is_some() {
            (self.tell)(place, None);
        }
    }

    fn forget_all_but(&mut self, places: &BTreeSet<SocketAddr>) {
        let gone: Vec<SocketAddr> = self.places.keys().filter(|place| !places.contains(place)).copied().collect();
        gone.into_iter().for_each(|place| self.hears(place));
    }
}

impl<T: FnMut(SocketAddr, Option<Deafness>)> Drop for Deaf<T> {
    fn drop(&mut self) {
        self.forget_all_but(&BTreeSet::new());
    }
}

fn deafness(place: SocketAddr, error: &io::Error) -> Deafness {
    let (reason, action) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            format!("port {} is in use by another program", place.port()),
            Some(format!("Find the other time server: `ss -ulnp 'sport = :{}'`, and stop it.", place.port())),
        ),
        io::ErrorKind::PermissionDenied => (
            format!("no permission to listen on port {}", place.port()),
            Some("Start as root, or give the program CAP_NET_BIND_SERVICE.".into()),
        ),
        io::ErrorKind::AddrNotAvailable => (
            "no interface has that network, or carries multicast".into(),
            Some("It is tried again when an interface comes; see `ip address`, or correct `address`.".into()),
        ),
        _ if error.raw_os_error() == Some(libc::ENODEV) => (
            "this machine has no such interface".into(),
            Some("It is tried again when it comes; see `ip link`, or correct `interface`.".into()),
        ),
        _ => (error.to_string(), Some("It is tried again every 30 s.".into())),
    };
    Deafness { place, reason, action }
}

/// Where to listen, as the interfaces are now.
fn places(config: &ListenerConfig) -> BTreeSet<SocketAddr> {
    let ips: Vec<IpAddr> = match config.address {
        Some(address) => vec![address],
        None => {
            let is_wanted = |name: &str| config.interface.as_deref().is_none_or(|wanted| wanted == name);
            let found = interfaces().unwrap_or_default().into_iter().filter(|i| is_wanted(&i.name));
            found.flat_map(|i| i.broadcast).chain([Ipv4Addr::BROADCAST]).map(IpAddr::V4).collect()
        }
    };
    ips.into_iter().map(|ip| SocketAddr::new(ip, config.port)).collect()
}

/// A datagram that was broadcast, and when it came.
struct Broadcast {
    octets: Vec<u8>,
    at: Timestamp<Raw>,
}

/// Who is heard in one place. However listening there ends, they are gone then.
struct HeardHere<S: FnMut(SocketAddr, Option<ClientEvent>)> {
    known: BTreeMap<SocketAddr, Sender<Broadcast>>,
    sink: S,
}

impl<S: FnMut(SocketAddr, Option<ClientEvent>)> Drop for HeardHere<S> {
    fn drop(&mut self) {
        for from in self.known.keys() {
            (self.sink)(*from, None);
        }
    }
}

/// Listens in one place until its socket fails; tells where, and why.
async fn listen(
    config: ListenerConfig,
    (place, socket): (SocketAddr, AsyncFd<Arc<UdpSocket>>),
    sink: impl FnMut(SocketAddr, Option<ClientEvent>) + Clone + 'static,
) -> Option<(SocketAddr, io::Error)> {
    let mut heard = HeardHere { known: BTreeMap::new(), sink: sink.clone() };
    let known = &mut heard.known;
    let mut tasks = JoinSet::new();
    let mut batch = Batch::new(8);
    let mut flake = Flake::default();
    let mut look_again = tokio::time::interval(LOOK_AGAIN);
    loop {
        let count = tokio::select! {
            arrived = batch.arrivals(&socket) => match arrived {
                Ok(count) => count,
                Err(error) => return Some((place, error)),
            },
            _ = look_again.tick() => {
                if place.ip().is_multicast() {
                    // On the interfaces that have come since.
                    let _ = socket.get_ref().join(place.ip(), config.interface.as_deref());
                }
                continue;
            }
            Some(_) = tasks.join_next() => continue,
        };
        known.retain(|_, broadcasts| !broadcasts.is_closed());
        let relation = Relation::from_bracket(&clock::bracket());
        for index in 0..count {
            let Some((datagram, _)) = batch.datagram(index) else { continue };
            let Some(from) = datagram.from.filter(|from| from.port() != 0 && !datagram.truncated) else { continue };
            let version = datagram.octets.first().map_or(0, |octet| FirstOctet(*octet).version());
            let flags = config.served.access.load().flags(from);
            if !flags.heeds_reply(version, config.key.is_some()) || flake.loses(flags) {
                continue;
            }
            // Only whoever may be believed becomes a source.
            let is_new = !known.contains_key(&from);
            if is_new && (known.len() >= config.most || checked(datagram.octets, config.key.as_deref()).is_err()) {
                continue;
            }
            let broadcasts = known.entry(from).or_insert_with(|| {
                let (broadcasts, heard) = channel(WAITING);
                tasks.spawn_local(follow(config.clone(), from, heard, sink.clone()));
                broadcasts
            });
            let at = datagram.stamp.and_then(|stamp| relation.raw_of(stamp)).unwrap_or(relation.raw);
            // One that sends faster than we read loses the rest.
            let _ = broadcasts.try_send(Broadcast { octets: datagram.octets.to_vec(), at });
        }
    }
}

/// Follows one broadcaster until it is lost.
async fn follow(
    config: ListenerConfig,
    from: SocketAddr,
    mut heard: Receiver<Broadcast>,
    mut sink: impl FnMut(SocketAddr, Option<ClientEvent>),
) {
    let origin = Origin { address: None, interface: config.interface.clone() };
    let (Ok(mut socket), Ok(seed)) = (ClientSocket::open(from, &origin, &CardBoard::default()), seed()) else { return };
    let local = socket.local();
    // A group gets what we tell it ourselves, too.
    if local == Some(from.ip()) {
        return heard_by_ourselves(heard).await;
    }
    let ListenerConfig { key, delay, max_delay, filters, served, witness, .. } = config;
    let witness = witness.of(|listener| listener.heard(from));
    let config = Config { address: from, key: key.clone(), delay, max_delay, filters, seed };
    let began = clock::raw_now();
    witness.note(|| Turn::Begin(Box::new(Begin::Broadcaster(config.clone(), began))));
    let mut overheard = Overheard::new(config, began);
    let mut batch = Batch::new(4);
    let mut last = None;
    let mut tell = |overheard: &Overheard, result: Result<Measurement, Rejected>, of_volley: bool| {
        let at = clock::raw_now();
        let state = ServerState::Overheard { address: from, reason: result.err() };
        // That a volley is answered makes no broadcast usable.
        let is_passing = match result {
            Ok(_) => of_volley,
            Err(reason) => matches!(reason, Rejected::Duplicate | Rejected::Old | Rejected::Bogus),
        };
        if !is_passing && last.as_ref() != Some(&state) {
            last = Some(state.clone());
            sink(from, Some(ClientEvent::State { at, state }));
        }
        let (reach, poll, tally) = (overheard.reach(), overheard.interval(), overheard.tally());
        sink(from, Some(ClientEvent::Polled { at, address: from, reach, poll, tally }));
        sink(
            from,
            Some(match result {
                Ok(measurement) => ClientEvent::Measurement { at, address: from, local, measurement },
                Err(reason) => ClientEvent::Rejected { at, address: from, reason },
            }),
        );
    };
    loop {
        tokio::select! {
            broadcast = heard.recv() => {
                let Some(Broadcast { octets, at }) = broadcast else { return };
                let now = clock::raw_now();
                let rate = Ours::at(&served, now).rate;
                let result = overheard.handle_heard(&octets, at, rate);
                let came = || Came::new(&octets, at, now, key.as_deref(), &result);
                witness.note(|| Turn::Came(Came { rate: Some(rate), ..came() }));
                tell(&overheard, result, false);
            }
            arrived = arrivals(Some(&socket), &mut batch) => {
                // What ICMP says of a volley is no more than silence.
                let Ok(count) = arrived else { continue };
                let relation = Relation::from_bracket(&clock::bracket());
                if let Some(left) = socket.last_departure(&relation) {
                    witness.note(|| Turn::Departed(left));
                    overheard.handle_departed(left.host);
                }
                for index in 0..count {
                    let Some((datagram, _)) = batch.datagram(index) else { continue };
                    let at = datagram.stamp.and_then(|stamp| relation.raw_of(stamp)).unwrap_or(relation.raw);
                    let result = overheard.handle_reply(datagram.octets, at, relation.raw);
                    witness.note(|| Turn::Came(Came::new(datagram.octets, at, relation.raw, key.as_deref(), &result)));
                    tell(&overheard, result, true);
                }
            }
            () = tokio::time::sleep(until(overheard.poll_timeout())) => {
                let now = clock::raw_now();
                witness.note(|| Turn::Timeout(now));
                overheard.handle_timeout(now);
                if overheard.is_lost() {
                    sink(from, None);
                    return;
                }
                if let Some(request) = overheard.poll_transmit(now) {
                    let handed_over = clock::raw_now();
                    witness.note(|| Turn::sent(now, request.octets(), None));
                    witness.note(|| Turn::HandedOver(handed_over));
                    overheard.handle_transmitted(handed_over);
                    // A volley that does not leave is one without an answer.
                    if let Err(error) = socket.send(request.octets()) {
                        witness.note(|| Turn::Failed(error.to_string()));
                    }
                }
            }
        }
    }
}

/// Takes what we said ourselves, and says nothing.
async fn heard_by_ourselves(mut heard: Receiver<Broadcast>) {
    while heard.recv().await.is_some() {}
}
