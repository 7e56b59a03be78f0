//! `refclockd run` as its users start it: from a pty, beside the real gpsd, asked by stock clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;
mod run_common;

use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ntp_common::peer;
use ntp_common::peers::{Running, chronyd_server, ntpdig_query, wrong_by};
use run_common::{PROGRAM, Receiver, ask, daemon, daemon_with, end, free_port, receiver_on_a_pty, wait_for_time};

#[test]
fn a_pty_makes_a_stratum_1_server_with_an_honest_bound() {
    let folder = tempfile::tempdir().unwrap();
    let (_receiver, path) = receiver_on_a_pty();
    let began = Instant::now();
    let (daemon, port) =
        daemon(folder.path(), &format!("[[refclock]]\ndriver = \"nmea\"\ndevice = \"{}\"\n", path.display()));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut reply = [0; 64];
    let first = loop {
        let mut request = [0; 48];
        request[0] = 0x23;
        let _ = socket.send_to(&request, ("127.0.0.1", port));
        if let Ok((n, _)) = socket.recv_from(&mut reply) {
            assert_eq!(n, 48);
            break began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(5));
    };
    // Leap indicator 3: there is no time yet, and the answer says so.
    assert_eq!(reply[0] >> 6, 3);
    assert!(first < Duration::from_millis(50), "first reply after {first:?}");
    let answer = wait_for_time(port, Duration::from_secs(20));
    let answer = answer.as_array().and_then(|a| a.first()).unwrap_or(&answer).clone();
    println!("{answer}");
    let folder_of_log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(folder_of_log.contains("unsynchronised → coarse"), "{folder_of_log}");
    // The message comes 80 ms after the second and counts as half a second late: we are ahead.
    let ahead = || ask(folder.path(), &["status"]).unwrap()["clock"]["minus_system_ns"].as_f64().unwrap() * 1e-9;
    assert!((ahead() - 0.42).abs() < 0.03, "{}", ahead());
    let agrees = |by_them: f64, trusted: f64, before: f64| {
        // The clock may be moving while they measure.
        let (after, slack) = (ahead(), 1e-3 + trusted);
        let (low, high) = (before.min(after) - slack, before.max(after) + slack);
        assert!((low..=high).contains(&by_them), "{by_them} against {before} to {after}");
    };
    if let Some(chronyd) = peer("REFCLOCKD_CHRONYD", "chronyd") {
        let before = ahead();
        agrees(wrong_by(&chronyd, port), 0.0, before);
    }
    if let Some(ntpdig) = peer("REFCLOCKD_NTPDIG", "ntpdig") {
        let before = ahead();
        let said = ntpdig_query(&ntpdig, port);
        // It stamps in user space; "precision" is how far it trusts its own reading.
        agrees(said["offset"].as_f64().unwrap(), said["precision"].as_f64().unwrap(), before);
    }
    assert_eq!(end(daemon), Some(0));
    assert!(folder.path().join("state/drift.toml").exists());
}

#[test]
fn a_single_thread_does_everything() {
    let folder = tempfile::tempdir().unwrap();
    let (_receiver, path) = receiver_on_a_pty();
    // Nobody listens there; what counts is that the name is looked up.
    let sources = format!(
        "[[refclock]]\ndriver = \"nmea\"\ndevice = \"{}\"\n[[server]]\naddress = \"localhost\"\nport = {}\n",
        path.display(),
        free_port()
    );
    let (daemon, port) = daemon_with(Command::new(PROGRAM), &["--single-thread"], folder.path(), &sources);
    wait_for_time(port, Duration::from_secs(20));
    let server = ask(folder.path(), &["sources"]).unwrap()["sources"][1].to_string();
    assert!(server.contains("127.0.0.1") || server.contains("::1"), "{server}");
    let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.0.id())).unwrap().count();
    assert_eq!(threads, 1);
    assert_eq!(end(daemon), Some(0));
    assert!(folder.path().join("state/drift.toml").exists());
}

#[test]
fn the_real_gpsd_feeds_us_and_may_be_killed() {
    let Some(gpsd) = peer("REFCLOCKD_GPSD", "gpsd") else { return };
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let feed = listener.local_addr().unwrap();
    let receivers = std::thread::spawn(move || {
        // One receiver for each gpsd that connects.
        (0..2).map(|_| Receiver::start(listener.accept().unwrap().0)).collect::<Vec<_>>()
    });
    let port = free_port();
    let start = || {
        let mut command = Command::new(&gpsd);
        command.args(["-N", "-n", "-b", "-S", &port.to_string(), &format!("tcp://{feed}")]);
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let first = start();
    let (daemon, ntp) =
        daemon(folder.path(), &format!("[[refclock]]\ndriver = \"gpsd\"\naddress = \"127.0.0.1:{port}\"\n"));
    wait_for_time(ntp, Duration::from_secs(60));
    let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
    let delivering = || log().matches("GPS: delivering").count();
    assert_eq!(delivering(), 1, "{}", log());
    // The wrapper that finds gpsd's libraries execs it, so this is gpsd itself.
    drop(first);
    let until = Instant::now() + Duration::from_secs(15);
    while !log().contains("went away") {
        assert!(Instant::now() < until, "{}", log());
        std::thread::sleep(Duration::from_millis(200));
    }
    let _second = start();
    let until = Instant::now() + Duration::from_secs(30);
    while delivering() < 2 {
        assert!(Instant::now() < until, "{}", log());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(end(daemon), Some(0));
    drop(receivers.join());
}

#[test]
fn chronyd_is_followed_as_a_server() {
    let Some(chronyd) = peer("REFCLOCKD_CHRONYD", "chronyd") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_chronyd, served) = chronyd_server(&chronyd, folder.path());
    let server = format!("[[server]]\naddress = \"127.0.0.1\"\nport = {served}\niburst = true\n");
    let (daemon, port) = daemon(folder.path(), &server);
    wait_for_time(port, Duration::from_secs(30));
    let status = ask(folder.path(), &["status"]).unwrap();
    assert_eq!((&status["state"], &status["ntp"]["stratum"]), (&"network".into(), &2.into()), "{status}");
    // chronyd serves this machine's clock.
    let minus_system = status["clock"]["minus_system_ns"].as_f64().unwrap();
    assert!(minus_system.abs() < 1e6, "{minus_system}");
    let sources = ask(folder.path(), &["sources"]).unwrap();
    assert_eq!(sources["sources"][0]["verdict"]["code"], "selected", "{sources}");
    assert_eq!(end(daemon), Some(0));
}

#[test]
fn a_configuration_that_cannot_be_understood_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    std::fs::write(&file, "[[refclok]]\n[[refclock]]\ndriver = \"nmae\"\n[serve]\nallow = [\"10.0.0.0/99\"]\n")
        .unwrap();
    for verb in ["run", "check"] {
        let output = Command::new(PROGRAM).args([verb, "-c"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{said}");
        for part in ["bad.toml:1:3", "Did you mean `refclock`?", "Did you mean `nmea`?", "bad.toml:5:10"] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
    let output = Command::new(PROGRAM).args(["check", "-c", "no-such-file.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(66));
}

#[test]
fn every_configuration_we_ship_is_understood_without_a_word() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/conf")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let output = Command::new(PROGRAM).args(["check", "-c"]).arg(path).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
}
