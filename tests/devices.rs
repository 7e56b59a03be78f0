//! `refclockd run` on devices as they are: a PPS device that comes and goes, and the real gpsd by
//! each of its three ways out (JSON, shared memory, SOCK datagrams).
//!
//! Pulses come from a stand-in for the kernel's PPS device (`stand_ins/pps.c`), 25 ms after the
//! system's second: a served time that is 25 ms behind the system's can only come from them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;
mod run_common;

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::pty::openpty;
use ntp_common::peer;
use ntp_common::peers::Running;
use run_common::namespace::Namespace;
use run_common::stand_ins::{Pps, Ptp};
use run_common::{
    PROGRAM, Receiver, ask, daemon_by, end, free_port, query, receiver_on_a_pty, source, wait_for, wait_for_lock,
};

/// How late the pulses are, ns.
const OFFSET_NS: i64 = 25_000_000;
/// Patience for all that takes a few seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The served time becomes the pulses', not the system's and not the messages'.
fn wait_for_the_pulses_time(folder: &Path, port: u16) {
    wait_for(folder, "pulses' time", PATIENCE, || {
        let answer = query(port)?;
        let offset = answer["servers"][0]["offset_s"].as_f64().unwrap();
        // What the machine's load does to a query is in the distance; one that says little is asked again.
        let slack = answer["servers"][0]["root_distance_s"].as_f64().unwrap() + 1e-3;
        (slack < 0.01 && (offset - OFFSET_NS as f64 / 1e9).abs() < slack).then_some(())
    });
}

#[test]
fn a_pulse_comes_and_goes_and_the_daemon_stays() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some(pps) = Pps::build(folder, "/dev/pps-stand-in", OFFSET_NS) else { return };
    let pty = openpty(None, None).unwrap();
    let path = nix::unistd::ttyname(&pty.slave).unwrap();
    let _receiver = Receiver::start(File::from(pty.master));
    let sources = format!(
        "[[refclock]]\ndriver = \"nmea\"\ndevice = \"{}\"\n\
         [[refclock]]\ndriver = \"pps\"\ndevice = \"{}\"\nkernel_consumer = true\n",
        path.display(),
        pps.path
    );
    let mut program = Command::new(PROGRAM);
    pps.show_to(&mut program);
    let (mut daemon, port) = daemon_by(program, folder, &sources);
    let pulses = |entry: &serde_json::Value| entry["health"]["pulses"].as_u64().unwrap();

    let before = wait_for_lock(folder, "PPS", PATIENCE);
    wait_for_the_pulses_time(folder, port);
    // Nobody told it which edge; and what cannot be had is told and done without.
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    for said in ["PPS: its assert edge begins the pulse", "PPS: the kernel's own discipline does not get the pulse: "] {
        assert!(log.contains(said), "{said}\n{log}");
    }

    pps.unplug();
    let gone = wait_for(folder, "word of the missing device", PATIENCE, || {
        source(folder, "PPS").filter(|s| s["device"]["phase"] == "absent")
    });
    assert!(gone["device"]["reason"].as_str().unwrap().contains(pps.path), "{gone}");
    // Then the path is gone as well, and there is something that a person can do about it.
    wait_for(folder, "advice", PATIENCE, || source(folder, "PPS").filter(|s| s["device"]["action"].is_string()));
    // It says so, and goes on serving what it has.
    let about = wait_for(folder, "end of its use", PATIENCE, || {
        let why = ask(folder, &["why"])?;
        why["sources"].as_array().unwrap().iter().find(|s| s["name"] == "PPS" && s["used"] == false).cloned()
    });
    assert!(about.to_string().contains(pps.path), "{about}");
    assert_ne!(ask(folder, &["status"]).unwrap()["state"], "locked");
    assert!(query(port).is_some());

    pps.plug_in();
    let after = wait_for(folder, "fresh pulses", PATIENCE, || {
        let entry = wait_for_lock(folder, "PPS", PATIENCE);
        (pulses(&entry) > pulses(&before) + 3).then_some(entry)
    });
    assert!(after["health"]["opened"].as_u64().unwrap() >= 2, "{after}");
    wait_for_the_pulses_time(folder, port);
    assert!(daemon.0.try_wait().unwrap().is_none());
    assert_eq!(end(daemon), Some(0));
}

#[test]
fn a_hardware_clock_is_read_in_each_of_its_ways() {
    let folder = tempfile::tempdir().unwrap();
    let Some(ptp) = Ptp::build(folder.path()) else { return };
    // It keeps TAI, of a true time that the machine's is 25 ms ahead of.
    let ahead_ns = 37_000_000_000 - OFFSET_NS;
    let sources = format!("[[refclock]]\ndriver = \"phc\"\ndevice = \"{}\"\n", ptp.path);
    let daemons = ["peb", "eb", "b"].map(|ways| {
        let folder = folder.path().join(ways);
        std::fs::create_dir(&folder).unwrap();
        let mut program = Command::new(PROGRAM);
        ptp.show_to(&mut program, ahead_ns, 0, ways);
        let (daemon, port) = daemon_by(program, &folder, &sources);
        (folder, daemon, port)
    });
    for (folder, daemon, port) in daemons {
        wait_for_lock(&folder, "PHC", PATIENCE);
        wait_for_the_pulses_time(&folder, port);
        assert_eq!(end(daemon), Some(0));
    }
}

#[test]
fn a_pulse_on_an_input_of_a_hardware_clock_needs_no_time_there() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some(ptp) = Ptp::build(folder) else { return };
    let (_receiver, messages) = receiver_on_a_pty();
    let sources = |pin| {
        format!(
            "[[refclock]]\ndriver = \"nmea\"\ndevice = \"{}\"\n\
             [[refclock]]\ndriver = \"phc\"\ndevice = \"{}\"\ninput = 0\npin = {pin}\n",
            messages.display(),
            ptp.path
        )
    };
    // Nobody has ever set it.
    let show = |program: &mut Command| ptp.show_to(program, -1_700_000_000_123_456_789, OFFSET_NS, "eb");
    let mut program = Command::new(PROGRAM);
    show(&mut program);
    let (daemon, port) = daemon_by(program, folder, &sources(3));
    wait_for_lock(folder, "PPS", PATIENCE);
    wait_for_the_pulses_time(folder, port);
    assert_eq!(end(daemon), Some(0));
    // Another pin cannot be that input: said, and nothing worse.
    let mut program = Command::new(PROGRAM);
    show(&mut program);
    let (daemon, _) = daemon_by(program, folder, &sources(1));
    let faulty = wait_for(folder, "word of the pin", PATIENCE, || {
        source(folder, "PPS").filter(|s| s["device"]["phase"] == "faulty")
    });
    assert!(faulty["device"]["reason"].as_str().unwrap().contains("a clock with that input or pin"), "{faulty}");
    assert_eq!(end(daemon), Some(0));
}

#[test]
fn gpsds_pulses_come_by_three_ways_and_survive_its_death() {
    let Some(gpsd) = peer("REFCLOCKD_GPSD", "gpsd") else { return };
    let Some(namespace) = Namespace::make() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some(pps) = Pps::build(folder, "/dev/pps0", OFFSET_NS) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let feed = listener.local_addr().unwrap();
    let receivers = std::thread::spawn(move || {
        // One receiver for each gpsd that connects.
        (0..2).map(|_| Receiver::start(listener.accept().unwrap().0)).collect::<Vec<_>>()
    });

    let port = free_port();
    // gpsd is root as far as it can see, and such a gpsd looks for SOCK sockets in /run.
    let shm = |unit: u8, name| format!("[[refclock]]\ndriver = \"shm\"\nunit = {unit}\nname = \"{name}\"\n");
    let ways = [
        ("GPS-pulse", format!("[[refclock]]\ndriver = \"gpsd\"\naddress = \"localhost:{port}\"\n")),
        ("shm-pulse", shm(0, "shm-message") + &shm(1, "shm-pulse")),
        (
            "sock-pulse",
            "[[refclock]]\ndriver = \"sock\"\npath = \"/run/chrony.pps0.sock\"\npulse = true\nname = \"sock-pulse\"\n"
                .into(),
        ),
    ];
    let start_daemon = |(pulse, sources): &(&'static str, String)| {
        let folder = folder.join(pulse);
        std::fs::create_dir(&folder).unwrap();
        let (daemon, ntp) = daemon_by(namespace.command(PROGRAM), &folder, sources);
        // gpsd looks for the socket once, when it starts.
        wait_for(&folder, "answer", PATIENCE, || ask(&folder, &["sources"]));
        (folder, *pulse, daemon, ntp)
    };
    let daemons: Vec<_> = ways.iter().map(start_daemon).collect();

    let start = || {
        let mut command = namespace.command(&gpsd);
        pps.show_to(&mut command);
        command.args(["-N", "-n", "-b", "-S", &port.to_string(), &format!("tcp://{feed}"), pps.path]);
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let first = start();
    let mut samples = Vec::new();
    for (folder, pulse, _, ntp) in &daemons {
        samples.push(wait_for_lock(folder, pulse, PATIENCE)["samples"].as_u64().unwrap());
        wait_for_the_pulses_time(folder, *ntp);
    }
    // nsenter and the wrapper that finds gpsd's libraries both exec, so this is gpsd itself.
    drop(first);
    for (folder, pulse, ..) in &daemons {
        wait_for(folder, "word of gpsd's death", PATIENCE, || {
            source(folder, pulse).filter(|s| s["device"]["phase"] != "good")
        });
    }
    let _second = start();
    for ((folder, pulse, _, ntp), before) in daemons.iter().zip(samples) {
        wait_for(folder, "fresh pulses", PATIENCE, || {
            let entry = wait_for_lock(folder, pulse, PATIENCE);
            (entry["samples"].as_u64().unwrap() > before + 3).then_some(())
        });
        wait_for_the_pulses_time(folder, *ntp);
    }
    for (_, _, daemon, _) in daemons {
        assert_eq!(end(daemon), Some(0));
    }
    drop(receivers.join());
}
