//! What the control socket and the live view look at.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::now_on;
use crate::core::snapshot::Snapshot;
use crate::ntp::counters::{Board, Totals};
use crate::ntp::hardware::{CardBoard, Cards};
use crate::ntp::monitor::Client;
use crate::ntp::served::RawMap;
use crate::observe::fed::{Fed, FedBoard};
use crate::observe::outages::{Outage, OutageBoard};
use crate::observe::{Look, Moment};

/// Reads what the daemon published, at the reader's own now.
#[derive(Clone)]
pub struct Reader {
    pub(super) published: Arc<ArcSwap<Snapshot>>,
    pub(super) raw_map: Arc<ArcSwap<RawMap>>,
    pub(super) board: Board,
    pub(super) cards: CardBoard,
    pub(super) outages: OutageBoard,
    pub(super) fed: FedBoard,
}

impl Look for Reader {
    fn served(&self) -> Option<Totals> {
        self.board.totals()
    }

    fn outages(&self) -> BTreeMap<String, Outage> {
        self.outages.read()
    }

    fn fed(&self) -> Vec<Fed> {
        self.fed.read()
    }

    fn cards(&self) -> Arc<Cards> {
        self.cards.load_full()
    }

    fn clients(&self) -> Vec<Client> {
        self.board.monitors.clients()
    }

    fn look(&self) -> (Arc<Snapshot>, Moment) {
        (self.published.load_full(), now_on(&self.raw_map.load()).into())
    }
}
