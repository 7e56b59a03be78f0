//! The shell around [`Passive`]: a socket beside the one that answers, connected to one stranger who has us for a peer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use refclocks::sys::clock;

use super::association::Config;
use super::event::ClientEvent;
use super::filters::Filters;
use super::measurement::Measurement;
use super::ours::Ours;
use super::passive::Passive;
use super::random::seed;
use super::rejection::Rejected;
use super::shell::until;
use super::socket::ClientSocket;
use super::standing::ServerState;
use crate::ntp::keys::Key;
use crate::ntp::packet::FirstOctet;
use crate::ntp::passing::Passed;
use crate::ntp::served::Served;
use crate::ntp::stamp::{Relation, Stamp};
use crate::recording::association::{Begin, Came, Turn, Witness};
use crate::sys::batch::Batch;

/// A stranger for whom there is no socket is tried again so much later.
const HOPELESS: Duration = Duration::from_secs(64);

/// What is to be known of a stranger.
#[derive(Clone, Debug)]
pub struct StrangerConfig {
    /// The key that it signs with; nothing else of it is heeded.
    pub key: Arc<Key>,
    /// Which of its packets are not good enough.
    pub filters: Filters,
    /// What it is told, and whose packets are heeded.
    pub served: Served,
    /// Who records what is sent and comes.
    pub witness: Witness,
}

/// Follows whoever sent that first packet, until it is lost. The sink gets what there is to tell of it once it has shown that
/// it hears us; `None` at the end.
pub async fn run(config: StrangerConfig, first: Passed, mut sink: impl FnMut(SocketAddr, Option<ClientEvent>)) {
    let address = first.source;
    follow(config, first, &mut sink).await;
    sink(address, None);
}

async fn follow(config: StrangerConfig, first: Passed, sink: &mut impl FnMut(SocketAddr, Option<ClientEvent>)) {
    let StrangerConfig { key, filters, served, witness } = config;
    let address = first.source;
    let (Ok(mut socket), Ok(seed)) =
        (ClientSocket::open_at(address, first.local, &served.ports, &served.cards), seed())
    else {
        // As long as it is known it is answered by whoever answers strangers.
        return tokio::time::sleep(HOPELESS).await;
    };
    let config = Config {
        address,
        iburst: false,
        minpoll: 4,
        maxpoll: 10,
        version: first.octets.first().map_or(4, |octet| FirstOctet(*octet).version()),
        key: Some(Arc::clone(&key)),
        xleave: false,
        presend: None,
        filters,
        seed,
    };
    let began = clock::raw_now();
    witness.note(|| Turn::Begin(Box::new(Begin::Passive(config.clone(), began))));
    let mut association = Passive::new(config, began);
    let local = Some(first.local.ip());
    let mut last = None;
    let mut tell = |association: &Passive, result: Result<_, Rejected>| {
        if !association.is_proven() {
            return;
        }
        let at = clock::raw_now();
        let state = match result {
            Ok(_) | Err(Rejected::Measured) => Some(ServerState::Answering { address }),
            Err(Rejected::Duplicate | Rejected::Old | Rejected::Bogus | Rejected::NotAReply { .. }) => None,
            Err(reason) => Some(ServerState::Unusable { address, reason }),
        };
        if let Some(state) = state.filter(|state| last.as_ref() != Some(state)) {
            last = Some(state.clone());
            sink(address, Some(ClientEvent::State { at, state }));
        }
        let (reach, poll, tally) = (association.reach(), association.poll(), association.tally());
        sink(address, Some(ClientEvent::Polled { at, address, reach, poll, tally }));
        let event = match result {
            Ok(measurement) => ClientEvent::Measurement { at, address, local, measurement },
            Err(reason) => ClientEvent::Rejected { at, address, reason },
        };
        sink(address, Some(event));
    };
    let now = clock::raw_now();
    let came = |octets: &[u8], at: Stamp, now, ours: Ours, result: &Result<Measurement, Rejected>| {
        Turn::Came(Came { ours: Some(ours), ..Came::new(octets, at, now, Some(&key), result) })
    };
    let ours = Ours::at(&served, now);
    let result = association.handle_receive(&first.octets, first.arrived, now, &ours);
    witness.note(|| came(&first.octets, first.arrived.into(), now, ours, &result));
    tell(&association, result);
    let mut batch = Batch::new(4);
    loop {
        let now = clock::raw_now();
        if association.is_lost(now) {
            return;
        }
        let ours = Ours::at(&served, now);
        if let Some(answer) = association.poll_transmit(now, &ours) {
            let handed_over = clock::raw_now();
            association.handle_transmitted(handed_over);
            witness.note(|| Turn::sent(now, answer.octets(), Some(ours)));
            witness.note(|| Turn::HandedOver(handed_over));
            // What does not leave is lost, as on the way.
            if let Err(error) = socket.send(answer.octets()) {
                witness.note(|| Turn::Failed(error.to_string()));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(until(association.poll_timeout())) => {}
            arrived = socket.arrivals(&mut batch) => {
                // What ICMP says of an answer is no more than silence.
                let Ok(count) = arrived else { continue };
                socket.await_departure(&batch).await;
                let cards = served.cards.load_full();
                let relation = Relation::from_bracket(&clock::bracket());
                if let Some(left) = socket.last_departure(&relation) {
                    witness.note(|| Turn::Departed(left));
                    association.handle_departed(left);
                }
                for index in 0..count {
                    let Some((datagram, reply)) = batch.datagram(index) else { continue };
                    let at = Stamp::of_arrival(&datagram, &relation, &cards);
                    let Some(first) = datagram.octets.first().copied().map(FirstOctet) else { continue };
                    if first.mode().asks() {
                        if let Some(len) = served.door.answer(&served, &datagram, at.best(), reply) {
                            let _ = socket.answer(reply.get(..len).unwrap_or_default());
                        }
                        continue;
                    }
                    let flags = served.access.load().flags(address);
                    if !flags.admits_peer(first.version(), true) || !served.door.admits(&served, &datagram, at.best()) {
                        continue;
                    }
                    let now = relation.raw;
                    let ours = Ours::at(&served, now);
                    let result = association.handle_receive(datagram.octets, at, now, &ours);
                    witness.note(|| came(datagram.octets, at, now, ours, &result));
                    tell(&association, result);
                }
            }
        }
    }
}
