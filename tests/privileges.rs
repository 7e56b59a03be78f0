//! `refclockd run` as root that becomes an ordinary user, and as an ordinary user that was never root:
//! what it has, what it keeps, and what it says of what it may not. To be run as root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;
mod run_common;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::{User, geteuid};
use ntp_common::peers::{Running, hold, refused};
use run_common::{PROGRAM, end, receiver_on_a_pty, source, wait_for, wait_until};

/// Patience for all that takes a few seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// CAP_SYS_TIME and CAP_NET_BIND_SERVICE.
const KEPT: u64 = 1 << 25 | 1 << 10;
/// The key of SHM unit 0, as `/proc/sysvipc/shm` writes it.
const UNIT_0: &str = "1314148400";

/// IPC, network and mount namespaces of our own: SHM 0, port 123 and `/run` are ours, and the
/// machine's are neither seen nor touched. We are root in them.
struct Namespaces(Running);

impl Namespaces {
    /// `None`, said aloud, where one may not have any.
    fn make() -> Option<Self> {
        let why = "not root, or no namespace can be made here";
        if !geteuid().is_root() {
            refused(why);
            return None;
        }
        let mut holder = Command::new("unshare");
        holder.args(["--ipc", "--net", "--mount", "sh", "-c"]);
        holder.arg("mount -t tmpfs -o mode=755 none /run && echo ready && exec cat");
        hold(&mut holder, why).map(Self)
    }

    /// A command that will run in them, as a process of ours.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--ipc", "--net", "--mount", "--target", &self.0.0.id().to_string(), "--", program]);
        command
    }

    /// The line of SHM unit 0: key, id, mode, size, creator, last user, attached, owner.
    fn unit_0(&self) -> Option<Vec<String>> {
        let output = self.command("cat").arg("/proc/sysvipc/shm").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines = text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        lines.find(|fields| fields[0] == UNIT_0)
    }
}

/// A folder that every user may enter.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

fn configured(folder: &Path, process: &str) -> PathBuf {
    let text = format!(
        "[[refclock]]\ndriver = \"nmea\"\ndevice = \"{0}/gps0\"\nname = \"GPS\"\n[[refclock]]\ndriver = \"shm\"\nunit = 0\nname = \"SHM\"\n\
         [[refclock]]\ndriver = \"sock\"\npath = \"/run/chrony.gps.sock\"\nname = \"SOCK\"\n\
         [serve]\nlisten = [\"0.0.0.0:123\"]\n[state]\ndir = \"{0}/state\"\n[control]\nsocket = \"{0}/api.sock\"\n{process}",
        folder.display()
    );
    let file = folder.join("refclockd.toml");
    fs::write(&file, text).unwrap();
    file
}

fn started(mut command: Command, folder: &Path, process: &str) -> Running {
    let log = File::create(folder.join("log")).unwrap();
    let file = configured(folder, process);
    Running(command.args(["run", "-c"]).arg(file).stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap()
}

/// A field of /proc/PID/status of every thread; they all say the same.
fn of_all_threads(daemon: &Running, field: &str) -> String {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.0.id())).unwrap();
    let mut found: Vec<String> = tasks
        .map(|task| {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:"))).unwrap().to_owned();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect();
    // The NTP worker and the writer of files are threads of their own.
    assert!(found.len() >= 3, "{found:?}");
    found.dedup();
    assert_eq!(found.len(), 1, "{field}: {found:?}");
    found.remove(0)
}

fn capabilities(daemon: &Running, field: &str) -> u64 {
    u64::from_str_radix(&of_all_threads(daemon, field), 16).unwrap()
}

/// What of these capabilities whoever runs the tests has at all.
fn attainable() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap() & KEPT
}

fn serves_port_123(daemon: &Running) -> bool {
    let sockets = fs::read_to_string(format!("/proc/{}/net/udp", daemon.0.id())).unwrap();
    sockets.lines().any(|line| line.contains("00000000:007B"))
}

fn device(folder: &Path, name: &str, phase: &str) -> Option<serde_json::Value> {
    source(folder, name).filter(|s| s["device"]["phase"] == phase).map(|s| s["device"].clone())
}

#[test]
fn root_takes_what_only_root_may_and_becomes_nobody() {
    let Some(namespaces) = Namespaces::make() else { return };
    let place = folder();
    let folder = place.path();
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
    let daemon = started(namespaces.command(PROGRAM), folder, "[process]\nuser = \"nobody\"\n");
    wait_for(folder, "answer", PATIENCE, || device(folder, "SHM", "opening"));

    // Who it is, in every thread.
    assert_eq!(of_all_threads(&daemon, "Uid"), [uid; 4].map(|id| id.to_string()).join(" "));
    assert_eq!(of_all_threads(&daemon, "Gid"), [gid; 4].map(|id| id.to_string()).join(" "));
    for set in ["CapEff", "CapPrm"] {
        assert_eq!(capabilities(&daemon, set), attainable(), "{set}");
    }
    assert_eq!((capabilities(&daemon, "CapInh"), of_all_threads(&daemon, "NoNewPrivs").as_str()), (0, "1"));
    assert!(log(folder).contains("no longer root: nobody from here on"), "{}", log(folder));

    // What it has: the port, root's shared memory, the sockets, a state folder of its own.
    assert!(serves_port_123(&daemon));
    let unit = namespaces.unit_0().unwrap();
    assert_eq!([&unit[2], &unit[6], &unit[7]], ["600", "1", "0"], "mode, attached, owner of {unit:?}");
    let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
    let socket = format!("/proc/{}/root/run/chrony.gps.sock", daemon.0.id());
    let owners = [Path::new(&socket), &folder.join("api.sock"), &folder.join("state")].map(owner);
    assert_eq!((owners, owner(folder)), ([uid; 3], 0));

    // A device that comes later and is root's: what it is, and what mends it.
    wait_for(folder, "absence", PATIENCE, || device(folder, "GPS", "absent"));
    let (receiver, pty) = receiver_on_a_pty();
    fs::set_permissions(&pty, Permissions::from_mode(0o600)).unwrap();
    symlink(&pty, folder.join("gps0")).unwrap();
    let refused = wait_for(folder, "refusal", PATIENCE, || device(folder, "GPS", "faulty"));
    let mend = format!("sudo chown nobody {}/gps0", folder.display());
    assert!(refused["action"].as_str().unwrap().contains(&mend), "{refused}");
    // So done, it is used.
    chown(&pty, Some(uid), Some(gid)).unwrap();
    wait_for(folder, "use of the device", PATIENCE, || device(folder, "GPS", "good"));
    drop(receiver);

    assert_eq!(end(daemon), Some(0));
    assert_eq!(owner(&folder.join("state/drift.toml")), uid);
}

#[test]
fn a_user_with_ambient_capabilities_needs_no_root() {
    let Some(namespaces) = Namespaces::make() else { return };
    // Somebody's SHM 0, as root's gpsd makes it.
    let root = folder();
    let first = started(namespaces.command(PROGRAM), root.path(), "[process]\nuser = \"root\"\n");
    wait_for(root.path(), "answer", PATIENCE, || device(root.path(), "SHM", "opening"));
    assert_eq!(of_all_threads(&first, "Uid"), "0 0 0 0");
    assert_eq!(end(first), Some(0));
    assert!(namespaces.unit_0().is_some());

    let place = folder();
    let folder = place.path();
    let nobody = User::from_name("nobody").unwrap().unwrap();
    chown(folder, Some(nobody.uid.as_raw()), None).unwrap();
    let mut command = namespaces.command("setpriv");
    let capabilities_wanted = "+sys_time,+net_bind_service";
    command.args(["--reuid", "nobody", "--regid", &nobody.gid.to_string(), "--clear-groups"]);
    command.args(["--inh-caps", capabilities_wanted, "--ambient-caps", capabilities_wanted, "--", PROGRAM]);
    let daemon = started(command, folder, "");
    let refused = wait_for(folder, "word on SHM 0", PATIENCE, || device(folder, "SHM", "faulty"));
    assert!(refused["action"].as_str().unwrap().contains("Start the daemon as root"), "{refused}");
    let refused = wait_for(folder, "word on the socket", PATIENCE, || device(folder, "SOCK", "faulty"));
    assert!(refused["action"].as_str().unwrap().contains("Start the daemon as root"), "{refused}");
    assert!(serves_port_123(&daemon));
    assert_eq!(capabilities(&daemon, "CapEff"), attainable());
    assert_eq!((capabilities(&daemon, "CapAmb"), capabilities(&daemon, "CapInh")), (0, 0));
    assert!(!log(folder).contains("going on as"), "{}", log(folder));
    assert_eq!(end(daemon), Some(0));
}

#[test]
fn a_user_that_does_not_exist_starts_nothing() {
    if !geteuid().is_root() {
        assert!(std::env::var_os("REFCLOCKD_CI").is_none(), "CI runs as root");
        println!("skipped: not root");
        return;
    }
    let place = folder();
    let mut daemon = started(Command::new(PROGRAM), place.path(), "[process]\nuser = \"no-such-user\"\n");
    wait_until("end", PATIENCE, || daemon.0.try_wait().unwrap().is_some());
    assert_eq!(daemon.0.wait().unwrap().code(), Some(78));
    let said = log(place.path());
    assert!(said.contains("there is no such user") && said.contains("useradd --system no-such-user"), "{said}");
    assert!(!place.path().join("api.sock").exists());
}
