//! `[[broadcast_client]]`: broadcasters that are listened to.

use std::net::IpAddr;

use refclocks::time::Span;
use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::{Diagnostic, quoted};
use super::model::Server;
use super::server::interface;
use super::source::choices;
use super::value::Section;

/// Whoever tells the time to a network of ours, or to a group.
#[derive(Clone, Debug, PartialEq)]
pub struct BroadcastClient {
    /// What each of them is like; name and host are what is listened to.
    pub each: Server,
    /// A broadcast or multicast address. `None`: the broadcast addresses of all interfaces.
    pub address: Option<IpAddr>,
    /// The assumed round trip of those that answer no volley. `None`: measured.
    pub delay: Option<Span>,
    /// So many broadcasters at most.
    pub maxsources: usize,
}

/// Reads one `[[broadcast_client]]`.
pub(super) fn broadcast_client(value: &Spanned<DeValue<'_>>, out: &mut Vec<Diagnostic>) -> Option<BroadcastClient> {
    let section = Section::new("[[broadcast_client]]", value, out)?;
    section.only(
        &[
            "address",
            "name",
            "port",
            "interface",
            "key",
            "unsigned",
            "delay",
            "maxdelay",
            "maxsources",
            "minstratum",
            "prefer",
            "noselect",
            "trust",
            "require",
        ],
        out,
    );
    let written = section.string("address", out);
    let address = match &written {
        None => None,
        Some((text, span)) => match text.parse::<IpAddr>() {
            Ok(address) => Some(address),
            Err(_) => {
                let title = format!("{} is not a broadcast or multicast address", quoted(text));
                let help = "Write an address such as 224.0.1.1, or delete `address` to hear all networks.";
                out.push(Diagnostic::error(span.clone(), title, help));
                return None;
            }
        },
    };
    let mut each = Server::new(written.map_or("broadcasts", |(text, _)| text));
    each.name = section.string("name", out).map_or(each.host.clone(), |(name, _)| name.to_owned());
    each.port = section.integer("port", 1..=65535, out).and_then(|p| u16::try_from(p).ok()).unwrap_or(each.port);
    each.options = choices(&section, out);
    each.key = section.integer("key", 1..=i64::from(u32::MAX), out).and_then(|id| u32::try_from(id).ok());
    each.origin.interface = interface(&section, "interface", out);
    let unsigned = section.boolean("unsigned", out).unwrap_or(false);
    if section.get("key").is_none() && !unsigned {
        let title = "[[broadcast_client]] without a `key`: any host of the network could set the clock";
        let help = "Add the `key` that they sign with, or `unsigned = true` if that is what you want.";
        out.push(Diagnostic::error(section.span.clone(), title, help));
    }
    if let (Some(_), true, Some(at)) = (each.key, unsigned, section.get("unsigned")) {
        let help = "Delete one of them; the `key` wins.";
        out.push(Diagnostic::warning(at.span(), "`unsigned` beside a `key` means nothing", help));
    }
    let filters = &mut each.filters;
    filters.max_delay = Span::from_seconds(section.duration("maxdelay", 1e-6..=1000.0, out).unwrap_or(0.1));
    let stratum = section.integer("minstratum", 0..=15, out).and_then(|n| u8::try_from(n).ok());
    filters.min_stratum = stratum.unwrap_or(filters.min_stratum);
    Some(BroadcastClient {
        each,
        address,
        delay: section.duration("delay", 0.0..=1.0, out).map(Span::from_seconds),
        maxsources: section.integer("maxsources", 1..=64, out).and_then(|n| usize::try_from(n).ok()).unwrap_or(10),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(lines: &str) -> Result<BroadcastClient, Vec<String>> {
        let text = format!("[keys]\nfile = \"/k\"\n[[broadcast_client]]\n{lines}\n");
        let titles = |all: Vec<Diagnostic>| all.into_iter().map(|d| d.title).collect::<Vec<_>>();
        let (mut config, _) = Config::from_toml("test.toml", &text).map_err(titles)?;
        Ok(config.broadcast_clients.remove(0))
    }

    #[test]
    fn networks_and_groups_are_listened_to() {
        let all = read("key = 5").unwrap();
        assert_eq!(
            (all.address, all.each.name.as_str(), all.each.key, all.maxsources),
            (None, "broadcasts", Some(5), 10)
        );
        assert_eq!((all.delay, all.each.filters.max_delay), (None, Span::from_seconds(0.1)));
        let group = read(
            "address = \"224.0.1.1\"\nunsigned = true\ndelay = \"4 ms\"\nmaxdelay = \"20 ms\"\ninterface = \"eth0\"\nnoselect = true\nmaxsources = 2",
        )
        .unwrap();
        assert_eq!((group.address, group.delay), (Some([224, 0, 1, 1].into()), Some(Span::from_seconds(0.004))));
        assert_eq!((group.each.origin.interface.as_deref(), group.each.options.noselect), (Some("eth0"), true));
    }

    #[test]
    fn nobody_is_believed_unasked() {
        for (lines, title) in [
            ("", "[[broadcast_client]] without a `key`: any host of the network could set the clock"),
            ("unsigned = true\naddress = \"eth0\"", "`eth0` is not a broadcast or multicast address"),
            ("key = 1\nmaxsources = 0", "`maxsources` is out of range"),
        ] {
            assert_eq!(read(lines).unwrap_err(), [title], "{lines}");
        }
    }
}
