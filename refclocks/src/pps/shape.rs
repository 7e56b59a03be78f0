//! Which edge of a pulse is on the second: the one that begins it.
//!
//! A pulse is short: of the two edges, the one that the shorter part of the second follows begins it.
//! A square wave has no shorter part; its assert edge counts, as the interface has it.

use super::PpsInfo;
use crate::report::Edge;
use crate::time::{Realtime, Span, Timestamp};

/// So many pulses that agree decide.
const TO_DECIDE: u8 = 3;
/// So many that disagree with what was decided decide anew.
const TO_CHANGE: u8 = 5;
/// Parts this near to half a second are equal.
const SQUARE: Span = Span::from_millis(50);
/// Two edges further apart are not of one second.
const SECOND: Span = Span::from_millis(1100);

/// Where both parts of the second are as long as this, the shape does not tell.
const DOUBTFUL: Span = Span::from_millis(300);

/// Watches both edges of a pulse.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    seen: Option<(u32, u32)>,
    width: Option<Span>,
    decided: Option<Edge>,
    votes: (Option<Edge>, u8),
}

impl Shape {
    /// The edge that begins the pulse; `None` while that is not known.
    pub fn edge(&self) -> Option<Edge> {
        self.decided
    }

    /// How long the pulse lasts; `None` if only one edge of it is known.
    pub fn width(&self) -> Option<Span> {
        self.width
    }

    /// Are both parts of the second so long that either edge may be the one?
    pub fn is_doubtful(&self) -> bool {
        self.width.is_some_and(|high| high.min(Span::from_whole_seconds(1) - high) >= DOUBTFUL)
    }

    /// What a fetch said. True if that changed which edge counts.
    pub fn handle_fetch(&mut self, info: &PpsInfo) -> bool {
        let now = (info.assert_sequence, info.clear_sequence);
        let before = self.seen.replace(now).unwrap_or(now);
        let (new_assert, new_clear) = (before.0 != now.0, before.1 != now.1);
        // One look at each whole pulse; a look at both its edges if it has both.
        if !new_assert && !new_clear {
            return false;
        }
        self.width = width(info);
        let edge = match self.width {
            Some(_) if !new_assert => return false,
            Some(high) => begin(high),
            None if new_assert => Edge::Assert,
            None => Edge::Clear,
        };
        self.vote(edge)
    }

    fn vote(&mut self, edge: Edge) -> bool {
        let same = if self.votes.0 == Some(edge) { self.votes.1.saturating_add(1) } else { 1 };
        self.votes = (Some(edge), same);
        let enough = if self.decided.is_some() { TO_CHANGE } else { TO_DECIDE };
        let changes = same >= enough && self.decided != Some(edge);
        if changes {
            self.decided = Some(edge);
        }
        changes
    }
}

/// From assert to clear, of the last pulse that both edges are known of.
fn width(info: &PpsInfo) -> Option<Span> {
    let known = |stamp: Timestamp<Realtime>| stamp != Timestamp::EPOCH;
    let high = info.clear - info.assert;
    let is_one_pulse = known(info.assert) && known(info.clear) && high.abs() < SECOND && high != Span::ZERO;
    is_one_pulse.then(|| if high > Span::ZERO { high } else { high + Span::from_whole_seconds(1) })
}

/// The edge that begins a pulse which is high for so long each second.
fn begin(high: Span) -> Edge {
    if high > Span::from_millis(500) + SQUARE { Edge::Clear } else { Edge::Assert }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's view `after` ms into second `k` of a pulse that is high from the second on for so long, ms.
    fn at(k: u32, after: i64, high: i64) -> PpsInfo {
        let stamp = |ms: i64| Timestamp::from_nanos((1_000_000 + ms) * 1_000_000);
        let start = i64::from(k) * 1000;
        let cleared = after >= high;
        PpsInfo {
            assert_sequence: k,
            clear_sequence: if cleared { k } else { k - 1 },
            assert: stamp(start),
            clear: stamp(if cleared { start } else { start - 1000 } + high),
        }
    }

    fn told(high: i64, after: i64) -> (Shape, u32) {
        let mut shape = Shape::default();
        let decided = (10..30).find(|k| shape.handle_fetch(&at(*k, after, high))).unwrap_or(0);
        (shape, decided)
    }

    #[test]
    fn the_shorter_part_is_the_pulse() {
        for after in [2, 300, 700, 980] {
            let (shape, decided) = told(100, after);
            assert_eq!((shape.edge(), shape.width()), (Some(Edge::Assert), Some(Span::from_millis(100))), "{after}");
            assert_eq!(decided, 13, "three pulses after the first look");
            // Upside down: high for 900 ms, and low for 100 from the second on.
            assert_eq!(told(900, after).0.edge(), Some(Edge::Clear), "{after}");
            assert_eq!(told(500, after).0.edge(), Some(Edge::Assert), "square, {after}");
        }
    }

    #[test]
    fn a_shape_without_a_short_part_is_doubtful() {
        assert!([100, 290, 710, 900].iter().all(|high| !told(*high, 2).0.is_doubtful()));
        assert!([310, 500, 690].iter().all(|high| told(*high, 2).0.is_doubtful()));
        assert!(!Shape::default().is_doubtful());
    }

    #[test]
    fn a_lone_edge_is_the_one() {
        let mut shape = Shape::default();
        for k in 1..5 {
            shape.handle_fetch(&PpsInfo { clear: Timestamp::EPOCH, clear_sequence: 0, ..at(k, 2, 100) });
        }
        assert_eq!((shape.edge(), shape.width()), (Some(Edge::Assert), None));
        let mut shape = Shape::default();
        for k in 1..5 {
            shape.handle_fetch(&PpsInfo { assert: Timestamp::EPOCH, assert_sequence: 0, ..at(k, 200, 100) });
        }
        assert_eq!(shape.edge(), Some(Edge::Clear));
    }

    #[test]
    fn one_odd_pulse_changes_nothing_and_a_lasting_change_is_followed() {
        let (mut shape, _) = told(100, 2);
        assert!(!shape.handle_fetch(&at(40, 2, 900)));
        assert!(!shape.handle_fetch(&at(41, 2, 100)));
        let changed: Vec<u32> = (42..60).filter(|k| shape.handle_fetch(&at(*k, 2, 900))).collect();
        assert_eq!(changed, [46]);
        assert_eq!(shape.edge(), Some(Edge::Clear));
    }
}
