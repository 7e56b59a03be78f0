//! From an address to its rule, in the order in which ntpd looks for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::Flags;
use crate::ntp::NTP_PORT;

/// Some addresses: those that are `address` where `mask` has ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Matching {
    /// The addresses of IPv4, or those of IPv6?
    v4: bool,
    address: u128,
    mask: u128,
}

/// A rule: for these addresses, if they ask from that port, these flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For whom.
    pub matching: Matching,
    /// Only for packets from port 123.
    pub ntpport: bool,
    /// What is taken away.
    pub flags: Flags,
}

impl Matching {
    /// The addresses under a prefix. IPv4 in IPv6's clothes (`::ffff:192.0.2.0/120`) is IPv4.
    pub fn net(net: IpNet) -> Self {
        let v6_bits = |length: u8| u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        match net.trunc() {
            IpNet::V4(v4) => Self::masked(
                IpAddr::V4(v4.addr()),
                IpAddr::V4(Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(v4.prefix_len())).unwrap_or(0))),
            ),
            IpNet::V6(v6) => match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
                (Some(inner), Some(length)) => {
                    let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                    Self::masked(IpAddr::V4(inner), IpAddr::V4(mask.into()))
                }
                _ => Self::masked(IpAddr::V6(v6.addr()), IpAddr::V6(Ipv6Addr::from(v6_bits(v6.prefix_len())))),
            },
        }
    }

    /// One address.
    pub fn host(address: IpAddr) -> Self {
        Self::net(IpNet::from(address.to_canonical()))
    }

    /// An address and a mask of the same family; host bits of the address are cleared. With a mask of
    /// the other family, one address.
    pub fn masked(address: IpAddr, mask: IpAddr) -> Self {
        let number = |ip| match ip {
            IpAddr::V4(ip) => u128::from(u32::from(ip)),
            IpAddr::V6(ip) => u128::from(ip),
        };
        if address.is_ipv4() != mask.is_ipv4() {
            return Self::host(address);
        }
        let (address, mask, v4) = (number(address), number(mask), address.is_ipv4());
        Self { v4, address: address & mask, mask }
    }

    /// Everybody of a family.
    pub const fn all(v4: bool) -> Self {
        Self { v4, address: 0, mask: 0 }
    }

    /// Does the mask say only how many leading bits count?
    pub fn is_prefix(&self) -> bool {
        let width = if self.v4 { 32 } else { 128 };
        self.mask == 0 || self.mask.count_ones() + self.mask.trailing_zeros() == width
    }

    fn contains(&self, address: u128) -> bool {
        address & self.mask == self.address
    }

    /// The last address of a prefix.
    fn last(&self) -> u128 {
        let width = if self.v4 { u128::from(u32::MAX) } else { u128::MAX };
        self.address | (!self.mask & width)
    }
}

/// The rules of both families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    v4: Family,
    v6: Family,
}

/// Rules in ntpd's order: by address, then by mask, the larger first, and those for port 123 before
/// others. The first that matches counts; of prefixes that is the longest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Family {
    rules: Vec<Rule>,
    /// Where plain prefixes begin and end: from this address on, that rule. Found by halving, so that
    /// long lists cost no more than short ones.
    segments: Vec<(u128, Option<usize>)>,
    /// Rules with holes in their masks, or for a port: tried one by one.
    odd: Vec<usize>,
}

impl Table {
    /// A table. Of rules for the same addresses and port, the last one counts.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for rule in rules {
            let list: &mut Vec<Rule> = if rule.matching.v4 { &mut v4 } else { &mut v6 };
            list.push(rule);
        }
        Self { v4: Family::new(v4), v6: Family::new(v6) }
    }

    /// The flags of the first rule that matches.
    pub fn find(&self, source: SocketAddr) -> Option<Flags> {
        match source.ip().to_canonical() {
            IpAddr::V4(ip) => self.v4.find(u128::from(u32::from(ip)), source.port()),
            IpAddr::V6(ip) => self.v6.find(u128::from(ip), source.port()),
        }
    }
}

impl Family {
    fn new(mut rules: Vec<Rule>) -> Self {
        let place = |rule: &Rule| (rule.matching.address, rule.matching.mask, rule.ntpport);
        // The last of one place first; only the first of a place stays.
        rules.reverse();
        rules.sort_by_key(|rule| std::cmp::Reverse(place(rule)));
        rules.dedup_by_key(|rule| place(rule));
        let is_plain = |rule: &Rule| rule.matching.is_prefix() && !rule.ntpport;
        let odd = rules.iter().enumerate().filter(|(_, rule)| !is_plain(rule)).map(|(index, _)| index).collect();
        let mut plain: Vec<(usize, Matching)> =
            rules.iter().enumerate().filter(|(_, rule)| is_plain(rule)).map(|(i, rule)| (i, rule.matching)).collect();
        plain.sort_by_key(|(_, matching)| (matching.address, matching.mask));
        Self { segments: segments(&plain), rules, odd }
    }

    fn find(&self, address: u128, port: u16) -> Option<Flags> {
        let after = self.segments.partition_point(|(start, _)| *start <= address);
        let plain = after.checked_sub(1).and_then(|at| self.segments.get(at)?.1);
        let matches = |index: &usize| {
            self.rules
                .get(*index)
                .is_some_and(|rule| rule.matching.contains(address) && (!rule.ntpport || port == NTP_PORT))
        };
        let odd = self.odd.iter().find(|index| matches(index)).copied();
        let first = plain.into_iter().chain(odd).min()?;
        self.rules.get(first).map(|rule| rule.flags)
    }
}

/// Cuts the space of addresses at the edges of prefixes, which lie in one another or apart. They come
/// in the order of their first addresses, the wider before the narrower.
fn segments(plain: &[(usize, Matching)]) -> Vec<(u128, Option<usize>)> {
    let mut segments: Vec<(u128, Option<usize>)> = Vec::new();
    let mut begin = |start, rule| {
        // A narrower one may begin, or several may end, at the same address.
        if segments.last().is_some_and(|(last, _)| *last == start) {
            segments.pop();
        }
        segments.push((start, rule));
    };
    // Those we are in, the innermost last.
    let mut inside: Vec<(u128, usize)> = Vec::new();
    let leave = |inside: &mut Vec<(u128, usize)>, before: Option<u128>, begin: &mut dyn FnMut(u128, Option<usize>)| {
        while let Some((last, _)) = inside.last().copied() {
            if before.is_some_and(|before| last >= before) {
                return;
            }
            inside.pop();
            if let Some(next) = last.checked_add(1) {
                begin(next, inside.last().map(|(_, rule)| *rule));
            }
        }
    };
    for (rule, matching) in plain {
        leave(&mut inside, Some(matching.address), &mut begin);
        begin(matching.address, Some(*rule));
        inside.push((matching.last(), *rule));
    }
    leave(&mut inside, None, &mut begin);
    segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(matching: Matching, ntpport: bool, bits: u16) -> Rule {
        Rule { matching, ntpport, flags: Flags::from_bits_truncate(bits) }
    }

    fn net(text: &str, bits: u16) -> Rule {
        rule(Matching::net(text.parse().unwrap()), false, bits)
    }

    fn find(table: &Table, source: &str) -> Option<u16> {
        table.find(source.parse().unwrap()).map(|flags| flags.bits())
    }

    #[test]
    fn the_longest_prefix_is_found_in_any_order() {
        let mut rules = vec![
            net("0.0.0.0/0", 1),
            net("10.0.0.0/8", 2),
            net("10.0.0.0/16", 3),
            net("10.255.255.255/32", 4),
            net("255.255.255.255/32", 5),
            net("::/0", 6),
            net("ffff::/16", 7),
        ];
        for _ in 0..rules.len() {
            rules.rotate_left(1);
            let table = Table::new(rules.clone());
            for (source, expected) in [
                ("9.255.255.255:1", 1),
                ("10.0.0.0:1", 3),
                ("10.1.0.0:1", 2),
                ("10.255.255.254:1", 2),
                ("10.255.255.255:1", 4),
                ("11.0.0.0:1", 1),
                ("255.255.255.255:1", 5),
                ("[::ffff:10.0.3.4]:1", 3),
                ("[::1]:1", 6),
                ("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:1", 7),
            ] {
                assert_eq!(find(&table, source), Some(expected), "{source}");
            }
        }
        assert_eq!(find(&Table::new([net("10.0.0.0/8", 2)]), "11.0.0.1:1"), None);
    }

    #[test]
    fn a_rule_for_port_123_comes_before_its_like() {
        let matching = Matching::net("10.0.0.0/8".parse().unwrap());
        let table = Table::new([rule(matching, false, 1), rule(matching, true, 2), net("10.1.0.0/16", 3)]);
        assert_eq!(find(&table, "10.2.0.1:123"), Some(2));
        assert_eq!(find(&table, "10.2.0.1:1230"), Some(1));
        // A more specific rule comes before both.
        assert_eq!(find(&table, "10.1.0.1:123"), Some(3));
    }

    #[test]
    fn masks_may_have_holes() {
        let masked = |a: &str, m: &str| Matching::masked(a.parse().unwrap(), m.parse().unwrap());
        let odd = masked("10.0.0.7", "255.0.0.255");
        assert!(!odd.is_prefix() && masked("1.2.3.4", "255.255.0.0").is_prefix());
        let table = Table::new([rule(odd, false, 1), net("10.9.0.0/16", 2), net("10.0.0.0/8", 3)]);
        // 10.9.0.0 is the greater address and comes first.
        for (source, expected) in [("10.1.2.7:1", 1), ("10.1.2.8:1", 3), ("10.9.0.7:1", 2), ("10.9.0.8:1", 2)] {
            assert_eq!(find(&table, source), Some(expected), "{source}");
        }
        assert_eq!(masked("127.0.0.1", "255.255.255.0"), Matching::net("127.0.0.0/24".parse().unwrap()));
        assert_eq!(
            Matching::net("::ffff:192.0.2.0/120".parse().unwrap()),
            Matching::net("192.0.2.0/24".parse().unwrap())
        );
    }

    #[test]
    fn of_the_same_addresses_the_last_rule_counts() {
        let table = Table::new([net("10.0.0.0/8", 1), net("10.0.0.1/8", 2)]);
        assert_eq!(find(&table, "10.0.0.1:1"), Some(2));
    }

    proptest! {
        /// However the table is laid out, it finds what ntpd's way finds: the first of the sorted list.
        #[test]
        fn the_first_of_the_sorted_list_is_found(
            rules in proptest::collection::vec((any::<u32>(), 0u32..33, any::<bool>(), any::<u32>(), 0u8..4), 0..40),
            probes in proptest::collection::vec((any::<u32>(), any::<bool>(), 0usize..40), 1..40),
        ) {
            let rules: Vec<Rule> = rules.iter().enumerate().map(|(index, (address, length, ntpport, odd, kind))| {
                // Few distinct addresses, so that rules nest.
                let address = address & 0x8181_8181;
                let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0) & if *kind == 0 { *odd } else { u32::MAX };
                let matching = Matching::masked(IpAddr::V4(address.into()), IpAddr::V4(mask.into()));
                rule(matching, *ntpport && *kind == 1, index as u16)
            }).collect();
            let table = Table::new(rules.clone());
            let mut sorted: Vec<(usize, Rule)> = rules.iter().copied().enumerate().collect();
            sorted.sort_by_key(|(index, r)| std::cmp::Reverse((r.matching.address, r.matching.mask, r.ntpport, *index)));
            for (address, from_123, near) in probes {
                let address = rules.get(near).map_or(address, |r| r.matching.address as u32 | (address & 0xff));
                let port = if from_123 { 123 } else { 40_000 };
                let expected = sorted
                    .iter()
                    .find(|(_, r)| r.matching.contains(u128::from(address)) && (!r.ntpport || from_123))
                    .map(|(_, r)| r.flags);
                prop_assert_eq!(table.find(SocketAddr::new(IpAddr::V4(address.into()), port)), expected);
            }
        }
    }
}
