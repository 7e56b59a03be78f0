//! Many datagrams a system call: recvmmsg(2) and sendmmsg(2).

use std::borrow::Borrow;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::{mem, ptr};

use refclocks::time::{Realtime, Timestamp};
use tokio::io::unix::AsyncFd;

use super::address::{KernelAddress, MAX_LEN};
use super::control_message::{Ancillary, CAPACITY, ControlBuffer, HardwareStamp};
use super::udp::UdpSocket;

/// Datagrams received by one call at most.
pub const MAX_BATCH: usize = 64;

/// Replies sent by one call at most: few, so that the predicted transmit stamp of the last is good.
pub const MAX_SEND: usize = 8;

/// Octets of the longest datagram we take: NTP never sends more than fits an IPv6 minimum packet.
const REQUEST_CAPACITY: usize = 1280;

/// Octets of the longest reply: a header, and a key ID with the longest digest.
const REPLY_CAPACITY: usize = 128;

/// Buffers for a batch of datagrams and the replies to them. Made once.
#[derive(Debug)]
pub struct Batch {
    slots: Box<[Slot]>,
    received: usize,
}

#[derive(Clone, Debug)]
struct Slot {
    request: [u8; REQUEST_CAPACITY],
    len: usize,
    truncated: bool,
    from: KernelAddress,
    ancillary: Ancillary,
    control: ControlBuffer,
    reply: [u8; REPLY_CAPACITY],
    reply_len: usize,
    /// Whether it is stamped when it leaves.
    stamped: Option<By>,
}

/// A received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its octets.
    pub octets: &'a [u8],
    /// It was longer than the buffer; the rest is lost.
    pub truncated: bool,
    /// The sender, if of a family we know.
    pub from: Option<SocketAddr>,
    /// Our address it was sent to.
    pub to: Option<IpAddr>,
    /// When the kernel received it.
    pub stamp: Option<Timestamp<Realtime>>,
    /// When the network card did.
    pub hardware: Option<HardwareStamp>,
}

/// Whether to wait for a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until there is at least one.
    ForOne,
    /// Not at all.
    No,
}

/// Who stamps what leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The kernel.
    Kernel,
    /// The network card as well, if it can.
    CardToo,
}

/// What became of the replies handed to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Taken.
    pub sent: usize,
    /// Refused: no route, no room, a firewall.
    pub failed: usize,
}

impl Batch {
    /// Buffers for that many datagrams, 1 to [`MAX_BATCH`].
    pub fn new(datagrams: usize) -> Self {
        let empty = Slot {
            request: [0; REQUEST_CAPACITY],
            len: 0,
            truncated: false,
            from: KernelAddress::default(),
            ancillary: Ancillary::default(),
            control: ControlBuffer::default(),
            reply: [0; REPLY_CAPACITY],
            reply_len: 0,
            stamped: None,
        };
        Self { slots: vec![empty; datagrams.clamp(1, MAX_BATCH)].into(), received: 0 }
    }

    /// Receives what there is, up to the size of the batch, and returns how many datagrams came.
    ///
    /// # Errors
    ///
    /// Those of recvmmsg(2): `WouldBlock` if there is nothing and `wait` says not to wait,
    /// `Interrupted`, and on connected sockets what ICMP said.
    pub fn receive(&mut self, socket: &UdpSocket, wait: Wait) -> io::Result<usize> {
        self.received = 0;
        // SAFETY: both are plain data of integers and pointers, for which all zeros is a value.
        let mut vectors: [libc::iovec; MAX_BATCH] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; MAX_BATCH] = unsafe { mem::zeroed() };
        let count = self.slots.len();
        for ((slot, vector), header) in self.slots.iter_mut().zip(&mut vectors).zip(&mut headers) {
            vector.iov_base = slot.request.as_mut_ptr().cast();
            vector.iov_len = REQUEST_CAPACITY;
            let header = &mut header.msg_hdr;
            header.msg_name = slot.from.octets.as_mut_ptr().cast();
            header.msg_namelen = MAX_LEN as libc::socklen_t;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_control = slot.control.octets.as_mut_ptr().cast();
            header.msg_controllen = CAPACITY as _;
        }
        let flags = match wait {
            Wait::ForOne => libc::MSG_WAITFORONE,
            Wait::No => libc::MSG_DONTWAIT,
        };
        // SAFETY: the first `count` headers point to buffers of the lengths they state, in `slots`
        // and `vectors`, which outlive the call and are not touched during it.
        let received = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as u32, flags as _, ptr::null_mut())
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (slot, header) in self.slots.iter_mut().zip(&headers).take(received) {
            slot.len = (header.msg_len as usize).min(REQUEST_CAPACITY);
            slot.truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            slot.from.len = header.msg_hdr.msg_namelen;
            // Another type in other C libraries.
            #[allow(clippy::unnecessary_cast)]
            let control = (header.msg_hdr.msg_controllen as usize).min(CAPACITY);
            slot.ancillary = slot.control.octets.get(..control).map(Ancillary::parse).unwrap_or_default();
        }
        self.received = received;
        Ok(received)
    }

    /// Waits for datagrams on a watched socket and receives them, like [`Batch::receive`]. Dropping
    /// the future loses nothing.
    ///
    /// # Errors
    ///
    /// Those of recvmmsg(2), but `WouldBlock` and `Interrupted`; on connected sockets what ICMP said.
    pub async fn arrivals<S>(&mut self, socket: &AsyncFd<S>) -> io::Result<usize>
    where
        S: Borrow<UdpSocket> + AsRawFd,
    {
        loop {
            let mut ready = socket.ready(UdpSocket::ARRIVALS).await?;
            match ready.try_io(|socket| self.receive(socket.get_ref().borrow(), Wait::No)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(received) => return received,
                Err(_would_block) => {}
            }
        }
    }

    /// Did a network card stamp any datagram of the last receive?
    pub fn is_stamped_by_card(&self) -> bool {
        self.slots.iter().take(self.received).any(|slot| slot.ancillary.hardware.is_some())
    }

    /// A datagram of the last receive, and the room for its reply.
    pub fn datagram(&mut self, index: usize) -> Option<(Datagram<'_>, &mut [u8])> {
        let slot = self.slots.get_mut(..self.received)?.get_mut(index)?;
        let datagram = Datagram {
            octets: slot.request.get(..slot.len)?,
            truncated: slot.truncated,
            from: slot.from.get(),
            to: slot.ancillary.local,
            stamp: slot.ancillary.stamp,
            hardware: slot.ancillary.hardware,
        };
        Some((datagram, &mut slot.reply))
    }

    /// Marks the reply to a datagram as ready: so many octets of its room, `stamped` when it leaves or not.
    pub fn set_reply(&mut self, index: usize, len: usize, stamped: Option<By>) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.reply_len = len.min(REPLY_CAPACITY);
            slot.stamped = stamped;
        }
    }

    /// Sends the replies to these datagrams, each from the address it was asked at. No more than
    /// [`MAX_SEND`].
    pub fn send(&mut self, socket: &UdpSocket, indices: &[usize]) -> Sent {
        // SAFETY: both are plain data of integers and pointers, for which all zeros is a value.
        let mut vectors: [libc::iovec; MAX_SEND] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; MAX_SEND] = unsafe { mem::zeroed() };
        let mut count = 0;
        for ((index, vector), header) in indices.iter().zip(&mut vectors).zip(&mut headers) {
            let Some(slot) = self.slots.get_mut(*index) else { continue };
            slot.control = ControlBuffer::leave_from(slot.ancillary.local);
            if let Some(by) = slot.stamped {
                slot.control.stamp_departure(by == By::CardToo);
            }
            vector.iov_base = slot.reply.as_mut_ptr().cast();
            vector.iov_len = slot.reply_len;
            let header = &mut header.msg_hdr;
            header.msg_name = slot.from.octets.as_mut_ptr().cast();
            header.msg_namelen = slot.from.len;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            if slot.control.len > 0 {
                header.msg_control = slot.control.octets.as_mut_ptr().cast();
                header.msg_controllen = slot.control.len as _;
            }
            count += 1;
        }
        let mut result = Sent::default();
        while let Some(rest) = headers.get_mut(result.sent + result.failed..count).filter(|rest| !rest.is_empty()) {
            // SAFETY: the headers of `rest` were filled above and point to buffers of the lengths
            // they state, in `self.slots` and `vectors`, which outlive the call.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as u32,
                    (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => result.sent += sent,
                // The first of the rest cannot be sent; the others may.
                _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                _ => result.failed += 1,
            }
        }
        result
    }
}
