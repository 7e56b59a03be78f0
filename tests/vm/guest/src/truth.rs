//! True time, as the module has it.

use std::fs;
use std::time::Duration;

use refclocks::sys::clock::raw_now;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PARAMETERS: &str = "/sys/module/vmpulse/parameters";
const SECOND: i64 = 1_000_000_000;

/// The module's line: true time over the raw counter.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    raw: i64,
    count: i64,
    rate_ppb: i64,
    leap_at: i64,
    leap_by: i64,
}

/// A true instant as a receiver writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    /// POSIX seconds.
    pub seconds: i64,
    /// Is it 23:59:60, the twin of `seconds`?
    pub second60: bool,
}

impl Truth {
    /// As the module has it now.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string(format!("{PARAMETERS}/true_line"))?;
        let numbers: Vec<i64> = text.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?;
        match numbers[..] {
            [raw, count, rate_ppb, leap_at, leap_by] => Ok(Self { raw, count, rate_ppb, leap_at, leap_by }),
            _ => Err(format!("not a line: {text}").into()),
        }
    }

    /// Seconds and nanoseconds of true time now, counted on without leap seconds.
    pub fn count(&self) -> i64 {
        let elapsed = raw_now().to_nanos() - self.raw;
        self.count + elapsed + (i128::from(elapsed) * i128::from(self.rate_ppb) / i128::from(SECOND)) as i64
    }

    /// UTC of a whole second of the count.
    pub fn utc(&self, second: i64) -> Utc {
        let plain = Utc { seconds: second, second60: false };
        match (self.leap_at, self.leap_by) {
            (0, _) => plain,
            (at, 1) if second == at => Utc { seconds: second, second60: true },
            (at, 1) if second > at => Utc { seconds: second - 1, ..plain },
            (at, -1) if second >= at - 1 => Utc { seconds: second + 1, ..plain },
            _ => plain,
        }
    }

    /// UTC of an instant of the count, ns since 1970, as the kernel counts: an inserted second repeats
    /// 23:59:59, and one that is left out is 23:59:59.
    pub fn utc_nanos(&self, count: i64) -> i64 {
        let midnight = self.leap_at * SECOND;
        match (self.leap_at, self.leap_by) {
            (0, _) => count,
            (_, 1) if count >= midnight => count - SECOND,
            (_, -1) if count >= midnight - SECOND => count + SECOND,
            _ => count,
        }
    }

    /// Sleeps until so many nanoseconds after a whole second of the count.
    pub fn sleep_until(&self, second: i64, nanos: i64) {
        // The sleep runs on the steered clock, which may be 1e-2 off: come back until it is time.
        loop {
            let left = second * SECOND + nanos - self.count();
            if left <= 0 {
                return;
            }
            std::thread::sleep(Duration::from_nanos(left.unsigned_abs()));
        }
    }
}

/// CLOCK_REALTIME - true UTC, ns, without reading noise.
pub fn clock_error() -> Result<i64> {
    Ok(fs::read_to_string(format!("{PARAMETERS}/clock_err_ns"))?.trim().parse()?)
}
