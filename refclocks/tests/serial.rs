//! The serial shell on real pseudo-terminals: present, hung up, back again, garbage.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::pty::{OpenptyResult, openpty};
use refclocks::calendar::CivilTime;
use refclocks::nmea::{self, write};
use refclocks::shell::serial::{SerialConfig, run};
use refclocks::time::{Span, Timestamp};
use refclocks::{DevicePhase, DeviceReason, Report};

struct Receiver {
    master: std::fs::File,
    _slave: std::os::fd::OwnedFd,
    second: i64,
}

impl Receiver {
    /// A pty whose other end is linked at `path`.
    fn plug_in(path: &Path) -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        let name = nix::unistd::ttyname(&slave).unwrap();
        let _ = std::fs::remove_file(path);
        std::os::unix::fs::symlink(name, path).unwrap();
        Self { master: master.into(), _slave: slave, second: 1_767_225_600 }
    }

    fn say_second(&mut self) {
        let at = CivilTime::from_utc(Timestamp::EPOCH + Span::from_whole_seconds(self.second));
        self.second += 1;
        self.master.write_all((write::rmc("GP", &at, true) + &write::gga("GP", &at, true, 8)).as_bytes()).unwrap();
    }
}

fn config(path: &Path) -> SerialConfig {
    SerialConfig { path: path.to_str().unwrap().into(), baud: None, nmea: nmea::Config::default() }
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
