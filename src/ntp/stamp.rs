//! When packets left and came, on the raw scale: from the kernel's CLOCK_REALTIME stamps by one bracketed reading a
//! batch, from a network card's by what is known of its clock.

use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Realtime, Span, Timestamp};
use serde::{Deserialize, Serialize};

use super::hardware::Cards;
use super::hardware::line::Placed;
pub use crate::core::source::Stamps;
use crate::sys::batch::Datagram;

/// A kernel stamp older than this is not of a packet that has just been read: the clock was stepped.
const CREDIBLE: Span = Span::from_whole_seconds(2);

/// How REALTIME and RAW relate at the moment a batch is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The raw instant at which REALTIME read `realtime`.
    pub raw: Timestamp<Raw>,
    /// What it read.
    pub realtime: Timestamp<Realtime>,
}

impl Relation {
    /// From a bracketed reading: the middle of the two raw readings belongs to the one between.
    pub fn from_bracket(bracket: &Bracket) -> Self {
        let half = Span::from_seconds((bracket.raw_after - bracket.raw_before).seconds() / 2.0);
        Self { raw: bracket.raw_before + half, realtime: bracket.realtime }
    }

    /// The raw instant of a kernel stamp of the recent past. `None` if the stamp lies in the future
    /// or is more than 2 s old: REALTIME was stepped in between, and the stamp says nothing.
    ///
    /// The two clocks' rates differ by at most the kernel's slew of 500 ppm: 0.5 us for a stamp 1 ms
    /// old.
    pub fn raw_of(&self, stamp: Timestamp<Realtime>) -> Option<Timestamp<Raw>> {
        let age = self.realtime - stamp;
        (age >= Span::ZERO && age <= CREDIBLE).then(|| self.raw - age)
    }

    /// What REALTIME read at a raw instant near the relation's own.
    pub fn realtime_at(&self, raw: Timestamp<Raw>) -> Timestamp<Realtime> {
        self.realtime + (raw - self.raw)
    }
}

/// When a packet left or came.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stamp {
    /// By the kernel, or by our own reading of the clock.
    pub host: Timestamp<Raw>,
    /// Is it the kernel's?
    pub by_kernel: bool,
    /// By the network card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<Placed>,
}

impl From<Timestamp<Raw>> for Stamp {
    /// A stamp of the kernel's.
    fn from(host: Timestamp<Raw>) -> Self {
        Self { host, by_kernel: true, card: None }
    }
}

impl Stamp {
    /// By our own reading of the clock.
    pub fn of_our_own(host: Timestamp<Raw>) -> Self {
        Self { host, by_kernel: false, card: None }
    }

    /// When a datagram came that was read at `relation`. A card is believed only beside the kernel.
    pub fn of_arrival(datagram: &Datagram<'_>, relation: &Relation, cards: &Cards) -> Self {
        match datagram.stamp.and_then(|stamp| relation.raw_of(stamp)) {
            Some(kernel) => {
                let card = datagram.hardware.and_then(|stamp| cards.arrival(&stamp, kernel));
                Self { card, ..kernel.into() }
            }
            None => Self::of_our_own(relation.raw),
        }
    }

    /// The same, so much later by whoever stamped it.
    #[must_use]
    pub fn later(self, by: Span) -> Self {
        let card = self.card.map(|card| Placed { raw: card.raw + by, ..card });
        Self { host: self.host + by, card, ..self }
    }

    /// The best there is, where one alone is asked for.
    pub fn best(&self) -> Timestamp<Raw> {
        self.card.map_or(self.host, |card| card.raw)
    }
}

/// T1 and T4, stamped by the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ends {
    /// When ours left.
    pub sent: Timestamp<Raw>,
    /// When theirs came.
    pub received: Timestamp<Raw>,
    /// By whom.
    pub stamps: Stamps,
    /// Both may be off by so much, the same way, s: that moves the offset and no delay tells of it.
    pub error: f64,
}

impl Ends {
    /// The card's stamps if it stamped both. One of the card's and one of the kernel's would leave out the kernel's
    /// lateness at one end only: half of it would go into the offset, unseen.
    pub fn of(sent: &Stamp, received: &Stamp) -> Self {
        if let (Some(left), Some(came)) = (sent.card, received.card)
            && left.raw < came.raw
        {
            let error = left.error.max(came.error);
            return Self { sent: left.raw, received: came.raw, stamps: Stamps::Hardware, error };
        }
        let stamps = if sent.by_kernel && received.by_kernel { Stamps::Kernel } else { Stamps::Daemon };
        Self { sent: sent.host, received: received.host, stamps, error: 0.0 }
    }
}

/// What the kernel's stamps move the offset by, as far as a card has told that stamped the same packets: the kernel sees
/// late what comes, and early what leaves, and not by as much. For when the card does not stamp.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unevenness {
    /// A moving average of its size, s.
    size: f64,
    /// What exchanges by the kernel have moved our clock by, as far as later ones have not outweighed them, s.
    carried: f64,
}

/// So much of that one more exchange by the card leaves.
const OUTWEIGHED: f64 = 0.9;

impl Unevenness {
    /// The ends of an exchange, with what is known of who stamped them.
    pub fn ends(&mut self, sent: &Stamp, received: &Stamp) -> Ends {
        let ends = Ends::of(sent, received);
        if ends.stamps != Stamps::Hardware {
            self.carried = self.size;
            return Ends { error: ends.error.max(self.size), ..ends };
        }
        self.carried *= OUTWEIGHED;
        let (early, late) = (ends.sent - sent.host, received.host - ends.received);
        let size = (late - early).seconds().abs() / 2.0;
        // Soon believed, slowly forgotten.
        self.size += (size - self.size) / if size > self.size { 2.0 } else { 8.0 };
        Ends { error: ends.error.max(self.carried), ..ends }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credible_stamps_convert_and_others_do_not() {
        let relation = Relation::from_bracket(&Bracket {
            raw_before: Timestamp::from_nanos(1_000_000_000),
            realtime: Timestamp::from_nanos(9_000_000_000),
            raw_after: Timestamp::from_nanos(1_000_000_200),
        });
        let raw = |stamp| relation.raw_of(Timestamp::from_nanos(stamp)).map(Timestamp::to_nanos);
        assert_eq!(raw(8_999_999_000), Some(999_999_100));
        assert_eq!(raw(9_000_000_000), Some(1_000_000_100));
        assert_eq!(raw(9_000_000_001), None);
        assert_eq!(raw(7_000_000_000), Some(-999_999_900));
        assert_eq!(raw(6_999_999_999), None);
        assert_eq!(relation.realtime_at(Timestamp::from_nanos(1_000_000_110)).to_nanos(), 9_000_000_010);
    }

    #[test]
    fn what_the_card_has_told_of_the_kernel_counts_when_it_is_silent() {
        let at = |nanos| Timestamp::<Raw>::from_nanos(nanos);
        let mut unevenness = Unevenness::default();
        let card = |nanos| Some(Placed { raw: at(nanos), error: 2e-7 });
        // What left was stamped 5 us early, what came 25 us late.
        let (sent, received) =
            (Stamp { card: card(5_000), ..at(0).into() }, Stamp { card: card(100_000), ..at(125_000).into() });
        let kernels = |unevenness: &mut Unevenness| unevenness.ends(&at(0).into(), &at(125_000).into());
        assert_eq!(kernels(&mut unevenness).error, 0.0);
        for _ in 0..20 {
            assert_eq!(unevenness.ends(&sent, &received).error, 2e-7);
        }
        let told = kernels(&mut unevenness);
        assert!((told.error - 10e-6).abs() < 1e-8 && told.stamps == Stamps::Kernel, "{told:?}");
        // Our clock is where that left it, for a while.
        let mut errors = (0..60).map(|_| unevenness.ends(&sent, &received).error);
        assert!(errors.next().is_some_and(|error| error > 8e-6) && errors.last() == Some(2e-7));
    }

    #[test]
    fn both_ends_are_stamped_by_the_same() {
        let at = Timestamp::<Raw>::from_nanos;
        let by_card = |nanos, error| Some(Placed { raw: at(nanos), error });
        let (sent, received) = (
            Stamp { card: by_card(1_030, 2e-7), ..at(1_000).into() },
            Stamp { card: by_card(1_950, 3e-7), ..at(2_000).into() },
        );
        let both = Ends { sent: at(1_030), received: at(1_950), stamps: Stamps::Hardware, error: 3e-7 };
        assert_eq!(Ends::of(&sent, &received), both);
        let kernels = Ends { sent: at(1_000), received: at(2_000), stamps: Stamps::Kernel, error: 0.0 };
        assert_eq!(Ends::of(&sent, &at(2_000).into()), kernels);
        assert_eq!(Ends::of(&at(1_000).into(), &received), kernels);
        // Stamps of two cards that do not know of each other.
        assert_eq!(Ends::of(&Stamp { card: by_card(1_960, 0.0), ..sent }, &received), kernels);
        let own = Ends { stamps: Stamps::Daemon, ..kernels };
        assert_eq!(Ends::of(&sent, &Stamp::of_our_own(at(2_000))), own);
    }
}
