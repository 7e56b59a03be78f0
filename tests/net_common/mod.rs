//! Two machines on one wire, made of namespaces: what runs in them sees nothing of this machine's network,
//! and may not set its clock.
#![allow(dead_code, unreachable_pub)]

pub mod programs;
pub mod wire;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::ntp_common::peer;
use crate::ntp_common::peers::{Running, hold};

/// Which of the two machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// 10.9.0.1, fd09::1
    A,
    /// 10.9.0.2, fd09::2
    B,
}

impl Machine {
    fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// The two machines and the wire. Dropping it ends them.
pub struct Network {
    holder: Running,
}

impl Network {
    /// `wire` is what netem does to the packets of both directions, such as `delay 5ms loss 5%`; nothing, if
    /// it is empty. `None`, said aloud, where the system allows no such namespaces.
    pub fn make(wire: &str) -> Option<Self> {
        let program = peer("REFCLOCKD_UNSHARE", "unshare")?;
        peer("REFCLOCKD_IP", "ip")?;
        let netem = |machine: &str, end: &str| match wire {
            "" => String::new(),
            // Not every kernel has it.
            wire => format!(
                "&& {{ tc -n {machine} qdisc add dev {end} root netem {wire} || echo no netem here: no {wire} >&2; }} "
            ),
        };
        let script = format!(
            "mount -t tmpfs none /run && ip netns add a && ip netns add b \
             && ip link add va netns a type veth peer name vb netns b \
             && ip -n a link set lo up && ip -n b link set lo up \
             && ip -n a addr add 10.9.0.1/24 dev va && ip -n b addr add 10.9.0.2/24 dev vb \
             && ip -n a addr add fd09::1/64 dev va nodad && ip -n b addr add fd09::2/64 dev vb nodad \
             && ip -n a link set va up && ip -n b link set vb up {}{}&& echo ready && exec cat",
            netem("a", "va"),
            netem("b", "vb")
        );
        let mut holder = Command::new(program);
        holder.args(["--user", "--map-root-user", "--net", "--mount", "sh", "-c", &script]);
        holder.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        hold(&mut holder, "no network namespaces can be made here").map(|holder| Self { holder })
    }

    /// A command that will run on that machine, as a process of ours.
    pub fn on(&self, machine: Machine, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--user", "--mount", "--net", "--preserve-credentials", "--target"]);
        command.arg(self.holder.0.id().to_string()).args(["--", "ip", "netns", "exec", machine.name()]).arg(program);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("/usr/sbin:/sbin:{path}"));
        command
    }

    /// Starts it; what it says goes to a file of that name.
    pub fn start(&self, mut command: Command, log: &Path) -> Running {
        let log = File::create(log).unwrap();
        Running(command.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null()).spawn().unwrap())
    }

    /// Writes down all packets of port 123 that this machine sees.
    pub fn capture(&self, machine: Machine, folder: &Path) -> Option<Capture> {
        let (dumpcap, tshark) = (peer("REFCLOCKD_DUMPCAP", "dumpcap")?, peer("REFCLOCKD_TSHARK", "tshark")?);
        let file = folder.join(format!("{}.pcap", machine.name()));
        let mut command = self.on(machine, dumpcap);
        command.args(["-q", "-P", "-i", if machine == Machine::A { "va" } else { "vb" }]);
        command.args(["-f", "udp port 123", "-w"]).arg(&file);
        let running = self.start(command, &folder.join("dumpcap.log"));
        wait_until("dumpcap captures", Duration::from_secs(20), || file.exists());
        Some(Capture { running, tshark, file })
    }
}

/// Packets being written down.
pub struct Capture {
    running: Running,
    tshark: PathBuf,
    file: PathBuf,
}

impl Capture {
    /// How many packets left from that address, and what an expert says of them that is a warning or worse.
    pub fn of(self, address: &str) -> (usize, String) {
        let (all, warned) = self.all(address, "ntp");
        (all.lines().count(), warned)
    }

    /// Those packets themselves, as far as the filter lets them through, and the same.
    pub fn all(self, address: &str, filter: &str) -> (String, String) {
        let family = if address.contains(':') { "ipv6" } else { "ip" };
        self.dissected(filter, &format!("{family}.src == {address}"))
    }

    /// The packets of everybody.
    pub fn everything(self, filter: &str) -> (String, String) {
        self.dissected(filter, "ntp")
    }

    /// Of each packet that the filter lets through, in their order, these fields.
    pub fn fields<const N: usize>(self, filter: &str, fields: [&str; N]) -> Vec<[String; N]> {
        self.stop();
        let mut command = Command::new(&self.tshark);
        command.arg("-r").arg(&self.file).args(["-Y", filter, "-T", "fields"]);
        let output = command.args(fields.iter().flat_map(|field| ["-e", field])).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let row = |line: &str| {
            let mut words = line.split('\t').map(str::to_owned);
            std::array::from_fn(|_| words.next().unwrap_or_default())
        };
        text.lines().map(row).collect()
    }

    fn dissected(self, filter: &str, whose: &str) -> (String, String) {
        self.stop();
        let dissect = |filter: &str| {
            let output = Command::new(&self.tshark).arg("-r").arg(&self.file).args(["-Y", filter]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let all = dissect(&format!("({filter}) && {whose}"));
        // Error and warning.
        let warned = dissect(&format!("{whose} && _ws.expert.severity >= 0x600000"));
        (all, warned)
    }
}

impl Capture {
    fn stop(&self) {
        // What was seen last is written down.
        std::thread::sleep(Duration::from_millis(1500));
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.running.0.id()).unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Waits until something holds.
pub fn wait_until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < until, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What a command said, both ways.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Writes a file into a folder.
pub fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}
