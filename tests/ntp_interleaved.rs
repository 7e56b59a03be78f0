//! Interleaved mode (RFC 9769) with ourselves and with a real chronyd, both ways.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod net_common;
mod ntp_common;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use net_common::{Machine, Network, file, said};
use ntp_common::peers::{Running, chronyd_server, user};
use ntp_common::{made_up_snapshot, peer, serve};
use refclockd::ntp::client::names::Names;
use refclockd::ntp::client::{ClientConfig, ClientEvent, Measurement, Orders, Rejected, shell};
use refclocks::time::{Raw, Realtime, Span, Timestamp};

/// What a client in interleaved mode hears of a server in some seconds.
fn listen_to(server: &str, port: u16, seconds: u64, each: impl FnMut(ClientEvent)) {
    let config = ClientConfig { port, iburst: true, minpoll: 0, maxpoll: 0, xleave: true, ..ClientConfig::new(server) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = shell::run(config, Names::on_a_thread(), Orders::none(), each);
        let _ = tokio::time::timeout(Duration::from_secs(seconds), client).await;
    });
}

/// Measurements, and how often an exchange was told of that had been measured in basic mode.
fn listen(port: u16, seconds: u64) -> (Vec<Measurement>, usize) {
    let (mut measured, mut again) = (Vec::new(), 0);
    listen_to("127.0.0.1", port, seconds, |event| match event {
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

/// What it says of its server, or of one of them.
fn ntpdata(chronyc: &Path, socket: &Path, server: Option<IpAddr>) -> String {
    let which = server.map(|ip| ip.to_string());
    let output = Command::new(chronyc).arg("-h").arg(socket).arg("ntpdata").args(which).output().unwrap();
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

/// The middle one of enough.
fn median(mut values: Vec<f64>) -> f64 {
    assert!(values.len() >= 8, "{values:?}");
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Set in this program when it runs itself on the machine that asks; the folder it works in.
const ASKING: &str = "REFCLOCKD_TEST_ASKS_IN";

/// The servers, which are on one machine with their clients as far as clocks go: what is measured is error.
const SERVERS: [(&str, IpAddr); 2] = [
    ("chronyd", IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1))),
    ("refclockd", IpAddr::V6(Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1))),
];

/// How far from nought are the offsets that we measure of a chronyd and of ourselves over a wire of namespaces,
/// and those that a chronyd measures of both meanwhile? It is kept from using what it measures: it would move its
/// clock by its own error, and find none.
#[test]
fn our_offsets_are_no_worse_than_chronyds() {
    if let Some(folder) = std::env::var_os(ASKING) {
        return ask_both(Path::new(&folder));
    }
    let Some(chronyd) = peer("REFCLOCKD_CHRONYD", "chronyd") else { return };
    let Some(_) = peer("REFCLOCKD_CHRONYC", "chronyc") else { return };
    let Some(network) = Network::make("") else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let place = folder.path().display();
    let conf = format!("local stratum 1\nallow\ncmdport 0\nbindcmdaddress /\npidfile {place}/server.pid\n");
    let conf = file(folder.path(), "chrony.conf", &conf);
    let mut server = network.on(Machine::A, chronyd);
    server.args(["-x", "-d", "-U", "-u", "root", "-4", "-f"]).arg(conf);
    let _chronyd = network.start(server, &folder.path().join("chronyd.log"));
    let conf = format!(
        "[local]\nstratum = 1\n[serve]\nlisten = \"[fd09::1]:123\"\nallow = \"fd09::/64\"\n\
         [state]\ndir = \"{place}/state\"\n[control]\nsocket = \"{place}/api.sock\"\n\
         [process]\nuser = \"root\"\nsandbox = false\n[clock]\ndiscipline = \"observe\"\n"
    );
    let conf = file(folder.path(), "refclockd.toml", &conf);
    let mut server = network.on(Machine::A, env!("CARGO_BIN_EXE_refclockd"));
    server.args(["run", "-c"]).arg(conf);
    let _refclockd = network.start(server, &folder.path().join("refclockd.log"));
    let mut asking = network.on(Machine::B, std::env::current_exe().unwrap());
    asking.args(["--exact", "our_offsets_are_no_worse_than_chronyds", "--nocapture"]).env(ASKING, folder.path());
    let output = asking.output().unwrap();
    println!("{}", said(&output));
    assert!(output.status.success());
}

fn ask_both(folder: &Path) {
    let (chronyd, chronyc) = (peer("REFCLOCKD_CHRONYD", "chronyd"), peer("REFCLOCKD_CHRONYC", "chronyc"));
    let (chronyd, chronyc) = (chronyd.unwrap(), chronyc.unwrap());
    let socket = folder.join("client.sock");
    let mut conf: String =
        SERVERS.map(|(_, ip)| format!("server {ip} iburst xleave noselect minpoll 0 maxpoll 0\n")).concat();
    conf +=
        &format!("port 0\ncmdport 0\nbindcmdaddress {}\npidfile {}\n", socket.display(), folder.join("pid").display());
    let mut command = Command::new(chronyd);
    command.args(["-x", "-d", "-U", "-u", "root", "-f"]).arg(file(folder, "client.conf", &conf));
    let _chronyd = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let asking = std::thread::spawn(move || {
        let mut theirs = [const { Vec::new() }; 2];
        for _ in 0..SECONDS {
            std::thread::sleep(Duration::from_secs(1));
            for ((_, ip), offsets) in SERVERS.iter().zip(&mut theirs) {
                let said = ntpdata(&chronyc, &socket, Some(*ip));
                let value = |name: &str| line(&said, name).unwrap_or_default();
                if value("Interleaved") == "Yes"
                    && let Some(offset) = value("Offset").split_whitespace().next().and_then(|v| v.parse::<f64>().ok())
                {
                    offsets.push(offset.abs());
                }
            }
        }
        theirs.map(median)
    });
    let ours = SERVERS.map(|(_, ip)| std::thread::spawn(move || median(offsets_of(ip))));
    let ours = ours.map(|asking| asking.join().unwrap());
    let theirs = asking.join().unwrap();
    println!("median of the offsets' sizes, in interleaved mode");
    for (((name, _), ours), theirs) in SERVERS.iter().zip(ours).zip(theirs) {
        println!("of {name}: ours {:.0} ns, chronyd's {:.0} ns", ours * 1e9, theirs * 1e9);
        // Half a microsecond for a machine that does other things as well.
        assert!(ours <= theirs + 5e-7, "{ours:.3e} {theirs:.3e}");
    }
}

/// How long they are asked, s.
const SECONDS: u64 = 25;

/// The offsets' sizes that we measure of a server whose clock is this machine's, s.
fn offsets_of(server: IpAddr) -> Vec<f64> {
    // Raw and real time run at different rates: both are read with every event.
    let mut readings: Vec<(Timestamp<Raw>, Timestamp<Realtime>)> = Vec::new();
    let mut measured: Vec<Measurement> = Vec::new();
    listen_to(&server.to_string(), 123, SECONDS, |event| {
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
    let offset = |m: &Measurement| (realtime(m.at).reinterpret() - m.reference).seconds().abs();
    measured.iter().skip(4).map(offset).collect()
}

#[test]
fn chronyd_interleaves_with_us() {
    let Some(chronyd) = peer("REFCLOCKD_CHRONYD", "chronyd") else { return };
    let Some(chronyc) = peer("REFCLOCKD_CHRONYC", "chronyc") else { return };
    let workers = serve("127.0.0.1:0", made_up_snapshot(), 1);
    let (_chronyd, socket, _folder) = chronyd_client(&chronyd, workers.address().port());
    let deadline = Instant::now() + Duration::from_secs(25);
    loop {
        let said = ntpdata(&chronyc, &socket, None);
        if line(&said, "Interleaved").as_deref() == Some("Yes") {
            // It has measured in that mode, and its own tests pass.
            assert_eq!(line(&said, "NTP tests").as_deref(), Some("111 111 1111"), "{said}");
            break;
        }
        assert!(Instant::now() < deadline, "{said}");
        std::thread::sleep(Duration::from_millis(500));
    }
}
