//! The NTP associations of a recording once more: on the same datagrams they ask the same, measure the same and reject the
//! same. The first that does not is told.
//!
//! With faults on the way an association may ask something else than was asked then. Its numbers take the place of the
//! recorded ones in the replies that repeat those, as the server would have repeated them.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use refclocks::time::{NtpTimestamp, Raw, Timestamp};

use super::association::{Begin, Came, MEASURED, Turn, Whose, outcome, signed_again, without_digest};
use crate::core::measurement::SourceId;
use crate::ntp::client::measurement::Measurement;
use crate::ntp::client::ours::Ours;
use crate::ntp::client::overheard::Overheard;
use crate::ntp::client::passive::Passive;
use crate::ntp::client::{Association, Rejected, Request, Symmetric};
use crate::ntp::keys::Key;
use crate::ntp::packet::Packet;

/// So many requests back a reply may be to.
const REQUESTS: usize = 8;

/// Octets of a header where the origin timestamp stands.
const ORIGIN: std::ops::Range<usize> = 24..32;

/// An association with whoever it is.
#[derive(Debug)]
enum With {
    Server(Box<Association>),
    Peer(Box<Symmetric>),
    Passive(Box<Passive>),
    Broadcaster(Box<Overheard>),
}

/// What of a request a reply may repeat.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    transmit: NtpTimestamp,
    receive: NtpTimestamp,
}

/// One association, begun anew.
#[derive(Debug)]
struct Rerun {
    with: With,
    address: SocketAddr,
    /// What stands in for its key.
    key: Option<Arc<Key>>,
    /// Of the last requests: as recorded, and as asked now.
    requests: VecDeque<(Numbers, Option<Numbers>)>,
}

/// A measurement that the core has not been told of yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub measurement: Measurement,
    pub address: SocketAddr,
    /// Was it one in the recording?
    as_recorded: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Reruns {
    with_faults: bool,
    associations: BTreeMap<Whose, Rerun>,
    /// Which sources the broadcasters and strangers are.
    sources: BTreeMap<Whose, SourceId>,
    measured: BTreeMap<Whose, VecDeque<Measured>>,
}

impl Reruns {
    /// None has begun. With faults on the way nothing is compared.
    pub(super) fn new(with_faults: bool) -> Self {
        Self { with_faults, ..Self::default() }
    }

    /// Which source it is, if that is known yet.
    pub(super) fn source_of(&self, of: Whose) -> Option<SourceId> {
        match of {
            Whose::Source(source) => Some(source),
            Whose::Listener(_) | Whose::Heard(..) | Whose::Stranger(_) => self.sources.get(&of).copied(),
        }
    }

    fn of_source(&self, source: SourceId) -> Option<Whose> {
        let own = Whose::Source(source);
        let heard = || self.sources.iter().find(|(_, other)| **other == source).map(|(of, _)| *of);
        if self.associations.contains_key(&own) { Some(own) } else { heard() }
    }

    /// Are the datagrams of this source recorded?
    pub(super) fn has(&self, source: SourceId) -> bool {
        self.of_source(source).is_some()
    }

    /// Reach and poll of a source, as they are now.
    pub(super) fn standing(&self, source: SourceId) -> Option<(u8, i8)> {
        Some(match &self.associations.get(&self.of_source(source)?)?.with {
            With::Server(association) => (association.reach(), association.poll()),
            With::Peer(association) => (association.reach(), association.poll()),
            With::Passive(association) => (association.reach(), association.poll()),
            With::Broadcaster(overheard) => (overheard.reach(), overheard.interval()),
        })
    }

    /// The next measurement of a source, where the recording has one as well.
    pub(super) fn take_recorded(&mut self, source: SourceId) -> Option<Measured> {
        let of = self.of_source(source)?;
        let waiting = self.measured.get_mut(&of)?;
        waiting.front().is_some_and(|next| next.as_recorded).then(|| waiting.pop_front()).flatten()
    }

    /// The next measurement of any source that the recording does not have.
    pub(super) fn take_new(&mut self) -> Option<(SourceId, Measured)> {
        let is_new = |waiting: &VecDeque<Measured>| waiting.front().is_some_and(|next| !next.as_recorded);
        let of = self.measured.iter().find(|(of, w)| is_new(w) && self.source_of(**of).is_some()).map(|(of, _)| *of)?;
        Some((self.source_of(of)?, self.measured.get_mut(&of)?.pop_front()?))
    }

    /// Takes one turn. What is otherwise than recorded, in words.
    ///
    /// # Errors
    ///
    /// That it cannot come now.
    pub(super) fn handle(&mut self, of: Whose, turn: &Turn) -> Result<Option<String>, &'static str> {
        if let Turn::Begin(begin) = turn {
            self.associations.insert(of, Rerun::new(begin));
            return Ok(None);
        }
        let rerun = self.associations.get_mut(&of).ok_or("it is of an association that has not begun")?;
        match turn {
            Turn::Source(source) => drop(self.sources.insert(of, *source)),
            Turn::Sent { at, octets, ours } => {
                let now = rerun.ask(*at, ours.as_ref(), octets)?;
                if !self.with_faults && now.as_ref() != Some(octets) {
                    return Ok(Some(format!("{} is asked something else", rerun.address)));
                }
            }
            Turn::Came(came) => {
                let result = rerun.hear(came, self.with_faults)?;
                let (now, then) = (outcome(&result), &came.outcome);
                if let Ok(measurement) = result {
                    let as_recorded = !self.with_faults && then == MEASURED;
                    let measured = Measured { measurement, address: rerun.address, as_recorded };
                    self.measured.entry(of).or_default().push_back(measured);
                }
                if !self.with_faults && now != *then {
                    let address = rerun.address;
                    return Ok(Some(format!("what came of a datagram of {address} was \"{then}\", and is \"{now}\"")));
                }
            }
            _ => rerun.be_told(turn),
        }
        Ok(None)
    }
}

impl Rerun {
    fn new(begin: &Begin) -> Self {
        let requests = VecDeque::new();
        match begin.clone() {
            Begin::Server(config) => {
                let (address, key) = (config.address, config.key.clone());
                Self { with: With::Server(Box::new(Association::new(config))), address, key, requests }
            }
            Begin::Peer(config) => {
                let (address, key) = (config.address, config.key.clone());
                Self { with: With::Peer(Box::new(Symmetric::new(config))), address, key, requests }
            }
            Begin::Passive(config, at) => {
                let (address, key) = (config.address, config.key.clone());
                Self { with: With::Passive(Box::new(Passive::new(config, at))), address, key, requests }
            }
            Begin::Broadcaster(config, at) => {
                let (address, key) = (config.address, config.key.clone());
                Self { with: With::Broadcaster(Box::new(Overheard::new(config, at))), address, key, requests }
            }
        }
    }

    /// It was due; what it asks now, its digest left out.
    fn ask(
        &mut self,
        at: Timestamp<Raw>,
        ours: Option<&Ours>,
        recorded: &[u8],
    ) -> Result<Option<Vec<u8>>, &'static str> {
        let request: Option<Request> = match (&mut self.with, ours) {
            (With::Server(association), _) => association.poll_transmit(at),
            (With::Peer(association), Some(ours)) => association.poll_transmit(at, ours),
            (With::Passive(association), Some(ours)) => association.poll_transmit(at, ours),
            (With::Peer(_) | With::Passive(_), None) => return Err("it does not tell a peer of us"),
            (With::Broadcaster(overheard), _) => overheard.poll_transmit(at),
        };
        if self.requests.len() == REQUESTS {
            self.requests.pop_front();
        }
        if let Some(then) = numbers(recorded) {
            self.requests.push_back((then, request.as_ref().and_then(|request| numbers(request.octets()))));
        }
        Ok(request.map(|request| without_digest(request.octets())))
    }

    /// A datagram came.
    fn hear(&mut self, came: &Came, with_faults: bool) -> Result<Result<Measurement, Rejected>, &'static str> {
        let Came { at, read, ours, rate, signed, .. } = came;
        let mut octets = came.octets.clone();
        if with_faults {
            self.repeat_what_is_asked_now(&mut octets);
        }
        if let (Some(true), Some(key)) = (signed, &self.key) {
            octets = signed_again(&octets, key);
        }
        Ok(match (&mut self.with, ours, rate) {
            (With::Server(association), ..) => association.handle_receive(&octets, *at, *read),
            (With::Peer(association), Some(ours), _) => association.handle_receive(&octets, *at, *read, ours),
            (With::Passive(association), Some(ours), _) => association.handle_receive(&octets, *at, *read, ours),
            (With::Peer(_) | With::Passive(_), None, _) => {
                return Err("it does not say what our clock reads for a peer");
            }
            (With::Broadcaster(overheard), _, Some(rate)) => overheard.handle_heard(&octets, at.host, *rate),
            (With::Broadcaster(overheard), _, None) => overheard.handle_reply(&octets, at.host, *read),
        })
    }

    /// Whoever answered what was asked then answers what is asked now.
    fn repeat_what_is_asked_now(&self, octets: &mut [u8]) {
        let Some(origin) = Packet::new_checked(octets).ok().map(|packet| packet.origin()) else { return };
        if origin == NtpTimestamp::UNKNOWN {
            return;
        }
        let now = self.requests.iter().rev().find_map(|(then, now)| match now {
            Some(now) if then.transmit == origin => Some(now.transmit),
            Some(now) if then.receive == origin => Some(now.receive),
            _ => None,
        });
        if let (Some(now), Some(place)) = (now, octets.get_mut(ORIGIN)) {
            place.copy_from_slice(&now.0.to_be_bytes());
        }
    }

    fn be_told(&mut self, turn: &Turn) {
        match (&mut self.with, turn) {
            (With::Server(association), Turn::HandedOver(at)) => association.handle_transmitted(*at),
            (With::Peer(association), Turn::HandedOver(at)) => association.handle_transmitted(*at),
            (With::Passive(association), Turn::HandedOver(at)) => association.handle_transmitted(*at),
            (With::Broadcaster(overheard), Turn::HandedOver(at)) => overheard.handle_transmitted(*at),
            (With::Server(association), Turn::Departed(at)) => association.handle_departed(*at),
            (With::Peer(association), Turn::Departed(at)) => association.handle_departed(*at),
            (With::Passive(association), Turn::Departed(at)) => association.handle_departed(*at),
            (With::Broadcaster(overheard), Turn::Departed(at)) => overheard.handle_departed(at.host),
            (With::Server(association), Turn::WantedPoll(exponent)) => association.handle_wanted_poll(*exponent),
            (With::Peer(association), Turn::WantedPoll(exponent)) => association.handle_wanted_poll(*exponent),
            (With::Server(association), Turn::Burst(now)) => association.handle_burst(*now),
            (With::Peer(association), Turn::Burst(now)) => association.handle_burst(*now),
            (With::Broadcaster(overheard), Turn::Timeout(now)) => overheard.handle_timeout(*now),
            _ => {}
        }
    }
}

fn numbers(octets: &[u8]) -> Option<Numbers> {
    let packet = Packet::new_checked(octets).ok()?;
    Some(Numbers { transmit: packet.transmit(), receive: packet.receive() })
}
