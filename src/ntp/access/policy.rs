//! Rules in either language, with what changes under them: what host names lead to, and who our sources
//! are.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::allow::{self, Line, Subnet, Verdict};
use super::restrict::{self, Restriction, Whom as Restricted};
use super::{Access, Flags};

/// Rules as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// ntpd's: who has no rule may do everything.
    Restrict(Vec<Restriction>),
    /// chrony's: who has no rule is not answered.
    Allow {
        /// The lines, in their order.
        lines: Vec<Line>,
        /// What is taken away from those who are allowed.
        allowed: Flags,
    },
}

/// Whom a list names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Whom {
    /// A prefix.
    Net(IpNet),
    /// The first address of a name.
    Name(String),
}

impl std::fmt::Display for Whom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Net(net) => net.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// What is known at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// What names lead to.
    pub names: HashMap<String, Vec<IpAddr>>,
    /// Our sources.
    pub sources: Vec<IpAddr>,
}

impl Known {
    /// The addresses of a name; none if it leads nowhere (yet).
    pub fn addresses(&self, name: &str) -> &[IpAddr] {
        self.names.get(name).map_or(&[], Vec::as_slice)
    }
}

impl Policy {
    /// The lists of our own configuration: this machine is allowed, then the first, and what is in both
    /// is denied.
    pub fn lists(allow: Vec<Whom>, deny: Vec<IpNet>, allowed: Flags) -> Self {
        let this_machine = [
            IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
            IpNet::new_assert(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
        ];
        let line = |verdict| move |subnet| Line { verdict, all: false, subnet };
        let allow = this_machine.into_iter().map(Whom::Net).chain(allow).map(|whom| match whom {
            Whom::Net(net) => Subnet::Net(net),
            Whom::Name(name) => Subnet::Name(name),
        });
        let lines = allow.map(line(Verdict::Allow)).chain(deny.into_iter().map(Subnet::Net).map(line(Verdict::Deny)));
        Self::Allow { lines: lines.collect(), allowed }
    }

    /// The names to be looked up, each once.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = match self {
            Self::Restrict(list) => list
                .iter()
                .filter_map(|rule| match &rule.whom {
                    Restricted::Name { name, .. } => Some(name.as_str()),
                    _ => None,
                })
                .collect(),
            Self::Allow { lines, .. } => lines
                .iter()
                .filter_map(|line| match &line.subnet {
                    Subnet::Name(name) => Some(name.as_str()),
                    _ => None,
                })
                .collect(),
        };
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Does it matter who our sources are?
    pub fn follows_sources(&self) -> bool {
        matches!(self, Self::Restrict(list) if list.iter().any(|rule| rule.whom == Restricted::Source))
    }

    /// The rules in force as long as that is known.
    pub fn access(&self, known: &Known) -> Access {
        match self {
            Self::Restrict(list) => Access::new(restrict::rules(list, known), Flags::empty()),
            Self::Allow { lines, allowed } => Access::new(allow::rules(lines, *allowed, known), Flags::DENY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_followed() {
        let policy =
            Policy::lists(vec![Whom::Name("client".into()), Whom::Name("client".into())], vec![], Flags::LIMITED);
        assert_eq!(policy.names(), ["client"]);
        let answered = |known: &Known, address: &str| policy.access(known).permits(address.parse().unwrap());
        let mut known = Known::default();
        assert!(!answered(&known, "192.0.2.1") && answered(&known, "127.0.0.1"));
        known.names.insert("client".into(), vec!["192.0.2.1".parse().unwrap()]);
        assert!(answered(&known, "192.0.2.1"));
        assert_eq!(policy.access(&known).flags("192.0.2.1:9".parse().unwrap()), Flags::LIMITED);
        known.names.insert("client".into(), vec!["192.0.2.9".parse().unwrap()]);
        assert!(!answered(&known, "192.0.2.1") && answered(&known, "192.0.2.9"));
    }

    #[test]
    fn sources_matter_to_some() {
        let parse = |line| Restriction::parse(line).unwrap();
        assert!(Policy::Restrict(vec![parse("source nomodify")]).follows_sources());
        assert!(!Policy::Restrict(vec![parse("default ignore")]).follows_sources());
        let known = Known { sources: vec!["192.0.2.1".parse().unwrap()], ..Known::default() };
        let policy = Policy::Restrict(vec![parse("default ignore"), parse("source")]);
        assert!(policy.access(&known).permits("192.0.2.1".parse().unwrap()));
        assert!(!policy.access(&Known::default()).permits("192.0.2.1".parse().unwrap()));
    }
}
