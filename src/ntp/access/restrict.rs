//! ntpd's `restrict [-4|-6] default|source|ADDRESS[/LENGTH]|NAME [mask MASK] [flags]`.
//!
//! A rule without flags grants everything; flags only take away. Rules for the same addresses add up and
//! never loosen: `restrict default ignore` stays that, whatever `restrict default` follows.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Flags;
use super::policy::Known;
use super::table::{Matching, Rule};

/// A rule as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restriction {
    /// For whom.
    pub whom: Whom,
    /// Only for packets from port 123.
    pub ntpport: bool,
    /// What is taken away.
    pub flags: Flags,
}

/// For whom a rule is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Whoever has no rule of their own.
    Default(Family),
    /// Each of the sources we have, as they come and go, unless it has a rule for its own address.
    Source,
    /// These addresses.
    Addresses(Matching),
    /// All addresses of a name.
    Name {
        /// The name.
        name: String,
        /// Which of its addresses.
        family: Family,
        /// What of them has to match; everything, unless given.
        mask: Option<IpAddr>,
    },
}

/// Which addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Of both families.
    #[default]
    Both,
    /// IPv4's.
    V4,
    /// IPv6's.
    V6,
}

impl Family {
    fn has(self, v4: bool) -> bool {
        self == Self::Both || (self == Self::V4) == v4
    }
}

/// Why a line cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestrictError {
    /// It does not say for whom.
    #[error("it does not say for whom: `default`, `source`, an address or a name")]
    Nobody,
    /// A flag we do not have.
    #[error("unknown flag `{0}`")]
    Flag(String),
    /// Not a number of peers.
    #[error("`ippeerlimit` needs a number of peers, or -1")]
    PeerLimit,
    /// Not a mask.
    #[error("`mask` needs a mask, of the family of the address")]
    Mask,
    /// Not an address, and not a name.
    #[error("`{0}` is neither an address nor a name")]
    Address(String),
}

/// ntpd's names of the flags. `None`: understood, and without a meaning here.
const FLAGS: [(&str, Option<Flags>); 19] = [
    ("ignore", Some(Flags::IGNORE)),
    ("noserve", Some(Flags::NOSERVE)),
    ("notrust", Some(Flags::NOTRUST)),
    ("nopeer", Some(Flags::NOPEER)),
    ("noepeer", Some(Flags::NOEPEER)),
    ("noquery", Some(Flags::NOQUERY)),
    ("nomodify", Some(Flags::NOMODIFY)),
    ("nomrulist", Some(Flags::NOMRULIST)),
    ("limited", Some(Flags::LIMITED)),
    ("kod", Some(Flags::KOD)),
    ("version", Some(Flags::VERSION)),
    ("flake", Some(Flags::FLAKE)),
    ("mssntp", Some(Flags::MSSNTP)),
    // Traps are gone from every server.
    ("notrap", None),
    ("lowpriotrap", None),
    ("epeer", None),
    ("serverresponse", None),
    ("fuzz", None),
    ("nofuzz", None),
];

impl Restriction {
    /// Understands a line, without the word `restrict`.
    ///
    /// # Errors
    ///
    /// [`RestrictError`]: the line must not be left out, for that could open what it closes.
    pub fn parse(line: &str) -> Result<Self, RestrictError> {
        let mut words = line.split_ascii_whitespace().peekable();
        let family = match words.next_if(|word| matches!(*word, "-4" | "-6")) {
            Some("-4") => Family::V4,
            Some(_) => Family::V6,
            None => Family::Both,
        };
        let whom = words.next().ok_or(RestrictError::Nobody)?;
        let mask = match words.next_if_eq(&"mask") {
            Some(_) => {
                Some(words.next().and_then(|word| bare(word).parse::<IpAddr>().ok()).ok_or(RestrictError::Mask)?)
            }
            None => None,
        };
        let whom = match whom {
            "default" => Whom::Default(family),
            "source" => Whom::Source,
            other => addresses(other, family, mask)?,
        };
        let mut rule = Self { whom, ntpport: false, flags: Flags::empty() };
        while let Some(word) = words.next() {
            match word {
                "ntpport" => rule.ntpport = true,
                // So many peers from one address; more than one is none of ours.
                "ippeerlimit" => match words.next().and_then(|limit| limit.parse().ok()) {
                    Some(0) => rule.flags |= Flags::NOEPEER,
                    Some(-1 | 1..) => {}
                    Some(i32::MIN..-1) | None => return Err(RestrictError::PeerLimit),
                },
                _ => match FLAGS.iter().find(|(name, _)| *name == word) {
                    Some((_, flags)) => rule.flags |= flags.unwrap_or_default(),
                    None => return Err(RestrictError::Flag(word.to_owned())),
                },
            }
        }
        Ok(rule)
    }
}

fn bare(word: &str) -> &str {
    word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word)
}

fn addresses(word: &str, family: Family, mask: Option<IpAddr>) -> Result<Whom, RestrictError> {
    if let Ok(ip) = bare(word).parse::<IpAddr>() {
        return match mask {
            None => Ok(Whom::Addresses(Matching::host(ip))),
            Some(mask) if mask.is_ipv4() == ip.is_ipv4() => Ok(Whom::Addresses(Matching::masked(ip, mask))),
            Some(_) => Err(RestrictError::Mask),
        };
    }
    if let (Ok(net), None) = (word.parse::<IpNet>(), mask) {
        return Ok(Whom::Addresses(Matching::net(net)));
    }
    // What looks like an address and is none must not become a name that nobody has.
    let is_name = word.chars().any(char::is_alphabetic)
        && word.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !word.starts_with(['-', '.']);
    if is_name {
        Ok(Whom::Name { name: word.to_owned(), family, mask })
    } else {
        Err(RestrictError::Address(word.to_owned()))
    }
}

/// The rules of a list of lines. Who has none may do everything.
pub(super) fn rules(list: &[Restriction], known: &Known) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut add = |matching, ntpport, flags| match rules
        .iter_mut()
        .find(|rule| (rule.matching, rule.ntpport) == (matching, ntpport))
    {
        Some(rule) => rule.flags |= flags,
        None => rules.push(Rule { matching, ntpport, flags }),
    };
    for Restriction { whom, ntpport, flags } in list {
        for matching in matchings(whom, known) {
            add(matching, *ntpport, *flags);
        }
    }
    let templates = list.iter().filter(|rule| rule.whom == Whom::Source);
    let template = templates.map(|rule| rule.flags).reduce(Flags::union);
    if let Some(flags) = template {
        for host in known.sources.iter().map(|ip| Matching::host(*ip)) {
            if !rules.iter().any(|rule| rule.matching == host) {
                rules.push(Rule { matching: host, ntpport: false, flags });
            }
        }
    }
    rules
}

fn matchings(whom: &Whom, known: &Known) -> Vec<Matching> {
    match whom {
        Whom::Source => Vec::new(),
        Whom::Addresses(matching) => vec![*matching],
        Whom::Default(family) => [true, false].into_iter().filter(|v4| family.has(*v4)).map(Matching::all).collect(),
        Whom::Name { name, family, mask } => known
            .addresses(name)
            .iter()
            .filter(|ip| family.has(ip.is_ipv4()))
            .map(|ip| mask.map_or(Matching::host(*ip), |mask| Matching::masked(*ip, mask)))
            .collect(),
    }
}

/// Would it let somebody in, as long as a name cannot be resolved, whom the rule would keep out? So it is
/// if the rule takes away what the default leaves.
pub fn opens_unresolved(rule: &Restriction, list: &[Restriction]) -> bool {
    let default = |v4| {
        let of = list.iter().filter(|other| matches!(other.whom, Whom::Default(family) if family.has(v4)));
        of.map(|other| other.flags).fold(Flags::empty(), Flags::union)
    };
    matches!(rule.whom, Whom::Name { .. }) && [true, false].into_iter().any(|v4| !default(v4).contains(rule.flags))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntp::access::{Access, Policy};

    fn list(lines: &[&str]) -> Vec<Restriction> {
        lines.iter().map(|line| Restriction::parse(line).unwrap()).collect()
    }

    fn known() -> Known {
        Known {
            names: [("ntp.example.org".to_owned(), vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()])]
                .into(),
            sources: vec!["198.51.100.1".parse().unwrap(), "192.0.2.1".parse().unwrap()],
        }
    }

    fn flags(lines: &[&str], source: &str) -> Flags {
        let access: Access = Policy::Restrict(list(lines)).access(&known());
        access.flags(source.parse().unwrap())
    }

    #[test]
    fn the_meaning_of_files() {
        let (ignore, none) = (Flags::IGNORE, Flags::empty());
        let usual = Flags::KOD | Flags::NOMODIFY | Flags::NOPEER | Flags::NOQUERY;
        for (lines, source, expected) in [
            // Without a rule, everything.
            (&[][..], "8.8.8.8:1", none),
            (&["default kod nomodify notrap nopeer noquery"], "8.8.8.8:1", usual),
            (&["default kod nomodify notrap nopeer noquery"], "[2001:db8::9]:1", usual),
            (&["-4 default ignore"], "[2001:db8::9]:1", none),
            (&["-6 default ignore"], "[2001:db8::9]:1", ignore),
            (&["default flake mssntp"], "8.8.8.8:1", Flags::FLAKE | Flags::MSSNTP),
            (&["default ippeerlimit 0 nomodify"], "8.8.8.8:1", Flags::NOEPEER | Flags::NOMODIFY),
            (&["default ippeerlimit -1", "10.0.0.1 ippeerlimit 3"], "10.0.0.1:1", none),
            // What is repeated adds up, and never loosens.
            (&["default ignore", "default"], "8.8.8.8:1", ignore),
            (&["default noquery", "-6 default nomodify"], "8.8.8.8:1", Flags::NOQUERY),
            (&["default noquery", "-6 default nomodify"], "[::5]:1", Flags::NOQUERY | Flags::NOMODIFY),
            (&["10.0.0.1 nopeer", "10.0.0.1 noquery"], "10.0.0.1:1", Flags::NOPEER | Flags::NOQUERY),
            // The most specific, wherever it stands.
            (&["127.0.0.1", "default ignore"], "127.0.0.1:1", none),
            (&["default ignore", "192.168.1.0 mask 255.255.255.0 nomodify notrap"], "192.168.1.77:9", Flags::NOMODIFY),
            (&["default ignore", "192.168.1.0 mask 255.255.255.0"], "192.168.2.77:9", ignore),
            (&["default ignore", "127.0.0.1 mask 255.255.255.0"], "127.0.0.9:1", none),
            (&["default ignore", "10.0.0.0/8", "10.1.0.0/16 noserve"], "10.1.2.3:1", Flags::NOSERVE),
            (&["default ignore", "[::1]"], "[::1]:1", none),
            (&["default ignore", "-6 ::1"], "[::1]:1", none),
            (&["default ignore", "2001:db8:: mask ffff:ffff::"], "[2001:db8:5::1]:1", none),
            // A port.
            (&["default ignore", "10.0.0.0/8 ntpport nopeer"], "10.0.0.1:123", Flags::NOPEER),
            (&["default ignore", "10.0.0.0/8 ntpport nopeer"], "10.0.0.1:999", ignore),
            // A name: all its addresses, or one family's, or the network around them.
            (&["default ignore", "ntp.example.org"], "192.0.2.1:1", none),
            (&["default ignore", "ntp.example.org"], "[2001:db8::1]:1", none),
            (&["default ignore", "-4 ntp.example.org"], "[2001:db8::1]:1", ignore),
            (&["default ignore", "ntp.example.org mask 255.255.255.255"], "192.0.2.1:1", none),
            (&["default ignore", "ntp.example.org mask 255.255.255.0"], "192.0.2.9:1", none),
            (&["default ignore", "elsewhere.example.org"], "192.0.2.1:1", ignore),
            // Sources, unless they have a rule of their own.
            (&["default ignore", "source nomodify notrap"], "198.51.100.1:123", Flags::NOMODIFY),
            (&["default ignore", "source nomodify"], "198.51.100.2:123", ignore),
            (&["default ignore", "source nomodify", "192.0.2.1 noquery"], "192.0.2.1:123", Flags::NOQUERY),
        ] {
            assert_eq!(flags(lines, source), expected, "{lines:?} {source}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for (line, expected) in [
            ("", RestrictError::Nobody),
            ("-4", RestrictError::Nobody),
            ("default nomodfy", RestrictError::Flag("nomodfy".into())),
            ("default limited # comment", RestrictError::Flag("#".into())),
            ("default ippeerlimit", RestrictError::PeerLimit),
            ("default ippeerlimit nopeer", RestrictError::PeerLimit),
            ("default ippeerlimit -2", RestrictError::PeerLimit),
            ("10.0.0.0 mask", RestrictError::Mask),
            ("10.0.0.0 mask ffff::", RestrictError::Mask),
            ("10.0.0.0/8 mask 255.0.0.0", RestrictError::Address("10.0.0.0/8".into())),
            ("2001:pppp::", RestrictError::Address("2001:pppp::".into())),
            ("10.0.0.300", RestrictError::Address("10.0.0.300".into())),
        ] {
            assert_eq!(Restriction::parse(line), Err(expected), "{line}");
        }
        for (name, _) in FLAGS {
            assert!(Restriction::parse(&format!("default {name}")).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_name_that_is_not_known_must_not_open_anything() {
        let rules = list(&["default nomodify noquery", "-6 default noserve", "a nomodify", "b noserve", "c"]);
        let opens: Vec<bool> = rules.iter().map(|rule| opens_unresolved(rule, &rules)).collect();
        assert_eq!(opens, [false, false, false, true, false]);
    }
}
