//! What the server remembers of its clients: how often each may ask, who asked, when replies left.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use refclockd::ntp::interleave::Departures;
use refclockd::ntp::limit::{Admit, Kiss, Limiter, Limits};
use refclockd::ntp::monitor::{Monitor, Visit};
use refclockd::ntp::packet::{Header, Packet};
use refclocks::time::{NtpTimestamp, Span, Timestamp};

use crate::bytes::Tail;

/// Clients that are always remembered: as many as have room at one place.
const FRIENDS: u8 = 4;

/// Visits of a few friends and of any number of strangers, at any times. Friends are counted exactly and never
/// get more replies than is allowed, whatever the strangers do; tables stay as large as they are.
pub fn ntp_clients(data: &[u8]) {
    let mut bytes = Tail(data);
    let burst = bytes.byte();
    let interval = f64::from(i32::from(bytes.byte() % 8) - 4).exp2();
    let limits =
        Limits { interval, burst, minimum: 0.0, leak: None, kiss: Kiss::OneIn(bytes.byte()), ..Limits::CHRONY };
    // With nobody else in it, a limiter's table forgets no friend.
    let mut limiter = Limiter::seeded(limits, 64, BuildHasherDefault::<DefaultHasher>::default(), 1);
    let mut strangers = Limiter::seeded(limits, 64, BuildHasherDefault::<DefaultHasher>::default(), 1);
    let monitor = Monitor::seeded(64, BuildHasherDefault::<DefaultHasher>::default());
    monitor.make();
    let mut departures = Departures::default();
    let mut now = Timestamp::from_parts(1_000_000, 0);
    let (mut earliest, mut latest) = (now, now);
    let mut answered = [0u32; FRIENDS as usize];
    let mut seen: HashMap<IpAddr, u64> = HashMap::new();
    let mut left: HashMap<u64, u64> = HashMap::new();
    let mut visits = 0u32;
    while !bytes.is_empty() {
        let (who, what) = (bytes.byte(), bytes.byte());
        // Mostly forward, sometimes back: stamps of a batch are in no order.
        now += Span::from_millis(i64::from(what) * i64::from(what) - 16);
        (earliest, latest) = (earliest.min(now), latest.max(now));
        let address = if who < FRIENDS {
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, who))
        } else {
            IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | u32::from(who) << 16 | bytes.i32() as u32 & 0xffff))
        };
        let admitted = match answered.get_mut(usize::from(who)) {
            Some(answered) => {
                let admitted = limiter.admit(address, now);
                *answered += u32::from(admitted == Admit::Answer);
                let allowed = f64::from(burst.max(1)) + (latest - earliest).seconds() / interval;
                assert!(f64::from(*answered) <= allowed + 0.01, "{answered} of {allowed}");
                admitted
            }
            None => strangers.admit(address, now),
        };
        visits += 1;
        *seen.entry(address).or_default() += 1;
        let visit = Visit {
            source: SocketAddr::new(address, u16::from(what)),
            at: now,
            mode: what & 7,
            version: what >> 3 & 7,
            dropped: admitted == Admit::Drop,
            limited: admitted != Admit::Answer,
        };
        monitor.note(&visit);
        let (receive, transmit) = (u64::from(what) << 32 | 1, u64::from(visits));
        departures.note(NtpTimestamp(receive), NtpTimestamp(transmit));
        left.insert(receive, transmit);
        let named = u64::from(who) << 32 | 1;
        let header = Header { origin: NtpTimestamp(named), ..Header::request(4, NtpTimestamp(7)) };
        if let Ok(packet) = Packet::new_checked(&header.to_octets()) {
            let told = departures.asked_for(&packet).map(|at| at.0);
            assert_eq!(told, left.get(&named).copied(), "each departure is that of the reply that is named");
        }
    }
    let clients = monitor.clients();
    assert!(clients.len() <= 64);
    for client in &clients {
        let came = seen.get(&client.address).copied().unwrap_or_default();
        assert!(client.count <= came && client.first <= client.last, "{client:?} came {came} times");
        assert!(u64::from(client.dropped.max(client.limited)) <= client.count && client.dropped <= client.limited);
        assert!(client.average_interval().is_none_or(|gap| gap >= Span::ZERO));
    }
    let strange = seen.keys().any(|address| !matches!(address, IpAddr::V4(ip) if ip.octets()[0] == 192));
    if !strange {
        assert_eq!(clients.len(), seen.len(), "friends are all remembered");
        assert!(clients.iter().all(|client| seen.get(&client.address) == Some(&client.count)));
    }
}
