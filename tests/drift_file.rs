//! `refclockd run` on a drift file that is none, and on a disk that cannot be written: said, once, and
//! lived with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;
mod run_common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ntp_common::peer;
use ntp_common::peers::refused;
use run_common::{PROGRAM, ask, daemon, daemon_by, end, receiver_on_a_pty, wait_for, wait_for_time};

const PATIENCE: Duration = Duration::from_secs(60);
const NO_RECEIVER: &str = "[[refclock]]\ndriver = \"nmea\"\ndevice = \"/dev/no-such-gps\"\n";

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap()
}

/// Starts the daemon on what `make` has left at the path of the drift file; returns what is said of it.
fn said_of(make: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = folder.join("state/drift.toml");
    fs::create_dir(folder.join("state")).unwrap();
    make(&file);
    let (daemon, _) = daemon(folder, NO_RECEIVER);
    wait_for(folder, "answer", PATIENCE, || ask(folder, &["status"]));
    assert_eq!(end(daemon), Some(0));
    let log = log(folder);
    let about: Vec<&str> = log.lines().filter(|line| line.contains("drift.toml")).collect();
    assert!(about.len() <= 2, "{log}");
    about.join("\n")
}

#[test]
fn whatever_lies_at_its_path_is_ignored_with_a_word() {
    let written = |text: &'static str| said_of(move |file| fs::write(file, text).unwrap());
    let none = "is ignored: it is not a drift file";
    let whole = "version = 1\nlast_utc = \"2026-07-01T12:00:00Z\"\nfrequency_ppm = -4.25\nfrequency_sd_ppm = 0.01\n";
    assert_eq!(written(whole), "");
    assert!(written("").contains(none));
    assert!(written("version = 1\nfrequency_ppm = -4.2\nfreq").contains(none));
    assert!(written("12.5 0.3\n").contains(none));
    assert!(written("version = 2\nnews = true\n").contains("is ignored: it is of format 2"));
    assert!(written("version = 1\nfrequency_ppm = 1e300\n").contains("is ignored: its frequency is absurd"));
    assert!(written("version = 1\nlast_utc = \"2999-01-01T00:00:00Z\"\n").contains("is ignored: its date is absurd"));
    assert!(said_of(|file| fs::write(file, [0xff, 0xfe, 0x00]).unwrap()).contains("cannot be read: "));
    assert!(said_of(|file| fs::write(file, vec![b'#'; 3 << 20]).unwrap()).contains("cannot be read: it has more than"));
    let folder = said_of(|file| fs::create_dir(file).unwrap());
    // It can be neither read nor replaced.
    assert!(folder.contains("cannot be read: is a directory") && folder.contains("cannot be written: "), "{folder}");
    let pipe = said_of(|file| nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRWXU).unwrap());
    assert!(pipe.contains("cannot be read: it is not a regular file"), "{pipe}");
    let device = said_of(|file| symlink("/dev/zero", file).unwrap());
    assert!(device.contains("cannot be read: it is not a regular file"), "{device}");
    let circle = said_of(|file| symlink("drift.toml", file).unwrap());
    assert!(circle.contains("cannot be read: "), "{circle}");
}

#[test]
fn a_last_good_time_in_the_future_is_not_believed_against_receiver_and_system_clock() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("state")).unwrap();
    let file = folder.join("state/drift.toml");
    fs::write(&file, "version = 1\nlast_utc = \"2101-01-01T00:00:00Z\"\n").unwrap();
    let (_receiver, path) = receiver_on_a_pty();
    let (daemon, port) = daemon(folder, &format!("[[refclock]]\ndriver = \"nmea\"\ndevice = \"{}\"\n", path.display()));
    let answer = wait_for_time(port, PATIENCE);
    // A message of unknown delay is half a second out.
    assert!(answer["servers"][0]["offset_s"].as_f64().unwrap().abs() < 1.0, "{answer}");
    let log = log(folder);
    assert!(log.contains("2101-01-01T00:00:00Z, is not believed: GPS and the system clock agree"), "{log}");
    assert_eq!(end(daemon), Some(0));
    assert!(!fs::read_to_string(&file).unwrap().contains("2101"));
}

#[test]
fn how_late_messages_came_is_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("state")).unwrap();
    let file = folder.join("state/drift.toml");
    let text = "version = 1\n[[delay]]\nsource = \"GPS\"\nmean_s = 0.127\nsd_s = 0.004\n\
                [[delay_histogram]]\nsource = \"GPS\"\nbins = [[12, 400], [13, 120], [15, 1]]\n";
    fs::write(&file, text).unwrap();
    // Twice: it is written as it was read.
    for _ in 0..2 {
        let (daemon, _) = daemon(folder, NO_RECEIVER);
        let gps = wait_for(folder, "sources", PATIENCE, || run_common::source(folder, "GPS"));
        assert_eq!(gps["delay_histogram"]["from_ms"], 120, "{gps}");
        assert_eq!(gps["delay_histogram"]["counts"], serde_json::json!([400, 120, 0, 1]), "{gps}");
        assert_eq!(end(daemon), Some(0));
    }
    assert!(fs::read_to_string(&file).unwrap().contains("[[12, 400], [13, 120], [15, 1]]"));
    assert!(!log(folder).contains("is ignored"), "{}", log(folder));
}

#[test]
fn a_full_disk_is_said_once_and_leaves_no_rubbish() {
    let Some(unshare) = peer("REFCLOCKD_UNSHARE", "unshare") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let state = folder.join("state");
    fs::create_dir(&state).unwrap();
    let mut command = Command::new(unshare);
    // A disk of one page, which is taken; what is on it at the end goes to the log.
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    command.arg(
        "mount -t tmpfs -o size=4k none \"$0\" && head -c 4096 /dev/zero > \"$0/full\" && \"$@\" & daemon=$!
         trap 'kill -TERM $daemon' TERM; wait $daemon; wait $daemon; code=$?; ls \"$0\" >&2; exit $code",
    );
    command.arg(&state).arg(PROGRAM);
    let (mut daemon, _) = daemon_by(command, folder, NO_RECEIVER);
    std::thread::sleep(Duration::from_millis(200));
    if daemon.0.try_wait().unwrap().is_some() {
        return refused("no user namespace can be made here");
    }
    wait_for(folder, "answer", PATIENCE, || ask(folder, &["status"]));
    assert_eq!(end(daemon), Some(0));
    let log = log(folder);
    assert_eq!(log.matches("cannot be written: No space left on device").count(), 1, "{log}");
    assert!(log.ends_with("full\n") && !log.contains("drift.toml.new"), "{log}");
}
