//! When a datagram left: stamps that the kernel takes of what is sent, read from a socket's error queue
//! (linux/Documentation/networking/timestamping.rst). Reading never waits.

use std::io;
use std::os::fd::AsRawFd;
use std::{mem, ptr};

use super::control_message::{CAPACITY, ControlBuffer, SO_TIMESTAMPING_NEW, departure};
pub use super::control_message::{HardwareStamp, Left};
use super::udp::UdpSocket;

/// Software stamps, each with the number of its datagram and without the datagram itself.
const REPORTED: u32 =
    libc::SOF_TIMESTAMPING_SOFTWARE | libc::SOF_TIMESTAMPING_OPT_ID | libc::SOF_TIMESTAMPING_OPT_TSONLY;

/// The network card's besides, of what comes and of what leaves, each with its interface: of what leaves that is told
/// only with the datagram.
const REPORTED_WITH_HARDWARE: u32 = libc::SOF_TIMESTAMPING_SOFTWARE
    | libc::SOF_TIMESTAMPING_OPT_ID
    | libc::SOF_TIMESTAMPING_RAW_HARDWARE
    | libc::SOF_TIMESTAMPING_RX_HARDWARE
    | libc::SOF_TIMESTAMPING_OPT_PKTINFO
    | libc::SOF_TIMESTAMPING_OPT_TX_SWHW
    | libc::SOF_TIMESTAMPING_OPT_CMSG;

/// Stamps read by one call at most.
const AT_ONCE: usize = 16;

/// Which datagrams are stamped when they leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamped {
    /// Every one.
    All,
    /// Those that ask for it.
    OnRequest,
}

/// A stamp of one that left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The datagram's number: those that are stamped are counted from nought, modulo 2^32.
    pub number: u32,
    /// When it left. The kernel and the card may each say so, one after the other.
    pub stamp: Left,
}

impl UdpSocket {
    /// Has departures stamped, and counts them from nought again. If `hardware`, network cards stamp them, too, and
    /// arrivals, where they can.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2).
    pub fn stamp_departures(&self, which: Stamped, hardware: bool) -> io::Result<()> {
        // Between the driver's stamp and the wire the kernel files that stamp, by a way that it has not gone
        // for a second: 1.6 us. It has just gone it for another stamp, on the way to the driver: 0.7 us.
        let asked = match (which, hardware) {
            (Stamped::All, false) => REPORTED | libc::SOF_TIMESTAMPING_TX_SOFTWARE | libc::SOF_TIMESTAMPING_TX_SCHED,
            (Stamped::OnRequest, false) => REPORTED,
            (Stamped::All, true) => {
                REPORTED_WITH_HARDWARE | libc::SOF_TIMESTAMPING_TX_SOFTWARE | libc::SOF_TIMESTAMPING_TX_HARDWARE
            }
            (Stamped::OnRequest, true) => REPORTED_WITH_HARDWARE,
        };
        if hardware {
            self.tell_interface()?;
        }
        // On 32-bit machines the old option's seconds end in 2038.
        let option = if cfg!(target_pointer_width = "32") { SO_TIMESTAMPING_NEW } else { libc::SO_TIMESTAMPING };
        // The count begins anew when numbers are switched on.
        self.set(libc::SOL_SOCKET, option, 0)?;
        self.set(libc::SOL_SOCKET, option, asked as i32)
    }

    /// Has each datagram's interface told.
    fn tell_interface(&self) -> io::Result<()> {
        if self.local_address()?.is_ipv4() {
            self.set(libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
        } else {
            self.set(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
        }
    }

    /// Hands over the stamps that have come since the last call.
    pub fn departures(&self, mut each: impl FnMut(Departure)) {
        loop {
            // SAFETY: plain data of integers and pointers, for which all zeros is a value.
            let mut headers: [libc::mmsghdr; AT_ONCE] = unsafe { mem::zeroed() };
            let mut controls = [ControlBuffer::default(); AT_ONCE];
            // Of datagrams that come with their stamps the beginning will do.
            let mut datagrams = [[0u8; 8]; AT_ONCE];
            let mut parts = datagrams
                .each_mut()
                .map(|datagram| libc::iovec { iov_base: datagram.as_mut_ptr().cast(), iov_len: datagram.len() });
            for ((header, control), part) in headers.iter_mut().zip(&mut controls).zip(&mut parts) {
                header.msg_hdr.msg_iov = part;
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_control = control.octets.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = CAPACITY as _;
            }
            // SAFETY: each header points to a control buffer and to one part of a datagram, each of the length
            // it states, and to nothing else; they outlive the call.
            let received = unsafe {
                libc::recvmmsg(
                    self.as_raw_fd(),
                    headers.as_mut_ptr(),
                    AT_ONCE as u32,
                    (libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) as _,
                    ptr::null_mut(),
                )
            };
            let Ok(received @ 1..) = usize::try_from(received) else { return };
            for (header, control) in headers.iter().zip(&controls).take(received) {
                // Another type in other C libraries.
                #[allow(clippy::unnecessary_cast)]
                let len = (header.msg_hdr.msg_controllen as usize).min(CAPACITY);
                if let Some((number, stamp)) = control.octets.get(..len).and_then(departure) {
                    each(Departure { number, stamp });
                }
            }
            if received < AT_ONCE {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_stamped_and_counted() {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::client(server.local_addr().unwrap(), None, None).unwrap();
        let stamps = || {
            let mut stamps = Vec::new();
            socket.departures(|departure| stamps.push(departure));
            stamps
        };
        socket.stamp_departures(Stamped::All, false).unwrap();
        assert_eq!(stamps(), []);
        let now = || refclocks::sys::clock::realtime_now();
        let before = now();
        for _ in 0..20 {
            socket.send(&[0; 48]).unwrap();
        }
        let after = now();
        let found = stamps();
        assert_eq!(found.iter().map(|d| d.number).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
        let within = |d: &Departure| matches!(d.stamp, Left::Kernel(at) if at >= before && at <= after);
        assert!(found.iter().all(within), "{before:?} {found:?} {after:?}");
        // Counted anew; and where no card stamps them the kernel goes on to, once each.
        socket.stamp_departures(Stamped::All, true).unwrap();
        socket.send(&[0; 48]).unwrap();
        let found = stamps();
        assert_eq!(found.iter().map(|d| d.number).collect::<Vec<_>>(), [0]);
        assert!(matches!(found[0].stamp, Left::Kernel(_)), "{found:?}");
        // Only those that ask.
        socket.stamp_departures(Stamped::OnRequest, false).unwrap();
        socket.send(&[0; 48]).unwrap();
        assert_eq!(stamps(), []);
    }
}
