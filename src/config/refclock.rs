//! `[[refclock]]`: single reference clocks as they are written.

use std::ops::Range;

use refclocks::phc::ClockScale;
use refclocks::shell::gpsd::Address;
use refclocks::shell::sock::Access;
use refclocks::{Edge, ReferenceId};
use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::{Diagnostic, quoted};
use super::model::{Driver, GPSD_PORT, PhcInput, Refclock};
use super::server::is_host;
use super::source::{Written, choices, device};
use super::value::{At, Section, absolute, unknown};

/// Drivers of this version.
const DRIVERS: [&str; 7] = ["nmea", "ubx", "pps", "phc", "gpsd", "shm", "sock"];
/// Keys of every reference clock.
const COMMON: [&str; 10] =
    ["driver", "name", "refid", "delay", "offset", "prefer", "noselect", "trust", "require", "stratum"];

/// Reads one `[[refclock]]`. `None`: it cannot be said what it is.
pub(super) fn refclock(value: &Spanned<DeValue<'_>>, out: &mut Vec<Diagnostic>) -> Option<Written<Refclock>> {
    let section = Section::new("[[refclock]]", value, out)?;
    let read = driver(&section, out);
    let name = section.string("name", out);
    let refid = refid(&section, out);
    let delay = section.duration("delay", 0.0..=2.0, out);
    let offset = section.duration("offset", -1.0..=1.0, out);
    let options = choices(&section, out);
    let stratum = section.integer("stratum", 0..=15, out);
    let (driver, device) = read?;
    let lock = if takes_lock(driver.name()) { section.string("lock", out) } else { None };
    let mut source = Refclock::new(driver);
    source.refid = refid.unwrap_or(source.refid);
    source.name = name.as_ref().map_or_else(String::new, |(name, _)| (*name).to_owned());
    source.delay = delay;
    source.offset = offset.unwrap_or(source.offset);
    source.lock = lock.as_ref().map(|(lock, _)| (*lock).to_owned());
    source.options = options;
    source.stratum = stratum.and_then(|s| u8::try_from(s).ok()).unwrap_or(source.stratum);
    if source.delay.is_some() && matches!(source.driver, Driver::Pps { .. } | Driver::Phc { .. }) {
        let span = section.get("delay").map_or(section.span.clone(), Spanned::span);
        let help = "Use `offset` for a constant lateness of its stamps; delete `delay`.";
        out.push(Diagnostic::warning(span, "`delay` means nothing for a pulse or a hardware clock", help));
    }
    Some(Written {
        source,
        section: section.span,
        name: name.map(|(_, span)| span),
        device,
        lock: lock.map(|(_, span)| span),
    })
}

fn takes_lock(driver: &str) -> bool {
    matches!(driver, "pps" | "phc" | "shm" | "sock")
}

fn refid(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> Option<ReferenceId> {
    let (text, span) = section.string("refid", out)?;
    let refid = ReferenceId::from_name(text);
    if refid.is_none() {
        let title = format!("{} is not a reference ID", quoted(text));
        out.push(Diagnostic::error(span, title, "Use one to four printable ASCII characters, such as \"GPS\"."));
    }
    refid
}

/// The driver with its own keys, and where its device is.
fn driver(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> Option<At<Driver>> {
    let (name, span) = section.required("driver", "nmea", out)?;
    let own: &[&str] = match name {
        "nmea" | "ubx" => &super::receiver::KEYS,
        "pps" => &["device", "edge", "echo", "kernel_consumer", "lock"],
        "phc" => &["device", "scale", "input", "pin", "edge", "lock"],
        "gpsd" => &["address", "device"],
        "shm" => &["unit", "pulse", "trust_owner", "lock"],
        "sock" => &["path", "pulse", "mode", "owner", "group", "lock"],
        _ => {
            out.push(unknown(name, span, format!("unknown driver {}", quoted(name)), &DRIVERS));
            return None;
        }
    };
    let known: Vec<&str> = COMMON.iter().chain(own).copied().collect();
    section.only(&known, out);
    match name {
        "nmea" | "ubx" => {
            let (receiver, span) = super::receiver::receiver(section, name == "ubx", out)?;
            Some((Driver::Receiver(receiver), span))
        }
        "pps" => {
            let edges = [("auto", None), ("assert", Some(Edge::Assert)), ("clear", Some(Edge::Clear))];
            let edge = section.choice("edge", "edge", &edges, out).flatten();
            let echo = section.boolean("echo", out).unwrap_or(false);
            let kernel_consumer = section.boolean("kernel_consumer", out).unwrap_or(false);
            let (device, span) = match section.string("device", out) {
                Some(("auto", span)) => (None, span),
                _ => device(section, "device", "/dev/pps0", out).map(|(path, span)| (Some(path), span))?,
            };
            Some((Driver::Pps { device, edge, echo, kernel_consumer }, span))
        }
        "phc" => phc(section, out),
        "gpsd" => {
            let (text, span) = section.string("address", out).unwrap_or(("127.0.0.1", section.span.clone()));
            let device = section.string("device", out).map(|(path, _)| path.to_owned());
            let address = gpsd_address(text, span.clone(), out)?;
            Some((Driver::Gpsd { address, device }, span))
        }
        "shm" => {
            let pulse = section.boolean("pulse", out);
            let trust_owner = section.boolean("trust_owner", out).unwrap_or(false);
            let unit = section.integer("unit", 0..=255, out);
            let Some(at) = section.get("unit") else {
                let help = "Add a line such as `unit = 0`.";
                out.push(Diagnostic::error(section.span.clone(), "[[refclock]] has no `unit`", help));
                return None;
            };
            Some((Driver::Shm { unit: u8::try_from(unit?).ok()?, pulse, trust_owner }, at.span()))
        }
        _ => {
            let pulse = section.boolean("pulse", out).unwrap_or(false);
            let access = access(section, out);
            let (path, span) = device(section, "path", "/run/refclockd/gps.sock", out)?;
            Some((Driver::Sock { path, pulse, access }, span))
        }
    }
}

/// Where a gpsd listens: host or address with or without a port, or a Unix socket.
fn gpsd_address(text: &str, span: Range<usize>, out: &mut Vec<Diagnostic>) -> Option<Address> {
    if text.starts_with('/') {
        return absolute("address", text, span, out).map(Address::Unix);
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let with_port = || {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        Some((host, port.parse().ok().filter(|port| *port != 0)?))
    };
    let found = if is_host(bare) { Some((bare, GPSD_PORT)) } else { with_port().filter(|(host, _)| is_host(host)) };
    let Some((host, port)) = found else {
        let title = format!("{} is not where a gpsd can be", quoted(text));
        let help = "Write a name or an address, with a port if it is not 2947, such as \"127.0.0.1:2947\"; or a \
                    Unix socket's path.";
        out.push(Diagnostic::error(span, title, help));
        return None;
    };
    Some(Address::Tcp(host.to_owned(), port))
}

/// A hardware clock: its time, or the pulse on an input of it.
fn phc(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> Option<At<Driver>> {
    let number = |key, out: &mut Vec<Diagnostic>| {
        section.integer(key, 0..=255, out).and_then(|number| u32::try_from(number).ok())
    };
    let scales = [("tai", ClockScale::Tai), ("utc", ClockScale::Utc)];
    let scale = section.choice("scale", "time scale", &scales, out).unwrap_or(ClockScale::Tai);
    let edges = [("assert", Edge::Assert), ("clear", Edge::Clear)];
    let edge = section.choice("edge", "edge", &edges, out).unwrap_or(Edge::Assert);
    let (channel, pin) = (number("input", out), number("pin", out));
    let input = channel.map(|channel| PhcInput { channel, pin, edge });
    let useless: &[&str] = if input.is_some() { &["scale"] } else { &["pin", "edge", "lock"] };
    for key in useless.iter().filter(|key| section.get(key).is_some()) {
        let span = section.get(key).map_or(section.span.clone(), Spanned::span);
        let (title, help) = match input {
            Some(_) => (
                format!("`{key}` means nothing for a pulse"),
                "Delete it: only the edge is taken, whatever time the clock keeps.",
            ),
            None => (
                format!("`{key}` means nothing without `input`"),
                "Add `input = 0` if a pulse comes in there, or delete it.",
            ),
        };
        out.push(Diagnostic::warning(span, title, help));
    }
    let (device, span) = device(section, "device", "/dev/ptp0", out)?;
    Some((Driver::Phc { device, scale, input }, span))
}

/// Who may write to a socket that we make.
fn access(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> Access {
    let mut access = Access::default();
    if let Some((text, span)) = section.string("mode", out) {
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 => access.mode = mode,
            _ => {
                let title = format!("{} is not a mode", quoted(text));
                out.push(Diagnostic::error(span, title, "Write it as for chmod, such as \"0660\"."));
            }
        }
    }
    access.owner = section.string("owner", out).map(|(name, _)| name.to_owned());
    access.group = section.string("group", out).map(|(name, _)| name.to_owned());
    access
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpsd_is_named_in_many_ways() {
        let read = |text: &str| {
            let mut out = Vec::new();
            (gpsd_address(text, 0..text.len(), &mut out).map(|address| address.to_string()), out.len())
        };
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:2947"),
            ("localhost:3000", "localhost:3000"),
            ("::1", "[::1]:2947"),
            ("[::1]:2948", "[::1]:2948"),
            ("[fd00::7]", "[fd00::7]:2947"),
            ("/run/gps.sock", "/run/gps.sock"),
        ] {
            assert_eq!(read(text), (Some(address.to_owned()), 0), "{text}");
        }
        for text in ["localhost:0", "a b", "host:70000", ":2947", "http://localhost"] {
            assert_eq!(read(text), (None, 1), "{text}");
        }
    }
}
