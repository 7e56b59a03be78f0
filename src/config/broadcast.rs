//! `[[broadcast]]`: networks that are told our time now and then.

use std::net::{IpAddr, SocketAddr};

use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::Diagnostic;
use super::value::{Section, socket_address};
use crate::ntp::NTP_PORT;

/// A network that is told our time.
#[derive(Clone, Debug, PartialEq)]
pub struct Broadcast {
    /// A broadcast or multicast address.
    pub address: SocketAddr,
    /// So often, s.
    pub interval: f64,
    /// Signed with this key.
    pub key: Option<u32>,
    /// Through so many routers less one, if it is a multicast address.
    pub ttl: u8,
    /// Our own address in the network it is sent to; multicast addresses only. Else the routing table says.
    pub from: Option<IpAddr>,
}

/// Reads one `[[broadcast]]`.
pub(super) fn broadcast(value: &Spanned<DeValue<'_>>, out: &mut Vec<Diagnostic>) -> Option<Broadcast> {
    let section = Section::new("[[broadcast]]", value, out)?;
    section.only(&["address", "interval", "key", "ttl", "from"], out);
    let (text, span) = section.required("address", "192.168.1.255", out)?;
    let address = socket_address(text, NTP_PORT, span, out)?;
    let key = section.integer("key", 1..=i64::from(u32::MAX), out).and_then(|id| u32::try_from(id).ok());
    if section.get("key").is_none() {
        let help = "Add a `key`, or tell your clients to believe whoever speaks.";
        out.push(Diagnostic::warning(
            section.span.clone(),
            "[[broadcast]] without a `key`: anybody can say the same",
            help,
        ));
    }
    let from = section.string("from", out).and_then(|(text, span)| {
        let from: Option<IpAddr> = text.parse().ok().filter(|ip: &IpAddr| ip.is_ipv4() && address.is_ipv4());
        if from.is_none() {
            let help = "Write the IPv4 address of this machine in that network.";
            out.push(Diagnostic::error(span, "`from` is not an IPv4 address", help));
        }
        from
    });
    Some(Broadcast {
        address,
        interval: section.duration("interval", 1.0..=131_072.0, out).unwrap_or(64.0),
        key,
        ttl: section.integer("ttl", 1..=255, out).and_then(|n| u8::try_from(n).ok()).unwrap_or(1),
        from,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn networks_are_told_the_time() {
        let text = "[[server]]\naddress = \"a\"\n[keys]\nfile = \"/k\"\n[serve]\n[[broadcast]]\naddress = \"10.0.0.255\"\nkey = 3\n\
                    [[broadcast]]\naddress = \"224.0.1.1\"\nttl = 4\ninterval = 16\nfrom = \"10.0.0.1\"\n";
        let (config, warnings) = Config::from_toml("test.toml", text).unwrap();
        let titles: Vec<_> = warnings.into_iter().map(|d| d.title).collect();
        assert_eq!(titles, ["[[broadcast]] without a `key`: anybody can say the same"]);
        let usual =
            Broadcast { address: "10.0.0.255:123".parse().unwrap(), interval: 64.0, key: Some(3), ttl: 1, from: None };
        assert_eq!(config.broadcasts[0], usual);
        assert_eq!((config.broadcasts[1].ttl, config.broadcasts[1].interval), (4, 16.0));
        for lines in
            ["address = \"x\"", "address = \"10.0.0.255\"\nkey = 0", "address = \"10.0.0.255\"\nfrom = \"::1\""]
        {
            assert!(Config::from_toml("test.toml", &format!("{text}[[broadcast]]\n{lines}\n")).is_err(), "{lines}");
        }
    }
}
