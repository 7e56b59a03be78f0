//! Interleaved mode (RFC 9769) with ourselves and with a real chronyd, both ways.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ntp_common::peers::{Running, chronyd_server, user};
use ntp_common::{made_up_snapshot, peer, serve};
use refclockd::ntp::client::names::Names;
use refclockd::ntp::client::{ClientConfig, ClientEvent, Measurement, Orders, Rejected, shell};
use refclocks::time::Span;

/// What a client in interleaved mode hears in some seconds: measurements, and how often an exchange was
/// told of that had been measured in basic mode.
fn listen(port: u16, seconds: u64) -> (Vec<Measurement>, usize) {
    let config =
        ClientConfig { port, iburst: true, minpoll: 0, maxpoll: 0, xleave: true, ..ClientConfig::new("127.0.0.1") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    runtime.block_on(async {
        let sink = move |event| drop(sender.send(event));
        let client = shell::run(config, Names::on_a_thread(), Orders::none(), sink);
        let _ = tokio::time::timeout(Duration::from_secs(seconds), client).await;
    });
    let (mut measured, mut again) = (Vec::new(), 0);
    while let Ok(event) = events.try_recv() {
        match event {
            ClientEvent::Measurement { measurement, .. } => measured.push(measurement),
            ClientEvent::Rejected { reason, .. } => {
                assert_eq!(reason, Rejected::Measured);
                again += 1;
            }
            ClientEvent::Polled { .. } => {}
            ClientEvent::State { .. } => {}
        }
    }
    (measured, again)
}

#[test]
fn our_client_and_our_server_interleave() {
    for workers in [1, 2] {
        let workers = serve("127.0.0.1:0", made_up_snapshot(), workers);
        let (measured, again) = listen(workers.address().port(), 8);
        // Each basic reply to an interleaved request was one told of later.
        assert!(measured.len() >= 4 && again >= 1, "{measured:?} {again}");
        // What is left of the delay is the way alone.
        let shortest = measured.iter().map(|m| m.delay).min().unwrap();
        assert!(shortest < Span::from_nanos(100_000), "{measured:?}");
        assert!(measured.windows(2).all(|pair| pair[0].at < pair[1].at), "in order, none twice");
    }
}

#[test]
fn we_interleave_with_chronyd() {
    let Some(chronyd) = peer("REFCLOCKD_CHRONYD", "chronyd") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_chronyd, port) = chronyd_server(&chronyd, folder.path());
    let (measured, again) = listen(port, 8);
    assert!(measured.len() >= 4 && again >= 1, "{measured:?} {again}");
    assert!(measured.windows(2).all(|pair| pair[0].at < pair[1].at), "in order, none twice");
}

#[test]
fn chronyd_interleaves_with_us() {
    let Some(chronyd) = peer("REFCLOCKD_CHRONYD", "chronyd") else { return };
    let Some(chronyc) = peer("REFCLOCKD_CHRONYC", "chronyc") else { return };
    let workers = serve("127.0.0.1:0", made_up_snapshot(), 1);
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let socket = folder.path().join("chronyd.sock");
    let port = workers.address().port();
    let configuration = format!(
        "server 127.0.0.1 port {port} iburst xleave minpoll 0 maxpoll 0\nport 0\ncmdport 0\nbindcmdaddress {}\npidfile {}\n",
        socket.display(),
        folder.path().join("pid").display()
    );
    let file = folder.path().join("chrony.conf");
    fs::write(&file, configuration).unwrap();
    let mut command = Command::new(&chronyd);
    command.args(["-x", "-d", "-U", "-u", &user(), "-f"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    let _chronyd = Running(command.spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(25);
    loop {
        let output = Command::new(&chronyc).arg("-h").arg(&socket).arg("ntpdata").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = |name: &str| {
            said.lines()
                .find(|line| line.starts_with(name))
                .and_then(|line| line.split_once(": "))
                .map(|(_, v)| v.trim().to_owned())
        };
        if line("Interleaved") == Some("Yes".into()) {
            // It has measured in that mode, and its own tests pass.
            assert_eq!(line("NTP tests").as_deref(), Some("111 111 1111"), "{said}");
            break;
        }
        assert!(Instant::now() < deadline, "{said}");
        std::thread::sleep(Duration::from_millis(500));
    }
}
