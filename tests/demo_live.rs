//! The demo as a newcomer starts it: a live view on a terminal, other terminals that ask it, and a
//! key that ends it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;
mod run_common;

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use ntp_common::peers::Running;
use run_common::{PROGRAM, ask, free_port, wait_until};

#[test]
fn a_terminal_shows_it_and_others_may_ask() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).unwrap();
    let terminal = || Stdio::from(pty.slave.try_clone().unwrap());
    let ntp = format!("127.0.0.1:{}", free_port());
    let child = Command::new(PROGRAM)
        .args(["demo", "--ntp", &ntp, "--socket"])
        .arg(&socket)
        .env("TERM", "xterm-256color")
        .env("LANG", "C.UTF-8")
        .env_remove("LC_ALL")
        .stdin(terminal())
        .stdout(terminal())
        .stderr(terminal())
        .spawn()
        .unwrap();
    let mut demo = Running(child);
    drop(pty.slave);
    let mut keyboard = File::from(pty.master.try_clone().unwrap());
    let mut screen = File::from(pty.master);
    let shown = std::thread::spawn(move || {
        let mut shown = Vec::new();
        // A pty whose other end is closed gives an error, not an end.
        let _ = screen.read_to_end(&mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    });
    wait_until("the control socket", Duration::from_secs(10), || socket.exists());
    wait_until("locked", Duration::from_secs(60), || {
        ask(folder.path(), &["status"]).is_some_and(|status| status["state"] == "locked")
    });
    for (verb, said) in [
        (vec!["status"], "Locked"),
        (vec!["sources"], "names second"),
        (vec!["why", "pps"], "PPS is used"),
        (vec!["satellites"], "3D fix"),
    ] {
        let Output { status, stdout, .. } =
            Command::new(PROGRAM).args(&verb).arg("--socket").arg(&socket).output().unwrap();
        let text = String::from_utf8_lossy(&stdout);
        assert!(status.success() && text.contains(said), "{verb:?}: {text}");
    }
    let answer = Command::new(PROGRAM).args(["query", "--json", &ntp]).output().unwrap();
    assert!(answer.status.success(), "{answer:?}");
    keyboard.write_all(b"q").unwrap();
    let mut code = None;
    wait_until("the end after `q`", Duration::from_secs(10), || {
        code = demo.0.try_wait().unwrap();
        code.is_some()
    });
    assert_eq!(code.unwrap().code(), Some(0));
    let shown = shown.join().unwrap();
    for part in ["\x1b[?1049h", "True error", "Sources (2)", "Receiver", "What happened", "\x1b[?1049l"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(shown.contains("gps-hat, seed 1:"), "the result is printed once the terminal is given back: {shown}");
    assert!(!socket.exists());
}

#[test]
fn without_a_terminal_it_prints_lines() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(PROGRAM)
        .args(["demo", "--duration", "3s", "--scenario", "nmea-only", "--ntp"])
        .arg(format!("127.0.0.1:{}", free_port()))
        .arg("--socket")
        .arg(folder.path().join("api.sock"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !text.contains('\x1b'), "{text}");
    assert!(
        text.contains("Not synchronised, time unknown, not serving") && text.contains("nmea-only, seed 1"),
        "{text}"
    );
}

#[test]
fn who_asks_where_nobody_is_gets_told() {
    let output = Command::new(PROGRAM).args(["status", "--socket", "/nonexistent/api.sock"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69));
    assert!(said.contains("no daemon answers on /nonexistent/api.sock"), "{said}");
}
