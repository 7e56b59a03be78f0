//! `refclockd run` under a service manager: what it is told, and when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;
mod run_common;

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use run_common::{PROGRAM, daemon_by, end};

#[test]
fn the_service_manager_hears_when_we_are_ready_alive_and_about_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut program = Command::new(PROGRAM);
    program.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1200000");
    let (daemon, _) = daemon_by(program, folder.path(), "[[refclock]]\ndriver = \"nmea\"\ndevice = \"/dev/no-gps\"\n");
    let heard = |patience: u64| {
        manager.set_read_timeout(Some(Duration::from_millis(patience))).unwrap();
        let mut buffer = [0; 256];
        let n = manager.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..n].to_vec()).unwrap())
    };
    // Ready, and alive every 0.4 s.
    let mut words: Vec<String> = (0..4).map(|_| heard(30_000).unwrap()).collect();
    words.sort();
    assert_eq!(words, ["READY=1\n", "WATCHDOG=1\n", "WATCHDOG=1\n", "WATCHDOG=1\n"]);

    assert_eq!(end(daemon), Some(0));
    // The watchdog's thread may have a last word.
    let last: Vec<String> = std::iter::from_fn(|| heard(100)).filter(|word| word != "WATCHDOG=1\n").collect();
    assert_eq!(last, ["STOPPING=1\n"]);
}
