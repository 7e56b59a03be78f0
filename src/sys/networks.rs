//! Sockets for what is sent to whole networks: broadcast and multicast addresses, and the interfaces they are heard on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;

use super::ports::Ports;
use super::udp::{UdpSocket, check};

/// `IPV6_MULTICAST_ALL` of linux/in6.h.
const IPV6_MULTICAST_ALL: i32 = 29;

/// An interface that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// It carries multicast.
    pub multicast: bool,
    /// By which broadcast addresses it is heard.
    pub broadcast: Vec<Ipv4Addr>,
    /// Its own addresses, with port 0; those of the link itself with its number for a scope.
    pub addresses: Vec<SocketAddr>,
}

/// The interfaces that are up.
///
/// # Errors
///
/// Those of getifaddrs(3).
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    for address in getifaddrs()?.filter(|address| address.flags.contains(InterfaceFlags::IFF_UP)) {
        let Ok(index) = if_nametoindex(address.interface_name.as_str()) else { continue };
        let at = match found.iter().position(|known| known.index == index) {
            Some(at) => at,
            None => {
                let multicast = address.flags.contains(InterfaceFlags::IFF_MULTICAST);
                let name = address.interface_name.clone();
                found.push(Interface { name, index, multicast, broadcast: Vec::new(), addresses: Vec::new() });
                found.len() - 1
            }
        };
        let own = address.address.and_then(|own| {
            let v4 = own.as_sockaddr_in().map(|own| SocketAddr::V4(SocketAddrV4::new(own.ip(), 0)));
            v4.or_else(|| {
                own.as_sockaddr_in6().map(|own| SocketAddr::V6(SocketAddrV6::new(own.ip(), 0, 0, own.scope_id())))
            })
        });
        if let (Some(own), Some(known)) = (own, found.get_mut(at)) {
            known.addresses.push(own);
        }
        let is_broadcast = address.flags.contains(InterfaceFlags::IFF_BROADCAST);
        if let (true, Some(known)) = (is_broadcast, found.get_mut(at)) {
            let v4 = |at: Option<SockaddrStorage>| at.and_then(|at| at.as_sockaddr_in().map(|at| at.ip()));
            let told = v4(address.broadcast).filter(|to| !to.is_unspecified());
            // Where none is set it is the last of the network's, as the kernel has it.
            let last = v4(address.address).zip(v4(address.netmask)).and_then(|(ip, mask)| last_of(ip, mask));
            known.broadcast.extend(told.into_iter().chain(last));
            known.broadcast.sort_unstable();
            known.broadcast.dedup();
        }
    }
    Ok(found)
}

/// The broadcast address of a network; one of two addresses or less has none.
fn last_of(ip: Ipv4Addr, mask: Ipv4Addr) -> Option<Ipv4Addr> {
    let hosts = !u32::from(mask);
    (hosts > 1).then(|| Ipv4Addr::from(u32::from(ip) | hosts))
}

impl UdpSocket {
    /// A socket that hears what is sent to a broadcast or multicast address, beside whatever of ours has the port;
    /// does not block.
    ///
    /// # Errors
    ///
    /// Those of socket(2), setsockopt(2) and bind(2), e.g. `AddrNotAvailable` where no interface has that network.
    pub fn listener(address: SocketAddr, interface: Option<&str>, ports: &Ports) -> io::Result<Arc<Self>> {
        let socket = Self::open(address, libc::SOCK_NONBLOCK)?;
        socket.stamp_arrivals()?;
        if let Some(interface) = interface {
            socket.bind_to_interface(interface)?;
        }
        if address.is_ipv6() {
            socket.set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        }
        ports.bind(&socket, address)?;
        if address.ip().is_multicast() {
            socket.join(address.ip(), interface)?;
        }
        let socket = Arc::new(socket);
        ports.add(&socket);
        Ok(socket)
    }

    /// A socket of any port that hears everybody; does not block.
    ///
    /// # Errors
    ///
    /// Those of socket(2), setsockopt(2) and bind(2).
    pub fn open_to_all(from: SocketAddr, interface: Option<&str>) -> io::Result<Arc<Self>> {
        let socket = Self::open(from, libc::SOCK_NONBLOCK)?;
        socket.stamp_arrivals()?;
        if let Some(interface) = interface {
            socket.bind_to_interface(interface)?;
        }
        socket.bind(from)?;
        Ok(Arc::new(socket))
    }

    /// Joins a multicast group on that interface, or on all that carry multicast. To be repeated now and then:
    /// interfaces come and go.
    ///
    /// # Errors
    ///
    /// Those of setsockopt(2) if it is joined on none.
    pub fn join(&self, group: IpAddr, interface: Option<&str>) -> io::Result<()> {
        let mut joined = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
        let is_wanted = |i: &Interface| interface.map_or(i.multicast, |name| i.name == name);
        for interface in interfaces()?.into_iter().filter(is_wanted) {
            match self.join_on(group, interface.index) {
                // It has joined there before.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => joined = Ok(()),
                Ok(()) => joined = Ok(()),
                Err(error) if joined.is_err() => joined = Err(error),
                Err(_) => {}
            }
        }
        joined
    }

    fn join_on(&self, group: IpAddr, index: u32) -> io::Result<()> {
        let index = libc::c_int::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
        match group {
            IpAddr::V4(group) => {
                let request = libc::ip_mreqn {
                    imr_multiaddr: libc::in_addr { s_addr: u32::from_ne_bytes(group.octets()) },
                    imr_address: libc::in_addr { s_addr: 0 },
                    imr_ifindex: index,
                };
                self.set_to(libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &request)
            }
            IpAddr::V6(group) => {
                let request = libc::ipv6_mreq {
                    ipv6mr_multiaddr: libc::in6_addr { s6_addr: group.octets() },
                    ipv6mr_interface: index as _,
                };
                self.set_to(libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, &request)
            }
        }
    }

    /// Hears no groups but those it has joined itself: other sockets of this machine may have joined others.
    pub(super) fn hear_own_groups(&self, address: SocketAddr) {
        // A kernel without it delivers what others have joined; that is counted and not wrong.
        let _ = match address {
            SocketAddr::V4(_) => self.set(libc::IPPROTO_IP, libc::IP_MULTICAST_ALL, 0),
            SocketAddr::V6(_) => self.set(libc::IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0),
        };
    }

    fn set_to<T: Copy>(&self, level: i32, option: i32, value: &T) -> io::Result<()> {
        // SAFETY: the pointer and length describe `value`, a plain struct of the kernel's layout that outlives the call.
        check(unsafe {
            libc::setsockopt(self.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), size_of::<T>() as _)
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_a_last_address() {
        let last = |ip: [u8; 4], mask: [u8; 4]| last_of(ip.into(), mask.into());
        assert_eq!(last([10, 9, 0, 1], [255, 255, 255, 0]), Some([10, 9, 0, 255].into()));
        assert_eq!(last([192, 0, 2, 66], [255, 255, 255, 192]), Some([192, 0, 2, 127].into()));
        assert_eq!(last([192, 0, 2, 66], [255, 255, 255, 254]), None);
    }

    #[test]
    fn interfaces_are_found() {
        let found = interfaces().unwrap();
        let loopback = found.iter().find(|interface| interface.name == "lo").unwrap();
        assert!(loopback.index > 0 && loopback.broadcast.is_empty());
        assert!(loopback.addresses.contains(&"127.0.0.1:0".parse().unwrap()), "{loopback:?}");
        assert_eq!(found.iter().filter(|interface| interface.name == "lo").count(), 1);
    }
}
