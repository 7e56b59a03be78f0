//! What a network card can stamp, and having it do so (linux/ethtool.h, linux/net_tstamp.h): our own layouts.
//! Asking needs no privilege; setting needs CAP_NET_ADMIN.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `ETHTOOL_GSET` and `ETHTOOL_GET_TS_INFO`.
const GET_LINK: u32 = 0x01;
const GET_ABILITIES: u32 = 0x41;

const SIOCETHTOOL: u32 = 0x8946;
const SIOCSHWTSTAMP: u32 = 0x89b0;
const SIOCGHWTSTAMP: u32 = 0x89b1;

/// Room for an interface's name, with the nought that ends it (`IFNAMSIZ`).
const NAME_LEN: usize = 16;

/// `struct ethtool_ts_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct StampInfo {
    command: u32,
    so_timestamping: u32,
    phc_index: i32,
    tx_types: u32,
    tx_reserved: [u32; 3],
    rx_filters: u32,
    rx_reserved: [u32; 3],
}

/// `struct ethtool_cmd`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct LinkInfo {
    command: u32,
    supported: u32,
    advertising: u32,
    speed: u16,
    flags: [u8; 6],
    most_packets: [u32; 2],
    speed_hi: u16,
    crossed: [u8; 2],
    partner: u32,
    reserved: [u32; 2],
}

/// `struct hwtstamp_config`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamping {
    flags: i32,
    /// What is stamped when it leaves: `HWTSTAMP_TX_...`.
    pub transmit: i32,
    /// What is stamped when it comes: `HWTSTAMP_FILTER_...`.
    pub receive: i32,
}

const _: () = {
    assert!(size_of::<StampInfo>() == 44);
    assert!(size_of::<LinkInfo>() == 44);
    assert!(size_of::<Stamping>() == 12);
};

impl Stamping {
    /// Nothing that leaves is stamped.
    pub const LEAVES_NOTHING: i32 = 0;
    /// Whatever leaves and asks for it.
    pub const LEAVES_ON: i32 = 1;
    /// Nothing that comes.
    pub const COMES_NOTHING: i32 = 0;
    /// All that comes.
    pub const COMES_ALL: i32 = 1;
    /// All of NTP that comes.
    pub const COMES_NTP: i32 = 15;

    /// That leaves, and that comes.
    pub fn new(transmit: i32, receive: i32) -> Self {
        Self { flags: 0, transmit, receive }
    }
}

/// What a card can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// `SOF_TIMESTAMPING_...`, or'ed.
    pub stamps: u32,
    /// The number of its clock: `/dev/ptpN`.
    pub clock: Option<u32>,
    /// One bit for each `HWTSTAMP_TX_...`.
    pub transmit: u32,
    /// One bit for each `HWTSTAMP_FILTER_...`.
    pub receive: u32,
}

/// What the card of an interface can do.
///
/// # Errors
///
/// Those of ioctl(2): `ENODEV` if there is no such interface, `EOPNOTSUPP` if its driver cannot be asked.
pub fn abilities(interface: &str) -> io::Result<Abilities> {
    let mut info = StampInfo { command: GET_ABILITIES, ..StampInfo::default() };
    ask(interface, SIOCETHTOOL, &mut info)?;
    Ok(Abilities {
        stamps: info.so_timestamping,
        clock: u32::try_from(info.phc_index).ok(),
        transmit: info.tx_types,
        receive: info.rx_filters,
    })
}

/// What is stamped on an interface now.
///
/// # Errors
///
/// Those of ioctl(2): `EOPNOTSUPP` or `ENOTTY` if its driver does not tell.
pub fn stamping(interface: &str) -> io::Result<Stamping> {
    let mut stamping = Stamping::default();
    ask(interface, SIOCGHWTSTAMP, &mut stamping)?;
    Ok(stamping)
}

/// Has that stamped on an interface; returns what the driver made of it.
///
/// # Errors
///
/// Those of ioctl(2): `EPERM` without CAP_NET_ADMIN, `ERANGE` for what the driver cannot do.
pub fn set_stamping(interface: &str, mut stamping: Stamping) -> io::Result<Stamping> {
    ask(interface, SIOCSHWTSTAMP, &mut stamping)?;
    Ok(stamping)
}

/// The speed of an interface's link, Mbit/s; `None` if it has none, or is not known.
///
/// # Errors
///
/// Those of ioctl(2).
pub fn link_speed(interface: &str) -> io::Result<Option<u32>> {
    let mut info = LinkInfo { command: GET_LINK, ..LinkInfo::default() };
    ask(interface, SIOCETHTOOL, &mut info)?;
    let speed = u32::from(info.speed_hi) << 16 | u32::from(info.speed);
    // Unknown is -1, of 16 bits or of 32.
    Ok((!matches!(speed, 0 | 0xffff | u32::MAX)).then_some(speed))
}

fn ask<T>(interface: &str, request: u32, argument: &mut T) -> io::Result<()> {
    if interface.is_empty() || interface.len() >= NAME_LEN {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    // SAFETY: passes integers only.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: plain data of integers and pointers, for which all zeros is a value.
    let mut wanted: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, octet) in wanted.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = octet as libc::c_char;
    }
    wanted.ifr_ifru.ifru_data = std::ptr::from_mut(argument).cast::<c_void>().cast();
    // SAFETY: the descriptor is open; `wanted` outlives the call and points to `argument`, a valid, exclusive
    // reference to the structure that each request above reads and writes.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request as _, &raw mut wanted) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn layouts_and_requests_are_the_compilers() {
        crate::sys::abi_tests::compare(&[
            ("sizeof(struct ethtool_ts_info)", size_of::<StampInfo>()),
            ("offsetof(struct ethtool_ts_info, phc_index)", offset_of!(StampInfo, phc_index)),
            ("offsetof(struct ethtool_ts_info, tx_types)", offset_of!(StampInfo, tx_types)),
            ("offsetof(struct ethtool_ts_info, rx_filters)", offset_of!(StampInfo, rx_filters)),
            ("sizeof(struct ethtool_cmd)", size_of::<LinkInfo>()),
            ("offsetof(struct ethtool_cmd, speed)", offset_of!(LinkInfo, speed)),
            ("offsetof(struct ethtool_cmd, speed_hi)", offset_of!(LinkInfo, speed_hi)),
            ("sizeof(struct hwtstamp_config)", size_of::<Stamping>()),
            ("offsetof(struct hwtstamp_config, tx_type)", offset_of!(Stamping, transmit)),
            ("offsetof(struct hwtstamp_config, rx_filter)", offset_of!(Stamping, receive)),
            ("sizeof(struct ifreq)", size_of::<libc::ifreq>()),
            ("offsetof(struct ifreq, ifr_data)", offset_of!(libc::ifreq, ifr_ifru)),
            ("ETHTOOL_GET_TS_INFO", GET_ABILITIES as usize),
            ("ETHTOOL_GSET", GET_LINK as usize),
            ("SIOCETHTOOL", SIOCETHTOOL as usize),
            ("SIOCSHWTSTAMP", SIOCSHWTSTAMP as usize),
            ("SIOCGHWTSTAMP", SIOCGHWTSTAMP as usize),
            ("HWTSTAMP_TX_ON", Stamping::LEAVES_ON as usize),
            ("HWTSTAMP_FILTER_ALL", Stamping::COMES_ALL as usize),
            ("HWTSTAMP_FILTER_NTP_ALL", Stamping::COMES_NTP as usize),
        ]);
    }

    #[test]
    fn loopback_has_no_clock_and_takes_no_orders() {
        let abilities = abilities("lo").unwrap();
        assert_eq!((abilities.clock, abilities.receive), (None, 0), "{abilities:?}");
        let unknown = [Some(libc::EOPNOTSUPP), Some(libc::ENOTTY), Some(libc::EINVAL), Some(libc::EPERM)];
        assert!(unknown.contains(&stamping("lo").unwrap_err().raw_os_error()));
        let wanted = Stamping::new(Stamping::LEAVES_ON, Stamping::COMES_ALL);
        assert!(unknown.contains(&set_stamping("lo", wanted).unwrap_err().raw_os_error()));
    }

    #[test]
    fn an_interface_that_is_not_there_is_no_device() {
        for name in ["nosuchcard0", "", "a-name-that-is-too-long"] {
            assert_eq!(abilities(name).unwrap_err().raw_os_error(), Some(libc::ENODEV), "{name}");
        }
    }
}
