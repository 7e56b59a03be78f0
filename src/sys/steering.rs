//! Which of several sockets on one port gets a datagram: by its sender's address, whatever the port.
//!
//! Left to itself the kernel hashes the source port as well, and clients change theirs with every request:
//! no worker would know how often one of them asks.

use super::udp::UdpSocket;

use std::io;
use std::os::fd::AsRawFd;

/// Loads relative to the network header (`SKF_NET_OFF` of linux/filter.h).
const NETWORK_HEADER: u32 = 0xfff0_0000;

/// A small program in the kernel's old packet-filter language (`struct sock_filter`): for IPv4 the hash of
/// the source address, for IPv6 that of the first 64 bits of it, and the remainder by the number of sockets.
fn program(v4: bool, sockets: u32) -> Vec<libc::sock_filter> {
    let step = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NETWORK_HEADER + offset);
    let compute = |operation, k| step(libc::BPF_ALU | operation | libc::BPF_K, k);
    let mut program = if v4 {
        vec![load(12)]
    } else {
        vec![
            load(8),
            step(libc::BPF_MISC | libc::BPF_TAX, 0),
            load(12),
            step(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0),
        ]
    };
    program.extend([
        // Fibonacci hashing: neighbours go to different sockets, and the high bits are the good ones.
        compute(libc::BPF_MUL, 0x9e37_79b1),
        compute(libc::BPF_RSH, 16),
        compute(libc::BPF_MOD, sockets),
        step(libc::BPF_RET | libc::BPF_A, 0),
    ]);
    program
}

/// Steers the datagrams of a group of sockets, of which this is any.
///
/// # Errors
///
/// Those of setsockopt(2): kernels before 4.5 do not know it.
pub fn steer_by_address(socket: &UdpSocket, v4: bool, sockets: u32) -> io::Result<()> {
    let mut filter = program(v4, sockets.max(1));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the pointer and length describe `program`, which points to `filter`; both outlive the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::batch::{Batch, Wait};
    use super::*;

    /// How many of 64 datagrams each of four sockets gets.
    fn spread(server: &str, from: impl Fn(u8) -> String) -> Vec<usize> {
        let server: SocketAddr = server.parse().unwrap();
        let first = UdpSocket::server(server, true).unwrap();
        let address = first.local_address().unwrap();
        let mut sockets = vec![first];
        sockets.extend((0..3).map(|_| UdpSocket::server(address, true).unwrap()));
        steer_by_address(&sockets[0], server.is_ipv4(), 4).unwrap();
        for i in 0..64 {
            let client = std::net::UdpSocket::bind(from(i)).unwrap();
            client.send_to(&[i], address).unwrap();
        }
        let mut batch = Batch::new(64);
        sockets.iter().map(|socket| batch.receive(socket, Wait::No).unwrap_or(0)).collect()
    }

    #[test]
    fn one_client_stays_with_one_socket_and_many_spread() {
        // Each from another port.
        let one = spread("127.0.0.1:0", |_| "127.0.0.9:0".into());
        assert_eq!(one.iter().max(), Some(&64), "{one:?}");
        let many = spread("127.0.0.1:0", |i| format!("127.0.1.{}:0", i + 1));
        assert!(many.iter().sum::<usize>() == 64 && many.iter().all(|count| *count > 4), "{many:?}");
        if std::net::UdpSocket::bind("[::1]:0").is_ok() {
            let one = spread("[::1]:0", |_| "[::1]:0".into());
            assert_eq!(one.iter().max(), Some(&64), "{one:?}");
        }
    }
}
