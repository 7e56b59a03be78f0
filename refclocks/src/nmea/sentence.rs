//! What a sentence says. A pure parse: no state, no guess.

use thiserror::Error;

use crate::calendar::{days_in_month, parse_fraction};
use crate::report::{Constellation, Fix, Satellite};

/// A time of day as sent. `second` may be 60.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60.
    pub second: u8,
    /// 0 to 999 999 999.
    pub nanos: u32,
}

/// A date as sent: year, month, day. RMC's two-digit year comes as 2000 to 2099.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Year.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31, within the month.
    pub day: u8,
}

/// A sentence with its sender.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// Two letters: which system speaks (`GP`, `GN`, ...).
    pub talker: [u8; 2],
    /// What it says.
    pub sentence: Sentence,
}

/// The sentences we understand. Time and date are `None` where the field is empty.
#[derive(Clone, Debug, PartialEq)]
pub enum Sentence {
    /// Recommended minimum: time, date and validity in one.
    Rmc {
        /// Time of day.
        time: Option<Time>,
        /// Date.
        date: Option<Date>,
        /// May the time be used?
        valid: bool,
    },
    /// Time and date, with no word on validity.
    Zda {
        /// Time of day.
        time: Option<Time>,
        /// Date.
        date: Option<Date>,
    },
    /// Fix: time and validity.
    Gga {
        /// Time of day.
        time: Option<Time>,
        /// May the time be used?
        valid: bool,
        /// Satellites used.
        satellites: Option<u16>,
    },
    /// Position: time and validity.
    Gll {
        /// Time of day.
        time: Option<Time>,
        /// May the time be used?
        valid: bool,
    },
    /// Fix of several systems: time and validity.
    Gns {
        /// Time of day.
        time: Option<Time>,
        /// May the time be used?
        valid: bool,
        /// Satellites used.
        satellites: Option<u16>,
    },
    /// Kind of fix, and the satellites used.
    Gsa {
        /// Kind of fix.
        fix: Option<Fix>,
        /// Numbers of the satellites used.
        used: Vec<u16>,
        /// NMEA 4.1 system ID.
        system: Option<u8>,
    },
    /// Satellites in view: one part of a list.
    Gsv {
        /// Parts in the list, and which this is, from 1.
        part: (u8, u8),
        /// The satellites of this part.
        satellites: Vec<Satellite>,
    },
    /// A line of text from the receiver.
    Txt(String),
    /// Anything else that is well-formed.
    Other,
}

/// Why a frame is not a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// Not `$`, letters and commas.
    #[error("not a sentence")]
    NotASentence,
    /// No `*hh` at its end.
    #[error("no checksum")]
    NoChecksum,
    /// The checksum is another.
    #[error("wrong checksum")]
    Checksum,
    /// A field of time, date or validity cannot be read.
    #[error("the field of {0} cannot be read")]
    Field(&'static str),
}

impl Parsed {
    /// Parses a frame from its `$` to before the line's end.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ParseError::NotASentence)?;
        let text = text.strip_prefix('$').ok_or(ParseError::NotASentence)?;
        let (body, checksum) = text.trim_ascii_end().rsplit_once('*').ok_or(ParseError::NoChecksum)?;
        // `from_str_radix` alone would take "+5" for a number.
        let is_hex = checksum.len() == 2 && checksum.bytes().all(|b| b.is_ascii_hexdigit());
        let said = u8::from_str_radix(checksum, 16).ok().filter(|_| is_hex).ok_or(ParseError::Checksum)?;
        if body.bytes().fold(0, |sum, b| sum ^ b) != said {
            return Err(ParseError::Checksum);
        }
        let mut fields = body.split(',');
        let address = fields.next().unwrap_or_default();
        let fields: Vec<&str> = fields.collect();
        let [a, b, kind @ ..] = address.as_bytes() else { return Err(ParseError::NotASentence) };
        let sentence = if address.starts_with('P') {
            // Proprietary: another grammar each.
            Sentence::Other
        } else {
            Sentence::from_fields(kind, &Fields(&fields))?
        };
        Ok(Self { talker: [*a, *b], sentence })
    }
}

impl Sentence {
    fn from_fields(kind: &[u8], f: &Fields<'_>) -> Result<Self, ParseError> {
        Ok(match kind {
            b"RMC" => Self::Rmc {
                time: f.time(1)?,
                date: f.date(9)?,
                // The mode came with a later version of the standard. The navigational status after it
                // is about ships: most receivers send V there, for "not provided".
                valid: f.get(2) == "A" && good_modes(f.get(12)),
            },
            b"ZDA" => Self::Zda { time: f.time(1)?, date: f.long_date(2)? },
            b"GGA" => Self::Gga {
                time: f.time(1)?,
                valid: matches!(f.get(6), "1" | "2" | "3" | "4" | "5" | "9"),
                satellites: f.number(7),
            },
            b"GLL" => Self::Gll { time: f.time(5)?, valid: f.get(6) == "A" && good_modes(f.get(7)) },
            b"GNS" => Self::Gns {
                time: f.time(1)?,
                valid: f.get(6).bytes().any(|m| matches!(m, b'A' | b'D' | b'F' | b'P' | b'R')),
                satellites: f.number(7),
            },
            b"GSA" => Self::Gsa {
                fix: match f.get(2) {
                    "1" => Some(Fix::None),
                    "2" => Some(Fix::TwoD),
                    "3" => Some(Fix::ThreeD),
                    _ => None,
                },
                used: (3..15).filter_map(|i| f.number(i)).collect(),
                system: f.number(18).and_then(|s| u8::try_from(s).ok()),
            },
            b"GSV" => {
                let part = |i| f.number(i).and_then(|n| u8::try_from(n).ok()).unwrap_or(1);
                let satellites = (0..4).filter_map(|i| f.satellite(4 + 4 * i)).collect();
                Self::Gsv { part: (part(1), part(2)), satellites }
            }
            b"TXT" => Self::Txt(f.get(4).chars().take(80).collect()),
            _ => Self::Other,
        })
    }

    /// The time of day, if the sentence carries one.
    pub fn time(&self) -> Option<Time> {
        match self {
            Self::Rmc { time, .. }
            | Self::Zda { time, .. }
            | Self::Gga { time, .. }
            | Self::Gll { time, .. }
            | Self::Gns { time, .. } => *time,
            _ => None,
        }
    }

    /// The date, if it carries one.
    pub fn date(&self) -> Option<Date> {
        match self {
            Self::Rmc { date, .. } | Self::Zda { date, .. } => *date,
            _ => None,
        }
    }

    /// Whether its time may be used, if it has a word on that.
    pub fn valid(&self) -> Option<bool> {
        match self {
            Self::Rmc { valid, .. } | Self::Gga { valid, .. } | Self::Gll { valid, .. } | Self::Gns { valid, .. } => {
                Some(*valid)
            }
            _ => None,
        }
    }
}

/// Mode letters: estimated, manual, simulated and none are no time to use. Absent in old versions.
fn good_modes(modes: &str) -> bool {
    modes.is_empty() || modes.bytes().any(|m| matches!(m, b'A' | b'D' | b'F' | b'P' | b'R'))
}

/// The fields after the address, counted from 1.
struct Fields<'a>(&'a [&'a str]);

impl<'a> Fields<'a> {
    fn get(&self, i: usize) -> &'a str {
        i.checked_sub(1).and_then(|i| self.0.get(i)).copied().unwrap_or_default()
    }

    fn number(&self, i: usize) -> Option<u16> {
        let text = self.get(i);
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    }

    fn time(&self, i: usize) -> Result<Option<Time>, ParseError> {
        let text = self.get(i);
        if text.is_empty() {
            return Ok(None);
        }
        let bad = ParseError::Field("time");
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let [hour, minute, second] = pairs(whole).ok_or(bad)?;
        let nanos = parse_fraction(fraction).ok_or(bad)?;
        if hour > 23 || minute > 59 || second > 60 {
            return Err(bad);
        }
        Ok(Some(Time { hour, minute, second, nanos }))
    }

    fn date(&self, i: usize) -> Result<Option<Date>, ParseError> {
        let text = self.get(i);
        if text.is_empty() {
            return Ok(None);
        }
        let [day, month, year] = pairs(text).ok_or(ParseError::Field("date"))?;
        checked_date(2000 + i32::from(year), month, day).map(Some)
    }

    fn long_date(&self, i: usize) -> Result<Option<Date>, ParseError> {
        let (day, month, year) = (self.get(i), self.get(i + 1), self.get(i + 2));
        if day.is_empty() || month.is_empty() || year.is_empty() {
            return Ok(None);
        }
        let part = |i| self.number(i).ok_or(ParseError::Field("date"));
        let small = |i| u8::try_from(part(i)?).map_err(|_| ParseError::Field("date"));
        checked_date(i32::from(part(i + 2)?), small(i + 1)?, small(i)?).map(Some)
    }

    fn satellite(&self, i: usize) -> Option<Satellite> {
        let number = self.number(i)?;
        Some(Satellite {
            constellation: Constellation::Unknown,
            number,
            elevation: self.get(i + 1).parse().ok().filter(|e| (-90..=90).contains(e)),
            azimuth: self.number(i + 2).filter(|a| *a <= 360),
            signal: self.number(i + 3).and_then(|s| u8::try_from(s).ok()),
            used: false,
        })
    }
}

fn checked_date(year: i32, month: u8, day: u8) -> Result<Date, ParseError> {
    if day == 0 || day > days_in_month(year, month) {
        return Err(ParseError::Field("date"));
    }
    Ok(Date { year, month, day })
}

/// Six digits as three numbers.
fn pairs(text: &str) -> Option<[u8; 3]> {
    let [a, b, c, d, e, f] = text.as_bytes() else { return None };
    let pair = |x: &u8, y: &u8| (x.is_ascii_digit() && y.is_ascii_digit()).then(|| (x - b'0') * 10 + (y - b'0'));
    Some([pair(a, b)?, pair(c, d)?, pair(e, f)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nmea::write::sentence;
    use proptest::prelude::*;

    fn parse(body: &str) -> Result<Sentence, ParseError> {
        Parsed::from_bytes(sentence(body).trim_end().as_bytes()).map(|p| p.sentence)
    }

    #[test]
    fn leap_seconds_and_fractions() {
        let rmc = parse("GPRMC,235960.250,A,,,,,,,311216,,,A").unwrap();
        assert_eq!(rmc.time(), Some(Time { hour: 23, minute: 59, second: 60, nanos: 250_000_000 }));
        assert_eq!(rmc.date(), Some(Date { year: 2016, month: 12, day: 31 }));
        assert_eq!(
            parse("GNZDA,000000.0000,01,01,2026,00,00").unwrap().date(),
            Some(Date { year: 2026, month: 1, day: 1 })
        );
    }

    #[test]
    fn validity_is_read_in_every_version_of_the_standard() {
        let valid = |body: &str| parse(body).unwrap().valid();
        assert_eq!(valid("GPRMC,000000,A,,,,,,,010126,,"), Some(true));
        assert_eq!(valid("GPRMC,000000,V,,,,,,,010126,,"), Some(false));
        assert_eq!(valid("GPRMC,000000,A,,,,,,,010126,,,N"), Some(false));
        assert_eq!(valid("GPRMC,000000,A,,,,,,,010126,,,E"), Some(false));
        assert_eq!(valid("GPRMC,000000,A,,,,,,,010126,,,A,V"), Some(true));
        assert_eq!(valid("GPRMC,000000,A,,,,,,,010126,,,A,S"), Some(true));
        assert_eq!(valid("GPGGA,000000,,,,,0,00,,,,,,,"), Some(false));
        assert_eq!(valid("GPGGA,000000,,,,,6,00,,,,,,,"), Some(false));
        assert_eq!(valid("GNGNS,000000,,,,,NNN,00,,,,,"), Some(false));
        assert_eq!(valid("GNGNS,000000,,,,,AANN,09,,,,,"), Some(true));
    }

    #[test]
    fn malformed_dates_give_no_time() {
        assert_eq!(parse("GPRMC,000231.42,A,,,,,,,2208-1,,,A"), Err(ParseError::Field("date")));
        assert_eq!(parse("GPRMC,000231,A,,,,,,,310226,,,A"), Err(ParseError::Field("date")));
        assert_eq!(parse("GPRMC,240000,A,,,,,,,010126,,,A"), Err(ParseError::Field("time")));
        assert_eq!(parse("GPRMC,,V,,,,,,,,,,N").unwrap().time(), None);
    }

    #[test]
    fn checksums_are_required() {
        assert_eq!(Parsed::from_bytes(b"$GPRMC,000000,A,,,,,,,010126,,"), Err(ParseError::NoChecksum));
        assert_eq!(Parsed::from_bytes(b"$GPRMC,000000,A,,,,,,,010126,,*00"), Err(ParseError::Checksum));
        // The exclusive or of a doubled letter and an `E` with a `@` is 5.
        assert_eq!(Parsed::from_bytes(b"$AAE@*05").map(|p| p.talker), Ok(*b"AA"));
        assert_eq!(Parsed::from_bytes(b"$AAE@*+5"), Err(ParseError::Checksum));
        let lower = sentence("GPGLL,,,,,000000,A,A").trim_end().to_ascii_lowercase();
        let mixed = format!("$GPGLL,,,,,000000,A,A*{}", lower.rsplit_once('*').unwrap().1);
        assert!(Parsed::from_bytes(mixed.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120), body in "(GP|GN|P)(RMC|ZDA|GGA|GSV|GSA|GLL|GNS|TXT)[,0-9A-Z.-]{0,60}") {
            let _ = Parsed::from_bytes(&bytes);
            let _ = parse(&body);
        }
    }
}
