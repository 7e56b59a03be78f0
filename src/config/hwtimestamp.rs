//! `[[hwtimestamp]]`: network cards that stamp packets.

use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::Diagnostic;
use super::value::Section;
use crate::ntp::hardware::Wish;
use crate::ntp::hardware::plan::Filter;

/// The longest name that an interface can have.
const NAME_LEN: usize = 15;

/// Reads one `[[hwtimestamp]]`.
pub(super) fn hwtimestamp(value: &Spanned<DeValue<'_>>, out: &mut Vec<Diagnostic>) -> Option<Wish> {
    let section = Section::new("[[hwtimestamp]]", value, out)?;
    section.only(&["interface", "rxfilter", "minpoll", "precision", "txcomp", "rxcomp"], out);
    let (interface, span) = section.required("interface", "eth0", out)?;
    if interface.len() > NAME_LEN || interface.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        let help = "Name one as `ip link` does, or a pattern such as \"enp*\"; \"*\" is all.";
        out.push(Diagnostic::error(span, "`interface` is no name of a network interface", help));
        return None;
    }
    let usual = Wish::new(interface);
    let filters = [("auto", Filter::Auto), ("all", Filter::All), ("ntp", Filter::Ntp)];
    let minpoll = section.integer("minpoll", -3..=6, out).and_then(|n| i8::try_from(n).ok());
    Some(Wish {
        filter: section.choice("rxfilter", "filter", &filters, out).unwrap_or_default(),
        minpoll: minpoll.unwrap_or(usual.minpoll),
        precision: section.duration("precision", 0.0..=1e-3, out).unwrap_or(usual.precision),
        txcomp: section.duration("txcomp", -1e-3..=1e-3, out).unwrap_or(0.0),
        rxcomp: section.duration("rxcomp", -1e-3..=1e-3, out).unwrap_or(0.0),
        ..usual
    })
}

/// Two that name the same interface: the first one counts.
pub(super) fn unreachable_ones(wishes: &[(Wish, std::ops::Range<usize>)], out: &mut Vec<Diagnostic>) {
    for (index, (wish, span)) in wishes.iter().enumerate() {
        if let Some((first, _)) = wishes.iter().take(index).find(|(first, _)| first.names(&wish.interface)) {
            let title = format!("[[hwtimestamp]] for what `{}` names already", first.interface.escape_debug());
            let help = "The first that names an interface counts: put patterns after names.";
            out.push(Diagnostic::warning(span.clone(), title, help));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn cards_are_named_as_chrony_users_know_it() {
        let text = "[[server]]\naddress = \"a\"\n[[hwtimestamp]]\ninterface = \"eth0\"\nminpoll = -1\nrxfilter = \"all\"\n\
                    precision = \"50 ns\"\ntxcomp = \"200 ns\"\nrxcomp = 300e-9\n[[hwtimestamp]]\ninterface = \"*\"\n";
        let (config, warnings) = Config::from_toml("test.toml", text).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let eth0 = Wish {
            filter: Filter::All,
            minpoll: -1,
            precision: 50e-9,
            txcomp: 200e-9,
            rxcomp: 300e-9,
            ..Wish::new("eth0")
        };
        assert_eq!(config.hwtimestamps, [eth0, Wish::new("*")]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let with = |lines: &str| {
            Config::from_toml("test.toml", &format!("[[server]]\naddress = \"a\"\n[[hwtimestamp]]\n{lines}\n"))
        };
        for lines in [
            "",
            "interface = \"a name\"",
            "interface = \"a\\u001b[2J\"",
            "interface = \"much-too-long-a-name\"",
            "interface = \"eth0\"\nrxfilter = \"ptp\"",
            "interface = \"eth0\"\nminpoll = 20",
            "interface = \"eth0\"\ntxcomp = 1",
            "interface = \"eth0\"\nhwtstimeout = 1",
        ] {
            assert_eq!(with(lines).unwrap_err().len(), 1, "{lines}");
        }
        let (_, warnings) = with("interface = \"*\"\n[[hwtimestamp]]\ninterface = \"eth0\"").unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
}
