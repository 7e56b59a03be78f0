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
use refclocks::ubx::Frame;
use refclocks::ubx::setup::{Position, Timing, Wishes};
use refclocks::ubx::write::message;
use refclocks::{Report, nmea, receiver};

mod simulated_ublox;

use simulated_ublox::Receiver;

/// A u-blox 9 on a pty: it takes what is set, but for the position, which it acknowledges and does not keep.
#[test]
fn a_receiver_is_set_up_through_the_port() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gps0");
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    std::os::unix::fs::symlink(nix::unistd::ttyname(&slave).unwrap(), &path).unwrap();
    let mut master = std::fs::File::from(master);
    nix::fcntl::fcntl(&master, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    let at = Position::geodetic(47.285_233, 8.565_265, 440.12);
    let wishes = Wishes { baud: None, timing: Some(Timing::Fixed { at, accuracy: 100 }) };
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
    let mut ublox = Receiver::new(27);
    ublox.ignores = vec![0x4003_0009];
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
            let mut answers: Vec<Vec<u8>> = Vec::new();
            framer.push(&buffer[..n], Timestamp::EPOCH, |frame| {
                let receiver::Content::Ubx(frame) = frame.content else { panic!("{frame:?}") };
                answers.extend(ublox.hears(&message(frame.class, frame.id, frame.payload)));
            });
            master.write_all(&answers.concat()).unwrap();
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let patience = tokio::time::sleep(Duration::from_secs(20));
        tokio::select! { () = shell => unreachable!("a shell never ends"), () = story => {}, () = patience => {} }
    });
    assert_eq!(ublox.sets, 10);
    assert_eq!(ublox.keys.get(&0x2091_0007), Some(&1));
    let remark = said.borrow().0.clone().unwrap();
    assert_eq!(
        remark.to_string(),
        "setting up the receiver: it is set up but for position (acknowledged, and set otherwise)"
    );
}
