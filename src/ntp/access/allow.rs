//! chrony's `allow|deny [all] [SUBNET]`.
//!
//! Nobody is answered until somebody is allowed. The most specific subnet wins; of the same subnet, the
//! line that comes last. With `all`, everything said before about addresses inside the subnet is forgotten.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Flags;
use super::policy::Known;
use super::table::{Matching, Rule};

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Answer, or do not.
    pub verdict: Verdict,
    /// Forget what was said before about addresses inside.
    pub all: bool,
    /// Whom.
    pub subnet: Subnet,
}

/// What becomes of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are answered.
    Allow,
    /// They are not.
    Deny,
}

/// For whom a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subnet {
    /// Everybody, of both families.
    Everybody,
    /// A prefix.
    Net(IpNet),
    /// The first address of a name.
    Name(String),
}

/// What follows `allow` or `deny` is not a subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a subnet: write an address, one with a prefix length, or a name")]
pub struct SubnetError(pub String);

impl Subnet {
    /// Understands a subnet as chrony does: `10.1.2.3` is one address, `10.1.2` is /24, `10.1` is /16 and
    /// `10` is /8, each also with a length of its own.
    ///
    /// # Errors
    ///
    /// [`SubnetError`] for what is none of that.
    pub fn parse(text: &str) -> Result<Self, SubnetError> {
        let wrong = || SubnetError(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        if let Some((ip, octets)) = ipv4(address) {
            let length = length.unwrap_or(octets * 8);
            return Ok(Self::Net(IpNet::V4(Ipv4Net::new(ip, length).map_err(|_| wrong())?.trunc())));
        }
        if let Ok(ip) = address.parse::<Ipv6Addr>() {
            let length = length.unwrap_or(128);
            return Ok(Self::Net(IpNet::V6(Ipv6Net::new(ip, length).map_err(|_| wrong())?.trunc())));
        }
        let is_name = text.chars().any(char::is_alphabetic)
            && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
            && !text.starts_with(['-', '.']);
        if is_name { Ok(Self::Name(text.to_owned())) } else { Err(wrong()) }
    }
}

/// An address of one to four octets, and how many there are.
fn ipv4(text: &str) -> Option<(Ipv4Addr, u8)> {
    let mut octets = [0; 4];
    let mut count = 0;
    for part in text.split('.') {
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *octets.get_mut(count)? = part.parse::<u8>().ok()?;
        count += 1;
    }
    Some((octets.into(), u8::try_from(count).ok()?))
}

/// The rules of a list of lines. Whom they allow has these flags taken away.
pub(super) fn rules(lines: &[Line], allowed: Flags, known: &Known) -> Vec<Rule> {
    let mut said: Vec<(IpNet, Verdict)> = Vec::new();
    for line in lines {
        for net in nets(&line.subnet, known) {
            if line.all {
                said.retain(|(other, _)| !net.contains(other));
            } else {
                said.retain(|(other, _)| *other != net);
            }
            said.push((net, line.verdict));
        }
    }
    let rule = |(net, verdict)| Rule {
        matching: Matching::net(net),
        ntpport: false,
        flags: if verdict == Verdict::Allow { allowed } else { Flags::DENY },
    };
    said.into_iter().map(rule).collect()
}

fn nets(subnet: &Subnet, known: &Known) -> Vec<IpNet> {
    match subnet {
        Subnet::Everybody => vec![
            IpNet::new_assert(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            IpNet::new_assert(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
        ],
        Subnet::Net(net) => vec![canonical(*net)],
        Subnet::Name(name) => {
            known.addresses(name).first().map(|ip| IpNet::from(ip.to_canonical())).into_iter().collect()
        }
    }
}

/// The prefix without host bits; IPv4 in IPv6's clothes as IPv4.
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
    use crate::ntp::access::{Access, Policy};

    /// Lines as chrony.conf has them.
    fn access(text: &str) -> Access {
        let lines = text.split(';').map(str::trim).filter(|line| !line.is_empty()).map(|line| {
            let mut words = line.split(' ').peekable();
            let verdict = if words.next() == Some("allow") { Verdict::Allow } else { Verdict::Deny };
            let all = words.next_if_eq(&"all").is_some();
            let subnet = words.next().map_or(Subnet::Everybody, |word| Subnet::parse(word).unwrap());
            Line { verdict, all, subnet }
        });
        let known = Known {
            names: [("host".to_owned(), vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()])].into(),
            sources: Vec::new(),
        };
        Policy::Allow { lines: lines.collect(), allowed: Flags::empty() }.access(&known)
    }

    #[test]
    fn the_meaning_of_files() {
        for (lines, address, expected) in [
            ("", "127.0.0.1", false),
            ("allow", "8.8.8.8", true),
            ("allow", "2001:db8::1", true),
            ("allow all", "2001:db8::1", true),
            ("allow 0/0", "8.8.8.8", true),
            ("allow 0/0", "2001:db8::1", false),
            ("allow ::/0", "2001:db8::1", true),
            // An address that looks like a network's is one address.
            ("allow 192.0.2.0", "192.0.2.1", false),
            ("allow 192.0.2", "192.0.2.1", true),
            ("allow 192.0.2", "192.0.3.1", false),
            ("allow 192.168/16", "192.168.9.9", true),
            ("allow 10", "10.200.0.1", true),
            ("allow 10.1/20", "10.1.15.1", true),
            ("allow 10.1/20", "10.1.16.1", false),
            ("allow 10.0.0.9/8", "10.1.0.1", true),
            // The most specific wins, in any order; of the same, the last.
            ("allow 10/8; deny 10.1/16; allow 10.1.2.3", "10.1.2.3", true),
            ("allow 10.1.2.3; deny 10.1/16; allow 10/8", "10.1.2.4", false),
            ("allow 10/8; deny 10/8", "10.0.0.1", false),
            ("deny 10/8; allow 10/8", "10.0.0.1", true),
            // True longest prefix, where lengths end in the same nibble too.
            ("allow 192.0.2.0/25; deny 192.0.2.0/28", "192.0.2.1", false),
            ("deny 192.0.2.0/28; allow 192.0.2.0/25", "192.0.2.1", false),
            ("deny 192.0.2.0/28; allow 192.0.2.0/25", "192.0.2.17", true),
            // `all` forgets what was said before inside, and nothing else.
            ("deny 10.1/16; allow all 10/8", "10.1.0.1", true),
            ("allow all 10/8; deny 10.1/16", "10.1.0.1", false),
            ("allow 11/8; deny 10.1/16; allow all 10/8", "11.0.0.1", true),
            ("allow; deny all 10.1/16", "10.2.0.1", true),
            ("allow 10.1/16; deny all", "10.1.0.1", false),
            ("allow 2001:db8::/32; deny all", "2001:db8::1", false),
            ("allow 2001:db8::1", "2001:db8::2", false),
            // A name is its first address.
            ("allow host", "192.0.2.1", true),
            ("allow host", "192.0.2.2", false),
            ("allow nowhere", "192.0.2.1", false),
        ] {
            assert_eq!(access(lines).permits(address.parse().unwrap()), expected, "{lines} | {address}");
        }
    }

    #[test]
    fn what_is_denied_may_still_be_our_server() {
        let flags = access("deny 192.0.2").flags("192.0.2.1:123".parse().unwrap());
        assert!(flags.terms(4).is_none() && flags.heeds_reply(4, false));
    }

    #[test]
    fn what_is_no_subnet() {
        for text in
            ["", "192.168.", ".1", "10.0.0.0/33", "2001:db8::/129", "1.2.3.4.5", "256.1", "10.0/x", "name/8", "-a"]
        {
            assert_eq!(Subnet::parse(text), Err(SubnetError(text.into())), "{text}");
        }
    }
}
