//! A device is a state, with its reason, since when, and what to do about it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::{Raw, Span, Timestamp};

/// Where a device stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceState {
    /// The state.
    pub phase: DevicePhase,
    /// Why.
    pub reason: DeviceReason,
    /// Since when.
    pub since: Timestamp<Raw>,
}

impl DeviceState {
    /// Puts a state in the place of the last one. Returns it if it is worth a report: the phase is another
    /// one, or the kind of reason; more of the same is not.
    pub fn change(
        last: &mut Option<Self>,
        phase: DevicePhase,
        reason: DeviceReason,
        since: Timestamp<Raw>,
    ) -> Option<Self> {
        let is_the_same =
            |s: &Self| s.phase == phase && std::mem::discriminant(&s.reason) == std::mem::discriminant(&reason);
        if last.as_ref().is_some_and(is_the_same) {
            return None;
        }
        last.insert(Self { phase, reason, since }).clone().into()
    }
}

/// The states a device can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DevicePhase {
    /// It is not there. We look for it again with back-off.
    Absent,
    /// It is there and being opened, or open and silent so far.
    Opening,
    /// It talks, but its receiver has no valid time yet.
    WaitingForFix,
    /// It delivers.
    Good,
    /// It delivered, and has fallen silent.
    Stale,
    /// It is there but cannot be used as it is.
    Faulty,
}

/// Why a device is in its state. Rendered to words only where a person reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum DeviceReason {
    /// Nothing looked at it yet.
    NotStarted,
    /// The path does not exist.
    NoSuchDevice {
        /// The path.
        path: String,
    },
    /// Not allowed to open it.
    PermissionDenied {
        /// The path, or what stands for it.
        path: String,
        /// What would let us.
        remedy: Remedy,
    },
    /// Something else holds it.
    Busy {
        /// The path.
        path: String,
    },
    /// Opening or reading failed in another way.
    Io {
        /// The path or address.
        path: String,
        /// The system's words.
        error: String,
    },
    /// It vanished while in use.
    Unplugged {
        /// The path or address.
        path: String,
    },
    /// What is at that path is something else.
    NotThisKind {
        /// The path.
        path: String,
        /// What was expected, e.g. "a PPS device".
        expected: &'static str,
    },
    /// Open, nothing has come yet.
    Silent,
    /// Bytes come and make no sense: usually the wrong speed.
    Garbage {
        /// Bytes received.
        bytes: u64,
        /// The speed in use, bit/s, where there is one.
        baud: Option<u32>,
    },
    /// The peer speaks another language, e.g. JSON that is not gpsd's.
    NotTheProtocol {
        /// Which protocol was expected.
        expected: &'static str,
    },
    /// The receiver says that it has no valid time.
    NoFix {
        /// Satellites used, if it says.
        satellites_used: Option<u16>,
    },
    /// Time comes.
    Delivering,
    /// No message or pulse for so long.
    Quiet {
        /// Since the last one.
        silence: Span,
    },
    /// Nobody reads a socket that we write to.
    NobodyListens {
        /// The socket's path.
        path: String,
    },
    /// A shared memory segment of another size than NTP's.
    SegmentSize {
        /// Unit number.
        unit: u8,
        /// Bytes found.
        found: usize,
    },
    /// A shared memory segment that somebody we do not trust can write.
    SegmentOwner {
        /// Unit number.
        unit: u8,
        /// Owner found.
        uid: u32,
        /// Permission bits found.
        mode: u32,
    },
    /// The date the receiver sends cannot be right and cannot be mended.
    ImpossibleDate {
        /// What it sent.
        date: String,
    },
    /// The edge asked for is not captured and may not be switched on.
    EdgeNotCaptured {
        /// The path.
        path: String,
    },
    /// More edges than seconds.
    ManyEdges {
        /// Edges a second.
        each_second: u32,
    },
    /// No PPS device of this machine belongs to a receiver.
    NoPulseDevice {
        /// Those that there are, and what they are, e.g. `pps0 (ptp0, of a network card)`.
        others: Vec<String>,
    },
    /// As a recording tells it.
    Told {
        /// In words.
        words: String,
        /// What a person could do about it.
        action: Option<String>,
    },
    /// The kernel cannot stamp pulses on a serial port.
    NoLineDiscipline {
        /// The port.
        path: String,
    },
}

/// What would let us use what we may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Its group may.
    JoinGroup {
        /// The group.
        group: String,
        /// Our user.
        user: String,
    },
    /// Only its owner may.
    OwnIt {
        /// Our user.
        user: String,
    },
    /// Only root may take it.
    StartAsRoot,
    /// Its mode lets us, and something else forbids it.
    Unconfine,
}

impl DeviceReason {
    /// What a person can do about it, in one imperative sentence.
    pub fn action(&self) -> Option<String> {
        Some(match self {
            Self::NoSuchDevice { path } => {
                format!("Check that {path} is connected and that its driver or overlay is loaded.")
            }
            Self::PermissionDenied { path, remedy } => match remedy {
                Remedy::JoinGroup { group, user } => {
                    format!("Run `sudo usermod -aG {group} {user}` and restart the daemon.")
                }
                Remedy::OwnIt { user } => {
                    format!("Run `sudo chown {user} {path}`, and have a udev rule do it at each boot.")
                }
                Remedy::StartAsRoot => {
                    format!("Start the daemon as root: it takes {path} and then becomes its user.")
                }
                Remedy::Unconfine => format!(
                    "By its mode we may: look for what confines the daemon (`DeviceAllow=` of its service, AppArmor, \
                     SELinux), and restart it if {path} is new in its configuration."
                ),
            },
            Self::Busy { path } => format!("Find and stop the other program: `fuser -v {path}`."),
            Self::Garbage { baud: Some(_), .. } => {
                "Set `baud` to the receiver's speed: 4800, 9600, 38400 and 115200 are common.".into()
            }
            Self::NoFix { .. } => "Give the antenna a view of the sky; the first fix can take 15 minutes.".into(),
            Self::SegmentSize { unit, .. } => {
                format!(
                    "Remove the segment with `ipcrm -M 0x{:08x}` and restart the program that writes it.",
                    shm_key(*unit)
                )
            }
            Self::SegmentOwner { unit, .. } => {
                format!(
                    "Remove the segment with `ipcrm -M 0x{:08x}`, then start its writer as root, or set `trust_owner = true`.",
                    shm_key(*unit)
                )
            }
            Self::ImpossibleDate { .. } => "Restart the receiver, or update its firmware.".into(),
            Self::NoLineDiscipline { .. } => {
                "Load it: `modprobe pps_ldisc`; for every boot: `echo pps_ldisc > /etc/modules-load.d/pps.conf`.".into()
            }
            Self::Told { action, .. } => return action.clone(),
            Self::NobodyListens { path } => {
                format!("Start the daemon that reads it: in chrony.conf, `refclock SOCK {path}`.")
            }
            Self::ManyEdges { .. } => {
                "Set the receiver to one pulse a second; if it is, mend the wiring (a pull-down, a shorter or shielded wire)."
                    .into()
            }
            Self::NoPulseDevice { .. } => {
                "For a pulse on a GPIO pin, load its overlay: `dtoverlay=pps-gpio,gpiopin=18` in config.txt (4 for \
                 Adafruit's), then reboot. For one on a serial port's DCD, name that port as `device`."
                    .into()
            }
            Self::EdgeNotCaptured { .. } => "Use `edge = \"assert\"`, or give the daemon CAP_SYS_TIME.".into(),
            Self::NotThisKind { .. } | Self::NotTheProtocol { .. } => {
                "Check the path or address in the configuration.".into()
            }
            Self::Quiet { .. } | Self::Silent => {
                "Check the cable, and that the receiver is powered and configured to send.".into()
            }
            Self::NotStarted | Self::Io { .. } | Self::Unplugged { .. } | Self::Delivering | Self::Garbage { .. } => {
                return None;
            }
        })
    }
}

/// In words; what comes back is [`DeviceReason::Told`].
impl Serialize for DeviceReason {
    fn serialize<Z: Serializer>(&self, to: Z) -> Result<Z::Ok, Z::Error> {
        (self.to_string(), self.action()).serialize(to)
    }
}

impl<'de> Deserialize<'de> for DeviceReason {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (words, action) = Deserialize::deserialize(from)?;
        Ok(Self::Told { words, action })
    }
}

impl fmt::Display for DeviceReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted => f.write_str("not started yet"),
            Self::NoSuchDevice { path } => write!(f, "{path} does not exist"),
            Self::PermissionDenied { path, .. } => write!(f, "no permission to use {path}"),
            Self::Busy { path } => write!(f, "{path} is in use by another program"),
            Self::Io { path, error } => write!(f, "{path}: {error}"),
            Self::Unplugged { path } => write!(f, "{path} went away"),
            Self::NotThisKind { path, expected } => write!(f, "{path} is not {expected}"),
            Self::Silent => f.write_str("open, but nothing has come yet"),
            Self::Garbage { bytes, baud: Some(baud) } => {
                write!(f, "{bytes} bytes came and make no sense at {baud} bit/s")
            }
            Self::Garbage { bytes, baud: None } => write!(f, "{bytes} bytes came and make no sense"),
            Self::NotTheProtocol { expected } => write!(f, "what answers there does not speak {expected}"),
            Self::NoFix { satellites_used: Some(n) } => write!(f, "the receiver has no time yet ({n} satellites used)"),
            Self::NoFix { satellites_used: None } => f.write_str("the receiver has no time yet"),
            Self::Delivering => f.write_str("delivering"),
            Self::Quiet { silence } => write!(f, "nothing for {:.0} s", silence.seconds()),
            Self::SegmentSize { unit, found } => {
                write!(f, "SHM unit {unit} has {found} bytes, not 96 or 80: whoever made it means something else")
            }
            Self::SegmentOwner { unit, uid, mode } => {
                write!(
                    f,
                    "SHM unit {unit} belongs to uid {uid} with mode {mode:03o}: others than root and we can write it"
                )
            }
            Self::ImpossibleDate { date } => write!(f, "the receiver sends the impossible date {date}"),
            Self::Told { words, .. } => f.write_str(words),
            Self::NobodyListens { path } => write!(f, "nobody listens at {path}"),
            Self::ManyEdges { each_second } => {
                write!(f, "{each_second} edges a second: which of them is on the second cannot be told")
            }
            Self::NoPulseDevice { others } if others.is_empty() => f.write_str("this machine has no PPS device"),
            Self::NoPulseDevice { others } => {
                write!(f, "no PPS device of this machine is a receiver's: there is {}", others.join(", "))
            }
            Self::NoLineDiscipline { path } => {
                write!(f, "the kernel cannot stamp pulses on {path}: its module pps-ldisc is not loaded")
            }
            Self::EdgeNotCaptured { path } => write!(f, "{path} does not capture that edge, and we may not change it"),
        }
    }
}

/// System V key of an NTP shared memory unit: "NTP0" and on.
pub const fn shm_key(unit: u8) -> i32 {
    0x4e54_5030 + unit as i32
}

/// Counts of what came. Each driver counts what applies to it; the rest stays 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Bytes read.
    pub bytes: u64,
    /// Well-formed frames: sentences, JSON objects, segments, datagrams, edges.
    pub frames: u64,
    /// Frames whose checksum, magic or size was wrong.
    pub bad_checksum: u64,
    /// Frames that could not be understood.
    pub malformed: u64,
    /// Frames that say their time is not valid.
    pub no_fix: u64,
    /// Frames that came too late to be used, or repeated the last one.
    pub stale: u64,
    /// Dates repaired by whole periods of 1024 weeks.
    pub rollover_repaired: u64,
    /// Samples given.
    pub samples: u64,
    /// Pulses given.
    pub pulses: u64,
    /// Pulses that came and went unread.
    pub missed_pulses: u64,
    /// Pulses that were due and did not come.
    pub missing_pulses: u64,
    /// Edges beyond one a second.
    pub double_pulses: u64,
    /// From assert to clear, of the last pulse, us; 0 while unknown.
    pub pulse_width_us: u64,
    /// Times the device was opened.
    pub opened: u64,
}

/// When to try again: after 0.5 s, 1 s, then every 1.5 s. A device that appears is attached within
/// 2 s, and looking for it costs one system call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    tries: u8,
}

impl Backoff {
    /// How long to wait before the next try.
    pub fn next_delay(&mut self) -> Span {
        let delay = Span::from_millis(500 * (1 + i64::from(self.tries.min(2))));
        self.tries = self.tries.saturating_add(1);
        delay
    }

    /// It worked: begin anew next time.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}
