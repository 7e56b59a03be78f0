//! NTP on a wire whose cards stamp packets by true time (`vmwire`): a server that says when requests really came and
//! replies really left, and a client that knows both.

use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use refclocks::sys::card::{self, Stamping};
use serde_json::json;

use crate::truth::Truth;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const SECOND: i64 = 1_000_000_000;
/// Seconds from 1900 to 1970.
const ERA: i64 = 2_208_988_800;
/// Octets of an NTP packet, and of its frame: with headers and check sequence.
const PACKET: usize = 48;
const FRAME: i64 = 14 + 20 + 8 + 48 + 4;
/// So long a stamp of what left is waited for.
const PATIENCE_MS: i32 = 20;

#[derive(clap::Args)]
pub struct Respond {
    /// The interface.
    interface: String,
}

#[derive(clap::Args)]
pub struct Ask {
    /// The interface.
    interface: String,
    /// The server.
    server: IpAddr,
    /// Times.
    count: u32,
    /// How long the wire is, ns.
    #[arg(long, default_value_t = 5000)]
    way_ns: i64,
}

/// A socket whose packets the card stamps.
struct Wire {
    socket: UdpSocket,
    /// How long a frame takes to pass, ns.
    frame: i64,
}

impl Wire {
    fn open(interface: &str, port: u16) -> Result<Self> {
        card::set_stamping(interface, Stamping::new(Stamping::LEAVES_ON, Stamping::COMES_ALL))?;
        let speed = card::link_speed(interface)?.ok_or("no speed")?;
        let socket = UdpSocket::bind(("0.0.0.0", port))?;
        let flags = libc::SOF_TIMESTAMPING_RX_HARDWARE
            | libc::SOF_TIMESTAMPING_TX_HARDWARE
            | libc::SOF_TIMESTAMPING_RAW_HARDWARE
            | libc::SOF_TIMESTAMPING_OPT_TSONLY;
        // SAFETY: the pointer and length describe `flags`, which outlives the call.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_TIMESTAMPING,
                (&raw const flags).cast(),
                size_of_val(&flags) as libc::socklen_t,
            )
        };
        if done < 0 {
            return Err(io::Error::last_os_error().into());
        }
        Ok(Self { socket, frame: FRAME * 8000 / i64::from(speed) })
    }

    /// A packet, who sent it, and when it had come whole, ns.
    fn receive(&self, octets: &mut [u8]) -> Result<(usize, SocketAddr, i64)> {
        // SAFETY: an address of integers, for which all zeros is a value.
        let mut from: libc::sockaddr_in = unsafe { zeroed() };
        let (length, stamp) = message(&self.socket, octets, Some(&mut from), 0)?;
        let ip = IpAddr::from(from.sin_addr.s_addr.to_ne_bytes());
        let from = SocketAddr::new(ip, u16::from_be(from.sin_port));
        Ok((length, from, stamp.ok_or("the card did not stamp it")? + self.frame))
    }

    /// When the last packet left, ns.
    fn departure(&self) -> Result<i64> {
        let mut news = libc::pollfd { fd: self.socket.as_raw_fd(), events: 0, revents: 0 };
        // SAFETY: the pointer is to one pollfd, which outlives the call.
        unsafe { libc::poll(&raw mut news, 1, PATIENCE_MS) };
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        Ok(message(&self.socket, &mut [], None, flags)?.1.ok_or("the card did not stamp what left")?)
    }
}

/// A message and the card's stamp of it, ns.
fn message(
    socket: &UdpSocket,
    octets: &mut [u8],
    from: Option<&mut libc::sockaddr_in>,
    flags: i32,
) -> io::Result<(usize, Option<i64>)> {
    #[repr(C, align(8))]
    struct Control([u8; 256]);

    let mut control = Control([0; 256]);
    let mut part = libc::iovec { iov_base: octets.as_mut_ptr().cast(), iov_len: octets.len() };
    // SAFETY: plain data of integers and pointers, for which all zeros is a value.
    let mut header: libc::msghdr = unsafe { zeroed() };
    if let Some(from) = from {
        header.msg_name = std::ptr::from_mut(from).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    }
    (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
    (header.msg_control, header.msg_controllen) = (control.0.as_mut_ptr().cast(), control.0.len());
    // SAFETY: every pointer of the header is to a value that outlives the call, of the length it states.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut stamp = None;
    // SAFETY: the header is as the kernel left it, and so are its control messages.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give messages within the buffer, or null.
    while let Some(message) = unsafe { at.as_ref() } {
        if (message.cmsg_level, message.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) {
            // SAFETY: such a message holds three timespecs.
            let stamps: [libc::timespec; 3] =
                unsafe { libc::CMSG_DATA(at).cast::<[libc::timespec; 3]>().read_unaligned() };
            stamp = Some(stamps[2].tv_sec * SECOND + stamps[2].tv_nsec).filter(|stamp| *stamp != 0);
        }
        // SAFETY: as above.
        at = unsafe { libc::CMSG_NXTHDR(&raw const header, at) };
    }
    Ok((length, stamp))
}

/// Nanoseconds since 1970 as an NTP timestamp of this era.
fn to_ntp(nanos: i64) -> u64 {
    let seconds = (nanos.div_euclid(SECOND) + ERA) as u64;
    seconds << 32 | ((nanos.rem_euclid(SECOND) as u64) << 32).div_ceil(SECOND as u64)
}

fn from_ntp(bits: u64) -> i64 {
    ((bits >> 32) as i64 - ERA) * SECOND + ((u128::from(bits as u32) * SECOND as u128) >> 32) as i64
}

fn get(packet: &[u8], at: usize) -> u64 {
    packet[at..at + 8].iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

fn put(packet: &mut [u8], at: usize, bits: u64) {
    packet[at..at + 8].copy_from_slice(&bits.to_be_bytes());
}

/// Answers for ever; in interleaved mode, too (RFC 9769), to one client.
pub fn respond(args: &Respond) -> Result<()> {
    let wire = Wire::open(&args.interface, 123)?;
    let mut octets = [0u8; 256];
    // What the last reply told of its request's coming, and when it left.
    let (mut last, mut usual) = ((0, 0), 20_000);
    loop {
        let (length, from, came) = match wire.receive(&mut octets) {
            Ok(received) => received,
            Err(error) => {
                eprintln!("{error}");
                continue;
            }
        };
        if length != PACKET || octets[0] & 7 != 3 {
            continue;
        }
        let request = octets;
        let (named, other, cookie) = (get(&request, 24), get(&request, 32), get(&request, 40));
        let interleaved = named != 0 && named == last.0 && other != cookie;
        let packet = &mut octets[..PACKET];
        packet.fill(0);
        // Version 4, a server; stratum 1; 2^-24 s.
        (packet[0], packet[1], packet[2], packet[3]) = (0x24, 1, request[2], 0xe8);
        packet[12..16].copy_from_slice(b"WIRE");
        put(packet, 16, to_ntp(came - SECOND));
        put(packet, 24, if interleaved { other } else { cookie });
        put(packet, 32, to_ntp(came));
        let truth = Truth::read()?;
        let now = truth.utc_nanos(truth.count());
        put(packet, 40, to_ntp(if interleaved { last.1 } else { now + usual }));
        wire.socket.send_to(packet, from)?;
        match wire.departure() {
            Ok(left) => {
                usual += (left - now - usual) / 8;
                last = (to_ntp(came), left);
            }
            Err(error) => eprintln!("{error}"),
        }
    }
}

/// Asks in interleaved mode, 10 times a second.
pub fn ask(args: &Ask) -> Result<()> {
    let wire = Wire::open(&args.interface, 0)?;
    wire.socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let server = SocketAddr::new(args.server, 123);
    let mut octets = [0u8; 256];
    let (mut came_late, mut left_late, mut basic) = (Vec::new(), Vec::new(), 0);
    // What the last reply told of its request's coming, and when it began on the wire.
    let mut last: Option<(u64, i64)> = None;
    for turn in 0..args.count {
        let packet = &mut octets[..PACKET];
        packet.fill(0);
        packet[0] = 0x23;
        let (cookie, other) = (u64::from(turn) * 2 + 0x1234_0000_0001, u64::from(turn) * 2 + 0x1234_0000_0002);
        if let Some((told, _)) = last {
            put(packet, 24, told);
            put(packet, 32, other);
        }
        put(packet, 40, cookie);
        wire.socket.send_to(packet, server)?;
        let left = wire.departure()?;
        let Ok((PACKET, _, came)) = wire.receive(&mut octets) else {
            last = None;
            continue;
        };
        let told = get(&octets, 32);
        // It had come whole so long after it began to leave.
        came_late.push((from_ntp(told) - (left + args.way_ns + wire.frame)) as f64);
        match last {
            Some((_, began)) if get(&octets, 24) == other => {
                left_late.push((from_ntp(get(&octets, 40)) - began) as f64);
            }
            _ => basic += 1,
        }
        last = Some((told, came - wire.frame - args.way_ns));
        std::thread::sleep(Duration::from_millis(100));
    }
    let rms = |errors: &[f64]| (errors.iter().map(|e| e * e).sum::<f64>() / errors.len().max(1) as f64).sqrt().round();
    // Whatever the served clock itself is off by.
    let spread = |errors: &[f64]| {
        let mean = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
        rms(&errors.iter().map(|e| e - mean).collect::<Vec<_>>())
    };
    println!(
        "JUDGED {}",
        json!({
            "exchanges": came_late.len(),
            "basic": basic,
            "t2_rms_ns": rms(&came_late),
            "t2_spread_ns": spread(&came_late),
            "t3_rms_ns": rms(&left_late),
            "t3_spread_ns": spread(&left_late),
        })
    );
    Ok(())
}

/// Sets a card's clock.
pub fn set_clock(clock: &Path, milliseconds: i64) -> Result<()> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(PathBuf::from(clock))?;
    // The clock of a descriptor (FD_TO_CLOCKID of linux/posix-timers.h).
    let id = (!(file.as_raw_fd() as libc::clockid_t) << 3) | 3;
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `at` is a valid timespec for the kernel to fill.
    if unsafe { libc::clock_gettime(id, &mut at) } < 0 {
        return Err(io::Error::last_os_error().into());
    }
    let nanos = at.tv_sec * SECOND + at.tv_nsec + milliseconds * 1_000_000;
    let at = libc::timespec { tv_sec: nanos.div_euclid(SECOND), tv_nsec: nanos.rem_euclid(SECOND) };
    // SAFETY: `at` is a valid timespec for the kernel to read.
    if unsafe { libc::clock_settime(id, &at) } < 0 { Err(io::Error::last_os_error().into()) } else { Ok(()) }
}
