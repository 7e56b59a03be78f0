//! Sockets and threads: requests in, [`respond`], replies out, a batch at a time.
//!
//! A worker owns a socket and blocks in it. An idle worker causes no wake-up at all.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use refclocks::sys::clock;
use refclocks::time::Span;
use tokio::io::unix::AsyncFd;

use super::counters::{CounterSet, Counters};
use super::served::Served;
use super::server::{Disposition, DropReason, Request, View, respond};
use super::stamp::Relation;
use crate::sys::batch::{Batch, MAX_BATCH, MAX_SEND, Wait};
use crate::sys::udp::UdpSocket;

/// How long to pause after a receive call failed for a reason that will not pass by itself.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Why an address cannot be listened on. Whoever asked tries again later: nothing of this is final.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program has the port.
    #[error("port {} of {} is in use by another program", address.port(), address.ip())]
    InUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Ports below 1024 need a privilege.
    #[error("no permission to listen on {address}")]
    Permission {
        /// The address asked for.
        address: SocketAddr,
    },
    /// This machine has no such address (yet).
    #[error("this machine has no address {}", address.ip())]
    NoSuchAddress {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Something else.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address },
            io::ErrorKind::PermissionDenied => Self::Permission { address },
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress { address },
            _ => Self::Io { address, source },
        }
    }

    /// What a person can do about it.
    pub fn action(&self) -> Option<String> {
        match self {
            Self::InUse { address } => {
                Some(format!("Find the other time server: `ss -ulnp 'sport = :{}'`, and stop it.", address.port()))
            }
            Self::Permission { .. } => Some("Start as root, or give the program CAP_NET_BIND_SERVICE.".into()),
            Self::NoSuchAddress { .. } => Some("Check `listen` against `ip address`.".into()),
            Self::Io { .. } => None,
        }
    }
}

/// Sockets on one address, one for each worker, not served yet.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    sockets: Vec<UdpSocket>,
}

/// Binds an address for that many workers (at least one socket; 0 workers means that the socket is
/// served inline, see [`Listener::inline`]). Port 0 takes a free one.
///
/// # Errors
///
/// [`BindError`], with the reason.
pub fn bind(address: SocketAddr, workers: usize) -> Result<Listener, BindError> {
    let failed = |source| BindError::new(address, source);
    let shared = workers > 1;
    if shared && address.port() != 0 {
        UdpSocket::probe(address).map_err(failed)?;
    }
    let first = UdpSocket::server(address, shared).map_err(failed)?;
    let address = first.local_address().map_err(failed)?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(UdpSocket::server(address, true).map_err(failed)?);
    }
    Ok(Listener { address, sockets })
}

impl Listener {
    /// The address, with the port that port 0 became.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts a thread for each socket.
    ///
    /// # Errors
    ///
    /// If the system gives no thread; those already started are stopped.
    pub fn spawn(self, served: &Served) -> io::Result<Workers> {
        let counters: Vec<Arc<Counters>> = self.sockets.iter().map(|_| Arc::default()).collect();
        let mut workers = Workers {
            address: self.address,
            stop: Arc::default(),
            sockets: Vec::new(),
            threads: Vec::new(),
            counters: CounterSet::new(counters.iter().cloned()),
        };
        for (index, (socket, counters)) in self.sockets.into_iter().zip(counters).enumerate() {
            let socket = Arc::new(socket);
            workers.sockets.push(socket.clone());
            let responder = Responder::new(served.clone(), counters, workers.stop.clone());
            let thread = thread::Builder::new()
                .name(format!("ntp-{index}"))
                .stack_size(256 << 10)
                .spawn(move || work(&socket, responder))?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Serves on the calling task instead of on threads of its own. To be called in a tokio runtime
    /// with I/O.
    ///
    /// # Errors
    ///
    /// If the runtime cannot watch the sockets.
    pub fn inline(self, served: &Served) -> io::Result<Inline> {
        let counters: Arc<Counters> = Arc::default();
        let mut watched = Vec::new();
        for socket in self.sockets {
            watched.push(socket.watch()?);
        }
        Ok(Inline {
            address: self.address,
            sockets: watched,
            responder: Responder::new(served.clone(), counters.clone(), Arc::default()),
            counters: CounterSet::new([counters]),
        })
    }
}

/// Running worker threads. Dropping them stops them.
#[derive(Debug)]
pub struct Workers {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    sockets: Vec<Arc<UdpSocket>>,
    threads: Vec<JoinHandle<()>>,
    counters: CounterSet,
}

impl Workers {
    /// The address served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Their counters.
    pub fn counters(&self) -> CounterSet {
        self.counters.clone()
    }

    /// Stops them and waits until they have ended: at most one batch each.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        for socket in &self.sockets {
            socket.end_receiving();
        }
        for thread in self.threads.drain(..) {
            // A worker that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.end();
    }
}

/// A server on the calling task.
#[derive(Debug)]
pub struct Inline {
    address: SocketAddr,
    sockets: Vec<AsyncFd<UdpSocket>>,
    responder: Responder,
    counters: CounterSet,
}

impl Inline {
    /// The address served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its counters.
    pub fn counters(&self) -> CounterSet {
        self.counters.clone()
    }

    /// Answers requests, a batch for each turn of the runtime. Never ends.
    pub async fn run(mut self) {
        loop {
            // Zero workers have one socket.
            let Some(socket) = self.sockets.first() else { return std::future::pending().await };
            match self.responder.batch.arrivals(socket).await {
                Ok(received) => {
                    self.responder.answer(socket.get_ref(), received);
                    // A full batch leaves no time to others unless it is given.
                    tokio::task::yield_now().await;
                }
                Err(_) => {
                    self.responder.counters.count_receive_failed();
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }
}

fn work(socket: &UdpSocket, mut responder: Responder) {
    while !responder.stopped() {
        match responder.batch.receive(socket, Wait::ForOne) {
            // The call that shutdown(2) wakes delivers an empty datagram from nobody.
            _ if responder.stopped() => return,
            Ok(received) => responder.answer(socket, received),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => {
                responder.counters.count_receive_failed();
                thread::sleep(PAUSE_AFTER_ERROR);
            }
        }
    }
}

/// One worker's buffers and what it has learned.
#[derive(Debug)]
struct Responder {
    served: Served,
    counters: Arc<Counters>,
    batch: Batch,
    send_cost: SendCost,
    stop: Arc<AtomicBool>,
}

impl Responder {
    fn new(served: Served, counters: Arc<Counters>, stop: Arc<AtomicBool>) -> Self {
        Self { served, counters, batch: Batch::new(MAX_BATCH), send_cost: SendCost::default(), stop }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Answers a batch that has been received.
    fn answer(&mut self, socket: &UdpSocket, received: usize) {
        if received == 0 {
            return;
        }
        self.counters.count_received(received);
        let relation = Relation::from_bracket(&clock::bracket());
        let snapshot = self.served.snapshot.load();
        let map = **self.served.raw_map.load();
        let access = self.served.access.load();
        let keys = self.served.keys.load();
        let view = View::at(&snapshot, map.apply(relation.raw));
        let slept = clock::asleep() - snapshot.asleep > clock::SHORTEST_SLEEP;
        let view = if slept { view.unsynchronised() } else { view };

        let mut next = 0;
        while next < received {
            let mut ready = [0; MAX_SEND];
            let mut count = 0;
            let now = clock::raw_now();
            while next < received && count < MAX_SEND {
                let index = next;
                next += 1;
                let Some((datagram, reply)) = self.batch.datagram(index) else { continue };
                // The place for the limiter and the monitor (two client tables, walked once a batch):
                // they see the source and whether it was permitted, and may drop.
                let source = match datagram.from {
                    Some(from) if from.port() != 0 && !from.ip().is_unspecified() && !from.ip().is_multicast() => from,
                    _ => {
                        self.counters.count_dropped(DropReason::BadSource);
                        continue;
                    }
                };
                let flags = access.flags(source);
                if datagram.truncated {
                    self.counters.count_dropped(DropReason::Malformed);
                    continue;
                }
                let arrived = datagram.stamp.and_then(|stamp| relation.raw_of(stamp)).unwrap_or_else(|| {
                    self.counters.count_without_kernel_stamp();
                    relation.raw
                });
                let leaves = now + self.send_cost.until_sent(count);
                let utc = |host| snapshot.utc_at(map.apply(host)).0;
                let request = Request {
                    octets: datagram.octets,
                    source: source.ip(),
                    flags,
                    received: utc(arrived),
                    transmit: utc(leaves),
                };
                let disposition = respond(&request, &view, &keys, reply);
                if let Disposition::Nak(_) = disposition {
                    self.counters.count_refused_key();
                }
                match disposition {
                    Disposition::Reply(len) | Disposition::Nak(len) => {
                        self.batch.set_reply(index, len);
                        if let Some(slot) = ready.get_mut(count) {
                            *slot = index;
                            count += 1;
                        }
                    }
                    // The place for the ring to the main thread: the datagram with its kernel stamp
                    // and both addresses, bounded, counted when full.
                    Disposition::Pass(_) => self.counters.count_passed(),
                    Disposition::Drop(reason) => self.counters.count_dropped(reason),
                }
            }
            if let Some(ready) = ready.get(..count).filter(|ready| !ready.is_empty()) {
                let sent = self.batch.send(socket, ready);
                self.send_cost.learn(clock::raw_now() - now, count);
                self.counters.count_sent(sent.sent, sent.failed);
            }
        }
    }
}

/// How long it takes until a reply is on its way: a moving average of what the last ones took.
#[derive(Clone, Copy, Debug)]
struct SendCost {
    /// Of one reply, ns.
    nanos: i64,
}

impl Default for SendCost {
    fn default() -> Self {
        Self { nanos: 10_000 }
    }
}

impl SendCost {
    /// From the reading of the clock until the reply at that place of a sub-batch has left.
    fn until_sent(&self, place: usize) -> Span {
        // Three quarters through its own share: the rest, returning and waking the receiver, comes
        // after. Against the peer's kernel stamps on loopback: within 2 us, idle and saturated.
        Span::from_nanos(self.nanos * (4 * place as i64 + 3) / 4)
    }

    /// A sub-batch of that many replies took so long.
    fn learn(&mut self, took: Span, replies: usize) {
        let Ok(replies @ 1..) = i64::try_from(replies) else { return };
        // A preempted worker says nothing of the cost of sending.
        let each = (took.nanos() / replies).clamp(0, 4 * self.nanos + 1000);
        self.nanos += (each - self.nanos) / 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn send_cost_follows_and_ignores_preemption() {
        let mut cost = SendCost::default();
        for _ in 0..200 {
            cost.learn(Span::from_nanos(24_000), 8);
        }
        assert!((2_990..3_010).contains(&cost.nanos), "{}", cost.nanos);
        cost.learn(Span::from_millis(50), 1);
        assert!(cost.nanos < 5_000);
        assert_eq!(SendCost { nanos: 1000 }.until_sent(2), Span::from_nanos(2750));
    }
}
