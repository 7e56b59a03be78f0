//! Ancillary data of a datagram (`struct cmsghdr`), read and written as octets.
//!
//! The kernel's layout, whatever the C library calls it: `size_t` length with header, `int` level,
//! `int` type, the data, padded to a multiple of `size_t`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use refclocks::time::{Realtime, Tai, Timestamp};

const WORD: usize = size_of::<usize>();
const HEADER_LEN: usize = WORD + 8;

/// Room for what we ask the kernel to tell: of a datagram that came, two stamps (16 octets and 48), its frame (16) and
/// a packet info (20); of one that left, two stamps, packet info and an error (44); each with its header.
pub(crate) const CAPACITY: usize = 256;

/// `SO_TIMESTAMPNS_NEW` of asm-generic/socket.h: a stamp of 64-bit seconds, on 32-bit machines too.
pub(crate) const SO_TIMESTAMPNS_NEW: i32 = 64;

/// `SO_TIMESTAMPING_NEW`: the same.
pub(crate) const SO_TIMESTAMPING_NEW: i32 = 65;

/// `SCM_TIMESTAMPING_PKTINFO`: by which interface a stamped frame came, and how long it was.
const SCM_FRAME: i32 = 58;

/// A stamp by the clock of a network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardwareStamp {
    /// When, by that clock, on whatever scale it is kept.
    pub at: Timestamp<Tai>,
    /// The number of the card's interface; 0 if the kernel does not say.
    pub interface: u32,
    /// Octets of the frame without its check sequence, from where it is stamped on; of one that came.
    pub length: Option<u32>,
}

/// Control octets, aligned as the kernel wants them.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(crate) struct ControlBuffer {
    pub(crate) octets: [u8; CAPACITY],
    pub(crate) len: usize,
}

impl Default for ControlBuffer {
    fn default() -> Self {
        Self { octets: [0; CAPACITY], len: 0 }
    }
}

/// What the kernel tells of a datagram it delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ancillary {
    /// When it arrived.
    pub(crate) stamp: Option<Timestamp<Realtime>>,
    /// The same by the network card.
    pub(crate) hardware: Option<HardwareStamp>,
    /// Our address to answer from: the one the datagram was sent to, if that was a unicast address.
    pub(crate) local: Option<IpAddr>,
}

impl Ancillary {
    /// Reads all control messages; what is unknown or cut off is skipped.
    pub(crate) fn parse(mut octets: &[u8]) -> Self {
        let mut found = Self::default();
        let (mut hardware, mut frame, mut by) = (None, None, 0);
        while let Some((level, kind, data, rest)) = next_message(octets) {
            octets = rest;
            match (level, kind) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS | SO_TIMESTAMPNS_NEW) => found.stamp = stamp(data),
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING | SO_TIMESTAMPING_NEW) => hardware = stamp_of_hardware(data),
                (libc::SOL_SOCKET, SCM_FRAME) => frame = data.first_chunk::<4>().zip(data.get(4..8)),
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    by = interface_of(level, data);
                    // struct in_pktinfo: interface, local address, destination address. The second
                    // is ours even if the datagram was sent to a broadcast address.
                    found.local = data
                        .split_first_chunk::<4>()
                        .and_then(|(_, data)| data.first_chunk::<4>())
                        .map(|octets| Ipv4Addr::from(*octets))
                        .filter(|ip| !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast())
                        .map(IpAddr::V4);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    by = interface_of(level, data);
                    found.local = data
                        .first_chunk::<16>()
                        .map(|octets| Ipv6Addr::from(*octets))
                        .filter(|ip| !ip.is_unspecified() && !ip.is_multicast())
                        .map(IpAddr::V6);
                }
                _ => {}
            }
        }
        // The frame's interface is the card's own, whatever bridge or bond stands above it.
        let card = frame.map_or(0, |(interface, _)| u32::from_ne_bytes(*interface));
        let length = frame.and_then(|(_, length)| length.first_chunk().copied()).map(u32::from_ne_bytes);
        let interface = if card == 0 { by } else { card };
        found.hardware = hardware.map(|at| HardwareStamp { at, interface, length });
        found
    }
}

/// The interface in a packet info.
fn interface_of(level: i32, data: &[u8]) -> u32 {
    let at = if level == libc::IPPROTO_IPV6 { data.get(16..20) } else { data.get(..4) };
    at.and_then(|octets| octets.first_chunk().copied()).map_or(0, u32::from_ne_bytes)
}

/// Of the three stamps of struct scm_timestamping the last, which is the card's.
fn stamp_of_hardware(data: &[u8]) -> Option<Timestamp<Tai>> {
    let stamp = stamp(data.get(data.len() / 3 * 2..)?)?;
    (stamp != Timestamp::EPOCH).then_some(stamp)
}

/// When a datagram left, by whose clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The kernel's: its driver has it.
    Kernel(Timestamp<Realtime>),
    /// The network card's: it is on the wire.
    Hardware(HardwareStamp),
}

/// Number and stamp of a datagram that left, from what its socket's error queue says.
pub(crate) fn departure(mut octets: &[u8]) -> Option<(u32, Left)> {
    let (mut number, mut software, mut hardware, mut interface) = (None, None, None, 0);
    while let Some((level, kind, data, rest)) = next_message(octets) {
        octets = rest;
        match (level, kind) {
            // struct scm_timestamping: three stamps, of which the first is the kernel's.
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING | SO_TIMESTAMPING_NEW) => {
                software = data.get(..data.len() / 3).and_then(stamp).filter(|stamp| *stamp != Timestamp::EPOCH);
                hardware = stamp_of_hardware(data);
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) | (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                interface = interface_of(level, data);
            }
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                // struct sock_extended_err: errno (4), origin, type, code and padding (1 each), info (4), data (4).
                let origin = data.get(4).copied();
                let (info, data) = (data.get(8..12)?, data.get(12..16)?);
                // An info of nought is SCM_TSTAMP_SND: the driver has it.
                if origin == Some(libc::SO_EE_ORIGIN_TIMESTAMPING) && info == [0; 4] {
                    number = data.first_chunk().map(|octets| u32::from_ne_bytes(*octets));
                }
            }
            _ => {}
        }
    }
    let hardware = hardware.map(|at| Left::Hardware(HardwareStamp { at, interface, length: None }));
    Some((number?, hardware.or(software.map(Left::Kernel))?))
}

impl ControlBuffer {
    /// Adds the control message that has the datagram stamped when it leaves; by the network card, too, if `hardware`.
    pub(crate) fn stamp_departure(&mut self, hardware: bool) {
        let card = if hardware { libc::SOF_TIMESTAMPING_TX_HARDWARE } else { 0 };
        let flags = libc::SOF_TIMESTAMPING_TX_SOFTWARE | card;
        let wanted = Self::one(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, flags.to_ne_bytes().into_iter(), 4);
        for (to, octet) in self.octets.iter_mut().skip(self.len).zip(wanted.octets.iter().take(wanted.len)) {
            *to = *octet;
        }
        self.len += wanted.len;
    }

    /// The control message that makes a datagram leave from that address; none for `None`. The
    /// interface is left to the routing table: a reply need not go the way the request came.
    pub(crate) fn leave_from(local: Option<IpAddr>) -> Self {
        match local {
            None => Self::default(),
            Some(IpAddr::V4(ip)) => {
                Self::one(libc::IPPROTO_IP, libc::IP_PKTINFO, [0; 4].into_iter().chain(ip.octets()).chain([0; 4]), 12)
            }
            Some(IpAddr::V6(ip)) => {
                Self::one(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, ip.octets().into_iter().chain([0; 4]), 20)
            }
        }
    }

    fn one(level: i32, kind: i32, data: impl Iterator<Item = u8>, len: usize) -> Self {
        let mut buffer = Self::default();
        let header = (HEADER_LEN + len).to_ne_bytes().into_iter().chain(level.to_ne_bytes()).chain(kind.to_ne_bytes());
        for (to, octet) in buffer.octets.iter_mut().zip(header.chain(data)) {
            *to = octet;
        }
        buffer.len = HEADER_LEN + len.next_multiple_of(WORD);
        buffer
    }
}

/// Level, type and data of the first message, and what follows it.
fn next_message(octets: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk::<WORD>()?;
    let (level, rest) = rest.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::from_ne_bytes(*length).checked_sub(HEADER_LEN)?;
    let data = rest.get(..length)?;
    let after = rest.get(length.checked_next_multiple_of(WORD)?..).unwrap_or(&[]);
    Some((i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind), data, after))
}

/// A timespec of two 64-bit or two 32-bit numbers, as its length tells.
fn stamp<S: refclocks::time::Scale>(data: &[u8]) -> Option<Timestamp<S>> {
    let (seconds, nanos) = match data.len() {
        16 => {
            let (seconds, nanos) = data.split_first_chunk::<8>()?;
            (i64::from_ne_bytes(*seconds), i64::from_ne_bytes(*nanos.first_chunk()?))
        }
        8 => {
            let (seconds, nanos) = data.split_first_chunk::<4>()?;
            (i32::from_ne_bytes(*seconds).into(), i32::from_ne_bytes(*nanos.first_chunk()?).into())
        }
        _ => return None,
    };
    Some(Timestamp::from_parts(seconds, u32::try_from(nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layout_is_the_kernels() {
        assert_eq!(size_of::<libc::in_pktinfo>(), 12);
        assert_eq!(size_of::<libc::in6_pktinfo>(), 20);
        // SAFETY: CMSG_LEN and CMSG_SPACE only compute.
        let (len, space) = unsafe { (libc::CMSG_LEN(12), libc::CMSG_SPACE(12)) };
        assert_eq!(HEADER_LEN + 12, len as usize);
        assert_eq!(ControlBuffer::leave_from(Some(IpAddr::from([127, 0, 0, 1]))).len, space as usize);
    }

    #[test]
    fn the_address_to_leave_from_reads_back() {
        for ip in ["192.0.2.7", "2001:db8::7"] {
            let ip: IpAddr = ip.parse().unwrap();
            let buffer = ControlBuffer::leave_from(Some(ip));
            let found = Ancillary::parse(&buffer.octets[..buffer.len]);
            assert_eq!(found, Ancillary { local: Some(ip), ..Ancillary::default() });
        }
        assert_eq!(ControlBuffer::leave_from(None).len, 0);
    }

    #[test]
    fn stamps_of_both_sizes_are_read() {
        let wide: Vec<u8> = [5i64, 7].iter().flat_map(|v| v.to_ne_bytes()).collect();
        let narrow: Vec<u8> = [5i32, 7].iter().flat_map(|v| v.to_ne_bytes()).collect();
        for data in [wide, narrow] {
            let len = data.len();
            let buffer = ControlBuffer::one(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, data.into_iter(), len);
            let found = Ancillary::parse(&buffer.octets[..buffer.len]);
            assert_eq!(found.stamp, Some(Timestamp::from_parts(5, 7)));
        }
    }

    #[test]
    fn a_departure_is_its_number_and_its_first_stamp() {
        let stamps: Vec<u8> = [5i64, 7, 0, 0, 0, 0].iter().flat_map(|v| v.to_ne_bytes()).collect();
        let error = |origin: u8, info: u32| {
            let head = [0, 0, 0, 0, origin, 0, 0, 0].into_iter();
            let error: Vec<u8> = head.chain(info.to_ne_bytes()).chain(42u32.to_ne_bytes()).collect();
            let stamps = ControlBuffer::one(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, stamps.clone().into_iter(), 48);
            let error = ControlBuffer::one(libc::IPPROTO_IP, libc::IP_RECVERR, error.into_iter(), 16);
            [&stamps.octets[..stamps.len], &error.octets[..error.len]].concat()
        };
        let timestamping = libc::SO_EE_ORIGIN_TIMESTAMPING;
        assert_eq!(departure(&error(timestamping, 0)), Some((42, Left::Kernel(Timestamp::from_parts(5, 7)))));
        assert_eq!(departure(&error(timestamping, 1)), None, "scheduled, not sent");
        assert_eq!(departure(&error(libc::SO_EE_ORIGIN_ICMP, 0)), None);
        let mut buffer = ControlBuffer::leave_from(Some("2001:db8::7".parse().unwrap()));
        buffer.stamp_departure(true);
        assert_eq!(buffer.len, HEADER_LEN + 20usize.next_multiple_of(WORD) + HEADER_LEN + WORD);
        assert_eq!(Ancillary::parse(&buffer.octets[..buffer.len]).local, Some("2001:db8::7".parse().unwrap()));
    }

    /// Control messages one after the other.
    fn messages(of: &[(i32, i32, Vec<u8>)]) -> Vec<u8> {
        let one = |(level, kind, data): &(i32, i32, Vec<u8>)| {
            let buffer = ControlBuffer::one(*level, *kind, data.clone().into_iter(), data.len());
            buffer.octets[..buffer.len].to_vec()
        };
        of.iter().flat_map(one).collect()
    }

    #[test]
    fn the_third_stamp_is_the_cards_on_machines_of_both_sizes() {
        let wide: Vec<u8> = [0i64, 0, 0, 0, 6, 8].iter().flat_map(|v| v.to_ne_bytes()).collect();
        let narrow: Vec<u8> = [0i32, 0, 0, 0, 6, 8].iter().flat_map(|v| v.to_ne_bytes()).collect();
        let info = |card: u32| [card, 90, 0, 0].iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<u8>>();
        let came_by = [7u32, 0, 0].iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<u8>>();
        for (kind, stamps) in [(libc::SCM_TIMESTAMPING, wide.clone()), (SO_TIMESTAMPING_NEW, wide), (37, narrow)] {
            for (card, interface) in [(3, 3), (0, 7)] {
                let found = Ancillary::parse(&messages(&[
                    (libc::SOL_SOCKET, kind, stamps.clone()),
                    (libc::SOL_SOCKET, SCM_FRAME, info(card)),
                    (libc::IPPROTO_IP, libc::IP_PKTINFO, came_by.clone()),
                ]));
                let at = Timestamp::from_parts(6, 8);
                assert_eq!(found.hardware, Some(HardwareStamp { at, interface, length: Some(90) }));
            }
        }
        let none: Vec<u8> = [5i64, 7, 0, 0, 0, 0].iter().flat_map(|v| v.to_ne_bytes()).collect();
        let found = Ancillary::parse(&messages(&[(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, none)]));
        assert_eq!(found.hardware, None, "the kernel's own alone");
    }

    #[test]
    fn a_card_says_when_and_by_which_interface_it_left() {
        let stamps: Vec<u8> = [0i64, 0, 0, 0, 6, 8].iter().flat_map(|v| v.to_ne_bytes()).collect();
        let error: Vec<u8> = [0, u32::from_ne_bytes([libc::SO_EE_ORIGIN_TIMESTAMPING, 0, 0, 0]), 0, 42]
            .iter()
            .flat_map(|v| v.to_ne_bytes())
            .collect();
        let by: Vec<u8> = (0..4).flat_map(|_| 0u32.to_ne_bytes()).chain(9u32.to_ne_bytes()).collect();
        let said = messages(&[
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, stamps),
            (libc::IPPROTO_IPV6, libc::IPV6_RECVERR, error),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, by),
        ]);
        let stamp = HardwareStamp { at: Timestamp::from_parts(6, 8), interface: 9, length: None };
        assert_eq!(departure(&said), Some((42, Left::Hardware(stamp))));
    }

    #[test]
    fn nobody_answers_from_a_multicast_address() {
        let buffer = ControlBuffer::leave_from(Some("ff02::101".parse().unwrap()));
        assert_eq!(Ancillary::parse(&buffer.octets[..buffer.len]).local, None);
    }

    proptest! {
        #[test]
        fn arbitrary_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            Ancillary::parse(&octets);
            departure(&octets);
        }
    }
}
