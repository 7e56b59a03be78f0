//! The programs on the two machines: ours, chronyd and NTPsec's ntpd.

use std::path::Path;
use std::time::Duration;

use super::{Machine, Network, file, said};
use crate::ntp_common::peer;
use crate::ntp_common::peers::Running;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_refclockd");
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The same keys in both languages.
const CHRONY_KEYS: &str = "5 AES128 HEX:00112233445566778899aabbccddeeff\n6 SHA256 ASCII:roses-and-tulips\n";
const NTP_KEYS: &str = "5 AES-128 00112233445566778899aabbccddeeff\n6 SHA256 roses-and-tulips\n";

/// The daemon on that machine, with these sections besides the ones it needs.
pub fn refclockd(network: &Network, machine: Machine, folder: &Path, sections: &str) -> Running {
    let keys = file(folder, "keys", CHRONY_KEYS);
    let configuration = format!(
        "{sections}\n[keys]\nfile = \"{}\"\n[state]\ndir = \"{2}/state\"\n[control]\nsocket = \"{2}/api.sock\"\n\
         [process]\nuser = \"{1}\"\nsandbox = false\n[clock]\ndiscipline = \"software\"\n",
        keys.display(),
        "root",
        folder.display()
    );
    let configuration = file(folder, "refclockd.toml", &configuration);
    let mut command = network.on(machine, PROGRAM);
    command.args(["run", "-c"]).arg(configuration);
    network.start(command, &folder.join("refclockd.log"))
}

/// chronyd that sets no clock, and where to ask it.
pub fn chronyd(network: &Network, machine: Machine, folder: &Path, lines: &str) -> Option<(Running, String)> {
    let program = peer("REFCLOCKD_CHRONYD", "chronyd")?;
    let keys = file(folder, "chrony.keys", CHRONY_KEYS);
    let socket = folder.join("chronyd.sock");
    let configuration = file(
        folder,
        "chrony.conf",
        &format!(
            "{lines}\nkeyfile {}\ncmdport 0\nbindcmdaddress {}\npidfile {}/chronyd.pid\n",
            keys.display(),
            socket.display(),
            folder.display()
        ),
    );
    let mut command = network.on(machine, program);
    command.args(["-x", "-d", "-U", "-u", "root", "-f"]).arg(configuration);
    Some((network.start(command, &folder.join("chronyd.log")), socket.display().to_string()))
}

pub fn chronyc(network: &Network, machine: Machine, socket: &str, question: &str) -> String {
    let program = peer("REFCLOCKD_CHRONYC", "chronyc").unwrap();
    said(&network.on(machine, program).args(["-h", socket, "-n", question]).output().unwrap())
}

/// NTPsec's ntpd.
pub fn ntpd(network: &Network, machine: Machine, folder: &Path, lines: &str) -> Option<Running> {
    let program = peer("REFCLOCKD_NTPD", "ntpd")?;
    let keys = file(folder, "ntp.keys", NTP_KEYS);
    let lines = format!("{lines}\nkeys {}\ntrustedkey 5 6\nrestrict 127.0.0.1\n", keys.display());
    let configuration = file(folder, "ntp.conf", &lines);
    let mut command = network.on(machine, program);
    command.args(["-n", "-g", "-c"]).arg(configuration);
    Some(network.start(command, &folder.join("ntpd.log")))
}

pub fn ntpq(network: &Network, machine: Machine, question: &str) -> String {
    let program = peer("REFCLOCKD_NTPQ", "ntpq").unwrap();
    said(&network.on(machine, program).args([question, "-n", "127.0.0.1"]).output().unwrap())
}

/// A folder that only we may enter: chronyd puts its socket nowhere else.
pub fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

pub fn log(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_default()
}

/// What `refclockd sources` says of the sources of the daemon in that folder.
pub fn sources(network: &Network, folder: &Path) -> serde_json::Value {
    ask(network, folder, "sources")
}

/// What the daemon in that folder says when it is asked that.
pub fn ask(network: &Network, folder: &Path, question: &str) -> serde_json::Value {
    let socket = folder.join("api.sock");
    let output = network.on(Machine::B, PROGRAM).args([question, "--json", "--socket"]).arg(socket).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Does the daemon in that folder use its only server?
pub fn uses_its_server(network: &Network, folder: &Path) -> bool {
    sources(network, folder)["sources"][0]["verdict"]["word"] == "used"
}

/// What our daemon says of its sources: name and verdict of each.
pub fn verdicts(network: &Network, folder: &Path) -> Vec<(String, String)> {
    let said = sources(network, folder);
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let each = said["sources"].as_array().cloned().unwrap_or_default();
    each.iter().map(|source| (word(&source["name"]), word(&source["verdict"]["word"]))).collect()
}
