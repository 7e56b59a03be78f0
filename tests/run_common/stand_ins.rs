//! Devices and clocks that stand in for the kernel's: libraries for LD_PRELOAD, built from `stand_ins/`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ntp_common::peer;

/// Builds a library of `stand_ins/`. `None`, said aloud, where there is no C compiler.
fn build(folder: &Path, name: &str) -> Option<PathBuf> {
    let compiler = peer("CC", "cc")?;
    let library = folder.join(format!("{name}.so"));
    let status = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-O2", "-o"])
        .arg(&library)
        .arg(format!("{}/tests/stand_ins/{name}.c", env!("CARGO_MANIFEST_DIR")))
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(status.success());
    Some(library)
}

/// A PPS device for those who are started with its library.
pub struct Pps {
    library: PathBuf,
    pub path: &'static str,
    /// It is there for as long as this file is.
    file: PathBuf,
    /// How late its pulses are, ns.
    late_ns: i64,
}

impl Pps {
    /// Builds it and plugs it in.
    pub fn build(folder: &Path, path: &'static str, late_ns: i64) -> Option<Self> {
        let pps = Self { library: build(folder, "pps")?, path, file: folder.join("pps-is-there"), late_ns };
        pps.plug_in();
        Some(pps)
    }

    pub fn plug_in(&self) {
        File::create(&self.file).unwrap();
    }

    pub fn unplug(&self) {
        fs::remove_file(&self.file).unwrap();
    }

    /// Shows the device to a program. Its name is `LD_PRELOAD`'s business, so set it last.
    pub fn show_to(&self, command: &mut Command) {
        preload(command, &self.library);
        command
            .env("PPS_STAND_IN_PATH", self.path)
            .env("PPS_STAND_IN_FILE", &self.file)
            .env("PPS_STAND_IN_OFFSET_NS", self.late_ns.to_string())
            .env("PPS_STAND_IN_JITTER_NS", "1000")
            .env("PPS_STAND_IN_SEED", "7");
    }
}

/// A PTP hardware clock for those who are started with its library.
pub struct Ptp {
    library: PathBuf,
    pub path: &'static str,
}

impl Ptp {
    pub fn build(folder: &Path) -> Option<Self> {
        Some(Self { library: build(folder, "ptp")?, path: "/dev/ptp-stand-in" })
    }

    /// Shows it to a program: so far ahead of the machine's clock, with pulses so long after its seconds,
    /// and with these ways to read it (see `stand_ins/ptp.c`).
    pub fn show_to(&self, command: &mut Command, ahead_ns: i64, pulse_ns: i64, ways: &str) {
        preload(command, &self.library);
        command
            .env("PTP_STAND_IN_PATH", self.path)
            .env("PTP_STAND_IN_CLOCK_NS", ahead_ns.to_string())
            .env("PTP_STAND_IN_PULSE_NS", pulse_ns.to_string())
            .env("PTP_STAND_IN_WAYS", ways);
    }
}

/// A system clock for those who are started with its library; the machine's cannot be set by them.
pub struct SystemClock {
    library: PathBuf,
    state: PathBuf,
}

/// How it stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// This clock - the machine's, ns.
    pub offset_ns: i64,
    /// Calls that set it, and calls that were refused.
    pub granted: i64,
    pub refused: i64,
    /// Calls that would have set the machine's.
    pub foreign: i64,
}

impl SystemClock {
    pub fn build(folder: &Path) -> Option<Self> {
        Some(Self { library: build(folder, "clock")?, state: folder.join("clock-state") })
    }

    /// Shows it to a program, so far ahead of the machine's. To be shown before a device is.
    pub fn show_to(&self, command: &mut Command, ahead_ns: i64) {
        preload(command, &self.library);
        command.env("CLOCK_STAND_IN_STATE", &self.state).env("CLOCK_STAND_IN_OFFSET_NS", ahead_ns.to_string());
    }

    pub fn standing(&self) -> Option<Standing> {
        let text = fs::read_to_string(&self.state).ok()?;
        let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap());
        let mut next = || numbers.next();
        Some(Standing { offset_ns: next()?, granted: next()?, refused: next()?, foreign: next()? })
    }
}

fn preload(command: &mut Command, library: &Path) {
    let before = command.get_envs().find(|(name, _)| *name == "LD_PRELOAD").and_then(|(_, value)| value);
    let mut libraries = before.map(|before| before.to_owned()).unwrap_or_else(OsString::new);
    if !libraries.is_empty() {
        libraries.push(":");
    }
    libraries.push(library);
    command.env("LD_PRELOAD", libraries);
}

/// Calls that fail, by the names of `stand_ins/faults.h`.
pub struct Faults(PathBuf);

impl Faults {
    /// None so far.
    pub fn none(folder: &Path) -> Self {
        Self(folder.join("faults"))
    }

    pub fn show_to(&self, command: &mut Command) {
        command.env("STAND_IN_FAULTS", &self.0);
    }

    /// These fail with this error from now on, and no others.
    pub fn set(&self, calls: &[&str], error: &str) {
        let text: String = calls.iter().map(|call| format!("{call} {error}\n")).collect();
        // As a whole: the program reads it at any moment.
        let new = self.0.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}
