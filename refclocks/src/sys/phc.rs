//! The kernel's PTP hardware clocks (`/dev/ptpN`, linux/ptp_clock.h): our own layouts and ioctl numbers.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use crate::phc::{Crossing, Event, Reading, Triple};
use crate::report::Edge;
use crate::sys::clock::bracket;
use crate::time::{Span, Timestamp};

/// Readings in one request; the kernel gives up to 25.
const READINGS: usize = 25;

/// `struct ptp_clock_time`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct ClockTime {
    seconds: i64,
    nanos: u32,
    reserved: u32,
}

/// `struct ptp_clock_caps`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Capabilities {
    most_ppb: i32,
    alarms: i32,
    external_stamps: i32,
    periodic_outputs: i32,
    pps: i32,
    pins: i32,
    precise: i32,
    adjusts_phase: i32,
    reserved: [i32; 12],
}

/// `struct ptp_sys_offset`: system, device, system, ... and a last one of the system.
#[repr(C)]
#[derive(Clone, Copy)]
struct SystemOffset {
    readings: u32,
    reserved: [u32; 3],
    stamps: [ClockTime; 2 * READINGS + 1],
}

/// `struct ptp_sys_offset_extended`: before, device, after.
#[repr(C)]
#[derive(Clone, Copy)]
struct Extended {
    readings: u32,
    reserved: [u32; 3],
    stamps: [[ClockTime; 3]; READINGS],
}

/// `struct ptp_sys_offset_precise`: both read at one instant by the hardware.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Precise {
    device: ClockTime,
    realtime: ClockTime,
    monotonic_raw: ClockTime,
    reserved: [u32; 4],
}

/// `struct ptp_extts_request`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct ExternalRequest {
    channel: u32,
    flags: u32,
    reserved: [u32; 2],
}

/// `struct ptp_pin_desc`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Pin {
    name: [u8; 64],
    index: u32,
    function: u32,
    channel: u32,
    reserved: [u32; 5],
}

/// `struct ptp_extts_event`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct ExternalEvent {
    at: ClockTime,
    channel: u32,
    flags: u32,
    reserved: [u32; 2],
}

const _: () = {
    assert!(size_of::<ClockTime>() == 16);
    assert!(size_of::<Capabilities>() == 80);
    assert!(size_of::<SystemOffset>() == 832);
    assert!(size_of::<Extended>() == 1216);
    assert!(size_of::<Precise>() == 64);
    assert!(size_of::<ExternalRequest>() == 16);
    assert!(size_of::<Pin>() == 96);
    assert!(size_of::<ExternalEvent>() == 32);
};

/// `_IOC` with type '='.
const fn request(direction: u32, number: u32, size: usize) -> u32 {
    (direction << 30) | ((size as u32) << 16) | ((b'=' as u32) << 8) | number
}
const GET_CAPABILITIES: u32 = request(2, 1, size_of::<Capabilities>());
const SYSTEM_OFFSET: u32 = request(1, 5, size_of::<SystemOffset>());
const SYSTEM_OFFSET_PRECISE: u32 = request(3, 8, size_of::<Precise>());
const SYSTEM_OFFSET_EXTENDED: u32 = request(3, 9, size_of::<Extended>());
const EXTERNAL_REQUEST: u32 = request(1, 2, size_of::<ExternalRequest>());
const SET_PIN: u32 = request(1, 7, size_of::<Pin>());

const ENABLE: u32 = 1;
const RISING: u32 = 2;
const FALLING: u32 = 4;
const PIN_EXTERNAL_STAMP: u32 = 1;

/// How the device and CLOCK_REALTIME are read beside each other, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Precise,
    Extended,
    Basic,
}

/// An open hardware clock.
#[derive(Debug)]
pub struct PhcDevice {
    file: File,
    method: Cell<Method>,
    /// The kernel may read it beside CLOCK_MONOTONIC_RAW (6.12).
    beside_raw: Cell<bool>,
}

/// Why a hardware clock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PhcError {
    /// Opening or asking failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It answers no request of a hardware clock.
    #[error("not a hardware clock")]
    NotPhc,
    /// It has no such channel of external stamps, or that pin cannot be one's.
    #[error("no such input")]
    NoSuchInput,
}

impl PhcDevice {
    /// Opens a clock to read it; to have its inputs, to write to it as well.
    ///
    /// # Errors
    ///
    /// Why it is of no use.
    pub fn open(path: &str) -> Result<Self, PhcError> {
        let open = |write: bool| {
            let flags = libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
            OpenOptions::new().read(true).write(write).custom_flags(flags).open(path)
        };
        let file = match open(true) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => open(false)?,
            other => other?,
        };
        let mut capabilities = Capabilities::default();
        let asked = ioctl(&file, GET_CAPABILITIES, &mut capabilities);
        asked.map_err(|error| if is_unknown(&error) { PhcError::NotPhc } else { PhcError::Io(error) })?;
        let method = if capabilities.precise != 0 { Method::Precise } else { Method::Extended };
        Ok(Self { file, method: Cell::new(method), beside_raw: Cell::new(true) })
    }

    /// Reads it beside CLOCK_REALTIME.
    ///
    /// # Errors
    ///
    /// The system's, when the device knows none of the ways to do that.
    pub fn read(&self) -> io::Result<Reading> {
        loop {
            let (read, next) = match self.method.get() {
                Method::Precise => (self.precise(), Some(Method::Extended)),
                Method::Extended => (self.extended(libc::CLOCK_REALTIME as u32).map(bracketed), Some(Method::Basic)),
                Method::Basic => (self.basic(), None),
            };
            match (read, next) {
                // Drivers promise a way that firmware then refuses.
                (Err(error), Some(next)) if is_unknown(&error) => self.method.set(next),
                (read, _) => return read,
            }
        }
    }

    /// Reads it beside CLOCK_MONOTONIC_RAW. `None` if the clocks were set meanwhile.
    ///
    /// # Errors
    ///
    /// Those of [`PhcDevice::read`].
    pub fn cross(&self) -> io::Result<Option<Crossing>> {
        if self.method.get() == Method::Precise {
            let mut both = Precise::default();
            match ioctl(&self.file, SYSTEM_OFFSET_PRECISE, &mut both) {
                Ok(()) => {
                    let (raw, device) = (stamp(both.monotonic_raw), stamp(both.device));
                    return Ok(Some(Crossing { raw, device, half_width: Span::from_nanos(4) }));
                }
                Err(error) if is_unknown(&error) => self.method.set(Method::Extended),
                Err(error) => return Err(error),
            }
        }
        if self.method.get() == Method::Extended && self.beside_raw.get() {
            match self.extended(libc::CLOCK_MONOTONIC_RAW as u32) {
                Ok(triples) => {
                    let best = triples.iter().min_by_key(|[before, _, after]| nanos_between(*before, *after));
                    return Ok(best.map(|[before, device, after]| {
                        let half_width = Span::from_nanos((nanos_between(*before, *after) / 2).max(4));
                        Crossing { raw: stamp(*before) + half_width, device: stamp(*device), half_width }
                    }));
                }
                Err(error) if is_unknown(&error) => self.beside_raw.set(false),
                Err(error) => return Err(error),
            }
        }
        let before = bracket();
        let reading = self.read()?;
        Ok(reading.best().and_then(|pair| pair.carried_over(&before, &bracket())))
    }

    /// Has an input stamped. `pin`: the pin that becomes that input; without one, whatever it is already.
    ///
    /// # Errors
    ///
    /// Why there will be no stamps.
    pub fn stamp_input(&self, channel: u32, pin: Option<u32>, edge: Edge) -> Result<(), PhcError> {
        let no_such = |error: io::Error| match error.raw_os_error() {
            Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOTTY) => PhcError::NoSuchInput,
            _ => PhcError::Io(error),
        };
        if let Some(index) = pin {
            let mut pin = Pin { name: [0; 64], index, function: PIN_EXTERNAL_STAMP, channel, reserved: [0; 5] };
            ioctl(&self.file, SET_PIN, &mut pin).map_err(no_such)?;
        }
        let edge = match edge {
            Edge::Assert => RISING,
            Edge::Clear => FALLING,
        };
        let mut asked = ExternalRequest { channel, flags: ENABLE | edge, reserved: [0; 2] };
        ioctl(&self.file, EXTERNAL_REQUEST, &mut asked).map_err(no_such)
    }

    /// The stamps that wait, of all channels.
    ///
    /// # Errors
    ///
    /// The system's; [`io::ErrorKind::WouldBlock`] if none does.
    pub fn events(&self) -> io::Result<Vec<Event>> {
        const SIZE: usize = size_of::<ExternalEvent>();
        let mut bytes = [0; 32 * SIZE];
        let n = (&self.file).read(&mut bytes)?;
        Ok(bytes.get(..n).unwrap_or_default().chunks_exact(SIZE).filter_map(event).collect())
    }

    /// Waits for stamps on the runtime's reactor.
    ///
    /// # Errors
    ///
    /// The system's.
    #[cfg(feature = "tokio")]
    pub fn watch(self) -> io::Result<tokio::io::unix::AsyncFd<Self>> {
        // SAFETY: the descriptor belongs to `self`, which the `AsyncFd` owns from here on and which
        // gives it to nobody else: it stays open, and the same file, for as long as it is watched.
        let watched = unsafe { tokio::io::unix::AsyncFd::register_with_interest(self, tokio::io::Interest::READABLE) };
        Ok(watched?)
    }

    fn precise(&self) -> io::Result<Reading> {
        let mut both = Precise::default();
        ioctl(&self.file, SYSTEM_OFFSET_PRECISE, &mut both)?;
        Ok(Reading::Precise { device: stamp(both.device), realtime: stamp(both.realtime) })
    }

    /// Before, device, after, several times; beside that system clock, of which older kernels know CLOCK_REALTIME only.
    fn extended(&self, clock: u32) -> io::Result<[[ClockTime; 3]; READINGS]> {
        let stamps = [[ClockTime::default(); 3]; READINGS];
        let mut read = Extended { readings: READINGS as u32, reserved: [clock, 0, 0], stamps };
        ioctl(&self.file, SYSTEM_OFFSET_EXTENDED, &mut read)?;
        Ok(read.stamps)
    }

    fn basic(&self) -> io::Result<Reading> {
        let empty = [ClockTime::default(); 2 * READINGS + 1];
        let mut read = SystemOffset { readings: READINGS as u32, reserved: [0; 3], stamps: empty };
        ioctl(&self.file, SYSTEM_OFFSET, &mut read)?;
        let triples = read.stamps.windows(3).step_by(2).filter_map(|stamps| match stamps {
            [before, device, after] => {
                Some(Triple { before: stamp(*before), device: stamp(*device), after: stamp(*after) })
            }
            _ => None,
        });
        Ok(Reading::Bracketed(triples.collect()))
    }
}

impl AsRawFd for PhcDevice {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.file.as_raw_fd()
    }
}

fn ioctl<T>(file: &File, request: u32, argument: &mut T) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file`; each request is made above of the size of
    // the type it reads and writes, and `argument` is a valid, exclusive reference to one.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request as _, std::ptr::from_mut(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A request that the device, or the kernel, does not know.
fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS))
}

fn bracketed(stamps: [[ClockTime; 3]; READINGS]) -> Reading {
    let triples = stamps.iter().map(|[before, device, after]| Triple {
        before: stamp(*before),
        device: stamp(*device),
        after: stamp(*after),
    });
    Reading::Bracketed(triples.collect())
}

fn nanos_between(before: ClockTime, after: ClockTime) -> i64 {
    (after.seconds - before.seconds) * 1_000_000_000 + i64::from(after.nanos) - i64::from(before.nanos)
}

fn stamp<S: crate::time::Scale>(time: ClockTime) -> Timestamp<S> {
    Timestamp::from_parts(time.seconds, time.nanos)
}

fn event(bytes: &[u8]) -> Option<Event> {
    let part = |at: usize| bytes.get(at..at + 4).and_then(|part| part.try_into().ok());
    let seconds = bytes.get(..8).and_then(|part| part.try_into().ok()).map(i64::from_ne_bytes)?;
    let nanos = part(8).map(u32::from_ne_bytes)?;
    let channel = part(std::mem::offset_of!(ExternalEvent, channel)).map(u32::from_ne_bytes)?;
    Some(Event { at: Timestamp::from_parts(seconds, nanos), channel })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn layouts_and_requests_are_the_compilers() {
        crate::sys::abi_tests::compare(&[
            ("sizeof(struct ptp_clock_caps)", size_of::<Capabilities>()),
            ("offsetof(struct ptp_clock_caps, cross_timestamping)", offset_of!(Capabilities, precise)),
            ("sizeof(struct ptp_sys_offset)", size_of::<SystemOffset>()),
            ("offsetof(struct ptp_sys_offset, ts)", offset_of!(SystemOffset, stamps)),
            ("sizeof(struct ptp_sys_offset_extended)", size_of::<Extended>()),
            ("offsetof(struct ptp_sys_offset_extended, ts)", offset_of!(Extended, stamps)),
            ("sizeof(struct ptp_sys_offset_precise)", size_of::<Precise>()),
            ("offsetof(struct ptp_sys_offset_precise, sys_realtime)", offset_of!(Precise, realtime)),
            ("sizeof(struct ptp_extts_request)", size_of::<ExternalRequest>()),
            ("sizeof(struct ptp_pin_desc)", size_of::<Pin>()),
            ("offsetof(struct ptp_pin_desc, func)", offset_of!(Pin, function)),
            ("offsetof(struct ptp_pin_desc, chan)", offset_of!(Pin, channel)),
            ("sizeof(struct ptp_extts_event)", size_of::<ExternalEvent>()),
            ("offsetof(struct ptp_extts_event, index)", offset_of!(ExternalEvent, channel)),
            ("PTP_CLOCK_GETCAPS", GET_CAPABILITIES as usize),
            ("PTP_SYS_OFFSET", SYSTEM_OFFSET as usize),
            ("PTP_SYS_OFFSET_PRECISE", SYSTEM_OFFSET_PRECISE as usize),
            ("PTP_SYS_OFFSET_EXTENDED", SYSTEM_OFFSET_EXTENDED as usize),
            ("PTP_EXTTS_REQUEST", EXTERNAL_REQUEST as usize),
            ("PTP_PIN_SETFUNC", SET_PIN as usize),
            ("PTP_PF_EXTTS", PIN_EXTERNAL_STAMP as usize),
            ("PTP_ENABLE_FEATURE", ENABLE as usize),
            ("PTP_RISING_EDGE", RISING as usize),
            ("PTP_FALLING_EDGE", FALLING as usize),
        ]);
    }

    #[test]
    fn another_file_is_not_a_hardware_clock() {
        assert!(matches!(PhcDevice::open("/dev/null"), Err(PhcError::NotPhc)));
        assert!(matches!(PhcDevice::open("/dev/no-such-ptp"), Err(PhcError::Io(_))));
    }

    #[test]
    fn stamps_of_inputs_are_read_whole() {
        let mut bytes = Vec::new();
        bytes.extend(1_795_319_391i64.to_ne_bytes());
        for word in [5u32, 0, 2, 0, 0, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        assert_eq!(bytes.len(), size_of::<ExternalEvent>());
        assert_eq!(event(&bytes), Some(Event { at: Timestamp::from_parts(1_795_319_391, 5), channel: 2 }));
        assert_eq!(event(&bytes[..19]), None);
    }
}
