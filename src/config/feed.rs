//! `[[feed]]`: daemons of this machine that are told what we know.

use refclocks::shell::feed::FeedConfig;
use refclocks::sock::{OWN_TIME, TimeWidth};
use toml::Spanned;
use toml::de::DeValue;

use super::clock::Discipline;
use super::diagnostic::{Diagnostic, quoted};
use super::model::{Config, Driver, Feed};
use super::value::{Section, absolute, unknown};

const DRIVERS: [&str; 2] = ["shm", "sock"];
const COMMON: [&str; 3] = ["driver", "source", "within"];

/// Reads one `[[feed]]`. `config` has its sources already.
pub(super) fn feed(value: &Spanned<DeValue<'_>>, config: &Config, out: &mut Vec<Diagnostic>) -> Option<Feed> {
    let section = Section::new("[[feed]]", value, out)?;
    let (name, span) = section.required("driver", "sock", out)?;
    let own: &[&str] = match name {
        "shm" => &["unit", "trust_owner"],
        "sock" => &["path", "time_bits"],
        _ => {
            out.push(unknown(name, span, format!("no [[feed]] by the driver {}", quoted(name)), &DRIVERS));
            return None;
        }
    };
    let known: Vec<&str> = COMMON.iter().chain(own).copied().collect();
    section.only(&known, out);
    let source = source(&section, config, out);
    let within = section.duration("within", 1e-6..=1.0, out);
    let driver = if name == "shm" { shm(&section, config, out) } else { sock(&section, config, out) }?;
    if source.is_none() && config.clock.discipline != Discipline::Software {
        let help = "Name a pulse as `source`, or write `discipline = \"software\"` in [clock].";
        let title = "a [[feed]] without a `source` tells the time of our own clock, and there is none";
        out.push(Diagnostic::error(section.span.clone(), title, help));
    } else if config.clock.discipline == Discipline::Kernel {
        let help = "Write `discipline = \"software\"` or \"observe\" in [clock] if the other daemon steers it.";
        out.push(Diagnostic::warning(
            section.span.clone(),
            "we steer the system clock, and feed who may steer it too",
            help,
        ));
    }
    let usual = Feed::new(driver);
    Some(Feed { source, within: within.unwrap_or(usual.within), ..usual })
}

/// The pulse that is told on.
fn source(section: &Section<'_, '_>, config: &Config, out: &mut Vec<Diagnostic>) -> Option<String> {
    let (name, span) = section.string("source", out)?;
    let pulses: Vec<String> = config
        .refclocks
        .iter()
        .filter_map(|clock| match &clock.driver {
            Driver::Gpsd { .. } => Some(format!("{}-pulse", clock.name)),
            driver => driver.gives_pulses().then(|| clock.name.clone()),
        })
        .collect();
    if !pulses.iter().any(|pulse| pulse == name) {
        let pulses: Vec<&str> = pulses.iter().map(String::as_str).collect();
        let title = format!("`source` names {}, and no source of pulses has that name", quoted(name));
        let mut problem = unknown(name, span, title, &pulses);
        if pulses.is_empty() {
            problem.help = "Delete `source`: our own clock's time is told then.".to_owned();
        }
        out.push(problem);
    }
    Some(name.to_owned())
}

fn shm(section: &Section<'_, '_>, config: &Config, out: &mut Vec<Diagnostic>) -> Option<FeedConfig> {
    let trust_owner = section.boolean("trust_owner", out).unwrap_or(false);
    let unit = section.integer("unit", 0..=255, out);
    let Some(at) = section.get("unit") else {
        out.push(Diagnostic::error(section.span.clone(), "[[feed]] has no `unit`", "Add a line such as `unit = 2`."));
        return None;
    };
    let unit = u8::try_from(unit?).ok()?;
    if config.refclocks.iter().any(|clock| matches!(clock.driver, Driver::Shm { unit: read, .. } if read == unit)) {
        let help = "Give one of them another unit: we would believe ourselves.";
        out.push(Diagnostic::error(at.span(), format!("SHM({unit}) is a [[refclock]] as well"), help));
    }
    Some(FeedConfig::Shm { unit, trust_owner })
}

fn sock(section: &Section<'_, '_>, config: &Config, out: &mut Vec<Diagnostic>) -> Option<FeedConfig> {
    let time = match section.integer("time_bits", 32..=64, out) {
        None => OWN_TIME,
        Some(32) => TimeWidth::Bits32,
        Some(64) => TimeWidth::Bits64,
        Some(_) => {
            let span = section.get("time_bits").map_or(section.span.clone(), Spanned::span);
            out.push(Diagnostic::error(span, "`time_bits` is neither 32 nor 64", "Delete it: it is this system's."));
            OWN_TIME
        }
    };
    let (text, span) = section.required("path", "/run/chrony/refclockd.sock", out)?;
    let path = absolute("path", text, span.clone(), out)?;
    if config.refclocks.iter().any(|clock| matches!(&clock.driver, Driver::Sock { path: read, .. } if *read == path)) {
        let help = "Give one of them another path: we would believe ourselves.";
        out.push(Diagnostic::error(span, format!("{} is a [[refclock]] as well", quoted(text)), help));
    }
    Some(FeedConfig::Sock { path, time })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPS: &str = "[[refclock]]\ndriver = \"nmea\"\ndevice = \"/dev/gps0\"\n\
                       [[refclock]]\ndriver = \"pps\"\ndevice = \"auto\"\n\
                       [[refclock]]\ndriver = \"shm\"\nunit = 2\nname = \"other\"\n";

    fn titles(feed: &str) -> Vec<String> {
        let said = Config::from_toml("test.toml", &format!("{GPS}[[feed]]\n{feed}"));
        said.map_or_else(|errors| errors, |(_, warnings)| warnings).into_iter().map(|d| d.title).collect()
    }

    #[test]
    fn feeds_are_read() {
        let text = format!(
            "{GPS}[[feed]]\ndriver = \"shm\"\nunit = 3\nsource = \"PPS\"\n\
             [[feed]]\ndriver = \"sock\"\npath = \"/run/chrony/r.sock\"\ntime_bits = 32\nwithin = \"20 us\"\n"
        );
        let (config, warnings) = Config::from_toml("test.toml", &text).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let shm = FeedConfig::Shm { unit: 3, trust_owner: false };
        let sock = FeedConfig::Sock { path: "/run/chrony/r.sock".into(), time: TimeWidth::Bits32 };
        assert_eq!(config.feeds[0], Feed { source: Some("PPS".into()), ..Feed::new(shm) });
        assert_eq!(config.feeds[1], Feed { within: 20e-6, ..Feed::new(sock) });
    }

    #[test]
    fn what_would_go_round_in_circles_or_nowhere_is_refused() {
        assert_eq!(titles("driver = \"shm\"\nunit = 2\n"), ["SHM(2) is a [[refclock]] as well"]);
        assert_eq!(
            titles("driver = \"shm\"\nunit = 3\nsource = \"GPS\"\n"),
            ["`source` names `GPS`, and no source of pulses has that name"]
        );
        assert_eq!(titles("driver = \"shm\"\n"), ["[[feed]] has no `unit`"]);
        assert_eq!(titles("driver = \"nmea\"\n"), ["no [[feed]] by the driver `nmea`"]);
        assert_eq!(
            titles("driver = \"shm\"\nunit = 3\n[clock]\ndiscipline = \"observe\"\n"),
            ["a [[feed]] without a `source` tells the time of our own clock, and there is none"]
        );
    }
}
