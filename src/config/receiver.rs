//! The keys of a GNSS receiver on a serial port: drivers `nmea` and `ubx`.

use refclocks::receiver::{Checksums, SawtoothUse};
use refclocks::ubx::setup::{Position, Timing, Wishes};
use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::Diagnostic;
use super::model::Receiver;
use super::source::device;
use super::value::{At, Section};

/// Keys of both drivers.
pub(super) const KEYS: [&str; 8] =
    ["device", "baud", "checksum", "without_fix", "sawtooth", "configure", "survey_in", "position"];

/// Speeds that a receiver can be set to, and that a port can follow to, bit/s.
const SPEEDS: [u32; 9] = [4800, 9600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600];

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
    let checksums = section.choice("checksum", "`checksum`", &CHECKSUMS, out).unwrap_or_default();
    let sawtooth = section.choice("sawtooth", "`sawtooth`", &SAWTOOTH, out).unwrap_or_default();
    let without_fix = section.boolean("without_fix", out).unwrap_or(false);
    let configure = section.boolean("configure", out).unwrap_or(false);
    let timing = timing(section, configure, out);
    let configure = configure.then_some(Wishes { baud, timing });
    if let (Some(baud), Some(_)) = (baud, configure)
        && !SPEEDS.contains(&baud)
    {
        let at = section.get("baud").map_or(section.span.clone(), Spanned::span);
        let speeds = SPEEDS.map(|speed| speed.to_string()).join(", ");
        let title = format!("a receiver cannot be set to {baud} bit/s");
        out.push(Diagnostic::error(at, title, format!("Use one of {speeds}; or \"auto\", which leaves it.")));
    }
    let (device, span) = device(section, "device", "/dev/ttyAMA0", out)?;
    Some((Receiver { device, baud, only_ubx, checksums, without_fix, sawtooth, configure }, span))
}

/// How a receiver for timing is to know where its antenna is.
fn timing(section: &Section<'_, '_>, configure: bool, out: &mut Vec<Diagnostic>) -> Option<Timing> {
    // A survey of less than a minute tells no position, and one of a day no better one.
    let survey = section.duration("survey_in", 60.0..=86_400.0, out).map(|seconds| Timing::SurveyIn(seconds as u32));
    let position = section.get("position");
    let fixed = position.and_then(|value| fixed(&Section::new("position", value, out)?, out));
    for key in ["survey_in", "position"] {
        if let Some(value) = section.get(key).filter(|_| !configure) {
            let help = "Add `configure = true`: without it nothing is sent to the receiver.";
            out.push(Diagnostic::warning(value.span(), format!("`{key}` means nothing without `configure`"), help));
        }
    }
    if let (Some(position), Some(_)) = (position, section.get("survey_in")) {
        let help = "Delete one of them: a position that is known needs no survey.";
        out.push(Diagnostic::error(position.span(), "`position` and `survey_in` exclude each other", help));
    }
    fixed.or(survey)
}

/// `position = { latitude, longitude, height }` or `{ x, y, z }`, each with an `accuracy`.
fn fixed(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> Option<Timing> {
    const GEODETIC: [&str; 3] = ["latitude", "longitude", "height"];
    const ECEF: [&str; 3] = ["x", "y", "z"];
    let known: Vec<&str> = GEODETIC.into_iter().chain(ECEF).chain(["accuracy"]).collect();
    section.only(&known, out);
    // A metre is three nanoseconds.
    let accuracy =
        if section.get("accuracy").is_some() { section.number("accuracy", 0.001..=1000.0, out)? } else { 1.0 };
    let is_ecef = ECEF.iter().any(|key| section.get(key).is_some());
    let keys = if is_ecef { ECEF } else { GEODETIC };
    let odd = if is_ecef { GEODETIC } else { ECEF }.into_iter().find(|key| section.get(key).is_some());
    if let Some(missing) = keys.into_iter().find(|key| section.get(key).is_none()).or(odd) {
        let title = match odd {
            Some(odd) => format!("`position` has both `x` and `{odd}`"),
            None => format!("`position` has no `{missing}`"),
        };
        let help = "Write `position = { latitude = 47.2852331, longitude = 8.5652659, height = 440.12 }`, in degrees and \
                    metres above the ellipsoid; or `{ x, y, z }` in metres from the Earth's centre.";
        out.push(Diagnostic::error(section.span.clone(), title, help));
        return None;
    }
    let at = if is_ecef {
        let [x, y, z] = ECEF.map(|key| section.number(key, -7e6..=7e6, out));
        let metres = [x?, y?, z?];
        let from_the_centre = metres.iter().map(|m| m * m).sum::<f64>().sqrt();
        // From the poles to above the highest mountain.
        if !(6_350_000.0..=6_390_000.0).contains(&from_the_centre) {
            let title = format!("the position is {:.0} km from the Earth's centre", from_the_centre / 1000.0);
            let help = "Look for a digit too many or a sign that is missing; coordinates are in metres.";
            out.push(Diagnostic::error(section.span.clone(), title, help));
            return None;
        }
        Position::ecef(metres)
    } else {
        let latitude = section.number("latitude", -90.0..=90.0, out);
        let longitude = section.number("longitude", -180.0..=180.0, out);
        let height = section.number("height", -1000.0..=10_000.0, out);
        Position::geodetic(latitude?, longitude?, height?)
    };
    Some(Timing::Fixed { at, accuracy: (accuracy * 1000.0).round() as u32 })
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::config::model::Driver;
    use refclocks::ubx::setup::{Position, Timing};

    /// How it is to be set up, or what is wrong.
    fn timing(lines: &str) -> Result<Option<Timing>, Vec<String>> {
        let text = format!("[[refclock]]\ndriver = \"ubx\"\ndevice = \"/dev/gps0\"\n{lines}\n");
        let titles = |all: Vec<super::Diagnostic>| all.into_iter().map(|d| d.title).collect::<Vec<_>>();
        let (config, warnings) = Config::from_toml("test.toml", &text).map_err(titles)?;
        let Driver::Receiver(receiver) = &config.refclocks[0].driver else { panic!() };
        if warnings.is_empty() {
            Ok(receiver.configure.and_then(|wishes| wishes.timing))
        } else {
            Err(titles(warnings))
        }
    }

    #[test]
    fn a_position_is_given_in_either_way() {
        let at = Position::geodetic(47.2852331, -8.5652659, 440.12);
        assert_eq!(
            timing("configure = true\nposition = { latitude = 47.2852331, longitude = -8.5652659, height = 440.12 }"),
            Ok(Some(Timing::Fixed { at, accuracy: 1000 }))
        );
        let at = Position::ecef([-1_280_208.308, -4_716_803.847, 4_086_665.811]);
        let text =
            "configure = true\nposition = { x = -1280208.308, y = -4716803.847, z = 4086665.811, accuracy = 0.02 }";
        assert_eq!(timing(text), Ok(Some(Timing::Fixed { at, accuracy: 20 })));
        assert_eq!(timing("configure = true\nsurvey_in = \"1 h\""), Ok(Some(Timing::SurveyIn(3600))));
    }

    #[test]
    fn what_is_no_position_is_told() {
        for (lines, title) in [
            ("position = { latitude = 1, longitude = 2, height = 3 }", "`position` means nothing without `configure`"),
            ("configure = true\nposition = { latitude = 91, longitude = 2, height = 3 }", "`latitude` is out of range"),
            ("configure = true\nposition = { latitude = 9, longitude = 2 }", "`position` has no `height`"),
            ("configure = true\nposition = { x = 1, y = 2, height = 3 }", "`position` has both `x` and `height`"),
            ("configure = true\nposition = { x = 1, y = 2, z = 3 }", "the position is 0 km from the Earth's centre"),
            ("configure = true\nposition = { lat = 1 }", "unknown key `lat` in position"),
            ("configure = true\nposition = 7", "`position` has the wrong type"),
            ("configure = true\nbaud = 12345", "a receiver cannot be set to 12345 bit/s"),
        ] {
            let said = timing(lines).unwrap_err();
            assert!(said.iter().any(|t| t == title), "{lines}: {said:?}");
        }
        let both = "configure = true\nsurvey_in = 60\nposition = { latitude = 1, longitude = 2, height = 3 }";
        assert_eq!(timing(both), Err(vec!["`position` and `survey_in` exclude each other".to_owned()]));
    }
}
