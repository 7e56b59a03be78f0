//! The operator's commands, reload and pools, with the daemon as its users start it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;
mod run_common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use ntp_common::peers::{Running, refused};
use ntp_common::{handle, made_up_snapshot, serve};
use refclockd::core::snapshot::Snapshot;
use refclockd::ntp::access::Access;
use refclockd::ntp::served::Served;
use refclockd::ntp::worker::{self, Workers};
use refclocks::time::Span;
use run_common::{PROGRAM, ask, daemon, daemon_by, end, free_port, query, source, wait_for, wait_until};
use serde_json::Value;

/// Patience for all that takes a few seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Commands the daemon of this folder: exit code, and the answer as JSON.
fn set(folder: &Path, words: &[&str]) -> (i32, Value) {
    let mut command = Command::new(PROGRAM);
    command.arg("set").args(words).arg("--json").arg("--socket").arg(folder.join("api.sock"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap(), serde_json::from_str(&said).unwrap_or_else(|_| panic!("{words:?}: {output:?}")))
}

/// A server on a loopback address of its own.
fn loopback_server(last: u8) -> (Workers, String) {
    let workers = serve(&format!("127.0.0.{last}:0"), made_up_snapshot(), 1);
    let section = server_section(workers.address().ip().to_string(), workers.address().port());
    (workers, section)
}

fn server_section(address: impl std::fmt::Display, port: u16) -> String {
    format!("[[server]]\naddress = \"{address}\"\nport = {port}\niburst = true\nminpoll = 0\nmaxpoll = 2\n")
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap()
}

fn state(folder: &Path) -> Option<String> {
    Some(ask(folder, &["status"])?["state"].as_str()?.to_owned())
}

fn verdict(folder: &Path, name: &str) -> Option<String> {
    Some(source(folder, name)?["verdict"]["code"].as_str()?.to_owned())
}

fn names(folder: &Path) -> Vec<String> {
    let Some(report) = ask(folder, &["sources"]) else { return Vec::new() };
    report["sources"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect()
}

/// Writes the daemon's configuration anew with these sources; what else it says stays.
fn rewrite(folder: &Path, sources: &str) {
    let file = folder.join("refclockd.toml");
    let text = fs::read_to_string(&file).unwrap();
    let rest = text.find("[serve]").map_or("", |at| &text[at..]);
    fs::write(file, format!("{sources}\n{rest}")).unwrap();
}

fn hang_up(daemon: &Running) {
    kill(Pid::from_raw(daemon.0.id() as i32), Signal::SIGHUP).unwrap();
}

#[test]
fn servers_go_offline_come_back_and_are_asked_in_bursts() {
    let folder = tempfile::tempdir().unwrap();
    let (_a, section) = loopback_server(2);
    let (daemon, _) = daemon(folder.path(), &section);
    let folder = folder.path();
    wait_for(folder, "time of the server", PATIENCE, || (state(folder)? == "network").then_some(()));
    let (code, reply) = set(folder, &["offline", "127.0.0.2"]);
    assert_eq!((code, &reply["schema"], &reply["sources"][0]), (0, &"refclockd.set/1".into(), &"127.0.0.2".into()));
    wait_for(folder, "offline", PATIENCE, || (verdict(folder, "127.0.0.2")? == "offline").then_some(()));
    let samples = || source(folder, "127.0.0.2").unwrap()["samples"].as_u64().unwrap();
    let before = samples();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(samples(), before, "it is asked although it is offline");
    assert_eq!(set(folder, &["online"]).0, 0);
    wait_for(folder, "used again", PATIENCE, || (verdict(folder, "127.0.0.2")? == "selected").then_some(()));
    let (code, reply) = set(folder, &["burst", "127.0.0.2"]);
    assert!(code == 0 && reply["text"].as_str().unwrap().contains("quick succession"), "{reply}");
    // What there is not.
    let (code, reply) = set(folder, &["offline", "nobody"]);
    assert_eq!((code, &reply["error"]["code"]), (64, &"unknown_source".into()));
    assert!(reply["error"]["text"].as_str().unwrap().contains("127.0.0.2"), "{reply}");
    // In words.
    let output = Command::new(PROGRAM).args(["set", "step", "--socket"]).arg(folder.join("api.sock")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("The clock is"), "{output:?}");
    assert!(log(folder).contains("set offline: No longer asked: 127.0.0.2."), "{}", log(folder));
    assert_eq!(end(daemon), Some(0));
}

#[test]
fn only_root_and_the_daemons_user_may_command() {
    if !geteuid().is_root() {
        println!("skipped: not root");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let (daemon, _) = daemon(folder, "[local]\n[[server]]\naddress = \"127.0.0.1\"\nport = 9\n");
    wait_for(folder, "answer", PATIENCE, || state(folder));
    // Anybody may reach it now; and the program, wherever it was built.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(folder.join("api.sock"), fs::Permissions::from_mode(0o666)).unwrap();
    let program = folder.join("refclockd");
    fs::copy(PROGRAM, &program).unwrap();
    let by_nobody = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.args(words).arg("--json").arg("--socket").arg(folder.join("api.sock")).uid(65_534).gid(65_534);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(by_nobody(&["status"]).0, 0);
    for words in [&["set", "step"][..], &["set", "time", "now"], &["set", "offline"], &["set", "reload"]] {
        let (code, said) = by_nobody(words);
        assert!(code == 77 && said.contains("not_permitted"), "{words:?}: {code} {said}");
    }
    assert_eq!(set(folder, &["step"]).0, 0);
    assert_eq!(end(daemon), Some(0));
}

#[test]
fn who_has_asked_is_known_and_is_forgotten_on_command() {
    let place = tempfile::tempdir().unwrap();
    let (daemon, port) = daemon(place.path(), "[local]\n[[server]]\naddress = \"127.0.0.1\"\nport = 9\n");
    let folder = place.path();
    wait_for(folder, "answer", PATIENCE, || state(folder));
    let client = |last: u8| std::net::UdpSocket::bind((std::net::Ipv4Addr::new(127, 0, 0, last), 0)).unwrap();
    let (one, other) = (client(3), client(4));
    let mut request = [0; 48];
    // Three requests in version 3; one that is no time packet, in version 2.
    for _ in 0..3 {
        request[0] = 0x1b;
        one.send_to(&request, ("127.0.0.1", port)).unwrap();
    }
    request[0] = 0x16;
    other.send_to(&request, ("127.0.0.1", port)).unwrap();
    let report = wait_for(folder, "both clients", PATIENCE, || {
        let report = ask(folder, &["clients"])?;
        (report["known"] == 2).then_some(report)
    });
    assert_eq!(report["schema"], "refclockd.clients/1");
    let of = |address: &str| report["clients"].as_array().unwrap().iter().find(|c| c["address"] == address).unwrap();
    let (one_seen, other_seen) = (of("127.0.0.3"), of("127.0.0.4"));
    assert_eq!((&one_seen["count"], &one_seen["dropped"]), (&3.into(), &0.into()), "{report}");
    assert_eq!((&one_seen["mode"], &one_seen["ntp_version"]), (&3.into(), &3.into()));
    assert_eq!(one_seen["port"], one.local_addr().unwrap().port());
    assert_eq!((&other_seen["mode"], &other_seen["dropped"]), (&6.into(), &1.into()), "{report}");
    assert!(one_seen["average_interval_s"].as_f64().unwrap() < 1.0 && other_seen["average_interval_s"].is_null());
    let text =
        Command::new(PROGRAM).args(["clients", "--count", "1", "--socket"]).arg(folder.join("api.sock")).output();
    let text = String::from_utf8_lossy(&text.unwrap().stdout).into_owned();
    assert!(text.contains("127.0.0.4") && text.contains("1 more are remembered"), "{text}");
    let (code, reply) = set(folder, &["forget-clients"]);
    assert!(code == 0 && reply["text"].as_str().unwrap().contains("forgotten"), "{reply}");
    assert_eq!(ask(folder, &["clients"]).unwrap()["known"], 0);
    assert_eq!(end(daemon), Some(0));
}

#[test]
fn time_is_set_by_hand_and_served_where_local_allows_it() {
    let folder = tempfile::tempdir().unwrap();
    let (daemon, port) = daemon(folder.path(), "[local]\nstratum = 8\n");
    let folder = folder.path();
    let ahead = || ask(folder, &["status"]).unwrap()["clock"]["minus_system_ns"].as_f64().unwrap() * 1e-9;
    wait_for(folder, "answer", PATIENCE, || state(folder));
    let (code, reply) = set(folder, &["time", "+100s"]);
    assert_eq!(
        (code, &reply["clock"]["stepped"], &reply["by_hand"]["used"]),
        (0, &true.into(), &true.into()),
        "{reply}"
    );
    assert!((ahead() - 100.0).abs() < 0.2, "{}", ahead());
    let status = ask(folder, &["status"]).unwrap();
    assert_eq!((&status["state"], &status["ntp"]["stratum"]), (&"local".into(), &8.into()), "{status}");
    assert_eq!(status["reason"]["code"], "set_by_hand");
    let bound = status["accuracy"]["bound_ns"].as_f64().unwrap() * 1e-9;
    assert!((0.5..3.0).contains(&bound), "{bound}");
    // What is served can be used: its root dispersion counts from itself.
    assert!(query(port).is_some());
    // The system clock is right after all. That contradicts what was said before.
    let (code, reply) = set(folder, &["time", "now"]);
    assert!(code == 0 && reply["text"].as_str().unwrap().contains("forgotten"), "{reply}");
    assert!(ahead().abs() < 0.2, "{}", ahead());
    let (code, reply) = set(folder, &["time", "1999-01-01 00:00:00"]);
    assert_eq!((code, &reply["error"]["code"]), (76, &"bad_request".into()));
    let output = Command::new(PROGRAM).args(["set", "time", "noon"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("That is not a time"), "{said}");
    assert_eq!(end(daemon), Some(0));
}

#[test]
fn the_configuration_is_read_again_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (_a, a) = loopback_server(2);
    let (_b, b) = loopback_server(3);
    let (daemon, port) = daemon(folder.path(), &a);
    let folder = folder.path();
    wait_for(folder, "time of the server", PATIENCE, || (state(folder)? == "network").then_some(()));
    let samples = || source(folder, "127.0.0.2").unwrap()["samples"].as_u64().unwrap();
    let before = samples();

    // An error changes nothing, and is told with its place.
    rewrite(folder, &format!("{a}{}", b.replace("iburst", "ibrust")));
    let (code, reply) = set(folder, &["reload"]);
    let text = reply["error"]["text"].as_str().unwrap();
    assert_eq!((code, &reply["error"]["code"]), (78, &"bad_configuration".into()));
    assert!(text.contains("refclockd.toml:10:1") && text.contains("Did you mean `iburst`?"), "{text}");
    hang_up(&daemon);
    wait_until("the signal is taken", PATIENCE, || log(folder).matches("stays as it is").count() == 2);
    assert_eq!(names(folder), ["127.0.0.2"]);

    // A server more, another name for the first, a local clock, another port.
    let other_port = free_port();
    rewrite(folder, &format!("{}name = \"first\"\n{b}[local]\nstratum = 9\n[holdover]\nbudget = \"5 ms\"\n", a));
    let file = folder.join("refclockd.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(&format!(":{port}\""), &format!(":{other_port}\""))).unwrap();
    hang_up(&daemon);
    wait_for(folder, "both", PATIENCE, || {
        (verdict(folder, "127.0.0.3")? == "selected" || verdict(folder, "127.0.0.3")? == "agrees").then_some(())
    });
    assert_eq!(names(folder), ["first", "127.0.0.3"]);
    let first = source(folder, "first").unwrap();
    assert!(first["samples"].as_u64().unwrap() >= before, "it began anew: {first}");
    assert!(query(other_port).is_some() && query(port).is_none());
    assert_eq!(ask(folder, &["status"]).unwrap()["accuracy"]["limit_ns"], 5_000_000);
    assert_eq!(state(folder).as_deref(), Some("network"));
    let log_so_far = log(folder);
    for said in ["127.0.0.3 is new.", "first has other settings.", "stratum 9", "NTP is no longer served on"] {
        assert!(log_so_far.contains(said), "{said}: {log_so_far}");
    }
    assert!(!log_so_far.contains("network → unsynchronised"), "{log_so_far}");

    // What takes a restart is said.
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n[clock]\ndiscipline = \"observe\"\n")).unwrap();
    let (code, reply) = set(folder, &["reload"]);
    let restart = reply["needs_restart"][0].as_str().unwrap();
    assert!(code == 0 && restart.contains("[clock] discipline"), "{reply}");

    // The first goes, and the other carries on.
    rewrite(folder, &b);
    assert_eq!(set(folder, &["reload"]).0, 0);
    assert_eq!(names(folder), ["127.0.0.3"]);
    wait_for(folder, "use of the other", PATIENCE, || (verdict(folder, "127.0.0.3")? == "selected").then_some(()));
    let (_, reply) = set(folder, &["reload"]);
    assert!(reply["text"].as_str().unwrap().contains("nothing has changed"), "{reply}");
    assert_eq!(end(daemon), Some(0));
}

#[test]
fn a_pool_whose_name_resolves_late() {
    // A table of hosts of our own, in a mount namespace.
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let hosts = folder.join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let script = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
    let unshare = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(&hosts).arg(program);
        command
    };
    if !geteuid().is_root() || !unshare("true").status().is_ok_and(|status| status.success()) {
        return refused("not root, or no namespace can be made here");
    }
    let first = serve("127.0.0.11:0", made_up_snapshot(), 1);
    let port = first.address().port();
    let _others: Vec<Workers> =
        (12..=15).map(|last| serve(&format!("127.0.0.{last}:{port}"), made_up_snapshot(), 1)).collect();
    let pool = format!(
        "[[pool]]\naddress = \"time.pool\"\nport = {port}\nmaxsources = 3\niburst = true\nminpoll = 0\nmaxpoll = 2\n"
    );
    let (daemon, _) = daemon_by(unshare(PROGRAM), folder, &pool);
    let alone = wait_for(folder, "the pool itself", PATIENCE, || {
        source(folder, "time.pool").filter(|s| s["server"]["text"].as_str().is_some_and(|t| t.contains("time.pool")))
    });
    assert_ne!(alone["verdict"]["code"], "selected");
    // The name appears; it leads to four servers, of which three are wanted.
    let list = |last: &[u8]| -> String { last.iter().map(|n| format!("127.0.0.{n} time.pool\n")).collect() };
    fs::write(&hosts, list(&[11, 12, 13, 14])).unwrap();
    let found = wait_for(folder, "three servers", PATIENCE, || {
        let names = names(folder);
        (names.len() == 3 && names.iter().all(|n| n.starts_with("127.0.0."))).then_some(names)
    });
    wait_for(folder, "time of them", PATIENCE, || (state(folder)? == "network").then_some(()));
    assert!(source(folder, &found[0]).unwrap()["address"].as_str().unwrap().ends_with("(time.pool)"));
    // All of it goes offline by the pool's name, one by its own.
    assert_eq!(set(folder, &["offline", "time.pool"]).0, 0);
    for name in &found {
        wait_for(folder, "offline", PATIENCE, || (verdict(folder, name)? == "offline").then_some(()));
    }
    assert_eq!(set(folder, &["online", &found[1]]).0, 0);
    wait_for(folder, "the one", PATIENCE, || (verdict(folder, &found[1])? == "selected").then_some(()));
    // Fewer are wanted.
    rewrite(folder, &pool.replace("maxsources = 3", "maxsources = 1"));
    assert_eq!(set(folder, &["reload"]).0, 0);
    wait_for(folder, "one that is left", PATIENCE, || (names(folder).len() == 1).then_some(()));
    assert_eq!(end(daemon), Some(0));
    drop(first);
}

#[test]
fn a_panic_ends_the_program_only_where_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let told = handle(made_up_snapshot());
    let served = Served::new(Arc::clone(&told), Access::default());
    let server = worker::bind("127.0.0.2:0".parse().unwrap(), 1).unwrap().spawn(&served).unwrap();
    let section = server_section("127.0.0.2", server.address().port()).replace("maxpoll = 2", "maxpoll = 0");
    let (daemon, port) = daemon(folder.path(), &section);
    let folder = folder.path();
    wait_for(folder, "settled clock", PATIENCE, || {
        (source(folder, "127.0.0.2")?["samples"].as_u64()? > 20).then_some(())
    });
    let hours_ahead = |hours: i64| {
        let mut snapshot: Snapshot = made_up_snapshot();
        snapshot.clock.tai += Span::from_whole_seconds(hours * 3600);
        told.store(Arc::new(snapshot));
    };
    hours_ahead(2);
    wait_for(folder, "panic", PATIENCE, || (ask(folder, &["status"])?["reason"]["code"] == "panic").then_some(()));
    assert!(query(port).is_none(), "a clock in doubt is served");
    let ahead = || ask(folder, &["status"]).unwrap()["clock"]["minus_system_ns"].as_f64().unwrap() * 1e-9;
    assert!(ahead().abs() < 1.0, "it moved by {}", ahead());
    // The operator knows better.
    let (code, reply) = set(folder, &["step"]);
    assert!(code == 0 && reply["clock"]["stepped"] == true, "{reply}");
    wait_for(folder, "time again", PATIENCE, || (state(folder)? == "network").then_some(()));
    assert!((ahead() - 7200.0).abs() < 1.0, "{}", ahead());
    // And now he wants no such clock at all.
    rewrite(folder, &format!("{section}[clock]\npanic_exit = true\n"));
    assert_eq!(set(folder, &["reload"]).0, 0);
    wait_for(folder, "settled clock", PATIENCE, || {
        (source(folder, "127.0.0.2")?["samples"].as_u64()? > 20).then_some(())
    });
    std::thread::sleep(Duration::from_secs(15));
    hours_ahead(7);
    let mut daemon = daemon;
    let until = std::time::Instant::now() + PATIENCE;
    let code = loop {
        match daemon.0.try_wait().unwrap() {
            Some(status) => break status.code(),
            None => assert!(std::time::Instant::now() < until, "it goes on: {}", log(folder)),
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(code, Some(79), "{}", log(folder));
}
