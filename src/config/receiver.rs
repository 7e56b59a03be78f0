//! The keys of a GNSS receiver on a serial port: drivers `nmea` and `ubx`.

use refclocks::receiver::{Checksums, SawtoothUse};
use refclocks::ubx::setup::Wishes;
use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::{Diagnostic, quoted};
use super::model::Receiver;
use super::source::device;
use super::value::{At, Section, unknown};

/// Keys of both drivers.
pub(super) const KEYS: [&str; 7] = ["device", "baud", "checksum", "without_fix", "sawtooth", "configure", "survey_in"];

const CHECKSUMS: [(&str, Checksums); 3] =
    [("auto", Checksums::Auto), ("required", Checksums::Required), ("optional", Checksums::Optional)];
const SAWTOOTH: [(&str, SawtoothUse); 4] = [
    ("auto", SawtoothUse::Auto),
    ("off", SawtoothUse::Off),
    ("add", SawtoothUse::Add),
    ("subtract", SawtoothUse::Subtract),
];

/// Reads the receiver's own keys.
pub(super) fn receiver(section: &Section<'_, '_>, only_ubx: bool, out: &mut Vec<Diagnostic>) -> Option<At<Receiver>> {
    // The slowest and the fastest that serial receivers are sold with.
    let baud = match section.get("baud").map(Spanned::get_ref) {
        Some(DeValue::String(text)) if text == "auto" => None,
        _ => section.integer("baud", 300..=4_000_000, out).and_then(|b| u32::try_from(b).ok()),
    };
    let checksums = choice(section, "checksum", &CHECKSUMS, out);
    let sawtooth = choice(section, "sawtooth", &SAWTOOTH, out);
    let without_fix = section.boolean("without_fix", out).unwrap_or(false);
    let configure = section.boolean("configure", out).unwrap_or(false);
    // A survey of less than a minute tells no position, and one of a day no better one.
    let survey_in = section.duration("survey_in", 60.0..=86_400.0, out).map(|seconds| seconds as u32);
    if survey_in.is_some() && !configure {
        let at = section.get("survey_in").map_or(section.span.clone(), Spanned::span);
        let help = "Add `configure = true`: without it nothing is sent to the receiver.";
        out.push(Diagnostic::warning(at, "`survey_in` means nothing without `configure`", help));
    }
    let configure = configure.then_some(Wishes { survey_in });
    let (device, span) = device(section, "device", "/dev/ttyAMA0", out)?;
    Some((Receiver { device, baud, only_ubx, checksums, without_fix, sawtooth, configure }, span))
}

/// A key that takes one of several words; the first unless it is given.
fn choice<T: Copy + Default>(
    section: &Section<'_, '_>,
    key: &str,
    words: &[(&str, T)],
    out: &mut Vec<Diagnostic>,
) -> T {
    let Some((word, span)) = section.string(key, out) else { return T::default() };
    match words.iter().find(|(known, _)| *known == word) {
        Some((_, value)) => *value,
        None => {
            let known: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
            out.push(unknown(word, span, format!("unknown `{key}` {}", quoted(word)), &known));
            T::default()
        }
    }
}
