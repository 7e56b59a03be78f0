//! The shells: each owns one device, feeds its parser, and comes back when the device does.
//!
//! A shell is one `async fn run(config, sink)` that never returns. It holds no opinion of what it
//! delivers; dropping its future closes the device. All shells of a process share one
//! `current_thread` runtime.

use crate::device::Health;
use crate::report::Report;
use crate::time::{Raw, Timestamp};

/// What a shell hands to its owner.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// When it was handed over.
    pub at: Timestamp<Raw>,
    /// What.
    pub report: Report,
    /// The driver's counters, this report included.
    pub health: Health,
}

mod comeback;
pub mod feed;
pub mod gpsd;
pub mod phc;
pub mod pps;
pub mod serial;
pub mod shm;
pub mod sock;

use std::fmt;
use std::path::Path;
use std::rc::Rc;

use crate::device::{DevicePhase, DeviceReason};

/// Gets all bytes that a shell reads, with the stamp of the last of them: for recordings.
#[derive(Clone, Default)]
pub struct Tap(Option<Rc<Hear>>);

type Hear = dyn Fn(Timestamp<Raw>, &[u8]);

impl Tap {
    /// One that hands them on.
    pub fn new(hear: impl Fn(Timestamp<Raw>, &[u8]) + 'static) -> Self {
        Self(Some(Rc::new(hear)))
    }

    fn hear(&self, at: Timestamp<Raw>, bytes: &[u8]) {
        if let Some(hear) = &self.0 {
            hear(at, bytes);
        }
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Tap" } else { "no Tap" })
    }
}

/// Why a path could not be opened.
fn explain_open(path: String, error: &std::io::Error) -> (DevicePhase, DeviceReason) {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => (DevicePhase::Absent, DeviceReason::NoSuchDevice { path }),
        Some(libc::EACCES | libc::EPERM) => {
            let remedy = crate::sys::access::remedy(Path::new(&path));
            (DevicePhase::Faulty, DeviceReason::PermissionDenied { path, remedy })
        }
        Some(libc::EBUSY) => (DevicePhase::Faulty, DeviceReason::Busy { path }),
        _ => (DevicePhase::Faulty, DeviceReason::Io { path, error: error.to_string() }),
    }
}
