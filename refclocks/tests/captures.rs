//! Real receivers' captures: every time the wire carries is read as it stands there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod outside;

use std::collections::BTreeMap;

use outside::folder;
use refclocks::Report;
use refclocks::calendar::{CivilTime, parse_iso8601};
use refclocks::nmea::{DateFold, Parsed};
use refclocks::receiver::{Capture, Config, Driver, Outcome, utc_in_words};
use refclocks::time::{Span, Timestamp, Utc};

/// The sentence at an offset of a file, up to the line's end.
fn sentence_at(bytes: &[u8], offset: usize) -> &[u8] {
    let rest = bytes.get(offset..).unwrap_or_default();
    let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(rest.len());
    &rest[..end]
}

#[test]
fn every_dated_sentence_is_read_as_the_wire_has_it() {
    let Some(folder) = folder("REFCLOCKD_CAPTURES") else { return };
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let (mut compared, mut refused) = (0, 0);
    for list in ["expected.csv", "expected_synthetic.csv"] {
        for row in std::fs::read_to_string(folder.join(list)).unwrap().lines().skip(1) {
            let fields: Vec<&str> = row.split(',').collect();
            let [file, _, offset, kind, checksum, expected, fix_valid, ..] = fields[..] else { panic!("{row}") };
            let dated = kind.ends_with("RMC") || kind.ends_with("ZDA");
            if !dated || kind.starts_with('P') || checksum != "ok" {
                continue;
            }
            let bytes = files.entry(file.to_owned()).or_insert_with(|| std::fs::read(folder.join(file)).unwrap());
            let frame = sentence_at(bytes, offset.parse().unwrap());
            let parsed = Parsed::from_bytes(frame);
            let Some((expected, second60)) = parse_iso8601(expected) else {
                // No date on the wire, or a malformed one: no time may come of it.
                let time = parsed.ok().and_then(|p| p.sentence.time().zip(p.sentence.date()));
                assert_eq!(time, None, "{row}");
                refused += 1;
                continue;
            };
            let sentence = parsed.unwrap_or_else(|e| panic!("{row}: {e}")).sentence;
            let (Some(time), Some(date)) = (sentence.time(), sentence.date()) else { panic!("{row}: {sentence:?}") };
            let read = CivilTime {
                year: date.year,
                month: date.month,
                day: date.day,
                hour: time.hour,
                minute: time.minute,
                second: time.second,
                nanos: time.nanos,
            };
            // The list resolves two-digit years to the capture's century.
            let century = Span::from_whole_seconds(36_525 * 86_400);
            let off = (read.to_utc() - expected).abs();
            assert!(off < Span::from_millis(1) || (off - century).abs() < Span::from_millis(1), "{row}: {read}");
            assert_eq!(time.second == 60, second60, "{row}");
            if let Some(valid) = sentence.valid()
                && matches!(fix_valid, "0" | "1")
            {
                assert_eq!(u8::from(valid).to_string(), fix_valid, "{row}");
            }
            compared += 1;
        }
    }
    println!("{compared} sentences agree, {refused} without a date give no time");
    assert!(compared > 500);
}

/// What the lists expect of one file, and what came.
#[derive(Default)]
struct Row {
    /// Messages marked valid with an instant, and those of them that give it to the millisecond.
    valid: usize,
    right: usize,
    /// Messages marked invalid or without an instant, and those that give none.
    invalid: usize,
    refused: usize,
    samples: usize,
    carriers: BTreeMap<String, usize>,
    periods: usize,
}

/// As `refclockd replay --samples` has it: what is marked valid gives its instant, what is not gives none.
/// With UPDATE_DOCS set, the table is written to docs/receivers.md; without, it must stand there.
#[test]
fn every_message_gives_its_instant_or_none() {
    let Some(folder) = folder("REFCLOCKD_CAPTURES") else { return };
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut captures: BTreeMap<String, Capture> = BTreeMap::new();
    let config = |not_before| Config { baud: Some(9600), not_before, ..Config::default() };
    for list in ["expected.csv", "expected_synthetic.csv"] {
        for line in std::fs::read_to_string(folder.join(list)).unwrap().lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let [file, _, offset, kind, checksum, expected, fix_valid, ..] = fields[..] else { panic!("{line}") };
            let capture = captures
                .entry(file.to_owned())
                .or_insert_with(|| Capture::read(&std::fs::read(folder.join(file)).unwrap(), config(Timestamp::EPOCH)));
            let row = rows.entry(file.to_owned()).or_default();
            let offset: u64 = offset.parse().unwrap();
            let heard = capture.heard.iter().find(|h| h.offset == offset && h.outcome.is_valid());
            let said = heard.and_then(|h| Some(utc_in_words(h.utc?, h.second60)));
            if fix_valid == "1" && !expected.is_empty() && checksum != "bad" {
                row.valid += 1;
                assert_eq!(said.as_deref(), Some(expected), "{line}");
                row.right += 1;
            } else if fix_valid == "0" || (fix_valid == "1" && !kind.starts_with("UBX-NAV-STATUS")) {
                row.invalid += 1;
                assert_eq!(said, None, "{line}");
                row.refused += 1;
            } else if let Some(said) = said {
                // A message with no word of its own on validity.
                assert_eq!(said, expected, "{line}");
            }
        }
    }
    // Samples as the daemon would take them, with dates brought to where they can lie.
    let not_before = parse_iso8601("2025-07-01T00:00:00Z").unwrap().0;
    for (file, row) in &mut rows {
        let capture = Capture::read(&std::fs::read(folder.join(file)).unwrap(), config(not_before));
        for h in capture.heard.iter().filter(|h| h.outcome == Outcome::Sample) {
            let talker = h.speaker.talker().unwrap_or_default();
            *row.carriers.entry(format!("{talker}{}", h.speaker.name())).or_default() += 1;
            row.samples += 1;
            row.periods += usize::from(h.periods != 0);
        }
    }
    let mut table = String::from(
        "| capture | marked valid, instant given | marked invalid, none given | samples | carried by | 1024 weeks added |\n|---|---|---|---|---|---|\n",
    );
    for (file, r) in &rows {
        let carriers: Vec<&str> = r.carriers.keys().map(String::as_str).collect();
        let carriers = carriers.join(", ");
        let Row { valid, right, invalid, refused, samples, periods, .. } = r;
        table +=
            &format!("| {file} | {right} of {valid} | {refused} of {invalid} | {samples} | {carriers} | {periods} |\n");
    }
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/receivers.md");
    let text = std::fs::read_to_string(page).unwrap();
    let (before, rest) = text.split_once("<!-- captures -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of captures -->").unwrap();
    let new = format!("{before}<!-- captures -->\n{table}<!-- end of captures -->{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(page, new).unwrap();
    } else {
        assert_eq!(text, new, "docs/receivers.md: run this test with UPDATE_DOCS=1");
    }
}

#[test]
fn no_capture_stops_the_driver_and_its_samples_are_on_the_wire() {
    let Some(folder) = folder("REFCLOCKD_CAPTURES") else { return };
    let mut expected: BTreeMap<String, Vec<Timestamp<Utc>>> = BTreeMap::new();
    for list in ["expected.csv", "expected_synthetic.csv"] {
        for row in std::fs::read_to_string(folder.join(list)).unwrap().lines().skip(1) {
            let fields: Vec<&str> = row.split(',').collect();
            if let Some((at, _)) = parse_iso8601(fields[5]) {
                expected.entry(fields[0].to_owned()).or_default().push(at);
            }
        }
    }
    let not_before = parse_iso8601("2025-07-01T00:00:00Z").unwrap().0;
    let fold = DateFold { not_before, last_good: Timestamp::EPOCH };
    let mut with_samples = 0;
    for (file, times) in &expected {
        let bytes = std::fs::read(folder.join(file)).unwrap();
        let folded: Vec<_> = times.iter().filter_map(|t| fold.fold(*t)).map(|(t, _)| t).collect();
        for chunk in [1, 7, 64, 4096] {
            let mut driver = Driver::new(Config { baud: Some(9600), not_before, ..Config::default() });
            let mut samples = 0;
            for (i, part) in bytes.chunks(chunk).enumerate() {
                driver.handle_bytes(part, Timestamp::from_nanos(i as i64 * chunk as i64 * 1_041_667));
                while let Some(report) = driver.poll_report() {
                    if let Report::Sample(sample) = report {
                        let near = folded.iter().any(|t| (*t - sample.reference).abs() < Span::from_millis(1));
                        assert!(near, "{file}: {}", sample.reference);
                        samples += 1;
                    }
                }
            }
            with_samples += u32::from(samples > 0 && chunk == 64);
        }
    }
    println!("{with_samples} of {} files give samples", expected.len());
    assert!(with_samples >= 15);
}
