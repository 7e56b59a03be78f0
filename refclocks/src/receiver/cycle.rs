//! The cycle under way: all messages that name one time. The first of them that is there every time
//! carries the time: it depends least on how many satellites the others tell of.

use super::heard::Speaker;
use crate::time::{Span, Timestamp, Utc};

/// Cycles that must advance evenly before the time is believed: right after its first fix a receiver
/// may jump by whole seconds.
const STEADY: u32 = 3;
/// Cycles without the chosen message before another is chosen.
const MISSING: u32 = 5;
/// Messages of one cycle name the same time to within this: some round, others tell nanoseconds.
const SAME: Span = Span::from_millis(4);

/// The cycles of one receiver.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cycle {
    utc: Option<Timestamp<Utc>>,
    length: Option<Span>,
    /// From the last cycle but one to the last.
    advance: Option<Span>,
    steady: u32,
    /// The first message of the cycle that could carry the time, and of the one before.
    first: Option<Speaker>,
    previous_first: Option<Speaker>,
    carrier: Option<Speaker>,
    missing: u32,
}

impl Cycle {
    /// A message names this time. Is that the beginning of a new cycle?
    pub fn note(&mut self, utc: Timestamp<Utc>) -> bool {
        let Some(last) = self.utc else {
            *self = Self { utc: Some(utc), steady: 1, carrier: self.carrier, ..Self::default() };
            return false;
        };
        let advance = utc - last;
        if advance.abs() < SAME {
            return false;
        }
        let cycles = self.length.map_or(1.0, |length| advance.seconds() / length.seconds());
        let remainder = (cycles - cycles.round()).abs() * self.length.unwrap_or_default().seconds();
        let whole = cycles > 0.5 && cycles < 10.5 && remainder < SAME.seconds();
        let even = whole && advance > Span::ZERO && advance <= Span::from_whole_seconds(10);
        // Twice as long alike: nothing was lost, and what made the cycle look shorter was damaged.
        let again = even && self.advance.replace(advance).is_some_and(|before| (before - advance).abs() < SAME);
        let shorter = |length: Span| if again { advance } else { length.min(advance) };
        let length = if even { self.length.map_or(advance, shorter) } else { advance };
        self.missing += 1;
        if self.missing > MISSING {
            self.carrier = None;
        }
        self.utc = Some(utc);
        self.length = (length > Span::ZERO).then_some(length);
        self.steady = match even {
            // Cycles were lost, or this one's time was damaged in a way that its checksum does not show:
            // the next one will tell.
            true if cycles > 1.5 && !again => self.steady.min(STEADY - 1),
            true => self.steady + 1,
            false => 1,
        };
        self.previous_first = self.first.take();
        true
    }

    /// The message could carry the time. Has the time advanced evenly for long enough, and is it this
    /// message that does?
    pub fn carries(&mut self, speaker: Speaker) -> Result<bool, Unsteady> {
        self.first.get_or_insert(speaker);
        if !self.is_steady() {
            return Err(Unsteady);
        }
        if self.carrier.is_none() && self.first == Some(speaker) && self.previous_first == Some(speaker) {
            self.carrier = Some(speaker);
        }
        let carries = self.carrier == Some(speaker);
        if carries {
            self.missing = 0;
        }
        Ok(carries)
    }

    /// Has the time advanced evenly for long enough?
    pub fn is_steady(&self) -> bool {
        self.steady >= STEADY
    }

    /// The time is not to be believed any more: count anew.
    pub fn restart(&mut self) {
        *self = Self { carrier: self.carrier, ..Self::default() };
    }
}

/// The time has not advanced evenly for long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsteady;

#[cfg(test)]
mod tests {
    use super::*;

    const RMC: Speaker = Speaker::Nmea(*b"GP", "RMC");
    const GGA: Speaker = Speaker::Nmea(*b"GP", "GGA");

    fn at(ms: i64) -> Timestamp<Utc> {
        Timestamp::from_nanos(1_767_225_600_000_000_000 + ms * 1_000_000)
    }

    #[test]
    fn another_message_takes_over_when_the_carrier_stays_away() {
        let mut cycle = Cycle::default();
        let mut carried = Vec::new();
        for k in 0..20 {
            cycle.note(at(k * 1000));
            for speaker in if k < 8 { [RMC, GGA] } else { [GGA, GGA] } {
                if cycle.carries(speaker) == Ok(true) {
                    carried.push((k, speaker.name()));
                }
            }
        }
        carried.dedup();
        let expected: Vec<_> = (2..8).map(|k| (k, "RMC")).chain((13..20).map(|k| (k, "GGA"))).collect();
        assert_eq!(carried, expected);
    }

    #[test]
    fn ten_times_a_second_and_lost_cycles_are_even_and_jumps_are_not() {
        let mut cycle = Cycle::default();
        for ms in [0, 100, 200] {
            cycle.note(at(ms));
        }
        assert!(cycle.is_steady());
        cycle.note(at(700));
        assert!(!cycle.is_steady(), "four are lost, or it is wrong");
        cycle.note(at(800));
        assert!(cycle.is_steady(), "they were lost");
        assert!(!cycle.note(at(800) + Span::from_nanos(123)), "told more exactly");
        assert!(cycle.is_steady());
        cycle.note(at(850));
        assert!(!cycle.is_steady());
    }

    #[test]
    fn one_damaged_fraction_costs_a_few_cycles() {
        let mut cycle = Cycle::default();
        let steady: Vec<bool> = [0, 1000, 2000, 3000, 3200, 4000, 5000, 6000, 7000, 8000]
            .into_iter()
            .map(|ms| {
                cycle.note(at(ms));
                cycle.is_steady()
            })
            .collect();
        assert_eq!(steady, [false, false, true, true, false, false, false, false, true, true]);
    }
}
