//! The kernel's clocks, read.

use serde::{Deserialize, Serialize};

use crate::time::{Raw, Realtime, Span, Timestamp};

/// A reading of CLOCK_REALTIME between two readings of CLOCK_MONOTONIC_RAW: how the two relate now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bracket {
    /// Before.
    pub raw_before: Timestamp<Raw>,
    /// Between.
    pub realtime: Timestamp<Realtime>,
    /// After.
    pub raw_after: Timestamp<Raw>,
}

/// CLOCK_MONOTONIC_RAW now.
pub fn raw_now() -> Timestamp<Raw> {
    let (seconds, nanos) = read(libc::CLOCK_MONOTONIC_RAW);
    Timestamp::from_parts(seconds, nanos)
}

/// CLOCK_REALTIME now.
pub fn realtime_now() -> Timestamp<Realtime> {
    let (seconds, nanos) = read(libc::CLOCK_REALTIME);
    Timestamp::from_parts(seconds, nanos)
}

/// The tightest of three bracketed readings.
pub fn bracket() -> Bracket {
    let once = || Bracket { raw_before: raw_now(), realtime: realtime_now(), raw_after: raw_now() };
    let width = |b: &Bracket| b.raw_after - b.raw_before;
    let mut best = once();
    for _ in 0..2 {
        let next = once();
        if width(&next) < width(&best) {
            best = next;
        }
    }
    best
}

/// Readings this close together were not interrupted, ns.
const UNDISTURBED: i128 = 100_000;

/// A shorter sleep is not told from what reading the clocks takes.
pub const SHORTEST_SLEEP: Span = Span::from_millis(50);

/// How long this machine has slept since it was started: CLOCK_BOOTTIME, which counts on while it
/// sleeps, less CLOCK_MONOTONIC, which like the raw one does not.
pub fn asleep() -> Span {
    let nanos = |clock| {
        let (seconds, nanos) = read(clock);
        i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
    };
    let once = || (nanos(libc::CLOCK_MONOTONIC), nanos(libc::CLOCK_BOOTTIME), nanos(libc::CLOCK_MONOTONIC));
    let width = |(before, _, after): &(i128, i128, i128)| after - before;
    let mut best = once();
    // Who was not let run between two readings must not take that for sleep.
    for _ in 0..8 {
        if width(&best) < UNDISTURBED {
            break;
        }
        let next = once();
        if width(&next) < width(&best) {
            best = next;
        }
    }
    let (before, boot, after) = best;
    Span::from_nanos((boot - (before + after) / 2) as i64)
}

#[allow(clippy::unnecessary_cast, reason = "time_t has 32 bits on some targets")]
fn read(clock: libc::clockid_t) -> (i64, u32) {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `at` is a valid timespec for the kernel to fill. The call cannot fail for these
    // clocks, which every Linux has; if it did, `at` would stay zero.
    unsafe { libc::clock_gettime(clock, &mut at) };
    (at.tv_sec as i64, at.tv_nsec as u32)
}
