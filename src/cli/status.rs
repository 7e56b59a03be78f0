//! `refclockd status`: may the time be trusted, how well, and why.

use std::process::ExitCode;

use clap::Args;

use super::ask::{AskArgs, COLUMNS, ask_and_print};
use super::words::{self, Role, Style, clause, wrap};
use crate::control::protocol::Request;
use crate::core::state::{Bound, Duration, Magnitude};
use crate::ntp::counters::Totals;
use crate::observe::report::{PulseReport, StatusReport};

/// Options of `refclockd status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    ask: AskArgs,
}

/// Asks and prints.
pub fn run(args: StatusArgs) -> ExitCode {
    ask_and_print(&args.ask, &Request::Status, render)
}

/// The report in words.
pub fn render(status: &StatusReport, style: Style) -> String {
    let mut out = Page::new(style);
    let bound = words::bound_seconds(status.accuracy.distance_ns);
    let how_well = if bound.is_finite() {
        format!("time is within {} of UTC.", Bound(bound))
    } else {
        "how far the time is from UTC is not known.".into()
    };
    let headline = format!("{} {}", status.state.shape(), status.state.headline());
    out.lines.push(format!("{}: {}", style.paint(Role::of_state(status.state), &headline), style.text(&how_well)));
    if let Some(offset) = &status.offset {
        out.wrapped("  ", &offset.text);
    }
    let action = status.reason.action.iter().map(String::as_str);
    out.wrapped("  ", &std::iter::once(status.reason.text.as_str()).chain(action).collect::<Vec<_>>().join(" "));
    out.wrapped("  ", &serving(status));
    out.blank();

    let clock = [words::clock_time(&status.time_utc), format!("TAI \u{2212} UTC {} s", status.leap.tai_minus_utc_s)];
    out.item("Time", &clock.into_iter().chain(words::system_clock(status)).collect::<Vec<_>>().join(", "));
    let before =
        status.previous_state.map_or_else(String::new, |p| format!("; before: {}", p.headline().to_lowercase()));
    let since = words::clock_time(&status.state_since_utc);
    out.item("Since", &format!("{since}, for {}{before}", Duration(status.state_for_s)));
    if let Some(text) = words::staying_power(status) {
        out.item("Holdover", &text);
    }
    if let Some(crystal) = &status.frequency {
        let doubt = crystal.uncertainty_ppb.map_or_else(String::new, |ppb| format!(", known to {ppb:.1} ppb (1σ)"));
        let text = clause(&crystal.text);
        let warmth = words::crystal_temperature(crystal);
        out.item("Crystal", &format!("{}{doubt}{warmth}", text.strip_prefix("Crystal runs ").unwrap_or(text)));
    }
    if let Some(receiver) = &status.receiver {
        let health = words::condition(&receiver.condition);
        out.item("Receiver", &format!("{}: {}{health}", receiver.source, words::receiver(receiver)));
    }
    if let Some(pulse) = &status.pulse {
        out.item("Pulse", &pulse_words(pulse));
    }
    out.item("Sources", &if status.sources.is_empty() { "none".into() } else { status.sources.join(", ") });
    if let Some(requests) = &status.ntp.requests {
        out.item("Requests", &requests_words(requests));
    }
    for card in &status.cards {
        let clock = card.clock.as_deref().filter(|_| card.stamping);
        let error = card.error_ns.map(|ns| Bound(ns as f64 * 1e-9).to_string());
        let known = clock.zip(error).map_or_else(String::new, |(clock, error)| format!(", {clock}, known to {error}"));
        out.item("Card", &format!("{}: {}{known}", card.interface, card.text));
    }
    for feed in &status.feeds {
        let action = feed.action.iter().map(String::as_str);
        let since = feed.last_s.filter(|_| !feed.told);
        let since = since.map_or_else(String::new, |s| format!(", last told {} ago", Duration(s)));
        let text = format!("{}{since}.", feed.text);
        out.item("Feed", &std::iter::once(text.as_str()).chain(action).collect::<Vec<_>>().join(" "));
    }
    for notice in &status.notices {
        out.blank();
        let action = notice.action.iter().map(String::as_str);
        let text = std::iter::once(notice.text.as_str()).chain(action).collect::<Vec<_>>().join(" ");
        out.wrapped("! ", &text);
    }
    out.finish()
}

fn serving(status: &StatusReport) -> String {
    let leap = match status.leap.pending.as_str() {
        "insert" => "a leap second will be inserted",
        "delete" => "a second will be left out",
        _ => "no leap second announced",
    };
    let ntp = &status.ntp;
    if ntp.serving {
        format!("Serving: yes, stratum {}, reference ID {}, {leap}.", ntp.stratum, ntp.refid)
    } else {
        "Serving: no. NTP clients are told not to use this clock.".into()
    }
}

/// What came on the NTP port; what never happened is not told.
fn requests_words(requests: &Totals) -> String {
    let dropped = &requests.dropped;
    let counts = [
        (requests.kissed, "told to ask less"),
        (dropped.limited, "too frequent"),
        (dropped.flaked, "lost on purpose"),
        (dropped.denied, "denied"),
        (requests.refused_keys, "with a key we do not take"),
        (dropped.not_signed, "not signed"),
        (dropped.malformed + dropped.version + dropped.not_a_request + dropped.bad_source, "not requests"),
        (dropped.not_spoken, "of modes not spoken"),
        (requests.send_failed, "with no way back"),
    ];
    let told = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}"));
    format!("{} answered{}", requests.answered, told.collect::<String>())
}

fn pulse_words(pulse: &PulseReport) -> String {
    let mut text = match pulse.last_s {
        Some(last) => format!("{}: last used {} ago", pulse.source, Duration(last)),
        None => format!("{}: none used so far", pulse.source),
    };
    if let Some(jitter) = pulse.jitter_ns {
        text.push_str(&format!(", noise {} (1σ)", Magnitude(jitter as f64 * 1e-9)));
    }
    if pulse.missed > 0 {
        text.push_str(&format!(", {} missed", pulse.missed));
    }
    if let (Some(messages), Some(delay)) = (&pulse.named_by, pulse.message_delay_ns) {
        text.push_str(&format!("; {messages}'s messages come {} later", Magnitude(delay as f64 * 1e-9)));
    }
    text
}

/// Lines in the making.
pub(super) struct Page {
    pub(super) lines: Vec<String>,
    style: Style,
}

impl Page {
    pub(super) fn new(style: Style) -> Self {
        Self { lines: Vec::new(), style }
    }

    /// Text that fits the page, behind something that only the first line has.
    pub(super) fn wrapped(&mut self, first: &str, text: &str) {
        // Rendered first: ASCII takes more columns.
        let (first, text) = (self.style.text(first), self.style.text(text));
        self.lines.extend(wrap(&first, &text, COLUMNS));
    }

    /// The same, with what comes first in colour.
    pub(super) fn marked(&mut self, role: Role, mark: char, text: &str) {
        let at = self.lines.len();
        self.wrapped(&format!("{mark} "), text);
        let plain = self.style.text(&mark.to_string()).into_owned();
        if let Some(line) = self.lines.get_mut(at)
            && let Some(rest) = line.strip_prefix(&plain)
        {
            *line = format!("{}{rest}", self.style.paint(role, &mark.to_string()));
        }
    }

    fn item(&mut self, name: &str, text: &str) {
        self.wrapped(&format!("  {name:<10}"), text);
    }

    pub(super) fn blank(&mut self) {
        self.lines.push(String::new());
    }

    pub(super) fn finish(self) -> String {
        let mut text = String::new();
        for line in self.lines {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::words::{Charset, width};
    use crate::observe::Moment;
    use crate::observe::report::made_up::{NOW, holdover, locked, starting};
    use refclocks::time::Timestamp;

    #[test]
    fn words() {
        let system = Some(Timestamp::from_parts(1_767_323_044, 877_000_000));
        for (name, snapshot) in [("locked", locked()), ("holdover", holdover()), ("starting", starting())] {
            let text = render(&StatusReport::new(&snapshot, Moment { raw: NOW, system }), Style::PLAIN);
            assert!(text.lines().all(|line| width(line) <= COLUMNS), "{text}");
            insta::assert_snapshot!(format!("status_{name}"), text);
        }
    }

    #[test]
    fn ascii_is_ascii_and_fits() {
        let style = Style { charset: Charset::Ascii, color: false };
        for snapshot in [locked(), holdover(), starting()] {
            let text = render(&StatusReport::new(&snapshot, NOW), style);
            assert!(text.is_ascii() && text.lines().all(|line| line.len() <= COLUMNS), "{text}");
        }
    }

    #[test]
    fn the_state_comes_first_and_then_the_bound() {
        let text = render(&StatusReport::new(&locked(), NOW), Style { charset: Charset::Full, color: true });
        assert!(text.starts_with("\u{1b}[34m● Locked\u{1b}[0m: time is within ±410 ns of UTC."), "{text}");
    }
}
