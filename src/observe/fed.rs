//! Daemons that are told what we know, as their readers see them: a board that the teller writes on and
//! anybody reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use refclocks::DeviceReason;
use refclocks::time::{Raw, Timestamp};

/// One that is told.
#[derive(Clone, Debug)]
pub struct Fed {
    /// The segment or socket.
    pub address: String,
    /// The pulse that is told; `None`: our own clock.
    pub source: Option<String>,
    /// Why it could not be told the last time, if so; `None`: nothing was to be told yet.
    pub state: Option<Result<(), DeviceReason>>,
    /// What was told so far.
    pub tellings: Tellings,
}

/// How often something was told, and when last.
#[derive(Clone, Debug, Default)]
pub struct Tellings(Arc<(AtomicU64, AtomicI64)>);

impl Tellings {
    /// Once more.
    pub fn count(&self, at: Timestamp<Raw>) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        self.0.1.store(at.to_nanos(), Ordering::Relaxed);
    }

    /// How often.
    pub fn total(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }

    /// When last.
    pub fn last(&self) -> Option<Timestamp<Raw>> {
        (self.total() > 0).then(|| Timestamp::from_nanos(self.0.1.load(Ordering::Relaxed)))
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct FedBoard(Arc<ArcSwap<Vec<Fed>>>);

impl FedBoard {
    /// Puts others in place of what stands there.
    pub fn write(&self, all: Vec<Fed>) {
        self.0.store(Arc::new(all));
    }

    /// Reads it.
    pub fn read(&self) -> Vec<Fed> {
        self.0.load().to_vec()
    }
}
