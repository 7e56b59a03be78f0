//! What comes to a peer's own socket and wants an answer: a peer may be our client, too, from the same port, or have come by
//! itself. It is answered on the same terms as what comes to the workers' sockets, and counted with that.
//!
//! All peers share one door. It has buckets of its own: a peer that asks from other ports besides has one there as well.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use refclocks::sys::clock;
use refclocks::time::{Raw, Span, Timestamp};

use super::access::Flags;
use super::client::ours::Ours;
use super::counters::{CounterSet, Counters};
use super::gate::Gate;
use super::monitor::{Monitor, Visit};
use super::packet::FirstOctet;
use super::served::Served;
use super::server::{Disposition, DropReason, Request, respond};
use crate::sys::batch::Datagram;

/// Peers are few: 4 KiB.
const CLIENTS: usize = 1 << 8;

/// From reading the clock until an answer is on its way.
const SEND_COST: Span = Span::from_nanos(10_000);

/// The door.
#[derive(Clone, Debug, Default)]
pub struct PeerDoor(Arc<Mutex<Option<Open>>>);

/// Once somebody has come.
#[derive(Debug)]
struct Open {
    gate: Gate,
    counters: Arc<Counters>,
    monitor: Arc<ArcSwap<Monitor>>,
}

impl Open {
    fn new(served: &Served) -> Self {
        let counters: Arc<Counters> = Arc::default();
        served.board.add(CounterSet::new([Arc::clone(&counters)]));
        Self { gate: Gate::new(CLIENTS), counters, monitor: served.board.monitors.open() }
    }
}

impl PeerDoor {
    /// Answers a request that came at `arrived`. Returns how many octets of answer were written.
    pub(super) fn answer(
        &self,
        served: &Served,
        datagram: &Datagram<'_>,
        arrived: Timestamp<Raw>,
        reply: &mut [u8],
    ) -> Option<usize> {
        self.pass(served, datagram, arrived, |flags, kiss, counters| {
            let now = clock::raw_now();
            let ours = Ours::at(served, now);
            let request = Request {
                octets: datagram.octets,
                source: datagram.from.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |from| from.ip()),
                flags,
                previous_left: None,
                kiss,
                received: ours.reading(arrived),
                transmit: ours.reading(now + SEND_COST),
            };
            match respond(&request, &ours.view, &served.keys.load(), reply) {
                Disposition::Reply(len) => {
                    if kiss {
                        counters.count_kissed();
                    }
                    Ok(len)
                }
                Disposition::Nak(len) => {
                    counters.count_refused_key();
                    Ok(len)
                }
                Disposition::Drop(reason) => Err(reason),
            }
        })
    }

    /// May a packet be answered that came at `arrived` from a peer that came by itself? Of one too many it is not told.
    pub(super) fn admits(&self, served: &Served, datagram: &Datagram<'_>, arrived: Timestamp<Raw>) -> bool {
        let admit = |_, kiss, _: &Counters| if kiss { Err(DropReason::Limited) } else { Ok(()) };
        self.pass(served, datagram, arrived, admit).is_some()
    }

    /// What passes the gate is handed on; what becomes of it is counted.
    fn pass<T>(
        &self,
        served: &Served,
        datagram: &Datagram<'_>,
        arrived: Timestamp<Raw>,
        hand_on: impl FnOnce(Flags, bool, &Counters) -> Result<T, DropReason>,
    ) -> Option<T> {
        let source = datagram.from?;
        let first = FirstOctet(*datagram.octets.first()?);
        // Only the main thread comes here: nobody waits for anybody.
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Open { gate, counters, monitor } = open.get_or_insert_with(|| Open::new(served));
        gate.follow(served.limits.load().as_deref());
        counters.count_received(1);
        let flags = served.access.load().flags(source);
        let whole = if datagram.truncated { Err(DropReason::Malformed) } else { Ok(()) };
        let admitted = whole.and_then(|()| gate.admit(first, source, flags, arrived));
        let told = admitted == Ok(true);
        let passed = admitted.and_then(|kiss| hand_on(flags, kiss, counters));
        match &passed {
            Ok(_) => counters.count_sent(1, 0),
            Err(reason) => counters.count_dropped(*reason),
        }
        let (dropped, limited) = (passed.is_err(), told || matches!(passed, Err(DropReason::Limited)));
        let at = served.raw_map.load().apply(arrived);
        let monitor = monitor.load();
        monitor.make();
        monitor.note(&Visit { source, at, mode: first.0 & 7, version: first.version(), dropped, limited });
        passed.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::ntp::access::Policy;
    use crate::ntp::access::policy::Known;
    use crate::ntp::limit::Limits;
    use crate::ntp::packet::{Header, Packet};
    use crate::observe::report::made_up::starting;
    use refclocks::time::NtpTimestamp;

    /// What peers get of ten requests at once: strata, or nothing.
    fn asked(flags: Flags, limits: Limits) -> (Served, Vec<Option<u8>>) {
        let access = Policy::lists(Vec::new(), Vec::new(), flags).access(&Known::default());
        let snapshot = Arc::new(ArcSwap::from_pointee(starting()));
        let served = Served::new(snapshot, access);
        served.limits.store(Some(Arc::new(limits)));
        let octets = Header::request(4, NtpTimestamp(77)).to_octets();
        let from: SocketAddr = "127.0.0.9:123".parse().unwrap();
        let datagram =
            Datagram { octets: &octets, truncated: false, from: Some(from), to: None, stamp: None, hardware: None };
        let now = clock::raw_now();
        let answers = (0..10).map(|_| {
            let mut reply = [0; 128];
            let len = served.door.answer(&served, &datagram, now, &mut reply)?;
            let packet = Packet::new_checked(&reply[..len]).unwrap();
            assert_eq!(packet.origin(), NtpTimestamp(77));
            Some(packet.refid().0[0])
        });
        let answers = answers.collect();
        (served, answers)
    }

    #[test]
    fn a_peer_that_asks_is_limited_like_anybody_and_counted() {
        let limits = Limits { interval: 1000.0, burst: 3, leak: None, ..Limits::NTPD };
        let limits = Limits { minimum: 0.0, ..limits };
        let (served, answers) = asked(Flags::LIMITED | Flags::KOD, limits);
        // Unsynchronised, it says so; and then nothing.
        assert_eq!(answers, [[Some(b'I'); 3].as_slice(), &[None; 7]].concat());
        let totals = served.board.totals().unwrap();
        assert_eq!((totals.received, totals.answered, totals.dropped.limited), (10, 3, 7), "{totals:?}");
        let clients = served.board.monitors.clients();
        assert_eq!((clients[0].count, clients[0].dropped, clients[0].limited), (10, 7, 7));
    }

    #[test]
    fn a_peer_that_asks_too_often_may_be_told() {
        let limits = Limits { burst: 3, leak: None, ..Limits::NTPD };
        let (served, answers) = asked(Flags::LIMITED | Flags::KOD, limits);
        assert_eq!(answers, [&[Some(b'I'), Some(b'R'), Some(b'R')][..], &[None; 7]].concat());
        assert_eq!(served.board.totals().unwrap().kissed, 2);
        let (served, answers) = asked(Flags::empty(), limits);
        assert_eq!((answers, served.board.totals().unwrap().answered), (vec![Some(b'I'); 10], 10));
    }
}
