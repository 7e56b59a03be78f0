//! How the command line says things: roles and their colours, shapes, the characters a terminal has,
//! lines that fit.

use std::borrow::Cow;
use std::io::IsTerminal;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::core::state::{Duration, Magnitude, State};
use crate::observe::report::{Condition, CrystalReport, NtpReport, ReceiverSummary, Severity, StatusReport};

/// What a colour means. The shape and the word beside it always say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Locked, used.
    Good,
    /// Coarse, holdover, network; notices.
    Caution,
    /// Local, unsynchronised; what disagrees; faults.
    Bad,
    /// Seen but unused, old, grid.
    Mute,
}

impl Role {
    /// A state's role.
    pub const fn of_state(state: State) -> Self {
        match state {
            State::Locked => Self::Good,
            State::Coarse | State::Holdover | State::Network => Self::Caution,
            State::Local | State::Unsynchronised => Self::Bad,
        }
    }

    /// A severity's role.
    pub const fn of_severity(severity: Severity) -> Self {
        match severity {
            Severity::Ok => Self::Good,
            Severity::Notice | Severity::Caution => Self::Caution,
            Severity::Bad => Self::Bad,
        }
    }

    /// The role and the shape of a verdict, by its code.
    pub fn of_verdict(code: &str) -> (Self, char) {
        match code {
            "selected" => (Self::Good, '●'),
            "names_the_second" => (Self::Good, '○'),
            "agrees" => (Self::Mute, '◌'),
            "falseticker" | "no_majority" | "numbering_ambiguous" | "numbering_contradicted" => (Self::Bad, '✕'),
            "unreachable" | "server_unsynchronised" | "no_data" => (Self::Caution, '✕'),
            _ => (Self::Mute, '·'),
        }
    }

    const fn sgr(self) -> &'static str {
        match self {
            Self::Good => "34",
            Self::Caution => "33",
            Self::Bad => "31",
            Self::Mute => "2",
        }
    }
}

/// The characters that can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// All of Unicode.
    Full,
    /// A text console's font: no Braille, few shapes.
    Console,
    /// ASCII.
    Ascii,
}

impl Charset {
    /// By what the environment says: `LC_ALL`, `LC_CTYPE`, `LANG` and `TERM`.
    pub fn from_environment(ascii: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| variable(name).filter(|v| !v.is_empty()));
        let utf8 = locale.is_some_and(|l| {
            let l = l.to_ascii_lowercase();
            l.contains("utf-8") || l.contains("utf8")
        });
        match (ascii || !utf8, variable("TERM").as_deref()) {
            (true, _) => Self::Ascii,
            (false, Some("linux")) => Self::Console,
            _ => Self::Full,
        }
    }

    /// The text in these characters. What has no likeness becomes `?`.
    pub fn render(self, text: &str) -> Cow<'_, str> {
        if self == Self::Full || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        let mut rendered = String::with_capacity(text.len());
        for c in text.chars() {
            match (self, c) {
                (_, '◐' | '◔') => rendered.push('~'),
                (_, '◌') => rendered.push('o'),
                (_, '✕') => rendered.push('x'),
                (_, '\u{2212}') => rendered.push('-'),
                (_, '\u{fffd}') => rendered.push('?'),
                (Self::Console, c) => rendered.push(c),
                (_, c) if c.is_ascii() => rendered.push(c),
                (_, '●') => rendered.push('*'),
                (_, '○') => rendered.push('+'),
                (_, '▲') => rendered.push('!'),
                (_, 'µ') => rendered.push('u'),
                (_, '±') => rendered.push_str("+/-"),
                (_, '°') => rendered.push_str(" deg"),
                (_, 'σ') => rendered.push_str(" sigma"),
                (_, '→') => rendered.push_str("->"),
                (_, '…') => rendered.push_str("..."),
                (_, '─' | '—') => rendered.push('-'),
                (_, '│' | '┤') => rendered.push('|'),
                (_, '┬' | '┴') => rendered.push('+'),
                (_, '·') => rendered.push('.'),
                (_, '█') => rendered.push('#'),
                _ => rendered.push('?'),
            }
        }
        Cow::Owned(rendered)
    }
}

/// How to print: which characters, and whether in colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// The characters.
    pub charset: Charset,
    /// Colours?
    pub color: bool,
}

impl Style {
    /// Plain text with all characters, as tests and pipes get it.
    pub const PLAIN: Self = Self { charset: Charset::Full, color: false };

    /// What standard output can take. Colours only on a terminal, and not where `NO_COLOR` is set.
    pub fn of_stdout(ascii: bool) -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let no_color = variable("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = variable("TERM").is_none_or(|term| term == "dumb");
        Self {
            charset: Charset::from_environment(ascii, variable),
            color: std::io::stdout().is_terminal() && !no_color && !dumb,
        }
    }

    /// The text in a role's colour.
    pub fn paint(self, role: Role, text: &str) -> String {
        let text = self.charset.render(text);
        if self.color { format!("\x1b[{}m{text}\x1b[0m", role.sgr()) } else { text.into_owned() }
    }

    /// The text in these characters.
    pub fn text(self, text: &str) -> Cow<'_, str> {
        self.charset.render(text)
    }
}

/// Columns that the text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Exactly so many columns: cut with an ellipsis, or filled with spaces on the right.
pub fn left(text: &str, columns: usize) -> String {
    let mut fitted = cut(text, columns);
    fitted.extend(std::iter::repeat_n(' ', columns.saturating_sub(width(&fitted))));
    fitted
}

/// Exactly so many columns: cut with an ellipsis, or filled with spaces on the left.
pub fn right(text: &str, columns: usize) -> String {
    let fitted = cut(text, columns);
    let mut filled = " ".repeat(columns.saturating_sub(width(&fitted)));
    filled.push_str(&fitted);
    filled
}

/// At most so many columns: cut with an ellipsis.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut fitted = String::new();
    let mut taken = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if taken + wide >= columns {
            break;
        }
        taken += wide;
        fitted.push(c);
    }
    if columns > 0 {
        fitted.push('…');
    }
    fitted
}

/// Breaks text at spaces into lines of at most so many columns. The first line begins with `first`,
/// the others with as many spaces.
pub fn wrap(first: &str, text: &str, columns: usize) -> Vec<String> {
    let indent = " ".repeat(width(first));
    let mut lines = Vec::new();
    let mut line = first.to_owned();
    let mut fresh = true;
    for word in text.split_whitespace() {
        if !fresh && width(&line) + 1 + width(word) > columns {
            lines.push(std::mem::replace(&mut line, indent.clone()));
            fresh = true;
        }
        if !fresh {
            line.push(' ');
        }
        line.push_str(word);
        fresh = false;
    }
    lines.push(line);
    lines
}

/// An age in one unit: `22 s`, `14 min`, `5 h`, `6 d`.
pub fn age(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds.filter(|s| s.is_finite()) else { return "—".into() };
    match seconds.round() as i64 {
        s @ ..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s @ 7200..172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

/// A sentence without its full stop, to go on with.
pub fn clause(sentence: &str) -> &str {
    sentence.strip_suffix('.').unwrap_or(sentence)
}

/// `1.5e-7` seconds from nanoseconds that may be unknown.
pub fn seconds(nanos: Option<i64>) -> f64 {
    nanos.map_or(f64::NAN, |nanos| nanos as f64 * 1e-9)
}

/// Seconds of a bound that may be unknown.
pub fn bound_seconds(nanos: Option<u64>) -> f64 {
    nanos.map_or(f64::INFINITY, |nanos| nanos as f64 * 1e-9)
}

/// `2026-01-02 03:04:05 UTC` from RFC 3339.
pub fn clock_time(utc: &str) -> String {
    let seconds = utc.split(['.', 'Z']).next().unwrap_or(utc);
    format!("{} UTC", seconds.replacen('T', " ", 1))
}

/// `yes, stratum 1, PPS`.
pub fn serving(ntp: &NtpReport) -> String {
    if ntp.serving { format!("yes, stratum {} {}", ntp.stratum, ntp.refid) } else { "no".into() }
}

/// A fix in words.
pub fn fix(code: Option<&str>) -> &str {
    match code {
        Some("none") => "no fix",
        Some("time") => "time fix (fixed position)",
        Some("two_d") => "2D fix",
        Some("three_d") => "3D fix",
        Some(other) => other,
        None => "fix not told",
    }
}

/// `3D fix, 9 satellites used of 14, median 41 dB-Hz`.
pub fn receiver(r: &ReceiverSummary) -> String {
    let mut text = fix(r.fix.as_deref()).to_owned();
    match (r.sats_used, r.sats_seen) {
        (Some(used), Some(seen)) => text.push_str(&format!(", {used} satellites used of {seen}")),
        (Some(used), None) => text.push_str(&format!(", {used} satellites used")),
        (None, Some(seen)) => text.push_str(&format!(", {seen} satellites seen")),
        (None, None) => {}
    }
    if let Some(median) = r.cn0_median_dbhz {
        text.push_str(&format!(", median {median} dB-Hz"));
    }
    text
}

/// What a receiver says of its antenna, of interference and of counterfeit signals, to be put behind other
/// words; what is as it should be needs none, but for the antenna.
pub fn condition(of: &Condition) -> String {
    let bad = |state: &Option<String>, what: &str| match state.as_deref() {
        None | Some("none") => String::new(),
        Some(state) => format!(", {what} {state}"),
    };
    let antenna = of.antenna.as_ref().map_or_else(String::new, |state| format!(", antenna {state}"));
    let failing = of.quality.as_ref().and_then(|quality| quality.failing.as_ref());
    let failing = failing.map_or_else(String::new, |satellite| format!(", {satellite}'s signal wrong"));
    let poor = of.quality.as_ref().and_then(|quality| quality.poor_ns);
    let poor = poor.map_or_else(String::new, |ns| format!(", its time poor ({} at 1σ)", Magnitude(ns as f64 * 1e-9)));
    let set_up = of.set_up.as_ref().filter(|set_up| !set_up.done || !set_up.not_taken.is_empty());
    let set_up = set_up.map_or_else(String::new, |set_up| format!("; {}", set_up.text));
    antenna + &bad(&of.jamming, "jamming") + &bad(&of.spoofing, "spoofing") + &failing + &poor + &set_up
}

/// The system clock beside the served one, in words; `None` when they agree to the microsecond or
/// nobody compared them.
pub fn system_clock(status: &StatusReport) -> Option<String> {
    let minus_system = seconds(status.clock.minus_system_ns);
    (minus_system.abs() >= 1e-6).then(|| {
        let way = if minus_system > 0.0 { "behind" } else { "ahead" };
        format!("system clock {} {way}", crate::core::state::Magnitude(minus_system.abs()))
    })
}

/// What happens if the signal goes, or how long it still lasts.
pub fn staying_power(status: &StatusReport) -> Option<String> {
    let limit = crate::core::state::Bound(bound_seconds(status.accuracy.limit_ns));
    match (&status.holdover, status.state) {
        (holdover, State::Holdover) => {
            holdover.remaining_s.map(|left| format!("reaches {limit} in about {}", Duration(left)))
        }
        (holdover, State::Locked) => {
            holdover.would_last_s.map(|left| format!("stays within {limit} for about {}", Duration(left)))
        }
        _ => None,
    }
}

/// A verdict's code in a table of sources: what kind of source, in one word.
pub fn kind(code: &str) -> &str {
    match code {
        "pulse" | "numbered_pulse" => "pulse",
        "message" => "messages",
        "network" => "ntp",
        other => other,
    }
}

/// How warm the crystal is, and whether that is made use of; nothing where there is no thermometer.
pub fn crystal_temperature(crystal: &CrystalReport) -> String {
    match (crystal.temperature_c, crystal.ppb_per_degree) {
        (Some(celsius), Some(ppb)) => format!("; {celsius:.1} °C, {ppb:+.0} ppb/°C compensated in holdover"),
        (Some(celsius), None) => format!("; {celsius:.1} °C, its effect not known well enough yet"),
        (None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit() {
        assert_eq!(left("−230 ns", 9), "−230 ns  ");
        assert_eq!(right("−230 ns", 9), "  −230 ns");
        assert_eq!(cut("ntp.example.org", 8), "ntp.exa…");
        assert_eq!(cut("x", 0), "");
        assert_eq!(width(&left("東京.example", 4)), 4);
        assert_eq!(wrap("● ", "one two three", 9), ["● one two", "  three"]);
        assert_eq!(wrap("", "unbreakable", 4), ["unbreakable"]);
    }

    #[test]
    fn characters_follow_the_terminal() {
        let of = |pairs: &'static [(&str, &str)]| {
            Charset::from_environment(false, |name| {
                pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
            })
        };
        assert_eq!(of(&[("LANG", "en_GB.UTF-8"), ("TERM", "xterm")]), Charset::Full);
        assert_eq!(of(&[("LANG", "C.utf8"), ("TERM", "linux")]), Charset::Console);
        assert_eq!(of(&[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")]), Charset::Ascii);
        assert_eq!(of(&[]), Charset::Ascii);
        assert_eq!(Charset::Ascii.render("● ±4.1 µs, −3 °"), "* +/-4.1 us, -3  deg");
        assert_eq!(Charset::Console.render("◔ ±4.1 µs −"), "~ ±4.1 µs -");
    }

    #[test]
    fn colours_only_where_wanted() {
        assert_eq!(Style::PLAIN.paint(Role::Good, "● Locked"), "● Locked");
        let colored = Style { color: true, ..Style::PLAIN };
        assert_eq!(colored.paint(Role::Bad, "✕"), "\u{1b}[31m✕\u{1b}[0m");
    }

    #[test]
    fn ages_have_one_unit() {
        let said: Vec<_> = [Some(22.4), Some(840.0), Some(20_400.0), None].map(age).to_vec();
        assert_eq!(said, ["22 s", "14 min", "5 h", "—"]);
    }
}
