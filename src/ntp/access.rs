//! Who gets an answer: prefixes allowed and denied, the most specific wins.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// What to do with clients under a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Answer them.
    Allow,
    /// Do not.
    Deny,
}

/// An access list. Without rules it answers this machine only.
///
/// Addresses and prefixes of IPv4 in IPv6's clothes (`::ffff:192.0.2.1`) are taken for what they
/// are. Where a prefix is both allowed and denied, it is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Longest prefix first; IPv4 and IPv6 apart, so that a search meets its own family only.
    v4: Vec<(IpNet, Verdict)>,
    v6: Vec<(IpNet, Verdict)>,
}

impl Default for Access {
    fn default() -> Self {
        Self::new([])
    }
}

impl Access {
    /// A list of these rules, in any order, on top of `127.0.0.0/8` and `::1`, which are allowed
    /// unless a rule denies them.
    pub fn new(rules: impl IntoIterator<Item = (IpNet, Verdict)>) -> Self {
        let loopback = [
            (IpNet::new_assert(IpAddr::from([127, 0, 0, 0]), 8), Verdict::Allow),
            (IpNet::new_assert(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 128), Verdict::Allow),
        ];
        let mut access = Self { v4: Vec::new(), v6: Vec::new() };
        for (net, verdict) in rules.into_iter().map(|(net, verdict)| (canonical(net), verdict)) {
            access.insert(net, verdict);
        }
        for (net, verdict) in loopback {
            if !access.family(&net).iter().any(|(other, _)| *other == net) {
                access.insert(net, verdict);
            }
        }
        access
    }

    /// A list that allows the first and denies the second prefixes.
    pub fn from_lists(allow: impl IntoIterator<Item = IpNet>, deny: impl IntoIterator<Item = IpNet>) -> Self {
        let allow = allow.into_iter().map(|net| (net, Verdict::Allow));
        Self::new(allow.chain(deny.into_iter().map(|net| (net, Verdict::Deny))))
    }

    /// Is a client at this address answered?
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let rules = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        rules.iter().find(|(net, _)| net.contains(&address)).is_some_and(|(_, verdict)| *verdict == Verdict::Allow)
    }

    /// All rules, the most specific first.
    pub fn rules(&self) -> impl Iterator<Item = &(IpNet, Verdict)> {
        self.v4.iter().chain(&self.v6)
    }

    fn family(&self, net: &IpNet) -> &[(IpNet, Verdict)] {
        if net.addr().is_ipv4() { &self.v4 } else { &self.v6 }
    }

    fn insert(&mut self, net: IpNet, verdict: Verdict) {
        let rules = if net.addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        if let Some((_, known)) = rules.iter_mut().find(|(other, _)| *other == net) {
            if verdict == Verdict::Deny {
                *known = Verdict::Deny;
            }
            return;
        }
        let at = rules.partition_point(|(other, _)| other.prefix_len() >= net.prefix_len());
        rules.insert(at, (net, verdict));
    }
}

/// The prefix without host bits; IPv4 within `::ffff:0:0/96` as IPv4.
fn canonical(net: IpNet) -> IpNet {
    let net = net.trunc();
    if let IpNet::V6(v6) = net
        && let Some(inner) = v6.addr().to_ipv4_mapped()
        && let Some(length) = v6.prefix_len().checked_sub(96)
        && let Ok(v4) = Ipv4Net::new(inner, length)
    {
        return IpNet::V4(v4);
    }
    net
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
    fn the_most_specific_wins_in_any_order() {
        let allow = ["10.0.0.0/8", "10.1.2.3/32", "fd00::/8"];
        let deny = ["10.1.0.0/16", "fd00:bad::/32"];
        for flip in [false, true] {
            let rules = nets(&allow).into_iter().map(|n| (n, Verdict::Allow));
            let mut rules: Vec<_> = rules.chain(nets(&deny).into_iter().map(|n| (n, Verdict::Deny))).collect();
            if flip {
                rules.reverse();
            }
            let access = Access::new(rules);
            for (address, expected) in [
                ("10.2.0.1", true),
                ("10.1.0.1", false),
                ("10.1.2.3", true),
                ("::ffff:10.1.2.3", true),
                ("fd00:1::1", true),
                ("fd00:bad::1", false),
                ("11.0.0.1", false),
            ] {
                assert_eq!(permits(&access, address), expected, "{address}");
            }
        }
    }

    #[test]
    fn contradictions_deny_and_loopback_can_be_denied() {
        let access = Access::from_lists(nets(&["10.0.0.0/8", "127.0.0.0/8"]), nets(&["10.0.0.1/8", "127.0.0.0/8"]));
        assert!(!permits(&access, "10.0.0.1"));
        assert!(!permits(&access, "127.0.0.1"));
        assert!(permits(&access, "::1"));
    }

    #[test]
    fn mapped_prefixes_mean_ipv4_and_zero_means_all() {
        let access = Access::from_lists(nets(&["::ffff:192.168.0.0/112"]), nets(&[]));
        assert!(permits(&access, "192.168.9.9"));
        assert!(!permits(&access, "192.169.0.1"));
        let all = Access::from_lists(nets(&["0.0.0.0/0", "::/0"]), nets(&["192.0.2.0/24"]));
        assert!(permits(&all, "8.8.8.8") && permits(&all, "2001:db8::1") && !permits(&all, "192.0.2.77"));
    }
}
