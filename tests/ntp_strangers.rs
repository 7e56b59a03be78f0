//! Peers that nobody has configured: a real one that signs becomes a source and goes, and floods of others change nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod net_common;
mod ntp_common;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use net_common::programs::{PATIENCE, ask, chronyc, chronyd, folder, log, refclockd, verdicts};
use net_common::{Machine, Network, wait_until};
use ntp_common::peers::Running;
use refclockd::ntp::keys::{Algorithm, Key};
use refclockd::ntp::packet::{Header, Mode};
use refclocks::time::NtpTimestamp;

/// Set in this program where it is to be strangers: what their packets repeat.
const VARIABLE: &str = "REFCLOCKD_TEST_STRANGERS";

/// Whoever signs with key 5 may come.
const WELCOME: &str = "[[passive_peer]]\nkey = 5\nmaxsources = 3\n\
                       [serve]\nlisten = [\"0.0.0.0:123\"]\nallow = [\"10.0.0.0/8\"]\n";

fn used(network: &Network, folder: &std::path::Path, name: &str) -> bool {
    verdicts(network, folder).iter().any(|(known, verdict)| known == name && verdict == "used")
}

#[test]
fn a_chronyd_that_has_us_for_a_peer_is_followed_and_missed() {
    for xleave in ["", " xleave"] {
        let Some(network) = Network::make("") else { return };
        let (ours, theirs) = (folder(), folder());
        let Some(capture) = network.capture(Machine::B, theirs.path()) else { return };
        let lines = format!("peer 10.9.0.2 key 5 minpoll 0 maxpoll 0{xleave}\nlocal stratum 3\nallow 10.9.0.0/24");
        let Some((peer, socket)) = chronyd(&network, Machine::A, theirs.path(), &lines) else { return };
        let _passive = refclockd(&network, Machine::B, ours.path(), WELCOME);
        wait_until("we use the peer that came", PATIENCE, || used(&network, ours.path(), "10.9.0.1"));
        wait_until("it measures us, signed", PATIENCE, || {
            let data = chronyc(&network, Machine::A, &socket, "ntpdata");
            let mode = if xleave.is_empty() { "Interleaved     : No" } else { "Interleaved     : Yes" };
            data.contains("Mode            : Symmetric passive")
                && data.contains("Authenticated   : Yes")
                && data.contains(mode)
        });
        let (answers, warned) = capture.all("10.9.0.2", "ntp.flags.mode == 2 && udp.srcport == 123");
        assert!(answers.lines().count() > 3, "{answers}");
        assert_eq!(warned, "");
        drop(peer);
        wait_until("it is no source any more", PATIENCE, || verdicts(&network, ours.path()).is_empty());
        // It may come again.
        let Some((_peer, _)) = chronyd(&network, Machine::A, theirs.path(), &lines) else { return };
        wait_until("we use it again", PATIENCE, || used(&network, ours.path(), "10.9.0.1"));
    }
}

#[test]
fn whoever_signs_with_another_key_or_may_not_be_a_peer_stays_a_stranger() {
    let restricted = WELCOME.replace("allow = [\"10.0.0.0/8\"]", "restrict = [\"default noepeer\"]");
    for (key, sections) in [(6, WELCOME), (5, restricted.as_str())] {
        let Some(network) = Network::make("") else { return };
        let (ours, theirs) = (folder(), folder());
        let lines = format!("peer 10.9.0.2 key {key} minpoll 0 maxpoll 0\nlocal stratum 3\nallow 10.9.0.0/24");
        let Some((_peer, socket)) = chronyd(&network, Machine::A, theirs.path(), &lines) else { return };
        let _passive = refclockd(&network, Machine::B, ours.path(), sections);
        wait_until("it is answered all the same", PATIENCE, || {
            chronyc(&network, Machine::A, &socket, "ntpdata").contains("Mode            : Symmetric passive")
        });
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(verdicts(&network, ours.path()), [], "{}", log(ours.path(), "refclockd.log"));
    }
}

/// Two hundred that sign, hundreds of packets a second: records of long ago, and such as nobody has who does not hear us.
#[test]
fn a_flood_of_signed_strangers_keeps_nobody_out_and_takes_nothing() {
    let Some(network) = Network::make("") else { return };
    let (ours, theirs) = (folder(), folder());
    let ip = |machine, what: &str| assert!(network.on(machine, "ip").args(what.split(' ')).status().unwrap().success());
    // Machine A is everybody in 10.8.
    ip(Machine::A, "route add local 10.8.0.0/16 dev lo");
    ip(Machine::B, "route add 10.8.0.0/16 via 10.9.0.1");
    let daemon = refclockd(&network, Machine::B, ours.path(), WELCOME);
    let strangers = |what: &str| -> Running {
        let mut command = network.on(Machine::A, std::env::current_exe().unwrap());
        command.args(["--exact", "be_strangers", "--nocapture"]).env(VARIABLE, what);
        network.start(command, &theirs.path().join(format!("{what}.log")))
    };
    let open = || std::fs::read_dir(format!("/proc/{}/fd", daemon.0.id())).unwrap().count();
    let answered = || ask(&network, ours.path(), "status")["ntp"]["requests"]["answered"].as_u64().unwrap_or(0);
    wait_until("it is there", PATIENCE, || ask(&network, ours.path(), "status")["schema"].is_string());
    std::thread::sleep(Duration::from_secs(1));
    let before = open();
    let _flood = strangers("records");
    wait_until("the records are answered", PATIENCE, || answered() > 400);
    assert!(open() < before + 3, "no record makes an association: {} {before}", open());
    let lines = "peer 10.9.0.2 key 5 minpoll 0 maxpoll 0\nlocal stratum 3\nallow 10.9.0.0/24";
    let Some((_peer, _)) = chronyd(&network, Machine::A, theirs.path(), lines) else { return };
    wait_until("we use whom we hear", PATIENCE, || used(&network, ours.path(), "10.9.0.1"));
    // Whoever has the key and does not hear us waits for a while, a few at a time; and is no source.
    let _others = strangers("guesses");
    let (begun, mut most) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(6) {
        most = most.max(open());
        let known = verdicts(&network, ours.path());
        assert!(known.len() == 1 && known[0].0 == "10.9.0.1", "{known:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
    println!("{before} descriptors before, {most} at most; {} answered", answered());
    assert!(most <= before + 25, "{before} {most}");
    assert!(used(&network, ours.path(), "10.9.0.1"));
}

/// Not a test: this program is started anew where it is to be strangers.
#[test]
fn be_strangers() {
    let Ok(what) = std::env::var(VARIABLE) else { return };
    let key =
        Key::new(5, Algorithm::Aes128Cmac, &0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes()).unwrap();
    let socket = |i: u8| UdpSocket::bind((Ipv4Addr::new(10, 8, 0, i), 0)).unwrap();
    let sockets: Vec<UdpSocket> = (1..=200).map(socket).collect();
    for round in 0_u64.. {
        for (at, socket) in sockets.iter().enumerate() {
            let now = NtpTimestamp::from_utc(refclocks::sys::clock::realtime_now().reinterpret());
            let origin = if what == "guesses" { now } else { NtpTimestamp(now.0 - (86_400 << 32)) };
            let transmit = NtpTimestamp(now.0 - (86_400 << 32) + round);
            let header = Header { mode: Mode::SymmetricActive, origin, ..Header::request(4, transmit) };
            let mut octets = [0; 68];
            octets[..48].copy_from_slice(&header.to_octets());
            key.sign(&mut octets, 48, 16).unwrap();
            socket.send_to(&octets, "10.9.0.2:123").unwrap();
            if at % 10 == 9 {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
