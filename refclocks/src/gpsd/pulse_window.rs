//! Keeps gpsd's wrong pulses out.
//!
//! On a loaded host gpsd publishes trailing edges as pulses (a pulse width away) and edges that it
//! woke for late (by hundreds of milliseconds), numbered and all. The true ones agree with each
//! other: a pulse counts if its offset lies near the median of the recent ones.

use std::collections::VecDeque;

use crate::time::Span;

/// Offsets remembered.
const KEPT: usize = 15;
/// Fewest that make a median.
const FEWEST: usize = 4;
/// How far a true pulse may lie from the median: far more than jitter and drift, far less than a
/// pulse's width.
const WINDOW: Span = Span::from_millis(5);

/// The window.
#[derive(Clone, Debug, Default)]
pub(super) struct PulseWindow {
    offsets: VecDeque<Span>,
}

impl PulseWindow {
    /// Does a pulse of this offset (system - receiver) agree with the recent ones?
    pub(super) fn admits(&mut self, offset: Span) -> bool {
        self.offsets.push_back(offset);
        if self.offsets.len() > KEPT {
            self.offsets.pop_front();
        }
        if self.offsets.len() < FEWEST {
            return false;
        }
        let mut sorted: Vec<Span> = self.offsets.iter().copied().collect();
        sorted.sort();
        let Some(median) = sorted.get(sorted.len() / 2).copied() else { return false };
        let near = sorted.iter().filter(|o| (**o - median).abs() <= WINDOW).count();
        (offset - median).abs() <= WINDOW && near * 2 > sorted.len()
    }

    /// The system clock moved, or the receiver changed: start anew.
    pub(super) fn clear(&mut self) {
        self.offsets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_and_late_edges_are_kept_out() {
        let mut window = PulseWindow::default();
        let good = Span::from_nanos(1500);
        let admitted: Vec<bool> = (0..6).map(|_| window.admits(good)).collect();
        assert_eq!(admitted, [false, false, false, true, true, true]);
        for wrong in [Span::from_millis(100), Span::from_millis(629), Span::from_millis(-900)] {
            assert!(!window.admits(wrong));
            assert!(window.admits(good));
        }
    }

    #[test]
    fn a_clock_that_was_stepped_is_followed() {
        let mut window = PulseWindow::default();
        for _ in 0..15 {
            window.admits(Span::ZERO);
        }
        let after: Vec<bool> = (0..12).map(|_| window.admits(Span::from_millis(40))).collect();
        assert!(!after[0] && after[11]);
    }
}
