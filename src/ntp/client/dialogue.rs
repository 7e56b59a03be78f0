//! An association as the shell drives it: with a server, or with a peer.

use std::net::SocketAddr;

use refclocks::time::{Raw, Timestamp};

use super::association::{Association, Config};
use super::measurement::Measurement;
use super::ours::Ours;
use super::rejection::Rejected;
use super::request::Request;
use super::symmetric::Symmetric;
use super::tally::Tally;
use crate::ntp::packet::{FirstOctet, Mode};
use crate::ntp::served::Served;
use crate::ntp::stamp::Stamp;
use crate::sys::batch::Datagram;

/// An association.
pub(super) enum Dialogue {
    /// With a server.
    Client(Box<Association>),
    /// With a peer, who is told what we serve.
    Peer(Box<Symmetric>, Served),
}

impl Dialogue {
    /// With a peer, if there is something to tell it; else with a server.
    pub(super) fn new(config: Config, served: Option<&Served>) -> Self {
        match served {
            Some(served) => Self::Peer(Box::new(Symmetric::new(config)), served.clone()),
            None => Self::Client(Box::new(Association::new(config))),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        match self {
            Self::Client(association) => association.poll_timeout(),
            Self::Peer(association, _) => association.poll_timeout(),
        }
    }

    pub(super) fn poll_transmit(&mut self, now: Timestamp<Raw>) -> Option<Request> {
        match self {
            Self::Client(association) => association.poll_transmit(now),
            Self::Peer(association, served) => association.poll_transmit(now, &Ours::at(served, now)),
        }
    }

    pub(super) fn handle_transmitted(&mut self, stamp: Timestamp<Raw>) {
        match self {
            Self::Client(association) => association.handle_transmitted(stamp),
            Self::Peer(association, _) => association.handle_transmitted(stamp),
        }
    }

    pub(super) fn handle_departed(&mut self, stamp: Stamp) {
        match self {
            Self::Client(association) => association.handle_departed(stamp),
            Self::Peer(association, _) => association.handle_departed(stamp),
        }
    }

    pub(super) fn handle_receive(
        &mut self,
        octets: &[u8],
        received: Stamp,
        now: Timestamp<Raw>,
    ) -> Result<Measurement, Rejected> {
        match self {
            Self::Client(association) => association.handle_receive(octets, received, now),
            Self::Peer(association, served) => {
                association.handle_receive(octets, received, now, &Ours::at(served, now))
            }
        }
    }

    /// A peer may be our client, too, from the same port: its requests come here, and are answered as everywhere.
    /// Returns how many octets of answer were written.
    pub(super) fn answer(&self, datagram: &Datagram<'_>, arrived: Timestamp<Raw>, reply: &mut [u8]) -> Option<usize> {
        let Self::Peer(_, served) = self else { return None };
        let mode = FirstOctet(*datagram.octets.first()?).mode();
        let asks = matches!(mode, Mode::Client | Mode::Reserved) && !datagram.truncated;
        if asks { served.door.answer(served, datagram, arrived, reply) } else { None }
    }

    /// Is what was sent last measured by?
    pub(super) fn awaits_reply(&self) -> bool {
        match self {
            Self::Client(association) => association.awaits_reply(),
            Self::Peer(..) => true,
        }
    }

    pub(super) fn handle_wanted_poll(&mut self, exponent: i8) {
        match self {
            Self::Client(association) => association.handle_wanted_poll(exponent),
            Self::Peer(association, _) => association.handle_wanted_poll(exponent),
        }
    }

    pub(super) fn handle_burst(&mut self, now: Timestamp<Raw>) {
        match self {
            Self::Client(association) => association.handle_burst(now),
            Self::Peer(association, _) => association.handle_burst(now),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Client(association) => association.address(),
            Self::Peer(association, _) => association.address(),
        }
    }

    pub(super) fn reach(&self) -> u8 {
        match self {
            Self::Client(association) => association.reach(),
            Self::Peer(association, _) => association.reach(),
        }
    }

    pub(super) fn poll(&self) -> i8 {
        match self {
            Self::Client(association) => association.poll(),
            Self::Peer(association, _) => association.poll(),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        match self {
            Self::Client(association) => association.tally(),
            Self::Peer(association, _) => association.tally(),
        }
    }
}
