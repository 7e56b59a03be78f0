//! What one worker does with a batch: who is it, may it ask, how often, and the reply.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use refclocks::sys::clock;
use refclocks::time::{NtpTimestamp, Raw, Span, Timestamp, Utc};

use super::access::{Access, Flags};
use super::counters::Counters;
use super::gate::Gate;
use super::interleave::wants;
use super::leaving::{Arrived, Leaving};
use super::limit::USUAL_CLIENTS;
use super::monitor::{Monitor, Visit};
use super::packet::{FirstOctet, Packet};
use super::passing::Passed;
use super::served::Served;
use super::server::{Disposition, DropReason, Request, View, respond};
use super::smear::{Smear, Spread};
use super::stamp::{Relation, Stamp};
use crate::core::snapshot::Snapshot;
use crate::sys::batch::{Batch, By, Datagram, MAX_BATCH, MAX_SEND};
use crate::sys::departure::{Left, Stamped};
use crate::sys::udp::UdpSocket;

/// One worker's buffers and what it has learned.
#[derive(Debug)]
pub(super) struct Responder {
    served: Served,
    pub(super) counters: Arc<Counters>,
    monitor: Arc<ArcSwap<Monitor>>,
    pub(super) batch: Batch,
    send_cost: SendCost,
    /// Once a client has asked in interleaved mode.
    leaving: Option<Leaving>,
    gate: Gate,
    /// Network cards are to stamp what comes and leaves.
    by_card: bool,
    stop: Arc<AtomicBool>,
}

impl Responder {
    pub(super) fn new(served: Served, counters: Arc<Counters>, stop: Arc<AtomicBool>) -> Self {
        let monitor = served.board.monitors.open();
        Self {
            served,
            counters,
            monitor,
            batch: Batch::new(MAX_BATCH),
            send_cost: SendCost::default(),
            leaving: None,
            gate: Gate::new(USUAL_CLIENTS),
            by_card: false,
            stop,
        }
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Has network cards stamp what comes and leaves, or no longer.
    fn follow_cards(&mut self, wanted: bool, socket: &UdpSocket) {
        if wanted == self.by_card {
            return;
        }
        self.by_card = wanted;
        match &mut self.leaving {
            Some(leaving) => recount(leaving, socket, wanted),
            // Without stamps the kernel's arrivals, and predictions, stand.
            None => drop(socket.stamp_departures(Stamped::OnRequest, wanted)),
        }
    }

    /// Is a stamp of something that left to come?
    pub(super) fn awaits_departures(&self) -> bool {
        self.leaving.as_ref().is_some_and(Leaving::awaits)
    }

    /// No stamp came for so long that none will: this machine's driver takes none, or not now.
    pub(super) fn give_up_departures(&mut self, socket: &UdpSocket) {
        if let Some(leaving) = &mut self.leaving
            && !leaving.give_up()
        {
            recount(leaving, socket, self.by_card);
        }
    }

    /// Takes in the stamps of what has left: a card's may come when nobody waits for them any more, and would fill the
    /// queue.
    pub(super) fn learn_departures(&mut self, socket: &UdpSocket) {
        let (by_card, counters) = (self.by_card, &self.counters);
        let Some(leaving) = self.leaving.as_mut().filter(|leaving| by_card || leaving.awaits()) else { return };
        let cards = self.served.cards.load();
        let relation = Relation::from_bracket(&clock::bracket());
        let snapshot = self.served.snapshot.load();
        let map = **self.served.raw_map.load();
        let scale = Scale::of(&self.served, &snapshot);
        let mut astray = false;
        let told = |raw| NtpTimestamp::from_utc(scale.utc(map.apply(raw)));
        socket.departures(|departure| match departure.stamp {
            Left::Kernel(stamp) => {
                let Some(raw) = relation.raw_of(stamp) else { return };
                match leaving.arrives(departure.number, raw, by_card && cards.any()) {
                    Arrived::Of(receive) => leaving.left(receive, told(raw)),
                    Arrived::Nobody => {}
                    Arrived::Astray => astray = true,
                }
            }
            Left::Hardware(stamp) => {
                let Some((kernel, receive)) = leaving.stamped(departure.number) else { return };
                if let Some(placed) = cards.departure(&stamp, kernel) {
                    counters.count_departure_by_card();
                    leaving.left(receive, told(placed.raw));
                }
            }
        });
        if astray {
            recount(leaving, socket, by_card);
        }
    }

    /// Answers a batch that has been received.
    pub(super) fn answer(&mut self, socket: &UdpSocket, received: usize) {
        if received == 0 {
            return;
        }
        self.counters.count_received(received);
        let relation = Relation::from_bracket(&clock::bracket());
        let snapshot = self.served.snapshot.load();
        let map = **self.served.raw_map.load();
        let access = self.served.access.load();
        let keys = self.served.keys.load();
        let wanted = self.served.ring.wanted();
        let monitor = self.monitor.load();
        monitor.make();
        self.gate.follow(self.served.limits.load().as_deref());
        let cards = self.served.cards.load_full();
        self.follow_cards(cards.wanted, socket);
        let at = map.apply(relation.raw);
        let view = View::at(&snapshot, at);
        let slept = clock::asleep() - snapshot.asleep > clock::SHORTEST_SLEEP;
        let view = if slept { view.unsynchronised() } else { view };
        let scale = Scale::of(&self.served, &snapshot);
        let view = scale.correction(at).map_or(view, |correction| view.smeared(correction));

        let mut next = 0;
        while next < received {
            let mut ready = [0; MAX_SEND];
            let mut count = 0;
            let mut now = clock::raw_now();
            while next < received && count < MAX_SEND {
                let index = next;
                next += 1;
                let Some((datagram, reply)) = self.batch.datagram(index) else { continue };
                // Of nobody there is nothing to know, and no answer.
                let Some(source) = datagram.from.filter(is_source) else {
                    self.counters.count_dropped(DropReason::BadSource);
                    continue;
                };
                let stamp = Stamp::of_arrival(&datagram, &relation, &cards);
                match stamp.card {
                    Some(_) => self.counters.count_stamped_by_card(),
                    None if stamp.by_kernel => {}
                    None => self.counters.count_without_kernel_stamp(),
                }
                let arrived = stamp.best();
                let first = FirstOctet(datagram.octets.first().copied().unwrap_or_default());
                let (mode, version) = (first.0 & 7, first.version());
                let at = map.apply(arrived);
                let visit = Visit { source, at, mode, version, dropped: false, limited: false };
                let refuse = |reason| {
                    self.counters.count_dropped(reason);
                    let limited = reason == DropReason::Limited;
                    monitor.note(&Visit { dropped: true, limited, ..visit });
                };
                let (flags, kiss) = match admit(&datagram, source, (&access, relation.raw), &mut self.gate) {
                    Ok(admitted) => admitted,
                    Err(reason) => {
                        refuse(reason);
                        continue;
                    }
                };
                let utc = |host| scale.utc(map.apply(host));
                let received = utc(arrived);
                let receive = NtpTimestamp::from_utc(received);
                let stranger = wanted.key_of(datagram.octets, (source, flags), &keys, receive).filter(|_| !kiss);
                if let Some(key) = stranger
                    && let Some(local) = local_of(socket, &datagram)
                {
                    let octets = datagram.octets.into();
                    if self.served.ring.pass(|| Passed { octets, source, local, key, arrived }) {
                        self.counters.count_passed();
                        monitor.note(&visit);
                        continue;
                    }
                }
                let interleaving = Packet::new_checked(datagram.octets).ok().filter(wants);
                if interleaving.is_some() && self.leaving.is_none() {
                    // The table is made once, which takes long: no time for that is in what replies cost.
                    self.leaving = Some(begin_stamping(socket, self.by_card));
                    now = clock::raw_now();
                }
                let leaves = now + self.send_cost.until_sent(count);
                let transmit = utc(leaves);
                let previous_left = interleaving.and_then(|packet| self.leaving.as_ref()?.asked_for(&packet));
                let octets = datagram.octets;
                let request = Request { octets, source: source.ip(), flags, previous_left, kiss, received, transmit };
                match respond(&request, &view, &keys, reply) {
                    disposition @ (Disposition::Reply(len) | Disposition::Nak(len)) => {
                        let is_reply = matches!(disposition, Disposition::Reply(_));
                        match (is_reply, kiss) {
                            (true, true) => self.counters.count_kissed(),
                            (false, _) => self.counters.count_refused_key(),
                            (true, false) => {}
                        }
                        let stamped = previous_left.is_some() && is_reply && !kiss;
                        if let Some(leaving) =
                            self.leaving.as_mut().filter(|_| interleaving.is_some() && is_reply && !kiss)
                        {
                            leaving.goes((receive, NtpTimestamp::from_utc(transmit)), leaves, stamped);
                        }
                        monitor.note(&Visit { limited: kiss, ..visit });
                        let by = if self.by_card { By::CardToo } else { By::Kernel };
                        self.batch.set_reply(index, len, stamped.then_some(by));
                        if let Some(slot) = ready.get_mut(count) {
                            *slot = index;
                            count += 1;
                        }
                    }
                    Disposition::Drop(reason) => refuse(reason),
                }
            }
            if let Some(ready) = ready.get(..count).filter(|ready| !ready.is_empty()) {
                let sent = self.batch.send(socket, ready);
                self.send_cost.learn(clock::raw_now() - now, count);
                self.counters.count_sent(sent.sent, sent.failed);
                if let (1.., Some(leaving)) = (sent.failed, &mut self.leaving) {
                    // Nobody says whether what was refused was counted.
                    recount(leaving, socket, self.by_card);
                }
            }
        }
        self.learn_departures(socket);
    }
}

/// Can a reply go there?
fn is_source(from: &SocketAddr) -> bool {
    from.port() != 0 && !from.ip().is_unspecified() && !from.ip().is_multicast()
}

/// What is taken away from whoever sent it; and whether it is answered with a word to ask less.
fn admit(
    datagram: &Datagram<'_>,
    source: SocketAddr,
    (access, now): (&Access, Timestamp<Raw>),
    gate: &mut Gate,
) -> Result<(Flags, bool), DropReason> {
    if datagram.truncated {
        return Err(DropReason::Malformed);
    }
    let flags = access.flags(source);
    let first = FirstOctet(datagram.octets.first().copied().unwrap_or_default());
    Ok((flags, gate.admit(first, source, flags, now)?))
}

/// Our address and port that it was sent to.
fn local_of(socket: &UdpSocket, datagram: &Datagram<'_>) -> Option<SocketAddr> {
    let port = socket.local_address().ok()?.port();
    Some(match (datagram.to?, datagram.from?) {
        // An address of the link itself means something on that link only.
        (IpAddr::V6(to), SocketAddr::V6(from)) if to.is_unicast_link_local() => {
            SocketAddr::V6(SocketAddrV6::new(to, port, 0, from.scope_id()))
        }
        (to, _) => SocketAddr::new(to, port),
    })
}

/// The time scale that is served: UTC, or UTC with its leap seconds spread.
struct Scale<'a> {
    snapshot: &'a Snapshot,
    smear: Option<Smear>,
    late: Option<Spread>,
}

impl<'a> Scale<'a> {
    fn of(served: &Served, snapshot: &'a Snapshot) -> Self {
        let late = served.smear.and_then(|_| served.late.load().as_deref().copied());
        Self { snapshot, smear: served.smear, late }
    }

    /// What the served clock reads at a raw instant of the snapshot's scale.
    fn utc(&self, raw: Timestamp<Raw>) -> Timestamp<Utc> {
        match self.smear {
            Some(smear) => smear.utc(&self.snapshot.utc, self.late.as_ref(), self.snapshot.clock.at(raw)),
            None => self.snapshot.utc_at(raw).0,
        }
    }

    /// The same - UTC; `None` if it is UTC.
    fn correction(&self, raw: Timestamp<Raw>) -> Option<Span> {
        let at = self.snapshot.clock.at(raw);
        self.smear.map(|smear| smear.correction(&self.snapshot.utc, self.late.as_ref(), at))
    }
}

fn begin_stamping(socket: &UdpSocket, by_card: bool) -> Leaving {
    // Without stamps the predictions stand.
    let _ = socket.stamp_departures(Stamped::OnRequest, by_card);
    Leaving::new()
}

fn recount(leaving: &mut Leaving, socket: &UdpSocket, by_card: bool) {
    // What the old count has left behind goes with it.
    socket.departures(|_| {});
    let _ = socket.stamp_departures(Stamped::OnRequest, by_card);
    leaving.recount();
}

/// How long it takes until a reply is on its way: a moving average of what the last ones took.
#[derive(Clone, Copy, Debug)]
struct SendCost {
    /// Of one reply, ns.
    nanos: i64,
}

impl Default for SendCost {
    fn default() -> Self {
        Self { nanos: 10_000 }
    }
}

impl SendCost {
    /// From the reading of the clock until the reply at that place of a sub-batch has left.
    fn until_sent(&self, place: usize) -> Span {
        // Three quarters through its own share: the rest, returning and waking the receiver, comes
        // after. Against the peer's kernel stamps on loopback: within 2 us, idle and saturated.
        Span::from_nanos(self.nanos * (4 * place as i64 + 3) / 4)
    }

    /// A sub-batch of that many replies took so long.
    fn learn(&mut self, took: Span, replies: usize) {
        let Ok(replies @ 1..) = i64::try_from(replies) else { return };
        // A preempted worker says nothing of the cost of sending: a stamp of what is yet to come is a lie.
        let each = (took.nanos() / replies).clamp(0, self.nanos + self.nanos / 2 + 500);
        // And it is forgotten sooner that sending took long than that it did not.
        self.nanos += (each - self.nanos) / if each < self.nanos { 4 } else { 16 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn send_cost_follows_and_ignores_preemption() {
        let mut cost = SendCost::default();
        for _ in 0..200 {
            cost.learn(Span::from_nanos(24_000), 8);
        }
        assert!((2_990..3_010).contains(&cost.nanos), "{}", cost.nanos);
        cost.learn(Span::from_millis(50), 1);
        assert!(cost.nanos < 3_300);
        assert_eq!(SendCost { nanos: 1000 }.until_sent(2), Span::from_nanos(2750));
    }
}
