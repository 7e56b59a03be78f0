//! Telling the files of other programs from ours.

use std::ops::Range;

/// Directives of ntp.conf and chrony.conf that begin a line, followed by words rather than by `=`.
const DIRECTIVES: [&str; 24] = [
    "server",
    "pool",
    "peer",
    "refclock",
    "driftfile",
    "makestep",
    "rtcsync",
    "restrict",
    "fudge",
    "allow",
    "deny",
    "local",
    "tos",
    "tinker",
    "keyfile",
    "keys",
    "leapsectz",
    "leapfile",
    "logdir",
    "statsdir",
    "dumpdir",
    "hwtimestamp",
    "confdir",
    "sourcedir",
];
/// Directives that stand alone.
const ALONE: [&str; 4] = ["rtcsync", "makestep", "allow", "local"];

/// The first line that is a directive of ntp.conf or chrony.conf and cannot be TOML.
pub(super) fn foreign_line(text: &str) -> Option<Range<usize>> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let words = line.trim();
        let start = at + (line.len() - line.trim_start().len());
        at += line.len();
        let (first, rest) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
        let rest = rest.trim_start();
        let known = DIRECTIVES.contains(&first.to_ascii_lowercase().as_str());
        let alone = rest.is_empty() && ALONE.contains(&first);
        // `server.x = 1` and `server = 1` are TOML.
        if known && (alone || (!rest.is_empty() && !rest.starts_with(['=', '.']))) {
            return Some(start..start + words.len());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_other_programs_are_known() {
        for text in [
            "server 192.0.2.1 iburst\n",
            "# chrony\n  driftfile /var/lib/x\n",
            "refclock PPS /dev/pps0 lock NMEA",
            "rtcsync\n",
        ] {
            assert!(foreign_line(text).is_some(), "{text}");
        }
        assert_eq!(foreign_line("# x\n pool example.org\n"), Some(5..21));
    }

    #[test]
    fn ours_are_not() {
        for text in ["", "[[server]]\nhost = \"x\"\n", "server = 1", "allow = []", "# server x iburst", "local"] {
            assert_eq!(foreign_line(text).is_some(), text == "local", "{text}");
        }
    }
}
