//! Over long wires, beside a real chronyd in the same run: delay, jitter, asymmetry and loss.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod net_common;
mod ntp_common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use net_common::wire::Wire;
use net_common::{Machine, Network, file, wait_until};
use ntp_common::peer;
use ntp_common::peers::Running;

const PROGRAM: &str = env!("CARGO_BIN_EXE_refclockd");

/// How long both follow the server before they are judged, and while, s.
const SETTLING: u64 = 40;
const JUDGED: u64 = 40;

/// A client over a wire: its name, and where its own clock is asked for.
struct Client {
    name: &'static str,
    port: u16,
    /// Its clock - true time, s, and the bound that it tells clients.
    readings: Vec<(f64, f64)>,
    _running: Running,
}

impl Client {
    fn new(name: &'static str, port: u16, running: Running) -> Self {
        Self { name, port, readings: Vec::new(), _running: running }
    }

    /// Reads its clock. True time is this machine's, which the server has as well.
    fn read(&mut self, network: &Network) {
        let host = format!("127.0.0.1:{}", self.port);
        let output = network
            .on(Machine::B, PROGRAM)
            .args(["query", "--json", "--timeout", "1", "-n", "1", &host])
            .output()
            .unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let server = &answer["servers"][0];
        if let (Some(offset), Some(distance)) = (server["offset_s"].as_f64(), server["root_distance_s"].as_f64()) {
            self.readings.push((offset.abs(), distance));
        }
    }

    fn rms(&self) -> f64 {
        assert!(self.readings.len() >= 20, "{}: {} readings", self.name, self.readings.len());
        (self.readings.iter().map(|(error, _)| error * error).sum::<f64>() / self.readings.len() as f64).sqrt()
    }

    fn greatest(&self) -> f64 {
        self.readings.iter().map(|(error, _)| *error).fold(0.0, f64::max)
    }
}

fn refclockd(network: &Network, folder: &Path, wire: &Wire, port: u16) -> Client {
    let place = folder.join(format!("ours-{port}"));
    fs::create_dir(&place).unwrap();
    let conf = format!(
        "[[server]]\naddress = \"127.0.0.1\"\nport = {}\niburst = true\nminpoll = 0\nmaxpoll = 0\n\
         [serve]\nlisten = \"127.0.0.1:{port}\"\n[state]\ndir = \"{place}/state\"\n[control]\nsocket = \"{place}/api.sock\"\n\
         [process]\nuser = \"root\"\nsandbox = false\n[clock]\ndiscipline = \"software\"\n",
        wire.port,
        place = place.display()
    );
    let mut command = network.on(Machine::B, PROGRAM);
    command.args(["run", "-c"]).arg(file(&place, "refclockd.toml", &conf));
    Client::new("refclockd", port, network.start(command, &place.join("log")))
}

fn chronyd(network: &Network, program: &Path, folder: &Path, lines: &str, machine: Machine) -> Running {
    fs::create_dir(folder).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    let conf = format!("{lines}\nallow\ncmdport 0\nbindcmdaddress /\npidfile {}/pid\n", folder.display());
    let mut command: Command = network.on(machine, program);
    command.args(["-x", "-d", "-U", "-u", "root", "-4", "-f"]).arg(file(folder, "chrony.conf", &conf));
    network.start(command, &folder.join("log"))
}

/// Clients that stay within their bounds, and are no further off than chronyd is.
#[test]
fn long_wires_are_borne_no_worse_than_by_chronyd() {
    let Some(program) = peer("REFCLOCKD_CHRONYD", "chronyd") else { return };
    let Some(network) = Network::make("") else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let _server = chronyd(&network, &program, &folder.path().join("server"), "local stratum 1", Machine::A);
    let wire = |port: u16, there: f64, back: f64, jitter: f64, loss: f64| Wire {
        port,
        server: "10.9.0.1:123".parse().unwrap(),
        there,
        back,
        jitter,
        loss,
        seed: u64::from(port),
    };
    // What half of the asymmetry costs nobody can know; the rest is to be borne.
    let wires = [
        ("20 ms each way", wire(3001, 0.02, 0.02, 0.0, 0.0)),
        ("20 ms each way, 2 ms of jitter, 10 % lost", wire(3002, 0.02, 0.02, 0.002, 0.1)),
        ("30 ms there and 10 ms back, 1 ms of jitter", wire(3003, 0.03, 0.01, 0.001, 0.0)),
        ("50 ms each way, 10 ms of jitter, 30 % lost", wire(3004, 0.05, 0.05, 0.01, 0.3)),
    ];
    let laid: Vec<Running> = wires.iter().map(|(_, wire)| wire.lay(&network, Machine::B, folder.path())).collect();
    let mut clients: Vec<[Client; 2]> = wires
        .iter()
        .map(|(_, wire)| {
            let theirs =
                format!("server 127.0.0.1 port {} iburst minpoll 0 maxpoll 0\nport {}", wire.port, wire.port + 1000);
            let place = folder.path().join(format!("chronyd-{}", wire.port));
            let theirs = chronyd(&network, &program, &place, &theirs, Machine::B);
            let ours = refclockd(&network, folder.path(), wire, wire.port + 2000);
            [ours, Client::new("chronyd", wire.port + 1000, theirs)]
        })
        .collect();
    wait_until("all follow the server", Duration::from_secs(60), || {
        clients.iter_mut().flatten().all(|client| {
            client.read(&network);
            !client.readings.is_empty()
        })
    });
    std::thread::sleep(Duration::from_secs(SETTLING));
    clients.iter_mut().flatten().for_each(|client| client.readings.clear());
    for _ in 0..JUDGED {
        std::thread::sleep(Duration::from_millis(700));
        clients.iter_mut().flatten().for_each(|client| client.read(&network));
    }
    drop(laid);
    println!("| wire | refclockd: rms, greatest, us | chronyd: rms, greatest, us |\n|---|---|---|");
    for ((what, wire), [ours, theirs]) in wires.iter().zip(&clients) {
        let us = |seconds: f64| (seconds * 1e6).round();
        println!(
            "| {what} | {}, {} | {}, {} |",
            us(ours.rms()),
            us(ours.greatest()),
            us(theirs.rms()),
            us(theirs.greatest())
        );
        let unknowable = (wire.there - wire.back).abs() / 2.0;
        let bar = unknowable + 0.001 + wire.jitter / 2.0;
        assert!(ours.rms() <= bar, "{what}: {} s, and may be {bar}", ours.rms());
        assert!(ours.rms() <= 1.5 * theirs.rms() + 0.0005, "{what}: {} s, chronyd {} s", ours.rms(), theirs.rms());
        assert!(ours.readings.iter().all(|(error, bound)| error <= bound), "{what}: {:?}", ours.readings);
    }
}
