//! The kernel's PPS interface: our own layouts and ioctl numbers, right on 32 and 64 bits.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::appearance::leads_elsewhere;
use crate::pps::PpsInfo;
use crate::report::Edge;
use crate::time::{Realtime, Timestamp};

/// `struct pps_ktime`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct KTime {
    seconds: i64,
    nanos: i32,
    flags: u32,
}

/// `struct pps_kinfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Info {
    assert_sequence: u32,
    clear_sequence: u32,
    assert: KTime,
    clear: KTime,
    current_mode: i32,
}

/// `struct pps_fdata`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct FetchData {
    info: Info,
    timeout: KTime,
}

/// `struct pps_kparams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Params {
    api_version: i32,
    mode: i32,
    assert_offset: KTime,
    clear_offset: KTime,
}

/// `struct pps_bind_args`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct BindArguments {
    format: i32,
    edge: i32,
    consumer: i32,
}

// The kernel's 64-bit time is aligned to 8 bytes on every architecture but i386, where it is to 4.
// A 32-bit ARM program on a 64-bit kernel meets a compat layer that takes i386's layout: it reads our
// timeout 4 bytes early. Ours is zero all over, so that it reads zero.
const _: () = {
    let padding = if cfg!(target_arch = "x86") { 0 } else { 4 };
    assert!(size_of::<KTime>() == 16);
    assert!(size_of::<Info>() == 44 + padding);
    assert!(size_of::<FetchData>() == 60 + padding);
    assert!(size_of::<Params>() == 40);
    assert!(size_of::<BindArguments>() == 12);
};

const CAPTURE_ASSERT: i32 = 0x01;
const CAPTURE_CLEAR: i32 = 0x02;
const CAPTURE_BOTH: i32 = CAPTURE_ASSERT | CAPTURE_CLEAR;
const ECHO_ASSERT: i32 = 0x40;
const ECHO_CLEAR: i32 = 0x80;
const FORMAT_TIMESPEC: i32 = 0x1000;
/// The kernel's only consumer: hardpps().
const HARD_PPS: i32 = 0;

/// `_IOC` with type 'p'. The size is that of a pointer: the header names pointers to its structures.
const fn request(direction: u32, number: u32) -> u32 {
    (direction << 30) | ((size_of::<*const ()>() as u32) << 16) | ((b'p' as u32) << 8) | number
}
const GET_PARAMS: u32 = request(2, 0xa1);
const SET_PARAMS: u32 = request(1, 0xa2);
const GET_CAP: u32 = request(2, 0xa3);
const FETCH: u32 = request(3, 0xa4);
const KERNEL_BIND: u32 = request(1, 0xa5);

/// An open PPS device.
#[derive(Debug)]
pub struct PpsDevice {
    file: File,
    /// Where it was found, if it can be seen there.
    place: Option<PathBuf>,
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Opening failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It answers no PPS request.
    #[error("not a PPS device")]
    NotPps,
    /// The edge is not captured, and we may not switch it on.
    #[error("it does not capture that edge")]
    EdgeNotCaptured,
    /// A serial port, and the kernel cannot stamp pulses on one.
    #[error("the kernel has no line discipline for pulses")]
    NoLineDiscipline,
    /// None of the machine's PPS devices, which are these, is a receiver's.
    #[error("no PPS device is a receiver's")]
    NotAReceivers(Vec<String>),
}

impl PpsDevice {
    /// Opens a device and sees that it captures the edge; without one, whatever it can capture.
    ///
    /// # Errors
    ///
    /// Why it is of no use.
    pub fn open(path: &str, edge: Option<Edge>) -> Result<Self, OpenError> {
        let open = |write: bool| {
            OpenOptions::new().read(true).write(write).custom_flags(libc::O_CLOEXEC | libc::O_NOCTTY).open(path)
        };
        let file = match open(true) {
            // Reading is enough to fetch.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => open(false)?,
            other => other?,
        };
        let place = Some(PathBuf::from(path)).filter(|path| !leads_elsewhere(path, &file));
        let device = Self { file, place };
        device.capture(edge)?;
        Ok(device)
    }

    fn capture(&self, edge: Option<Edge>) -> Result<(), OpenError> {
        let capabilities = self.capabilities().map_err(not_pps)?;
        let wanted = edge.map_or(CAPTURE_BOTH & capabilities, |edge| by_edge(edge, CAPTURE_ASSERT, CAPTURE_CLEAR));
        if wanted == 0 || capabilities & wanted != wanted {
            return Err(OpenError::EdgeNotCaptured);
        }
        let captured = self.mode().map_err(not_pps)? & CAPTURE_BOTH;
        if captured & wanted == wanted {
            return Ok(());
        }
        match self.add_to_mode(wanted) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::EINVAL)) => {
                // Without an edge to insist on, what is captured already does.
                if edge.is_none() && captured != 0 { Ok(()) } else { Err(OpenError::EdgeNotCaptured) }
            }
            Err(error) => Err(OpenError::Io(error)),
        }
    }

    /// Has an edge echoed on the device's output, if it has one.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] if it has none; the system's, which wants CAP_SYS_TIME.
    pub fn echo(&self, edge: Edge) -> io::Result<()> {
        let flag = by_edge(edge, ECHO_ASSERT, ECHO_CLEAR);
        if self.capabilities()? & flag == 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.add_to_mode(flag)
    }

    /// Hands an edge to the kernel's own discipline as well (RFC 2783 section 3.4.4), which steers only
    /// where adjtimex(2) tells it to, and tells its frequency, jitter and stability there.
    ///
    /// # Errors
    ///
    /// The system's: most kernels are built without it, since it wants a periodic tick.
    pub fn bind_kernel_consumer(&self, edge: Edge) -> io::Result<()> {
        let edge = by_edge(edge, CAPTURE_ASSERT, CAPTURE_CLEAR);
        let mut arguments = BindArguments { format: FORMAT_TIMESPEC, edge, consumer: HARD_PPS };
        self.ioctl(KERNEL_BIND, &mut arguments)
    }

    fn capabilities(&self) -> io::Result<i32> {
        let mut capabilities = 0i32;
        self.ioctl(GET_CAP, &mut capabilities)?;
        Ok(capabilities)
    }

    fn mode(&self) -> io::Result<i32> {
        let mut params = Params::default();
        self.ioctl(GET_PARAMS, &mut params)?;
        Ok(params.mode)
    }

    /// Needs CAP_SYS_TIME.
    fn add_to_mode(&self, flags: i32) -> io::Result<()> {
        let mut params = Params::default();
        self.ioctl(GET_PARAMS, &mut params)?;
        params.api_version = 1;
        params.mode |= flags | FORMAT_TIMESPEC;
        self.ioctl(SET_PARAMS, &mut params)
    }

    /// Has it been taken away, or made anew, since it was opened? The kernel goes on telling the last
    /// edge of a device that is gone.
    pub fn is_gone(&self) -> bool {
        self.place.as_ref().is_some_and(|place| leads_elsewhere(place, &self.file))
    }

    /// The last edges, without waiting.
    pub fn fetch(&self) -> io::Result<PpsInfo> {
        let mut data = FetchData::default();
        self.ioctl(FETCH, &mut data)?;
        let stamp = |t: KTime| Timestamp::<Realtime>::from_parts(t.seconds, u32::try_from(t.nanos).unwrap_or(0));
        let Info { assert_sequence, clear_sequence, assert, clear, .. } = data.info;
        Ok(PpsInfo { assert_sequence, clear_sequence, assert: stamp(assert), clear: stamp(clear) })
    }

    fn ioctl<T>(&self, request: u32, argument: &mut T) -> io::Result<()> {
        // SAFETY: the descriptor is open for as long as `self`; each request is paired above with
        // the type it reads and writes, and `argument` is a valid, exclusive reference to one.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), request as _, std::ptr::from_mut(argument)) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

const fn by_edge(edge: Edge, assert: i32, clear: i32) -> i32 {
    match edge {
        Edge::Assert => assert,
        Edge::Clear => clear,
    }
}

/// What is no PPS device does not know its requests; one that fails otherwise is a PPS device in trouble.
fn not_pps(error: io::Error) -> OpenError {
    match error.raw_os_error() {
        Some(libc::ENOTTY | libc::EINVAL | libc::EOPNOTSUPP) => OpenError::NotPps,
        _ => OpenError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn requests_have_the_kernels_numbers() {
        let numbers = [0x8008_70a1, 0x4008_70a2, 0x8008_70a3, 0xc008_70a4, 0x4008_70a5];
        assert_eq!([GET_PARAMS, SET_PARAMS, GET_CAP, FETCH, KERNEL_BIND], numbers);
    }

    #[test]
    #[cfg(target_pointer_width = "32")]
    fn requests_have_the_kernels_numbers() {
        let numbers = [0x8004_70a1, 0x4004_70a2, 0x8004_70a3, 0xc004_70a4, 0x4004_70a5];
        assert_eq!([GET_PARAMS, SET_PARAMS, GET_CAP, FETCH, KERNEL_BIND], numbers);
    }

    /// `pps-time` was made from the kernel's own header. Its request numbers are private, and those of
    /// 64-bit machines only: elsewhere the size in them, that of a pointer, is 4.
    #[test]
    #[cfg(not(target_arch = "x86"))]
    fn layouts_are_those_of_the_kernels_header() {
        use std::mem::{align_of, offset_of, size_of};

        use pps_time::pps::{self, pps_fdata, pps_kinfo, pps_kparams, pps_ktime};

        assert_eq!(size_of::<KTime>(), size_of::<pps_ktime>());
        assert_eq!(align_of::<KTime>(), align_of::<pps_ktime>());
        assert_eq!(offset_of!(KTime, seconds), offset_of!(pps_ktime, sec));
        assert_eq!(offset_of!(KTime, nanos), offset_of!(pps_ktime, nsec));
        assert_eq!(offset_of!(KTime, flags), offset_of!(pps_ktime, flags));

        assert_eq!(size_of::<Info>(), size_of::<pps_kinfo>());
        assert_eq!(offset_of!(Info, assert_sequence), offset_of!(pps_kinfo, assert_sequence));
        assert_eq!(offset_of!(Info, clear_sequence), offset_of!(pps_kinfo, clear_sequence));
        assert_eq!(offset_of!(Info, assert), offset_of!(pps_kinfo, assert_tu));
        assert_eq!(offset_of!(Info, clear), offset_of!(pps_kinfo, clear_tu));
        assert_eq!(offset_of!(Info, current_mode), offset_of!(pps_kinfo, current_mode));
        assert_eq!(size_of::<FetchData>(), size_of::<pps_fdata>());
        assert_eq!(align_of::<FetchData>(), align_of::<pps_fdata>());
        assert_eq!(offset_of!(FetchData, info), offset_of!(pps_fdata, info));
        assert_eq!(offset_of!(FetchData, timeout), offset_of!(pps_fdata, timeout));

        assert_eq!(size_of::<Params>(), size_of::<pps_kparams>());
        assert_eq!(offset_of!(Params, api_version), offset_of!(pps_kparams, api_version));
        assert_eq!(offset_of!(Params, mode), offset_of!(pps_kparams, mode));
        assert_eq!(offset_of!(Params, assert_offset), offset_of!(pps_kparams, assert_off_tu));
        assert_eq!(offset_of!(Params, clear_offset), offset_of!(pps_kparams, clear_off_tu));

        let flags = [CAPTURE_ASSERT, CAPTURE_CLEAR, FORMAT_TIMESPEC].map(|flag| flag as u32);
        assert_eq!(flags, [pps::PPS_CAPTUREASSERT, pps::PPS_CAPTURECLEAR, pps::PPS_TSFMT_TSPEC]);
        let direction = [pps::_IOC_READ, pps::_IOC_WRITE, pps::_IOC_READ | pps::_IOC_WRITE];
        assert_eq!([GET_PARAMS, SET_PARAMS, FETCH].map(|r| r >> pps::_IOC_DIRSHIFT), direction);
        let size = (FETCH >> pps::_IOC_SIZESHIFT) & pps::_IOC_SIZEMASK;
        assert_eq!(size as usize, size_of::<usize>());
    }

    #[test]
    fn layouts_and_requests_are_the_compilers() {
        use std::mem::{offset_of, size_of};

        crate::sys::abi_tests::compare(&[
            ("sizeof(struct pps_ktime)", size_of::<KTime>()),
            ("sizeof(struct pps_kinfo)", size_of::<Info>()),
            ("offsetof(struct pps_kinfo, clear_tu)", offset_of!(Info, clear)),
            ("sizeof(struct pps_fdata)", size_of::<FetchData>()),
            ("offsetof(struct pps_fdata, timeout)", offset_of!(FetchData, timeout)),
            ("sizeof(struct pps_kparams)", size_of::<Params>()),
            ("offsetof(struct pps_kparams, clear_off_tu)", offset_of!(Params, clear_offset)),
            ("sizeof(struct pps_bind_args)", size_of::<BindArguments>()),
            ("PPS_GETPARAMS", GET_PARAMS as usize),
            ("PPS_SETPARAMS", SET_PARAMS as usize),
            ("PPS_GETCAP", GET_CAP as usize),
            ("PPS_FETCH", FETCH as usize),
            ("PPS_KC_BIND", KERNEL_BIND as usize),
        ]);
    }

    #[test]
    fn another_file_is_not_a_pps_device() {
        assert!(matches!(PpsDevice::open("/dev/null", Some(Edge::Assert)), Err(OpenError::NotPps)));
        assert!(matches!(PpsDevice::open("/dev/no-such-pps", None), Err(OpenError::Io(_))));
    }
}
