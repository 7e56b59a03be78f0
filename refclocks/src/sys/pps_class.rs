//! Which PPS device is which, as sysfs tells it (`/sys/class/pps`).
//!
//! Numbers say nothing: whoever's driver came first is pps0. A network card's clock has a PPS device
//! of its own, and so has the kernel's test timer, which ticks without any receiver.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the kernel says which device is which.
pub const CLASS: &str = "/sys/class/pps";

/// What a PPS device belongs to, the best for a receiver's pulse first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A GPIO pin.
    Pin,
    /// A serial port with the line discipline.
    SerialPort,
    /// A parallel port.
    ParallelPort,
    /// Something unknown.
    Unknown,
    /// The clock of a network card or PHY.
    NetworkCard,
    /// The kernel's test timer.
    Timer,
}

impl Owner {
    /// May a receiver's pulse be expected there?
    pub fn is_receivers(self) -> bool {
        self <= Self::ParallelPort
    }
}

/// A PPS device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The kernel's name of it, e.g. `pps0`.
    pub device: String,
    /// What it calls its source, e.g. `pps@12.-1`.
    pub name: String,
    /// The port it belongs to, e.g. `/dev/ttyS1`; empty if to none.
    pub port: String,
    /// What it belongs to.
    pub owner: Owner,
    /// Has an edge come yet?
    pub has_pulsed: bool,
}

/// The machine's PPS devices, in the order of their numbers.
pub fn entries(class: &Path) -> Vec<Entry> {
    let mut found: Vec<(u32, Entry)> = fs::read_dir(class)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let device = entry.file_name().into_string().ok()?;
            let number = device.strip_prefix("pps")?.parse().ok()?;
            let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default().trim().to_owned();
            let (name, port) = (read("name"), read("path"));
            // `seconds.nanoseconds#sequence`; empty where that edge is not captured.
            let came = |file: &str| read(file).split_once('#').is_some_and(|(_, sequence)| sequence != "0");
            let has_pulsed = came("assert") || came("clear");
            let owner = owner(&name, &port);
            Some((number, Entry { device, name, port, owner, has_pulsed }))
        })
        .collect();
    found.sort_by_key(|(number, _)| *number);
    found.into_iter().map(|(_, entry)| entry).collect()
}

fn owner(name: &str, port: &str) -> Owner {
    let begins = |with: &[&str]| with.iter().any(|with| name.starts_with(with));
    match () {
        () if name == "ktimer" => Owner::Timer,
        () if begins(&["pps@", "pps.", "pps-gpio"]) => Owner::Pin,
        () if begins(&["parport"]) => Owner::ParallelPort,
        () if port.starts_with("/dev/tty") => Owner::SerialPort,
        () if begins(&["ptp"]) => Owner::NetworkCard,
        () => Owner::Unknown,
    }
}

/// The device that a receiver's pulse is expected on: a pin before a port, one that has pulsed before
/// one that has not, then the lowest number.
///
/// # Errors
///
/// Those that there are, and whose they are.
pub fn receivers(class: &Path) -> Result<PathBuf, Vec<String>> {
    let all = entries(class);
    let best = all.iter().filter(|e| e.owner.is_receivers()).min_by_key(|e| (e.owner, !e.has_pulsed));
    let Some(best) = best else {
        let whose = |e: &Entry| match e.owner {
            Owner::NetworkCard => format!("{} ({}, a network card's clock)", e.device, e.name),
            Owner::Timer => format!("{} (the kernel's test timer)", e.device),
            _ => format!("{} ({})", e.device, e.name),
        };
        return Err(all.iter().map(whose).collect());
    };
    Ok(Path::new("/dev").join(&best.device))
}

/// The device of a serial port, by the port's name, e.g. `ttyS1`.
pub fn of_port(class: &Path, port: &str) -> Option<PathBuf> {
    let all = entries(class);
    let found = all.iter().find(|e| Path::new(&e.port).file_name().is_some_and(|name| name == port))?;
    Some(Path::new("/dev").join(&found.device))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up `/sys/class/pps`: device, name, path, assert.
    fn class(devices: &[(&str, &str, &str, &str)]) -> tempfile::TempDir {
        let class = tempfile::tempdir().unwrap();
        for (device, name, path, assert) in devices {
            let folder = class.path().join(device);
            fs::create_dir(&folder).unwrap();
            for (file, text) in [("name", name), ("path", path), ("assert", assert), ("clear", &"")] {
                fs::write(folder.join(file), format!("{text}\n")).unwrap();
            }
        }
        class
    }

    const PHY: (&str, &str, &str, &str) = ("pps0", "ptp0", "", "0.000000000#0");
    const TIMER: (&str, &str, &str, &str) = ("pps1", "ktimer", "", "1700000000.123456789#77");

    #[test]
    fn the_hats_pin_is_chosen_and_never_the_network_cards() {
        let hat = ("pps10", "pps@12.-1", "", "1700000000.000001234#5");
        let port = ("pps2", "ttyAMA0", "/dev/ttyAMA0", "1700000000.000001234#5");
        let chosen = |devices: &[_]| receivers(class(devices).path());
        assert_eq!(chosen(&[PHY, TIMER, port, hat]), Ok("/dev/pps10".into()));
        assert_eq!(chosen(&[PHY, TIMER, port]), Ok("/dev/pps2".into()));
        assert_eq!(chosen(&[PHY, ("pps3", "parport0", "/dev/parport0", "")]), Ok("/dev/pps3".into()));
        // Older overlays, and a second pin that nothing is wired to.
        let old = ("pps4", "pps.-1", "", "0.000000000#0");
        assert_eq!(chosen(&[PHY, old]), Ok("/dev/pps4".into()));
        assert_eq!(chosen(&[PHY, old, hat]), Ok("/dev/pps10".into()));
    }

    #[test]
    fn where_none_is_a_receivers_those_that_are_there_are_told() {
        let told = receivers(class(&[PHY, TIMER, ("pps7", "odd", "", "")]).path()).unwrap_err();
        assert_eq!(told, ["pps0 (ptp0, a network card's clock)", "pps1 (the kernel's test timer)", "pps7 (odd)"]);
        assert_eq!(receivers(Path::new("/no/such/place")), Err(vec![]));
    }

    #[test]
    fn the_device_of_a_port_is_the_one_that_names_it() {
        let class = class(&[PHY, ("pps1", "serial10", "/dev/ttyS10", ""), ("pps2", "serial1", "/dev/ttyS1", "")]);
        assert_eq!(of_port(class.path(), "ttyS1"), Some("/dev/pps2".into()));
        assert_eq!(of_port(class.path(), "ttyS0"), None);
    }
}
