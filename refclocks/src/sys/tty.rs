//! Serial ports: opened raw, read with a stamp.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::termios::{self, ControlFlags, SetArg};

use super::appearance::leads_elsewhere;
use super::clock::raw_now;
use crate::time::{Raw, Timestamp};

/// An open serial port or pty.
#[derive(Debug)]
pub struct Tty {
    file: File,
    path: PathBuf,
}

const TIOCGSERIAL: u32 = 0x541e;
const TIOCSSERIAL: u32 = 0x541f;
const ASYNC_LOW_LATENCY: i32 = 0x2000;

/// `struct serial_struct`; we read and write only `flags`.
#[repr(C)]
struct SerialStruct {
    kind: i32,
    line: i32,
    port: u32,
    irq: i32,
    flags: i32,
    /// The rest: at most 72 bytes in all on 64 bits.
    rest: [u64; 8],
}

impl Tty {
    /// Opens a port: raw, 8 bits, no modem control, exclusively ours unless it is `shared`. The speed
    /// is set if one is given, else left as it is.
    pub fn open(path: &str, baud: Option<u32>, shared: bool) -> io::Result<Self> {
        // `serialport` sets a speed always; where none is wanted, what it was is put back below.
        let before = baud.is_none().then(|| present_speed(path)).transpose()?;
        let mut port =
            serialport::new(path, baud.unwrap_or(9600)).timeout(Duration::ZERO).open_native().map_err(io_error)?;
        if shared {
            port.set_exclusive(false).map_err(io_error)?;
        }
        // SAFETY: the descriptor comes straight from `into_raw_fd`, so it is open and ours alone.
        let file = unsafe { File::from_raw_fd(port.into_raw_fd()) };
        let tty = Self { file, path: path.into() };
        let mut settings = termios::tcgetattr(&tty.file)?;
        // Dropping DTR at the last close resets some receivers.
        settings.control_flags.remove(ControlFlags::HUPCL);
        settings.control_flags.insert(ControlFlags::CLOCAL | ControlFlags::CREAD);
        if let Some(speed) = before {
            termios::cfsetspeed(&mut settings, speed)?;
        }
        termios::tcsetattr(&tty.file, SetArg::TCSANOW, &settings)?;
        tty.set_nonblocking()?;
        tty.ask_for_low_latency();
        Ok(tty)
    }

    /// Waits for bytes on the runtime's reactor.
    #[cfg(feature = "tokio")]
    pub fn watch(self) -> io::Result<tokio::io::unix::AsyncFd<Self>> {
        // SAFETY: the descriptor belongs to `self`, which the `AsyncFd` owns from here on and which
        // gives it to nobody else: it stays open, and the same file, for as long as it is watched.
        let watched = unsafe { tokio::io::unix::AsyncFd::register_with_interest(self, tokio::io::Interest::READABLE) };
        Ok(watched?)
    }

    /// Sets the speed, bit/s.
    pub fn set_baud(&self, baud: u32) -> io::Result<()> {
        let speed = speed_of(baud).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut settings = termios::tcgetattr(&self.file)?;
        termios::cfsetspeed(&mut settings, speed)?;
        termios::tcsetattr(&self.file, SetArg::TCSAFLUSH, &settings)?;
        Ok(())
    }

    /// The speed in force, bit/s; `None` for ptys and odd speeds.
    pub fn baud(&self) -> Option<u32> {
        if self.is_pty() {
            return None;
        }
        let settings = termios::tcgetattr(&self.file).ok()?;
        let speed = termios::cfgetospeed(&settings);
        SPEEDS.iter().find(|(_, s)| *s == speed).map(|(b, _)| *b)
    }

    /// Is it a pseudo-terminal, or a USB modem device? Then bytes come at once, whatever the speed.
    pub fn is_pty(&self) -> bool {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", self.file.as_raw_fd())).unwrap_or_default();
        path.starts_with("/dev/pts") || path.to_string_lossy().contains("ttyACM")
    }

    /// Does its path lead to another port by now, or nowhere?
    pub fn is_gone(&self) -> bool {
        leads_elsewhere(&self.path, &self.file)
    }

    /// What has come, and when its last byte was read.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<(usize, Timestamp<Raw>)> {
        let n = (&self.file).read(buffer)?;
        Ok((n, raw_now()))
    }

    /// Sends bytes as far as the line takes them at once.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.file).write(bytes)
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let flags = OFlag::from_bits_truncate(fcntl(&self.file, FcntlArg::F_GETFL)?);
        fcntl(&self.file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(())
    }

    /// Asks a UART's driver to hand bytes over at once. Best effort: many have no such setting.
    fn ask_for_low_latency(&self) {
        let mut settings = SerialStruct { kind: 0, line: 0, port: 0, irq: 0, flags: 0, rest: [0; 8] };
        // SAFETY: both requests take a `serial_struct`, which ours is at least as large as; the
        // descriptor is open.
        unsafe {
            if libc::ioctl(self.file.as_raw_fd(), TIOCGSERIAL as _, &raw mut settings) == 0 {
                settings.flags |= ASYNC_LOW_LATENCY;
                libc::ioctl(self.file.as_raw_fd(), TIOCSSERIAL as _, &raw const settings);
            }
        }
    }
}

impl Drop for Tty {
    /// The port is nobody's again, even if a program that opened it before us still has it.
    fn drop(&mut self) {
        // SAFETY: the request takes no argument; the descriptor is open until `file` is dropped.
        unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TIOCNXCL) };
    }
}

impl AsRawFd for Tty {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for Tty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

use termios::BaudRate;
const SPEEDS: [(u32, BaudRate); 9] = [
    (4800, BaudRate::B4800),
    (9600, BaudRate::B9600),
    (19_200, BaudRate::B19200),
    (38_400, BaudRate::B38400),
    (57_600, BaudRate::B57600),
    (115_200, BaudRate::B115200),
    (230_400, BaudRate::B230400),
    (460_800, BaudRate::B460800),
    (921_600, BaudRate::B921600),
];

fn speed_of(baud: u32) -> Option<BaudRate> {
    SPEEDS.iter().find(|(b, _)| *b == baud).map(|(_, s)| *s)
}

/// The speed a port has before we touch it.
fn present_speed(path: &str) -> io::Result<BaudRate> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let file = std::fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    Ok(termios::cfgetospeed(&termios::tcgetattr(&file)?))
}

fn io_error(error: serialport::Error) -> io::Error {
    match error.kind() {
        // It says so of ports that are locked by another process.
        serialport::ErrorKind::NoDevice => {
            match error.description.contains("lock") || error.description.contains("busy") {
                true => io::Error::from_raw_os_error(libc::EBUSY),
                false => io::Error::from_raw_os_error(libc::ENODEV),
            }
        }
        serialport::ErrorKind::Io(kind) => io::Error::new(kind, error.description),
        _ => io::Error::other(error.description),
    }
}
