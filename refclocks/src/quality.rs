//! How good a receiver says that its fix is: what NMEA tells in GST and GBS, and UBX in NAV-PVT.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::satellite::Constellation;

/// Light's way in a second, m.
const LIGHT: f64 = 299_792_458.0;
/// A receiver that knows its time to worse than this has a fix of no worth for a clock, s: 300 m.
const POOR: f64 = 1e-6;
/// What changes by less than this share is no news: standard deviations change with each fix.
const NEWS: f64 = 0.25;

/// What a receiver says of its fix. Standard deviations, as it gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Its position: north, east, up, m.
    pub position_m: Option<[f64; 3]>,
    /// The distances to the satellites that the fix is made of, m.
    pub ranges_m: Option<f64>,
    /// Its time, s.
    pub time_s: Option<f64>,
    /// The satellite whose signal most likely is wrong, by its own check (RAIM).
    pub failing: Option<Failing>,
}

/// A satellite whose signal a receiver finds wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failing {
    /// Whose.
    pub constellation: Constellation,
    /// Its number, as the receiver counts.
    pub number: u16,
    /// By how much its distance is wrong, m.
    pub bias_m: Option<f64>,
}

impl Quality {
    /// One standard deviation of the receiver's time where by its own word it is poor, s; `None` where it is
    /// good, or nothing was said. A receiver that is wrong about where it is is as wrong about the time.
    pub fn doubt(&self) -> Option<f64> {
        let far = |[north, east, up]: [f64; 3]| (north * north + east * east + up * up).sqrt();
        let lengths = [self.position_m.map(far), self.ranges_m].into_iter().flatten().map(|metres| metres / LIGHT);
        lengths.chain(self.time_s).filter(|seconds| *seconds > POOR).reduce(f64::max)
    }

    /// Is it the same to a person, apart from what changes with each fix?
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let near = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() <= NEWS * a.abs().max(b.abs()),
            (a, b) => a == b,
        };
        let axis = |q: &Self, k: usize| q.position_m.and_then(|p| p.get(k).copied());
        let who = |q: &Self| q.failing.map(|f| (f.constellation, f.number));
        (0..3).all(|k| near(axis(self, k), axis(other, k)))
            && near(self.ranges_m, other.ranges_m)
            && near(self.time_s, other.time_s)
            && who(self) == who(other)
            && self.doubt().is_some() == other.doubt().is_some()
    }
}

/// E.g. `position known to 3.1 m (1σ), time to 31 ns`.
impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some([north, east, up]) = self.position_m {
            parts.push(format!("position {} m north, {} m east, {} m up", Length(north), Length(east), Length(up)));
        }
        if let Some(ranges) = self.ranges_m {
            parts.push(format!("ranges {} m", Length(ranges)));
        }
        if let Some(time) = self.time_s {
            parts.push(format!("time {} ns", Length(time * 1e9)));
        }
        write!(f, "{} (1\u{3c3})", parts.join(", "))
    }
}

/// A length with the digits that mean something.
struct Length(f64);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 10.0 { write!(f, "{:.1}", self.0) } else { write!(f, "{:.0}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_bad_is_a_doubt() {
        let good = Quality { position_m: Some([2.0, 1.5, 4.0]), time_s: Some(31e-9), ..Quality::default() };
        assert_eq!((good.doubt(), Quality::default().doubt()), (None, None));
        let lost = Quality { position_m: Some([3e3, 4e3, 0.0]), ..good };
        assert!((lost.doubt().unwrap() - 16.68e-6).abs() < 1e-8);
        assert_eq!(Quality { time_s: Some(5e-3), ..lost }.doubt(), Some(5e-3));
        assert!(Quality { ranges_m: Some(1e6), ..good }.doubt().unwrap() > 3e-3);
    }

    #[test]
    fn what_changes_with_each_fix_is_no_news() {
        let first = Quality { position_m: Some([2.0, 1.5, 4.0]), ranges_m: Some(21.0), ..Quality::default() };
        assert!(first.is_like(&Quality { position_m: Some([2.2, 1.4, 4.4]), ..first }));
        assert!(!first.is_like(&Quality { position_m: Some([4.0, 1.5, 4.0]), ..first }));
        assert!(!first.is_like(&Quality { ranges_m: None, ..first }));
        let failing = Some(Failing { constellation: Constellation::Gps, number: 7, bias_m: Some(120.0) });
        assert!(!first.is_like(&Quality { failing, ..first }));
        assert_eq!(first.to_string(), "position 2.0 m north, 1.5 m east, 4.0 m up, ranges 21 m (1\u{3c3})");
    }
}
