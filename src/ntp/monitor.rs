//! Who has asked: a table of fixed size for each worker, which it alone writes and anyone may read.
//! Neither waits for the other: an entry has a number that is odd while it is written (a seqlock), and a
//! reader that met it tries again.
//!
//! An entry is one cache line. A client is a whole address here, other than in [`limit`](super::limit).
//! Of strangers there is no end, for addresses can be forged: those that came once make room first, so
//! that a flood of them leaves the clients that come again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;
use refclocks::time::{Raw, Span, Timestamp};

/// Clients in a table, unless told otherwise: 1 MiB.
pub const USUAL_CLIENTS: usize = 1 << 14;

/// Places where one client may be.
const WAYS: usize = 4;

/// Somebody who has come again keeps the place before strangers for so long.
const LOYAL: Span = Span::from_whole_seconds(4 * 3600);

/// A datagram that came from somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// From where.
    pub source: SocketAddr,
    /// When, on the snapshot's raw scale.
    pub at: Timestamp<Raw>,
    /// Its mode, 0 to 7.
    pub mode: u8,
    /// Its version, 0 to 7.
    pub version: u8,
    /// It got no answer.
    pub dropped: bool,
    /// It was one too many, answered with a kiss code or not at all.
    pub limited: bool,
}

/// What is known of somebody who has asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Client {
    /// Who.
    pub address: IpAddr,
    /// From which port last.
    pub port: u16,
    /// When first, on the snapshot's raw scale.
    pub first: Timestamp<Raw>,
    /// When last.
    pub last: Timestamp<Raw>,
    /// Datagrams that came.
    pub count: u64,
    /// Of these, those that got no answer.
    pub dropped: u32,
    /// Those that were too many.
    pub limited: u32,
    /// Mode of the last one, 0 to 7.
    pub mode: u8,
    /// Version of the last one, 0 to 7.
    pub version: u8,
    /// How far apart the last ones were: a moving average over about eight. `None` for one alone.
    pub interval: Option<Span>,
}

impl Client {
    /// How far apart they were from the first to the last, on the average.
    pub fn average_interval(&self) -> Option<Span> {
        let gaps = i64::try_from(self.count).ok()?.checked_sub(1).filter(|gaps| *gaps > 0)?;
        Some(Span::from_nanos((self.last - self.first).nanos() / gaps))
    }

    /// The same client at two workers.
    fn merge(&mut self, other: &Self) {
        let (older, newer) = if self.last <= other.last { (*self, *other) } else { (*other, *self) };
        *self = Self {
            first: older.first.min(newer.first),
            count: self.count.saturating_add(other.count),
            dropped: self.dropped.saturating_add(other.dropped),
            limited: self.limited.saturating_add(other.limited),
            ..newer
        };
    }
}

/// An entry: a sequence number, and seven words of which the first is nought while nobody is there.
///
/// | word | |
/// |---|---|
/// | 0, 1 | address as IPv6 |
/// | 2, 3 | first and last, raw, ns |
/// | 4 | count (42 bits), version (3), mode (3), port (16) |
/// | 5 | dropped, limited (32 each) |
/// | 6 | moving average of the intervals, ns; nought: none yet |
#[derive(Debug, Default)]
#[repr(align(64))]
struct Entry {
    sequence: AtomicU64,
    words: [AtomicU64; 7],
}

type Words = [u64; 7];

/// How often a reader tries to find an entry at rest.
const PATIENCE: usize = 64;

impl Entry {
    /// As it is. For its writer, whom nobody disturbs.
    fn words(&self) -> Words {
        self.words.each_ref().map(|word| word.load(Ordering::Relaxed))
    }

    fn write(&self, words: Words) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// As it was at one moment. For anybody; `None` if its writer is always busy with it.
    fn read(&self) -> Option<Words> {
        (0..PATIENCE).find_map(|_| {
            let before = self.sequence.load(Ordering::Acquire);
            let words = self.words();
            fence(Ordering::Acquire);
            let after = self.sequence.load(Ordering::Relaxed);
            std::hint::spin_loop();
            (before == after && before & 1 == 0).then_some(words)
        })
    }
}

const MOST: u64 = (1 << 42) - 1;

const fn count_in(form: u64) -> u64 {
    form >> 22
}

fn form_of(visit: &Visit, count: u64) -> u64 {
    let form = u64::from(visit.version & 7) << 3 | u64::from(visit.mode & 7);
    count.min(MOST) << 22 | form << 16 | u64::from(visit.source.port())
}

fn refused_also(visit: &Visit, refused: u64) -> u64 {
    let dropped = ((refused >> 32) as u32).saturating_add(visit.dropped.into());
    let limited = (refused as u32).saturating_add(visit.limited.into());
    u64::from(dropped) << 32 | u64::from(limited)
}

fn unpacked([high, low, first, last, form, refused, interval]: Words) -> Client {
    let ip = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
    Client {
        address: IpAddr::V6(ip).to_canonical(),
        port: form as u16,
        first: Timestamp::from_nanos(first as i64),
        last: Timestamp::from_nanos(last as i64),
        count: count_in(form),
        dropped: (refused >> 32) as u32,
        limited: refused as u32,
        mode: (form >> 16) as u8 & 7,
        version: (form >> 19) as u8 & 7,
        interval: (interval != 0).then(|| Span::from_nanos(interval as i64)),
    }
}

fn halves(address: IpAddr) -> [u64; 2] {
    let bits = match address {
        IpAddr::V4(ip) => u128::from(ip.to_ipv6_mapped()),
        IpAddr::V6(ip) => u128::from(ip),
    };
    [(bits >> 64) as u64, bits as u64]
}

/// Those that have asked one worker.
#[derive(Debug)]
pub struct Monitor<S = RandomState> {
    room: usize,
    /// Made when somebody comes.
    sets: OnceLock<Box<[[Entry; WAYS]]>>,
    hasher: S,
}

impl Monitor {
    /// A table for that many clients; for none, nobody is remembered.
    pub fn new(clients: usize) -> Self {
        Self::seeded(clients, RandomState::new())
    }
}

impl<S: BuildHasher> Monitor<S> {
    /// A table for that many clients; `hasher` settles who shares a place.
    pub fn seeded(clients: usize, hasher: S) -> Self {
        Self { room: clients, sets: OnceLock::new(), hasher }
    }

    /// Makes the table, if that has not been done yet: not while a client waits.
    pub fn make(&self) {
        self.sets.get_or_init(|| {
            let sets = if self.room == 0 { 0 } else { self.room.div_ceil(WAYS).next_power_of_two() };
            (0..sets).map(|_| Default::default()).collect()
        });
    }

    /// A datagram came. For its only writer.
    pub fn note(&self, visit: &Visit) {
        let Some(sets) = self.sets.get() else { return };
        let address = halves(visit.source.ip());
        let place = self.hasher.hash_one(address) as usize & sets.len().wrapping_sub(1);
        let Some(set) = sets.get(place) else { return };
        let now = visit.at.to_nanos();
        let is_known = |entry: &&Entry| {
            let [high, low, .., form, _, _] = entry.words();
            [high, low] == address && count_in(form) != 0
        };
        if let Some(entry) = set.iter().find(is_known) {
            let [high, low, first, last, form, refused, mean] = entry.words();
            let gap = now.saturating_sub(last as i64).max(0);
            let mean = if mean == 0 { gap } else { mean as i64 + (gap - mean as i64) / 8 };
            entry.write([
                high,
                low,
                first,
                now.max(last as i64) as u64,
                form_of(visit, count_in(form) + 1),
                refused_also(visit, refused),
                mean.max(1) as u64,
            ]);
            return;
        }
        // An empty place, or who came once only, or who has been away; of these whoever was silent longest.
        let keeps = |entry: &&Entry| {
            let [.., last, form, _, _] = entry.words();
            let loyal = count_in(form) > 1 && now.saturating_sub(last as i64) < LOYAL.nanos();
            (count_in(form) > 0, loyal, last as i64)
        };
        if let Some(entry) = set.iter().min_by_key(keeps) {
            let [high, low] = address;
            entry.write([high, low, now as u64, now as u64, form_of(visit, 1), refused_also(visit, 0), 0]);
        }
    }

    /// All that are there now. For anybody.
    pub fn clients(&self) -> Vec<Client> {
        let entries = self.sets.get().into_iter().flatten().flatten();
        entries.filter_map(Entry::read).map(unpacked).filter(|client| client.count > 0).collect()
    }
}

/// The tables of all who answer, on every address.
#[derive(Clone, Debug)]
pub struct Monitors(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    room: usize,
    tables: Vec<Weak<ArcSwap<Monitor>>>,
}

impl Default for Monitors {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner { room: USUAL_CLIENTS, tables: Vec::new() })))
    }
}

impl Monitors {
    /// A table for one who answers. It is forgotten when nobody writes in it any more.
    pub(super) fn open(&self) -> Arc<ArcSwap<Monitor>> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let table = Arc::new(ArcSwap::from_pointee(Monitor::new(inner.room)));
        inner.tables.retain(|table| table.strong_count() > 0);
        inner.tables.push(Arc::downgrade(&table));
        table
    }

    /// Each table is for that many clients from now on. If that is another number, all are forgotten.
    pub fn set_room(&self, clients: usize) {
        let differs = {
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut inner.room, clients) != clients
        };
        if differs {
            self.forget();
        }
    }

    /// Forgets everybody: other tables take the places of those that are there.
    pub fn forget(&self) {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for table in inner.tables.iter().filter_map(Weak::upgrade) {
            table.store(Arc::new(Monitor::new(inner.room)));
        }
    }

    /// Everybody who is known, each once, in no order.
    pub fn clients(&self) -> Vec<Client> {
        let tables: Vec<_> = {
            let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            inner.tables.iter().filter_map(Weak::upgrade).collect()
        };
        let mut known: HashMap<IpAddr, Client> = HashMap::new();
        for client in tables.iter().flat_map(|table| table.load().clients()) {
            known.entry(client.address).and_modify(|other| other.merge(&client)).or_insert(client);
        }
        known.into_values().collect()
    }
}

#[cfg(test)]
#[path = "monitor_tests.rs"]
mod tests;
