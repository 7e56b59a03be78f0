//! An association as the shell drives it: with a server, or with a peer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use refclocks::time::{Raw, Timestamp};

use super::association::{Association, Config};
use super::measurement::Measurement;
use super::ours::Ours;
use super::rejection::Rejected;
use super::request::Request;
use super::symmetric::Symmetric;
use super::tally::Tally;
use crate::ntp::keys::Key;
use crate::ntp::packet::FirstOctet;
use crate::ntp::served::Served;
use crate::ntp::stamp::Stamp;
use crate::recording::association::{Begin, Came, Turn, Witness};
use crate::sys::batch::Datagram;

/// An association, and who records what it sees.
pub(super) struct Dialogue {
    with: With,
    key: Option<Arc<Key>>,
    witness: Witness,
}

/// With whom it is.
enum With {
    /// A server.
    Server(Box<Association>),
    /// A peer, who is told what we serve.
    Peer(Box<Symmetric>, Served),
}

impl Dialogue {
    /// With a peer, if there is something to tell it; else with a server.
    pub(super) fn new(config: Config, served: Option<&Served>, witness: Witness) -> Self {
        let key = config.key.clone();
        witness.note(|| {
            let begin = if served.is_some() { Begin::Peer } else { Begin::Server };
            Turn::Begin(Box::new(begin(config.clone())))
        });
        let with = match served {
            Some(served) => With::Peer(Box::new(Symmetric::new(config)), served.clone()),
            None => With::Server(Box::new(Association::new(config))),
        };
        Self { with, key, witness }
    }

    pub(super) fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        match &self.with {
            With::Server(association) => association.poll_timeout(),
            With::Peer(association, _) => association.poll_timeout(),
        }
    }

    pub(super) fn poll_transmit(&mut self, now: Timestamp<Raw>) -> Option<Request> {
        let (request, ours) = match &mut self.with {
            With::Server(association) => (association.poll_transmit(now)?, None),
            With::Peer(association, served) => {
                let ours = Ours::at(served, now);
                (association.poll_transmit(now, &ours)?, Some(ours))
            }
        };
        self.witness.note(|| Turn::sent(now, request.octets(), ours));
        Some(request)
    }

    pub(super) fn handle_transmitted(&mut self, stamp: Timestamp<Raw>) {
        self.witness.note(|| Turn::HandedOver(stamp));
        match &mut self.with {
            With::Server(association) => association.handle_transmitted(stamp),
            With::Peer(association, _) => association.handle_transmitted(stamp),
        }
    }

    pub(super) fn handle_departed(&mut self, stamp: Stamp) {
        self.witness.note(|| Turn::Departed(stamp));
        match &mut self.with {
            With::Server(association) => association.handle_departed(stamp),
            With::Peer(association, _) => association.handle_departed(stamp),
        }
    }

    pub(super) fn handle_receive(
        &mut self,
        octets: &[u8],
        received: Stamp,
        now: Timestamp<Raw>,
    ) -> Result<Measurement, Rejected> {
        let (result, ours) = match &mut self.with {
            With::Server(association) => (association.handle_receive(octets, received, now), None),
            With::Peer(association, served) => {
                let ours = Ours::at(served, now);
                (association.handle_receive(octets, received, now, &ours), Some(ours))
            }
        };
        let came = || Came::new(octets, received, now, self.key.as_deref(), &result);
        self.witness.note(|| Turn::Came(Came { ours, ..came() }));
        result
    }

    /// A datagram came that our access rules say not to heed.
    pub(super) fn handle_restricted(&self, octets: &[u8], received: Stamp) {
        self.witness.note(|| Turn::restricted(received.best(), octets));
    }

    /// The system says why a packet could not be sent, or that nobody is there.
    pub(super) fn handle_failure(&self, error: &io::Error) {
        self.witness.note(|| Turn::Failed(error.to_string()));
    }

    /// A peer may be our client, too, from the same port: its requests come here, and are answered as everywhere.
    /// Returns how many octets of answer were written.
    pub(super) fn answer(&self, datagram: &Datagram<'_>, arrived: Timestamp<Raw>, reply: &mut [u8]) -> Option<usize> {
        let With::Peer(_, served) = &self.with else { return None };
        let asks = FirstOctet(*datagram.octets.first()?).mode().asks();
        if asks { served.door.answer(served, datagram, arrived, reply) } else { None }
    }

    /// Is what was sent last measured by?
    pub(super) fn awaits_reply(&self) -> bool {
        match &self.with {
            With::Server(association) => association.awaits_reply(),
            With::Peer(..) => true,
        }
    }

    pub(super) fn handle_wanted_poll(&mut self, exponent: i8) {
        self.witness.note(|| Turn::WantedPoll(exponent));
        match &mut self.with {
            With::Server(association) => association.handle_wanted_poll(exponent),
            With::Peer(association, _) => association.handle_wanted_poll(exponent),
        }
    }

    pub(super) fn handle_burst(&mut self, now: Timestamp<Raw>) {
        self.witness.note(|| Turn::Burst(now));
        match &mut self.with {
            With::Server(association) => association.handle_burst(now),
            With::Peer(association, _) => association.handle_burst(now),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        match &self.with {
            With::Server(association) => association.address(),
            With::Peer(association, _) => association.address(),
        }
    }

    pub(super) fn reach(&self) -> u8 {
        match &self.with {
            With::Server(association) => association.reach(),
            With::Peer(association, _) => association.reach(),
        }
    }

    pub(super) fn poll(&self) -> i8 {
        match &self.with {
            With::Server(association) => association.poll(),
            With::Peer(association, _) => association.poll(),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        match &self.with {
            With::Server(association) => association.tally(),
            With::Peer(association, _) => association.tally(),
        }
    }
}
