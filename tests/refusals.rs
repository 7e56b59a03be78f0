//! `refclockd run` on a kernel that refuses: every call of the clock and of the PPS device, with EPERM,
//! EINVAL and ENODEV, at the start and later. It gives the reason, has a way down, and never ends.
//!
//! The clock that is steered here is a stand-in (`stand_ins/clock.c`). The daemon is also kept from
//! CAP_SYS_TIME, so that no mistake of ours can set the machine's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;
mod run_common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ntp_common::peer;
use ntp_common::peers::Running;
use run_common::stand_ins::{Faults, Pps, SystemClock};
use run_common::{PROGRAM, Receiver, ask, daemon_by, end, query, receiver_on_a_pty, source, wait_for, wait_for_lock};

/// Patience for all that takes a few seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(90);
const ERRORS: [&str; 3] = ["EPERM", "EINVAL", "ENODEV"];
/// What the system says of them.
const WORDS: [&str; 3] = ["Operation not permitted", "Invalid argument", "No such device"];

/// The program, without the privilege to set the machine's clock. `None`, said aloud, where that
/// cannot be made sure.
fn harmless() -> Option<Command> {
    let mut command = Command::new(peer("REFCLOCKD_SETPRIV", "setpriv")?);
    if nix::unistd::geteuid().is_root() {
        command.args(["--bounding-set", "-sys_time", "--inh-caps", "-sys_time"]);
    }
    command.arg("--").arg(PROGRAM);
    Some(command)
}

/// A receiver with a pulse, and a system clock 80 ms ahead that is to be steered.
struct Stage {
    _receiver: Receiver,
    clock: SystemClock,
    faults: Faults,
    daemon: Running,
}

impl Stage {
    fn set(folder: &Path, otherwise: &str, faults: &[&str], error: &str) -> Option<Self> {
        let clock = SystemClock::build(folder)?;
        let pps = Pps::build(folder, "/dev/pps-stand-in", 0)?;
        let broken = Faults::none(folder);
        broken.set(faults, error);
        let (receiver, pty) = receiver_on_a_pty();
        let mut command = harmless()?;
        clock.show_to(&mut command, 80_000_000);
        pps.show_to(&mut command);
        broken.show_to(&mut command);
        let sources = format!(
            "[[refclock]]\ndriver = \"nmea\"\ndevice = \"{}\"\n[[refclock]]\ndriver = \"pps\"\ndevice = \"{}\"\n\
             [clock]\ndiscipline = \"kernel\"\notherwise = \"{otherwise}\"\n",
            pty.display(),
            pps.path
        );
        let (daemon, _) = daemon_by(command, folder, &sources);
        Some(Self { _receiver: receiver, clock, faults: broken, daemon })
    }

    fn ends_well(self) {
        assert_eq!(self.clock.standing().unwrap().foreign, 0, "the machine's clock was to be set");
        assert_eq!(end(self.daemon), Some(0));
    }
}

/// Waits for the clock of this kind, and for the reason to be told, or to be gone. Returns `status`.
fn wait_for_clock(folder: &Path, kind: &str, reason: Option<&str>) -> serde_json::Value {
    wait_for(folder, &format!("{kind} clock, for {reason:?}"), PATIENCE, || {
        let status = ask(folder, &["status"])?;
        let notices = status["notices"].as_array().unwrap();
        let notice = notices.iter().find(|notice| notice["code"] == "clock_refused");
        let told = match (notice, reason) {
            (Some(notice), Some(reason)) => {
                assert!(notice["action"].is_string(), "{notice}");
                notice["text"].as_str().unwrap().contains(reason)
            }
            (None, None) => true,
            _ => false,
        };
        (told && status["clock"]["kind"] == kind).then_some(status)
    })
}

#[test]
fn a_clock_that_is_refused_later_is_left_and_taken_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some(stage) = Stage::set(folder, "software", &[], "") else { return };
    let log = || std::fs::read_to_string(folder.join("log")).unwrap();
    wait_for_lock(folder, "PPS", PATIENCE);
    // The stand-in is what is steered: it was 80 ms ahead.
    wait_for_clock(folder, "system", None);
    let offset = || stage.clock.standing().unwrap().offset_ns;
    assert!(offset().abs() < 1_000_000, "{:?}", stage.clock.standing());

    let calls: [(&[&str], &str, &str, &str); 3] = [
        (&["adjtime-read", "adjtime-rate", "adjtime-step", "adjtime-tai", "adjtime-status"], "EPERM", WORDS[0], "rate"),
        (&["adjtime-status"], "ENODEV", WORDS[2], "status"),
        (&["adjtime-rate"], "EINVAL", WORDS[1], "rate"),
    ];
    for (calls, error, words, what) in calls {
        stage.faults.set(calls, error);
        let status = wait_for_clock(folder, "own", Some(words));
        assert!(status["ntp"]["serving"].as_bool().unwrap(), "{status}");
        let why = ask(folder, &["why"]).unwrap();
        let clock = why["clock"].as_str().unwrap();
        assert!(clock.contains(words) && clock.contains("A clock of our own") == clock.starts_with('A'), "{clock}");
        assert!(clock.contains("a clock of our own is steered and served instead"), "{clock}");
        assert!(log().contains(&format!("the system clock cannot be set (setting its {what}: {words}")), "{}", log());
        // Our own goes on being disciplined, from where the system's was.
        wait_for_lock(folder, "PPS", PATIENCE);
        let apart = ask(folder, &["status"]).unwrap()["clock"]["minus_system_ns"].as_f64().unwrap();
        assert!(apart.abs() < 2e6, "{apart}");

        stage.faults.set(&[], "");
        wait_for_clock(folder, "system", None);
        wait_for_lock(folder, "PPS", PATIENCE);
        assert!(offset().abs() < 1_000_000, "{:?}", stage.clock.standing());
    }
    assert_eq!(log().matches("the system clock may be set again").count(), calls.len(), "{}", log());
    assert!(stage.clock.standing().unwrap().refused >= calls.len() as i64);
    stage.ends_well();
}

#[test]
fn a_clock_that_is_refused_at_the_start_is_taken_later() {
    let every = ["adjtime-read", "adjtime-rate", "adjtime-step", "adjtime-tai", "adjtime-status"];
    for (error, words) in ERRORS.into_iter().zip(WORDS) {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let Some(stage) = Stage::set(folder, "observe", &every, error) else { return };
        wait_for_clock(folder, "watched", Some(words));
        assert_eq!(stage.clock.standing().map_or(0, |clock| clock.granted), 0);
        let said = ask(folder, &["why"]).unwrap()["clock"].as_str().unwrap().to_owned();
        assert!(said.ends_with("it is only watched."), "{said}");
        stage.faults.set(&[], "");
        wait_for_clock(folder, "system", None);
        // As at a start: set at once, not slewed for minutes.
        wait_for_lock(folder, "PPS", PATIENCE);
        let standing = stage.clock.standing().unwrap();
        assert!(standing.offset_ns.abs() < 1_000_000, "{standing:?}");
        stage.ends_well();
    }
}

#[test]
fn a_kernel_without_tai_is_disciplined_by_its_utc() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some(stage) = Stage::set(folder, "software", &["gettime-tai", "adjtime-tai"], "EINVAL") else { return };
    wait_for_lock(folder, "PPS", PATIENCE);
    wait_for_clock(folder, "system", None);
    let standing = stage.clock.standing().unwrap();
    assert!(standing.offset_ns.abs() < 1_000_000, "{standing:?}");
    stage.ends_well();
}

#[test]
fn whatever_the_pps_device_refuses_is_a_state() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some(pps) = Pps::build(folder, "/dev/pps-stand-in", 0) else { return };
    let faults = Faults::none(folder);
    let (_receiver, pty) = receiver_on_a_pty();
    let mut command = Command::new(PROGRAM);
    pps.show_to(&mut command);
    faults.show_to(&mut command);
    // The edge is not captured: it has to be asked for at each opening.
    command.env("PPS_STAND_IN_MODE", "2");
    let sources = format!(
        "[[refclock]]\ndriver = \"nmea\"\ndevice = \"{}\"\n[[refclock]]\ndriver = \"pps\"\ndevice = \"{}\"\nedge = \"assert\"\n",
        pty.display(),
        pps.path
    );
    let (mut daemon, port) = daemon_by(command, folder, &sources);
    wait_for_lock(folder, "PPS", PATIENCE);
    let told = || std::fs::read_to_string(folder.join("log")).unwrap().matches(" PPS: ").count();
    for call in ["fetch", "open", "getcap", "getparams", "setparams"] {
        for (error, words) in ERRORS.into_iter().zip(WORDS) {
            let before = told();
            // A device that is open is asked for its pulses only: it has to be opened anew.
            faults.set(&[call, "fetch"], error);
            let expected = match (call, error) {
                ("setparams", "EPERM" | "EINVAL") => "does not capture that edge",
                ("getcap" | "getparams", "EINVAL") => "is not a PPS device",
                (_, "EPERM") => "no permission",
                (_, "ENODEV") => "does not exist",
                _ => words,
            };
            let refused = wait_for(folder, &format!("word of {call} {error}"), PATIENCE, || {
                let device = source(folder, "PPS")?["device"].clone();
                let is_told = |reason: &str| reason.contains(expected) && reason.contains(pps.path);
                let bad = ["absent", "faulty"].contains(&device["phase"].as_str()?);
                (bad && is_told(device["reason"].as_str()?)).then_some(device)
            });
            if call != "fetch" && !matches!(expected, _ if expected == words) {
                assert!(refused["action"].is_string(), "{call} {error}: {refused}");
            }
            // Nothing stops: the last good time is served on.
            assert!(query(port).is_some());
            // It is tried again and again, and told once.
            if error == "EINVAL" {
                std::thread::sleep(Duration::from_secs(3));
            }
            let log = std::fs::read_to_string(folder.join("log")).unwrap();
            assert!(told() - before < 6, "{log}");
            faults.set(&[], "");
            wait_for(folder, &format!("pulses after {call} {error}"), PATIENCE, || {
                source(folder, "PPS").filter(|s| s["device"]["phase"] == "good")
            });
            assert!(daemon.0.try_wait().unwrap().is_none());
        }
    }
    assert_eq!(end(daemon), Some(0));
}
