//! The system clock, steered through clock_adjtime.
//!
//! It is read as CLOCK_TAI, which is continuous over leap seconds: the kernel inserts or leaves out
//! the second of CLOCK_REALTIME itself, as announced to it, unless [`LeapMode`] says otherwise. While
//! CLOCK_REALTIME is slewed over one, it is that clock less what it is still ahead, so that those who
//! steer and serve see none of it. Rates are against the raw counter; the kernel runs CLOCK_REALTIME as
//! fast as that when nothing is corrected.

use refclocks::time::{Raw, Realtime, Span, Tai, Timestamp, Utc};

use super::leap::{LeapMode, LeapSlew};
use super::{Announcement, ClockError, ForeignHand};
use crate::core::engine::ClockCommand;
use crate::core::leap::{LeapSecond, UtcMap};
use crate::sys::kernel_clock::{Kernel, Quality, Reading};

/// A rate that differs from ours by more than the kernel's rounding was set by somebody else, s/s.
const ROUNDING: f64 = 1e-10;

/// Setting the rate takes less than this, s, if nothing comes between.
const INTERRUPTED: f64 = 100e-6;

/// The clock.
pub struct KernelClock {
    kernel: Box<dyn Kernel>,
    utc: UtcMap,
    leap_mode: LeapMode,
    /// How fast a leap second is slewed away, s/s.
    fastest_slew: f64,
    /// While one is.
    slew: Option<LeapSlew>,
    /// The leap second that we have seen to, or that had passed before the clock was ours.
    past: Option<Timestamp<Utc>>,
    /// As the kernel took it, without what slews a leap second away.
    rate: f64,
    /// TAI - UTC in the kernel, where it is ours.
    tai_minus_utc: Option<i32>,
    /// May it be set? `false` only watches.
    steers: bool,
    foreign: Option<ForeignHand>,
    /// Was the kernel told that somebody vouches for the clock?
    vouched: bool,
    /// The kernel has forgotten when its leap second is due.
    leap_forgotten: bool,
}

impl KernelClock {
    /// The system clock, watched and never touched until it is taken.
    pub fn watch(mut kernel: Box<dyn Kernel>, utc: UtcMap) -> Self {
        let rate = kernel.discipline().map_or(0.0, |discipline| discipline.rate);
        Self {
            kernel,
            utc,
            leap_mode: LeapMode::default(),
            fastest_slew: 0.0,
            slew: None,
            past: None,
            rate,
            tai_minus_utc: None,
            steers: false,
            foreign: None,
            vouched: false,
            leap_forgotten: false,
        }
    }

    /// Leap seconds are crossed like this; where they are slewed away, so fast, s/s.
    pub fn cross_leaps(mut self, mode: LeapMode, fastest_slew: f64) -> Self {
        (self.leap_mode, self.fastest_slew) = (mode, fastest_slew);
        self
    }

    /// Takes the system clock over, at this rate or as it runs, s/s.
    ///
    /// # Errors
    ///
    /// The clock may not be set: it stays watched.
    pub fn take(&mut self, rate: Option<f64>) -> Result<(), ClockError> {
        // Setting what is there shows whether it may be set.
        let rate = match rate {
            Some(rate) => rate,
            None => self.kernel.discipline().map_err(ClockError::refused("reading its discipline"))?.rate,
        };
        self.slew = None;
        self.rate = self.kernel.set_rate(rate).map_err(ClockError::refused("setting its rate"))?;
        self.keep_tai();
        let realtime: Timestamp<Utc> = self.kernel.read().realtime.reinterpret();
        self.past = self.utc.next.map(|leap| leap.at).filter(|at| realtime >= *at);
        self.steers = true;
        self.vouched = false;
        Ok(())
    }

    /// Only watches it from here on.
    pub fn leave_alone(&mut self) {
        self.steers = false;
        self.tai_minus_utc = None;
        self.foreign = None;
        self.slew = None;
    }

    /// TAI by a reading. CLOCK_TAI where its offset is ours; else from CLOCK_REALTIME.
    fn tai(&self, reading: &Reading) -> Timestamp<Tai> {
        if let Some(slew) = self.slew {
            // By the offset in force after the leap second, of which some is still ahead.
            let after = self.utc.tai_minus_utc + self.utc.next.map_or(0, |leap| leap.change);
            let reading_apart = reading.raw_after - reading.raw_before;
            return reading.realtime.reinterpret() + Span::from_whole_seconds(after.into())
                - reading_apart
                - slew.ahead(reading.raw_before);
        }
        let apart = (reading.tai.reinterpret::<Realtime>() - reading.realtime).seconds().round() as i32;
        let change = self.utc.next.map_or(0, |leap| leap.change);
        match self.tai_minus_utc {
            Some(ours) if apart == ours || apart == ours + change => reading.tai,
            _ => {
                // The two were read one after the other, a raw reading apart.
                let later = reading.raw_after - reading.raw_before;
                self.utc.tai(reading.realtime.reinterpret(), false) - later
            }
        }
    }

    /// Sees to it that CLOCK_TAI is what it says. Not being able to is no harm: it is then not used.
    fn keep_tai(&mut self) {
        let reading = self.kernel.read();
        let utc: Timestamp<Utc> = reading.realtime.reinterpret();
        let due = match self.utc.next {
            Some(leap) if utc >= leap.at => self.utc.tai_minus_utc + leap.change,
            _ => self.utc.tai_minus_utc,
        };
        let Ok(discipline) = self.kernel.discipline() else { return };
        // Around a leap second the kernel changes it by itself.
        let near_leap = self.utc.next.is_some_and(|leap| (utc - leap.at).abs() < Span::from_whole_seconds(5));
        if discipline.tai_minus_utc == due || near_leap || self.kernel.set_tai(due).is_ok() {
            self.tai_minus_utc = Some(self.utc.tai_minus_utc);
        }
    }

    /// Has somebody changed the rate since we set it?
    fn look_for_foreign_rate(&mut self) {
        if let Ok(found) = self.kernel.discipline()
            && (found.rate - self.rate - self.slewing()).abs() > ROUNDING
        {
            self.foreign = Some(ForeignHand { found: found.rate, ours: self.rate + self.slewing() });
        }
    }

    /// What slews a leap second away, s/s.
    fn slewing(&self) -> f64 {
        self.slew.map_or(0.0, |slew| slew.rate)
    }

    fn set_rate(&mut self, rate: f64) -> Result<(), ClockError> {
        let slewing = self.slewing();
        let taken = self.kernel.set_rate(rate + slewing).map_err(ClockError::refused("setting its rate"))?;
        self.rate = taken - slewing;
        Ok(())
    }

    /// Begins a part of a slew over a leap second: when the kernel takes its rate.
    fn begin_slew(&mut self, part: impl Fn(Timestamp<Raw>) -> LeapSlew) -> Result<(), ClockError> {
        let ran = self.rate + self.slewing();
        let before = self.kernel.read();
        self.slew = Some(part(before.raw_after));
        self.set_rate(self.rate)?;
        let after = self.kernel.read();
        let took = (after.raw_before - before.raw_after).seconds();
        // Half way, unless we were interrupted: then it shows in how far REALTIME has come.
        let since = if took < INTERRUPTED {
            took / 2.0
        } else {
            let elapsed = after.raw_after - before.raw_after;
            let gained = (after.realtime - before.realtime - elapsed).seconds() - ran * elapsed.seconds();
            (gained / (self.rate + self.slewing() - ran)).clamp(0.0, took)
        };
        self.slew = Some(part(after.raw_before - Span::from_seconds(since)));
        Ok(())
    }

    /// The leap second of ours to see to has come: CLOCK_REALTIME parts from UTC.
    fn cross(&mut self, change: i32) -> Result<(), ClockError> {
        let ahead = Span::from_whole_seconds(change.into());
        if self.leap_mode == LeapMode::Slew {
            let rate = self.fastest_slew;
            return self.begin_slew(|raw| LeapSlew::fast(raw, ahead, rate));
        }
        self.kernel.step(-ahead).map_err(ClockError::refused("stepping it"))?;
        let after = self.utc.tai_minus_utc + change;
        self.tai_minus_utc = self.kernel.set_tai(after).is_ok().then_some(self.utc.tai_minus_utc);
        Ok(())
    }

    /// The leap second that is ours to see to, and when it comes by the raw counter.
    fn parting(&self) -> Option<(LeapSecond, Timestamp<Raw>)> {
        let ours = self.steers && self.leap_mode != LeapMode::Kernel;
        let leap = self.utc.next.filter(|leap| ours && self.past != Some(leap.at))?;
        let reading = self.kernel.read();
        let left = self.utc.parting()? - self.tai(&reading);
        Some((leap, reading.raw_after + left - Span::from_seconds(left.seconds() * self.rate)))
    }
}

impl KernelClock {
    /// What the clock reads when the raw counter reads `raw`; `raw` is now or very near.
    pub fn read(&self, raw: Timestamp<Raw>) -> Timestamp<Tai> {
        let reading = self.kernel.read();
        let middle = reading.raw_before + Span::from_nanos((reading.raw_after - reading.raw_before).nanos() / 2);
        let later = raw - middle;
        self.tai(&reading) + later + Span::from_seconds(later.seconds() * self.rate)
    }

    /// How much faster than the raw counter it runs, s/s.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Is it ours to set?
    pub fn steers(&self) -> bool {
        self.steers
    }

    /// Applies a command; one that is only watched is looked at instead.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn apply(&mut self, command: ClockCommand) -> Result<(), ClockError> {
        if !self.steers {
            self.rate = self.kernel.discipline().map_or(self.rate, |discipline| discipline.rate);
            return Ok(());
        }
        match command {
            ClockCommand::SetRate(rate) => {
                self.look_for_foreign_rate();
                self.set_rate(rate)?;
            }
            ClockCommand::Step(by) => self.kernel.step(by).map_err(ClockError::refused("stepping it"))?,
        }
        Ok(())
    }

    /// Time passed: begins and ends what is ours to do about a leap second; `raw` is now.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn handle_timeout(&mut self, raw: Timestamp<Raw>) -> Result<(), ClockError> {
        if let Some(slew) = self.slew.filter(|slew| raw >= slew.over()) {
            match slew.slow(raw) {
                Some(slow) => self.begin_slew(|raw| slew.slow(raw).unwrap_or(slow))?,
                None => self.end_slew()?,
            }
            self.keep_tai();
        }
        if let Some((leap, _)) = self.parting().filter(|(_, at)| raw >= *at) {
            self.past = Some(leap.at);
            self.cross(leap.change)?;
        }
        Ok(())
    }

    /// When [`KernelClock::handle_timeout`] must not wait for longer.
    pub fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        let over = self.slew.map(|slew| slew.over());
        over.into_iter().chain(self.parting().map(|(_, at)| at)).min()
    }

    /// How far CLOCK_REALTIME is ahead of UTC while it is slewed over a leap second; negative: behind.
    pub fn leap_left(&self, raw: Timestamp<Raw>) -> Option<Span> {
        self.slew.map(|slew| slew.ahead(raw))
    }

    /// Gives the slew over a leap second up, if there is one: the rate is what steers alone.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn end_slew(&mut self) -> Result<(), ClockError> {
        match self.slew.take() {
            Some(_) => self.set_rate(self.rate),
            None => Ok(()),
        }
    }

    /// Tells other programs how good the clock is.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub fn announce(&mut self, said: &Announcement) -> Result<(), ClockError> {
        self.utc = said.utc;
        if !self.steers {
            return Ok(());
        }
        self.keep_tai();
        // Whoever sets the clock, we among them, sets STA_UNSYNC with it, and the kernel forgets at
        // which midnight its leap second is due, but not that there is one. It must see the flag down
        // before it looks for the midnight again.
        if self.vouched && self.kernel.discipline().is_ok_and(|found| found.unsynchronised) {
            self.leap_forgotten = true;
        }
        let off = self.slew.map_or(0.0, |slew| slew.ahead(self.kernel.read().raw_after).seconds().abs());
        let micros = |seconds: f64| if seconds < 16.0 { (seconds * 1e6).ceil() as i64 } else { 16_000_000 };
        let by_kernel = self.leap_mode == LeapMode::Kernel && !self.leap_forgotten;
        let quality = Quality {
            unsynchronised: !said.synchronised,
            insert: said.leap_today > 0 && by_kernel,
            delete: said.leap_today < 0 && by_kernel,
            max_error: micros(said.max_error + off),
            estimated_error: micros(said.estimated_error + off),
        };
        let leap_pending = self.kernel.set_quality(&quality).map_err(ClockError::refused("setting its status"))?;
        self.leap_forgotten &= leap_pending;
        self.vouched = said.synchronised;
        Ok(())
    }

    /// Who else changed its rate since the last call, if anybody did.
    pub fn foreign_hand(&mut self) -> Option<ForeignHand> {
        self.foreign.take()
    }
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
