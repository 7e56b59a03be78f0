//! Manycast: a request to a whole group, which whoever serves in it answers (RFC 5905 section 3.1). The answers are not
//! measured by, for they come of one request: they tell who is there, and those are asked one by one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use refclocks::time::NtpTimestamp;
use tokio::time::{Instant, timeout_at};

use super::checks::{is_signed, is_vouched_for};
use super::random::{Random, Seed, seed};
use super::rejection::Rejected;
use super::request::Request;
use super::socket::Origin;
use crate::ntp::keys::Key;
use crate::ntp::packet::{Header, Mode, Packet, PacketError};
use crate::sys::batch::Batch;
use crate::sys::udp::UdpSocket;

/// Answers may come so long after the request.
const PATIENCE: Duration = Duration::from_secs(3);

/// Answers that are looked at; a group has no more servers of use.
const MOST: usize = 64;

/// A request to a group.
#[derive(Debug)]
pub struct Solicitation {
    cookie: NtpTimestamp,
    key: Option<Arc<Key>>,
}

impl Solicitation {
    /// One, and its octets.
    pub fn new(version: u8, key: Option<Arc<Key>>, seed: Seed) -> (Self, Request) {
        let cookie = Random::new(seed).cookie();
        let request = Request::new(&Header::request(version.clamp(1, 4), cookie), key.as_deref());
        (Self { cookie, key }, request)
    }

    /// Is it an answer of a server that has the time?
    ///
    /// # Errors
    ///
    /// [`Rejected`], if it is none.
    pub fn admits(&self, octets: &[u8]) -> Result<(), Rejected> {
        let packet = Packet::new_checked(octets)?;
        let tail = packet.tail().map_err(PacketError::from)?;
        let reply = Header::parse(&packet);
        if reply.mode != Mode::Server || !(1..=4).contains(&reply.version) {
            return Err(Rejected::NotAReply { mode: reply.mode });
        }
        if reply.origin != self.cookie {
            return Err(Rejected::Bogus);
        }
        is_signed(self.key.as_deref(), octets, &tail)?;
        is_vouched_for(&reply)
    }
}

/// Where a group is, and how far requests to it go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its multicast address and port.
    pub address: SocketAddr,
    /// Through so many routers less one.
    pub ttl: u8,
    /// From where it is asked.
    pub origin: Origin,
}

/// Asks a group who is there. Each answers once, in the order in which they answered: the nearest first.
///
/// # Errors
///
/// Those of the socket.
pub async fn solicit(group: &Group, version: u8, key: Option<Arc<Key>>) -> io::Result<Vec<SocketAddr>> {
    let (solicitation, request) = Solicitation::new(version, key, seed()?);
    let any = if group.address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let from = SocketAddr::new(group.origin.address.unwrap_or(any), 0);
    let socket = UdpSocket::open_to_all(from, group.origin.interface.as_deref())?;
    socket.reach_networks(group.address, group.ttl, group.origin.address)?;
    socket.send_to(request.octets(), group.address)?;
    let socket = socket.watch()?;
    let until = Instant::now() + PATIENCE;
    let mut batch = Batch::new(16);
    let mut found = Vec::new();
    while let Ok(arrived) = timeout_at(until, batch.arrivals(&socket)).await {
        for index in 0..arrived? {
            let Some((datagram, _)) = batch.datagram(index) else { continue };
            let Some(from) = datagram.from.filter(|from| !found.contains(from)) else { continue };
            if solicitation.admits(datagram.octets).is_ok() && found.len() < MOST {
                found.push(from);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntp::keys::Algorithm;
    use crate::ntp::packet::NtpShort;
    use refclocks::{LeapIndicator, ReferenceId};

    #[test]
    fn only_answers_of_servers_with_the_time_count() {
        let key = Arc::new(Key::new(5, Algorithm::Sha1, b"roses").unwrap());
        let (solicitation, request) = Solicitation::new(4, Some(key.clone()), [1; 32]);
        let asked = Header::parse(&Packet::new_checked(request.octets()).unwrap());
        assert_eq!((asked.mode, request.octets().len()), (Mode::Client, 72));
        let good = Header {
            mode: Mode::Server,
            stratum: 2,
            origin: asked.transmit,
            root_dispersion: NtpShort(66),
            refid: ReferenceId([192, 0, 2, 1]),
            ..asked
        };
        let signed = |header: &Header| {
            let mut octets = header.to_octets().to_vec();
            octets.resize(72, 0);
            key.sign(&mut octets, 48, 20).unwrap();
            octets
        };
        assert_eq!(solicitation.admits(&signed(&good)), Ok(()));
        assert_eq!(solicitation.admits(&good.to_octets()), Err(Rejected::NotSigned { key: 5 }));
        let other = Header { origin: NtpTimestamp(7), ..good };
        assert_eq!(solicitation.admits(&signed(&other)), Err(Rejected::Bogus));
        let asks = Header { mode: Mode::Client, ..good };
        assert_eq!(solicitation.admits(&signed(&asks)), Err(Rejected::NotAReply { mode: Mode::Client }));
        let lost = Header { leap: LeapIndicator::Unsynchronised, ..good };
        assert!(matches!(solicitation.admits(&signed(&lost)), Err(Rejected::Unsynchronised { .. })));
    }
}
