//! Who gets an answer, and on what terms. Pure.
//!
//! | module | what it is |
//! |---|---|
//! | here | what may be asked: the terms for one address |
//! | [`table`] | from an address to its rule |
//! | [`restrict`] | ntpd's language: `restrict` |
//! | [`allow`] | chrony's: `allow` and `deny` |
//! | [`policy`] | either, with its host names and our own sources |
//!
//! Both languages become one table of [`Flags`]. The flags are ntpd's, which only take away; what chrony
//! denies it denies to clients, and not to servers that answer us.

pub mod allow;
pub mod policy;
pub mod restrict;
pub mod table;

use std::net::{IpAddr, SocketAddr};

use bitflags::bitflags;
use ipnet::IpNet;

pub use policy::Policy;
use table::{Rule, Table};

bitflags! {
    /// What is taken away from an address. None: it may do everything.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Flags: u16 {
        /// Nothing of it is heeded: no request, no reply to our own requests, no question.
        const IGNORE = 1;
        /// None of its time packets is heeded, replies to our own requests among them.
        const NOSERVE = 1 << 1;
        /// Its requests are not answered; its replies to our own are heeded. What chrony's `deny` means.
        const DENY = 1 << 2;
        /// Its time packets count only if they are signed.
        const NOTRUST = 1 << 3;
        /// Nobody there becomes a peer unless it signs.
        const NOPEER = 1 << 4;
        /// Nobody there becomes a peer.
        const NOEPEER = 1 << 5;
        /// Its questions about us (mode 6) are not answered.
        const NOQUERY = 1 << 6;
        /// It may change nothing.
        const NOMODIFY = 1 << 7;
        /// It is not told who our clients are.
        const NOMRULIST = 1 << 8;
        /// Its requests are limited in rate.
        const LIMITED = 1 << 9;
        /// It is told when it asks too often; means nothing without [`Flags::LIMITED`].
        const KOD = 1 << 10;
        /// Packets of another version than 4 are not heeded.
        const VERSION = 1 << 11;
        /// One in ten of its time packets is lost on purpose.
        const FLAKE = 1 << 12;
        /// Its requests in Microsoft's manner would be signed by Samba's ntp_signd, which we have not: they get
        /// a crypto-NAK, as those with any key that we do not take.
        const MSSNTP = 1 << 13;
    }
}

/// On what terms a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Only if it is signed.
    pub signed_only: bool,
    /// Only so often.
    pub limited: bool,
    /// And with a word when it is too often.
    pub kod: bool,
}

impl Flags {
    /// On what terms a request of that version is answered; `None`: not at all.
    pub const fn terms(self, version: u8) -> Option<Terms> {
        if self.intersects(Self::IGNORE.union(Self::NOSERVE).union(Self::DENY))
            || (self.contains(Self::VERSION) && version != 4)
        {
            return None;
        }
        Some(Terms {
            signed_only: self.contains(Self::NOTRUST),
            limited: self.contains(Self::LIMITED),
            kod: self.contains(Self::LIMITED.union(Self::KOD)),
        })
    }

    /// Is a reply to a request of our own heeded?
    pub const fn heeds_reply(self, version: u8, signed: bool) -> bool {
        !self.intersects(Self::IGNORE.union(Self::NOSERVE))
            && (signed || !self.contains(Self::NOTRUST))
            && (version == 4 || !self.contains(Self::VERSION))
    }

    /// May somebody there become a peer who has not been configured?
    pub const fn admits_peer(self, version: u8, signed: bool) -> bool {
        self.heeds_reply(version, signed)
            && !self.intersects(Self::DENY.union(Self::NOEPEER))
            && (signed || !self.contains(Self::NOPEER))
    }

    /// Are questions about us (mode 6) answered?
    pub const fn admits_query(self) -> bool {
        !self.intersects(Self::IGNORE.union(Self::NOQUERY))
    }
}

/// The rules in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    table: Table,
    /// For whom there is no rule.
    otherwise: Flags,
}

impl Default for Access {
    /// This machine only.
    fn default() -> Self {
        Self::from_lists([], [])
    }
}

impl Access {
    /// Rules, and what counts where none applies.
    pub fn new(rules: impl IntoIterator<Item = Rule>, otherwise: Flags) -> Self {
        Self { table: Table::new(rules), otherwise }
    }

    /// This machine and the first prefixes are answered, the second are not; the most specific wins, and
    /// what is in both is denied.
    pub fn from_lists(allow: impl IntoIterator<Item = IpNet>, deny: impl IntoIterator<Item = IpNet>) -> Self {
        let policy = Policy::lists(
            allow.into_iter().map(policy::Whom::Net).collect(),
            deny.into_iter().collect(),
            Flags::empty(),
        );
        policy.access(&policy::Known::default())
    }

    /// What is taken away from that address, which asks from that port.
    pub fn flags(&self, source: SocketAddr) -> Flags {
        self.table.find(source).unwrap_or(self.otherwise)
    }

    /// Is a client at this address answered, at least if it signs, from some port, in version 4?
    pub fn permits(&self, address: IpAddr) -> bool {
        self.flags(SocketAddr::new(address, 0)).terms(4).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    fn permits(access: &Access, address: &str) -> bool {
        access.permits(address.parse().unwrap())
    }

    #[test]
    fn what_flags_take_away() {
        // request v4, request v3, reply v4, signed reply v4, peer, signed peer, question
        let table: [(Flags, [bool; 7]); 11] = [
            (Flags::empty(), [true; 7]),
            (Flags::IGNORE, [false; 7]),
            (Flags::NOSERVE, [false, false, false, false, false, false, true]),
            (Flags::DENY, [false, false, true, true, false, false, true]),
            (Flags::NOTRUST, [true, true, false, true, false, true, true]),
            (Flags::NOPEER, [true, true, true, true, false, true, true]),
            (Flags::NOEPEER, [true, true, true, true, false, false, true]),
            (Flags::NOQUERY, [true, true, true, true, true, true, false]),
            (Flags::NOMODIFY, [true; 7]),
            (Flags::VERSION, [true, false, true, true, true, true, true]),
            (Flags::KOD, [true; 7]),
        ];
        for (flags, expected) in table {
            let found = [
                flags.terms(4).is_some(),
                flags.terms(3).is_some(),
                flags.heeds_reply(4, false),
                flags.heeds_reply(4, true),
                flags.admits_peer(4, false),
                flags.admits_peer(4, true),
                flags.admits_query(),
            ];
            assert_eq!(found, expected, "{flags:?}");
        }
        assert!(Flags::NOTRUST.terms(4).unwrap().signed_only);
        // `kod` alone means nothing.
        assert_eq!(Flags::KOD.terms(4), Flags::empty().terms(4));
        let both = (Flags::LIMITED | Flags::KOD).terms(4).unwrap();
        assert!(both.limited && both.kod);
    }

    #[test]
    fn by_default_this_machine_only() {
        let access = Access::default();
        for (address, expected) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("192.168.1.1", false),
            ("fe80::1", false),
            ("::2", false),
        ] {
            assert_eq!(permits(&access, address), expected, "{address}");
        }
    }

    #[test]
    fn of_two_lists_the_most_specific_wins() {
        let access = Access::from_lists(
            nets(&["10.0.0.0/8", "10.1.2.3/32", "fd00::/8", "::ffff:192.168.0.0/112"]),
            nets(&["10.1.0.0/16", "fd00:bad::/32"]),
        );
        for (address, expected) in [
            ("10.2.0.1", true),
            ("10.1.0.1", false),
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("fd00:1::1", true),
            ("fd00:bad::1", false),
            ("11.0.0.1", false),
            ("192.168.9.9", true),
            ("192.169.0.1", false),
        ] {
            assert_eq!(permits(&access, address), expected, "{address}");
        }
    }

    #[test]
    fn contradictions_deny_and_loopback_can_be_denied() {
        let access = Access::from_lists(nets(&["10.0.0.0/8", "127.0.0.0/8"]), nets(&["10.0.0.1/8", "127.0.0.0/8"]));
        assert!(!permits(&access, "10.0.0.1"));
        assert!(!permits(&access, "127.0.0.1"));
        assert!(permits(&access, "::1"));
        let all = Access::from_lists(nets(&["0.0.0.0/0", "::/0"]), nets(&["192.0.2.0/24"]));
        assert!(permits(&all, "8.8.8.8") && permits(&all, "2001:db8::1") && !permits(&all, "192.0.2.77"));
    }
}
