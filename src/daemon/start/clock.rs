//! The clock that is steered, and the table of leap seconds.

use std::path::Path;

use refclocks::time::{Raw, Timestamp, Utc};
use tracing::{info, warn};

use crate::clock::{Clock, Instead, KernelClock, SoftwareClock, SystemClock};
use crate::config::{Config, Discipline, Otherwise};
use crate::core::leap::UtcMap;
use crate::core::leap_list::LeapList;
use crate::sys::kernel_clock::ThisKernel;

/// The system's table of leap seconds.
const LEAP_FILE: &str = "/usr/share/zoneinfo/leap-seconds.list";

/// TAI and UTC around now, by the operator's table or the system's, and until when that tells of every
/// leap second; what is known to this program where there is no table.
pub fn leap_table(file: Option<&Path>, system: Timestamp<Utc>) -> (UtcMap, Option<Timestamp<Utc>>) {
    let path = file.unwrap_or(Path::new(LEAP_FILE));
    let now = system.max(crate::NOT_BEFORE);
    let list = match std::fs::read_to_string(path) {
        Ok(text) => LeapList::parse(&text).map_err(|error| error.to_string()),
        // The system need not have one.
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return (UtcMap::default(), None);
        }
        Err(error) => Err(error.to_string()),
    };
    match list {
        Ok(list) => {
            if list.expires.is_some_and(|expires| expires < now) {
                warn!(
                    "{} has expired: a leap second announced since is not in it, and sources are asked. Update tzdata.",
                    path.display()
                );
            }
            let utc = list.map_at(now);
            if let Some(leap) = utc.next {
                let what = if leap.change > 0 { "inserted" } else { "left out" };
                info!("a second will be {what} before {}, by {}", leap.at, path.display());
            }
            (utc, list.expires)
        }
        Err(error) => {
            warn!("{} is not used: {error}", path.display());
            (UtcMap::default(), None)
        }
    }
}

/// The clock to steer; `start` is where one of our own begins.
pub fn clock(config: &Config, utc: UtcMap, raw: Timestamp<Raw>, start: Timestamp<Utc>) -> Box<dyn Clock> {
    let start = utc.tai(start, false);
    let instead = match config.clock.otherwise {
        Otherwise::Software => Instead::Own(start),
        Otherwise::Observe => Instead::Watch,
    };
    let kernel = || KernelClock::watch(Box::new(ThisKernel), utc).cross_leaps(config.clock.leap, config.clock.max_slew);
    match config.clock.discipline {
        Discipline::Software => Box::new(SoftwareClock::new(raw, start)),
        Discipline::Observe => Box::new(SystemClock::watch(kernel())),
        Discipline::Kernel => Box::new(SystemClock::steer(kernel(), instead, raw)),
    }
}
