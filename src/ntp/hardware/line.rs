//! How a network card's clock runs beside our raw counter: what its stamps mean to us. Pure.
//!
//! The two are read beside each other now and then, each time within an interval. The card's clock is a straight line
//! over the raw counter until somebody steers or sets it; so the line is drawn through as many of the newest readings
//! as it can pass, each within its own interval. Only the relation counts: which time the card keeps, if any, is of no
//! interest.

use std::collections::VecDeque;

use refclocks::phc::Crossing;
use refclocks::time::{Raw, Span, Tai, Timestamp};
use serde::{Deserialize, Serialize};

/// Readings remembered.
const READINGS: usize = 16;

/// A line needs so many.
const FEWEST: usize = 2;

/// How far a reading may lie off the line beyond its own interval, s: what the clocks' ticks round.
const ROUNDING: f64 = 20e-9;

/// No crystal, and nobody who steers one, is further off than this, s/s.
const FASTEST: f64 = 2e-3;

/// A clock that is this far from where it ought to be was set, s.
const SET: f64 = 1e-3;

/// A clock that is steered, as by ptp4l, may change its rate by so much unseen, s/s.
const STEERED: f64 = 1e-7;

/// The card's clock over the raw counter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    raw: Timestamp<Raw>,
    device: Timestamp<Tai>,
    /// Seconds of the raw counter in a second of the card's, less one.
    rate: f64,
    /// At `raw`, s.
    error: f64,
    /// It grows by so much each second from there.
    error_rate: f64,
    /// Good for so long before and after.
    reach: Span,
}

/// When something was stamped, by our raw counter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// When.
    pub raw: Timestamp<Raw>,
    /// It is wrong by so much at most, s.
    pub error: f64,
}

impl Line {
    /// Where a stamp of the card's clock lies. `None` if the line does not reach there: the readings are stale, or the
    /// stamp is of another time.
    pub fn place(&self, stamp: Timestamp<Tai>) -> Option<Placed> {
        let since = stamp - self.device;
        if since.abs() > self.reach {
            return None;
        }
        let raw = self.raw + since + Span::from_seconds(since.seconds() * self.rate);
        Some(Placed { raw, error: self.error + self.error_rate * since.abs().seconds() })
    }

    /// How much faster the card's clock runs than our counter, s/s.
    pub fn frequency(&self) -> f64 {
        -self.rate / (1.0 + self.rate)
    }

    /// How far off a stamp of just now may be placed, s.
    pub fn error(&self) -> f64 {
        self.error
    }
}

/// Readings that a line must foretell, after one that it did not, before it is believed again.
const SETTLING: u32 = 2;

/// What a reading showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Followed {
    /// The clock runs as it did, or was steered a little.
    On,
    /// Somebody set it by so much, positive = ahead: everything begins anew.
    Set(Span),
    /// It stands still or runs wild, and cannot be followed.
    Astray,
}

/// Follows one card's clock.
#[derive(Clone, Debug)]
pub struct Follower {
    readings: VecDeque<Crossing>,
    /// The least that a reading is uncertain by, s.
    precision: f64,
    /// Between readings.
    interval: Span,
    /// So many readings are still to be foretold.
    settling: u32,
}

impl Follower {
    /// A follower that has seen nothing. `precision`: the least that a reading is uncertain by, s; `interval`: the time
    /// between readings.
    pub fn new(precision: f64, interval: Span) -> Self {
        Self { readings: VecDeque::with_capacity(READINGS), precision, interval, settling: 0 }
    }

    /// The clock was read.
    pub fn handle_reading(&mut self, reading: Crossing) -> Followed {
        let line = self.drawn();
        if let Some(last) = self.readings.back() {
            let (raw, device) = ((reading.raw - last.raw).seconds(), (reading.device - last.device).seconds());
            let moved = device - raw / (1.0 + line.map_or(0.0, |line| line.rate));
            let tolerated = SET + raw.abs() * FASTEST + (reading.half_width + last.half_width).seconds();
            if raw <= 0.0 || moved.abs() > tolerated {
                self.forget();
                self.readings.push_back(reading);
                return Followed::Set(Span::from_seconds(moved));
            }
        }
        // Who steers it hard has moved it, and may again.
        if let Some(placed) = line.and_then(|line| line.place(reading.device)) {
            let off = (placed.raw - reading.raw).abs().seconds();
            let foretold = off <= placed.error + reading.half_width.seconds() + ROUNDING;
            self.settling = if foretold { self.settling.saturating_sub(1) } else { SETTLING };
        }
        if self.readings.len() == READINGS {
            self.readings.pop_front();
        }
        self.readings.push_back(reading);
        if self.readings.len() >= FEWEST && self.drawn().is_none() {
            return Followed::Astray;
        }
        Followed::On
    }

    /// Nothing that was read counts any more: the card, or the machine, was away.
    pub fn forget(&mut self) {
        self.readings.clear();
        self.settling = 0;
    }

    /// The line through as many of the newest readings as it can pass; `None` while there are too few, or the clock has
    /// lately not done what the line foretold.
    pub fn line(&self) -> Option<Line> {
        self.drawn().filter(|_| self.settling == 0)
    }

    fn drawn(&self) -> Option<Line> {
        let newest = self.readings.back()?;
        let drawn = (FEWEST..=self.readings.len()).rev().find_map(|count| self.through(count, newest))?;
        (drawn.rate.abs() <= FASTEST).then_some(drawn)
    }

    /// A line by least squares through so many of the newest, if each is passed within its interval. Two always are.
    fn through(&self, count: usize, newest: &Crossing) -> Option<Line> {
        let points = || self.readings.iter().skip(self.readings.len() - count);
        let n = count as f64;
        let x = |at: &Crossing| (at.device - newest.device).seconds();
        // Of so small a number the difference of the two clocks keeps all its digits.
        let y = |at: &Crossing| ((at.raw - newest.raw) - (at.device - newest.device)).seconds();
        let (mean_x, mean_y) = (points().map(x).sum::<f64>() / n, points().map(y).sum::<f64>() / n);
        let spread = points().map(|at| (x(at) - mean_x) * (x(at) - mean_x)).sum::<f64>();
        if spread <= 0.0 {
            return None;
        }
        let rate = points().map(|at| (x(at) - mean_x) * (y(at) - mean_y)).sum::<f64>() / spread;
        let at_newest = mean_y - rate * mean_x;
        let off = |at: &Crossing| (y(at) - at_newest - rate * x(at)).abs();
        let fits = |at: &Crossing| off(at) <= at.half_width.seconds() + ROUNDING;
        if count > FEWEST && !points().all(fits) {
            return None;
        }
        // All readings may be wrong alike, by what the way to the card and back differs by: the narrowest tells how much
        // that can be. Besides, what is read anywhere in its interval moves the end of a line through three or more by
        // half of it at most, and its slope by three halves over half its length.
        let narrowest = points().map(|at| at.half_width).min().unwrap_or(newest.half_width).seconds();
        let widest = points().map(|at| at.half_width).max().unwrap_or(newest.half_width).seconds();
        let length = points().next().map_or(1.0, |first| -x(first)).max(1e-3);
        Some(Line {
            raw: newest.raw + Span::from_seconds(at_newest),
            device: newest.device,
            rate,
            error: (narrowest + 0.5 * widest).max(self.precision),
            error_rate: 3.0 * widest / length + STEERED,
            reach: self.interval + self.interval + self.interval + Span::from_whole_seconds(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A card's clock with a rate of its own, read with noise inside an interval.
    struct Card {
        /// s/s against the raw counter.
        rate: f64,
        offset: f64,
        random: u64,
    }

    impl Card {
        fn uniform(&mut self) -> f64 {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.random >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        }

        fn at(&self, raw: f64) -> Timestamp<Tai> {
            Timestamp::EPOCH
                + Span::from_seconds(self.offset)
                + Span::from_seconds(raw)
                + Span::from_seconds(raw * self.rate)
        }

        fn read(&mut self, raw: f64, half_width: f64) -> Crossing {
            let noise = self.uniform() * half_width;
            let device = self.at(raw + noise);
            Crossing {
                raw: Timestamp::EPOCH + Span::from_seconds(raw),
                device,
                half_width: Span::from_seconds(half_width),
            }
        }
    }

    fn follow(card: &mut Card, from: u32, seconds: u32, half_width: f64, follower: &mut Follower) -> Vec<Followed> {
        (from..from + seconds).map(|at| follower.handle_reading(card.read(f64::from(at), half_width))).collect()
    }

    fn error_at(card: &Card, follower: &Follower, raw: f64) -> (f64, f64) {
        let placed = follower.line().unwrap().place(card.at(raw)).unwrap();
        ((placed.raw - (Timestamp::EPOCH + Span::from_seconds(raw))).seconds(), placed.error)
    }

    #[test]
    fn two_readings_make_a_line_and_one_does_not() {
        let mut card = Card { rate: 20e-6, offset: 1000.0, random: 1 };
        let mut follower = Follower::new(100e-9, Span::from_whole_seconds(1));
        assert_eq!(follower.handle_reading(card.read(10.0, 1e-7)), Followed::On);
        assert_eq!(follower.line(), None);
        assert_eq!(follower.handle_reading(card.read(11.0, 1e-7)), Followed::On);
        let line = follower.line().unwrap();
        assert!((line.frequency() - 20e-6).abs() < 1e-6, "{line:?}");
        // What lies too far off is of another time.
        assert_eq!(line.place(card.at(20.0)), None);
        assert_eq!(line.place(card.at(2.0)), None);
        assert!(line.place(card.at(10.9)).is_some());
    }

    #[test]
    fn a_clock_that_was_set_is_told_and_followed_anew() {
        let mut card = Card { rate: -5e-6, offset: 0.0, random: 2 };
        let mut follower = Follower::new(0.0, Span::from_whole_seconds(1));
        assert!(follow(&mut card, 0, 20, 5e-7, &mut follower).iter().all(|followed| *followed == Followed::On));
        card.offset = 37.0;
        let followed = follower.handle_reading(card.read(20.0, 5e-7));
        assert!(matches!(followed, Followed::Set(by) if (by.seconds() - 37.0).abs() < 1e-5), "{followed:?}");
        assert_eq!(follower.line(), None, "until there are two again");
        follow(&mut card, 21, 3, 5e-7, &mut follower);
        let (error, claimed) = error_at(&card, &follower, 23.2);
        assert!(error.abs() < claimed && claimed < 3e-6, "{error} {claimed}");
    }

    #[test]
    fn a_clock_that_is_steered_is_followed_by_fewer_readings() {
        let mut card = Card { rate: 1e-6, offset: 5.0, random: 3 };
        let mut follower = Follower::new(0.0, Span::from_whole_seconds(1));
        follow(&mut card, 0, 16, 2e-7, &mut follower);
        // From here on 10 ppm faster, without a step.
        card.offset -= 16.0 * 10e-6;
        card.rate += 10e-6;
        follow(&mut card, 17, 1, 2e-7, &mut follower);
        assert_eq!(follower.line(), None, "until it does again what is foretold");
        follow(&mut card, 18, 3, 2e-7, &mut follower);
        let line = follower.line().unwrap();
        assert!((line.frequency() - 11e-6).abs() < 1e-6, "{}", line.frequency());
    }

    #[test]
    fn a_clock_that_stands_still_is_no_line() {
        let mut card = Card { rate: -1.0, offset: 5.0, random: 4 };
        let mut follower = Follower::new(0.0, Span::from_whole_seconds(1));
        follow(&mut card, 0, 5, 2e-7, &mut follower);
        assert_eq!(follower.line(), None);
    }

    proptest! {
        /// Whatever the rate, the width and the interval, a stamp is placed within the error that is claimed.
        #[test]
        fn stamps_are_placed_within_what_is_claimed(
            random: u64,
            rate in -1e-4..1e-4f64,
            offset in -1e9..1e9f64,
            width in 5e-8..5e-5f64,
            count in 2u32..40,
            later in 0.0..1.0f64,
        ) {
            let mut card = Card { rate, offset, random };
            let mut follower = Follower::new(0.0, Span::from_whole_seconds(1));
            follow(&mut card, 0, count, width, &mut follower);
            let (error, claimed) = error_at(&card, &follower, f64::from(count - 1) + later);
            prop_assert!(error.abs() <= claimed + 1e-9, "{error} {claimed}");
        }

        /// Readings of any kind: never a panic, and never a line that is no number.
        #[test]
        fn readings_of_any_kind_are_survived(readings in proptest::collection::vec((any::<i32>(), any::<i32>(), 0i64..1_000_000), 1..30)) {
            let mut follower = Follower::new(1e-7, Span::from_whole_seconds(1));
            for (raw, device, width) in readings {
                follower.handle_reading(Crossing {
                    raw: Timestamp::EPOCH + Span::from_millis(raw.into()),
                    device: Timestamp::EPOCH + Span::from_millis(device.into()),
                    half_width: Span::from_nanos(width),
                });
                if let Some(line) = follower.line() {
                    prop_assert!(line.frequency().is_finite() && line.error().is_finite());
                    prop_assert!(line.frequency().abs() < 3e-3);
                }
            }
        }
    }
}
