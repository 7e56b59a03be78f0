//! `refclockd run` as its users start it, and a receiver that writes the present second.
#![allow(dead_code, unreachable_pub)]

pub mod namespace;
pub mod stand_ins;

use std::fs::File;
use std::io::Write;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::pty::openpty;
use refclocks::calendar::CivilTime;
use refclocks::nmea::write;
use refclocks::time::Timestamp;

use crate::ntp_common::peers::Running;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_refclockd");

/// Writes present-second NMEA, 80 ms after each second, until dropped.
pub struct Receiver {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub fn start(mut out: impl Write + Send + 'static) -> Self {
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

pub fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts the daemon with these sources; returns it and its NTP port.
pub fn daemon(folder: &Path, sources: &str) -> (Running, u16) {
    daemon_by(Command::new(PROGRAM), folder, sources)
}

/// The same, by a command of one's own that ends in the program's name.
pub fn daemon_by(program: Command, folder: &Path, sources: &str) -> (Running, u16) {
    daemon_with(program, &[], folder, sources)
}

/// The same, with more options for `run`.
pub fn daemon_with(mut program: Command, options: &[&str], folder: &Path, sources: &str) -> (Running, u16) {
    let port = free_port();
    let configuration = format!(
        "{sources}\n[serve]\nlisten = [\"127.0.0.1:{port}\"]\n[state]\ndir = \"{0}/state\"\n[control]\nsocket = \"{0}/api.sock\"\n",
        folder.display()
    );
    let file = folder.join("refclockd.toml");
    std::fs::write(&file, configuration).unwrap();
    let log = File::create(folder.join("log")).unwrap();
    let child = program.arg("run").args(options).arg("-c").arg(file).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    (Running(child), port)
}

/// One query: the first server of the answer, if it could be used.
pub fn query(port: u16) -> Option<serde_json::Value> {
    let output = Command::new(PROGRAM)
        .args(["query", "--json", "--timeout", "1", &format!("127.0.0.1:{port}")])
        .output()
        .unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

pub fn wait_for_time(port: u16, patience: Duration) -> serde_json::Value {
    let until = Instant::now() + patience;
    loop {
        if let Some(answer) = query(port) {
            return answer;
        }
        assert!(Instant::now() < until, "no time within {patience:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

pub fn end(mut daemon: Running) -> Option<i32> {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.0.id() as i32), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    daemon.0.wait().unwrap().code()
}

/// A receiver on a pty, and the path of the end that the daemon opens.
pub fn receiver_on_a_pty() -> (Receiver, PathBuf) {
    let pty = openpty(None, None).unwrap();
    let path = nix::unistd::ttyname(&pty.slave).unwrap();
    // The other end stays open with the receiver: a pty whose last opener goes away hangs up.
    let receiver = Receiver::start(Held { out: File::from(pty.master), _slave: pty.slave.into() });
    (receiver, path)
}

struct Held {
    out: File,
    _slave: File,
}

impl Write for Held {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// What the daemon of this folder answers to one of our commands; `None` while it does not.
pub fn ask(folder: &Path, verb: &[&str]) -> Option<serde_json::Value> {
    let output =
        Command::new(PROGRAM).args(verb).arg("--json").arg("--socket").arg(folder.join("api.sock")).output().unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// One source of the daemon of this folder.
pub fn source(folder: &Path, name: &str) -> Option<serde_json::Value> {
    let report = ask(folder, &["sources"])?;
    report["sources"].as_array().unwrap().iter().find(|s| s["name"] == name).cloned()
}

/// Waits for what a question finds; fails with the daemon's log and its `why`.
pub fn wait_for<T>(folder: &Path, what: &str, patience: Duration, mut question: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + patience;
    loop {
        if let Some(found) = question() {
            return found;
        }
        if Instant::now() > until {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            panic!("no {what} within {patience:?}: {:#?}\n{log}", ask(folder, &["why"]));
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Waits until this source is the one used, in a daemon that is locked; returns its entry.
pub fn wait_for_lock(folder: &Path, name: &str, patience: Duration) -> serde_json::Value {
    wait_for(folder, &format!("lock on {name}"), patience, || {
        let locked = ask(folder, &["status"])?["state"] == "locked";
        source(folder, name).filter(|s| locked && s["verdict"]["code"] == "selected" && s["device"]["phase"] == "good")
    })
}

/// Waits until something holds; says what was waited for if it does not come.
pub fn wait_until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < until, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
