//! Setting up a receiver through a real pseudo-terminal.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

use nix::pty::{OpenptyResult, openpty};
use refclocks::calendar::CivilTime;
use refclocks::shell::serial::{SerialConfig, run};
use refclocks::time::Timestamp;
use refclocks::{Report, nmea, receiver, ubx};

/// A u-blox 9 on a pty: it is asked for its version, then takes what is set, but for the survey, which it
/// does not have.
#[test]
fn a_receiver_is_set_up_through_the_port() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gps0");
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    std::os::unix::fs::symlink(nix::unistd::ttyname(&slave).unwrap(), &path).unwrap();
    let mut master = std::fs::File::from(master);
    nix::fcntl::fcntl(&master, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    let wishes = ubx::setup::Wishes { survey_in: Some(300) };
    let config = SerialConfig {
        path: path.to_str().unwrap().into(),
        baud: None,
        shared: false,
        receiver: receiver::Config { configure: Some(wishes), ..receiver::Config::default() },
    };
    let said = Rc::new(RefCell::new((None, false)));
    let inside = Rc::clone(&said);
    let shell = run(config, move |d| match d.report {
        Report::Remark(remark) => inside.borrow_mut().0 = Some(remark),
        Report::State(_) => inside.borrow_mut().1 = true,
        _ => {}
    });
    let mut set = Vec::new();
    let story = async {
        while !said.borrow().1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let at = CivilTime { year: 2026, month: 1, day: 1, hour: 0, minute: 0, second: 0, nanos: 0 };
        master.write_all(nmea::write::rmc("GP", &at, true).as_bytes()).unwrap();
        let mut framer = receiver::Framer::new(None);
        while said.borrow().0.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let mut buffer = [0; 512];
            let Ok(n) = master.read(&mut buffer) else { continue };
            let mut answers = Vec::new();
            framer.push(&buffer[..n], Timestamp::EPOCH, |frame| {
                let receiver::Content::Ubx(frame) = frame.content else { panic!("{frame:?}") };
                answers.push(match (frame.class, frame.id) {
                    (0x0a, 0x04) => {
                        let mut version = [0; 70];
                        version[40..53].copy_from_slice(b"PROTVER=27.31");
                        ubx::write::message(0x0a, 0x04, &version)
                    }
                    of => {
                        let survey = frame.payload.get(4..8) == Some(&0x2003_0001u32.to_le_bytes()[..]);
                        set.push(survey);
                        ubx::write::message(0x05, u8::from(!survey), &[of.0, of.1])
                    }
                });
            });
            master.write_all(&answers.concat()).unwrap();
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let patience = tokio::time::sleep(Duration::from_secs(20));
        tokio::select! { () = shell => unreachable!("a shell never ends"), () = story => {}, () = patience => {} }
    });
    assert_eq!(set.len(), 10, "{set:?}");
    let remark = said.borrow().0.clone().unwrap();
    assert_eq!(remark.to_string(), "setting up the receiver: it refuses survey-in");
}
