//! Sockets and threads: requests in, [`respond`](super::server::respond), replies out, a batch at a time.
//!
//! A worker owns a socket and blocks in it. An idle worker causes no wake-up at all.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::unix::AsyncFd;

use super::counters::{CounterSet, Counters};
use super::responder::Responder;
use super::served::Served;
use crate::sys::batch::Wait;
use crate::sys::ports::Ports;
use crate::sys::steering::steer_by_address;
use crate::sys::udp::UdpSocket;

/// How long to pause after a receive call failed for a reason that will not pass by itself.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// How long after a datagram was handed over the kernel's stamp of its leaving may come.
const DEPARTURE: Duration = Duration::from_millis(50);

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
    bind_beside(address, workers, &Ports::default())
}

/// The same, where peers may have sockets of ours on the port.
///
/// # Errors
///
/// As of [`bind`].
pub fn bind_beside(address: SocketAddr, workers: usize, ports: &Ports) -> Result<Listener, BindError> {
    let failed = |source| BindError::new(address, source);
    let shared = workers > 1;
    if shared && address.port() != 0 {
        UdpSocket::probe(address, ports).map_err(failed)?;
    }
    let first = UdpSocket::server_beside(address, shared, ports).map_err(failed)?;
    let address = first.local_address().map_err(failed)?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(UdpSocket::server_beside(address, true, ports).map_err(failed)?);
    }
    if let (true, Some(socket), Ok(count)) = (shared, sockets.first(), u32::try_from(sockets.len())) {
        // A kernel without it spreads one client over all workers: limits are a little wider then.
        let _ = steer_by_address(socket, address.is_ipv4(), count);
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
        served.board.add(workers.counters.clone());
        for (index, (socket, counters)) in self.sockets.into_iter().zip(counters).enumerate() {
            let socket = Arc::new(socket);
            served.ports.add(&socket);
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
            let socket = Arc::new(socket);
            served.ports.add(&socket);
            watched.push(socket.watch()?);
        }
        let responder = Responder::new(served.clone(), counters.clone(), Arc::default());
        let counters = CounterSet::new([counters]);
        served.board.add(counters.clone());
        Ok(Inline { address: self.address, sockets: watched, responder, counters })
    }
}

/// A port that is served: what is sent from it, whoever hears it can answer there.
#[derive(Clone, Debug)]
pub struct Port(Arc<UdpSocket>);

impl Port {
    /// Sends a datagram.
    ///
    /// # Errors
    ///
    /// Those of sendto(2).
    pub fn send(&self, octets: &[u8], to: SocketAddr) -> io::Result<()> {
        self.0.send_to(octets, to)
    }

    /// Hears what is sent to these groups, too, on the interfaces there are now: this one of the sockets of an address does, so that
    /// each request is answered once. To be repeated when interfaces come.
    ///
    /// # Errors
    ///
    /// If this machine has no interface that carries multicast.
    pub fn join(&self, groups: impl IntoIterator<Item = IpAddr>) -> io::Result<()> {
        let is_ipv4 = self.0.local_address()?.is_ipv4();
        let mut wanted = groups.into_iter().filter(|group| group.is_ipv4() == is_ipv4);
        wanted.try_for_each(|group| self.0.join(group, None))
    }

    /// Sends a datagram to a whole network: [`UdpSocket::reach_networks`].
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2) and sendto(2).
    pub fn broadcast(&self, octets: &[u8], to: SocketAddr, ttl: u8, from: Option<IpAddr>) -> io::Result<()> {
        self.0.reach_networks(to, ttl, from)?;
        self.send(octets, to)
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

    /// The port they answer from.
    pub fn port(&self) -> Option<Port> {
        self.sockets.first().cloned().map(Port)
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
    sockets: Vec<AsyncFd<Arc<UdpSocket>>>,
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

    /// The port it answers from.
    pub fn port(&self) -> Option<Port> {
        self.sockets.first().map(|socket| Port(Arc::clone(socket.get_ref())))
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
        let wait = if responder.awaits_departures() {
            // What left is stamped by the driver, a little later.
            match socket.wait_for_news(DEPARTURE) {
                Ok(true) => responder.learn_departures(socket),
                _ => responder.give_up_departures(socket),
            }
            Wait::No
        } else {
            Wait::ForOne
        };
        match responder.batch.receive(socket, wait) {
            // The call that shutdown(2) wakes delivers an empty datagram from nobody.
            _ if responder.stopped() => return,
            Ok(received) => responder.answer(socket, received),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(_) => {
                responder.counters.count_receive_failed();
                thread::sleep(PAUSE_AFTER_ERROR);
            }
        }
    }
}
