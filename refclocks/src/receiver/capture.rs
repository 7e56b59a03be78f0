//! A bare capture of what a receiver sent: bytes without arrival stamps, perhaps with remarks of its own.

use super::config::Config;
use super::driver::Driver;
use super::heard::{Heard, Outcome, Refusal};
use crate::calendar::{CivilTime, DAY};
use crate::device::Health;
use crate::report::Report;
use crate::time::{Raw, Span, Timestamp, Utc};

/// Bytes that come at once, as from a UART with a FIFO.
const AT_ONCE: usize = 8;
/// The speed of a line that is not told, bit/s.
const USUAL_SPEED: u32 = 9600;

/// What a receiver said, and what a driver made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Capture {
    /// All messages that were to name a time, in their order.
    pub heard: Vec<Heard>,
    /// The driver's counters.
    pub health: Health,
}

impl Capture {
    /// Plays a capture to a driver, at the line's speed and without the pauses it had.
    ///
    /// What a driver on a live line cannot do is done here: messages that name a time before the first
    /// date has come are dated by that one.
    pub fn read(bytes: &[u8], config: Config) -> Self {
        let mut driver = Driver::for_capture(config);
        let byte_time = 10.0 / f64::from(config.baud.unwrap_or(USUAL_SPEED).max(1));
        let mut heard = Vec::new();
        for (i, part) in bytes.chunks(AT_ONCE).enumerate() {
            let behind = (i * AT_ONCE + part.len()) as f64 * byte_time;
            let arrived = Timestamp::<Raw>::from_parts(1000, 0) + Span::from_seconds(behind);
            driver.handle_bytes_telling(part, arrived, |h| heard.push(*h));
            // Reports are for who lives now.
            while let Some(Report::Sample(_) | Report::Receiver(_) | Report::State(_) | Report::Sawtooth(_)) =
                driver.poll_report()
            {}
        }
        date_backwards(&mut heard);
        Self { heard, health: driver.health() }
    }
}

/// Dates what was right but for its date by the first date that came after it.
fn date_backwards(heard: &mut [Heard]) {
    let is_dated = |h: &Heard| h.outcome.is_valid() && h.date.is_some();
    let Some(first) = heard.iter().position(is_dated) else { return };
    let (before, from) = heard.split_at_mut(first);
    let Some((date, periods)) = from.first().and_then(|h| Some((h.utc?, h.periods))) else { return };
    for h in before.iter_mut().filter(|h| h.outcome == Outcome::Refused(Refusal::NoDate)) {
        let Some(time) = h.time else { continue };
        let of_day = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(time.second);
        let midnight = (date.whole_seconds() - of_day + DAY / 2).div_euclid(DAY) * DAY;
        h.utc = Some(Timestamp::from_parts(midnight + of_day, time.nanos));
        h.periods = periods;
        h.outcome = Outcome::DatedLater;
    }
}

/// An instant in ISO 8601 as a message names it: to the millisecond, second 60 as such.
pub fn utc_in_words(utc: Timestamp<Utc>, second60: bool) -> String {
    let half = Span::from_nanos(500_000);
    if second60 {
        let civil = CivilTime::from_utc(utc - Span::from_whole_seconds(1));
        return format!("{:.3}", CivilTime { second: 60, ..civil });
    }
    format!("{:.3}", utc + half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nmea::write;

    fn civil(second: u8) -> CivilTime {
        CivilTime { year: 2026, month: 1, day: 1, hour: 0, minute: 0, second, nanos: 0 }
    }

    #[test]
    fn what_comes_before_the_first_date_is_dated_by_it() {
        let before = CivilTime { year: 2025, month: 12, day: 31, hour: 23, minute: 59, second: 59, nanos: 0 };
        let text = String::from("# a remark: $GPRMC\n")
            + &write::gga("GP", &before, true, 8)
            + &write::gga("GP", &civil(1), false, 0)
            + &write::rmc("GP", &civil(2), true);
        let capture = Capture::read(text.as_bytes(), Config::default());
        let told: Vec<_> = capture
            .heard
            .iter()
            .map(|h| (h.speaker.name(), h.utc.map(|u| utc_in_words(u, h.second60)), h.outcome))
            .collect();
        let text = |t: &str| Some(t.to_owned());
        assert_eq!(
            told,
            [
                ("GGA", text("2025-12-31T23:59:59.000Z"), Outcome::DatedLater),
                ("GGA", None, Outcome::Refused(Refusal::NoFix)),
                ("RMC", text("2026-01-01T00:00:02.000Z"), Outcome::Unsteady),
            ]
        );
        assert_eq!(capture.heard[0].offset, 19);
    }

    #[test]
    fn instants_are_told_to_the_millisecond() {
        let at = civil(0).to_utc();
        assert_eq!(utc_in_words(at - Span::from_nanos(123), false), "2026-01-01T00:00:00.000Z");
        assert_eq!(utc_in_words(at + Span::from_nanos(799_600_000), false), "2026-01-01T00:00:00.800Z");
        assert_eq!(utc_in_words(at + Span::from_millis(250), true), "2025-12-31T23:59:60.250Z");
    }
}
