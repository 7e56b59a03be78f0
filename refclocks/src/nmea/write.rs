//! The writer: the parser's inverse, for the simulation and the tests.

use std::fmt::Write;

use crate::calendar::CivilTime;
use crate::satellite::Satellite;

/// Puts `$`, checksum and line end around a body.
pub fn sentence(body: &str) -> String {
    let checksum = body.bytes().fold(0, |sum, b| sum ^ b);
    format!("${body}*{checksum:02X}\r\n")
}

/// RMC: time, date and validity, somewhere at sea.
pub fn rmc(talker: &str, at: &CivilTime, valid: bool) -> String {
    let (status, mode) = if valid { ('A', 'A') } else { ('V', 'N') };
    let position = if valid { "4807.0380,N,01131.0000,E,0.01,0.0" } else { ",,,,," };
    sentence(&format!(
        "{talker}RMC,{},{status},{position},{:02}{:02}{:02},,,{mode}",
        time(at),
        at.day,
        at.month,
        at.year.rem_euclid(100)
    ))
}

/// ZDA: time and date.
pub fn zda(talker: &str, at: &CivilTime) -> String {
    sentence(&format!("{talker}ZDA,{},{:02},{:02},{:04},00,00", time(at), at.day, at.month, at.year))
}

/// GGA: time, quality and the number of satellites used.
pub fn gga(talker: &str, at: &CivilTime, valid: bool, satellites: u16) -> String {
    let position = if valid { "4807.0380,N,01131.0000,E,1" } else { ",,,,0" };
    sentence(&format!("{talker}GGA,{},{position},{satellites:02},0.90,30.0,M,47.0,M,,", time(at)))
}

/// GSA: kind of fix (1 none, 2, 3) and up to twelve satellites used.
pub fn gsa(talker: &str, fix: u8, used: &[u16]) -> String {
    let mut body = format!("{talker}GSA,A,{fix}");
    for i in 0..12 {
        match used.get(i) {
            Some(number) => {
                // Writing to a string cannot fail.
                let _ = write!(body, ",{number:02}");
            }
            None => body.push(','),
        }
    }
    body.push_str(",1.50,0.90,1.20");
    sentence(&body)
}

/// GSV: all satellites in view, four to a sentence.
pub fn gsv(talker: &str, satellites: &[Satellite]) -> String {
    let parts = satellites.chunks(4).len().max(1);
    let mut text = String::new();
    for (i, chunk) in satellites.chunks(4).enumerate() {
        let mut body = format!("{talker}GSV,{parts},{},{:02}", i + 1, satellites.len());
        for s in chunk {
            let _ = write!(body, ",{:02},{:02},{:03},", s.number, s.elevation.unwrap_or(0), s.azimuth.unwrap_or(0));
            if let Some(signal) = s.signal {
                let _ = write!(body, "{signal:02}");
            }
        }
        text.push_str(&sentence(&body));
    }
    text
}

fn time(at: &CivilTime) -> String {
    format!("{:02}{:02}{:02}.{:02}", at.hour, at.minute, at.second, at.nanos / 10_000_000)
}
