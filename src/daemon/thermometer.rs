//! The thermometer beside the crystal: a file of the kernel's, read by a thread of its own, because
//! some take a second.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{info, warn};

use super::{Inbox, Input};
use crate::config::Thermometer;

/// How often it is read.
const EVERY: Duration = Duration::from_secs(10);
/// Where the kernel keeps its thermal zones; the first is the processor's on most boards.
const ZONES: &str = "/sys/class/thermal";

/// Starts reading it. A machine without one does without.
pub fn start(which: &Thermometer, inbox: &Inbox) {
    let path = match which {
        Thermometer::None => return,
        Thermometer::File(path) => path.clone(),
        Thermometer::Auto => match first_zone(Path::new(ZONES)) {
            Some(path) => path,
            None => return,
        },
    };
    let inbox = inbox.clone();
    let read = move || {
        let mut failing = false;
        loop {
            match read(&path) {
                Ok(celsius) => {
                    if std::mem::replace(&mut failing, false) {
                        info!("the thermometer {} can be read again", path.display());
                    }
                    if inbox.send(Input::Temperature(celsius)).is_err() {
                        return;
                    }
                }
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    warn!("the thermometer {} cannot be read: {error}. Holdover goes without it.", path.display());
                }
                Err(_) => {}
            }
            std::thread::sleep(EVERY);
        }
    };
    // Without a thread the clock is only not compensated.
    if let Err(error) = std::thread::Builder::new().name("thermometer".into()).stack_size(64 << 10).spawn(read) {
        warn!("no thread for the thermometer: {error}. Holdover goes without it.");
    }
}

/// The thermal zone of the lowest number that can be read.
fn first_zone(zones: &Path) -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(zones)
        .ok()?
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let number = name.to_str()?.strip_prefix("thermal_zone")?.parse().ok()?;
            Some((number, zones.join(name).join("temp")))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).find(|path| read(path).is_ok())
}

fn read(path: &Path) -> Result<f64, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    parse(&text).ok_or_else(|| format!("it says {:?}", text.chars().take(40).collect::<String>()))
}

/// Thousandths of a degree: a number alone (thermal zones, hwmon, newer 1-wire), or behind `t=` at the end
/// (`w1_slave`, whose checksum must be good).
fn parse(text: &str) -> Option<f64> {
    let text = text.trim();
    let number = match text.rsplit_once("t=") {
        Some((before, number)) => Some(number).filter(|_| before.contains("YES")),
        None => Some(text),
    }?;
    number.parse::<i32>().ok().map(|thousandths| f64::from(thousandths) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_file_is_read() {
        assert_eq!(parse("48312\n"), Some(48.312));
        assert_eq!(parse("-1500"), Some(-1.5));
        let w1 = |ok: &str| format!("72 01 4b 46 7f ff 0e 10 57 : crc=57 {ok}\n72 01 4b 46 7f ff 0e 10 57 t=23125\n");
        assert_eq!(parse(&w1("YES")), Some(23.125));
        for bad in [w1("NO"), String::new(), "hot".into(), "48.3".into(), "99999999999".into()] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn the_first_zone_that_can_be_read_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(first_zone(folder.path()), None);
        for (zone, text) in [("thermal_zone0", "broken"), ("thermal_zone10", "1000"), ("thermal_zone2", "41000")] {
            fs::create_dir(folder.path().join(zone)).unwrap();
            fs::write(folder.path().join(zone).join("temp"), text).unwrap();
        }
        assert_eq!(first_zone(folder.path()), Some(folder.path().join("thermal_zone2/temp")));
    }
}
