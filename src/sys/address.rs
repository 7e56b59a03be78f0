//! Socket addresses as the kernel writes them, read and written as octets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Octets of `struct sockaddr_in6`, the longest address we meet.
pub(crate) const MAX_LEN: usize = 28;

/// Octets of `struct sockaddr_in`.
const V4_LEN: usize = 16;

/// A `struct sockaddr_in` or `sockaddr_in6`, in the kernel's layout.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(8))]
pub(crate) struct KernelAddress {
    pub(crate) octets: [u8; MAX_LEN],
    pub(crate) len: libc::socklen_t,
}

impl KernelAddress {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let family = match address {
            SocketAddr::V4(_) => libc::AF_INET,
            SocketAddr::V6(_) => libc::AF_INET6,
        } as u16;
        let mut kernel = Self::default();
        let head = family.to_ne_bytes().into_iter().chain(address.port().to_be_bytes());
        kernel.len = match address {
            SocketAddr::V4(v4) => fill(&mut kernel.octets, head.chain(v4.ip().octets()), V4_LEN),
            SocketAddr::V6(v6) => {
                // The flow label is in network order already, as the kernel keeps it.
                let body = v6.flowinfo().to_ne_bytes().into_iter().chain(v6.ip().octets());
                fill(&mut kernel.octets, head.chain(body).chain(v6.scope_id().to_ne_bytes()), MAX_LEN)
            }
        };
        kernel
    }

    /// The address, if it is of a family we know and complete.
    pub(crate) fn get(&self) -> Option<SocketAddr> {
        let octets = self.octets.get(..usize::try_from(self.len).ok()?.min(MAX_LEN))?;
        let (family, octets) = octets.split_first_chunk::<2>()?;
        let (port, octets) = octets.split_first_chunk::<2>()?;
        let port = u16::from_be_bytes(*port);
        match i32::from(u16::from_ne_bytes(*family)) {
            libc::AF_INET => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(*octets.first_chunk::<4>()?)), port)),
            libc::AF_INET6 => {
                let (flow, octets) = octets.split_first_chunk::<4>()?;
                let (ip, octets) = octets.split_first_chunk::<16>()?;
                let scope = octets.first_chunk::<4>()?;
                Some(SocketAddr::V6(SocketAddrV6::new(
                    Ipv6Addr::from(*ip),
                    port,
                    u32::from_ne_bytes(*flow),
                    u32::from_ne_bytes(*scope),
                )))
            }
            _ => None,
        }
    }
}

fn fill(to: &mut [u8; MAX_LEN], from: impl Iterator<Item = u8>, len: usize) -> libc::socklen_t {
    for (to, octet) in to.iter_mut().zip(from) {
        *to = octet;
    }
    len as libc::socklen_t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_the_kernels() {
        assert_eq!(size_of::<libc::sockaddr_in>(), V4_LEN);
        assert_eq!(size_of::<libc::sockaddr_in6>(), MAX_LEN);
        assert!(align_of::<KernelAddress>() >= align_of::<libc::sockaddr_storage>());
    }

    #[test]
    fn addresses_round_trip() {
        for text in ["192.0.2.1:123", "0.0.0.0:0", "[2001:db8::1]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(KernelAddress::new(address).get(), Some(address));
        }
        let scoped = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 123, 7, 3));
        assert_eq!(KernelAddress::new(scoped).get(), Some(scoped));
    }

    #[test]
    fn incomplete_and_foreign_addresses_are_none() {
        assert_eq!(KernelAddress::default().get(), None);
        let mut address = KernelAddress::new("192.0.2.1:1".parse().unwrap());
        address.len = 6;
        assert_eq!(address.get(), None);
        address.len = 4000;
        assert!(address.get().is_some());
    }
}
