//! A pulse on the DCD input of a serial port: the kernel stamps it where its line discipline `pps`
//! (module `pps-ldisc`) is attached to the port, and gives it a PPS device of its own.
//!
//! The line discipline belongs to the port, not to who opened it: messages are read as before, by
//! whoever else has the port open.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::termios::{self, ControlFlags, SetArg};

use super::pps::OpenError;
use super::pps_class::{CLASS, of_port};

/// `N_PPS` of linux/tty.h.
const N_PPS: libc::c_int = 18;

/// A serial port to which we attached the line discipline; it stays for as long as anybody has the
/// port open.
#[derive(Debug)]
pub struct PulsePort {
    _port: File,
}

impl PulsePort {
    /// Attaches the line discipline to a port.
    pub fn attach(path: &str) -> Result<Self, OpenError> {
        // Without O_NONBLOCK it would wait for the carrier that is our pulse.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
        let port = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        let mut settings = termios::tcgetattr(&port).map_err(io::Error::from)?;
        // Else the end of each pulse would hang the port up.
        settings.control_flags.insert(ControlFlags::CLOCAL | ControlFlags::CREAD);
        settings.control_flags.remove(ControlFlags::HUPCL);
        termios::tcsetattr(&port, SetArg::TCSANOW, &settings).map_err(io::Error::from)?;
        let number = N_PPS;
        // SAFETY: TIOCSETD reads one int, and the descriptor is open.
        if unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCSETD, &raw const number) } < 0 {
            let error = io::Error::last_os_error();
            // The kernel has no such discipline and found no module to load.
            return Err(if error.raw_os_error() == Some(libc::EINVAL) {
                OpenError::NoLineDiscipline
            } else {
                OpenError::Io(error)
            });
        }
        Ok(Self { _port: port })
    }
}

/// The kernel's name of a serial port, e.g. `ttyS1`, whatever link leads to it. `None`: it is none.
pub fn serial_port(path: &str) -> Option<String> {
    let found = fs::metadata(path).ok().filter(|found| found.file_type().is_char_device())?;
    let (major, minor) = (libc::major(found.rdev()), libc::minor(found.rdev()));
    let place = fs::read_link(format!("/sys/dev/char/{major}:{minor}")).ok()?;
    (place.parent()?.file_name()? == "tty").then(|| place.file_name()?.to_str().map(str::to_owned))?
}

/// The PPS device of a serial port, if it has one already.
pub fn pulse_device(port: &str) -> Option<PathBuf> {
    of_port(Path::new(CLASS), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_devices_are_no_serial_ports() {
        for path in ["/dev/null", "/etc/passwd", "/dev/no-such-port"] {
            assert_eq!(serial_port(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_no_terminal_cannot_have_one() {
        assert!(matches!(PulsePort::attach("/dev/null"), Err(OpenError::Io(_))));
    }
}
