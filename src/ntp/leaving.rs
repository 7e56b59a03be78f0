//! One worker's interleaved clients: their replies' departures, as predicted, then as the kernel stamped them, and
//! then perhaps as the network card did.

use refclocks::time::{NtpTimestamp, Raw, Span, Timestamp};

use super::interleave::Departures;
use super::packet::Packet;

/// Stamps that may be awaited at once.
const AWAITED: usize = 256;

/// A stamp this far from the prediction is of another datagram: the count is lost.
const CREDIBLE: Span = Span::from_millis(50);

/// A reply whose stamp is awaited.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    number: u32,
    /// By which its client will name it.
    receive: NtpTimestamp,
    predicted: Timestamp<Raw>,
    /// The kernel's stamp, once it has come.
    kernel: Option<Timestamp<Raw>>,
}

/// Replies in a row that the card left without a stamp, after which nobody waits for one: until one comes again.
const IN_VAIN: u32 = 8;

/// What a stamp is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// That reply left then.
    Of(NtpTimestamp),
    /// Nobody waits for it any more.
    Nobody,
    /// The count is lost: to be begun anew.
    Astray,
}

/// Replies to clients that want to know when they left.
#[derive(Debug)]
pub(super) struct Leaving {
    departures: Departures,
    awaited: Box<[Option<Awaited>; AWAITED]>,
    /// The number of the next stamp.
    next: u32,
    /// Whether any is awaited.
    open: bool,
    /// Replies since the card last stamped one.
    in_vain: u32,
}

impl Leaving {
    pub(super) fn new() -> Self {
        Self {
            departures: Departures::default(),
            awaited: Box::new([None; AWAITED]),
            next: 0,
            open: false,
            in_vain: IN_VAIN,
        }
    }

    /// When the reply left that this request names.
    pub(super) fn asked_for(&self, request: &Packet<'_>) -> Option<NtpTimestamp> {
        self.departures.asked_for(request)
    }

    /// A reply is going to leave. If its client is interleaving already, a stamp will come.
    pub(super) fn goes(
        &mut self,
        (receive, transmit): (NtpTimestamp, NtpTimestamp),
        predicted: Timestamp<Raw>,
        stamped: bool,
    ) {
        self.departures.note(receive, transmit);
        if stamped {
            let number = self.next;
            self.next = self.next.wrapping_add(1);
            self.open = true;
            if let Some(slot) = self.awaited.get_mut(number as usize % AWAITED) {
                *slot = Some(Awaited { number, receive, predicted, kernel: None });
            }
        }
    }

    /// Is a stamp awaited?
    pub(super) fn awaits(&self) -> bool {
        self.open
    }

    /// A stamp of the kernel's came: of which reply is it? If the card is to stamp it, too (`by_card`), its stamp is
    /// awaited still.
    pub(super) fn arrives(&mut self, number: u32, stamp: Timestamp<Raw>, by_card: bool) -> Arrived {
        let Some(slot) = self.awaited.get_mut(number as usize % AWAITED) else { return Arrived::Nobody };
        let Some(awaited) = slot.filter(|awaited| awaited.kernel.is_none()) else { return Arrived::Nobody };
        let waits = by_card && self.in_vain < IN_VAIN;
        self.open = waits || number.wrapping_add(1) != self.next;
        self.in_vain = self.in_vain.saturating_add(1);
        if awaited.number != number || (stamp - awaited.predicted).abs() > CREDIBLE {
            *slot = None;
            return Arrived::Astray;
        }
        // A card's may come late: the place is kept until another reply needs it.
        *slot = by_card.then_some(Awaited { kernel: Some(stamp), ..awaited });
        Arrived::Of(awaited.receive)
    }

    /// The card stamped a reply: when the kernel had stamped it, and by what its client names it. Later than the
    /// kernel's it comes, or counts for nothing.
    pub(super) fn stamped(&mut self, number: u32) -> Option<(Timestamp<Raw>, NtpTimestamp)> {
        self.in_vain = 0;
        let slot = self.awaited.get_mut(number as usize % AWAITED)?;
        let kernel = slot.filter(|awaited| awaited.number == number)?.kernel?;
        self.open = number.wrapping_add(1) != self.next;
        slot.take().map(|awaited| (kernel, awaited.receive))
    }

    /// Nothing more is to come: what is awaited still will not be waited for.
    pub(super) fn give_up(&mut self) -> bool {
        let by_kernel_alone = self.awaited.iter().flatten().all(|awaited| awaited.kernel.is_some());
        self.open = false;
        by_kernel_alone
    }

    /// The kernel's word on when that reply left.
    pub(super) fn left(&mut self, receive: NtpTimestamp, transmit: NtpTimestamp) {
        self.departures.note(receive, transmit);
    }

    /// The count begins anew.
    pub(super) fn recount(&mut self) {
        self.awaited.fill(None);
        (self.next, self.open) = (0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp<Raw> {
        Timestamp::from_parts(100, 0) + Span::from_millis(millis)
    }

    #[test]
    fn stamps_find_their_replies() {
        let mut leaving = Leaving::new();
        leaving.goes((NtpTimestamp(1), NtpTimestamp(2)), at(0), false);
        assert!(!leaving.awaits());
        for i in 0..300u32 {
            leaving.goes((NtpTimestamp(u64::from(i) + 10), NtpTimestamp(0)), at(i64::from(i)), true);
        }
        assert!(leaving.awaits());
        assert_eq!(leaving.arrives(299, at(299), false), Arrived::Of(NtpTimestamp(309)));
        assert_eq!(leaving.arrives(299, at(299), false), Arrived::Nobody);
        // The first ones were crowded out.
        assert_eq!(leaving.arrives(0, at(0), false), Arrived::Astray);
        assert_eq!(leaving.arrives(100, at(100 + 51), false), Arrived::Astray);
        leaving.recount();
        assert!(!leaving.awaits());
        leaving.goes((NtpTimestamp(7), NtpTimestamp(0)), at(0), true);
        assert_eq!(leaving.arrives(0, at(1), false), Arrived::Of(NtpTimestamp(7)));
        assert!(!leaving.awaits());
    }
    #[test]
    fn a_card_has_the_last_word_and_is_not_waited_for_in_vain() {
        let mut leaving = Leaving::new();
        let send = |leaving: &mut Leaving, i: u32| {
            leaving.goes((NtpTimestamp(u64::from(i) + 10), NtpTimestamp(0)), at(i64::from(i)), true);
            leaving.arrives(i, at(i64::from(i)), true)
        };
        assert_eq!(send(&mut leaving, 0), Arrived::Of(NtpTimestamp(10)));
        assert!(!leaving.awaits(), "no card has stamped anything yet");
        assert_eq!(leaving.stamped(0), Some((at(0), NtpTimestamp(10))));
        assert_eq!(leaving.stamped(0), None, "once");
        for i in 1..=IN_VAIN {
            assert_eq!(send(&mut leaving, i), Arrived::Of(NtpTimestamp(u64::from(i) + 10)));
            assert!(leaving.awaits(), "{i}");
            assert!(leaving.give_up(), "of the kernel's none is missing: the count stands");
        }
        send(&mut leaving, IN_VAIN + 1);
        assert!(!leaving.awaits());
        // One that comes late is as good.
        assert_eq!(leaving.stamped(3), Some((at(3), NtpTimestamp(13))));
        // Before the kernel's it is of something else.
        leaving.goes((NtpTimestamp(99), NtpTimestamp(0)), at(99), true);
        assert_eq!(leaving.stamped(IN_VAIN + 2), None);
        assert!(!leaving.give_up());
    }
}
