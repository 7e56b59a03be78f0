//! What the workers count. Each worker has its own set, so that counting costs no shared cache line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::monitor::Monitors;
use super::server::DropReason;

/// One worker's counters. Written by that worker, read by anyone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    received: AtomicU64,
    answered: AtomicU64,
    refused_keys: AtomicU64,
    kissed: AtomicU64,
    passed: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
    without_kernel_stamp: AtomicU64,
    stamped_by_card: AtomicU64,
    departures_by_card: AtomicU64,
    send_failed: AtomicU64,
    receive_failed: AtomicU64,
}

impl Counters {
    pub(super) fn count_received(&self, datagrams: usize) {
        self.received.fetch_add(datagrams as u64, Relaxed);
    }

    pub(super) fn count_sent(&self, sent: usize, failed: usize) {
        self.answered.fetch_add(sent as u64, Relaxed);
        if failed > 0 {
            self.send_failed.fetch_add(failed as u64, Relaxed);
        }
    }

    pub(super) fn count_refused_key(&self) {
        self.refused_keys.fetch_add(1, Relaxed);
    }

    pub(super) fn count_kissed(&self) {
        self.kissed.fetch_add(1, Relaxed);
    }

    pub(super) fn count_passed(&self) {
        self.passed.fetch_add(1, Relaxed);
    }

    pub(super) fn count_dropped(&self, reason: DropReason) {
        if let Some(counter) = self.dropped.get(reason as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn count_without_kernel_stamp(&self) {
        self.without_kernel_stamp.fetch_add(1, Relaxed);
    }

    pub(super) fn count_stamped_by_card(&self) {
        self.stamped_by_card.fetch_add(1, Relaxed);
    }

    pub(super) fn count_departure_by_card(&self) {
        self.departures_by_card.fetch_add(1, Relaxed);
    }

    pub(super) fn count_receive_failed(&self) {
        self.receive_failed.fetch_add(1, Relaxed);
    }
}

/// The counters of all workers of a server, by their own handle: control and metrics read them here.
#[derive(Clone, Debug)]
pub struct CounterSet(Arc<[Arc<Counters>]>);

impl CounterSet {
    pub(super) fn new(counters: impl IntoIterator<Item = Arc<Counters>>) -> Self {
        Self(counters.into_iter().collect())
    }
}

/// What all servers on every address have to tell.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// The counters of all there are and were.
    counters: Arc<Mutex<Vec<CounterSet>>>,
    /// Who has asked those there are.
    pub monitors: Monitors,
}

impl Board {
    pub(super) fn add(&self, counters: CounterSet) {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).push(counters);
    }

    /// All counts together; `None` if nothing was ever served.
    pub fn totals(&self) -> Option<Totals> {
        let sets = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<_> = sets.iter().flat_map(|set| set.0.iter().cloned()).collect();
        (!all.is_empty()).then(|| CounterSet(all.into()).totals())
    }
}

impl CounterSet {
    /// All workers' counts together.
    pub fn totals(&self) -> Totals {
        let sum = |of: &dyn Fn(&Counters) -> &AtomicU64| self.0.iter().map(|worker| of(worker).load(Relaxed)).sum();
        let dropped = |reason: DropReason| {
            self.0.iter().filter_map(|w| w.dropped.get(reason as usize)).map(|c| c.load(Relaxed)).sum()
        };
        Totals {
            received: sum(&|c| &c.received),
            answered: sum(&|c| &c.answered),
            refused_keys: sum(&|c| &c.refused_keys),
            kissed: sum(&|c| &c.kissed),
            passed: sum(&|c| &c.passed),
            dropped: Dropped {
                denied: dropped(DropReason::Denied),
                malformed: dropped(DropReason::Malformed),
                version: dropped(DropReason::Version),
                not_a_request: dropped(DropReason::NotARequest),
                bad_source: dropped(DropReason::BadSource),
                not_signed: dropped(DropReason::NotSigned),
                limited: dropped(DropReason::Limited),
                flaked: dropped(DropReason::Flaked),
                not_spoken: dropped(DropReason::NotSpoken),
            },
            without_kernel_stamp: sum(&|c| &c.without_kernel_stamp),
            stamped_by_card: sum(&|c| &c.stamped_by_card),
            departures_by_card: sum(&|c| &c.departures_by_card),
            send_failed: sum(&|c| &c.send_failed),
            receive_failed: sum(&|c| &c.receive_failed),
        }
    }
}

/// Counts since the server's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Datagrams that came.
    pub received: u64,
    /// Replies handed to the kernel.
    pub answered: u64,
    /// Of these, those that say: your key is not one of ours, or your digest is wrong.
    pub refused_keys: u64,
    /// Of these, those that say: ask less.
    pub kissed: u64,
    /// Datagrams that were handed to the main thread.
    pub passed: u64,
    /// Datagrams that got no answer.
    pub dropped: Dropped,
    /// Requests whose kernel receive stamp was missing or not credible; a user stamp stood in.
    pub without_kernel_stamp: u64,
    /// Requests whose arrival the network card stamped.
    #[serde(default)]
    pub stamped_by_card: u64,
    /// Replies to interleaved clients of which the network card said when they left.
    #[serde(default)]
    pub departures_by_card: u64,
    /// Replies the kernel would not take.
    pub send_failed: u64,
    /// Failed receive calls.
    pub receive_failed: u64,
}

/// Datagrams without an answer, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The access list says no.
    pub denied: u64,
    /// Not an NTP packet.
    pub malformed: u64,
    /// A version before 1 or after 4.
    pub version: u64,
    /// A reply, which must never be answered, or a mode without a meaning.
    pub not_a_request: u64,
    /// From an address or port that no reply can go to.
    pub bad_source: u64,
    /// Not signed, where only the signed are answered.
    pub not_signed: u64,
    /// Of clients that ask too often.
    pub limited: u64,
    /// Lost on purpose (`flake`).
    #[serde(default)]
    pub flaked: u64,
    /// Of a mode that is not answered, and that nobody wants.
    #[serde(default)]
    pub not_spoken: u64,
}
