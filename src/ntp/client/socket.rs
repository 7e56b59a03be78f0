//! A client's socket: who sends from it, and when what it sent really left.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use refclocks::time::{Realtime, Timestamp};
use tokio::time::sleep;

use crate::ntp::NTP_PORT;
use crate::ntp::hardware::CardBoard;
use crate::ntp::stamp::{Relation, Stamp};
use crate::sys::batch::Batch;
use crate::sys::departure::{HardwareStamp, Left, Stamped};
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

/// A card's stamp of what left may come after the reply; it is waited for so long, so often.
const LATE: Duration = Duration::from_millis(1);
const LATE_TIMES: u32 = 3;

/// Replies in a row without one, after which none is waited for: until one comes again, however late.
const IN_VAIN: u32 = 4;

/// When the last request left.
#[derive(Clone, Copy, Debug, Default)]
struct Departing {
    kernel: Option<Timestamp<Realtime>>,
    card: Option<HardwareStamp>,
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
    left: Departing,
    cards: CardBoard,
    /// Network cards are to stamp what it sends and receives.
    by_card: bool,
    in_vain: u32,
}

impl ClientSocket {
    pub(super) fn open(server: SocketAddr, origin: &Origin, cards: &CardBoard) -> io::Result<Self> {
        let socket = UdpSocket::client(server, origin.address, origin.interface.as_deref())?;
        Ok(Self::new(Arc::new(socket), cards))
    }

    /// Of our own port, by which peers know each other; of another if that cannot be had: whoever answers strangers
    /// answers us.
    pub(super) fn open_beside(peer: SocketAddr, origin: &Origin, ports: &Ports, cards: &CardBoard) -> io::Result<Self> {
        let any = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let from = SocketAddr::new(origin.address.unwrap_or(any), NTP_PORT);
        match UdpSocket::peer(peer, from, origin.interface.as_deref(), ports) {
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
                Self::open(peer, origin, cards)
            }
            opened => opened.map(|socket| Self::new(socket, cards)),
        }
    }

    /// Of the port of ours, at the address, by which somebody knows us.
    pub(super) fn open_at(peer: SocketAddr, ours: SocketAddr, ports: &Ports, cards: &CardBoard) -> io::Result<Self> {
        UdpSocket::peer(peer, ours, None, ports).map(|socket| Self::new(socket, cards))
    }

    fn new(socket: Arc<UdpSocket>, cards: &CardBoard) -> Self {
        let (left, by_card) = (Departing::default(), cards.load().wanted);
        let mut new = Self { socket, sent: 0, asked: 0, left, cards: Arc::clone(cards), by_card, in_vain: 0 };
        new.have_stamped();
        new
    }

    /// Has what leaves stamped; it is counted anew.
    fn have_stamped(&mut self) {
        // Without stamps of departures our own reading of the clock stands.
        if self.socket.stamp_departures(Stamped::All, self.by_card).is_err() && self.by_card {
            let _ = self.socket.stamp_departures(Stamped::All, false);
        }
        self.sent = 0;
    }

    /// Sends a request.
    pub(super) fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        let by_card = self.cards.load().wanted;
        if by_card != self.by_card {
            self.by_card = by_card;
            self.have_stamped();
        }
        self.collect();
        self.asked = self.sent;
        self.left = Departing::default();
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

    /// Takes in what is said of departures.
    fn collect(&mut self) {
        let (asked, left, in_vain) = (self.asked, &mut self.left, &mut self.in_vain);
        self.socket.departures(|departure| {
            if let Left::Hardware(_) = departure.stamp {
                *in_vain = 0;
            }
            if departure.number == asked {
                match departure.stamp {
                    Left::Kernel(stamp) => left.kernel = Some(stamp),
                    Left::Hardware(stamp) => left.card = Some(stamp),
                }
            }
        });
    }

    /// When the last request left, as far as has been said so far.
    pub(super) fn last_departure(&mut self, relation: &Relation) -> Option<Stamp> {
        self.collect();
        let kernel = relation.raw_of(self.left.kernel?)?;
        let card = self.left.card.and_then(|stamp| self.cards.load().departure(&stamp, kernel));
        Some(Stamp { card, ..kernel.into() })
    }

    /// The network card stamped what came, and will have stamped the request: gives it a little time to say so. It says
    /// when it gets round to it, perhaps never.
    pub(super) async fn await_departure(&mut self, came: &Batch) {
        if !self.by_card || self.in_vain >= IN_VAIN || !came.is_stamped_by_card() || !self.cards.load().any() {
            return;
        }
        for _ in 0..LATE_TIMES {
            self.collect();
            if self.left.card.is_some() {
                return;
            }
            sleep(LATE).await;
        }
        self.collect();
        if self.left.card.is_none() {
            self.in_vain += 1;
        }
    }

    /// Waits for datagrams.
    pub(super) async fn arrivals(&self, batch: &mut Batch) -> io::Result<usize> {
        batch.arrivals(&self.socket.watched()?).await
    }
}
