//! Single values, and the section they stand in.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::diagnostic::{Diagnostic, quoted};

/// A piece of the file and where it stands.
pub(crate) type At<T> = (T, Range<usize>);

/// A table of the file, and what is found wrong in it.
pub(crate) struct Section<'a, 'i> {
    /// As it stands in the file, e.g. `[serve]`.
    pub title: &'static str,
    /// Where it begins.
    pub span: Range<usize>,
    /// What is in it.
    pub table: &'a DeTable<'i>,
}

impl<'a, 'i> Section<'a, 'i> {
    /// A value that ought to be a table.
    pub fn new(title: &'static str, value: &'a Spanned<DeValue<'i>>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Self { title, span: value.span(), table }),
            other => {
                out.push(wrong_type(title, "a table", other, value.span()));
                None
            }
        }
    }

    /// Complains of every key that is not known here.
    pub fn only(&self, known: &[&str], out: &mut Vec<Diagnostic>) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let what = format!("unknown key {} in {}", quoted(name), self.title);
                out.push(unknown(name, key.span(), what, known));
            }
        }
    }

    /// The value of a key, if it is there.
    pub fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.table.get(key)
    }

    /// A string, not empty.
    pub fn string(&self, key: &str, out: &mut Vec<Diagnostic>) -> Option<At<&'a str>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) if text.is_empty() => {
                out.push(Diagnostic::error(
                    value.span(),
                    format!("`{key}` is empty"),
                    "Give it a value, or delete it.",
                ));
                None
            }
            DeValue::String(text) => Some((text.as_ref(), value.span())),
            other => {
                out.push(wrong_type(key, "a string in quotes", other, value.span()));
                None
            }
        }
    }

    /// A string that must be there.
    pub fn required(&self, key: &str, example: &str, out: &mut Vec<Diagnostic>) -> Option<At<&'a str>> {
        if self.get(key).is_none() {
            let title = format!("{} has no `{key}`", self.title);
            out.push(Diagnostic::error(
                self.span.clone(),
                title,
                format!("Add a line such as `{key} = \"{example}\"`."),
            ));
        }
        self.string(key, out)
    }

    /// One of a few words, and what it stands for. `what` is what it is a word for.
    pub fn choice<T: Copy>(
        &self,
        key: &str,
        what: &str,
        choices: &[(&str, T)],
        out: &mut Vec<Diagnostic>,
    ) -> Option<T> {
        let (text, span) = self.string(key, out)?;
        let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        if chosen.is_none() {
            let known: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            out.push(unknown(text, span, format!("unknown {what} {}", quoted(text)), &known));
        }
        chosen
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &str, out: &mut Vec<Diagnostic>) -> Option<bool> {
        let value = self.get(key)?;
        if let DeValue::Boolean(it) = value.get_ref() {
            return Some(*it);
        }
        out.push(wrong_type(key, "`true` or `false`", value.get_ref(), value.span()));
        None
    }

    /// An integer in a range.
    pub fn integer(&self, key: &str, range: RangeInclusive<i64>, out: &mut Vec<Diagnostic>) -> Option<i64> {
        let value = self.get(key)?;
        let DeValue::Integer(text) = value.get_ref() else {
            out.push(wrong_type(key, "an integer", value.get_ref(), value.span()));
            return None;
        };
        let number = integer(text).filter(|n| range.contains(n));
        if number.is_none() {
            let title = format!("`{key}` is out of range");
            let help = format!("Use an integer from {} to {}.", range.start(), range.end());
            out.push(Diagnostic::error(value.span(), title, help));
        }
        number
    }

    /// A number in a range.
    pub fn number(&self, key: &str, range: RangeInclusive<f64>, out: &mut Vec<Diagnostic>) -> Option<f64> {
        let value = self.get(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(text) => integer(text).map(|n| n as f64),
            DeValue::Float(text) => text.as_str().parse().ok(),
            other => {
                out.push(wrong_type(key, "a number", other, value.span()));
                return None;
            }
        };
        let number = number.filter(|n: &f64| range.contains(n));
        if number.is_none() {
            let title = format!("`{key}` is out of range");
            let help = format!("Use a number from {} to {}.", range.start(), range.end());
            out.push(Diagnostic::error(value.span(), title, help));
        }
        number
    }

    /// A duration in a range, s.
    pub fn duration(&self, key: &str, range: RangeInclusive<f64>, out: &mut Vec<Diagnostic>) -> Option<f64> {
        let value = self.get(key)?;
        let seconds = match value.get_ref() {
            DeValue::Integer(text) => integer(text).map(|n| n as f64),
            DeValue::Float(text) => text.as_str().parse().ok(),
            DeValue::String(text) => {
                let parsed = parse_duration(text);
                if parsed.is_none() {
                    let title = format!("{} is not a duration", quoted(text));
                    let help = "Write seconds as a number, or a string with a unit: ns, us, ms, s, min, h, \
                                such as \"250 ms\".";
                    out.push(Diagnostic::error(value.span(), title, help));
                    return None;
                }
                parsed
            }
            other => {
                out.push(wrong_type(key, "a duration: seconds, or a string such as \"250 ms\"", other, value.span()));
                return None;
            }
        };
        let seconds = seconds.filter(|s: &f64| range.contains(s));
        if seconds.is_none() {
            let title = format!("`{key}` is out of range");
            let help = format!("Use {} to {}.", Seconds(*range.start()), Seconds(*range.end()));
            out.push(Diagnostic::error(value.span(), title, help));
        }
        seconds
    }

    /// An absolute path.
    pub fn path(&self, key: &str, out: &mut Vec<Diagnostic>) -> Option<PathBuf> {
        let (text, span) = self.string(key, out)?;
        absolute(key, text, span, out)
    }

    /// One string or an array of them, each understood by `parse`. `None`: the key is not there.
    pub fn list<T>(
        &self,
        key: &str,
        out: &mut Vec<Diagnostic>,
        mut parse: impl FnMut(&str, Range<usize>, &mut Vec<Diagnostic>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let value = self.get(key)?;
        let mut found = Vec::new();
        let items: Vec<&Spanned<DeValue<'i>>> = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => found.extend(parse(text, item.span(), out)),
                other => out.push(wrong_type(key, "a string, or an array of strings", other, item.span())),
            }
        }
        Some(found)
    }
}

/// A word that is not known, with the one that was perhaps meant.
pub(crate) fn unknown(word: &str, span: Range<usize>, title: String, known: &[&str]) -> Diagnostic {
    // What is known may be names that the file gives.
    let help = match nearest(word, known) {
        Some(near) => format!("Did you mean {}?", quoted(near)),
        None => format!("Known here: {}.", known.join(", ").escape_debug()),
    };
    Diagnostic::error(span, title, help).labelled("not known")
}

/// A value of the wrong type.
pub(crate) fn wrong_type(key: &str, wanted: &str, found: &DeValue<'_>, span: Range<usize>) -> Diagnostic {
    let found = match found {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    Diagnostic::error(span, format!("`{key}` has the wrong type"), format!("Write {wanted}."))
        .labelled(format!("this is {found}"))
}

/// A path that does not depend on where the daemon was started.
pub(super) fn absolute(key: &str, text: &str, span: Range<usize>, out: &mut Vec<Diagnostic>) -> Option<PathBuf> {
    if text.starts_with('/') && !text.contains('\0') {
        return Some(PathBuf::from(text));
    }
    let title = format!("`{key}` is not an absolute path");
    out.push(Diagnostic::error(span, title, "Begin it with `/`: the daemon has no working directory of its own."));
    None
}

/// An address with or without a port.
pub(super) fn socket_address(
    text: &str,
    port: u16,
    span: Range<usize>,
    out: &mut Vec<Diagnostic>,
) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let parsed = text.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse::<IpAddr>().ok()?, port)));
    if parsed.is_none_or(|a| a.port() == 0) {
        let title = format!("{} is not an address to use here", quoted(text));
        let help = format!("Write an IP address and a port, such as \"127.0.0.1:{port}\" or \"[::1]:{port}\".");
        out.push(Diagnostic::error(span, title, help));
        return None;
    }
    parsed
}

/// A network in CIDR notation, or one address.
pub(super) fn network(text: &str, span: Range<usize>, out: &mut Vec<Diagnostic>) -> Option<IpNet> {
    let parsed = text.parse::<IpNet>().ok().or_else(|| Some(IpNet::from(text.parse::<IpAddr>().ok()?)));
    if parsed.is_none() {
        let title = format!("{} is not a network", quoted(text));
        let help = "Write an address and a prefix length, such as \"192.168.0.0/16\" or \"fd00::/8\".";
        out.push(Diagnostic::error(span, title, help));
    }
    parsed.map(|net| net.trunc())
}

/// A duration with its unit (ns, us, ms, s, min, h), in seconds; a number alone is seconds.
pub fn parse_duration(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.find(|c: char| c.is_alphabetic() && c != 'e' && c != 'E').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let number = number.trim_end().parse::<f64>().ok()?;
    // Powers of ten are exact only upwards: "5 us" divided gives the float that 5e-6 is.
    let seconds = match unit {
        "ns" => number / 1e9,
        "us" | "\u{b5}s" | "\u{3bc}s" => number / 1e6,
        "ms" => number / 1e3,
        "s" | "" => number,
        "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return None,
    };
    seconds.is_finite().then_some(seconds)
}

/// Seconds with the unit that suits them.
pub(crate) struct Seconds(pub f64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = self.0.abs();
        let (factor, unit) = match size {
            0.0 => (1.0, "s"),
            _ if size < 0.999e-6 => (1e9, "ns"),
            _ if size < 0.999e-3 => (1e6, "us"),
            _ if size < 0.999 => (1e3, "ms"),
            _ => (1.0, "s"),
        };
        // Six digits behind the point are more than anybody writes, and hide what binary fractions add.
        let text = format!("{:.6}", self.0 * factor);
        write!(f, "{} {unit}", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

fn integer(text: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(text.as_str(), text.radix()).ok()
}

/// The known word nearest to this one, if it is no more than two edits away and not another word altogether.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    // A long word is not near anything, and the distance takes time in proportion to its length.
    if word.len() > 40 {
        return None;
    }
    known
        .iter()
        .map(|k| (distance(word, k), *k))
        .filter(|(d, k)| *d <= 2 && *d < k.chars().count().min(word.chars().count()))
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Levenshtein distance in characters, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        let mut next = vec![left];
        for (y, above) in b.chars().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(x != y)).min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, seconds) in
            [("250ms", 0.25), ("-30 ns", -30e-9), ("1e-3", 1e-3), ("1.5 s", 1.5), ("2min", 120.0), ("1 h", 3600.0)]
        {
            let parsed = parse_duration(text).unwrap();
            assert!((parsed - seconds).abs() <= 1e-12 * seconds.abs(), "{text}: {parsed}");
        }
        assert_eq!(parse_duration("5 \u{b5}s"), Some(5e-6));
        for text in ["", "ms", "1 day", "1 m", "inf", "nan", "1 2 s", "1e999"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn names_that_a_file_gives_are_shown_without_what_moves_a_cursor() {
        let help = |word| unknown(word, 0..1, String::new(), &["G\tS"]).help;
        assert_eq!(
            (help("GPS"), help("nothing like it")),
            ("Did you mean `G\\tS`?".into(), "Known here: G\\tS.".into())
        );
    }

    #[test]
    fn seconds_are_shown_with_their_unit() {
        let shown: Vec<String> = [0.0, 1e-3, 1000.0, 2.5e-6, -30e-9, 0.25].map(|s| Seconds(s).to_string()).into();
        assert_eq!(shown, ["0 s", "1 ms", "1000 s", "2.5 us", "-30 ns", "250 ms"]);
    }

    #[test]
    fn the_distance_is_known_for_known_words() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
        assert_eq!(nearest("devise", &["driver", "device"]), Some("device"));
        assert_eq!(nearest("x", &["device", "y"]), None);
    }
}
