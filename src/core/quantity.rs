//! How a person reads lengths of time, bounds and rates: the unit that fits, three digits, a true
//! minus sign.

use std::fmt;

/// U+2212: as wide as a plus, and never taken for a hyphen.
pub const MINUS: char = '\u{2212}';

/// A length of time in the unit a person expects: 3 significant digits, ns to s, then as
/// [`Duration`] does. Seconds.
#[derive(Clone, Copy, Debug)]
pub struct Magnitude(pub f64);

impl fmt::Display for Magnitude {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_finite() {
            return f.write_str("—");
        }
        let (number, unit) = scaled(self.0.abs());
        let mut text = String::new();
        if self.0 < 0.0 && number.bytes().any(|b| (b'1'..=b'9').contains(&b)) {
            text.push(MINUS);
        }
        text.push_str(&number);
        if !unit.is_empty() {
            text.push(' ');
            text.push_str(unit);
        }
        f.pad(&text)
    }
}

/// A number and its unit. The unit follows from the rounded value: 999.6 ns reads 1.00 µs.
fn scaled(magnitude: f64) -> (String, &'static str) {
    let (scaled, unit) = if magnitude < 999.5e-9 {
        (magnitude * 1e9, "ns")
    } else if magnitude < 999.5e-6 {
        (magnitude * 1e6, "µs")
    } else if magnitude < 999.5e-3 {
        (magnitude * 1e3, "ms")
    } else if magnitude < 999.5 {
        (magnitude, "s")
    } else {
        return (Duration(magnitude).to_string(), "");
    };
    let digits = match scaled {
        _ if unit == "ns" => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    (format!("{scaled:.digits$}"), unit)
}

/// An offset, local - reference in seconds, with its sign: `+142 ms`, `−230 ns`, `0 ns`.
#[derive(Clone, Copy, Debug)]
pub struct Signed(pub f64);

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Magnitude(self.0).to_string();
        let plus = self.0.is_finite() && self.0 > 0.0 && text != "0 ns";
        f.pad(&if plus { format!("+{text}") } else { text })
    }
}

/// A bound in seconds, rounded up to two digits: `±410 ns`, `±9.4 µs`, `±1 ms`; `—` while there is none.
#[derive(Clone, Copy, Debug)]
pub struct Bound(pub f64);

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_finite() {
            return f.pad("—");
        }
        let (number, unit) = scaled(round_up(self.0.abs()));
        // The third digit of a number of two says nothing.
        let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
        f.pad(format!("±{number} {unit}").trim_end())
    }
}

/// A bound for a person: rounded up to two digits.
pub fn round_up(seconds: f64) -> f64 {
    if !seconds.is_finite() || seconds <= 0.0 {
        return seconds;
    }
    let scale = 10f64.powi(seconds.log10().floor() as i32 - 1);
    // A hair less than a digit is not worth a digit.
    (seconds / scale - 1e-9).ceil() * scale
}

/// How long, for a person: `22 s`, `14 min`, `5 h 40 min`, `6 d 2 h`, `56 years`. Seconds.
#[derive(Clone, Copy, Debug)]
pub struct Duration(pub f64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_finite() {
            return f.pad("—");
        }
        let seconds = self.0.round() as i64;
        f.pad(&match seconds {
            ..120 => format!("{seconds} s"),
            120..7200 => format!("{} min", seconds / 60),
            7200..172_800 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
            172_800..63_115_200 => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
            _ => format!("{} years", seconds / 31_557_600),
        })
    }
}

/// A crystal's frequency error in s/s, positive = it gains: `4.231 ppm slow`, `85 ppb fast`.
#[derive(Clone, Copy, Debug)]
pub struct Crystal(pub f64);

impl fmt::Display for Crystal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ppb = self.0.abs() * 1e9;
        let way = if self.0 < 0.0 { "slow" } else { "fast" };
        match ppb {
            v if !v.is_finite() => f.pad("—"),
            v if v >= 100.0 => f.pad(&format!("{:.3} ppm {way}", v / 1000.0)),
            v if v >= 9.95 => f.pad(&format!("{v:.0} ppb {way}")),
            v => f.pad(&format!("{v:.1} ppb {way}")),
        }
    }
}

/// The word for an offset's sign: local - reference.
pub fn direction(offset: f64) -> &'static str {
    if offset < 0.0 { "behind" } else { "ahead" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_take_the_unit_of_the_rounded_value() {
        let said: Vec<_> = [0.0, 410e-9, 999.6e-9, 1.234e-6, 31.2e-6, 0.142, 0.9996, 2.5, 1.76e9, f64::INFINITY]
            .iter()
            .map(|v| Magnitude(*v).to_string())
            .collect();
        assert_eq!(
            said,
            ["0 ns", "410 ns", "1.00 µs", "1.23 µs", "31.2 µs", "142 ms", "1.00 s", "2.50 s", "55 years", "—"]
        );
    }

    #[test]
    fn signs_are_true_ones_and_nothing_has_none() {
        let said: Vec<_> = [-230e-9, 0.142, -0.2e-9, 0.0, f64::NAN].iter().map(|v| Signed(*v).to_string()).collect();
        assert_eq!(said, ["−230 ns", "+142 ms", "0 ns", "0 ns", "—"]);
        assert_eq!(format!("[{:>9}]", Signed(-230e-9)), "[  −230 ns]");
    }

    #[test]
    fn bounds_round_up() {
        let said: Vec<_> = [403e-9, 0.5201, 410e-9, 99.1e-6, 1e-3, 9.142e-6, 20.0, f64::INFINITY]
            .iter()
            .map(|v| Bound(*v).to_string())
            .collect();
        assert_eq!(said, ["±410 ns", "±530 ms", "±410 ns", "±100 µs", "±1 ms", "±9.2 µs", "±20 s", "—"]);
    }

    #[test]
    fn durations_read_naturally() {
        let said: Vec<_> =
            [22.0, 840.0, 20_400.0, 525_600.0, 1.77e9].iter().map(|v| Duration(*v).to_string()).collect();
        assert_eq!(said, ["22 s", "14 min", "5 h 40 min", "6 d 2 h", "56 years"]);
    }

    #[test]
    fn crystals_gain_or_lose() {
        let said: Vec<_> = [-4.2311e-6, 85e-9, 0.8e-9, f64::NAN].iter().map(|v| Crystal(*v).to_string()).collect();
        assert_eq!(said, ["4.231 ppm slow", "85 ppb fast", "0.8 ppb fast", "—"]);
    }
}
