//! The kernel's clock discipline: clock_adjtime(2), and readings of its clocks.

use std::io;

use refclocks::time::{Raw, Realtime, Scale, Span, Tai, Timestamp};

/// Units of `timex.freq` in a whole: parts per million, scaled by 2^16.
const FREQUENCY_UNIT: f64 = 1e-6 / 65_536.0;
/// A tick of the kernel's user clock, us: its length when nothing is corrected.
const TICK: i64 = 10_000;
/// What `timex.freq` takes, s/s.
const MOST_FREQUENCY: f64 = 500e-6;
/// What is still accepted of `timex.tick`, us either way.
const MOST_TICK: i64 = 1000;

/// How the kernel's clock stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Discipline {
    /// How much faster CLOCK_REALTIME is made to run than the raw counter, s/s.
    pub rate: f64,
    /// Its TAI - UTC, s.
    pub tai_minus_utc: i32,
    /// STA_UNSYNC: nobody vouches for it.
    pub unsynchronised: bool,
    /// STA_INS.
    pub inserts: bool,
    /// STA_DEL.
    pub deletes: bool,
}

/// What the kernel is to tell other programs of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// STA_UNSYNC. While it is not set, the kernel also keeps the RTC.
    pub unsynchronised: bool,
    /// STA_INS: insert a second at the end of this UTC day.
    pub insert: bool,
    /// STA_DEL: leave the last second of this UTC day out.
    pub delete: bool,
    /// Error bound, us.
    pub max_error: i64,
    /// Estimated error, us.
    pub estimated_error: i64,
}

/// CLOCK_TAI and CLOCK_REALTIME between two readings of CLOCK_MONOTONIC_RAW.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Before.
    pub raw_before: Timestamp<Raw>,
    /// CLOCK_TAI, right after.
    pub tai: Timestamp<Tai>,
    /// After CLOCK_TAI.
    pub raw_after: Timestamp<Raw>,
    /// CLOCK_REALTIME, after that.
    pub realtime: Timestamp<Realtime>,
}

/// What a clock discipline needs of a kernel: the real one, or a test's.
pub trait Kernel {
    /// Reads the clocks.
    fn read(&self) -> Reading;
    /// How the discipline stands.
    fn discipline(&mut self) -> io::Result<Discipline>;
    /// Sets the rate of CLOCK_REALTIME against the raw counter, s/s. Returns what it became: the
    /// kernel counts in 2^-16 ppm, and goes to 10 %.
    fn set_rate(&mut self, rate: f64) -> io::Result<f64>;
    /// Adds to CLOCK_REALTIME at once.
    fn step(&mut self, by: Span) -> io::Result<()>;
    /// Sets TAI - UTC, s.
    fn set_tai(&mut self, tai_minus_utc: i32) -> io::Result<()>;
    /// Tells other programs how good the clock is. Returns whether a leap second is before the kernel.
    fn set_quality(&mut self, quality: &Quality) -> io::Result<bool>;
}

/// The kernel we run on.
#[derive(Debug, Default)]
pub struct ThisKernel;

impl Kernel for ThisKernel {
    fn read(&self) -> Reading {
        let once = || {
            let reading = Reading {
                raw_before: read(libc::CLOCK_MONOTONIC_RAW),
                tai: read(libc::CLOCK_TAI),
                raw_after: read(libc::CLOCK_MONOTONIC_RAW),
                realtime: read(libc::CLOCK_REALTIME),
            };
            // An interrupt before the last of them must show, too.
            let took = read::<Raw>(libc::CLOCK_MONOTONIC_RAW) - reading.raw_before;
            (took, reading)
        };
        let mut best = once();
        for _ in 0..2 {
            let next = once();
            if next.0 < best.0 {
                best = next;
            }
        }
        best.1
    }

    fn discipline(&mut self) -> io::Result<Discipline> {
        adjust(&mut nothing()).map(|(_, timex)| standing(&timex))
    }

    fn set_rate(&mut self, rate: f64) -> io::Result<f64> {
        let (tick, frequency) = divided(rate);
        let mut timex = nothing();
        timex.modes = libc::ADJ_TICK | libc::ADJ_FREQUENCY;
        timex.tick = tick as libc::c_long;
        timex.freq = frequency as libc::c_long;
        adjust(&mut timex).map(|(_, timex)| standing(&timex).rate)
    }

    fn step(&mut self, by: Span) -> io::Result<()> {
        let nanos = by.nanos();
        let mut timex = nothing();
        timex.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
        timex.time.tv_sec = nanos.div_euclid(1_000_000_000) as libc::time_t;
        // With ADJ_NANO this field holds nanoseconds, never negative ones.
        timex.time.tv_usec = nanos.rem_euclid(1_000_000_000) as libc::suseconds_t;
        adjust(&mut timex).map(drop)
    }

    fn set_tai(&mut self, tai_minus_utc: i32) -> io::Result<()> {
        let mut timex = nothing();
        timex.modes = libc::ADJ_TAI;
        timex.constant = tai_minus_utc as libc::c_long;
        adjust(&mut timex).map(drop)
    }

    fn set_quality(&mut self, quality: &Quality) -> io::Result<bool> {
        let mut timex = nothing();
        timex.modes = libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
        let flag = |set: bool, flag| if set { flag } else { 0 };
        timex.status = flag(quality.unsynchronised, libc::STA_UNSYNC)
            | flag(quality.insert, libc::STA_INS)
            | flag(quality.delete, libc::STA_DEL);
        timex.maxerror = quality.max_error as libc::c_long;
        timex.esterror = quality.estimated_error as libc::c_long;
        adjust(&mut timex).map(|(state, _)| state == libc::TIME_INS || state == libc::TIME_DEL)
    }
}

/// A rate as the kernel takes it: the length of a tick, us, and the rest as a scaled frequency.
fn divided(rate: f64) -> (i64, i64) {
    let per_tick = 1.0 / TICK as f64;
    let ticks = if rate.abs() > MOST_FREQUENCY { (rate / per_tick).round() as i64 } else { 0 };
    let ticks = ticks.clamp(-MOST_TICK, MOST_TICK);
    let rest = (rate - ticks as f64 * per_tick).clamp(-MOST_FREQUENCY, MOST_FREQUENCY);
    (TICK + ticks, (rest / FREQUENCY_UNIT).round() as i64)
}

#[allow(clippy::useless_conversion, reason = "long has 32 bits on some targets")]
fn standing(timex: &libc::timex) -> Discipline {
    let has = |flag| timex.status & flag != 0;
    let ticks = i64::from(timex.tick) - TICK;
    Discipline {
        rate: ticks as f64 / TICK as f64 + i64::from(timex.freq) as f64 * FREQUENCY_UNIT,
        tai_minus_utc: timex.tai,
        unsynchronised: has(libc::STA_UNSYNC),
        inserts: has(libc::STA_INS),
        deletes: has(libc::STA_DEL),
    }
}

fn nothing() -> libc::timex {
    // SAFETY: timex is plain integers, for which all zeros is a value: "change nothing".
    unsafe { std::mem::zeroed() }
}

/// Returns the kernel's clock state (TIME_OK, TIME_INS, ...) with what it filled in.
fn adjust(timex: &mut libc::timex) -> io::Result<(libc::c_int, libc::timex)> {
    // SAFETY: `timex` is a valid timex for the kernel to read and fill.
    let state = unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, timex) };
    if state < 0 { Err(io::Error::last_os_error()) } else { Ok((state, *timex)) }
}

#[allow(clippy::unnecessary_cast, reason = "time_t has 32 bits on some targets")]
fn read<S: Scale>(clock: libc::clockid_t) -> Timestamp<S> {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `at` is a valid timespec for the kernel to fill; every Linux has these clocks.
    unsafe { libc::clock_gettime(clock, &mut at) };
    Timestamp::from_parts(at.tv_sec as i64, at.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_divided_between_tick_and_frequency() {
        assert_eq!(divided(0.0), (10_000, 0));
        assert_eq!(divided(-37.5e-6), (10_000, -37 * 65_536 - 32_768));
        assert_eq!(divided(500e-6), (10_000, 500 * 65_536));
        let (tick, frequency) = divided(1234.5e-6);
        assert_eq!(tick, 10_012);
        assert_eq!(frequency, (34.5 * 65_536.0) as i64);
        // Never beyond what the kernel takes.
        assert_eq!(divided(0.5), (11_000, 500 * 65_536));
    }

    #[test]
    fn this_kernel_can_be_read_by_anybody() {
        let standing = ThisKernel.discipline().unwrap();
        assert!(standing.rate.abs() < 0.11, "{standing:?}");
        let reading = ThisKernel.read();
        let apart = (reading.tai.reinterpret::<Realtime>() - reading.realtime).seconds();
        assert!((apart - f64::from(standing.tai_minus_utc)).abs() < 0.5, "{apart}");
    }
}
