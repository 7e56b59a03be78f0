//! What a configuration is, with the default of everything that has one.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use refclocks::phc::ClockScale;
use refclocks::receiver::{Checksums, SawtoothUse};
use refclocks::shell::feed::FeedConfig;
use refclocks::shell::gpsd::Address;
use refclocks::shell::sock::Access;
use refclocks::ubx::setup::Wishes;
use refclocks::{Edge, ReferenceId};

use super::broadcast::Broadcast;
use super::broadcast_client::BroadcastClient;
use super::clock::ClockSettings;
use super::keys::Keys;
use super::passive_peer::PassivePeer;
use super::serve::Serve;
use crate::core::local::LocalPolicy;
use crate::core::selection::SelectionOptions;
use crate::ntp::NTP_PORT;
use crate::ntp::client::Filters;
use crate::ntp::client::manycast::Group;
use crate::ntp::client::socket::Origin;
use crate::ntp::hardware::Wish;

/// The port of gpsd.
pub const GPSD_PORT: u16 = 2947;

/// A whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[[refclock]]`: reference clocks, in the order of the file.
    pub refclocks: Vec<Refclock>,
    /// `[[server]]`: network servers, in the order of the file.
    pub servers: Vec<Server>,
    /// `[[pool]]`: names with several servers behind each, in the order of the file.
    pub pools: Vec<Pool>,
    /// `[[feed]]`: daemons of this machine that are told what we know.
    pub feeds: Vec<Feed>,
    /// `[local]`: serve the undisciplined clock when all else is gone.
    pub local: Option<LocalPolicy>,
    /// `[[broadcast]]`: networks that are told our time.
    pub broadcasts: Vec<Broadcast>,
    /// `[[broadcast_client]]`: broadcasters that are listened to.
    pub broadcast_clients: Vec<BroadcastClient>,
    /// `[[passive_peer]]`: who may come by themselves and be peers.
    pub passive_peers: Vec<PassivePeer>,
    /// `[[hwtimestamp]]`: network cards that stamp packets; of those that name an interface the first counts.
    pub hwtimestamps: Vec<Wish>,
    /// `[keys]`: symmetric keys.
    pub keys: Option<Keys>,
    /// `[serve]`: answer NTP requests. Nobody is answered without it.
    pub serve: Option<Serve>,
    /// `[clock]`: what is done to the clock.
    pub clock: ClockSettings,
    /// `[holdover] budget`: the error bound at which a coasting clock stops being stratum 1, s.
    pub holdover_budget: f64,
    /// `[holdover] thermometer`: what tells the temperature of our crystal.
    pub thermometer: Thermometer,
    /// `[control] socket`: where `refclockd` answers the operator.
    pub control_socket: PathBuf,
    /// `[state] dir`: where what was learned is kept from one start to the next.
    pub state_dir: PathBuf,
    /// `[process]`: who the daemon is once it runs.
    pub process: Process,
}

impl Config {
    /// Without any thread beside the one that decides: it answers NTP itself, and no network card stamps packets.
    pub fn without_threads(&mut self) {
        if let Some(serve) = &mut self.serve {
            serve.workers = 0;
        }
        // Their clocks are read by one.
        self.hwtimestamps.clear();
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            refclocks: Vec::new(),
            servers: Vec::new(),
            pools: Vec::new(),
            feeds: Vec::new(),
            local: None,
            broadcasts: Vec::new(),
            broadcast_clients: Vec::new(),
            passive_peers: Vec::new(),
            hwtimestamps: Vec::new(),
            keys: None,
            serve: None,
            clock: ClockSettings::default(),
            holdover_budget: 1e-3,
            thermometer: Thermometer::default(),
            control_socket: PathBuf::from(crate::control::DEFAULT_SOCKET),
            state_dir: PathBuf::from("/var/lib/refclockd"),
            process: Process::default(),
        }
    }
}

/// Which thermometer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Thermometer {
    /// The first thermal zone of the machine, if it has one.
    #[default]
    Auto,
    /// None.
    None,
    /// A file of hwmon, of a thermal zone or of a 1-wire sensor.
    File(PathBuf),
}

/// A reference clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Refclock {
    /// Unique name: the reference ID unless given, with a number behind it if several share the ID.
    pub name: String,
    /// How it is read.
    pub driver: Driver,
    /// Reference ID: `PPS` for the driver `pps`, else `GPS`, unless given.
    pub refid: ReferenceId,
    /// Messages: how long after the second they arrive, s. `None`: learned from the pulse.
    pub delay: Option<f64>,
    /// Constant lateness of its stamps (cable, interrupt), taken off each, s; positive = stamped late.
    pub offset: f64,
    /// Pulses: name of the only source that may number them. `None`: any that can.
    pub lock: Option<String>,
    /// What the selection is told of it.
    pub options: SelectionOptions,
    /// Stratum it gives itself, 0 for a reference clock.
    pub stratum: u8,
}

impl Refclock {
    /// A reference clock with the usual settings, named by the usual reference ID of its driver.
    pub fn new(driver: Driver) -> Self {
        let refid = driver.usual_refid();
        Self {
            name: refid.to_string(),
            driver,
            refid,
            delay: None,
            offset: 0.0,
            lock: None,
            options: SelectionOptions::default(),
            stratum: 0,
        }
    }
}

/// How a reference clock is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// A GNSS receiver on a serial port or pty.
    Receiver(Receiver),
    /// Kernel PPS, RFC 2783.
    Pps {
        /// The PPS device, or the serial port whose DCD input carries the pulse. `None`: the PPS device
        /// that is a receiver's.
        device: Option<PathBuf>,
        /// The edge on the second. `None`: the one that begins the pulse.
        edge: Option<Edge>,
        /// Echo it on the device's output.
        echo: bool,
        /// Hand it to the kernel's own discipline as well.
        kernel_consumer: bool,
    },
    /// gpsd's JSON socket.
    Gpsd {
        /// Where gpsd listens.
        address: Address,
        /// The receiver to follow, by gpsd's path of it. `None`: the first that has time.
        device: Option<String>,
    },
    /// NTP shared memory.
    Shm {
        /// Segment number: the key is 0x4e545030 + unit.
        unit: u8,
        /// Does it carry pulses? `None`: told by the driver.
        pulse: Option<bool>,
        /// Accept a segment that another user than root, or us, may write.
        trust_owner: bool,
    },
    /// A PTP hardware clock.
    Phc {
        /// Its device.
        device: PathBuf,
        /// Which time it keeps.
        scale: ClockScale,
        /// The pulse on an input of it is read, not its time.
        input: Option<PhcInput>,
    },
    /// chrony's SOCK datagrams.
    Sock {
        /// Path of the socket that is made.
        path: PathBuf,
        /// Does it carry pulses?
        pulse: bool,
        /// Who may write to it.
        access: Access,
    },
}

/// An input of a PTP hardware clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhcInput {
    /// Its number.
    pub channel: u32,
    /// The pin that becomes it. `None`: whatever it is already.
    pub pin: Option<u32>,
    /// The edge on the second.
    pub edge: Edge,
}

/// A GNSS receiver on a serial port or pty, which speaks NMEA 0183, UBX, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// The port.
    pub device: PathBuf,
    /// Its speed, bit/s; where it is set up, the one it is set to. `None`: found by trying.
    pub baud: Option<u32>,
    /// Driver `ubx`: only its UBX messages carry the time.
    pub only_ubx: bool,
    /// What to do with sentences that have no checksum.
    pub checksums: Checksums,
    /// Believe the time it gives without a fix: its own clock's.
    pub without_fix: bool,
    /// What to do with the sawtooth it tells of its pulse.
    pub sawtooth: SawtoothUse,
    /// Set it up for timing, if it is a u-blox; until its next restart.
    pub configure: Option<Wishes>,
}

impl Driver {
    /// The name in the file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Receiver(receiver) if receiver.only_ubx => "ubx",
            Self::Receiver(_) => "nmea",
            Self::Pps { .. } => "pps",
            Self::Gpsd { .. } => "gpsd",
            Self::Shm { .. } => "shm",
            Self::Phc { .. } => "phc",
            Self::Sock { .. } => "sock",
        }
    }

    /// What it reads: device, address, segment or path, for display.
    pub fn address(&self) -> String {
        match self {
            Self::Receiver(Receiver { device, .. }) | Self::Pps { device: Some(device), .. } => {
                device.display().to_string()
            }
            Self::Pps { device: None, .. } => "auto".to_owned(),
            Self::Gpsd { address, device: None } => address.to_string(),
            Self::Gpsd { address, device: Some(device) } => format!("{address} {device}"),
            Self::Phc { device, input: None, .. } => device.display().to_string(),
            Self::Phc { device, input: Some(input), .. } => format!("{} input {}", device.display(), input.channel),
            Self::Shm { unit, .. } => format!("SHM({unit})"),
            Self::Sock { path, .. } => path.display().to_string(),
        }
    }

    /// The reference ID unless one is given.
    pub fn usual_refid(&self) -> ReferenceId {
        match self {
            Self::Pps { .. } | Self::Phc { input: Some(_), .. } => ReferenceId(*b"PPS\0"),
            Self::Phc { .. } => ReferenceId(*b"PHC\0"),
            _ => ReferenceId(*b"GPS\0"),
        }
    }

    /// May it give pulses, numbered or not? gpsd's have a name of their own.
    pub fn gives_pulses(&self) -> bool {
        match self {
            Self::Pps { .. } | Self::Phc { input: Some(_), .. } | Self::Sock { pulse: true, .. } => true,
            // gpsd writes messages to even units and pulses, numbered, to odd ones.
            Self::Shm { unit, pulse, .. } => pulse.unwrap_or(unit % 2 == 1),
            Self::Receiver(_) | Self::Gpsd { .. } | Self::Phc { .. } | Self::Sock { .. } => false,
        }
    }

    /// Is it known to give pulses that do not say which second they mark?
    pub fn is_bare_pulse(&self) -> bool {
        matches!(
            self,
            Self::Pps { .. }
                | Self::Phc { input: Some(_), .. }
                | Self::Shm { pulse: Some(true), .. }
                | Self::Sock { pulse: true, .. }
        )
    }
}

/// A daemon of this machine that is told what we know.
#[derive(Clone, Debug, PartialEq)]
pub struct Feed {
    /// How it is told.
    pub driver: FeedConfig,
    /// Name of the pulse that it is told. `None`: our own clock.
    pub source: Option<String>,
    /// Only while our clock is known to within this, s.
    pub within: f64,
}

impl Feed {
    /// The usual settings: our own clock, while it is known to within 1 ms.
    pub fn new(driver: FeedConfig) -> Self {
        Self { driver, source: None, within: 1e-3 }
    }

    /// The unit of shared memory, if that is how.
    pub fn unit(&self) -> Option<u8> {
        match self.driver {
            FeedConfig::Shm { unit, .. } => Some(unit),
            FeedConfig::Sock { .. } => None,
        }
    }

    /// Whom it reaches, for display.
    pub fn address(&self) -> String {
        match &self.driver {
            FeedConfig::Shm { unit, .. } => format!("SHM({unit})"),
            FeedConfig::Sock { path, .. } => path.display().to_string(),
        }
    }
}

/// A network server.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Unique name: the host unless given.
    pub name: String,
    /// Name or address.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// Begin, and begin again after a silence, with quick polls.
    pub iburst: bool,
    /// log2 of the shortest poll interval, s.
    pub minpoll: i8,
    /// log2 of the longest, s.
    pub maxpoll: i8,
    /// What the selection is told of it.
    pub options: SelectionOptions,
    /// Number of the key that requests are signed with and replies have to be signed with.
    pub key: Option<u32>,
    /// NTP version of the requests, 1 to 4.
    pub version: u8,
    /// Ask as a peer (symmetric active), not as a client.
    pub peer: bool,
    /// Ask in interleaved mode.
    pub xleave: bool,
    /// From this poll interval on, log2 s, a request opens the way 2 s before each that is measured by.
    pub presend: Option<i8>,
    /// Which replies are not good enough.
    pub filters: Filters,
    /// From where it is asked.
    pub origin: Origin,
}

impl Server {
    /// A server with the usual settings, named like its host.
    pub fn new(host: impl Into<String>) -> Self {
        let host = host.into();
        Self {
            name: host.clone(),
            host,
            port: NTP_PORT,
            iburst: false,
            minpoll: 6,
            maxpoll: 10,
            options: SelectionOptions::default(),
            key: None,
            version: 4,
            peer: false,
            xleave: false,
            presend: None,
            filters: Filters::default(),
            origin: Origin::default(),
        }
    }
}

/// A name with several servers behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// What each of its servers is like; name and host are the pool's.
    pub each: Server,
    /// How many of them are used.
    pub maxsources: usize,
    /// Of a group (manycast): through so many routers less one requests to it go.
    pub ttl: u8,
}

impl Pool {
    /// The group whose members are asked for, instead of the addresses of a name.
    pub fn group(&self) -> Option<Group> {
        let ip: IpAddr = self.each.host.parse().ok().filter(IpAddr::is_multicast)?;
        let address = SocketAddr::new(ip, self.each.port);
        Some(Group { address, ttl: self.ttl, origin: self.each.origin.clone() })
    }
}

impl Pool {
    /// A pool with the usual settings: four servers.
    pub fn new(host: impl Into<String>) -> Self {
        Self { each: Server::new(host), maxsources: 4, ttl: 1 }
    }
}

/// Who the daemon is once it runs, and what it forbids itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Whom a daemon that was started as root becomes. `None`: `refclockd` if there is such a user.
    pub user: Option<String>,
    /// Write to the folders of devices, sockets and state only, and execute nothing (Landlock).
    pub sandbox: bool,
}

impl Default for Process {
    fn default() -> Self {
        Self { user: None, sandbox: true }
    }
}
