//! A flood on the NTP port: from one address or from very many, requests and what is none.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use clap::Args as Options;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// So often datagrams are sent, a few together.
const EVERY: Duration = Duration::from_millis(1);

#[derive(Options)]
pub struct Args {
    /// For so long.
    seconds: f64,
    /// Datagrams a second.
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    /// From so many addresses below 127/8, in turn.
    #[arg(long, default_value_t = 1)]
    sources: u32,
}

/// Sends, and reads no reply.
pub fn run(args: &Args) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_nonblocking(true)?;
    let mut request = [0u8; 48];
    request[40..48].copy_from_slice(&0x0123_4567_89ab_cdef_u64.to_be_bytes());
    let begun = Instant::now();
    let (mut sent, mut refused) = (0u64, 0u64);
    while begun.elapsed().as_secs_f64() < args.seconds {
        let due = (begun.elapsed().as_secs_f64() * f64::from(args.rate)) as u64;
        while sent + refused < due {
            let turn = sent + refused;
            // Three requests; then a question about us, a reply, an old private question, or half a header.
            request[0] = [0x23, 0x1b, 0x23, 0x16, 0x23, 0x23, 0x23, 0x24, 0x23, 0x23, 0x1b, 0x17][(turn % 12) as usize];
            let len = if turn % 13 == 0 { 24 } else { 48 };
            // 127.1.0.1 is the first; a step that is prime to their number makes them all turn up.
            let from = 0x7f01_0001 + (turn.wrapping_mul(7919) % u64::from(args.sources)) as u32;
            match send(&socket, &request[..len], from) {
                Ok(()) => sent += 1,
                Err(_) => refused += 1,
            }
        }
        std::thread::sleep(EVERY);
    }
    println!("FLOODED {{\"sent\":{sent},\"refused\":{refused}}}");
    Ok(())
}

/// Sends to the server of this machine from an address of 127/8, all of which are ours.
fn send(socket: &UdpSocket, octets: &[u8], from: u32) -> io::Result<()> {
    #[repr(C, align(8))]
    struct Control([u8; 32]);

    let mut to = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 123u16.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    let mut part = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
    // A cmsghdr (16 octets: length, level, type) and an in_pktinfo (12: interface, source, destination).
    let mut control = Control([0; 32]);
    control.0[..8].copy_from_slice(&28u64.to_ne_bytes());
    control.0[8..12].copy_from_slice(&libc::IPPROTO_IP.to_ne_bytes());
    control.0[12..16].copy_from_slice(&libc::IP_PKTINFO.to_ne_bytes());
    control.0[20..24].copy_from_slice(&from.to_be_bytes());
    let message = libc::msghdr {
        msg_name: (&raw mut to).cast(),
        msg_namelen: size_of_val(&to) as libc::socklen_t,
        msg_iov: &raw mut part,
        msg_iovlen: 1,
        msg_control: control.0.as_mut_ptr().cast(),
        msg_controllen: control.0.len(),
        msg_flags: 0,
    };
    // SAFETY: every pointer of the message is to a value on this stack, of the length it states; sendmsg(2)
    // only reads them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
