//! The hands that others lay on the clock, and on the daemon.

use std::io;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Steps CLOCK_REALTIME.
pub fn step(milliseconds: i64) -> Result<()> {
    let to = refclocks::sys::clock::realtime_now() + refclocks::Span::from_millis(milliseconds);
    let (seconds, nanos) = to.to_parts();
    let to = libc::timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    // SAFETY: `to` is a valid timespec; the call only reads it.
    done(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &to) })
}

/// Sets the kernel's frequency.
pub fn slew(ppm: f64) -> Result<()> {
    // SAFETY: timex is plain integers, for which all zeros is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    timex.modes = libc::ADJ_FREQUENCY;
    timex.freq = (ppm * 65_536.0) as libc::c_long;
    // SAFETY: `timex` is a valid timex for the kernel to read and fill.
    done(unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, &mut timex) })
}

/// Holds one thread still, all others of its process go on: what a hung thread looks like.
pub fn freeze(thread: i32, seconds: u64) -> Result<()> {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests take no memory of ours.
    let ptrace = |request| unsafe { libc::ptrace(request, thread, none, none) };
    done(ptrace(libc::PTRACE_SEIZE) as i32)?;
    done(ptrace(libc::PTRACE_INTERRUPT) as i32)?;
    std::thread::sleep(Duration::from_secs(seconds));
    // It stopped long ago; the kernel wants to have told us so.
    let mut status = 0;
    // SAFETY: `status` is a valid int for the kernel to fill.
    done(unsafe { libc::waitpid(thread, &mut status, libc::__WALL) }.min(0))?;
    done(ptrace(libc::PTRACE_DETACH) as i32)
}

fn done(result: i32) -> Result<()> {
    if result < 0 { Err(io::Error::last_os_error().into()) } else { Ok(()) }
}
