//! How the system clock crosses a leap second.
//!
//! CLOCK_REALTIME counts every day as 86 400 s, so an inserted second leaves it a second ahead of UTC and
//! one that is left out a second behind. By default the kernel takes that back at once, by itself. It
//! may also be slewed, for programs that cannot bear a clock that goes back. NTP clients are not
//! concerned: they are always given UTC.

use refclocks::time::{Raw, Span, Timestamp};

/// Who corrects CLOCK_REALTIME at a leap second, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeapMode {
    /// The kernel, which is told of it the day before: at once.
    #[default]
    Kernel,
    /// We, after it, as fast as the clock may be slewed.
    Slew,
    /// We, when it comes: at once.
    Step,
}

/// What the fast slew would do in this time, s, is left to one that is so many times as slow: whoever
/// ends it wakes a little late, and that must not matter.
const LEFT_TO_THE_SLOW: f64 = 2.0;
const SLOWER: f64 = 100.0;

/// CLOCK_REALTIME on its way back to UTC: how far it is ahead, a line over the raw counter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LeapSlew {
    begun: Timestamp<Raw>,
    /// How far ahead of UTC it was then; negative: behind.
    ahead: Span,
    /// Against the rate it runs at without, s/s; of the other sign than `ahead`.
    pub(super) rate: f64,
    /// How far ahead it may still be when this part is over.
    left: Span,
}

impl LeapSlew {
    /// Begins at `begun`, this fast, s/s.
    pub(super) fn fast(begun: Timestamp<Raw>, ahead: Span, rate: f64) -> Self {
        let left = Span::from_seconds((LEFT_TO_THE_SLOW * rate).copysign(ahead.seconds()));
        Self { begun, ahead, rate: -rate.copysign(ahead.seconds()), left }
    }

    /// What comes after this part, from `raw` on.
    pub(super) fn slow(&self, raw: Timestamp<Raw>) -> Option<Self> {
        let ahead = self.ahead(raw);
        let rate = -(self.rate / SLOWER).abs().copysign(ahead.seconds());
        (self.left != Span::ZERO && ahead != Span::ZERO).then_some(Self { begun: raw, ahead, rate, left: Span::ZERO })
    }

    /// How far CLOCK_REALTIME is ahead of UTC by now.
    pub(super) fn ahead(&self, raw: Timestamp<Raw>) -> Span {
        self.ahead + Span::from_seconds(self.rate * (raw - self.begun).seconds())
    }

    /// When this part is over.
    pub(super) fn over(&self) -> Timestamp<Raw> {
        self.begun + Span::from_seconds((self.ahead - self.left).seconds() / -self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_slewed_away_from_either_side_and_its_end_slowly() {
        let begun = Timestamp::from_parts(100, 0);
        for sign in [1, -1] {
            let fast = LeapSlew::fast(begun, Span::from_whole_seconds(sign), 500e-6);
            assert_eq!(fast.ahead(begun), Span::from_whole_seconds(sign));
            let half = fast.ahead(begun + Span::from_whole_seconds(1000)).seconds();
            assert!((half - 0.5 * sign as f64).abs() < 1e-9);
            assert!(((fast.over() - begun).seconds() - 1998.0).abs() < 1e-6);
            // Whoever looks is late.
            let slow = fast.slow(fast.over() + Span::from_millis(10)).unwrap();
            let left = (slow.over() - fast.over()).seconds();
            assert!((left - 199.0).abs() < 0.1, "{left}");
            assert!(slow.ahead(slow.over()).abs() < Span::from_nanos(1));
            assert_eq!(slow.slow(slow.over()), None);
        }
    }
}
