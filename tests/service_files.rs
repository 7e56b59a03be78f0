//! The files that make a service of it, read by the programs they are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Command;

fn shipped(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn systemd_understands_the_unit_and_its_drop_ins() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("refclockd.service");
    let drop_ins = folder.path().join("refclockd.service.d");
    fs::create_dir(&drop_ins).unwrap();
    // The program as it is here: one that is not there is a complaint by itself.
    fs::write(&unit, shipped("conf/refclockd.service").replace("/usr/sbin/refclockd", env!("CARGO_BIN_EXE_refclockd")))
        .unwrap();
    for with in [&[][..], &["system-clock.conf"], &["system-clock.conf", "as-root.conf"]] {
        for name in with {
            fs::write(drop_ins.join(name), shipped(&format!("conf/refclockd.service.d/{name}"))).unwrap();
        }
        let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&unit).output() else {
            return println!("skipped: there is no systemd-analyze");
        };
        let said = String::from_utf8_lossy(&output.stderr);
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("refclockd.service")).collect();
        assert!(output.status.success() && ours.is_empty(), "{said}");
    }
}

#[test]
fn the_unit_and_the_daemon_agree() {
    let unit = shipped("conf/refclockd.service");
    let has = |line: &str| unit.lines().any(|l| l == line);
    // What tests/privileges.rs shows to be enough.
    assert!(has("AmbientCapabilities=CAP_SYS_TIME CAP_NET_BIND_SERVICE"));
    assert!(has("CapabilityBoundingSet=CAP_SYS_TIME CAP_NET_BIND_SERVICE"));
    assert!(has("User=refclockd") && has("StateDirectory=refclockd") && has("RuntimeDirectory=refclockd"));
    // What few need is not the service's.
    assert!(!unit.contains("CAP_NET_ADMIN"));
    let cards = shipped("conf/refclockd.service.d/hwtimestamp.conf");
    assert!(cards.contains("\nAmbientCapabilities=CAP_NET_ADMIN\nCapabilityBoundingSet=CAP_NET_ADMIN\n"));
    // What would take the receiver, the clock or the shared memory away.
    for taken in ["PrivateDevices=", "ProtectClock=", "PrivateIPC=", "PrivateNetwork="] {
        assert!(!unit.lines().any(|line| line.starts_with(taken)), "{taken}");
    }
    let rules = shipped("udev/60-refclockd.rules");
    assert!(rules.contains("GROUP=\"refclockd\"") && shipped("conf/sysusers.d/refclockd.conf").contains("g refclockd"));
}
