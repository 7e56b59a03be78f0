//! Interleaved mode (RFC 9769) with ourselves and with a real chronyd, both ways.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ntp_common::peers::{Running, chronyd_server, user};
use ntp_common::{made_up_snapshot, peer, serve};
use refclockd::ntp::client::names::Names;
use refclockd::ntp::client::{ClientConfig, ClientEvent, Measurement, Orders, Rejected, shell};
use refclocks::time::{Raw, Realtime, Span, Timestamp};

/// What a client in interleaved mode hears in some seconds.
fn listen_with(port: u16, seconds: u64, each: impl FnMut(ClientEvent)) {
    let config =
        ClientConfig { port, iburst: true, minpoll: 0, maxpoll: 0, xleave: true, ..ClientConfig::new("127.0.0.1") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = shell::run(config, Names::on_a_thread(), Orders::none(), each);
        let _ = tokio::time::timeout(Duration::from_secs(seconds), client).await;
    });
}

/// Measurements, and how often an exchange was told of that had been measured in basic mode.
fn listen(port: u16, seconds: u64) -> (Vec<Measurement>, usize) {
    let (mut measured, mut again) = (Vec::new(), 0);
    listen_with(port, seconds, |event| match event {
        ClientEvent::Measurement { measurement, .. } => measured.push(measurement),
        ClientEvent::Rejected { reason, .. } => {
            assert_eq!(reason, Rejected::Measured);
            again += 1;
        }
        ClientEvent::Polled { .. } | ClientEvent::State { .. } => {}
    });
    (measured, again)
}

/// chronyd as a client in interleaved mode that sets no clock, where to ask it, and the folder that it is in.
fn chronyd_client(chronyd: &Path, port: u16) -> (Running, PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let socket = folder.path().join("chronyd.sock");
    let configuration = format!(
        "server 127.0.0.1 port {port} iburst xleave minpoll 0 maxpoll 0\nport 0\ncmdport 0\nbindcmdaddress {}\npidfile {}\n",
        socket.display(),
        folder.path().join("pid").display()
    );
    let file = folder.path().join("chrony.conf");
    fs::write(&file, configuration).unwrap();
    let mut command = Command::new(chronyd);
    command.args(["-x", "-d", "-U", "-u", &user(), "-f"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    (Running(command.spawn().unwrap()), socket, folder)
}

/// What it says of its server.
fn ntpdata(chronyc: &Path, socket: &Path) -> String {
    let output = Command::new(chronyc).arg("-h").arg(socket).arg("ntpdata").output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn line(said: &str, name: &str) -> Option<String> {
    let line = said.lines().find(|line| line.starts_with(name))?;
    line.split_once(": ").map(|(_, value)| value.trim().to_owned())
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

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// On one machine, where both clocks are the same, how far from nought are
/// the offsets that we measure of a chronyd, and those that a chronyd measures of it?
#[test]
fn our_offsets_are_microseconds_like_chronyds() {
    let Some(chronyd) = peer("REFCLOCKD_CHRONYD", "chronyd") else { return };
    let Some(chronyc) = peer("REFCLOCKD_CHRONYC", "chronyc") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_server, port) = chronyd_server(&chronyd, folder.path());
    let (_client, socket, theirs_folder) = chronyd_client(&chronyd, port);
    let asking = std::thread::spawn(move || {
        // One sample a second, each as it is.
        let mut offsets = Vec::new();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_secs(1));
            let said = ntpdata(&chronyc, &socket);
            let value = |name: &str| line(&said, name).unwrap_or_default();
            if value("Interleaved") == "Yes"
                && let Some(offset) = value("Offset").split_whitespace().next().and_then(|v| v.parse::<f64>().ok())
            {
                offsets.push(offset.abs());
            }
        }
        drop(theirs_folder);
        offsets
    });
    // Raw and real time run at different rates: both are read with every event.
    let mut readings: Vec<(Timestamp<Raw>, Timestamp<Realtime>)> = Vec::new();
    let mut measured: Vec<Measurement> = Vec::new();
    listen_with(port, 20, |event| {
        let bracket = refclocks::sys::clock::bracket();
        let half = Span::from_seconds((bracket.raw_after - bracket.raw_before).seconds() / 2.0);
        readings.push((bracket.raw_before + half, bracket.realtime));
        if let ClientEvent::Measurement { measurement, .. } = event {
            measured.push(measurement);
        }
    });
    let realtime = |at: Timestamp<Raw>| {
        let next = readings.partition_point(|(raw, _)| *raw < at).clamp(1, readings.len() - 1);
        let ((raw_a, real_a), (raw_b, real_b)) = (readings[next - 1], readings[next]);
        let rate = (real_b - real_a).seconds() / (raw_b - raw_a).seconds();
        real_a + Span::from_seconds((at - raw_a).seconds() * rate)
    };
    // The first few are in basic mode.
    let ours: Vec<f64> =
        measured.iter().skip(4).map(|m| (realtime(m.at).reinterpret() - m.reference).seconds().abs()).collect();
    let theirs = asking.join().unwrap();
    assert!(ours.len() >= 8 && theirs.len() >= 8, "{ours:?} {theirs:?}");
    let (ours, theirs) = (median(ours), median(theirs));
    println!("median of the offsets' sizes: ours {ours:.3e} s, chronyd's {theirs:.3e} s");
    // A stamp on the raw scale has gone through two readings of clocks, chronyd's through none; and this
    // comparison through two more.
    assert!(ours <= theirs + 3e-6, "{ours:.3e} {theirs:.3e}");
}

#[test]
fn chronyd_interleaves_with_us() {
    let Some(chronyd) = peer("REFCLOCKD_CHRONYD", "chronyd") else { return };
    let Some(chronyc) = peer("REFCLOCKD_CHRONYC", "chronyc") else { return };
    let workers = serve("127.0.0.1:0", made_up_snapshot(), 1);
    let (_chronyd, socket, _folder) = chronyd_client(&chronyd, workers.address().port());
    let deadline = Instant::now() + Duration::from_secs(25);
    loop {
        let said = ntpdata(&chronyc, &socket);
        if line(&said, "Interleaved").as_deref() == Some("Yes") {
            // It has measured in that mode, and its own tests pass.
            assert_eq!(line(&said, "NTP tests").as_deref(), Some("111 111 1111"), "{said}");
            break;
        }
        assert!(Instant::now() < deadline, "{said}");
        std::thread::sleep(Duration::from_millis(500));
    }
}
