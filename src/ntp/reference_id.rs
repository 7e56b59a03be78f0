//! The reference ID by which a server's address is known to the clients of its clients.

use std::net::IpAddr;

use md5::{Digest, Md5};
use refclocks::ReferenceId;

/// The four octets of an IPv4 address; the first four of the MD5 hash of an IPv6 address (RFC 5905
/// section 7.3).
pub fn reference_id(address: IpAddr) -> ReferenceId {
    match address.to_canonical() {
        IpAddr::V4(v4) => ReferenceId(v4.octets()),
        IpAddr::V6(v6) => {
            let hash = Md5::digest(v6.octets());
            ReferenceId([hash[0], hash[1], hash[2], hash[3]])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_both_families() {
        let of = |address: &str| reference_id(address.parse().unwrap()).0;
        assert_eq!(of("192.0.2.7"), [192, 0, 2, 7]);
        assert_eq!(of("::ffff:192.0.2.7"), [192, 0, 2, 7]);
        assert_eq!(of("2001:db8::1"), [57, 171, 155, 55]);
    }
}
