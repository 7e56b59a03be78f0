//! UDP sockets with kernel receive stamps.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::address::KernelAddress;
use super::control_message::SO_TIMESTAMPNS_NEW;
use super::ports::Ports;

/// Octets of receive buffer a server asks for: about 20 ms of requests at 200 000 a second. The
/// kernel's default overflows after 1.4 ms.
const SERVER_BUFFER: i32 = 4 << 20;

/// A UDP socket whose datagrams carry the kernel's receive stamp (CLOCK_REALTIME).
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
}

impl UdpSocket {
    /// A server's socket on that address; port 0 lets the kernel choose. It tells the address each
    /// request was sent to, and blocks.
    ///
    /// `shared`: several sockets may share the port (`SO_REUSEPORT`), and the kernel spreads the
    /// clients over them. SO_REUSEADDR is not set: on UDP it lets two daemons share a port unawares,
    /// each with half of the clients.
    ///
    /// # Errors
    ///
    /// Those of socket(2), setsockopt(2) and bind(2).
    pub fn server(address: SocketAddr, shared: bool) -> io::Result<Self> {
        Self::server_beside(address, shared, &Ports::default())
    }

    /// The same, where others of ours may have the port for one peer each.
    ///
    /// # Errors
    ///
    /// As of [`UdpSocket::server`].
    pub fn server_beside(address: SocketAddr, shared: bool, ports: &Ports) -> io::Result<Self> {
        let socket = Self::open(address, 0)?;
        if shared {
            socket.set(libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        match address {
            SocketAddr::V4(_) => socket.set(libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?,
            SocketAddr::V6(_) => {
                socket.set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
                socket.set(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
            }
        }
        socket.hear_own_groups(address);
        socket.stamp_arrivals()?;
        // FORCE needs CAP_NET_ADMIN; without it the kernel gives as much as rmem_max allows, and a
        // small buffer is no reason not to serve.
        if socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, SERVER_BUFFER).is_err() {
            let _ = socket.set(libc::SOL_SOCKET, libc::SO_RCVBUF, SERVER_BUFFER);
        }
        ports.bind(&socket, address)?;
        Ok(socket)
    }

    /// Can the address be bound by nobody but us? The check that sharing ports would hide.
    ///
    /// # Errors
    ///
    /// Those of socket(2) and bind(2); `AddrInUse` if somebody is there already.
    pub fn probe(address: SocketAddr, ports: &Ports) -> io::Result<()> {
        let socket = Self::open(address, 0)?;
        if address.is_ipv6() {
            socket.set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        }
        ports.bind(&socket, address)
    }

    /// A client's socket: an ephemeral port, connected, so that the kernel drops what others send
    /// and reports what ICMP says; does not block. It sends from that address and by that interface, if
    /// they are given.
    ///
    /// # Errors
    ///
    /// Those of socket(2), bind(2) and connect(2), e.g. `NetworkUnreachable`; of setsockopt(2) for an
    /// interface that there is not.
    pub fn client(server: SocketAddr, from: Option<IpAddr>, interface: Option<&str>) -> io::Result<Self> {
        let socket = Self::open(server, libc::SOCK_NONBLOCK)?;
        socket.stamp_arrivals()?;
        if let Some(interface) = interface {
            socket.bind_to_interface(interface)?;
        }
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        socket.connect(server)?;
        Ok(socket)
    }

    /// The same for a peer, which knows us by our port: it is `from`'s, beside whatever of ours answers there.
    ///
    /// # Errors
    ///
    /// Those of [`UdpSocket::client`]; `AddrInUse` if another program has the port.
    pub fn peer(peer: SocketAddr, from: SocketAddr, interface: Option<&str>, ports: &Ports) -> io::Result<Arc<Self>> {
        let socket = Self::open(peer, libc::SOCK_NONBLOCK)?;
        socket.stamp_arrivals()?;
        if let Some(interface) = interface {
            socket.bind_to_interface(interface)?;
        }
        if peer.is_ipv6() {
            socket.set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        }
        ports.bind(&socket, from)?;
        socket.connect(peer)?;
        let socket = Arc::new(socket);
        ports.add(&socket);
        Ok(socket)
    }

    /// Hears that address alone from now on, and sends to it.
    fn connect(&self, to: SocketAddr) -> io::Result<()> {
        let address = KernelAddress::new(to);
        // SAFETY: the pointer and length describe `address`, which outlives the call.
        check(unsafe { libc::connect(self.as_raw_fd(), address.octets.as_ptr().cast(), address.len) })?;
        Ok(())
    }

    /// The address it is bound to.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        let mut address = KernelAddress { len: super::address::MAX_LEN as libc::socklen_t, ..Default::default() };
        // SAFETY: both pointers are to `address`, whose length field says how much room there is.
        check(unsafe {
            libc::getsockname(self.as_raw_fd(), address.octets.as_mut_ptr().cast(), &raw mut address.len)
        })?;
        address.get().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Sends a datagram on a connected socket.
    ///
    /// # Errors
    ///
    /// Those of send(2), among them what ICMP said of an earlier datagram.
    pub fn send(&self, octets: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and length describe `octets`.
        let sent = unsafe {
            libc::send(self.as_raw_fd(), octets.as_ptr().cast(), octets.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Lets the socket send to a broadcast or multicast address; the latter through so many routers less
    /// one, and out of the interface that has the address `from`, if one is given.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn reach_networks(&self, to: SocketAddr, ttl: u8, from: Option<IpAddr>) -> io::Result<()> {
        match to.ip() {
            IpAddr::V4(ip) if ip.is_multicast() => {
                self.set(libc::IPPROTO_IP, libc::IP_MULTICAST_TTL, i32::from(ttl))?;
                if let Some(IpAddr::V4(from)) = from {
                    self.set(libc::IPPROTO_IP, libc::IP_MULTICAST_IF, i32::from_ne_bytes(from.octets()))?;
                }
                Ok(())
            }
            IpAddr::V4(_) => self.set(libc::SOL_SOCKET, libc::SO_BROADCAST, 1),
            IpAddr::V6(_) => self.set(libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, i32::from(ttl)),
        }
    }

    /// Sends a datagram.
    ///
    /// # Errors
    ///
    /// Those of sendto(2).
    pub fn send_to(&self, octets: &[u8], to: SocketAddr) -> io::Result<()> {
        let to = KernelAddress::new(to);
        // SAFETY: the pointers and lengths describe `octets` and `to`, which outlive the call.
        let sent = unsafe {
            libc::sendto(
                self.as_raw_fd(),
                octets.as_ptr().cast(),
                octets.len(),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                to.octets.as_ptr().cast(),
                to.len,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// What a watched socket is watched for: datagrams, and what ICMP says of those we sent, which
    /// Linux announces as an error and not as something to read.
    pub const ARRIVALS: Interest = Interest::READABLE.add(Interest::ERROR);

    /// The socket, not blocking any more and watched by the tokio runtime this is called in.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2) and epoll_ctl(2).
    pub fn watch(self: Arc<Self>) -> io::Result<AsyncFd<Arc<Self>>> {
        self.set_nonblocking()?;
        // SAFETY: `as_raw_fd` always names the descriptor that the socket owns, and the runtime drops
        // its registration before its share of the socket, the last of which closes it.
        let watched = unsafe { AsyncFd::register_with_interest(self, Self::ARRIVALS) };
        watched.map_err(Into::into)
    }

    /// A client's socket, watched for as long as the value lives.
    ///
    /// # Errors
    ///
    /// Those of epoll_ctl(2).
    pub fn watched(&self) -> io::Result<AsyncFd<&Self>> {
        // SAFETY: `as_raw_fd` always names the descriptor of the socket that is borrowed here, which so is open
        // for as long as the registration lasts.
        let watched = unsafe { AsyncFd::register_with_interest(self, Self::ARRIVALS) };
        watched.map_err(Into::into)
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        let fd = self.as_raw_fd();
        // SAFETY: F_GETFL and F_SETFL pass integers only.
        let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
        // SAFETY: as above.
        check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
        Ok(())
    }

    /// Waits for a datagram, or for something in the error queue; `false` if nothing comes for so long.
    ///
    /// # Errors
    ///
    /// Those of poll(2).
    pub fn wait_for_news(&self, patience: Duration) -> io::Result<bool> {
        let mut news = libc::pollfd { fd: self.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the pointer is to one pollfd, which outlives the call.
        check(unsafe { libc::poll(&raw mut news, 1, millis) }).map(|count| count > 0)
    }

    /// Ends all receiving on this socket: whoever is blocked in it returns, now and ever after.
    ///
    /// A bound UDP socket is not connected, and shutdown(2) says so; but Linux wakes the readers of
    /// such a socket all the same, on purpose (`inet_shutdown`, case TCP_CLOSE). So an idle worker
    /// needs neither a timeout nor a second descriptor to be stopped.
    pub fn end_receiving(&self) {
        // SAFETY: passes integers only.
        unsafe { libc::shutdown(self.as_raw_fd(), libc::SHUT_RD) };
    }

    pub(super) fn open(address: SocketAddr, flags: i32) -> io::Result<Self> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: passes integers only.
        let fd = check(unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | flags, 0) })?;
        // SAFETY: the descriptor was just made and belongs to nobody else.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Sends and receives by one interface only (`SO_BINDTODEVICE`).
    pub(super) fn bind_to_interface(&self, name: &str) -> io::Result<()> {
        let len = libc::socklen_t::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the pointer and length describe `name`, which outlives the call.
        check(unsafe {
            libc::setsockopt(self.as_raw_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name.as_ptr().cast(), len)
        })?;
        Ok(())
    }

    pub(super) fn bind(&self, address: SocketAddr) -> io::Result<()> {
        let address = KernelAddress::new(address);
        // SAFETY: the pointer and length describe `address`, which outlives the call.
        check(unsafe { libc::bind(self.as_raw_fd(), address.octets.as_ptr().cast(), address.len) })?;
        Ok(())
    }

    pub(super) fn stamp_arrivals(&self) -> io::Result<()> {
        // On 32-bit machines the old option's seconds end in 2038.
        if cfg!(target_pointer_width = "32") && self.set(libc::SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1).is_ok() {
            return Ok(());
        }
        self.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
    }

    pub(super) fn set(&self, level: i32, option: i32, value: i32) -> io::Result<()> {
        // SAFETY: the pointer and length describe `value`, which outlives the call.
        check(unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                size_of::<i32>() as libc::socklen_t,
            )
        })?;
        Ok(())
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsRawFd for &UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(super) fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
