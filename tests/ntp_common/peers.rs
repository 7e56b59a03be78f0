//! The real peers, unmodified. None of them touches this machine's clock.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// A process that ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Holds a namespace open for as long as the value lives: the command makes it, says `ready` and waits for
/// the end of its input. `None`, said aloud, where that cannot be had, and why; in CI that is a failure.
pub fn hold(command: &mut Command, why: &str) -> Option<Running> {
    let mut holder = Running(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut word = String::new();
    BufReader::new(holder.0.stdout.as_mut().unwrap()).read_line(&mut word).unwrap();
    if word != "ready\n" {
        refused(why);
        return None;
    }
    Some(holder)
}

/// What this machine does not give: said aloud, and in CI a failure.
pub fn refused(why: &str) {
    assert!(std::env::var_os("REFCLOCKD_CI").is_none(), "{why}");
    println!("skipped: {why}");
}

pub fn user() -> String {
    let id = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(id.stdout).unwrap().trim().to_owned()
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// chronyd as a client that measures and goes: it never sets the clock.
pub fn chronyd_query(chronyd: &Path, port: u16, folder: &Path) -> Output {
    Command::new(chronyd)
        .args(["-Q", "-U", "-t", "6", "-u", &user()])
        .arg(format!("server 127.0.0.1 port {port} iburst"))
        .args(["cmdport 0", "bindcmdaddress /"])
        .arg(format!("pidfile {}", folder.join("pid").display()))
        .output()
        .unwrap()
}

/// The same with other lines of configuration; `what` follows `server 127.0.0.1 port PORT iburst`.
pub fn chronyd_query_with(chronyd: &Path, port: u16, what: &str, lines: &[String]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(chronyd)
        .args(["-Q", "-U", "-t", "6", "-u", &user()])
        .arg(format!("server 127.0.0.1 port {port} iburst {what}"))
        .args(["cmdport 0", "bindcmdaddress /"])
        .arg(format!("pidfile {}", folder.path().join("pid").display()))
        .args(lines)
        .output()
        .unwrap()
}

/// What ntpdig says of the server on a port. Its `offset` is what to add to this machine's clock, s.
pub fn ntpdig_query(ntpdig: &Path, port: u16) -> serde_json::Value {
    let folder = tempfile::tempdir().unwrap();
    // ntpdig asks port 123 and nothing else: its Python is told another one.
    let redirect = "import os, socket\n\
        real = socket.getaddrinfo\n\
        port = int(os.environ['NTP_TEST_PORT'])\n\
        socket.getaddrinfo = lambda host, asked, *rest: real(host, port if asked == 123 else asked, *rest)\n";
    std::fs::write(folder.path().join("sitecustomize.py"), redirect).unwrap();
    let output = Command::new(ntpdig)
        .args(["-4", "-j", "-t", "3", "127.0.0.1"])
        .env("PYTHONPATH", folder.path())
        .env("NTP_TEST_PORT", port.to_string())
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)))
}

/// What must be added to this machine's clock according to chronyd, s.
pub fn wrong_by(chronyd: &Path, port: u16) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let said = text(&chronyd_query(chronyd, port, folder.path()));
    let wrong_by = said.split("System clock wrong by ").nth(1).and_then(|rest| rest.split_whitespace().next());
    wrong_by.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
}

/// chronyd as a stratum-1 server of this machine's clock, and its port.
pub fn chronyd_server(chronyd: &Path, folder: &Path) -> (Running, u16) {
    chronyd_server_with(chronyd, folder, "")
}

/// The same with further lines of configuration.
pub fn chronyd_server_with(chronyd: &Path, folder: &Path, lines: &str) -> (Running, u16) {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let configuration = format!(
        "port {port}\nbindaddress 127.0.0.1\nallow 127.0.0.1\nlocal stratum 1\ncmdport 0\nbindcmdaddress /\npidfile {}\n{lines}",
        folder.join("pid").display()
    );
    let file = folder.join("chrony.conf");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new(chronyd);
    command.args(["-x", "-d", "-U", "-u", &user(), "-f"]).arg(file);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    (Running(child), port)
}
