//! A client's socket: who sends from it, and when what it sent really left.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use refclocks::time::{Raw, Timestamp};

use crate::ntp::NTP_PORT;
use crate::ntp::stamp::Relation;
use crate::sys::batch::Batch;
use crate::sys::departure::Stamped;
use crate::sys::ports::Ports;
use crate::sys::udp::UdpSocket;

/// From where requests are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// From this address, or from whichever the routing table says.
    pub address: Option<IpAddr>,
    /// By this interface.
    pub interface: Option<String>,
}

/// A socket connected to a server. It is watched only while somebody waits for what arrives: between a
/// datagram's stamp and its leaving the kernel tells whoever watches the socket, which took 2 us of 4.
#[derive(Debug)]
pub(super) struct ClientSocket {
    socket: Arc<UdpSocket>,
    /// Datagrams sent so far.
    sent: u32,
    /// The number of the last request among them.
    asked: u32,
}

impl ClientSocket {
    pub(super) fn open(server: SocketAddr, origin: &Origin) -> io::Result<Self> {
        let socket = UdpSocket::client(server, origin.address, origin.interface.as_deref())?;
        Ok(Self::new(Arc::new(socket)))
    }

    /// Of our own port, by which peers know each other; of another if that cannot be had: whoever answers strangers
    /// answers us.
    pub(super) fn open_beside(peer: SocketAddr, origin: &Origin, ports: &Ports) -> io::Result<Self> {
        let any = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let from = SocketAddr::new(origin.address.unwrap_or(any), NTP_PORT);
        match UdpSocket::peer(peer, from, origin.interface.as_deref(), ports) {
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
                Self::open(peer, origin)
            }
            opened => opened.map(Self::new),
        }
    }

    /// Of the port of ours, at the address, by which somebody knows us.
    pub(super) fn open_at(peer: SocketAddr, ours: SocketAddr, ports: &Ports) -> io::Result<Self> {
        UdpSocket::peer(peer, ours, None, ports).map(Self::new)
    }

    fn new(socket: Arc<UdpSocket>) -> Self {
        // Without stamps of departures our own reading of the clock stands.
        let _ = socket.stamp_departures(Stamped::All);
        Self { socket, sent: 0, asked: 0 }
    }

    /// Sends a request.
    pub(super) fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.asked = self.sent;
        self.answer(octets)
    }

    /// Sends something whose departure matters to nobody.
    pub(super) fn answer(&mut self, octets: &[u8]) -> io::Result<()> {
        self.socket.send(octets)?;
        self.sent = self.sent.wrapping_add(1);
        Ok(())
    }

    /// Our own address, as the server sees it.
    pub(super) fn local(&self) -> Option<IpAddr> {
        self.socket.local_address().ok().map(|address| address.ip())
    }

    /// When the last request left, if the kernel has said so since the last call.
    pub(super) fn last_departure(&self, relation: &Relation) -> Option<Timestamp<Raw>> {
        let mut left = None;
        self.socket.departures(|departure| {
            if departure.number == self.asked {
                left = relation.raw_of(departure.stamp);
            }
        });
        left
    }

    /// Waits for datagrams.
    pub(super) async fn arrivals(&self, batch: &mut Batch) -> io::Result<usize> {
        batch.arrivals(&self.socket.watched()?).await
    }
}
