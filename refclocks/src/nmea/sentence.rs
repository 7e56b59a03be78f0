//! What a sentence says. A pure parse: no state, no guess, and no memory of its own.

use super::fields::{Date, Fields, ParseError, Time};
use crate::report::{Antenna, Fix};
use crate::satellite::Satellite;

/// A sentence with its sender.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parsed {
    /// Two letters: which system speaks (`GP`, `GN`, ...); `P` and the vendor's first letter with a
    /// proprietary one.
    pub talker: [u8; 2],
    /// What it says.
    pub sentence: Sentence,
    /// Did it have a checksum?
    pub checked: bool,
}

/// The sentences we understand. Time and date are `None` where the field is empty.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// Accord's: GPS time, not UTC, of the *next* pulse.
    Zdg {
        /// Time of day.
        time: Option<Time>,
        /// Date.
        date: Option<Date>,
        /// May the time be used?
        valid: bool,
    },
    /// Garmin's `$PGRMF`: time, date, validity and leap seconds.
    Pgrmf {
        /// Time of day.
        time: Option<Time>,
        /// Date.
        date: Option<Date>,
        /// May the time be used?
        valid: bool,
        /// GPS - UTC, s.
        leap_seconds: Option<u8>,
    },
    /// u-blox's `$PUBX,04`: time, date and leap seconds, with no word on validity.
    Pubx04 {
        /// Time of day.
        time: Option<Time>,
        /// Date.
        date: Option<Date>,
        /// GPS - UTC from the sky, s; `None` while it is the firmware's default, and then the second is
        /// not known either.
        leap_seconds: Option<u8>,
    },
    /// Kind of fix, and the satellites used.
    Gsa {
        /// Kind of fix.
        fix: Option<Fix>,
        /// Numbers of the satellites used.
        used: [Option<u16>; 12],
        /// NMEA 4.1 system ID.
        system: Option<u8>,
    },
    /// Satellites in view: one part of a list.
    Gsv {
        /// Parts in the list, and which this is, from 1.
        part: (u8, u8),
        /// The satellites of this part.
        satellites: [Option<Satellite>; 4],
    },
    /// Standard deviations of the fix (GST), m. They are given with a time of day, and no word on it.
    Gst {
        /// Of the distances to the satellites.
        ranges: Option<f64>,
        /// Of the position: north, east, up.
        position: Option<[f64; 3]>,
    },
    /// The receiver's own check of the satellites (GBS).
    Gbs {
        /// Standard deviations of the position: north, east, up, m.
        position: Option<[f64; 3]>,
        /// The satellite whose signal most likely is wrong, and by how much, m.
        failing: Option<(u16, Option<f64>)>,
    },
    /// The state of the antenna, in a text of u-blox's.
    Antenna(Option<Antenna>),
    /// Anything else that is well-formed.
    Other,
}

impl Parsed {
    /// Parses a frame from its `$` to before the line's end. Its checksum must be there and right.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        let parsed = Self::from_bytes_unchecked(bytes)?;
        if parsed.checked { Ok(parsed) } else { Err(ParseError::NoChecksum) }
    }

    /// The same, of a receiver that may send no checksums. One that is there must be right.
    pub fn from_bytes_unchecked(bytes: &[u8]) -> Result<Self, ParseError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ParseError::NotASentence)?;
        let text = text.strip_prefix('$').ok_or(ParseError::NotASentence)?.trim_ascii_end();
        let (body, checked) = match text.rsplit_once('*') {
            Some((body, checksum)) if says(checksum) == Some(sum(body)) => (body, true),
            Some(_) => return Err(ParseError::Checksum),
            None => (text, false),
        };
        let (address, fields) = Fields::split(body);
        let letters = |b: &[u8]| b.iter().all(u8::is_ascii_alphanumeric);
        let sentence = match address.as_bytes() {
            // Proprietary: another grammar each.
            b"PGRMF" => Sentence::pgrmf(&fields)?,
            b"PUBX" if fields.get(1) == "04" => Sentence::pubx04(&fields)?,
            address @ [b'P', _, ..] if letters(address) => Sentence::Other,
            address @ [_, _, kind @ ..] if letters(address) => Sentence::from_fields(kind, &fields)?,
            _ => return Err(ParseError::NotASentence),
        };
        let talker = address.as_bytes().first_chunk::<2>().copied().unwrap_or_default();
        Ok(Self { talker, sentence, checked })
    }
}

/// Does a frame end with its own checksum?
pub fn has_good_checksum(frame: &[u8]) -> bool {
    let text = frame.strip_prefix(b"$").and_then(|rest| std::str::from_utf8(rest).ok()).unwrap_or_default();
    text.rsplit_once('*').is_some_and(|(body, checksum)| says(checksum) == Some(sum(body)))
}

fn sum(body: &str) -> u8 {
    body.bytes().fold(0, |sum, b| sum ^ b)
}

/// Two hexadecimal digits, upper or lower case. `from_str_radix` alone would take "+5" for a number.
fn says(checksum: &str) -> Option<u8> {
    let is_hex = checksum.len() == 2 && checksum.bytes().all(|b| b.is_ascii_hexdigit());
    u8::from_str_radix(checksum, 16).ok().filter(|_| is_hex)
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
            b"ZDG" => Self::Zdg { time: f.time(1)?, date: f.long_date(2)?, valid: matches!(f.get(6), "1" | "2") },
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
                used: std::array::from_fn(|i| f.number(3 + i)),
                system: f.number(18).and_then(|s| u8::try_from(s).ok()),
            },
            b"GSV" => {
                let part = |i| f.number(i).and_then(|n| u8::try_from(n).ok()).unwrap_or(1);
                Self::Gsv { part: (part(1), part(2)), satellites: std::array::from_fn(|i| f.satellite(4 + 4 * i)) }
            }
            b"GST" => Self::Gst { ranges: f.deviation(2), position: f.deviations(6) },
            b"GBS" => {
                let failing = f.number(5).filter(|number| *number > 0);
                Self::Gbs { position: f.deviations(2), failing: failing.map(|number| (number, f.length(7))) }
            }
            b"TXT" => match f.get(4).split_once("ANTSTATUS=") {
                Some((_, "OK")) => Self::Antenna(Some(Antenna::Ok)),
                Some((_, "OPEN")) => Self::Antenna(Some(Antenna::Open)),
                Some((_, "SHORT")) => Self::Antenna(Some(Antenna::Short)),
                // It is still looking, or does not know.
                Some(_) => Self::Antenna(None),
                None => Self::Other,
            },
            _ => Self::Other,
        })
    }

    fn pgrmf(f: &Fields<'_>) -> Result<Self, ParseError> {
        Ok(Self::Pgrmf {
            time: f.time(4)?,
            date: f.date(3)?,
            valid: matches!(f.get(11), "1" | "2"),
            leap_seconds: f.number(5).and_then(|n| u8::try_from(n).ok()),
        })
    }

    fn pubx04(f: &Fields<'_>) -> Result<Self, ParseError> {
        // A `D` behind the leap seconds marks the firmware's default.
        let leap_seconds = f.number(6).and_then(|n| u8::try_from(n).ok());
        Ok(Self::Pubx04 { time: f.time(2)?, date: f.date(3)?, leap_seconds })
    }

    /// The time of day, if the sentence carries one.
    pub fn time(&self) -> Option<Time> {
        match self {
            Self::Rmc { time, .. }
            | Self::Zda { time, .. }
            | Self::Gga { time, .. }
            | Self::Gll { time, .. }
            | Self::Gns { time, .. }
            | Self::Zdg { time, .. }
            | Self::Pgrmf { time, .. }
            | Self::Pubx04 { time, .. } => *time,
            _ => None,
        }
    }

    /// The date, if it carries one.
    pub fn date(&self) -> Option<Date> {
        match self {
            Self::Rmc { date, .. }
            | Self::Zda { date, .. }
            | Self::Zdg { date, .. }
            | Self::Pgrmf { date, .. }
            | Self::Pubx04 { date, .. } => *date,
            _ => None,
        }
    }

    /// Whether its time may be used, if it has a word on that.
    pub fn valid(&self) -> Option<bool> {
        match self {
            Self::Rmc { valid, .. }
            | Self::Gga { valid, .. }
            | Self::Gll { valid, .. }
            | Self::Gns { valid, .. }
            | Self::Zdg { valid, .. }
            | Self::Pgrmf { valid, .. } => Some(*valid),
            _ => None,
        }
    }
}

/// Mode letters: estimated, manual, simulated and none are no time to use. Absent in old versions.
fn good_modes(modes: &str) -> bool {
    modes.is_empty() || modes.bytes().any(|m| matches!(m, b'A' | b'D' | b'F' | b'P' | b'R'))
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
    fn two_digit_years_are_within_the_time_of_gps() {
        let year =
            |digits: &str| parse(&format!("GPRMC,000000,A,,,,,,,2208{digits},,,A")).unwrap().date().unwrap().year;
        assert_eq!(["80", "99", "00", "79"].map(year), [1980, 1999, 2000, 2079]);
    }

    #[test]
    fn quality_is_read_where_it_is_told() {
        assert_eq!(
            parse("GPGST,131521.00,21,5.1,3.2,67.0,0.70,0.49,1.1"),
            Ok(Sentence::Gst { ranges: Some(21.0), position: Some([0.70, 0.49, 1.1]) })
        );
        assert_eq!(parse("GNGST,131521.00,,,,,,,"), Ok(Sentence::Gst { ranges: None, position: None }));
        assert_eq!(parse("GNGST,,0.0,,,,0.0,inf,nan"), Ok(Sentence::Gst { ranges: None, position: None }));
        assert_eq!(
            parse("GPGBS,131528.00,0.7,0.5,1.0,,,,"),
            Ok(Sentence::Gbs { position: Some([0.7, 0.5, 1.0]), failing: None })
        );
        assert_eq!(
            parse("GNGBS,131528.00,-3.1,-2.1,1.0,19,,-21.4,3.5,1,0"),
            Ok(Sentence::Gbs { position: Some([3.1, 2.1, 1.0]), failing: Some((19, Some(-21.4))) })
        );
    }

    #[test]
    fn vendors_sentences() {
        let garmin = parse("PGRMF,290,293895,160305,093802,13,5213.1439,N,02100.6511,E,A,2,0,226,2,1").unwrap();
        assert_eq!(garmin.date(), Some(Date { year: 2005, month: 3, day: 16 }));
        assert_eq!((garmin.time().map(|t| t.second), garmin.valid()), (Some(2), Some(true)));
        assert!(matches!(garmin, Sentence::Pgrmf { leap_seconds: Some(13), .. }));
        let leap = |body| match parse(body) {
            Ok(Sentence::Pubx04 { leap_seconds, .. }) => leap_seconds,
            other => panic!("{other:?}"),
        };
        assert_eq!(leap("PUBX,04,073731.00,091202,113851.00,1196,15,1930035,-2660.664,43"), Some(15));
        assert_eq!(leap("PUBX,04,073731.00,091202,113851.00,1196,15D,1930035,-2660.664,43"), None, "the default");
        let accord = parse("GPZDG,000319.0,01,01,2026,AA.BB,2").unwrap();
        assert_eq!((accord.date().map(|d| d.year), accord.valid()), (Some(2026), Some(true)));
        assert_eq!(parse("GPZDG,000319.0,01,01,2026,AA.BB,0").unwrap().valid(), Some(false));
        assert_eq!(parse("GNTXT,01,01,02,ANTSTATUS=SHORT"), Ok(Sentence::Antenna(Some(Antenna::Short))));
        assert_eq!(parse("GNTXT,01,01,02,ANTSTATUS=INIT"), Ok(Sentence::Antenna(None)));
    }

    #[test]
    fn checksums_are_required() {
        assert_eq!(Parsed::from_bytes(b"$GPRMC,000000,A,,,,,,,010126,,"), Err(ParseError::NoChecksum));
        assert_eq!(Parsed::from_bytes(b"$GPRMC,000000,A,,,,,,,010126,,*00"), Err(ParseError::Checksum));
        // The exclusive or of `A`, `A`, `A` and `D` is 5.
        assert_eq!(Parsed::from_bytes(b"$AAAD*05").map(|p| p.talker), Ok(*b"AA"));
        assert_eq!(Parsed::from_bytes(b"$AAAD*+5"), Err(ParseError::Checksum));
        let bare = Parsed::from_bytes_unchecked(b"$GPRMC,000000,A,,,,,,,010126,,").unwrap();
        assert_eq!((bare.checked, bare.sentence.valid()), (false, Some(true)));
        assert_eq!(Parsed::from_bytes_unchecked(b"$GPRMC,000000,A,,,,,,,010126,,*00"), Err(ParseError::Checksum));
        let lower = sentence("GPGLL,,,,,000000,A,A").trim_end().to_ascii_lowercase();
        let mixed = format!("$GPGLL,,,,,000000,A,A*{}", lower.rsplit_once('*').unwrap().1);
        assert!(Parsed::from_bytes(mixed.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120), body in "(GP|GN|P)(RMC|ZDA|GGA|GSV|GSA|GLL|GNS|TXT|ZDG|GST|GBS|GRMF|UBX)[,0-9A-Z.-]{0,60}") {
            let _ = Parsed::from_bytes(&bytes);
            let _ = parse(&body);
        }
    }
}
