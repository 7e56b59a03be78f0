//! The shells: each owns one device, feeds its parser, and comes back when the device does.
//!
//! A shell is one `async fn run(config, sink)` that never returns. It holds no opinion of what it
//! delivers; dropping its future closes the device. All shells of a process share one
//! `current_thread` runtime.

use serde::{Deserialize, Serialize};

use crate::device::Health;
use crate::phc::{Event, Reading};
use crate::pps::PpsInfo;
use crate::report::Report;
use crate::shm::Segment;
use crate::sys::clock::Bracket;
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

/// Gets all that a shell sees of its device, before anything is made of it: for recordings.
#[derive(Clone, Default)]
pub struct Tap(Option<Rc<See>>);

type See = dyn Fn(Seen<'_>);

/// What a shell sees of its device.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen<'a> {
    /// Bytes that came, or one datagram, with the stamp of the last of them.
    Bytes(Timestamp<Raw>, &'a [u8]),
    /// A look at the device.
    Look(Bracket, Look),
}

/// What there is to see at one look at a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// What the kernel knows of the last edges.
    Pulse(PpsInfo),
    /// A copy of a shared memory segment in which a sample waits, and its count read once more after it.
    Segment(Segment, i32),
    /// A hardware clock beside the system's.
    Clock(Reading),
    /// A hardware clock beside the system's, and the edges that its inputs have seen.
    Input(Reading, Vec<Event>),
}

impl Tap {
    /// One that hands it on.
    pub fn new(see: impl Fn(Seen<'_>) + 'static) -> Self {
        Self(Some(Rc::new(see)))
    }

    fn hear(&self, at: Timestamp<Raw>, bytes: &[u8]) {
        if let Some(see) = &self.0 {
            see(Seen::Bytes(at, bytes));
        }
    }

    fn look(&self, at: &Bracket, look: impl FnOnce() -> Look) {
        if let Some(see) = &self.0 {
            see(Seen::Look(*at, look()));
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
