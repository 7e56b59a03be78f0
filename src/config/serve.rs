//! `[serve]`: answering NTP requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use ipnet::IpNet;
use toml::de::DeValue;

use super::diagnostic::{Diagnostic, quoted};
use super::listen::{Listen, listen};
use super::value::{Section, network, wrong_type};
use crate::ntp::NTP_PORT;
use crate::ntp::access::allow::Subnet;
use crate::ntp::access::policy::Whom;
use crate::ntp::access::restrict::{Restriction, opens_unresolved};
use crate::ntp::access::{Flags, Policy};
use crate::ntp::limit::{Counting, Kiss, Limits};
use crate::ntp::monitor;
use crate::ntp::smear::Smear;
use crate::sys::networks::Interface;

/// Answering NTP requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Serve {
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// Who is answered besides this machine.
    pub allow: Vec<Whom>,
    /// Who is not, although allowed.
    pub deny: Vec<IpNet>,
    /// Who is answered, in ntpd's language; instead of the other two.
    pub restrict: Option<Vec<Restriction>>,
    /// How often one client is answered. `None`: as often as it asks, unless a `restrict` rule says
    /// `limited`.
    pub rate_limit: Option<Limits>,
    /// In these of the places leap seconds are spread.
    pub smeared: Vec<Listen>,
    /// Multicast groups whose members are asked (manycast); at the addresses that are any.
    pub groups: Vec<IpAddr>,
    /// Over how long before each.
    pub smear: Smear,
    /// How many clients are remembered, for each address and thread.
    pub clients: usize,
    /// Threads that answer; with none, the main thread does.
    pub workers: usize,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            listen: vec![
                Listen::At(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), NTP_PORT)),
                Listen::At(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), NTP_PORT)),
            ],
            allow: Vec::new(),
            deny: Vec::new(),
            restrict: None,
            rate_limit: None,
            smeared: Vec::new(),
            groups: Vec::new(),
            smear: Smear::default(),
            clients: monitor::USUAL_CLIENTS,
            workers: 1,
        }
    }
}

impl Serve {
    /// Who is answered, and on what terms.
    pub fn policy(&self) -> Policy {
        let limited = if self.rate_limit.is_some() { Flags::LIMITED | Flags::KOD } else { Flags::empty() };
        match &self.restrict {
            Some(list) => Policy::Restrict(list.clone()),
            None => Policy::lists(self.allow.clone(), self.deny.clone(), limited),
        }
    }
}

impl Serve {
    /// How often those whose rate is limited are answered; `None`: nobody's is.
    pub fn limits(&self) -> Option<Limits> {
        let restricted = || {
            let limited = self.restrict.iter().flatten().any(|rule| rule.flags.contains(Flags::LIMITED));
            limited.then_some(Limits::NTPD)
        };
        self.rate_limit.or_else(restricted)
    }
}

impl Serve {
    /// How leap seconds are spread in what is served in that place.
    pub fn smear_in(&self, place: &Listen) -> Option<Smear> {
        self.smeared.contains(place).then_some(self.smear)
    }

    /// Every address to listen on, as the interfaces are now, and how leap seconds are spread there. One that is
    /// named itself and belongs to an interface that is named as well is served as it itself says.
    pub fn addresses(&self, interfaces: &[Interface]) -> Vec<(SocketAddr, Option<Smear>)> {
        let mut all: Vec<(SocketAddr, Option<Smear>)> = Vec::new();
        let (themselves, by_name): (Vec<_>, Vec<_>) = self.listen.iter().partition(|l| matches!(l, Listen::At(_)));
        for place in themselves.into_iter().chain(by_name) {
            for address in place.addresses(interfaces) {
                if !all.iter().any(|(known, _)| *known == address) {
                    all.push((address, self.smear_in(place)));
                }
            }
        }
        all
    }

    /// Does it matter which interfaces there are?
    pub fn follows_interfaces(&self) -> bool {
        !self.groups.is_empty() || self.listen.iter().any(|place| matches!(place, Listen::On { .. }))
    }
}

/// Reads `smear` and `smear_interval`: where and over how long leap seconds are spread.
fn smear(section: &Section<'_, '_>, places: &[Listen], out: &mut Vec<Diagnostic>) -> (Vec<Listen>, Smear) {
    let smeared = section.list("smear", out, |text, span, out| {
        let place = listen(text, span.clone(), out)?;
        if !places.contains(&place) {
            let help = "Add it to `listen`: an address serves either smeared time or UTC.";
            out.push(Diagnostic::error(
                span,
                format!("smeared time at {}, which is not listened on", quoted(text)),
                help,
            ));
        }
        Some(place)
    });
    // The shortest is 1000 ppm, twice what some clients can follow; the longest is a week.
    let interval = section.duration("smear_interval", 1000.0..=604_800.0, out);
    if let (None, Some(at)) = (&smeared, section.get("smear_interval")) {
        let help = "Name the addresses of `listen` in `smear` at which leap seconds are to be spread.";
        out.push(Diagnostic::warning(at.span(), "`smear_interval` without `smear` means nothing", help));
    }
    (smeared.unwrap_or_default(), interval.map_or_else(Smear::default, |s| Smear { interval: s as u32 }))
}

/// Reads `multicast`: the groups that are served in.
fn groups(section: &Section<'_, '_>, listen: &[Listen], out: &mut Vec<Diagnostic>) -> Vec<IpAddr> {
    let groups = section.list("multicast", out, |text, span, out| {
        let Some(group) = text.parse().ok().filter(IpAddr::is_multicast) else {
            let title = format!("{} is not a multicast address", quoted(text));
            out.push(Diagnostic::error(span, title, "Write one such as 239.192.1.1 or ff05::101."));
            return None;
        };
        let hears = |place: &Listen| match place {
            Listen::At(at) => at.ip().is_unspecified() && at.is_ipv4() == group.is_ipv4(),
            Listen::On { .. } => false,
        };
        if !listen.iter().any(hears) {
            let title = format!("nothing listens for {}", quoted(text));
            let help =
                "Add 0.0.0.0 or [::], whichever is of its family, to `listen`: a group is heard at no other address.";
            out.push(Diagnostic::error(span, title, help));
        }
        Some(group)
    });
    groups.unwrap_or_default()
}

/// Reads `rate_limit`.
fn rate_limit(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> Option<Limits> {
    let value = section.get("rate_limit")?;
    let usual = Limits::default();
    match value.get_ref() {
        DeValue::Boolean(wanted) => return wanted.then_some(usual),
        DeValue::Table(_) => {}
        other => {
            let wanted = "true, or a table such as `{ interval = \"2 s\", burst = 16 }`";
            out.push(wrong_type("rate_limit", wanted, other, value.span()));
            return None;
        }
    }
    let table = Section::new("rate_limit", value, out)?;
    if let Some(average) = table.get("average") {
        return requests_limit(&table, average.span(), out);
    }
    table.only(&["interval", "burst", "minimum", "leak", "kod", "average"], out);
    let power = |key, usual: Option<u8>, out: &mut Vec<Diagnostic>| match table.get(key).map(|value| value.get_ref()) {
        None => usual,
        Some(DeValue::Boolean(false)) => None,
        Some(_) => table.integer(key, 0..=16, out).and_then(|n| u8::try_from(n).ok()),
    };
    let leak = power("leak", usual.leak, out);
    let kod = power("kod", Some(3), out);
    Some(Limits {
        counting: Counting::Replies,
        // chrony's limits, 2^-19 s to 2^12 s.
        interval: table.duration("interval", 1.9e-6..=4096.0, out).unwrap_or(usual.interval),
        burst: table.integer("burst", 1..=255, out).and_then(|n| u8::try_from(n).ok()).unwrap_or(usual.burst),
        minimum: table.duration("minimum", 0.0..=4096.0, out).unwrap_or(usual.minimum),
        leak,
        kiss: kod.map_or(Kiss::Never, Kiss::OneIn),
    })
}

/// Reads a `rate_limit` that counts requests, as NTPsec's `limit`.
fn requests_limit(table: &Section<'_, '_>, at: Range<usize>, out: &mut Vec<Diagnostic>) -> Option<Limits> {
    const KEYS: [&str; 4] = ["average", "burst", "kod", "minimum"];
    if let Some(other) = ["interval", "leak"].into_iter().find(|key| table.get(key).is_some()) {
        let help = "Count replies, with `interval`, or requests, with `average` (a second).";
        out.push(Diagnostic::error(at, format!("`average` beside `{other}`: they count differently"), help));
        return None;
    }
    table.only(&KEYS, out);
    let usual = Limits::NTPSEC;
    let over = table.number("kod", 0.0..=600.0, out).unwrap_or(0.5);
    Some(Limits {
        interval: table.number("average", 0.001..=1e6, out)?.recip(),
        burst: table.integer("burst", 1..=255, out).and_then(|n| u8::try_from(n).ok()).unwrap_or(usual.burst),
        minimum: table.duration("minimum", 0.0..=4096.0, out).unwrap_or(usual.minimum),
        kiss: if over > 0.0 { Kiss::NotFarOver((over * 100.0).round() as u16) } else { Kiss::Never },
        ..usual
    })
}

/// Reads `[serve]`.
pub(super) fn serve(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> Serve {
    section.only(
        &[
            "listen",
            "allow",
            "deny",
            "restrict",
            "rate_limit",
            "smear",
            "smear_interval",
            "clients",
            "multicast",
            "workers",
        ],
        out,
    );
    let usual = Serve::default();
    let places = section.list("listen", out, listen);
    if let (Some(at), Some([])) = (section.get("listen"), places.as_deref())
        && at.get_ref().as_array().is_some_and(|items| items.is_empty())
    {
        let help = "Delete `listen` for all addresses, or delete [serve] to answer nobody.";
        out.push(Diagnostic::error(at.span(), "`listen` is empty", help));
    }
    let restrict = section.list("restrict", out, restriction);
    if let (Some(rules), Some(at)) = (&restrict, section.get("restrict")) {
        if section.get("allow").is_some() || section.get("deny").is_some() {
            let help = "Keep `restrict`, where who has no rule is answered, or `allow` and `deny`, where nobody is.";
            out.push(Diagnostic::error(
                at.span(),
                "`restrict` beside `allow` or `deny`: they mean opposite things",
                help,
            ));
        }
        let rules: Vec<Restriction> = rules.iter().map(|(rule, _)| rule.clone()).collect();
        unsafe_names(section, &rules, out);
    }
    let places = places.unwrap_or(usual.listen);
    let (smeared, smear) = smear(section, &places, out);
    let groups = groups(section, &places, out);
    Serve {
        listen: places,
        smeared,
        smear,
        groups,
        allow: section.list("allow", out, whom).unwrap_or_default(),
        deny: section.list("deny", out, network).unwrap_or_default(),
        restrict: restrict.map(|rules| rules.into_iter().map(|(rule, _)| rule).collect()),
        rate_limit: rate_limit(section, out),
        clients: (section.integer("clients", 0..=1 << 20, out).and_then(|c| usize::try_from(c).ok()))
            .unwrap_or(usual.clients),
        workers: section.integer("workers", 0..=64, out).and_then(|w| usize::try_from(w).ok()).unwrap_or(usual.workers),
    }
}

/// Whom `allow` names: a network, an address or a host.
fn whom(text: &str, span: Range<usize>, out: &mut Vec<Diagnostic>) -> Option<Whom> {
    match Subnet::parse(text) {
        Ok(Subnet::Name(name)) => Some(Whom::Name(name)),
        _ => network(text, span, out).map(Whom::Net),
    }
}

fn restriction(text: &str, span: Range<usize>, out: &mut Vec<Diagnostic>) -> Option<(Restriction, Range<usize>)> {
    match Restriction::parse(text) {
        Ok(rule) => {
            if rule.flags.contains(Flags::KOD) && !rule.flags.contains(Flags::LIMITED) {
                let help = "Add `limited`, or delete `kod`.";
                out.push(Diagnostic::warning(span.clone(), "`kod` without `limited` does nothing", help));
            }
            if rule.flags.contains(Flags::FLAKE) {
                let title = "`flake` loses one packet in ten on purpose";
                out.push(Diagnostic::warning(span.clone(), title, "Delete it when the test is over."));
            }
            if rule.flags.contains(Flags::MSSNTP) {
                let help = "Delete it; Windows clients of a domain are served by its own controllers.";
                let title = "`mssntp` without Samba's ntp_signd: requests to be signed by it get a crypto-NAK";
                out.push(Diagnostic::warning(span.clone(), title, help));
            }
            Some((rule, span))
        }
        Err(error) => {
            let help = "Write it as in ntp.conf, such as \"default limited kod nopeer noquery\" or \"192.168.0.0/16\".";
            out.push(Diagnostic::error(span, format!("in the rule {}: {error}", quoted(text)), help));
            None
        }
    }
}

/// Rules that would not hold as long as a name leads nowhere.
fn unsafe_names(section: &Section<'_, '_>, rules: &[Restriction], out: &mut Vec<Diagnostic>) {
    let mut ignored = Vec::new();
    let Some(written) = section.list("restrict", &mut ignored, restriction) else { return };
    for (_, span) in written.iter().filter(|(rule, _)| opens_unresolved(rule, rules)) {
        let title = "this rule takes away more than `default`, and a name may lead nowhere for a while";
        out.push(Diagnostic::error(span.clone(), title, "Write the addresses of that host instead of its name."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(serve: &str) -> Result<Serve, Vec<String>> {
        let text = format!("[[server]]\naddress = \"a\"\n[serve]\n{serve}\n");
        let read = Config::from_toml("test.toml", &text);
        let titles = |all: Vec<Diagnostic>| all.into_iter().map(|d| d.title).collect::<Vec<_>>();
        let (config, warnings) = read.map_err(titles)?;
        if warnings.is_empty() { Ok(config.serve.unwrap()) } else { Err(titles(warnings)) }
    }

    fn answered(serve: &Serve, address: &str) -> bool {
        serve.policy().access(&Default::default()).permits(address.parse().unwrap())
    }

    #[test]
    fn lists_may_name_hosts() {
        let serve = read("allow = [\"10.0.0.0/8\", \"client.example.org\"]\ndeny = \"10.1.0.0/16\"").unwrap();
        assert_eq!(serve.policy().names(), ["client.example.org"]);
        assert!(answered(&serve, "10.2.0.1") && !answered(&serve, "10.1.0.1") && answered(&serve, "127.0.0.1"));
        // To let somebody in whenever a name leads nowhere is no way to keep them out.
        assert_eq!(read("deny = \"client.example.org\"").unwrap_err(), ["`client.example.org` is not a network"]);
    }

    #[test]
    fn rates_are_limited_if_asked() {
        assert_eq!(read("workers = 1").unwrap().limits(), None);
        assert_eq!(read("rate_limit = false").unwrap().limits(), None);
        assert_eq!(read("rate_limit = true").unwrap().limits(), Some(Limits::default()));
        let serve = read("rate_limit = { interval = \"8 s\", burst = 8, leak = 2, kod = false }").unwrap();
        assert_eq!(serve.limits(), Some(Limits::CHRONY));
        let flags = serve.policy().access(&Default::default()).flags("127.0.0.1:9".parse().unwrap());
        assert_eq!(flags, Flags::LIMITED | Flags::KOD);
        assert_eq!(read("rate_limit = { leak = false }").unwrap().limits().unwrap().leak, None);
        // NTPsec's.
        let serve = read("rate_limit = { average = 1, burst = 20, kod = 0.5 }").unwrap();
        assert_eq!(serve.limits(), Some(Limits::NTPSEC));
        assert_eq!(read("rate_limit = { average = 0.5, kod = 0 }").unwrap().limits().unwrap().kiss, Kiss::Never);
        assert_eq!(
            read("rate_limit = { average = 1, interval = \"2 s\" }").unwrap_err(),
            ["`average` beside `interval`: they count differently"]
        );
        // In ntpd's language a rule says who; and ntpd's numbers count unless others are given.
        assert_eq!(read("restrict = \"default limited kod\"").unwrap().limits(), Some(Limits::NTPD));
        assert_eq!(read("restrict = \"default nopeer\"").unwrap().limits(), None);
        assert_eq!(read("rate_limit = { burst = 0 }").unwrap_err(), ["`burst` is out of range"]);
        assert_eq!(read("rate_limit = 3").unwrap_err(), ["`rate_limit` has the wrong type"]);
    }

    #[test]
    fn clients_are_remembered_unless_none_are_to_be() {
        assert_eq!(read("workers = 1").unwrap().clients, 16_384);
        assert_eq!(read("clients = 0").unwrap().clients, 0);
        assert_eq!(read("clients = -1").unwrap_err(), ["`clients` is out of range"]);
    }

    #[test]
    fn leap_seconds_are_spread_at_some_addresses() {
        let serve = read("listen = [\"10.0.0.1:123\", \"10.0.0.2:123\"]\nsmear = \"10.0.0.2\"").unwrap();
        let smear = Some(Smear { interval: 86_400 });
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(serve.addresses(&[]), [(at("10.0.0.1:123"), None), (at("10.0.0.2:123"), smear)]);
        let serve = read("listen = \"10.0.0.1:123\"\nsmear = \"10.0.0.1:123\"\nsmear_interval = \"20 h\"").unwrap();
        assert_eq!(serve.smear.interval, 72_000);
        assert_eq!(
            read("listen = \"10.0.0.1\"\nsmear = \"10.0.0.2\"").unwrap_err(),
            ["smeared time at `10.0.0.2`, which is not listened on"]
        );
        assert_eq!(read("smear_interval = 2000").unwrap_err(), ["`smear_interval` without `smear` means nothing"]);
    }

    #[test]
    fn places_may_be_interfaces() {
        let serve = read("listen = [\"eth0\", \"10.0.0.1\"]\nsmear = \"eth0\"").unwrap();
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(serve.follows_interfaces() && !Serve::default().follows_interfaces());
        // What is named itself is served so.
        let eth0 = Interface {
            name: "eth0".into(),
            index: 2,
            multicast: true,
            broadcast: Vec::new(),
            addresses: vec![at("10.0.0.1:0"), at("10.0.0.2:0")],
        };
        let smear = Some(Smear::default());
        assert_eq!(serve.addresses(&[eth0]), [(at("10.0.0.1:123"), None), (at("10.0.0.2:123"), smear)]);
        assert_eq!(serve.addresses(&[]), [(at("10.0.0.1:123"), None)]);
        assert_eq!(
            read("listen = \"eth0\"\nmulticast = \"239.192.1.1\"").unwrap_err(),
            ["nothing listens for `239.192.1.1`"]
        );
    }

    #[test]
    fn rules_are_ntpds() {
        let serve = read("restrict = [\"default ignore\", \"10.0.0.0 mask 255.0.0.0 nomodify\", \"host\"]").unwrap();
        assert_eq!(serve.policy().names(), ["host"]);
        assert!(answered(&serve, "10.2.0.1") && !answered(&serve, "11.1.0.1") && !answered(&serve, "127.0.0.1"));
        for (text, title) in [
            ("restrict = \"default nomodfy\"", "in the rule `default nomodfy`: unknown flag `nomodfy`"),
            ("restrict = \"default kod\"", "`kod` without `limited` does nothing"),
            ("restrict = \"default flake\"", "`flake` loses one packet in ten on purpose"),
            (
                "restrict = \"default mssntp\"",
                "`mssntp` without Samba's ntp_signd: requests to be signed by it get a crypto-NAK",
            ),
            (
                "restrict = [\"default nomodify\", \"host noserve\"]",
                "this rule takes away more than `default`, and a name may lead nowhere for a while",
            ),
            (
                "restrict = \"default\"\nallow = \"10.0.0.0/8\"",
                "`restrict` beside `allow` or `deny`: they mean opposite things",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), [title], "{text}");
        }
    }
}
