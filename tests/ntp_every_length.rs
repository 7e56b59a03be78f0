//! Whatever comes: every length a datagram can have, every mode and version. The server answers or refuses,
//! counts each, never says more than it was asked, and goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use ntp_common::{handle, made_up_snapshot};
use refclockd::ntp::access::Access;
use refclockd::ntp::keys::{Algorithm, Key, KeyTable};
use refclockd::ntp::packet::Header;
use refclockd::ntp::served::Served;
use refclockd::ntp::worker;
use refclocks::time::NtpTimestamp;

/// The longest datagram that UDP over IPv4 has.
const LONGEST: usize = 65_507;

/// Datagrams between two questions that must be answered: fewer than the kernel holds for us.
const IN_A_ROW: usize = 16;

#[test]
fn every_length_mode_and_version_is_answered_or_refused() {
    let served = Served::new(handle(made_up_snapshot()), Access::default());
    let key = Key::new(1, Algorithm::Md5, b"0123456789").unwrap();
    served.keys.store(Arc::new(KeyTable::new([key])));
    let workers = worker::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().spawn(&served).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(workers.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let cookie = NtpTimestamp(0x7777_0000_1111_2222);
    let question = Header::request(4, cookie).to_octets();
    let mut reply = [0; 2048];
    let (mut sent, mut replies) = (0u64, 0u64);
    // Asks, and takes what has come of the datagrams before: the longest of these had so many octets.
    let mut ask = |longest: usize, sent: &mut u64| {
        socket.send(&question).unwrap();
        *sent += 1;
        loop {
            let len = socket.recv(&mut reply).expect("the server is silent");
            replies += 1;
            assert!(len <= longest.max(48), "a reply of {len} octets to {longest}");
            assert!([2, 4].contains(&(reply[0] & 7)), "nothing but replies");
            if reply[24..32] == cookie.0.to_be_bytes() {
                return;
            }
        }
    };
    let mut datagram = vec![0x5a; LONGEST];
    // Every length, as an unsigned request of version 4; then every first octet, in lengths that matter.
    for len in 0..=LONGEST {
        datagram[0] = 0x23;
        socket.send(&datagram[..len]).unwrap();
        sent += 1;
        if len % IN_A_ROW == 0 || len == LONGEST {
            ask(len, &mut sent);
        }
    }
    for first in 0..=255 {
        datagram[0] = first;
        for len in [1, 12, 47, 48, 49, 52, 60, 64, 68, 72, 76, 116, 468, 1280, 1281, 9000] {
            socket.send(&datagram[..len]).unwrap();
            sent += 1;
        }
        ask(9000, &mut sent);
    }
    let counters = workers.counters();
    workers.stop();
    let totals = counters.totals();
    let dropped = &totals.dropped;
    let dropped = dropped.denied
        + dropped.malformed
        + dropped.version
        + dropped.not_a_request
        + dropped.bad_source
        + dropped.not_signed
        + dropped.limited
        + dropped.not_spoken;
    println!("{sent} sent, {replies} replies; {totals:?}");
    assert_eq!(totals.received, sent, "none was lost on the way");
    assert_eq!(totals.answered + totals.passed + dropped, sent, "each is counted once");
    assert_eq!(totals.without_kernel_stamp, 0);
}
