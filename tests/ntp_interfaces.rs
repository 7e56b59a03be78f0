//! Interfaces and their addresses come and go while NTP is served on them, by name and in groups.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod net_common;
mod ntp_common;

use std::path::Path;
use std::time::Duration;

use net_common::programs::{PATIENCE, PROGRAM, ask, folder, log, refclockd, verdicts};
use net_common::{Machine, Network, wait_until};

/// `ip` on a machine, which has to work.
fn ip(network: &Network, machine: Machine, what: &str) {
    assert!(network.on(machine, "ip").args(what.split(' ')).status().unwrap().success(), "ip {what}");
}

fn answers(network: &Network, server: &str) -> bool {
    let mut query = network.on(Machine::B, PROGRAM);
    query.args(["query", "--timeout", "1", server]).output().unwrap().status.success()
}

/// What `status` says of places where nobody is answered.
fn not_served(network: &Network, folder: &Path) -> Vec<String> {
    noticed(network, folder, "not_served")
}

fn noticed(network: &Network, folder: &Path, code: &str) -> Vec<String> {
    let status = ask(network, folder, "status");
    let notices = status["notices"].as_array().cloned().unwrap_or_default();
    let of = notices.iter().filter(|notice| notice["code"] == code);
    of.map(|notice| format!("{} {}", notice["text"].as_str().unwrap(), notice["action"].as_str().unwrap_or("")))
        .collect()
}

#[test]
fn an_interface_is_served_by_its_name_as_long_as_it_is_there() {
    for workers in [1, 0] {
        let Some(network) = Network::make("") else { return };
        let folder = folder();
        let sections = format!(
            "[local]\nstratum = 3\n[serve]\nlisten = [\"va\", \"vc\"]\nallow = [\"10.0.0.0/8\", \"fd00::/8\"]\nworkers = {workers}\n"
        );
        let _server = refclockd(&network, Machine::A, folder.path(), &sections);
        wait_until("it answers on the interface that is there", PATIENCE, || answers(&network, "10.9.0.1"));
        wait_until("in both families", PATIENCE, || answers(&network, "fd09::1"));
        // Only there.
        let loopback = network.on(Machine::A, PROGRAM).args(["query", "--timeout", "1", "127.0.0.1"]).output().unwrap();
        assert!(!loopback.status.success());
        wait_until("it says that it waits for the other", PATIENCE, || {
            // An IPv6 address is another one for a second or two.
            let said = not_served(&network, folder.path());
            let waits = "vc: this machine has no such interface, or it is down or has no address. It is waited for";
            said.len() == 1 && said[0].contains(waits)
        });
        for _ in 0..2 {
            ip(&network, Machine::A, "link add vc type veth peer name vd");
            ip(&network, Machine::A, "link set vd netns b");
            for (machine, address, device) in [(Machine::A, "10.7.0.1/24", "vc"), (Machine::B, "10.7.0.2/24", "vd")] {
                ip(&network, machine, &format!("address add {address} dev {device}"));
                ip(&network, machine, &format!("link set {device} up"));
            }
            wait_until("it answers on the interface that came", Duration::from_secs(10), || {
                answers(&network, "10.7.0.1")
            });
            wait_until("it says no more that it does not", PATIENCE, || not_served(&network, folder.path()).is_empty());
            // Another address of the same interface.
            ip(&network, Machine::A, "address add 10.9.0.8/24 dev va");
            wait_until("it answers on the address that came", Duration::from_secs(10), || {
                answers(&network, "10.9.0.8")
            });
            ip(&network, Machine::A, "address del 10.9.0.8/24 dev va");
            ip(&network, Machine::A, "link del vc");
            wait_until("it says that it does not", PATIENCE, || !not_served(&network, folder.path()).is_empty());
            assert!(answers(&network, "10.9.0.1"), "{}", log(folder.path(), "refclockd.log"));
        }
        let said = log(folder.path(), "refclockd.log");
        assert_eq!(said.matches("10.7.0.1:123 has come").count(), 2, "{said}");
        assert_eq!(said.matches("10.7.0.1:123 is gone").count(), 2, "{said}");
    }
}

#[test]
fn a_group_is_served_on_an_interface_that_comes_later() {
    let Some(network) = Network::make("") else { return };
    let (ours, theirs) = (folder(), folder());
    // None that carries multicast but loopback, which does not.
    ip(&network, Machine::A, "link set va down");
    let sections = "[local]\nstratum = 3\n[serve]\nlisten = [\"0.0.0.0:123\"]\nmulticast = [\"239.192.1.1\"]\nallow = [\"10.0.0.0/8\"]\n";
    let _server = refclockd(&network, Machine::A, theirs.path(), sections);
    wait_until("it says that nobody is answered in groups", PATIENCE, || {
        not_served(&network, theirs.path()).iter().any(|said| said.contains("0.0.0.0:123 in multicast groups"))
    });
    let pool = "[[pool]]\naddress = \"239.192.1.1\"\nbind_address = \"10.9.0.2\"\nkey = 6\niburst = true\n";
    let _client = refclockd(&network, Machine::B, ours.path(), pool);
    ip(&network, Machine::A, "link set va up");
    wait_until("whoever asks in the group finds it", PATIENCE, || {
        verdicts(&network, ours.path()) == [("10.9.0.1".to_owned(), "used".to_owned())]
    });
    assert_eq!(not_served(&network, theirs.path()), Vec::<String>::new());
}

#[test]
fn broadcasts_that_cannot_be_heard_are_told_of_with_the_next_step() {
    let Some(network) = Network::make("") else { return };
    let (ours, theirs) = (folder(), folder());
    // From an interface that comes later, too.
    ip(&network, Machine::A, "address del 10.9.0.1/24 dev va");
    let sections = "[local]\nstratum = 3\n[serve]\nlisten = [\"va\"]\nallow = [\"10.9.0.0/24\"]\n\
                    [[broadcast]]\naddress = \"10.9.0.255\"\nkey = 5\ninterval = 1\n";
    let _server = refclockd(&network, Machine::A, theirs.path(), sections);
    ip(&network, Machine::B, "address del 10.9.0.2/24 dev vb");
    let client = "[[broadcast_client]]\naddress = \"10.9.0.255\"\nkey = 5\n";
    let _client = refclockd(&network, Machine::B, ours.path(), client);
    let row = || ask(&network, ours.path(), "sources")["sources"][0].to_string();
    wait_until("it says that it hears nothing", PATIENCE, || {
        noticed(&network, ours.path(), "not_heard").iter().any(|said| {
            said.contains("Broadcasts to 10.9.0.255:123 are not heard: no interface has that network")
                && said.contains("tried again when an interface comes")
        })
    });
    assert!(row().contains("broadcasts to 10.9.0.255:123 are not heard"), "{}", row());
    ip(&network, Machine::A, "address add 10.9.0.1/24 brd + dev va");
    ip(&network, Machine::B, "address add 10.9.0.2/24 brd + dev vb");
    wait_until("it hears", Duration::from_secs(20), || {
        verdicts(&network, ours.path()) == [("10.9.0.1".to_owned(), "used".to_owned())]
    });
    assert_eq!(noticed(&network, ours.path(), "not_heard"), Vec::<String>::new());
    let said = log(ours.path(), "refclockd.log");
    assert!(said.contains("broadcasts to 10.9.0.255:123 can be heard now"), "{said}");
}
