//! Tests of the table of clients.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicBool;

use super::*;
use proptest::prelude::*;

fn monitor(clients: usize) -> Monitor<BuildHasherDefault<DefaultHasher>> {
    let monitor = Monitor::seeded(clients, BuildHasherDefault::default());
    monitor.make();
    monitor
}

fn at(millis: i64) -> Timestamp<Raw> {
    Timestamp::from_parts(1000, 0) + Span::from_millis(millis)
}

fn visit(address: &str, millis: i64) -> Visit {
    let source = SocketAddr::new(address.parse().unwrap(), 123);
    Visit { source, at: at(millis), mode: 3, version: 4, dropped: false, limited: false }
}

fn stranger(number: u32) -> Visit {
    let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)), 40_000);
    Visit { source, ..visit("::", i64::from(number)) }
}

fn find(clients: &[Client], address: &str) -> Option<Client> {
    clients.iter().find(|client| client.address == address.parse::<IpAddr>().unwrap()).copied()
}

#[test]
fn an_entry_is_a_cache_line() {
    assert_eq!((size_of::<Entry>(), align_of::<Entry>()), (64, 64));
}

#[test]
fn a_client_is_told_of_from_the_first_to_the_last() {
    let monitor = monitor(64);
    monitor.note(&visit("192.0.2.1", 0));
    assert_eq!(monitor.clients()[0].average_interval(), None);
    monitor.note(&Visit { dropped: true, limited: true, ..visit("192.0.2.1", 2000) });
    let source = "192.0.2.1:4567".parse().unwrap();
    monitor.note(&Visit { source, mode: 1, version: 3, limited: true, ..visit("192.0.2.1", 10_000) });
    monitor.note(&visit("2001:db8::1", 7));
    monitor.note(&Visit { source: "[2001:db8::2]:1".parse().unwrap(), ..visit("::", 7) });
    let clients = monitor.clients();
    assert_eq!(clients.len(), 3, "of a /64 each is a client");
    let expected = Client {
        address: "192.0.2.1".parse().unwrap(),
        port: 4567,
        first: at(0),
        last: at(10_000),
        count: 3,
        dropped: 1,
        limited: 2,
        mode: 1,
        version: 3,
        interval: Some(Span::from_millis(2750)),
    };
    assert_eq!(find(&clients, "192.0.2.1"), Some(expected));
    assert_eq!(expected.average_interval(), Some(Span::from_millis(5000)));
}

#[test]
fn a_stamp_of_before_moves_nothing_back() {
    let monitor = monitor(64);
    for millis in [1000, 0] {
        monitor.note(&visit("192.0.2.1", millis));
    }
    let client = monitor.clients()[0];
    assert_eq!((client.first, client.last, client.interval), (at(1000), at(1000), Some(Span::from_nanos(1))));
}

#[test]
fn a_flood_of_strangers_leaves_those_that_come_again() {
    let monitor = monitor(1024);
    let address = |number: u8| format!("192.0.2.{number}");
    for number in 0..100 {
        monitor.note(&visit(&address(number), 0));
        monitor.note(&visit(&address(number), 1));
    }
    (0..200_000).for_each(|number| monitor.note(&stranger(number)));
    let clients = monitor.clients();
    assert_eq!(clients.len(), 1024);
    let kept = (0..100).filter(|number| find(&clients, &address(*number)).is_some()).count();
    assert_eq!(kept, 100, "the place of a returning client was given away");
    // Who has been away for long is a stranger again.
    (0..200_000).for_each(|number| monitor.note(&Visit { at: at(20_000_000), ..stranger(number) }));
    assert!((0..100).all(|number| find(&monitor.clients(), &address(number)).is_none()));
}

#[test]
fn without_room_nobody_is_remembered() {
    let monitor = monitor(0);
    monitor.note(&visit("192.0.2.1", 0));
    assert_eq!(monitor.clients(), []);
}

#[test]
fn readers_never_see_half_an_entry() {
    let (monitor, done) = (monitor(4), AtomicBool::new(false));
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                for client in monitor.clients() {
                    let IpAddr::V4(ip) = client.address else { panic!("{client:?}") };
                    let number = u32::from(ip) - 0x0a00_0000;
                    assert_eq!((client.first, client.last), (at(number.into()), at(number.into())), "{client:?}");
                    assert_eq!(client.port, number as u16, "{client:?}");
                    seen += 1;
                }
            }
            seen
        });
        for number in 0..1_000_000 {
            let mut visit = stranger(number);
            visit.source.set_port(number as u16);
            monitor.note(&visit);
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(seen > 0);
}

#[test]
fn tables_are_read_as_one_and_forgotten_on_command() {
    let monitors = Monitors::default();
    monitors.set_room(16);
    let (one, other) = (monitors.open(), monitors.open());
    for (table, millis) in [(&one, 0), (&other, 500)] {
        table.load().make();
        table.load().note(&visit("192.0.2.1", millis));
    }
    let clients = monitors.clients();
    assert_eq!(clients.len(), 1);
    assert_eq!((clients[0].count, clients[0].first, clients[0].last), (2, at(0), at(500)));
    monitors.set_room(16);
    assert_eq!(monitors.clients().len(), 1, "nothing has changed");
    monitors.forget();
    assert_eq!(monitors.clients(), []);
    one.load().make();
    one.load().note(&visit("192.0.2.2", 0));
    assert_eq!(monitors.clients().len(), 1);
    drop(one);
    assert_eq!(monitors.clients(), []);
}

proptest! {
    #[test]
    fn what_came_comes_out_again(
        address: u128, port: u16, nanos in -1i64 << 60..1 << 60, gap in 0i64..1 << 60, form in 0u8..64,
        dropped: bool, limited: bool,
    ) {
        let address = IpAddr::V6(address.into()).to_canonical();
        let source = SocketAddr::new(address, port);
        let (first, last) = (Timestamp::from_nanos(nanos), Timestamp::from_nanos(nanos + gap));
        let visit = Visit { source, at: first, mode: form & 7, version: form >> 3, dropped, limited };
        let monitor = monitor(4);
        monitor.note(&visit);
        monitor.note(&Visit { at: last, ..visit });
        let expected = Client {
            address, port, first, last, count: 2,
            dropped: 2 * u32::from(dropped), limited: 2 * u32::from(limited),
            mode: form & 7, version: form >> 3,
            interval: Some(Span::from_nanos(gap.max(1))),
        };
        prop_assert_eq!(monitor.clients(), [expected]);
    }

    /// As long as there is room, the table is a map; and never more than its room.
    #[test]
    fn the_table_is_a_map(visits in proptest::collection::vec((0u32..30, 0i64..5000, any::<bool>()), 1..300)) {
        let (monitor, mut model, mut now) = (monitor(4096), HashMap::<u32, (u64, u32)>::new(), 0);
        for (number, step, dropped) in visits {
            now += step;
            monitor.note(&Visit { at: at(now), dropped, ..stranger(number) });
            let (count, refused) = model.entry(number).or_default();
            (*count, *refused) = (*count + 1, *refused + u32::from(dropped));
        }
        let clients = monitor.clients();
        prop_assert_eq!(clients.len(), model.len());
        for client in clients {
            let IpAddr::V4(ip) = client.address else { panic!("{client:?}") };
            prop_assert_eq!(model.get(&(u32::from(ip) - 0x0a00_0000)), Some(&(client.count, client.dropped)));
            prop_assert!(client.first <= client.last && client.last <= at(now));
        }
    }
}
