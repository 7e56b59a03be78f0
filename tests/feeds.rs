//! The real chronyd, told by us through shared memory and through its SOCK: it finds the system's clock
//! wrong by what the pulses say, and never touches it.
//!
//! Pulses come from a stand-in for the kernel's PPS device, 25 ms after the system's second, and its
//! messages name the second.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;
mod run_common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ntp_common::peer;
use ntp_common::peers::Running;
use run_common::namespace::Namespace;
use run_common::stand_ins::Pps;
use run_common::{PROGRAM, ask, daemon_by, end, receiver_on_a_pty, wait_for, wait_for_lock};

/// How late the pulses are, ns.
const OFFSET_NS: i64 = 25_000_000;
/// Patience for all that takes a few seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// What chronyd's log of its refclocks says of one: the raw offsets (what to add to the system's clock, s) of
/// single samples, and how many filtered ones it made of them.
fn logged(folder: &Path, refid: &str) -> (Vec<f64>, usize) {
    let log = std::fs::read_to_string(folder.join("refclocks.log")).unwrap_or_default();
    let lines = log.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours: Vec<Vec<&str>> = lines.filter(|fields| fields.get(2) == Some(&refid)).collect();
    let filtered = ours.iter().filter(|fields| fields.get(3) == Some(&"-")).count();
    (ours.iter().filter_map(|fields| fields.get(6)?.parse().ok()).collect(), filtered)
}

#[test]
fn chronyd_has_the_time_from_us_by_shared_memory_and_by_its_socket() {
    let Some(chronyd) = peer("REFCLOCKD_CHRONYD", "chronyd") else { return };
    let Some(namespace) = Namespace::make() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some(pps) = Pps::build(folder, "/dev/pps-stand-in", OFFSET_NS) else { return };
    let (_receiver, messages) = receiver_on_a_pty();
    let socket = folder.join("chrony.sock");
    let sources = format!(
        "[[refclock]]\ndriver = \"nmea\"\ndevice = \"{}\"\n[[refclock]]\ndriver = \"pps\"\ndevice = \"{}\"\n\
         [[feed]]\ndriver = \"shm\"\nunit = 2\nsource = \"PPS\"\n[[feed]]\ndriver = \"sock\"\npath = \"{}\"\n",
        messages.display(),
        pps.path,
        socket.display()
    );
    // Preloaded by the program that it execs as well: `env` sets what reaches only the daemon.
    let mut stand_in = Command::new("env");
    pps.show_to(&mut stand_in);
    let mut program = namespace.command("env");
    for (name, value) in stand_in.get_envs() {
        program.arg(format!("{}={}", name.to_str().unwrap(), value.unwrap().to_str().unwrap()));
    }
    program.arg(PROGRAM);
    let (daemon, _) = daemon_by(program, folder, &sources);
    wait_for_lock(folder, "PPS", PATIENCE);

    let log = || std::fs::read_to_string(folder.join("log")).unwrap();
    let configuration = format!(
        "refclock SHM 2 refid MEM poll 1\nrefclock SOCK {} refid SOCK poll 1\nlog refclocks\nlogdir {1}\n\
         cmdport 0\nbindcmdaddress /\npidfile {1}/pid\n",
        socket.display(),
        folder.display()
    );
    std::fs::write(folder.join("chrony.conf"), configuration).unwrap();
    let mut command = namespace.command(&chronyd);
    command.args(["-x", "-d", "-u", "root", "-f"]).arg(folder.join("chrony.conf"));
    let chronyd = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    for refid in ["MEM", "SOCK"] {
        let offsets = wait_for(folder, "samples in chronyd", PATIENCE, || {
            let (offsets, filtered) = logged(folder, refid);
            (offsets.len() >= 6 && filtered >= 2).then_some(offsets)
        });
        let wrong = |offset: &f64| (offset + OFFSET_NS as f64 / 1e9).abs();
        let worst = offsets.iter().map(wrong).fold(0.0, f64::max);
        println!("chronyd: {} samples of {refid}, none further than {worst:.1e} s from the pulses", offsets.len());
        assert!(worst < 1e-3, "{refid}: {offsets:?}\n{}", log());
    }
    let status = ask(folder, &["status"]).unwrap();
    let feeds = status["feeds"].as_array().unwrap();
    assert_eq!(feeds.len(), 2, "{status}");
    assert!(feeds.iter().all(|feed| feed["told"] == true && feed["tellings"].as_u64().unwrap() >= 6), "{status}");
    assert_eq!((&feeds[0]["address"], &feeds[0]["source"]), (&"SHM(2)".into(), &"PPS".into()));
    drop(chronyd);
    // It said so while no chronyd was there, and when one was.
    for said in ["SHM(2) is told PPS", "is not told our clock's time: nobody listens at", "is told our clock's time"] {
        assert!(log().contains(said), "{said}\n{}", log());
    }
    assert_eq!(end(daemon), Some(0));
}
