//! The last good time of an earlier life. Time does not go back: whoever says an earlier one is in
//! doubt, until a quorum says it, and then what we remember was wrong.

use refclocks::nmea::MARGIN;
use refclocks::time::{Span, Tai, Timestamp};

/// Witnesses that are no further apart say the same date.
const SAME_DATE: Span = Span::from_whole_seconds(86_400);

/// A daemon is not away for longer as a rule.
const AWAY: Span = Span::from_whole_seconds(31 * 86_400);

/// Somebody who says what time it is now. All receivers are one witness: they hear the same sky.
#[derive(Clone, Debug, PartialEq)]
pub struct Witness {
    /// A name for it.
    pub name: String,
    /// Is it a receiver?
    pub receiver: bool,
    /// The present by it.
    pub says: Timestamp<Tai>,
}

/// What is remembered, for as long as it is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LastGood(Option<Timestamp<Tai>>);

impl LastGood {
    /// Remembered from an earlier life, if there was one.
    pub fn new(last: Option<Timestamp<Tai>>) -> Self {
        Self(last)
    }

    /// The last good time, where it is believed to be before this one.
    pub fn after(&self, says: Timestamp<Tai>) -> Option<Timestamp<Tai>> {
        self.0.filter(|last| says < *last - MARGIN)
    }

    /// Does it confirm this time: is it a little later, as for a daemon that was away for a while?
    pub fn is_near(&self, says: Timestamp<Tai>) -> bool {
        self.0.is_some_and(|last| says >= last - MARGIN && says < last + AWAY)
    }

    /// The operator says what time it is, and is believed.
    pub fn overrule(&mut self, says: Timestamp<Tai>) {
        if self.after(says).is_some() {
            self.0 = None;
        }
    }

    /// Hears the witnesses. If two of them agree on an earlier time, it is forgotten, and returned with
    /// the two.
    pub fn hear<'w>(&mut self, witnesses: &'w [Witness]) -> Option<(Timestamp<Tai>, [&'w Witness; 2])> {
        let last = self.0?;
        let earlier = || witnesses.iter().filter(|w| self.after(w.says).is_some());
        let agree = |a: &Witness, b: &Witness| !(a.receiver && b.receiver) && (a.says - b.says).abs() < SAME_DATE;
        let pair = earlier().enumerate().find_map(|(i, a)| Some([a, earlier().skip(i + 1).find(|b| agree(a, b))?]))?;
        self.0 = None;
        Some((last, pair))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn at(day: i64) -> Timestamp<Tai> {
        Timestamp::from_parts(day * DAY, 0)
    }

    fn witness(name: &str, receiver: bool, day: i64) -> Witness {
        Witness { name: name.into(), receiver, says: at(day) }
    }

    #[test]
    fn two_witnesses_of_different_kind_or_place_are_believed() {
        let (sky, more_sky, far_sky) =
            (witness("GPS", true, 100), witness("NMEA", true, 100), witness("GPS", true, 90));
        let (a, b) = (witness("a", false, 100), witness("b", false, 100));
        let later = witness("later", false, 1000);
        let heard = |witnesses: &[&Witness]| {
            let witnesses: Vec<Witness> = witnesses.iter().map(|w| (*w).clone()).collect();
            let mut last = LastGood::new(Some(at(999)));
            last.hear(&witnesses).map(|(_, pair)| pair.map(|w| w.name.clone()))
        };
        assert_eq!(heard(&[&sky, &a]).unwrap(), ["GPS", "a"]);
        assert_eq!(heard(&[&later, &a, &b]).unwrap(), ["a", "b"]);
        assert_eq!(heard(&[&far_sky, &a, &b]).unwrap(), ["a", "b"]);
        for alone in [&[&sky][..], &[&a], &[&sky, &more_sky], &[&far_sky, &a], &[&a, &later], &[]] {
            assert_eq!(heard(alone), None);
        }
    }

    #[test]
    fn it_is_in_the_way_of_earlier_times_only_and_until_it_is_refuted() {
        let mut last = LastGood::new(Some(at(999)));
        // A clock slightly behind is none that went back.
        assert_eq!((last.after(at(993)), last.after(at(991))), (None, Some(at(999))));
        assert!(last.hear(&[witness("a", false, 991), witness("b", false, 991)]).is_some());
        assert_eq!(last.after(at(0)), None);
        assert_eq!(LastGood::default().after(at(0)), None);
        let last = LastGood::new(Some(at(999)));
        assert_eq!([990, 993, 999, 1029, 1031].map(|day| last.is_near(at(day))), [false, true, true, true, false]);
        assert!(!LastGood::default().is_near(at(999)));
        let mut last = LastGood::new(Some(at(999)));
        last.overrule(at(1000));
        assert!(last.after(at(991)).is_some());
        last.overrule(at(991));
        assert_eq!(last.after(at(991)), None);
    }
}
