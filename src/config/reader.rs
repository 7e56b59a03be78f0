//! From TOML to the model, with everything that is wrong on the way.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::broadcast::broadcast;
use super::broadcast_client::broadcast_client;
use super::clock::clock;
use super::diagnostic::{Diagnostic, quoted};
use super::dialect::foreign_line;
use super::feed::feed;
use super::hwtimestamp::{hwtimestamp, unreachable_ones};
use super::keys;
use super::model::{Config, Pool, Refclock, Server, Thermometer};
use super::passive_peer::passive_peer;
use super::refclock::refclock;
use super::serve;
use super::server::{pool, server};
use super::source::Written;
use super::value::{Section, unknown, wrong_type};
use crate::core::local::LocalPolicy;

/// Sections of the file.
const SECTIONS: [&str; 17] = [
    "refclock",
    "server",
    "pool",
    "feed",
    "broadcast",
    "broadcast_client",
    "passive_peer",
    "hwtimestamp",
    "local",
    "keys",
    "serve",
    "clock",
    "holdover",
    "control",
    "state",
    "process",
    "web",
];

impl Config {
    /// Reads a configuration. `file` is its name, for messages only.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, in the order of the text; warnings are among it. A configuration
    /// comes with its warnings.
    pub fn from_toml(file: &str, text: &str) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let mut out = Vec::new();
        let config = match DeTable::parse(text) {
            Ok(table) => read(file, table.get_ref(), &mut out),
            Err(error) => {
                out.push(not_toml(text, &error));
                Self::default()
            }
        };
        out.sort_by_key(|d| d.span.as_ref().map(|s| (s.start, s.end)).unwrap_or((usize::MAX, 0)));
        if out.iter().any(Diagnostic::is_error) { Err(out) } else { Ok((config, out)) }
    }
}

fn not_toml(text: &str, error: &toml::de::Error) -> Diagnostic {
    if let Some(span) = foreign_line(text) {
        let title = "this looks like ntp.conf or chrony.conf, not like a configuration of refclockd";
        let help = "Reading these dialects comes in a later version. Write the sources as TOML: [[refclock]] \
                    and [[server]] sections, see docs/configuration.md.";
        return Diagnostic::error(span, title, help);
    }
    let title = format!("not TOML: {}", error.message().lines().next().unwrap_or("cannot be read"));
    let help = "Mend this first; the rest of the file is read after that.";
    let span = error.span().unwrap_or(text.len()..text.len());
    Diagnostic::error(span, title, help)
}

fn read(file: &str, table: &DeTable<'_>, out: &mut Vec<Diagnostic>) -> Config {
    let mut config = Config::default();
    for key in table.keys() {
        let name: &str = key.get_ref();
        if !SECTIONS.contains(&name) {
            out.push(unknown(name, key.span(), format!("unknown section {}", quoted(name)), &SECTIONS));
        } else if name == "web" {
            let help = "It is ignored; `refclockd check` and the control socket show the same.";
            out.push(Diagnostic::warning(key.span(), "[web] is not in this version", help));
        }
    }
    let refclocks = array(table, "refclock", out, refclock);
    let servers = array(table, "server", out, server);
    let pools = array(table, "pool", out, pool);
    let mut one = |key: &str, title: &'static str, read: &mut dyn FnMut(Section<'_, '_>, &mut Vec<Diagnostic>)| {
        if let Some(section) = table.get(key).and_then(|value| Section::new(title, value, out)) {
            read(section, out);
        }
    };
    one("local", "[local]", &mut |section, out| config.local = Some(local(&section, out)));
    one("keys", "[keys]", &mut |section, out| config.keys = keys::keys(&section, out));
    one("serve", "[serve]", &mut |section, out| config.serve = Some(serve::serve(&section, out)));
    one("clock", "[clock]", &mut |section, out| clock(&section, &mut config.clock, out));
    one("holdover", "[holdover]", &mut |section, out| {
        section.only(&["budget", "thermometer"], out);
        // Below a microsecond nothing coasts; beyond a second nobody needs us.
        config.holdover_budget = section.duration("budget", 1e-6..=1.0, out).unwrap_or(config.holdover_budget);
        config.thermometer = match section.string("thermometer", out) {
            None | Some(("auto", _)) => Thermometer::Auto,
            Some(("none", _)) => Thermometer::None,
            Some(_) => section.path("thermometer", out).map_or(Thermometer::None, Thermometer::File),
        };
    });
    one("control", "[control]", &mut |section, out| {
        section.only(&["socket"], out);
        config.control_socket = section.path("socket", out).unwrap_or_else(|| config.control_socket.clone());
    });
    one("state", "[state]", &mut |section, out| {
        section.only(&["dir"], out);
        config.state_dir = section.path("dir", out).unwrap_or_else(|| config.state_dir.clone());
    });
    one("process", "[process]", &mut |section, out| {
        section.only(&["user", "sandbox"], out);
        config.process.user = section.string("user", out).map(|(name, _)| name.to_owned());
        config.process.sandbox = section.boolean("sandbox", out).unwrap_or(true);
    });
    if !["refclock", "server", "pool", "broadcast_client", "passive_peer"].iter().any(|key| table.contains_key(*key)) {
        let here = 0..0;
        if config.local.is_some() {
            let help = "Add a [[refclock]] or a [[server]] unless that is what you want.";
            let title = "no source: [local] serves a clock that nothing disciplines";
            out.push(Diagnostic::warning(here, title, help).of_the_file());
        } else {
            let title = format!("no source at all in {}", quoted(file));
            let help = "Add a [[refclock]] or a [[server]] section, see docs/configuration.md.";
            out.push(Diagnostic::error(here, title, help).of_the_file());
        }
    }
    (config.refclocks, config.servers, config.pools) = together(refclocks, servers, pools, out);
    config.broadcast_clients = array(table, "broadcast_client", out, broadcast_client).into_iter().flatten().collect();
    listeners_have_names(table, &config, out);
    config.passive_peers = array(table, "passive_peer", out, passive_peer).into_iter().flatten().collect();
    passive_peers_can_come(table, &config, out);
    let cards = array(table, "hwtimestamp", out, |value, out| Some((hwtimestamp(value, out)?, value.span())));
    let cards: Vec<_> = cards.into_iter().flatten().collect();
    unreachable_ones(&cards, out);
    config.hwtimestamps = cards.into_iter().map(|(wish, _)| wish).collect();
    if !table.contains_key("keys") {
        signed_without_keys(table, out);
    }
    config.broadcasts = array(table, "broadcast", out, broadcast).into_iter().flatten().collect();
    if let Some(at) = table.get("broadcast").filter(|_| config.serve.is_none()) {
        let help = "Add a [serve] section: what is told leaves from the sockets that answer.";
        out.push(Diagnostic::error(at.span(), "[[broadcast]] without [serve]", help));
    }
    config.feeds = array(table, "feed", out, |value, out| feed(value, &config, out)).into_iter().flatten().collect();
    for (at, feed) in config.feeds.iter().enumerate() {
        if config.feeds.iter().take(at).any(|other| other.address() == feed.address()) {
            let title = format!("two [[feed]] sections tell {}", quoted(&feed.address()));
            let span = table.get("feed").map_or(0..0, Spanned::span);
            out.push(Diagnostic::error(span, title, "Keep one of them: a reader is told one thing."));
        }
    }
    if let Some(at) = table.get("local").filter(|_| config.local.is_some_and(|local| local.orphan))
        && config.servers.is_empty()
        && config.pools.is_empty()
    {
        let help = "Name the other machines in [[server]] sections, each in each; or delete `orphan`.";
        let title = "`orphan` chooses one of several machines, and none of the others is a server here";
        out.push(Diagnostic::warning(at.span(), title, help));
    }
    config
}

/// A listener stands for itself among the sources until somebody is heard.
fn listeners_have_names(table: &DeTable<'_>, config: &Config, out: &mut Vec<Diagnostic>) {
    let sources = config.refclocks.iter().map(|clock| &clock.name);
    let sources = sources.chain(config.servers.iter().map(|server| &server.name));
    let others = sources.chain(config.pools.iter().map(|pool| &pool.each.name));
    let mut names: Vec<&String> = others.collect();
    for client in &config.broadcast_clients {
        if names.contains(&&client.each.name) {
            let span = table.get("broadcast_client").map_or(0..0, Spanned::span);
            let title = format!("two sources are named {}", quoted(&client.each.name));
            out.push(Diagnostic::error(span, title, "Give this one another `name`."));
        }
        names.push(&client.each.name);
    }
}

/// Strangers come to the sockets that answer, and are told apart by their keys.
fn passive_peers_can_come(table: &DeTable<'_>, config: &Config, out: &mut Vec<Diagnostic>) {
    let Some(at) = table.get("passive_peer").map(Spanned::span) else { return };
    if config.serve.is_none() {
        let help = "Add a [serve] section: they send to the sockets that answer.";
        out.push(Diagnostic::error(at.clone(), "[[passive_peer]] without [serve]", help));
    }
    for (index, peer) in config.passive_peers.iter().enumerate() {
        if config.passive_peers.iter().take(index).any(|other| other.key == peer.key) {
            let title = format!("two [[passive_peer]] sections have key {}", peer.key);
            out.push(Diagnostic::error(at.clone(), title, "Keep one of them, or give their peers another key."));
        }
    }
}

/// Servers that are to be asked with keys, and there are none.
fn signed_without_keys(table: &DeTable<'_>, out: &mut Vec<Diagnostic>) {
    let lists = ["server", "pool", "broadcast", "broadcast_client", "passive_peer"]
        .into_iter()
        .filter_map(|kind| table.get(kind)?.get_ref().as_array());
    for at in lists.flatten().filter_map(|item| item.get_ref().as_table()?.get("key")) {
        let help = "Add a [keys] section with the `file` that holds it.";
        out.push(Diagnostic::error(at.span(), "`key` names a key, and there is no file of keys", help));
    }
}

/// Reads an array of tables.
fn array<T>(
    table: &DeTable<'_>,
    key: &str,
    out: &mut Vec<Diagnostic>,
    read: impl Fn(&Spanned<DeValue<'_>>, &mut Vec<Diagnostic>) -> Option<T>,
) -> Vec<Result<T, Option<String>>> {
    let Some(value) = table.get(key) else { return Vec::new() };
    let DeValue::Array(items) = value.get_ref() else {
        let mut problem = wrong_type(
            key,
            &format!("[[{key}]] with two brackets: there can be several"),
            value.get_ref(),
            value.span(),
        );
        problem.label = "one table, not a list of them".to_owned();
        out.push(problem);
        return Vec::new();
    };
    let name = |item: &Spanned<DeValue<'_>>| {
        let table = item.get_ref().as_table()?;
        ["name", "refid"].iter().find_map(|key| Some(table.get(*key)?.get_ref().as_str()?.to_owned()))
    };
    items.iter().map(|item| read(item, out).ok_or_else(|| name(item))).collect()
}

/// Names the sources, and checks what they say of each other. Of a source that could not be read,
/// the name is known at best.
fn together(
    refclocks: Vec<Result<Written<Refclock>, Option<String>>>,
    servers: Vec<Result<Written<Server>, Option<String>>>,
    pools: Vec<Result<Written<Pool>, Option<String>>>,
    out: &mut Vec<Diagnostic>,
) -> (Vec<Refclock>, Vec<Server>, Vec<Pool>) {
    let all_read =
        refclocks.iter().all(Result::is_ok) && servers.iter().all(Result::is_ok) && pools.iter().all(Result::is_ok);
    let unread: Vec<String> = (refclocks.iter().filter_map(|r| r.as_ref().err()))
        .chain(servers.iter().filter_map(|s| s.as_ref().err()))
        .flatten()
        .cloned()
        .collect();
    let mut refclocks: Vec<Written<Refclock>> = refclocks.into_iter().filter_map(Result::ok).collect();
    let mut servers: Vec<Written<Server>> = servers.into_iter().filter_map(Result::ok).collect();
    let mut pools: Vec<Written<Pool>> = pools.into_iter().filter_map(Result::ok).collect();

    name_refclocks(&mut refclocks);
    let mut names: HashMap<String, ()> = HashMap::new();
    let mut devices: HashMap<String, ()> = HashMap::new();
    let mut twice = |name: &str, span: Range<usize>, out: &mut Vec<Diagnostic>| {
        if names.insert(name.to_owned(), ()).is_some() {
            let title = format!("two sources are named {}", quoted(name));
            out.push(Diagnostic::error(span, title, "Give this one another `name`."));
        }
    };
    for r in &refclocks {
        twice(&r.source.name, r.name.clone().unwrap_or(r.section.clone()), out);
        let address = r.source.driver.address();
        // A serial port may give messages by its data and a pulse by its DCD input.
        if devices.insert(format!("{} {address}", r.source.driver.name()), ()).is_some() {
            let title = format!("two refclocks read {}", quoted(&address));
            out.push(Diagnostic::error(r.device.clone(), title, "Keep one of them: a device is one source."));
        }
    }
    let servers_of_all = (servers.iter_mut().map(|s| (&mut s.source, &s.name, &s.device)))
        .chain(pools.iter_mut().map(|p| (&mut p.source.each, &p.name, &p.device)));
    for (server, name, device) in servers_of_all {
        let host = format!("{} port {}", server.host, server.port);
        if devices.insert(host, ()).is_some() {
            let title = format!("two servers are {}", quoted(&server.host));
            out.push(Diagnostic::error(device.clone(), title, "Keep one of them: asked twice is not two opinions."));
            continue;
        }
        if server.name.is_empty() {
            server.name.clone_from(&server.host);
        }
        twice(&server.name, name.clone().unwrap_or(device.clone()), out);
    }
    let network: Vec<&str> = (servers.iter().map(|s| s.source.name.as_str()))
        .chain(pools.iter().map(|p| p.source.each.name.as_str()))
        .collect();
    locks(&refclocks, &network, &unread, all_read, out);
    (
        refclocks.into_iter().map(|r| r.source).collect(),
        servers.into_iter().map(|s| s.source).collect(),
        pools.into_iter().map(|p| p.source).collect(),
    )
}

/// Refclocks without a name are called by their reference ID, with a number if it is not theirs alone.
fn name_refclocks(refclocks: &mut [Written<Refclock>]) {
    let mut taken: Vec<String> = refclocks.iter().filter(|r| r.name.is_some()).map(|r| r.source.name.clone()).collect();
    let refids: Vec<String> = refclocks.iter().map(|r| r.source.refid.to_string()).collect();
    for (r, refid) in refclocks.iter_mut().zip(&refids) {
        if r.name.is_some() {
            continue;
        }
        let alone = refids.iter().filter(|other| *other == refid).count() == 1;
        let numbered = (1u32..).map(|n| format!("{refid}{n}"));
        let name = alone.then(|| refid.clone()).into_iter().chain(numbered).find(|name| !taken.contains(name));
        r.source.name = name.unwrap_or_default();
        taken.push(r.source.name.clone());
    }
}

/// Pulses need somebody who numbers them.
fn locks(
    refclocks: &[Written<Refclock>],
    network: &[&str],
    unread: &[String],
    all_read: bool,
    out: &mut Vec<Diagnostic>,
) {
    let names: Vec<&str> = (refclocks.iter().map(|r| r.source.name.as_str()))
        .chain(network.iter().copied())
        .chain(unread.iter().map(String::as_str))
        .collect();
    for r in refclocks {
        let (Some(lock), Some(span)) = (&r.source.lock, &r.lock) else { continue };
        let target = refclocks.iter().find(|other| other.source.name == *lock);
        if *lock == r.source.name || target.is_some_and(|t| t.source.driver.is_bare_pulse()) {
            let title = format!("{} cannot number the pulses: it gives pulses itself", quoted(lock));
            out.push(Diagnostic::error(span.clone(), title, "Name a source that tells the date, or delete `lock`."));
        } else if !names.contains(&lock.as_str()) {
            let others: Vec<&str> = names.iter().copied().filter(|name| *name != r.source.name).collect();
            let title = format!("`lock` names {}, and no source has that name", quoted(lock));
            let mut problem = unknown(lock, span.clone(), title, &others);
            if others.is_empty() {
                problem.help = "Add a source that tells the date, or delete `lock`.".to_owned();
            }
            out.push(problem);
        }
    }
    let numbering = refclocks.iter().any(|r| !r.source.driver.is_bare_pulse()) || !network.is_empty();
    if let (Some(pulse), false, true) = (refclocks.first(), numbering, all_read) {
        let title = "pulses only: nothing says which second a pulse marks";
        let help = "Add the receiver's messages (driver `nmea`) or a [[server]]; without one the pulse is not used.";
        out.push(Diagnostic::warning(pulse.section.clone(), title, help));
    }
}

fn local(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> LocalPolicy {
    section.only(&["stratum", "distance", "activate", "orphan", "wait_synchronised", "wait_unsynchronised"], out);
    let orphan = section.boolean("orphan", out).unwrap_or(false);
    let usual = LocalPolicy::usual(orphan);
    let stratum = section.integer("stratum", 1..=15, out).and_then(|s| u8::try_from(s).ok());
    let day = 86_400.0;
    LocalPolicy {
        stratum: stratum.unwrap_or(usual.stratum),
        distance: section.duration("distance", 1e-6..=16.0, out).unwrap_or(usual.distance),
        activate: section.duration("activate", 1e-6..=16.0, out),
        orphan,
        wait_synchronised: section.duration("wait_synchronised", 0.0..=day, out).unwrap_or(usual.wait_synchronised),
        wait_unsynchronised: section
            .duration("wait_unsynchronised", 0.0..=day, out)
            .unwrap_or(usual.wait_unsynchronised),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(text: &str) -> Vec<String> {
        let said = Config::from_toml("test.toml", text);
        said.map_or_else(|errors| errors, |(_, warnings)| warnings).into_iter().map(|d| d.title).collect()
    }

    #[test]
    fn a_port_may_give_messages_and_a_pulse_but_not_messages_twice() {
        let nmea = "[[refclock]]\ndriver = \"nmea\"\ndevice = \"/dev/ttyS1\"\n";
        let pps = "[[refclock]]\ndriver = \"pps\"\ndevice = \"/dev/ttyS1\"\n";
        assert_eq!(titles(&format!("{nmea}{pps}")), Vec::<String>::new());
        assert_eq!(titles(&format!("{nmea}{nmea}{pps}")), ["two refclocks read `/dev/ttyS1`"]);
    }
}
