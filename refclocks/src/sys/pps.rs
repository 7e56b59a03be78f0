//! The kernel's PPS interface: our own layouts and ioctl numbers, right on 32 and 64 bits.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

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

/// `struct pps_kinfo` and the timeout after it: `struct pps_fdata`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct FetchData {
    assert_sequence: u32,
    clear_sequence: u32,
    assert: KTime,
    clear: KTime,
    current_mode: i32,
    padding: i32,
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

// The kernel's 64-bit time is 8-byte aligned on every architecture but i386, where its compat layer
// takes the packed layout.
#[cfg(not(target_arch = "x86"))]
const _: () = {
    assert!(size_of::<KTime>() == 16);
    assert!(size_of::<FetchData>() == 64);
    assert!(size_of::<Params>() == 40);
};

const CAPTURE_ASSERT: i32 = 0x01;
const CAPTURE_CLEAR: i32 = 0x02;
const FORMAT_TIMESPEC: i32 = 0x1000;

/// `_IOC` with type 'p'. The size is that of a pointer: the header names pointers to its structures.
const fn request(direction: u32, number: u32) -> u32 {
    (direction << 30) | ((size_of::<*const ()>() as u32) << 16) | ((b'p' as u32) << 8) | number
}
const GET_PARAMS: u32 = request(2, 0xa1);
const SET_PARAMS: u32 = request(1, 0xa2);
const GET_CAP: u32 = request(2, 0xa3);
const FETCH: u32 = request(3, 0xa4);

/// An open PPS device.
#[derive(Debug)]
pub struct PpsDevice {
    file: File,
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
}

impl PpsDevice {
    /// Opens a device and sees that it captures the edge.
    pub fn open(path: &str, edge: Edge) -> Result<Self, OpenError> {
        let open = |write: bool| {
            OpenOptions::new().read(true).write(write).custom_flags(libc::O_CLOEXEC | libc::O_NOCTTY).open(path)
        };
        let file = match open(true) {
            // Reading is enough to fetch.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => open(false)?,
            other => other?,
        };
        let device = Self { file };
        let mut capabilities = 0i32;
        device.ioctl(GET_CAP, &mut capabilities).map_err(not_pps)?;
        let wanted = match edge {
            Edge::Assert => CAPTURE_ASSERT,
            Edge::Clear => CAPTURE_CLEAR,
        };
        if capabilities & wanted == 0 {
            return Err(OpenError::EdgeNotCaptured);
        }
        let mut params = Params::default();
        device.ioctl(GET_PARAMS, &mut params).map_err(not_pps)?;
        if params.mode & wanted == 0 {
            params.api_version = 1;
            params.mode |= wanted | FORMAT_TIMESPEC;
            // Needs CAP_SYS_TIME.
            device.ioctl(SET_PARAMS, &mut params).map_err(|error| match error.raw_os_error() {
                Some(libc::EPERM | libc::EACCES | libc::EINVAL) => OpenError::EdgeNotCaptured,
                _ => OpenError::Io(error),
            })?;
        }
        Ok(device)
    }

    /// The last edges, without waiting.
    pub fn fetch(&self) -> io::Result<PpsInfo> {
        let mut data = FetchData::default();
        self.ioctl(FETCH, &mut data)?;
        let stamp = |t: KTime| Timestamp::<Realtime>::from_parts(t.seconds, u32::try_from(t.nanos).unwrap_or(0));
        Ok(PpsInfo {
            assert_sequence: data.assert_sequence,
            clear_sequence: data.clear_sequence,
            assert: stamp(data.assert),
            clear: stamp(data.clear),
        })
    }

    fn ioctl<T>(&self, request: u32, argument: &mut T) -> io::Result<()> {
        // SAFETY: the descriptor is open for as long as `self`; each request is paired above with
        // the type it reads and writes, and `argument` is a valid, exclusive reference to one.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), request as _, std::ptr::from_mut(argument)) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
        assert_eq!([GET_PARAMS, SET_PARAMS, GET_CAP, FETCH], [0x8008_70a1, 0x4008_70a2, 0x8008_70a3, 0xc008_70a4]);
    }

    #[test]
    #[cfg(target_pointer_width = "32")]
    fn requests_have_the_kernels_numbers() {
        assert_eq!([GET_PARAMS, SET_PARAMS, GET_CAP, FETCH], [0x8004_70a1, 0x4004_70a2, 0x8004_70a3, 0xc004_70a4]);
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

        // Ours has the fields of `pps_kinfo` and the padding after them spelled out.
        let info = offset_of!(pps_fdata, info);
        assert_eq!(size_of::<FetchData>(), size_of::<pps_fdata>());
        assert_eq!(align_of::<FetchData>(), align_of::<pps_fdata>());
        assert_eq!(offset_of!(FetchData, assert_sequence), info + offset_of!(pps_kinfo, assert_sequence));
        assert_eq!(offset_of!(FetchData, clear_sequence), info + offset_of!(pps_kinfo, clear_sequence));
        assert_eq!(offset_of!(FetchData, assert), info + offset_of!(pps_kinfo, assert_tu));
        assert_eq!(offset_of!(FetchData, clear), info + offset_of!(pps_kinfo, clear_tu));
        assert_eq!(offset_of!(FetchData, current_mode), info + offset_of!(pps_kinfo, current_mode));
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
    fn another_file_is_not_a_pps_device() {
        assert!(matches!(PpsDevice::open("/dev/null", Edge::Assert), Err(OpenError::NotPps)));
        assert!(matches!(PpsDevice::open("/dev/no-such-pps", Edge::Assert), Err(OpenError::Io(_))));
    }
}
