//! `refclockd satellites`: what the receivers see of the sky.

use std::process::ExitCode;

use clap::Args;

use super::ask::{AskArgs, ask_and_print};
use super::status::Page;
use super::words::{self, Role, Style, left, right};
use crate::control::protocol::Request;
use crate::observe::report::{SatelliteSeen, SatellitesReport};

/// dB-Hz that fill a bar of full length.
const STRONG: u8 = 52;
/// Columns of a bar of full length.
const BAR: usize = 26;

/// Options of `refclockd satellites`.
#[derive(Args, Debug)]
pub struct SatellitesArgs {
    #[command(flatten)]
    ask: AskArgs,
}

/// Asks and prints.
pub fn run(args: SatellitesArgs) -> ExitCode {
    ask_and_print(&args.ask, &Request::Satellites, render)
}

/// The report as tables.
pub fn render(report: &SatellitesReport, style: Style) -> String {
    let mut out = Page::new(style);
    if report.receivers.is_empty() {
        out.wrapped("", "No receiver has told what it sees.");
    }
    for receiver in &report.receivers {
        if !out.lines.is_empty() {
            out.blank();
        }
        let mut text = format!("{}: {}", receiver.source, words::fix(receiver.fix.as_deref()));
        if let Some(used) = receiver.used {
            text.push_str(&format!(", {used} satellites used"));
            text.push_str(&receiver.seen.map_or_else(String::new, |seen| format!(" of {seen}")));
        }
        text.push_str(&words::condition(&receiver.condition));
        if let Some(leap) = &receiver.coming_leap {
            let what = if leap.change > 0 { "inserted" } else { "left out" };
            text.push_str(&format!(", a second {what} before {}", leap.at_utc));
        }
        text.push_str(if receiver.current { "." } else { ". It is silent now; this is what it said last." });
        out.wrapped("", &text);
        if let Some(quality) = &receiver.condition.quality {
            out.wrapped("  ", &format!("Its fix: {}.", quality.text));
        }
        if !receiver.satellites.is_empty() {
            out.wrapped("", "");
            out.lines.push("  system      no.  elevation  azimuth   signal".into());
        }
        for satellite in &receiver.satellites {
            let (role, mark) = if satellite.used { (Role::Good, '●') } else { (Role::Mute, '○') };
            let line = format!("{} {}", style.paint(role, &mark.to_string()), style.text(&row(satellite)));
            out.lines.push(line);
        }
    }
    out.finish()
}

fn row(satellite: &SatelliteSeen) -> String {
    let degrees = |value: Option<i32>| value.map_or_else(|| "—".to_owned(), |v| v.to_string());
    let signal = satellite.cn0_dbhz.map_or_else(|| "—".to_owned(), |v| format!("{v} dB-Hz"));
    let elevation = degrees(satellite.elevation_deg.map(Into::into));
    let azimuth = degrees(satellite.azimuth_deg.map(Into::into));
    format!(
        "{} {}  {}  {}  {}  {}",
        left(system(&satellite.gnss), 9),
        right(&satellite.number.to_string(), 5),
        right(&elevation, 9),
        right(&azimuth, 7),
        right(&signal, 8),
        "█".repeat(bar(satellite.cn0_dbhz, BAR)),
    )
}

/// Columns of the bar of a signal, at most `full`.
pub(super) fn bar(signal: Option<u8>, full: usize) -> usize {
    (usize::from(signal.unwrap_or(0)) * full).div_ceil(usize::from(STRONG)).min(full)
}

fn system(code: &str) -> &str {
    match code {
        "gps" => "GPS",
        "glonass" => "GLONASS",
        "galileo" => "Galileo",
        "bei_dou" => "BeiDou",
        "qzss" => "QZSS",
        "nav_ic" => "NavIC",
        "sbas" => "SBAS",
        "unknown" => "?",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ask::COLUMNS;
    use crate::cli::words::width;
    use crate::observe::report::made_up::{NOW, holdover, locked};

    #[test]
    fn words() {
        for (name, snapshot) in [("locked", locked()), ("holdover", holdover())] {
            let text = render(&SatellitesReport::new(&snapshot, NOW), Style::PLAIN);
            assert!(text.lines().all(|line| width(line) <= COLUMNS), "{text}");
            insta::assert_snapshot!(format!("satellites_{name}"), text);
        }
    }
}
