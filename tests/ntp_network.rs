//! Real peers over a wire with delay and loss: chronyd and NTPsec's ntpd as clients and as servers, with
//! keys, interleaved, and the packets we send seen by tshark. Nobody can set this machine's clock there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod net_common;
mod ntp_common;

use std::time::{Duration, Instant};

use net_common::programs::{
    PATIENCE, PROGRAM, chronyc, chronyd, folder, log, ntpd, ntpq, refclockd, uses_its_server, verdicts,
};
use net_common::{Machine, Network, said, wait_until};

/// A server whose clock nobody disciplines, at stratum 3.
const SERVER: &str = "[local]\nstratum = 3\n[serve]\nlisten = [\"0.0.0.0:123\", \"[::]:123\"]\nallow = [\"10.9.0.0/24\", \"fd09::/64\"]\n";

#[test]
fn chronyd_and_ntpd_follow_us_over_a_bad_wire_and_tshark_has_nothing_to_say() {
    let Some(network) = Network::make("delay 5ms 1ms loss 5%") else { return };
    let (ours, theirs) = (folder(), folder());
    let capture = network.capture(Machine::B, theirs.path());
    let _server = refclockd(&network, Machine::A, ours.path(), SERVER);
    let lines = "server 10.9.0.1 key 5 iburst xleave minpoll 0 maxpoll 0\nserver fd09::1 key 6 iburst minpoll 0 maxpoll 0\nport 0";
    let Some((_chronyd, socket)) = chronyd(&network, Machine::B, theirs.path(), lines) else { return };
    let lines = "server 10.9.0.1 key 5 iburst minpoll 3 maxpoll 3";
    let Some(_ntpd) = ntpd(&network, Machine::B, theirs.path(), lines) else { return };
    wait_until("chronyd follows us, signed and interleaved", PATIENCE, || {
        let data = chronyc(&network, Machine::B, &socket, "ntpdata");
        let signed = data.matches("Authenticated   : Yes").count();
        signed == 2
            && data.contains("Interleaved     : Yes")
            && chronyc(&network, Machine::B, &socket, "sources").contains("^*")
    });
    wait_until("ntpd follows us, signed", PATIENCE, || {
        let peers = ntpq(&network, Machine::B, "-p");
        peers.lines().any(|line| line.starts_with("*10.9.0.1"))
            && ntpq(&network, Machine::B, "-crv").contains("stratum=4")
    });
    if let Some(capture) = capture {
        let (packets, warned) = capture.of("10.9.0.1");
        assert!(packets > 10, "{packets} packets");
        assert_eq!(warned, "", "{}", log(ours.path(), "refclockd.log"));
    }
}

#[test]
fn chronyd_and_ntpd_have_us_for_a_peer_and_we_them() {
    let Some(network) = Network::make("") else { return };
    let (ours, theirs, again) = (folder(), folder(), folder());
    let _server = refclockd(&network, Machine::A, ours.path(), SERVER);
    let lines = "peer 10.9.0.1 key 5 minpoll 0 maxpoll 0\nallow 10.9.0.0/24\nport 1123\nlocal stratum 5";
    let Some((_chronyd, socket)) = chronyd(&network, Machine::B, theirs.path(), lines) else { return };
    let Some(_ntpd) = ntpd(&network, Machine::B, theirs.path(), "peer 10.9.0.1 key 6 minpoll 3 maxpoll 3") else {
        return;
    };
    wait_until("chronyd has us for a peer", PATIENCE, || {
        chronyc(&network, Machine::B, &socket, "sources").contains("=* 10.9.0.1")
    });
    wait_until("ntpd has us for a peer", PATIENCE, || {
        ntpq(&network, Machine::B, "-p").lines().any(|line| line.contains("10.9.0.1") && !line.contains(".INIT."))
    });
    // Another of us has that chronyd for a peer that knows nothing of it, and answers passively.
    let server = "[[server]]\naddress = \"10.9.0.2\"\nport = 1123\npeer = true\nkey = 5\niburst = true\nminpoll = 0\nmaxpoll = 2\n";
    let _client = refclockd(&network, Machine::B, again.path(), server);
    wait_until("we have chronyd for a peer", PATIENCE, || uses_its_server(&network, again.path()));
}

/// Both sides have each other for a peer: what each sends is what the other measures by, and nobody answers anybody.
#[test]
fn chronyd_and_we_have_each_other_for_a_peer() {
    let Some(network) = Network::make("delay 5ms 1ms") else { return };
    let (ours, theirs) = (folder(), folder());
    let Some(capture) = network.capture(Machine::B, theirs.path()) else { return };
    // Who is the better one follows nobody, and is followed.
    let lines = "peer 10.9.0.2 key 5 minpoll 0 maxpoll 0\nlocal stratum 3\nallow 10.9.0.0/24";
    let Some((_chronyd, socket)) = chronyd(&network, Machine::A, theirs.path(), lines) else { return };
    let peer = "[[server]]\naddress = \"10.9.0.1\"\npeer = true\nkey = 5\nminpoll = 0\nmaxpoll = 1\n\
                [serve]\nlisten = [\"0.0.0.0:123\"]\nallow = [\"10.9.0.0/24\"]\n";
    let _peer = refclockd(&network, Machine::B, ours.path(), peer);
    wait_until("we use chronyd", PATIENCE, || uses_its_server(&network, ours.path()));
    // It follows us as little as we it: a peer that has its time from us is measured and not used.
    wait_until("chronyd measures us, signed and as a peer", PATIENCE, || {
        let data = chronyc(&network, Machine::A, &socket, "ntpdata");
        let valid: Option<u32> = data
            .lines()
            .find(|line| line.starts_with("Total valid RX"))
            .and_then(|line| line.split(':').next_back()?.trim().parse().ok());
        data.contains("Mode            : Symmetric active") && data.contains("Authenticated   : Yes") && valid > Some(5)
    });
    // A client from the same port is answered all the same.
    let asked = network.on(Machine::A, PROGRAM).args(["query", "--timeout", "3", "10.9.0.2"]).output().unwrap();
    assert!(asked.status.success(), "{}", said(&asked));
    let (sent, warned) = capture.all("10.9.0.2", "ntp.flags.mode == 1 && udp.srcport == 123 && udp.dstport == 123");
    assert!(sent.lines().count() > 5, "{sent}");
    assert_eq!(warned, "");
}

#[test]
fn chronyd_follows_its_peer() {
    let Some(network) = Network::make("delay 5ms 1ms") else { return };
    let (ours, theirs) = (folder(), folder());
    let lines = "peer 10.9.0.2 key 6 minpoll 0 maxpoll 0\nallow 10.9.0.0/24";
    let Some((_chronyd, socket)) = chronyd(&network, Machine::A, theirs.path(), lines) else { return };
    let peer = "[[server]]\naddress = \"10.9.0.1\"\npeer = true\nkey = 6\nminpoll = 0\nmaxpoll = 1\n\
                [serve]\nlisten = [\"10.9.0.2:123\"]\nallow = [\"10.9.0.0/24\"]\n[local]\nstratum = 3\n";
    let _peer = refclockd(&network, Machine::B, ours.path(), peer);
    wait_until("chronyd follows us", PATIENCE, || {
        chronyc(&network, Machine::A, &socket, "sources").contains("=* 10.9.0.2")
    });
    let data = chronyc(&network, Machine::A, &socket, "ntpdata");
    assert!(data.contains("Mode            : Symmetric active") && data.contains("Authenticated   : Yes"), "{data}");
}

/// Both ways: each tells the other when its packets really left.
#[test]
fn chronyd_and_we_are_interleaved_peers() {
    for we_follow in [true, false] {
        let Some(network) = Network::make("") else { return };
        let (ours, theirs) = (folder(), folder());
        let Some(capture) = network.capture(Machine::B, theirs.path()) else { return };
        let (their_clock, our_clock) = if we_follow { ("local stratum 3", "") } else { ("", "[local]\nstratum = 3\n") };
        let lines = format!("peer 10.9.0.2 key 5 xleave minpoll 0 maxpoll 0\n{their_clock}\nallow 10.9.0.0/24");
        let Some((_chronyd, socket)) = chronyd(&network, Machine::A, theirs.path(), &lines) else { return };
        let peer = format!(
            "[[server]]\naddress = \"10.9.0.1\"\npeer = true\nxleave = true\nkey = 5\nminpoll = 0\nmaxpoll = 0\n\
             [serve]\nlisten = [\"0.0.0.0:123\"]\nallow = [\"10.9.0.0/24\"]\n{our_clock}"
        );
        let _peer = refclockd(&network, Machine::B, ours.path(), &peer);
        wait_until("one follows the other", PATIENCE, || match we_follow {
            true => uses_its_server(&network, ours.path()),
            false => chronyc(&network, Machine::A, &socket, "sources").contains("=* 10.9.0.2"),
        });
        wait_until("chronyd is told when ours left", PATIENCE, || {
            let data = chronyc(&network, Machine::A, &socket, "ntpdata");
            data.contains("Interleaved     : Yes") && data.contains("Authenticated   : Yes")
        });
        std::thread::sleep(Duration::from_secs(6));
        // What an interleaved packet repeats is when the last one came.
        let said = capture.fields("ntp.flags.mode == 1", ["ip.src", "ntp.org", "ntp.rec", "ntp.xmt"]);
        for from in ["10.9.0.1", "10.9.0.2"] {
            let is_interleaved = |[source, origin, ..]: &&[String; 4]| {
                source == from && said.iter().any(|[other, _, receive, _]| other != from && receive == origin)
            };
            let interleaved = said.iter().filter(is_interleaved).count();
            assert!(interleaved >= 4, "{from}: {interleaved} of {said:#?}");
        }
    }
}

#[test]
fn two_of_us_have_each_other_for_a_peer() {
    let Some(network) = Network::make("delay 5ms 1ms") else { return };
    let (ours, theirs) = (folder(), folder());
    let peer = |address: &str, key: u32| {
        format!(
            "[[server]]\naddress = \"{address}\"\npeer = true\nkey = {key}\nminpoll = 0\nmaxpoll = 1\n[serve]\nlisten = [\"0.0.0.0:123\"]\nallow = [\"10.9.0.0/24\"]\n"
        )
    };
    let _a = refclockd(&network, Machine::A, theirs.path(), &(peer("10.9.0.2", 6) + "[local]\nstratum = 3\n"));
    let _b = refclockd(&network, Machine::B, ours.path(), &peer("10.9.0.1", 6));
    wait_until("we use our peer", PATIENCE, || uses_its_server(&network, ours.path()));
    drop(_b);
    // Another key is another peer: nothing of it is believed.
    let _b = refclockd(&network, Machine::B, ours.path(), &peer("10.9.0.1", 5));
    std::thread::sleep(Duration::from_secs(8));
    assert!(!uses_its_server(&network, ours.path()));
}

/// NTPsec's `peer` asks as a client does, from port 123, and answers no peer: our client, on our peer's socket.
#[test]
fn a_peer_that_asks_like_a_client_is_answered() {
    let Some(network) = Network::make("") else { return };
    let (ours, theirs) = (folder(), folder());
    let lines = "peer 10.9.0.2 key 5 iburst minpoll 3 maxpoll 3\nrestrict default nomodify noquery";
    let Some(_ntpd) = ntpd(&network, Machine::A, theirs.path(), lines) else { return };
    let peer = "[[server]]\naddress = \"10.9.0.1\"\npeer = true\nkey = 5\nminpoll = 1\nmaxpoll = 2\n\
                [serve]\nlisten = [\"0.0.0.0:123\"]\nallow = [\"10.9.0.0/24\"]\n[local]\nstratum = 3\n";
    let _peer = refclockd(&network, Machine::B, ours.path(), peer);
    wait_until("ntpd follows us", PATIENCE, || {
        ntpq(&network, Machine::A, "-p").lines().any(|line| line.starts_with("*10.9.0.2"))
    });
}

#[test]
fn whole_networks_are_told_the_time_and_tshark_has_nothing_to_say() {
    // By a thread that answers, and by the one that decides.
    for workers in [1, 0] {
        let Some(network) = Network::make("") else { return };
        let (ours, theirs) = (folder(), folder());
        let Some(capture) = network.capture(Machine::B, theirs.path()) else { return };
        let sections = format!(
            "{SERVER}workers = {workers}\n[[broadcast]]\naddress = \"10.9.0.255\"\nkey = 5\ninterval = 1\n\
             [[broadcast]]\naddress = \"224.0.1.1\"\nttl = 3\ninterval = 1\nfrom = \"10.9.0.1\"\n"
        );
        let _server = refclockd(&network, Machine::A, ours.path(), &sections);
        std::thread::sleep(Duration::from_secs(6));
        let (found, warned) = capture.all("10.9.0.1", "ntp.flags.mode == 5 && udp.srcport == 123");
        let to = |address: &str| found.lines().filter(|line| line.contains(address)).count();
        assert!(to("10.9.0.255") >= 3 && to("224.0.1.1") >= 3, "{found} {}", log(ours.path(), "refclockd.log"));
        assert_eq!(warned, "");
    }
}

#[test]
fn a_broadcasting_chronyd_is_heard_measured_and_missed() {
    let Some(network) = Network::make("delay 5ms") else { return };
    let (ours, theirs) = (folder(), folder());
    let Some(capture) = network.capture(Machine::B, theirs.path()) else { return };
    let lines = "local stratum 2\nallow 10.9.0.0/24\nbroadcast 1 10.9.0.255";
    let Some((chronyd, _)) = chronyd(&network, Machine::A, theirs.path(), lines) else { return };
    let client = "[[broadcast_client]]\nunsigned = true\n[serve]\nlisten = [\"0.0.0.0:123\"]\n";
    let _client = refclockd(&network, Machine::B, ours.path(), client);
    // Its key is nobody's: chronyd signs no broadcasts.
    let other = folder();
    let signed = "[[broadcast_client]]\nkey = 5\n[serve]\nlisten = [\"127.0.0.1:123\"]\n";
    wait_until("we use whom we hear", PATIENCE, || {
        verdicts(&network, ours.path()) == [("10.9.0.1".to_owned(), "used".to_owned())]
    });
    wait_until("its way is measured", PATIENCE, || {
        log(ours.path(), "refclockd.log").lines().any(|line| line.ends_with("10.9.0.1:123 is heard"))
    });
    let (volley, warned) = capture.all("10.9.0.2", "ntp.flags.mode == 3");
    assert!(volley.lines().count() >= 5 && warned.is_empty(), "{volley} {warned}");
    // Nobody answers us from now on, and broadcasts alone keep the clock.
    drop(chronyd);
    wait_until("whoever is silent is no source", PATIENCE, || {
        verdicts(&network, ours.path()).iter().all(|(name, _)| name == "broadcasts")
    });
    drop(_client);
    let lines = "local stratum 2\nallow 10.9.0.0/24\nbroadcast 1 10.9.0.255";
    let Some((_chronyd, _)) = net_common::programs::chronyd(&network, Machine::A, theirs.path(), lines) else { return };
    let _client = refclockd(&network, Machine::B, other.path(), signed);
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(verdicts(&network, other.path()).len(), 1);
    assert_eq!(verdicts(&network, other.path())[0].0, "broadcasts");
}

#[test]
fn a_group_is_told_the_time_signed() {
    let Some(network) = Network::make("delay 5ms") else { return };
    let (ours, theirs, others) = (folder(), folder(), folder());
    let sections = format!(
        "{SERVER}[[broadcast]]\naddress = \"224.0.1.1\"\nkey = 5\ninterval = 1\nfrom = \"10.9.0.1\"\n\
         [[broadcast]]\naddress = \"10.9.0.255\"\nkey = 5\ninterval = 1\n\
         [[broadcast]]\naddress = \"[ff05::101]:123\"\nkey = 5\ninterval = 1\n"
    );
    let _server = refclockd(&network, Machine::A, theirs.path(), &sections);
    let listens = |address: &str, key: u32| format!("[[broadcast_client]]\naddress = \"{address}\"\nkey = {key}\n");
    let told = [("224.0.1.1", 5, true), ("224.0.1.1", 6, false), ("10.9.0.255", 5, true), ("ff05::101", 5, true)];
    for (address, key, used) in told {
        let folder = if used { &ours } else { &others };
        let client = refclockd(&network, Machine::B, folder.path(), &listens(address, key));
        if used {
            wait_until("we use whom we hear in the group", PATIENCE, || {
                // By IPv6 it is heard from whichever address of its link.
                let heard = verdicts(&network, folder.path());
                let is_it = |name: &str| name == "10.9.0.1" || address.contains(':') && name != address;
                matches!(&heard[..], [(name, word)] if is_it(name) && word == "used")
            });
        } else {
            std::thread::sleep(Duration::from_secs(6));
            assert_eq!(verdicts(&network, folder.path())[0].0, address);
        }
        drop(client);
    }
}

#[test]
fn whoever_serves_in_a_group_is_found_and_answers_once() {
    let Some(network) = Network::make("") else { return };
    let (ours, theirs) = (folder(), folder());
    let Some(capture) = network.capture(Machine::A, theirs.path()) else { return };
    let sections = "[local]\nstratum = 3\n[serve]\nlisten = [\"0.0.0.0:123\"]\nworkers = 2\nmulticast = [\"239.192.1.1\"]\n\
                    allow = [\"10.9.0.0/24\"]\n";
    let _server = refclockd(&network, Machine::A, theirs.path(), sections);
    std::thread::sleep(Duration::from_secs(1));
    let pool = "[[pool]]\naddress = \"239.192.1.1\"\nbind_address = \"10.9.0.2\"\nttl = 2\nkey = 6\niburst = true\n";
    let _client = refclockd(&network, Machine::B, ours.path(), pool);
    wait_until("we use whom we found", PATIENCE, || {
        verdicts(&network, ours.path()) == [("10.9.0.1".to_owned(), "used".to_owned())]
    });
    let (all, warned) = capture.everything("ntp.flags.mode == 3 || ntp.flags.mode == 4");
    let to = |from: &str, to: &str| all.lines().filter(|line| line.contains(&format!("{from} → {to}"))).count();
    let (asked, answered) = (to("10.9.0.2", "239.192.1.1") + to("10.9.0.2", "10.9.0.1"), to("10.9.0.1", "10.9.0.2"));
    assert!(to("10.9.0.2", "239.192.1.1") >= 1 && asked == answered, "{all}");
    assert_eq!(warned, "");
}

#[test]
fn addresses_come_and_go() {
    let Some(network) = Network::make("") else { return };
    let folder = folder();
    // Not there yet; what answers on another address does not wait for it.
    let sections =
        "[local]\nstratum = 3\n[serve]\nlisten = [\"10.9.0.7:123\", \"127.0.0.1:123\"]\nallow = [\"10.9.0.0/24\"]\n";
    let _server = refclockd(&network, Machine::A, folder.path(), sections);
    let asked = |machine, server: &str| {
        let mut query = network.on(machine, PROGRAM);
        query.args(["query", "--timeout", "1", server]).output().unwrap().status.success()
    };
    let address = |what: &str| {
        let mut command = network.on(Machine::A, "ip");
        assert!(command.args(["address", what, "10.9.0.7/24", "dev", "va"]).status().unwrap().success());
    };
    wait_until("it answers on the address that is there", PATIENCE, || asked(Machine::A, "127.0.0.1"));
    assert!(!asked(Machine::B, "10.9.0.7"));
    for _ in 0..2 {
        address("add");
        wait_until("it answers on the address that came", PATIENCE, || asked(Machine::B, "10.9.0.7"));
        address("del");
        assert!(!asked(Machine::B, "10.9.0.7") && asked(Machine::A, "127.0.0.1"));
    }
}

#[test]
fn we_follow_chronyd_signed_and_interleaved() {
    let Some(network) = Network::make("delay 5ms 1ms loss 5%") else { return };
    let (ours, theirs) = (folder(), folder());
    let capture = network.capture(Machine::B, theirs.path());
    let lines = "local stratum 2\nallow 10.9.0.0/24";
    let Some(_chronyd) = chronyd(&network, Machine::A, theirs.path(), lines) else { return };
    let server =
        "[[server]]\naddress = \"10.9.0.1\"\niburst = true\nkey = 6\nxleave = true\nminpoll = 0\nmaxpoll = 2\n";
    let _client = refclockd(&network, Machine::B, ours.path(), server);
    wait_until("we use chronyd", PATIENCE, || uses_its_server(&network, ours.path()));
    std::thread::sleep(Duration::from_secs(5));
    if let Some(capture) = capture {
        let (packets, warned) = capture.of("10.9.0.2");
        assert!(packets > 4 && warned.is_empty(), "{packets} packets; {warned}");
    }
}

#[test]
fn we_follow_ntpd_signed() {
    let Some(network) = Network::make("delay 5ms 1ms loss 5%") else { return };
    let (ours, theirs) = (folder(), folder());
    let lines = "tos orphan 5 orphanwait 1\nrestrict default nomodify noquery";
    let Some(_ntpd) = ntpd(&network, Machine::A, theirs.path(), lines) else { return };
    for (key, used) in [(5, true), (6, true)] {
        let server =
            format!("[[server]]\naddress = \"10.9.0.1\"\niburst = true\nkey = {key}\nminpoll = 1\nmaxpoll = 2\n");
        let _client = refclockd(&network, Machine::B, ours.path(), &server);
        wait_until("we use ntpd", PATIENCE, || uses_its_server(&network, ours.path()) == used);
    }
}

/// The bar of a network-only start: in the same run chronyd and we begin to follow the same server, and both
/// serve; who says first that it is synchronised?
#[test]
fn we_are_synchronised_within_ten_seconds_and_no_later_than_chronyd() {
    let Some(network) = Network::make("delay 2ms") else { return };
    let (ours, theirs, servers) = (folder(), folder(), folder());
    let Some(_server) = chronyd(&network, Machine::A, servers.path(), "local stratum 1\nallow 10.9.0.0/24") else {
        return;
    };
    let answers = |port: u16| {
        let host = format!("127.0.0.1:{port}");
        network.on(Machine::B, PROGRAM).args(["query", "--timeout", "1", &host]).output().unwrap().status.success()
    };
    let up = || network.on(Machine::B, PROGRAM).args(["query", "--timeout", "1", "10.9.0.1"]).output().unwrap();
    wait_until("the server answers", PATIENCE, || up().status.success());
    let begun = Instant::now();
    let lines = "server 10.9.0.1 iburst\nport 1123\nallow 127.0.0.1";
    let Some(_chronyd) = chronyd(&network, Machine::B, theirs.path(), lines) else { return };
    let server = "[[server]]\naddress = \"10.9.0.1\"\niburst = true\n[serve]\nlisten = [\"127.0.0.1:2123\"]\n";
    let _client = refclockd(&network, Machine::B, ours.path(), server);
    let (mut we, mut chronyd) = (None, None);
    while we.is_none() || chronyd.is_none() {
        we = we.or_else(|| answers(2123).then(|| begun.elapsed()));
        chronyd = chronyd.or_else(|| answers(1123).then(|| begun.elapsed()));
        assert!(begun.elapsed() < PATIENCE, "{we:?} {chronyd:?} {}", log(ours.path(), "refclockd.log"));
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("synchronised: we after {we:?}, chronyd after {chronyd:?}");
    assert!(we.unwrap() <= Duration::from_secs(10), "{we:?}");
    assert!(we.unwrap() <= chronyd.unwrap() + Duration::from_millis(500), "{we:?} {chronyd:?}");
}
