//! `[[passive_peer]]`: those who have us for a peer, and are one of ours for it.

use refclocks::time::Span;
use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::Diagnostic;
use super::model::Server;
use super::source::choices;
use super::value::Section;

/// Whoever sends to us as a peer, signed with a key.
#[derive(Clone, Debug, PartialEq)]
pub struct PassivePeer {
    /// What each of them is like.
    pub each: Server,
    /// The key.
    pub key: u32,
    /// So many of them at most.
    pub maxsources: usize,
}

/// Reads one `[[passive_peer]]`.
pub(super) fn passive_peer(value: &Spanned<DeValue<'_>>, out: &mut Vec<Diagnostic>) -> Option<PassivePeer> {
    let section = Section::new("[[passive_peer]]", value, out)?;
    let known = ["name", "key", "maxsources", "maxdelay", "minstratum", "prefer", "noselect", "trust", "require"];
    section.only(&known, out);
    let mut each = Server::new("passive peers");
    each.name = section.string("name", out).map_or(each.host.clone(), |(name, _)| name.to_owned());
    each.options = choices(&section, out);
    if section.get("key").is_none() {
        let title = "[[passive_peer]] without a `key`: any host of the network could set the clock";
        out.push(Diagnostic::error(section.span.clone(), title, "Add the `key` that they sign with."));
    }
    let filters = &mut each.filters;
    if let Some(longest) = section.duration("maxdelay", 1e-6..=1000.0, out) {
        filters.max_delay = Span::from_seconds(longest);
    }
    let stratum = section.integer("minstratum", 0..=15, out).and_then(|n| u8::try_from(n).ok());
    filters.min_stratum = stratum.unwrap_or(filters.min_stratum);
    let maxsources = section.integer("maxsources", 1..=64, out).and_then(|n| usize::try_from(n).ok()).unwrap_or(8);
    let key = section.integer("key", 1..=i64::from(u32::MAX), out).and_then(|id| u32::try_from(id).ok())?;
    each.key = Some(key);
    Some(PassivePeer { each, key, maxsources })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(lines: &str) -> Result<Vec<PassivePeer>, Vec<String>> {
        let text = format!("[keys]\nfile = \"/k\"\n[serve]\n{lines}\n");
        let titles = |all: Vec<Diagnostic>| all.into_iter().map(|d| d.title).collect::<Vec<_>>();
        Config::from_toml("test.toml", &text).map(|(config, _)| config.passive_peers).map_err(titles)
    }

    #[test]
    fn strangers_are_peers_only_with_a_key() {
        let peers =
            read("[[passive_peer]]\nkey = 7\nmaxsources = 2\nnoselect = true\n[[passive_peer]]\nkey = 8").unwrap();
        assert_eq!((peers[0].key, peers[0].maxsources, peers[0].each.options.noselect), (7, 2, true));
        assert_eq!((peers[1].key, peers[1].maxsources, peers[1].each.name.as_str()), (8, 8, "passive peers"));
        for (lines, title) in [
            ("[[passive_peer]]", "[[passive_peer]] without a `key`: any host of the network could set the clock"),
            ("[[passive_peer]]\nkey = 1\naddress = \"a\"", "unknown key `address` in [[passive_peer]]"),
            ("[[passive_peer]]\nkey = 1\nmaxsources = 65", "`maxsources` is out of range"),
            ("[[passive_peer]]\nkey = 1\n[[passive_peer]]\nkey = 1", "two [[passive_peer]] sections have key 1"),
        ] {
            assert_eq!(read(lines).unwrap_err(), [title], "{lines}");
        }
    }

    #[test]
    fn nobody_comes_where_nothing_is_served() {
        let text = "[keys]\nfile = \"/k\"\n[[passive_peer]]\nkey = 1\n";
        let titles = Config::from_toml("test.toml", text).unwrap_err();
        assert_eq!(titles[0].title, "[[passive_peer]] without [serve]");
    }
}
