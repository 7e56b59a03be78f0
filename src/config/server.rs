//! `[[server]]` and `[[pool]]`: servers as they are written.

use std::net::IpAddr;

use refclocks::time::Span;
use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::{Diagnostic, quoted};
use super::model::{Pool, Server};
use super::source::{Written, choices};
use super::value::Section;

/// Keys of every server.
const SERVER: [&str; 21] = [
    "address",
    "name",
    "port",
    "iburst",
    "minpoll",
    "maxpoll",
    "prefer",
    "noselect",
    "trust",
    "require",
    "key",
    "version",
    "peer",
    "xleave",
    "minstratum",
    "maxdelay",
    "maxdelayratio",
    "maxdelaydevratio",
    "presend",
    "bind_address",
    "bind_interface",
];

/// Reads one `[[server]]`.
pub(super) fn server(value: &Spanned<DeValue<'_>>, out: &mut Vec<Diagnostic>) -> Option<Written<Server>> {
    let section = Section::new("[[server]]", value, out)?;
    section.only(&SERVER, out);
    let written = network_source(section, "ntp.example.org", out)?;
    if written.source.host.parse().is_ok_and(|ip: IpAddr| ip.is_multicast()) {
        let help = "Use [[pool]] to ask who is in a group, or [[broadcast_client]] to hear what it is told.";
        out.push(Diagnostic::error(written.device, "a group of servers is not one", help));
        return None;
    }
    Some(written)
}

/// Reads one `[[pool]]`.
pub(super) fn pool(value: &Spanned<DeValue<'_>>, out: &mut Vec<Diagnostic>) -> Option<Written<Pool>> {
    let section = Section::new("[[pool]]", value, out)?;
    let known: Vec<&str> = SERVER.iter().copied().chain(["maxsources", "ttl"]).collect();
    section.only(&known, out);
    let maxsources = section.integer("maxsources", 1..=16, out).and_then(|n| usize::try_from(n).ok());
    let ttl = section.integer("ttl", 1..=255, out).and_then(|n| u8::try_from(n).ok());
    let section_ttl = section.get("ttl").map(Spanned::span);
    let Written { source: each, section, name, device, lock } = network_source(section, "pool.ntp.org", out)?;
    let is_group = each.host.parse().is_ok_and(|ip: IpAddr| ip.is_multicast());
    if !is_group && each.host.parse::<IpAddr>().is_ok() {
        let help = "Use [[server]] for a single one.";
        out.push(Diagnostic::warning(device.clone(), "an address has no other servers behind it", help));
    }
    let usual = Pool::new(each.host.clone());
    if let (false, Some(at)) = (is_group, section_ttl) {
        let help = "Delete it, or write a multicast address.";
        out.push(Diagnostic::warning(at, "`ttl` of servers that are not asked as a group means nothing", help));
    }
    let source = Pool { each, maxsources: maxsources.unwrap_or(usual.maxsources), ttl: ttl.unwrap_or(usual.ttl) };
    Some(Written { source, section, name, device, lock })
}

/// What a server and a pool of them have in common.
fn network_source(section: Section<'_, '_>, example: &str, out: &mut Vec<Diagnostic>) -> Option<Written<Server>> {
    let name = section.string("name", out);
    let port = section.integer("port", 1..=65535, out);
    let iburst = section.boolean("iburst", out);
    let minpoll = section.integer("minpoll", -6..=17, out);
    let maxpoll = section.integer("maxpoll", -6..=17, out);
    let options = choices(&section, out);
    let key = section.integer("key", 1..=i64::from(u32::MAX), out);
    let (host, device) = section.required("address", example, out)?;
    if !is_host(host) {
        let title = format!("{} is not a host name or an address", quoted(host));
        out.push(Diagnostic::error(device, title, "Write a name or an IP address; the port has a key of its own."));
        return None;
    }
    let mut source = Server::new(host);
    source.name = name.as_ref().map_or_else(String::new, |(name, _)| (*name).to_owned());
    source.port = port.and_then(|p| u16::try_from(p).ok()).unwrap_or(source.port);
    source.iburst = iburst.unwrap_or(source.iburst);
    let exponent = |given: Option<i64>| given.and_then(|p| i8::try_from(p).ok());
    // One that is given moves the default of the other out of its way.
    source.minpoll = exponent(minpoll).unwrap_or(exponent(maxpoll).map_or(6, |max| max.min(6)));
    source.maxpoll = exponent(maxpoll).unwrap_or(source.minpoll.max(10));
    if source.minpoll > source.maxpoll {
        let span = section.get("minpoll").map_or(section.span.clone(), Spanned::span);
        let title = format!("`minpoll` {} is above `maxpoll` {}", source.minpoll, source.maxpoll);
        out.push(Diagnostic::error(span, title, "Both are log2 of seconds; make `minpoll` the smaller one."));
    }
    source.options = options;
    source.key = key.and_then(|id| u32::try_from(id).ok());
    exchange(&section, &mut source, out);
    Some(Written { source, section: section.span, name: name.map(|(_, span)| span), device, lock: None })
}

/// How its packets are, and where they leave.
fn exchange(section: &Section<'_, '_>, source: &mut Server, out: &mut Vec<Diagnostic>) {
    let small =
        |key, range, out: &mut Vec<Diagnostic>| section.integer(key, range, out).and_then(|n| u8::try_from(n).ok());
    source.version = small("version", 1..=4, out).unwrap_or(source.version);
    source.peer = section.boolean("peer", out).unwrap_or(source.peer);
    source.xleave = section.boolean("xleave", out).unwrap_or(source.xleave);
    if let (true, None, Some(at)) = (source.peer, source.key, section.get("peer")) {
        let help = "Add a `key`, the same on both sides.";
        let title = "`peer` without a `key`: whoever guesses when we send can pass for it";
        out.push(Diagnostic::warning(at.span(), title, help));
    }
    let filters = &mut source.filters;
    filters.min_stratum = small("minstratum", 0..=15, out).unwrap_or(filters.min_stratum);
    filters.max_delay = section.duration("maxdelay", 1e-6..=1000.0, out).map_or(filters.max_delay, Span::from_seconds);
    filters.max_delay_ratio = section.number("maxdelayratio", 1.0..=1e6, out).unwrap_or(filters.max_delay_ratio);
    filters.max_delay_dev_ratio =
        section.number("maxdelaydevratio", 0.1..=1e6, out).unwrap_or(filters.max_delay_dev_ratio);
    source.presend = section.integer("presend", -6..=17, out).and_then(|p| i8::try_from(p).ok());
    source.origin.address = section.string("bind_address", out).and_then(|(text, span)| {
        let address = text.parse().ok();
        if address.is_none() {
            let title = format!("{} is not an address to send from", quoted(text));
            out.push(Diagnostic::error(span, title, "Write an IP address of this machine, without a port."));
        }
        address
    });
    source.origin.interface = interface(section, "bind_interface", out);
}

/// The name of an interface.
pub(super) fn interface(section: &Section<'_, '_>, key: &str, out: &mut Vec<Diagnostic>) -> Option<String> {
    section.string(key, out).and_then(|(text, span)| {
        // IFNAMSIZ, with the nought at the end.
        let is_name = text.len() < 16 && text.chars().all(|c| c.is_ascii_graphic() && c != '/');
        if !is_name {
            let title = format!("{} is not the name of an interface", quoted(text));
            out.push(Diagnostic::error(span, title, "Take it from `ip link`, such as \"eth0\"."));
        }
        is_name.then(|| text.to_owned())
    })
}

/// Could it be a host name or an address? A resolver has the last word.
pub(super) fn is_host(text: &str) -> bool {
    let address = text.parse::<std::net::IpAddr>().is_ok();
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    address || ((1..=253).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn server(lines: &str) -> Result<Server, Vec<String>> {
        let text = format!("[[server]]\naddress = \"a\"\n{lines}\n");
        let titles = |all: Vec<crate::config::Diagnostic>| all.into_iter().map(|d| d.title).collect::<Vec<_>>();
        let (mut config, _) = Config::from_toml("test.toml", &text).map_err(titles)?;
        Ok(config.servers.remove(0))
    }

    #[test]
    fn how_a_server_is_asked() {
        let said = server(
            "minpoll = -2\nmaxpoll = 3\nversion = 3\npeer = true\nxleave = true\nminstratum = 2\nmaxdelay = \"20 ms\"\n\
             maxdelayratio = 2.5\nmaxdelaydevratio = 10.0\npresend = 9\nbind_address = \"192.0.2.9\"\nbind_interface = \"eth0\"",
        )
        .unwrap();
        assert_eq!((said.minpoll, said.maxpoll, said.version, said.peer && said.xleave), (-2, 3, 3, true));
        assert_eq!((said.filters.min_stratum, said.filters.max_delay_ratio), (2, 2.5));
        assert_eq!((said.filters.max_delay, said.filters.max_delay_dev_ratio), (Span::from_seconds(0.02), 10.0));
        assert_eq!(said.presend, Some(9));
        assert_eq!(said.origin.address, Some([192, 0, 2, 9].into()));
        assert_eq!(said.origin.interface.as_deref(), Some("eth0"));
    }

    #[test]
    fn what_cannot_be_meant() {
        for (lines, title) in [
            ("version = 5", "`version` is out of range"),
            ("minpoll = -7", "`minpoll` is out of range"),
            ("maxdelayratio = 0.5", "`maxdelayratio` is out of range"),
            ("bind_address = \"eth0\"", "`eth0` is not an address to send from"),
            ("bind_interface = \"an interface\"", "`an interface` is not the name of an interface"),
            ("key = 7", "`key` names a key, and there is no file of keys"),
        ] {
            assert_eq!(server(lines).unwrap_err(), [title], "{lines}");
        }
        let group = Config::from_toml("test.toml", "[[server]]\naddress = \"239.192.1.1\"\n").unwrap_err();
        assert_eq!(group[0].title, "a group of servers is not one");
    }

    #[test]
    fn a_pool_may_be_a_group() {
        let pool = |address: &str| format!("[[pool]]\naddress = \"{address}\"\nttl = 4\nbind_address = \"10.0.0.1\"\n");
        let (config, warnings) = Config::from_toml("test.toml", &pool("239.192.1.1")).unwrap();
        let group = config.pools[0].group().unwrap();
        assert_eq!((group.address, group.ttl), ("239.192.1.1:123".parse().unwrap(), 4));
        assert_eq!((group.origin.address, warnings.len()), (Some([10, 0, 0, 1].into()), 0));
        let (config, warnings) = Config::from_toml("test.toml", &pool("ntp.example.org")).unwrap();
        assert_eq!(config.pools[0].group(), None);
        assert_eq!(warnings[0].title, "`ttl` of servers that are not asked as a group means nothing");
    }
}
