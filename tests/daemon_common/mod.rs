//! What the tests of `refclockd run` share: a receiver, the daemon's process, and questions to it.
#![allow(dead_code, unreachable_pub)]

use std::fs::File;
use std::io::Write;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use refclocks::calendar::CivilTime;
use refclocks::nmea::write;
use refclocks::time::Timestamp;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_refclockd");

/// Ends the process that it holds.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

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
pub fn daemon_by(mut program: Command, folder: &Path, sources: &str) -> (Running, u16) {
    let port = free_port();
    let configuration = format!(
        "{sources}\n[serve]\nlisten = [\"127.0.0.1:{port}\"]\n[state]\ndir = \"{0}/state\"\n[control]\nsocket = \"{0}/api.sock\"\n",
        folder.display()
    );
    let file = folder.join("refclockd.toml");
    std::fs::write(&file, configuration).unwrap();
    let log = File::create(folder.join("log")).unwrap();
    let child = program.args(["run", "-c"]).arg(file).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    (Running(child), port)
}

/// Asks the daemon of this folder; `None` while it does not answer.
pub fn ask(folder: &Path, verb: &str) -> Option<serde_json::Value> {
    let output =
        Command::new(PROGRAM).args([verb, "--json", "--socket"]).arg(folder.join("api.sock")).output().unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// One source of the daemon of this folder.
pub fn source(folder: &Path, name: &str) -> Option<serde_json::Value> {
    let report = ask(folder, "sources")?;
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
            panic!("no {what} within {patience:?}: {:#?}\n{log}", ask(folder, "why"));
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Waits until this source is the one used, in a daemon that is locked; returns its entry.
pub fn wait_for_lock(folder: &Path, name: &str, patience: Duration) -> serde_json::Value {
    wait_for(folder, &format!("lock on {name}"), patience, || {
        let locked = ask(folder, "status")?["state"] == "locked";
        source(folder, name).filter(|s| locked && s["verdict"]["code"] == "selected" && s["device"]["phase"] == "good")
    })
}

/// One query: its answer, if the time could be used.
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
