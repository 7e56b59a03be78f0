//! A receiver on a real serial port: the port is put into loopback, so what is written here is what
//! its reader gets.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use refclocks::calendar::CivilTime;
use refclocks::nmea::write;
use refclocks::time::Timestamp;

use crate::truth::Truth;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TIOCM_LOOP: libc::c_int = 0x8000;
const WEEK: i64 = 604_800;

#[derive(clap::Args)]
pub struct Args {
    /// The serial port.
    tty: PathBuf,
    /// How late the first byte comes after the second, ms.
    #[arg(long, default_value_t = 120.0)]
    delay_ms: f64,
    /// How far that varies either way, ms.
    #[arg(long, default_value_t = 20.0)]
    spread_ms: f64,
    /// The same seed gives the same delays.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Weeks that the date is off by.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    weeks: i64,
    /// Says nothing while this file exists.
    #[arg(long)]
    silent_while: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    let mut port = OpenOptions::new().read(true).write(true).open(&args.tty)?;
    quieten(&port)?;
    let bits = TIOCM_LOOP;
    // SAFETY: TIOCMBIS reads one int.
    if unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCMBIS, &bits) } < 0 {
        return Err(io::Error::last_os_error().into());
    }
    let mut random = args.seed;
    let mut second = Truth::read()?.count() / 1_000_000_000;
    loop {
        // Read anew each second: the line may have bent.
        let truth = Truth::read()?;
        second = (second + 1).max(truth.count() / 1_000_000_000);
        let delay = args.delay_ms + args.spread_ms * uniform(&mut random);
        truth.sleep_until(second, (delay * 1e6) as i64);
        if args.silent_while.as_ref().is_some_and(|file| fs::exists(file).unwrap_or(false)) {
            continue;
        }
        let utc = truth.utc(second);
        let mut civil = CivilTime::from_utc(Timestamp::from_parts(utc.seconds + args.weeks * WEEK, 0));
        if utc.second60 {
            // The twin of 24:00:00 is 23:59:60 of the day before.
            civil = CivilTime::from_utc(Timestamp::from_parts(utc.seconds - 1 + args.weeks * WEEK, 0));
            civil.second = 60;
        }
        let text = write::rmc("GP", &civil, true)
            + &write::gga("GP", &civil, true, 9)
            + &write::gsa("GP", 3, &[1, 2, 3, 4, 5, 6, 7, 8, 9])
            + &write::zda("GP", &civil);
        port.write_all(text.as_bytes())?;
    }
}

/// -1 to 1, by splitmix64.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Raw, no echo (it would run in circles), no hang-up when the pulse's line drops, 115200 bit/s.
fn quieten(port: &std::fs::File) -> Result<()> {
    // SAFETY: termios is plain integers, for which all zeros is a value.
    let mut termios: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and `termios` is valid for the calls to fill, change and read.
    let done = unsafe {
        libc::tcgetattr(port.as_raw_fd(), &mut termios) == 0 && {
            libc::cfmakeraw(&mut termios);
            termios.c_cflag |= libc::CLOCAL;
            libc::cfsetspeed(&mut termios, libc::B115200) == 0
                && libc::tcsetattr(port.as_raw_fd(), libc::TCSANOW, &termios) == 0
        }
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error().into()) }
}
