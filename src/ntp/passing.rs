//! Strangers on their way from the workers to the main thread: packets between peers, signed as the operator wants it, of
//! those whom nobody has configured. A bounded ring.
//!
//! Workers pass on only what somebody wants, what is signed and what repeats a stamp of a moment ago: a stranger's first
//! packet is answered like a client's, and its second is the first that shows that it has heard us. So a flood of anything
//! else, records of signed packets among it, ends with the workers. They never wait: what finds the ring full is answered by
//! the worker, as a packet that nobody wants is.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use refclocks::time::{NtpTimestamp, Raw, Timestamp};
use tokio::sync::mpsc;

use super::access::Flags;
use super::keys::{KEY_ID_LEN, KeyTable, Verdict};
use super::packet::{FirstOctet, Mode, Packet};

/// Datagrams that may wait for the main thread.
const ROOM: usize = 128;

/// A stranger's packet in symmetric active mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The datagram.
    pub octets: Box<[u8]>,
    /// Whose it is, or whose it says to be.
    pub source: SocketAddr,
    /// Our address it was sent to.
    pub local: SocketAddr,
    /// The key that it is signed with.
    pub key: u32,
    /// When it came: the kernel's stamp, on this machine's raw scale.
    pub arrived: Timestamp<Raw>,
}

/// Whose packets are passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of those who sign with one of these keys; without any, nobody's.
    pub keys: BTreeSet<u32>,
    /// Of nobody there: they are known.
    pub known: BTreeSet<IpAddr>,
}

impl Wanted {
    /// The key of a packet that is passed on. It came from there, when our clock read `now`.
    pub(super) fn key_of(
        &self,
        octets: &[u8],
        (from, flags): (SocketAddr, Flags),
        keys: &KeyTable,
        now: NtpTimestamp,
    ) -> Option<u32> {
        let first = FirstOctet(*octets.first()?);
        if first.mode() != Mode::SymmetricActive
            || self.keys.is_empty()
            || self.known.contains(&from.ip().to_canonical())
        {
            return None;
        }
        if !flags.admits_peer(first.version(), true) {
            return None;
        }
        let packet = Packet::new_checked(octets).ok()?;
        if !is_recent(packet.origin(), packet.poll(), now) {
            return None;
        }
        let tail = packet.tail().ok()?;
        if tail.mac().len() < KEY_ID_LEN {
            return None;
        }
        let covered = octets.get(..octets.len() - tail.mac().len())?;
        match keys.judge(tail.authenticator(), covered, from.ip()) {
            Verdict::Signed(key) => Some(key.id()).filter(|id| self.keys.contains(id)),
            Verdict::Unsigned | Verdict::Wrong => None,
        }
    }
}

/// May that be when our last answer left, for one that sends every 2^poll s?
fn is_recent(origin: NtpTimestamp, poll: i8, now: NtpTimestamp) -> bool {
    let longest = 3 << poll.clamp(4, 12);
    // In units of 2^-32 s; our clock may be moved a little meanwhile.
    let elapsed = now.0.wrapping_sub(origin.0) as i64 >> 32;
    origin != NtpTimestamp::UNKNOWN && (-2..longest).contains(&elapsed)
}

/// The workers' end of the ring.
#[derive(Clone, Debug)]
pub struct Ring {
    wanted: Arc<ArcSwap<Wanted>>,
    sender: mpsc::Sender<Passed>,
}

/// A ring, of which nothing is wanted yet, and the end where the main thread takes out.
pub fn ring() -> (Ring, mpsc::Receiver<Passed>) {
    let (sender, receiver) = mpsc::channel(ROOM);
    (Ring { wanted: Arc::default(), sender }, receiver)
}

impl Ring {
    /// From now on that is wanted, and nothing else.
    pub fn want(&self, wanted: Wanted) {
        if **self.wanted.load() != wanted {
            self.wanted.store(Arc::new(wanted));
        }
    }

    /// What is wanted.
    pub(super) fn wanted(&self) -> Guard<Arc<Wanted>> {
        self.wanted.load()
    }

    /// Passes on what `make` makes. `false`: there is no room, or nobody takes anything out any more.
    pub(super) fn pass(&self, make: impl FnOnce() -> Passed) -> bool {
        self.sender.try_reserve().map(|room| room.send(make())).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntp::keys::{Algorithm, Key};
    use crate::ntp::packet::Header;

    const SOURCE: &str = "192.0.2.1:123";
    const NOW: NtpTimestamp = NtpTimestamp(0xee00_0000_8000_0000);

    fn table() -> KeyTable {
        KeyTable::new([5, 6].map(|id| Key::new(id, Algorithm::Aes128Cmac, &[id as u8; 16]).unwrap()))
    }

    fn signed(mode: Mode, key: u32) -> Vec<u8> {
        told(mode, key, NtpTimestamp(NOW.0 - (20 << 32)))
    }

    fn told(mode: Mode, key: u32, origin: NtpTimestamp) -> Vec<u8> {
        let header = Header { mode, origin, poll: 6, ..Header::request(4, NtpTimestamp(1)) };
        let mut octets = [0; 128];
        octets[..48].copy_from_slice(&header.to_octets());
        let len = table().get(key).map_or(Some(48), |key| key.sign(&mut octets, 48, 16)).unwrap();
        octets[..len].to_vec()
    }

    #[test]
    fn only_the_signed_are_passed_on_whom_somebody_wants() {
        let wanted = Wanted { keys: [5].into(), known: ["192.0.2.9".parse().unwrap()].into() };
        let key_of =
            |octets: &[u8], from: &str, flags| wanted.key_of(octets, (from.parse().unwrap(), flags), &table(), NOW);
        let (good, none) = (signed(Mode::SymmetricActive, 5), Flags::empty());
        assert_eq!(key_of(&good, SOURCE, none), Some(5));
        assert_eq!(key_of(&good, SOURCE, Flags::NOPEER | Flags::NOTRUST), Some(5), "the signed may");
        for flags in [Flags::NOEPEER, Flags::DENY, Flags::NOSERVE, Flags::IGNORE] {
            assert_eq!(key_of(&good, SOURCE, flags), None);
        }
        assert_eq!(key_of(&good, "[::ffff:192.0.2.9]:123", none), None);
        for other in [
            signed(Mode::SymmetricActive, 6),
            signed(Mode::SymmetricActive, 7),
            signed(Mode::SymmetricPassive, 5),
            signed(Mode::Client, 5),
            good[..48].to_vec(),
            good[..60].to_vec(),
            Vec::new(),
        ] {
            assert_eq!(key_of(&other, SOURCE, none), None, "{other:?}");
        }
        let mut forged = good.clone();
        forged[40] ^= 1;
        assert_eq!(key_of(&forged, SOURCE, none), None);
        assert_eq!(Wanted::default().key_of(&good, (SOURCE.parse().unwrap(), none), &table(), NOW), None);
    }

    #[test]
    fn a_stranger_has_to_have_heard_us_a_moment_ago() {
        let wanted = Wanted { keys: [5].into(), ..Wanted::default() };
        for (ago, expected) in [(0i64, true), (-2, true), (-3, false), (191, true), (192, false), (86_400, false)] {
            let origin = NtpTimestamp(NOW.0.wrapping_sub((ago << 32) as u64));
            let packet = told(Mode::SymmetricActive, 5, origin);
            let from = (SOURCE.parse().unwrap(), Flags::empty());
            assert_eq!(wanted.key_of(&packet, from, &table(), NOW).is_some(), expected, "{ago} s ago");
        }
        let first = told(Mode::SymmetricActive, 5, NtpTimestamp::UNKNOWN);
        assert_eq!(wanted.key_of(&first, (SOURCE.parse().unwrap(), Flags::empty()), &table(), NtpTimestamp(1)), None);
    }

    #[test]
    fn a_full_ring_drops_and_goes_on() {
        let (ring, mut taken) = ring();
        let passed = |octet: u8| Passed {
            octets: Box::new([octet]),
            source: SOURCE.parse().unwrap(),
            local: "192.0.2.2:123".parse().unwrap(),
            key: 5,
            arrived: Timestamp::EPOCH,
        };
        let room = (0..=255).take_while(|octet| ring.pass(|| passed(*octet))).count();
        assert_eq!(room, ROOM);
        assert_eq!(taken.try_recv().unwrap().octets[0], 0);
        assert!(ring.pass(|| passed(255)) && !ring.pass(|| passed(0)));
        drop(taken);
        assert!(!ring.pass(|| passed(0)));
    }
}
