//! The serial shell on real pseudo-terminals: present, hung up, back again, garbage.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod outside;

use std::cell::RefCell;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, openpty};
use outside::folder;
use refclocks::calendar::{CivilTime, parse_iso8601};
use refclocks::nmea::write;
use refclocks::receiver;
use refclocks::shell::serial::{SerialConfig, run};
use refclocks::time::{Span, Timestamp};
use refclocks::{DevicePhase, DeviceReason, Report};

struct Receiver {
    master: std::fs::File,
    _slave: std::os::fd::OwnedFd,
    path: PathBuf,
    second: i64,
}

impl Drop for Receiver {
    /// The link goes first: the number of its pty may be another test's in a moment.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Receiver {
    /// A pty whose other end is linked at `path`.
    fn plug_in(path: &Path) -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        let name = nix::unistd::ttyname(&slave).unwrap();
        let _ = std::fs::remove_file(path);
        std::os::unix::fs::symlink(name, path).unwrap();
        Self { master: master.into(), _slave: slave, path: path.into(), second: 1_767_225_600 }
    }

    fn say_second(&mut self) {
        let at = CivilTime::from_utc(Timestamp::EPOCH + Span::from_whole_seconds(self.second));
        self.second += 1;
        self.master.write_all((write::rmc("GP", &at, true) + &write::gga("GP", &at, true, 8)).as_bytes()).unwrap();
    }
}

fn config(path: &Path) -> SerialConfig {
    SerialConfig {
        path: path.to_str().unwrap().into(),
        baud: None,
        shared: false,
        receiver: receiver::Config::default(),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_receiver_comes_goes_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gps0");
    let reports = Rc::new(RefCell::new(Vec::new()));
    runtime().block_on(async {
        let seen = Rc::clone(&reports);
        let shell = run(config(&path), move |d| seen.borrow_mut().push((Instant::now(), d.report)));
        let story = async {
            let pause = |ms| tokio::time::sleep(Duration::from_millis(ms));
            pause(1300).await;
            let plugged = Instant::now();
            let mut receiver = Receiver::plug_in(&path);
            pause(2100).await;
            for _ in 0..5 {
                receiver.say_second();
                pause(10).await;
            }
            drop(receiver);
            pause(300).await;
            let mut receiver = Receiver::plug_in(&path);
            pause(2100).await;
            for _ in 0..5 {
                receiver.say_second();
                pause(10).await;
            }
            plugged
        };
        tokio::select! {
            () = shell => unreachable!("a shell never ends"),
            plugged = story => {
                let opened = reports.borrow().iter().find_map(|(at, r)| match r {
                    Report::State(s) if s.phase == DevicePhase::Opening => Some(*at),
                    _ => None,
                });
                assert!(opened.unwrap() - plugged < Duration::from_secs(2));
            }
        }
    });
    let phases: Vec<DevicePhase> = reports
        .borrow()
        .iter()
        .filter_map(|(_, r)| if let Report::State(s) = r { Some(s.phase) } else { None })
        .collect();
    use DevicePhase::{Absent, Good, Opening};
    assert_eq!(phases, [Absent, Opening, Good, Absent, Opening, Good]);
    let samples = reports.borrow().iter().filter(|(_, r)| matches!(r, Report::Sample(_))).count();
    assert_eq!(samples, 6, "three of five cycles each time");
    let first = reports.borrow().first().map(|(_, r)| r.clone());
    assert!(matches!(first, Some(Report::State(s)) if matches!(s.reason, DeviceReason::NoSuchDevice { .. })));
}

/// Receivers that appear are attached within 2 s, however long they were away; it is printed how soon.
#[test]
fn a_receiver_that_appears_is_attached_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gps0");
    let opened = Rc::new(RefCell::new(Vec::new()));
    let waits = runtime().block_on(async {
        let seen = Rc::clone(&opened);
        let shell = run(config(&path), move |d| {
            if let Report::State(s) = d.report
                && s.phase == DevicePhase::Opening
            {
                seen.borrow_mut().push(Instant::now());
            }
        });
        let story = async {
            let mut waits = Vec::new();
            for away in [300, 2000, 900, 3100, 1700] {
                tokio::time::sleep(Duration::from_millis(away)).await;
                let (plugged, before) = (Instant::now(), opened.borrow().len());
                let receiver = Receiver::plug_in(&path);
                while opened.borrow().len() == before {
                    assert!(plugged.elapsed() < Duration::from_secs(20), "never attached");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                let at = opened.borrow().last().copied().unwrap();
                waits.push(at - plugged);
                drop(receiver);
            }
            waits
        };
        tokio::select! {
            () = shell => unreachable!("a shell never ends"),
            waits = story => waits,
        }
    });
    println!("attached after {waits:.0?}");
    assert!(waits.iter().all(|wait| *wait < Duration::from_secs(2)), "{waits:?}");
}

#[test]
fn garbage_and_other_files_are_faulty_not_fatal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gps0");
    let mut receiver = Receiver::plug_in(&path);
    let states = Rc::new(RefCell::new(Vec::new()));
    runtime().block_on(async {
        let seen = Rc::clone(&states);
        let shell = run(config(&path), move |d| {
            assert!(!matches!(d.report, Report::Sample(_)));
            if let Report::State(s) = d.report {
                seen.borrow_mut().push(s.reason);
            }
        });
        let story = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            for _ in 0..10 {
                receiver.master.write_all(&[0xaa, 0x55, 0xf0, b'$', 0x00, 0x81].repeat(20)).unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { () = shell => {}, () = story => {} }
    });
    assert!(matches!(states.borrow().last(), Some(DeviceReason::Garbage { .. })), "{states:?}");
}

/// Is there anything that the port's reader has not taken yet?
fn is_unread(receiver: &Receiver) -> bool {
    let mut fds = [PollFd::new(receiver._slave.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() > 0
}

/// Real receivers' captures: `(file, bytes of a chunk)`. NMEA; UBX among NMEA; UBX alone;
/// sentences cut into by others; broken ones.
const CAPTURES: [(&str, usize); 6] = [
    ("mt3339.log", 64),
    ("ublox-zed-f9t-ubx_nmea_l5.log", 997),
    ("u-blox-m8t-time.log", 256),
    ("isync.log", 7),
    ("gp-320fw-2019-04-06-overflow.log", 100),
    ("unicore-um621.log", 512),
];

#[test]
fn captures_come_through_a_port_as_they_come_from_a_file() {
    let Some(captures) = folder("REFCLOCKD_CAPTURES") else { return };
    let settings = receiver::Config {
        not_before: parse_iso8601("2025-07-01T00:00:00Z").unwrap().0,
        ..receiver::Config::default()
    };
    let mut with_samples = 0;
    for (file, chunk) in CAPTURES {
        let bytes = std::fs::read(captures.join(file)).unwrap();
        // Which seconds are read does not depend on when; only their stamps do.
        let mut driver = receiver::Driver::new(settings);
        let mut expected = Vec::new();
        for (i, part) in bytes.chunks(chunk).enumerate() {
            driver.handle_bytes(part, Timestamp::from_nanos(i as i64 * 1_000_000));
        }
        while let Some(report) = driver.poll_report() {
            if let Report::Sample(sample) = report {
                expected.push(sample.reference);
            }
        }
        with_samples += u32::from(!expected.is_empty());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gps0");
        let receiver = Receiver::plug_in(&path);
        nix::fcntl::fcntl(&receiver.master, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        let seen = Rc::new(RefCell::new((Vec::new(), 0, false)));
        let inside = Rc::clone(&seen);
        let config = SerialConfig { receiver: settings, ..config(&path) };
        let shell = run(config, move |d| {
            let (samples, read, opened) = &mut *inside.borrow_mut();
            *read = d.health.bytes;
            match d.report {
                Report::Sample(sample) => samples.push(sample.reference),
                Report::State(state) => *opened |= state.phase == DevicePhase::Opening,
                _ => {}
            }
        });
        let story = async {
            // What is written before the port is opened may be thrown away.
            while !seen.borrow().2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            for part in bytes.chunks(chunk) {
                let mut left = part;
                while !left.is_empty() {
                    // A pty holds 4 kB; what does not fit waits until the shell has read.
                    match (&receiver.master).write(left) {
                        Ok(n) => left = &left[n..],
                        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                        Err(e) => panic!("{file}: {e}"),
                    }
                    tokio::task::yield_now().await;
                }
                // Two cycles in one read are a reader that was held up, which is another story.
                while is_unread(&receiver) {
                    // Other tests need the processor as well.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            let until = Instant::now() + Duration::from_secs(20);
            while seen.borrow().0.len() < expected.len() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // And none too many.
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        runtime().block_on(async {
            tokio::select! { () = shell => unreachable!("a shell never ends"), () = story => {} }
        });
        let (samples, read, _) = &*seen.borrow();
        println!(
            "{file}: {} bytes in parts of {chunk}, {} samples; {read} bytes at the last report",
            bytes.len(),
            samples.len()
        );
        assert_eq!(*samples, expected, "{file}");
    }
    assert!(with_samples >= 3, "{with_samples}");
}
