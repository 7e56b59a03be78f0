//! What the workers read of the rest of the daemon: handles to values that are replaced as a whole.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use refclocks::time::{Raw, Span, Timestamp};

use super::access::Access;
use super::counters::Board;
use super::hardware::CardBoard;
use super::keys::KeyTable;
use super::limit::Limits;
use super::passing::{self, Ring};
use super::peer_door::PeerDoor;
use super::smear::{Smear, Spread};
use crate::core::snapshot::Snapshot;
use crate::sys::ports::Ports;

/// The handles. Each is loaded once a batch; none is ever written from here.
#[derive(Clone, Debug)]
pub struct Served {
    /// The clock and what to say of it.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// From this machine's raw scale to the snapshot's.
    pub raw_map: Arc<ArcSwap<RawMap>>,
    /// Who is answered.
    pub access: Arc<ArcSwap<Access>>,
    /// How often, those whose rate is limited; `None`: nobody's is.
    pub limits: Arc<ArcSwapOption<Limits>>,
    /// Where those who answer write up what they count.
    pub board: Board,
    /// How leap seconds are spread in the time that is served; `None`: it is UTC.
    pub smear: Option<Smear>,
    /// How the leap second is spread that was heard of too late for that.
    pub late: Arc<ArcSwapOption<Spread>>,
    /// By which keys requests may be signed.
    pub keys: Arc<ArcSwap<KeyTable>>,
    /// The network cards that stamp what comes and leaves.
    pub cards: CardBoard,
    /// The sockets that are bound to our port.
    pub ports: Ports,
    /// Where the requests of peers come in.
    pub door: PeerDoor,
    /// What is not theirs goes here.
    pub ring: Ring,
}

impl Served {
    /// A snapshot of this machine's own oscillator, served to those the list permits.
    pub fn new(snapshot: Arc<ArcSwap<Snapshot>>, access: Access) -> Self {
        Self {
            snapshot,
            raw_map: Arc::new(ArcSwap::from_pointee(RawMap::IDENTITY)),
            access: Arc::new(ArcSwap::from_pointee(access)),
            limits: Arc::default(),
            board: Board::default(),
            smear: None,
            late: Arc::default(),
            keys: Arc::default(),
            cards: CardBoard::default(),
            ports: Ports::default(),
            door: PeerDoor::default(),
            ring: passing::ring().0,
        }
    }
}

/// From this machine's CLOCK_MONOTONIC_RAW to the raw scale of the snapshot:
/// `raw + (host - self.host) * (1 + rate)`. The two differ only where the oscillator that the
/// snapshot speaks of is a simulated one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawMap {
    /// An instant on this machine's raw scale.
    pub host: Timestamp<Raw>,
    /// The same instant on the snapshot's.
    pub raw: Timestamp<Raw>,
    /// How much faster than this machine's oscillator the snapshot's runs, s/s.
    pub rate: f64,
}

impl RawMap {
    /// They are the same.
    pub const IDENTITY: Self = Self { host: Timestamp::EPOCH, raw: Timestamp::EPOCH, rate: 0.0 };

    /// The snapshot's raw instant for one of this machine's. Exact to 2^-64 s for the identity; else
    /// the product of rate and distance is rounded as a float, so keep `host` within hours of now.
    pub fn apply(&self, host: Timestamp<Raw>) -> Timestamp<Raw> {
        let elapsed = host - self.host;
        self.raw + elapsed + Span::from_seconds(elapsed.seconds() * self.rate)
    }
}

impl Default for RawMap {
    fn default() -> Self {
        Self::IDENTITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_changes_nothing() {
        let at = Timestamp::from_bits(123_456, 0x0123_4567_89ab_cdef);
        assert_eq!(RawMap::IDENTITY.apply(at), at);
    }

    #[test]
    fn another_oscillator_drifts() {
        let map = RawMap { host: Timestamp::from_parts(1000, 0), raw: Timestamp::from_parts(5, 0), rate: 50e-6 };
        let there = map.apply(Timestamp::from_parts(1100, 0));
        assert_eq!((there - Timestamp::from_parts(105, 0)).nanos(), 5_000_000);
    }
}
