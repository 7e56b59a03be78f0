//! `refclockd run` as its users start it: from a pty, beside the real gpsd, asked by stock clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::pty::openpty;
use ntp_common::peer;
use refclocks::calendar::CivilTime;
use refclocks::nmea::write;
use refclocks::time::Timestamp;

const PROGRAM: &str = env!("CARGO_BIN_EXE_refclockd");

/// Ends the process that it holds.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes present-second NMEA, 80 ms after each second, until dropped.
struct Receiver {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    fn start(mut out: impl Write + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                let second = now.as_secs() + 1;
                std::thread::sleep(Duration::from_secs(second) + Duration::from_millis(80) - now);
                let at = CivilTime::from_utc(Timestamp::from_parts(second as i64, 0));
                let text =
                    write::rmc("GP", &at, true) + &write::gga("GP", &at, true, 8) + &write::gsa("GP", 3, &[1, 2, 3, 4]);
                if out.write_all((text + &write::zda("GP", &at)).as_bytes()).is_err() {
                    return;
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts the daemon with these sources; returns it and its NTP port.
fn daemon(folder: &Path, sources: &str) -> (Running, u16) {
    let port = free_port();
    let configuration = format!(
        "{sources}\n[serve]\nlisten = [\"127.0.0.1:{port}\"]\n[state]\ndir = \"{0}/state\"\n[control]\nsocket = \"{0}/api.sock\"\n",
        folder.display()
    );
    let file = folder.join("refclockd.toml");
    std::fs::write(&file, configuration).unwrap();
    let log = File::create(folder.join("log")).unwrap();
    let child = Command::new(PROGRAM).args(["run", "-c"]).arg(file).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    (Running(child), port)
}

/// One query: the first server of the answer, if it could be used.
fn query(port: u16) -> Option<serde_json::Value> {
    let output = Command::new(PROGRAM)
        .args(["query", "--json", "--timeout", "1", &format!("127.0.0.1:{port}")])
        .output()
        .unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

fn wait_for_time(port: u16, patience: Duration) -> serde_json::Value {
    let until = Instant::now() + patience;
    loop {
        if let Some(answer) = query(port) {
            return answer;
        }
        assert!(Instant::now() < until, "no time within {patience:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn end(mut daemon: Running) -> Option<i32> {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.0.id() as i32), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    daemon.0.wait().unwrap().code()
}

/// What must be added to this machine's clock according to chronyd, s.
fn by_chronyd(chronyd: &Path, port: u16, folder: &Path) -> f64 {
    let output = Command::new(chronyd)
        .args(["-Q", "-t", "10", "-U", "-u"])
        .arg(std::env::var("USER").unwrap_or_else(|_| "root".into()))
        .arg(format!("server 127.0.0.1 port {port} iburst"))
        .arg("maxdistance 16")
        .args(["cmdport 0", "bindcmdaddress /"])
        .arg(format!("pidfile {}", folder.join("chronyd.pid").display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let wrong_by = said.split("System clock wrong by ").nth(1).and_then(|rest| rest.split_whitespace().next());
    wrong_by.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
}

#[test]
fn a_pty_makes_a_stratum_1_server_with_an_honest_bound() {
    let folder = tempfile::tempdir().unwrap();
    let pty = openpty(None, None).unwrap();
    let path = nix::unistd::ttyname(&pty.slave).unwrap();
    let _receiver = Receiver::start(File::from(pty.master));
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
    println!("first reply after {first:?}");
    let answer = wait_for_time(port, Duration::from_secs(20));
    let answer = answer.as_array().and_then(|a| a.first()).unwrap_or(&answer).clone();
    println!("{answer}");
    let folder_of_log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(folder_of_log.contains("unsynchronised → coarse"), "{folder_of_log}");
    if let Some(chronyd) = peer("REFCLOCKD_CHRONYD", "chronyd") {
        // The message comes 80 ms after the second and counts as half a second late: we are ahead.
        let wrong_by = by_chronyd(&chronyd, port, folder.path());
        assert!((wrong_by - 0.42).abs() < 0.03, "{wrong_by}");
    }
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
        let output = Command::new(PROGRAM).args(["check", "-c"]).arg(entry.unwrap().path()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
}
