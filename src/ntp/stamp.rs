//! From the kernel's CLOCK_REALTIME stamps to the raw scale, by one bracketed reading a batch.

use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Realtime, Span, Timestamp};

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
}
