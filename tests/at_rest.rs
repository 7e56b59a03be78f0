//! What the daemon costs while nothing but one message and one pulse a second happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;
mod run_common;

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use run_common::{ask, daemon, end, receiver_on_a_pty, wait_for_time, wait_until};

const MEASURED: Duration = Duration::from_secs(15);

/// Voluntary context switches of all threads so far.
fn switches(process: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).ok())
        .map(|status| field(&status, "voluntary_ctxt_switches:"))
        .sum()
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {status}"));
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One pulse a second as gpsd would send it, from a thread that ends with the test.
fn pulses(socket: &Path) {
    let socket = socket.to_owned();
    std::thread::spawn(move || {
        let out = UnixDatagram::unbound().unwrap();
        loop {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let second = now.as_secs() + 1;
            std::thread::sleep(Duration::from_secs(second) - now + Duration::from_millis(1));
            let mut datagram = Vec::new();
            // struct sock_sample: the local time of the pulse, true - local, and "SOCK".
            datagram.extend((second as i64).to_ne_bytes());
            datagram.extend(0i64.to_ne_bytes());
            datagram.extend(0f64.to_ne_bytes());
            for word in [0i32, 0, 0, 0x534f_434b] {
                datagram.extend(word.to_ne_bytes());
            }
            let _ = out.send_to(&datagram, &socket);
        }
    });
}

#[test]
fn at_rest_the_daemon_hardly_wakes_and_is_small() {
    let folder = tempfile::tempdir().unwrap();
    let (_receiver, tty) = receiver_on_a_pty();
    let socket = folder.path().join("pulse.sock");
    pulses(&socket);
    let sources = format!(
        "[[refclock]]\ndriver = \"nmea\"\ndevice = \"{}\"\n[[refclock]]\ndriver = \"sock\"\nname = \"PPS\"\npulse = true\npath = \"{}\"\n",
        tty.display(),
        socket.display()
    );
    let (daemon, port) = daemon(folder.path(), &sources);
    wait_for_time(port, Duration::from_secs(20));
    wait_until("locked", Duration::from_secs(60), || ask(folder.path(), &["status"]).unwrap()["state"] == "locked");
    let process = daemon.0.id();
    // The last question's own wake-ups are over.
    std::thread::sleep(Duration::from_secs(2));
    let before = switches(process);
    std::thread::sleep(MEASURED);
    let per_second = (switches(process) - before) as f64 / MEASURED.as_secs_f64();
    let memory = field(&std::fs::read_to_string(format!("/proc/{process}/status")).unwrap(), "RssAnon:");
    println!("{per_second:.1} voluntary context switches a second, RssAnon {memory} kB");
    assert!(per_second <= 10.0, "{per_second} voluntary context switches a second");
    assert!(memory <= 8 * 1024, "RssAnon {memory} kB");
    assert_eq!(end(daemon), Some(0));
}
