//! `[serve] listen`: addresses, and interfaces by their names.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;

use super::diagnostic::{Diagnostic, quoted};
use super::value::socket_address;
use crate::ntp::NTP_PORT;
use crate::sys::networks::Interface;

/// Octets of an interface's name at most (IFNAMSIZ less one).
const LONGEST_NAME: usize = 15;

/// A place where requests are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address, or all there are.
    At(SocketAddr),
    /// The addresses of an interface, as they come and go.
    On {
        /// Its name.
        interface: String,
        /// The port.
        port: u16,
    },
}

impl Listen {
    /// Its addresses, as the interfaces are now; none where there is no such interface, or it is down.
    pub fn addresses(&self, interfaces: &[Interface]) -> Vec<SocketAddr> {
        match self {
            Self::At(address) => vec![*address],
            Self::On { interface, port } => {
                let found = interfaces.iter().filter(|known| known.name == *interface);
                let addresses = found.flat_map(|known| known.addresses.iter().copied());
                addresses.map(|address| with_port(address, *port)).collect()
            }
        }
    }
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::On { interface, port: NTP_PORT } => write!(f, "{interface}"),
            Self::On { interface, port } => write!(f, "{interface}:{port}"),
        }
    }
}

/// Reads an entry: `192.0.2.1`, `[::1]:1123`, `eth0` or `eth0:1123`.
pub(super) fn listen(text: &str, span: Range<usize>, out: &mut Vec<Diagnostic>) -> Option<Listen> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().ok()),
        None => (text, Some(NTP_PORT)),
    };
    let is_name = (1..=LONGEST_NAME).contains(&name.len())
        && name.chars().any(|c| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@'));
    match port {
        Some(port @ 1..) if is_name => Some(Listen::On { interface: name.to_owned(), port }),
        _ if is_name => {
            let title = format!("{} has no port after the colon", quoted(text));
            out.push(Diagnostic::error(span, title, format!("Write \"{name}\" for port {NTP_PORT}, or a number.")));
            None
        }
        _ => socket_address(text, NTP_PORT, span, out).map(Listen::At),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Listen, String> {
        let mut out = Vec::new();
        listen(text, 0..1, &mut out).ok_or_else(|| out.remove(0).title)
    }

    #[test]
    fn addresses_and_names() {
        let at = |text: &str| Ok(Listen::At(text.parse().unwrap()));
        let on = |interface: &str, port| Ok(Listen::On { interface: interface.into(), port });
        for (text, expected) in [
            ("192.0.2.1", at("192.0.2.1:123")),
            ("192.0.2.1:1123", at("192.0.2.1:1123")),
            ("[fd00::1]:1123", at("[fd00::1]:1123")),
            ("fd00::1", at("[fd00::1]:123")),
            ("fe80::1", at("[fe80::1]:123")),
            ("eth0", on("eth0", 123)),
            ("eth0.100", on("eth0.100", 123)),
            ("br-lan:1123", on("br-lan", 1123)),
            ("eth0:", Err("`eth0:` has no port after the colon".into())),
            ("eth0:0", Err("`eth0:0` has no port after the colon".into())),
            ("192.0.2.300", Err("`192.0.2.300` is not an address to use here".into())),
            ("2001:pppp::", Err("`2001:pppp::` is not an address to use here".into())),
            (
                "an-interface-with-a-long-name",
                Err("`an-interface-with-a-long-name` is not an address to use here".into()),
            ),
            ("", Err("`` is not an address to use here".into())),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        assert_eq!(
            ["eth0", "eth0:1123", "[::]:123"].map(|text| read(text).unwrap().to_string()),
            ["eth0", "eth0:1123", "[::]:123"]
        );
    }

    #[test]
    fn an_interface_has_the_addresses_that_it_has_now() {
        let interface = |name: &str, addresses: &[&str]| Interface {
            name: name.into(),
            index: 2,
            multicast: true,
            broadcast: Vec::new(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        let now = [interface("lo", &["127.0.0.1:0"]), interface("eth0", &["192.0.2.1:0", "[fe80::1%2]:0"])];
        let of = |text: &str| read(text).unwrap().addresses(&now).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of("eth0:1123"), ["192.0.2.1:1123", "[fe80::1%2]:1123"]);
        assert_eq!(of("192.0.2.9"), ["192.0.2.9:123"]);
        assert!(of("eth1").is_empty());
    }
}
