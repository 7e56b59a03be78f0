//! One worker's interleaved clients: their replies' departures, as predicted and then as the kernel
//! stamped them.

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
}

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
}

impl Leaving {
    pub(super) fn new() -> Self {
        Self { departures: Departures::default(), awaited: Box::new([None; AWAITED]), next: 0, open: false }
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
                *slot = Some(Awaited { number, receive, predicted });
            }
        }
    }

    /// Is a stamp awaited?
    pub(super) fn awaits(&self) -> bool {
        self.open
    }

    /// A stamp came: of which reply is it?
    pub(super) fn arrives(&mut self, number: u32, stamp: Timestamp<Raw>) -> Arrived {
        let slot = self.awaited.get_mut(number as usize % AWAITED);
        let Some(awaited) = slot.and_then(Option::take) else { return Arrived::Nobody };
        self.open = number.wrapping_add(1) != self.next;
        if awaited.number != number || (stamp - awaited.predicted).abs() > CREDIBLE {
            return Arrived::Astray;
        }
        Arrived::Of(awaited.receive)
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
        assert_eq!(leaving.arrives(299, at(299)), Arrived::Of(NtpTimestamp(309)));
        assert_eq!(leaving.arrives(299, at(299)), Arrived::Nobody);
        // The first ones were crowded out.
        assert_eq!(leaving.arrives(0, at(0)), Arrived::Astray);
        assert_eq!(leaving.arrives(100, at(100 + 51)), Arrived::Astray);
        leaving.recount();
        assert!(!leaving.awaits());
        leaving.goes((NtpTimestamp(7), NtpTimestamp(0)), at(0), true);
        assert_eq!(leaving.arrives(0, at(1)), Arrived::Of(NtpTimestamp(7)));
        assert!(!leaving.awaits());
    }
}
