//! The shell around a dialogue: name, socket, stamps and timers. It comes back whenever the
//! network does, and never ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use refclocks::sys::clock;
use refclocks::time::{Raw, Span, Timestamp};

use super::association::Config;
use super::dialogue::Dialogue;
use super::event::{ClientEvent, Teller};
use super::filters::Filters;
use super::names::Names;
use super::order::{Order, Orders};
use super::random::seed;
use super::rejection::{KissCode, Rejected};
use super::socket::{ClientSocket, Origin};
use super::standing::ServerState;
use crate::ntp::access::{Access, Flags};
use crate::ntp::flake::Flake;
use crate::ntp::hardware::CardBoard;
use crate::ntp::keys::Key;
use crate::ntp::packet::FirstOctet;
use crate::ntp::served::Served;
use crate::ntp::stamp::{Relation, Stamp};
use crate::recording::association::Witness;
use crate::sys::batch::Batch;

/// Polls without an answer after which a name is resolved again, and its next address tried.
const PATIENCE: u32 = 8;

/// Polls without an answer after which the socket is replaced: its port may be blocked, or its
/// source address gone.
const SOCKET_PATIENCE: u32 = 2;

/// A network server of the configuration.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Name or address.
    pub host: String,
    /// UDP port, 123 by default.
    pub port: u16,
    /// Begin, and begin again after a silence, with quick polls.
    pub iburst: bool,
    /// log2 of the shortest poll interval, s.
    pub minpoll: i8,
    /// log2 of the longest, s.
    pub maxpoll: i8,
    /// NTP version, 1 to 4.
    pub version: u8,
    /// Sign requests with this key, and believe only what is signed with it.
    pub key: Option<Arc<Key>>,
    /// Have it for a peer, which is told what is served.
    pub peer: Option<Served>,
    /// Ask in interleaved mode.
    pub xleave: bool,
    /// From this interval on, log2 s, a request opens the way 2 s before each that is measured by.
    pub presend: Option<i8>,
    /// Which replies are not good enough.
    pub filters: Filters,
    /// From where it is asked.
    pub origin: Origin,
    /// The network cards that stamp what is sent and received.
    pub cards: CardBoard,
    /// Whose replies are heeded; everybody's, unless there are rules.
    pub access: Option<Arc<ArcSwap<Access>>>,
    /// Who records what is sent and comes.
    pub witness: Witness,
}

impl ClientConfig {
    /// A server with the usual settings: version 4, polled every 64 s to 1024 s.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port: 123,
            iburst: false,
            minpoll: 6,
            maxpoll: 10,
            version: 4,
            key: None,
            peer: None,
            xleave: false,
            presend: None,
            filters: Filters::default(),
            origin: Origin::default(),
            cards: CardBoard::default(),
            access: None,
            witness: Witness::default(),
        }
    }
}

/// Polls a server for ever. Dropping the future closes its socket.
pub async fn run(config: ClientConfig, names: Names, mut orders: Orders, mut sink: impl FnMut(ClientEvent)) {
    let mut tell = Teller { sink: &mut sink, last: None };
    tokio::time::sleep(start_after()).await;
    let mut next = 0usize;
    loop {
        let address = tokio::select! {
            address = resolve(&config, &names, next, &mut tell) => Some(address),
            () = orders.wait_for(Order::Offline) => None,
        };
        if let Some(address) = address {
            next = next.wrapping_add(1);
            match associate(&config, address, &mut orders, &mut tell).await {
                End::Anew => continue,
                End::Offline => {}
            }
        }
        tell.state(ServerState::Offline);
        orders.wait_for(Order::Online).await;
    }
}

/// How long to wait before the first request: machines that start together do not ask together.
fn start_after() -> std::time::Duration {
    let noise = seed().map_or(0, |[noise, ..]| u64::from(noise));
    std::time::Duration::from_millis(50 + noise * 100 / 256)
}

/// The address to use: round those of the name, one at each return. Names that have none are tried
/// again, the sooner the younger the failure.
async fn resolve<S: FnMut(ClientEvent)>(
    config: &ClientConfig,
    names: &Names,
    next: usize,
    tell: &mut Teller<'_, S>,
) -> SocketAddr {
    let mut wait = 2;
    loop {
        if !is_literal(&config.host) {
            tell.state(ServerState::Resolving);
        }
        match names.resolve(&config.host, config.port).await {
            Ok(addresses) => {
                if let Some(address) = addresses.iter().copied().cycle().nth(next % addresses.len().max(1)) {
                    return address;
                }
            }
            Err(error) => tell.state(ServerState::Unresolved(error)),
        }
        tokio::time::sleep(std::time::Duration::from_secs(wait)).await;
        wait = (wait * 2).min(64);
    }
}

fn is_literal(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok()
}

/// Why an association ended.
enum End {
    /// It has been silent for long and there is a name to resolve again, or it is to be tried anew.
    Anew,
    /// The operator wants it not to be asked.
    Offline,
}

/// Polls one address until there is a reason to end.
async fn associate<S: FnMut(ClientEvent)>(
    config: &ClientConfig,
    address: SocketAddr,
    orders: &mut Orders,
    tell: &mut Teller<'_, S>,
) -> End {
    let seed = match seed() {
        Ok(seed) => seed,
        Err(error) => {
            // Requests that can be guessed are not sent.
            tell.state(ServerState::Unreachable { address, error: error.to_string() });
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            return End::Anew;
        }
    };
    let config_of = Config {
        address,
        iburst: config.iburst,
        minpoll: config.minpoll,
        maxpoll: config.maxpoll,
        version: config.version,
        key: config.key.clone(),
        xleave: config.xleave,
        presend: config.presend,
        filters: config.filters,
        seed,
    };
    let mut association = Dialogue::new(config_of, config.peer.as_ref(), config.witness.clone());
    let mut socket: Option<ClientSocket> = None;
    let mut batch = Batch::new(4);
    let mut flake = Flake::default();
    let mut unanswered = 0;
    loop {
        let Some(due) = association.poll_timeout() else {
            // It has refused: asking again would be rude, unless the operator knows better.
            return match orders.next().await {
                Order::Online => End::Anew,
                Order::Offline => End::Offline,
                Order::Poll(_) | Order::Burst => continue,
            };
        };
        tokio::select! {
            () = tokio::time::sleep(until(due)) => {}
            arrived = arrivals(socket.as_ref(), &mut batch) => {
                match arrived {
                    Ok(count) => {
                        if let Some(socket) = &mut socket {
                            socket.await_departure(&batch).await;
                        }
                        if digest((&mut batch, count), (socket.as_mut(), config, &mut flake), &mut association, tell) {
                            unanswered = 0;
                        }
                    }
                    Err(error) => {
                        // What ICMP said of our request. The socket is spent: the next poll opens another.
                        association.handle_failure(&error);
                        tell.state(ServerState::Unreachable { address, error: error.to_string() });
                        socket = None;
                    }
                }
                continue;
            }
            order = orders.next() => {
                match order {
                    Order::Poll(exponent) => association.handle_wanted_poll(exponent),
                    Order::Burst => association.handle_burst(clock::raw_now()),
                    Order::Online => {}
                    Order::Offline => return End::Offline,
                }
                continue;
            }
        }
        if unanswered >= PATIENCE && !is_literal(&config.host) {
            return End::Anew;
        }
        if unanswered > 0 && unanswered % SOCKET_PATIENCE == 0 {
            socket = None;
        }
        if unanswered >= SOCKET_PATIENCE
            && matches!(tell.last, Some(ServerState::Answering { .. } | ServerState::Unusable { .. }))
        {
            tell.state(ServerState::Silent { address });
        }
        let Some(request) = association.poll_transmit(clock::raw_now()) else { continue };
        unanswered += u32::from(association.awaits_reply());
        if let Err(error) = transmit(&mut socket, (address, config), request.octets(), &mut association) {
            association.handle_failure(&error);
            tell.state(ServerState::Unreachable { address, error: error.to_string() });
            socket = None;
        } else if !matches!(
            tell.last,
            Some(ServerState::Answering { .. } | ServerState::Unusable { .. } | ServerState::Unreachable { .. })
        ) {
            tell.state(ServerState::Silent { address });
        }
        tell.polled(&association);
    }
}

/// Receives datagrams; without a socket, waits for ever.
pub(super) async fn arrivals(socket: Option<&ClientSocket>, batch: &mut Batch) -> io::Result<usize> {
    match socket {
        Some(socket) => socket.arrivals(batch).await,
        None => std::future::pending().await,
    }
}

fn transmit(
    socket: &mut Option<ClientSocket>,
    (address, config): (SocketAddr, &ClientConfig),
    request: &[u8],
    association: &mut Dialogue,
) -> io::Result<()> {
    let open = match socket {
        Some(open) => open,
        None => socket.insert(match &config.peer {
            None => ClientSocket::open(address, &config.origin, &config.cards)?,
            Some(served) => ClientSocket::open_beside(address, &config.origin, &served.ports, &config.cards)?,
        }),
    };
    association.handle_transmitted(clock::raw_now());
    open.send(request)
}

/// Hands what has arrived to the association. Returns whether the server has spoken.
fn digest<S: FnMut(ClientEvent)>(
    (batch, count): (&mut Batch, usize),
    (mut socket, config, flake): (Option<&mut ClientSocket>, &ClientConfig, &mut Flake),
    association: &mut Dialogue,
    tell: &mut Teller<'_, S>,
) -> bool {
    let address = association.address();
    let local = socket.as_deref().and_then(ClientSocket::local);
    let mut spoken = false;
    let relation = Relation::from_bracket(&clock::bracket());
    let cards = config.cards.load();
    // When our last request really left: the driver said so before the reply came.
    if let Some(left) = socket.as_deref_mut().and_then(|socket| socket.last_departure(&relation)) {
        association.handle_departed(left);
    }
    for index in 0..count {
        let Some((datagram, reply)) = batch.datagram(index) else { continue };
        let arrived = Stamp::of_arrival(&datagram, &relation, &cards);
        let at = relation.raw;
        if let (Some(len), Some(socket)) = (association.answer(&datagram, arrived.best(), reply), &mut socket) {
            // What the kernel does not take is lost, as on the way.
            let _ = socket.answer(reply.get(..len).unwrap_or_default());
            continue;
        }
        let version = datagram.octets.first().map_or(0, |octet| FirstOctet(*octet).version());
        let flags = config.access.as_ref().map_or(Flags::empty(), |access| access.load().flags(address));
        if !flags.heeds_reply(version, config.key.is_some()) {
            association.handle_restricted(datagram.octets, arrived);
            tell.state(ServerState::Restricted { address });
            continue;
        }
        if flake.loses(flags) {
            continue;
        }
        match association.handle_receive(datagram.octets, arrived, at) {
            Ok(measurement) => {
                spoken = true;
                tell.state(ServerState::Answering { address });
                tell.polled(association);
                (tell.sink)(ClientEvent::Measurement { at, address, local, measurement });
            }
            Err(reason @ (Rejected::Measured | Rejected::Presend)) => {
                spoken = true;
                tell.polled(association);
                (tell.sink)(ClientEvent::Rejected { at, address, reason });
            }
            Err(reason) => {
                match reason {
                    Rejected::Kiss(kiss @ (KissCode::Deny | KissCode::Restrict)) => {
                        tell.state(ServerState::Refused { address, kiss });
                    }
                    // Not the server's words, or nothing new.
                    Rejected::Malformed(_)
                    | Rejected::NotAReply { .. }
                    | Rejected::Bogus
                    | Rejected::Duplicate
                    | Rejected::Old => {}
                    _ => {
                        spoken = true;
                        tell.state(ServerState::Unusable { address, reason });
                    }
                }
                (tell.sink)(ClientEvent::Rejected { at, address, reason });
            }
        }
    }
    spoken
}

/// Seconds until a raw instant, none if it has passed.
pub(crate) fn until(at: Timestamp<Raw>) -> std::time::Duration {
    (at - clock::raw_now()).max(Span::ZERO).to_duration()
}
