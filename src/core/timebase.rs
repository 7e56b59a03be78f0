//! The one place that turns a CLOCK_REALTIME stamp into the raw scale.
//!
//! A reading of REALTIME between two readings of RAW tells how the two relate at receipt. The one before
//! the stamp tells it too, and a stamp lies on the line between the two: REALTIME's rate changes when we
//! wake up and set it, which is when it is read. However late a stamp is handled, it is converted as of then.
//! A step of REALTIME is seen as a jump of that relation, and stamps from its far side are dropped.

use std::collections::VecDeque;

use refclocks::LocalStamp;
use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Realtime, Span, Timestamp};
use thiserror::Error;

/// Why a stamp was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Dropped {
    /// It lies ahead of now.
    #[error("the stamp lies in the future")]
    Future,
    /// It is older than [`OLDEST`].
    #[error("the stamp is more than 2 s old")]
    Old,
    /// The system clock was stepped since.
    #[error("the system clock was stepped after the stamp was taken")]
    Stepped,
}

/// Older stamps are not converted.
pub const OLDEST: Span = Span::from_millis(2000);
/// A stamp may lie this far ahead: the readings themselves take time.
const AHEAD: Span = Span::from_millis(1);
/// Readings kept, and how far apart at least: those of the last [`OLDEST`], but for a loop that hardly rests.
const KEPT: usize = 512;
const APART: Span = Span::from_millis(1);
/// A shorter time tells no rate.
const RATE_OVER: Span = Span::from_millis(700);
/// REALTIME may be slewed by somebody else by this much against RAW without being called stepped, s/s.
const FASTEST_SLEW: f64 = 0.1;
/// What a slew of ours comes on top of, s/s: the crystal's correction, with room to spare.
const CORRECTION: f64 = 1e-3;

/// The relation of CLOCK_REALTIME and CLOCK_MONOTONIC_RAW, followed.
#[derive(Clone, Debug)]
pub struct TimeBase {
    fastest_slew: f64,
    readings: VecDeque<(Timestamp<Raw>, Timestamp<Realtime>)>,
    /// The last step of REALTIME: when, and how far back.
    stepped: Option<(Timestamp<Raw>, Span)>,
}

impl TimeBase {
    /// A time base that has seen nothing. `slew`: where REALTIME is ours to steer, how fast we slew
    /// it at most, s/s.
    pub fn new(slew: Option<f64>) -> Self {
        Self { fastest_slew: fastest(slew), readings: VecDeque::new(), stepped: None }
    }

    /// REALTIME is ours to steer from now on, so fast at most, or no longer.
    pub fn steer(&mut self, slew: Option<f64>) {
        self.fastest_slew = fastest(slew);
    }

    /// Notes a reading. Returns the step of REALTIME since the last one, if there was one.
    pub fn observe(&mut self, bracket: &Bracket) -> Option<Span> {
        let raw = middle(bracket);
        let width = bracket.raw_after - bracket.raw_before;
        let mut step = None;
        if let Some(&(raw0, realtime0)) = self.readings.back() {
            let (elapsed, moved) = (raw - raw0, bracket.realtime - realtime0);
            // What REALTIME gains all the time is no step.
            let off = moved - elapsed - Span::from_seconds(self.gain() * elapsed.seconds());
            let slewed = Span::from_seconds(self.fastest_slew * elapsed.seconds().abs());
            if off.abs() > slewed + width + Span::from_millis(1) {
                step = Some(off);
                self.stepped = Some((raw, back(off)));
                self.readings.clear();
            } else if elapsed < APART {
                return None;
            }
        }
        self.readings.push_back((raw, bracket.realtime));
        // One older than the oldest stamp is kept, for the line, and some for the rate.
        while self.readings.len() > KEPT || self.readings.get(1).is_some_and(|(second, _)| raw - *second > OLDEST) {
            self.readings.pop_front();
        }
        step
    }

    /// The last reading kept.
    pub fn latest(&self) -> Option<(Timestamp<Raw>, Timestamp<Realtime>)> {
        self.readings.back().copied()
    }

    /// We stepped REALTIME ourselves, just now.
    pub fn stepped(&mut self, by: Span, raw: Timestamp<Raw>) {
        self.stepped = Some((raw, back(by)));
        for (_, realtime) in &mut self.readings {
            *realtime += by;
        }
    }

    /// The raw instant of a stamp received now.
    pub fn raw(&self, stamp: LocalStamp, now: &Bracket) -> Result<Timestamp<Raw>, Dropped> {
        let raw = match stamp {
            LocalStamp::Raw(raw) => raw,
            LocalStamp::Realtime(realtime) => {
                let raw = self.on_the_line(realtime, (middle(now), now.realtime));
                // A stamp from before a step back seems to be from after it.
                if self.stepped.is_some_and(|(at, back)| raw < at + back && at - raw < OLDEST) {
                    return Err(Dropped::Stepped);
                }
                raw
            }
        };
        if raw > now.raw_after + AHEAD {
            Err(Dropped::Future)
        } else if now.raw_after - raw > OLDEST {
            Err(Dropped::Old)
        } else {
            Ok(raw)
        }
    }

    /// Between the two readings around the stamp, the later of which may be `now`.
    fn on_the_line(&self, stamp: Timestamp<Realtime>, now: (Timestamp<Raw>, Timestamp<Realtime>)) -> Timestamp<Raw> {
        let (mut raw, mut realtime) = now;
        for &(raw0, realtime0) in self.readings.iter().rev() {
            if realtime0 <= stamp && realtime0 < realtime {
                let share = (realtime - stamp).seconds() / (realtime - realtime0).seconds();
                let apart = (raw - raw0) - (realtime - realtime0);
                return raw - (realtime - stamp) - Span::from_seconds(share * apart.seconds());
            }
            if realtime0 > stamp {
                (raw, realtime) = (raw0, realtime0);
            }
        }
        // No reading is older. Far ages do not fit a rate; they are refused whatever it is.
        let age = realtime - stamp;
        let rate = if age.abs() < OLDEST + OLDEST { self.gain() } else { 0.0 };
        raw - age + Span::from_seconds(age.seconds() * rate)
    }

    /// How much faster than RAW REALTIME ran over the last readings, s/s.
    fn gain(&self) -> f64 {
        match (self.readings.front(), self.readings.back()) {
            (Some(&(raw0, realtime0)), Some(&(raw1, realtime1))) if raw1 - raw0 >= RATE_OVER => {
                (realtime1 - realtime0).seconds() / (raw1 - raw0).seconds() - 1.0
            }
            _ => 0.0,
        }
    }
}

/// How fast REALTIME may be slewed without being called stepped, s/s: from one way to the other.
fn fastest(slew: Option<f64>) -> f64 {
    slew.map_or(FASTEST_SLEW, |slew| 2.0 * slew + CORRECTION)
}

/// How far a step goes back; nothing, if it goes forward.
fn back(step: Span) -> Span {
    if step < Span::ZERO { step.abs() } else { Span::ZERO }
}

fn middle(bracket: &Bracket) -> Timestamp<Raw> {
    bracket.raw_before + Span::from_nanos((bracket.raw_after - bracket.raw_before).nanos() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bracket(raw_ns: i64, realtime_ns: i64) -> Bracket {
        Bracket {
            raw_before: Timestamp::from_nanos(raw_ns - 50),
            realtime: Timestamp::from_nanos(realtime_ns),
            raw_after: Timestamp::from_nanos(raw_ns + 50),
        }
    }

    const S: i64 = 1_000_000_000;

    #[test]
    fn a_slewed_realtime_converts_as_of_the_stamp() {
        let mut base = TimeBase::new(None);
        // REALTIME runs 500 ppm fast.
        for k in 0..5 {
            base.observe(&bracket(k * S, 100 * S + k * S + k * 500_000));
        }
        let now = bracket(4 * S, 104 * S + 4 * 500_000);
        let stamp = LocalStamp::Realtime(Timestamp::from_nanos(103 * S + 3 * 500_000));
        let raw = base.raw(stamp, &now).unwrap();
        assert!((raw.to_nanos() - 3 * S).abs() < 5, "{raw:?}");
    }

    #[test]
    fn a_rate_that_has_just_changed_does_not_move_stamps_that_are_handled_late() {
        let mut base = TimeBase::new(Some(2e-3));
        let realtime = |raw: i64| 100 * S + raw + (raw - 3 * S).max(0) / 500;
        for raw in [0, S, 2 * S, 3 * S] {
            base.observe(&bracket(raw, realtime(raw)));
        }
        // REALTIME is slewed by 2000 ppm from 3 s on; the next pulse is handled 20 ms late.
        let now = bracket(4 * S + 20_000_000, realtime(4 * S + 20_000_000));
        base.observe(&now);
        let raw = base.raw(LocalStamp::Realtime(Timestamp::from_nanos(realtime(4 * S))), &now).unwrap();
        assert!((raw.to_nanos() - 4 * S).abs() < 5, "{raw:?}");
        // So are those from before the change.
        let raw = base.raw(LocalStamp::Realtime(Timestamp::from_nanos(realtime(5 * S / 2))), &now).unwrap();
        assert!((raw.to_nanos() - 5 * S / 2).abs() < 5, "{raw:?}");
    }

    #[test]
    fn stamps_from_before_a_step_are_dropped() {
        let mut base = TimeBase::new(None);
        base.observe(&bracket(S, 100 * S));
        let step = base.observe(&bracket(2 * S, 106 * S));
        assert_eq!(step, Some(Span::from_whole_seconds(5)));
        let now = bracket(2 * S + 1000, 106 * S + 1000);
        assert_eq!(base.raw(LocalStamp::Realtime(Timestamp::from_nanos(105 * S)), &now), Err(Dropped::Stepped));
        assert_eq!(base.raw(LocalStamp::Realtime(Timestamp::from_nanos(101 * S)), &now), Err(Dropped::Old));
        assert_eq!(base.raw(LocalStamp::Realtime(Timestamp::from_nanos(107 * S)), &now), Err(Dropped::Future));
    }

    #[test]
    fn a_clock_of_ours_that_moves_by_milliseconds_was_moved_by_another() {
        let moved = |base: &mut TimeBase| {
            base.observe(&bracket(S, 100 * S));
            base.observe(&bracket(2 * S, 101 * S + 5_000_000))
        };
        assert_eq!(moved(&mut TimeBase::new(None)), None);
        assert_eq!(moved(&mut TimeBase::new(Some(500e-6))), Some(Span::from_millis(5)));
    }

    #[test]
    fn a_step_is_told_without_the_gain_that_comes_with_it() {
        let mut base = TimeBase::new(Some(500e-6));
        // REALTIME gains 40 us a second.
        let at = |k: i64, step: i64| bracket(k * S, 100 * S + k * S + k * 40_000 + step);
        for k in 0..4 {
            assert_eq!(base.observe(&at(k, 0)), None);
        }
        let step = base.observe(&at(4, 5_000_000)).unwrap();
        assert!((step.nanos() - 5_000_000).abs() < 10, "{step:?}");
    }

    #[test]
    fn our_own_step_is_no_news_and_drops_what_came_before() {
        let mut base = TimeBase::new(None);
        for k in 0..4 {
            base.observe(&bracket(k * S, 100 * S + k * S));
        }
        base.stepped(Span::from_millis(-45), Timestamp::from_nanos(3 * S + S / 10));
        assert_eq!(base.observe(&bracket(4 * S, 104 * S - 45_000_000)), None);
        // Taken 20 ms before the step back; it seems to be from 25 ms after it.
        let now = bracket(3 * S + S / 5, 103 * S + S / 5 - 45_000_000);
        let before = LocalStamp::Realtime(Timestamp::from_nanos(103 * S + 80_000_000));
        assert_eq!(base.raw(before, &now), Err(Dropped::Stepped));
        let later = bracket(5 * S, 105 * S - 45_000_000);
        let after = LocalStamp::Realtime(Timestamp::from_nanos(104 * S + S / 2));
        let raw = base.raw(after, &later).unwrap();
        assert!((raw.to_nanos() - (4 * S + S / 2 + 45_000_000)).abs() < 5, "{raw:?}");
    }
}
