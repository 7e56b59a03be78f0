//! What is not the workers' business, on its way to the main thread: packets of peers, broadcasts,
//! questions about us. A bounded ring, which drops what it has no room for.
//!
//! Workers pass on only what somebody wants, so that a flood of anything else ends with them. They never
//! wait: what finds the ring full is counted as overrun and forgotten.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use refclocks::time::{Raw, Timestamp};
use tokio::sync::mpsc;

use super::access::Flags;
use super::packet::Mode;

/// Datagrams that may wait for the main thread.
const ROOM: usize = 128;

/// A datagram for the main thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Its mode; all else in it is unchecked.
    pub mode: Mode,
    /// The datagram.
    pub octets: Box<[u8]>,
    /// Whose it is, or whose it says to be.
    pub source: SocketAddr,
    /// Our address it was sent to.
    pub local: Option<IpAddr>,
    /// When it came: the kernel's stamp, on this machine's raw scale.
    pub arrived: Timestamp<Raw>,
    /// What is taken away from them; whoever takes it in has to heed that.
    pub flags: Flags,
}

/// What is passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Symmetric modes of these. A mode-1 packet of anybody else is answered by the worker, like a client's.
    pub peers: BTreeSet<IpAddr>,
    /// Broadcasts, of anybody.
    pub broadcasts: bool,
    /// Control and private modes, of anybody.
    pub questions: bool,
}

impl Wanted {
    /// Is a packet of that mode, from there, passed on?
    pub fn wants(&self, mode: Mode, source: IpAddr) -> bool {
        match mode {
            Mode::SymmetricActive | Mode::SymmetricPassive => self.peers.contains(&source.to_canonical()),
            Mode::Broadcast => self.broadcasts,
            Mode::Control | Mode::Private => self.questions,
            Mode::Reserved | Mode::Client | Mode::Server => false,
        }
    }
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
        self.wanted.store(Arc::new(wanted));
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

    fn passed(octet: u8) -> Passed {
        Passed {
            mode: Mode::Broadcast,
            octets: Box::new([octet]),
            source: "192.0.2.1:123".parse().unwrap(),
            local: None,
            arrived: Timestamp::EPOCH,
            flags: Flags::empty(),
        }
    }

    #[test]
    fn only_what_is_wanted_is_passed_on() {
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let modes = [Mode::SymmetricActive, Mode::SymmetricPassive, Mode::Broadcast, Mode::Control, Mode::Private];
        assert!(modes.iter().all(|mode| !Wanted::default().wants(*mode, one)));
        let wanted = Wanted { peers: [one].into(), broadcasts: true, questions: true };
        assert!(modes.iter().all(|mode| wanted.wants(*mode, one)));
        assert_eq!(modes.map(|mode| wanted.wants(mode, other)), [false, false, true, true, true]);
        assert!(wanted.wants(Mode::SymmetricActive, "::ffff:192.0.2.1".parse().unwrap()));
        assert!([Mode::Reserved, Mode::Client, Mode::Server].iter().all(|mode| !wanted.wants(*mode, one)));
    }

    #[test]
    fn a_full_ring_drops_and_goes_on() {
        let (ring, mut taken) = ring();
        let room = (0..=255).take_while(|octet| ring.pass(|| passed(*octet))).count();
        assert_eq!(room, ROOM);
        assert_eq!(taken.try_recv().unwrap().octets[0], 0);
        assert!(ring.pass(|| passed(255)) && !ring.pass(|| passed(0)));
        drop(taken);
        assert!(!ring.pass(|| passed(0)));
    }
}
