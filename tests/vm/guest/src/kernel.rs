//! What the kernel tells other programs of its clock.

use std::io;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// adjtimex(2), read.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    pub unsynchronised: bool,
    pub inserts: bool,
    pub deletes: bool,
    /// ns
    pub max_error: i64,
    /// ns
    pub estimated_error: i64,
    /// TAI - UTC, s
    pub tai: i32,
}

pub fn look() -> Result<Kernel> {
    // SAFETY: timex is plain integers, for which all zeros is a value: "change nothing".
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `timex` is a valid timex for the kernel to fill.
    if unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, &mut timex) } < 0 {
        return Err(io::Error::last_os_error().into());
    }
    let has = |flag| timex.status & flag != 0;
    Ok(Kernel {
        unsynchronised: has(libc::STA_UNSYNC),
        inserts: has(libc::STA_INS),
        deletes: has(libc::STA_DEL),
        max_error: timex.maxerror * 1000,
        estimated_error: timex.esterror * 1000,
        tai: timex.tai,
    })
}
