//! What a reader gets to see, made from a snapshot.

pub mod fed;
pub mod outages;
pub mod plain;
pub mod report;

use std::collections::BTreeMap;
use std::sync::Arc;

use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Realtime, Timestamp};

use crate::core::snapshot::Snapshot;
use crate::ntp::counters::Totals;
use crate::ntp::hardware::Cards;
use crate::ntp::monitor::Client;
use fed::Fed;
use outages::Outage;

/// The reader's now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// On the raw scale of the snapshot.
    pub raw: Timestamp<Raw>,
    /// The kernel's CLOCK_REALTIME at that instant, where somebody read it.
    pub system: Option<Timestamp<Realtime>>,
}

impl From<Timestamp<Raw>> for Moment {
    fn from(raw: Timestamp<Raw>) -> Self {
        Self { raw, system: None }
    }
}

impl From<Bracket> for Moment {
    fn from(bracket: Bracket) -> Self {
        let half = refclocks::Span::from_seconds((bracket.raw_after - bracket.raw_before).seconds() / 2.0);
        Self { raw: bracket.raw_before + half, system: Some(bracket.realtime) }
    }
}

/// Where a reader looks: the latest snapshot, and the reader's now on that snapshot's scale.
pub trait Look {
    /// Looks.
    fn look(&self) -> (Arc<Snapshot>, Moment);

    /// What came on the NTP port, where it is served.
    fn served(&self) -> Option<Totals> {
        None
    }

    /// Where nobody is answered although somebody ought to be, and why.
    fn outages(&self) -> BTreeMap<String, Outage> {
        BTreeMap::new()
    }

    /// Who is told what we know.
    fn fed(&self) -> Vec<Fed> {
        Vec::new()
    }

    /// The network cards that are to stamp packets.
    fn cards(&self) -> Arc<Cards> {
        Arc::default()
    }

    /// Who has asked there.
    fn clients(&self) -> Vec<Client> {
        Vec::new()
    }
}

impl<F: Fn() -> (Arc<Snapshot>, Moment)> Look for F {
    fn look(&self) -> (Arc<Snapshot>, Moment) {
        self()
    }
}
