//! The server's threads, asked over loopback by raw sockets and by our own client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ntp_common::{made_up_snapshot, serve, unsynchronised_snapshot};
use refclockd::core::leap::LeapSecond;
use refclockd::ntp::access::Access;
use refclockd::ntp::counters::Totals;
use refclockd::ntp::keys::{Algorithm, Key, KeyTable};
use refclockd::ntp::packet::{Header, Mode, Packet};
use refclockd::ntp::passing::{self, Wanted};
use refclockd::ntp::served::{RawMap, Served};
use refclockd::ntp::smear::Smear;
use refclockd::ntp::worker;
use refclocks::time::{NtpTimestamp, Span, Timestamp, Utc};
use refclocks::{LeapIndicator, ReferenceId};

fn ask(server: SocketAddr, request: &[u8]) -> Option<Header> {
    let local: SocketAddr = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(local).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket.send(request).unwrap();
    let mut reply = [0; 200];
    let len = socket.recv(&mut reply).ok()?;
    assert_eq!(len, 48);
    Some(Header::parse(&Packet::new_checked(&reply[..len]).unwrap()))
}

fn request(cookie: u64) -> [u8; 48] {
    Header::request(4, NtpTimestamp(cookie)).to_octets()
}

/// This machine's time, which the made-up snapshot serves.
fn now() -> Timestamp<Utc> {
    refclocks::sys::clock::realtime_now().reinterpret()
}

/// The counts of workers that have ended: a reply arrives before it is counted.
fn totals_at_the_end(workers: worker::Workers) -> Totals {
    let counters = workers.counters();
    workers.stop();
    counters.totals()
}

#[test]
fn answers_with_the_snapshots_time_and_kernel_stamps() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let workers = serve(address, made_up_snapshot(), 1);
        let before = now();
        let reply = ask(workers.address(), &request(42)).unwrap();
        let after = now();
        assert_eq!((reply.mode, reply.stratum, reply.origin), (Mode::Server, 1, NtpTimestamp(42)));
        assert_eq!((reply.leap, reply.refid), (LeapIndicator::None, ReferenceId(*b"PPS\0")));
        let (t2, t3) = (reply.receive.to_utc(before), reply.transmit.to_utc(before));
        let slack = Span::from_nanos(50_000);
        assert!(before - slack < t2 && t2 <= t3 && t3 < after + slack, "{before:?} {t2:?} {t3:?} {after:?}");
        let totals = totals_at_the_end(workers);
        assert_eq!((totals.received, totals.answered, totals.without_kernel_stamp), (1, 1, 0));
    }
}

#[test]
fn says_so_while_it_has_no_time_and_when_nobody_vouches_any_more() {
    let mut hung = made_up_snapshot();
    hung.valid_until = refclocks::sys::clock::raw_now() - Span::from_whole_seconds(1);
    for snapshot in [unsynchronised_snapshot(), hung] {
        let workers = serve("127.0.0.1:0", snapshot, 1);
        let reply = ask(workers.address(), &request(1)).unwrap();
        assert_eq!((reply.leap, reply.stratum), (LeapIndicator::Unsynchronised, 0));
        assert_eq!(reply.refid, ReferenceId(*b"INIT"));
    }
}

#[test]
fn several_workers_share_a_port_and_stop_at_once() {
    let workers = serve("127.0.0.1:0", made_up_snapshot(), 4);
    for cookie in 1..200 {
        assert_eq!(ask(workers.address(), &request(cookie)).unwrap().origin, NtpTimestamp(cookie));
    }
    let counters = workers.counters();
    let before = Instant::now();
    workers.stop();
    assert!(before.elapsed() < Duration::from_millis(500));
    assert_eq!(counters.totals().answered, 199);
}

#[test]
fn a_flood_is_answered_in_batches_each_with_its_own_cookie() {
    let workers = serve("127.0.0.1:0", made_up_snapshot(), 1);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(workers.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut missing: std::collections::HashSet<u64> = (1..=100).collect();
    for cookie in 1..=100 {
        socket.send(&request(cookie)).unwrap();
    }
    let mut reply = [0; 100];
    while !missing.is_empty() {
        let len = socket.recv(&mut reply).expect("all requests are answered");
        let reply = Header::parse(&Packet::new_checked(&reply[..len]).unwrap());
        assert!(missing.remove(&reply.origin.0));
        assert!(reply.receive.0 <= reply.transmit.0);
    }
}

#[test]
fn noise_and_other_modes_get_no_answer_and_are_counted() {
    let workers = serve("127.0.0.1:0", made_up_snapshot(), 1);
    let server = workers.address();
    let mode = |mode| Header { mode, ..Header::request(4, NtpTimestamp(5)) }.to_octets();
    assert_eq!(ask(server, &[0x23; 20]), None);
    assert_eq!(ask(server, &[]), None);
    assert_eq!(ask(server, &mode(Mode::Server)), None);
    assert_eq!(ask(server, &mode(Mode::SymmetricPassive)), None);
    assert_eq!(ask(server, &[0x23; 1400]), None);
    assert!(ask(server, &request(6)).is_some());
    let totals = totals_at_the_end(workers);
    assert_eq!((totals.received, totals.answered, totals.dropped.not_spoken), (6, 1, 1));
    assert_eq!((totals.dropped.malformed, totals.dropped.not_a_request), (3, 1));
}

/// Strangers who have us for a peer: the signed go to the main thread, as long as it takes them; all others are answered here.
#[test]
fn a_signed_stranger_is_passed_on_with_its_kernel_stamp() {
    let (ring, mut passed) = passing::ring();
    let key = |id| Key::new(id, Algorithm::Aes128Cmac, &[1; 16]).unwrap();
    let served = Served { ring, ..Served::new(ntp_common::handle(made_up_snapshot()), Access::default()) };
    served.keys.store(Arc::new(KeyTable::new([key(5), key(6)])));
    let workers = worker::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().spawn(&served).unwrap();
    // It has heard us: that is when our answer left.
    let origin = NtpTimestamp::from_utc(now());
    let packet = |mode| Header { mode, origin, ..Header::request(4, NtpTimestamp(5)) }.to_octets();
    let signed = |id| {
        let mut octets = [0; 68];
        octets[..48].copy_from_slice(&packet(Mode::SymmetricActive));
        assert_eq!(key(id).sign(&mut octets, 48, 16), Some(68));
        octets
    };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let is_answered = |octets: &[u8]| {
        socket.send_to(octets, workers.address()).unwrap();
        let mut reply = [0; 128];
        let len = socket.recv(&mut reply).unwrap();
        assert_eq!((len, reply[0] & 7), (octets.len(), Mode::SymmetricPassive.bits()));
    };
    // Nobody is wanted; then only those who sign with one key.
    is_answered(&signed(5));
    served.ring.want(Wanted { keys: [5].into(), known: ["192.0.2.1".parse().unwrap()].into() });
    is_answered(&packet(Mode::SymmetricActive));
    is_answered(&signed(6));
    let before = refclocks::sys::clock::raw_now();
    socket.send_to(&signed(5), workers.address()).unwrap();
    let taken = passed.blocking_recv().unwrap();
    assert_eq!((&taken.octets[..], taken.key), (&signed(5)[..], 5));
    assert_eq!((taken.source, taken.local), (socket.local_addr().unwrap(), workers.address()));
    let slack = Span::from_nanos(50_000);
    assert!(before - slack < taken.arrived && taken.arrived < refclocks::sys::clock::raw_now());
    // More than the main thread takes out: the rest is answered like the unwanted.
    for _ in 0..128 {
        socket.send_to(&signed(5), workers.address()).unwrap();
    }
    is_answered(&signed(5));
    // Those who are known have a socket of their own.
    served.ring.want(Wanted { keys: [5].into(), known: ["127.0.0.1".parse().unwrap()].into() });
    while passed.try_recv().is_ok() {}
    is_answered(&signed(5));
    let totals = totals_at_the_end(workers);
    assert_eq!((totals.answered, totals.passed), (5, 1 + 128));
    assert_eq!(totals.without_kernel_stamp, 0);
}

#[test]
fn the_access_list_is_asked_and_can_be_replaced() {
    let snapshot = ntp_common::handle(made_up_snapshot());
    let served = Served::new(snapshot, Access::from_lists([], ["127.0.0.0/8".parse().unwrap()]));
    let workers = worker::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().spawn(&served).unwrap();
    assert_eq!(ask(workers.address(), &request(1)), None);
    assert_eq!(workers.counters().totals().dropped.denied, 1);
    served.access.store(Access::default().into());
    assert!(ask(workers.address(), &request(1)).is_some());
}

#[test]
fn leap_seconds_are_spread_at_one_address_and_announced_at_the_other() {
    let mut snapshot = made_up_snapshot();
    // Noon of the day before: smeared time has gone half a second of the way.
    let at = now() + Span::from_whole_seconds(43_200);
    snapshot.utc.next = Some(LeapSecond { at, change: 1 });
    let plain = Served::new(ntp_common::handle(snapshot), Access::default());
    let smeared = Served { smear: Some(Smear::default()), ..plain.clone() };
    let serve = |served: &Served| worker::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().spawn(served).unwrap();
    let (plain, smeared) = (serve(&plain), serve(&smeared));
    for (server, leap, behind) in [(&plain, LeapIndicator::Insert, 0.0), (&smeared, LeapIndicator::None, 0.5)] {
        let before = now();
        let reply = ask(server.address(), &request(7)).unwrap();
        let (transmit, reference) = (reply.transmit.to_utc(before), reply.reference_time.to_utc(before));
        assert_eq!(reply.leap, leap);
        assert!(((before - transmit).seconds() - behind).abs() < 0.1, "{before:?} {transmit:?}");
        assert!(reference <= transmit && (transmit - reference).seconds() < 1.0, "{reference:?} {transmit:?}");
    }
}

#[test]
fn replies_leave_from_the_address_asked() {
    // The whole of 127/8 is ours: a server on the wildcard is asked at an address that the routing
    // table would not choose. A connected socket takes replies from that address only.
    let workers = serve("0.0.0.0:0", made_up_snapshot(), 1);
    let asked = SocketAddr::new("127.3.4.5".parse().unwrap(), workers.address().port());
    assert!(ask(asked, &request(9)).is_some());
}

#[test]
fn a_simulated_oscillator_is_served_through_its_map() {
    let mut snapshot = made_up_snapshot();
    let at = refclocks::sys::clock::raw_now();
    // The snapshot's oscillator reads 1000 s more than this machine's, so its clock does as well.
    let map = RawMap { host: at, raw: at + Span::from_whole_seconds(1000), rate: 1e-6 };
    snapshot.valid_until += Span::from_whole_seconds(2000);
    let served = Served::new(ntp_common::handle(snapshot), Access::default());
    served.raw_map.store(map.into());
    let workers = worker::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().spawn(&served).unwrap();
    let reply = ask(workers.address(), &request(1)).unwrap();
    let ahead = (reply.transmit.to_utc(now()) - now()).seconds();
    assert!((ahead - 1000.0).abs() < 0.1, "{ahead}");
}

#[test]
fn bind_failures_are_values_with_a_reason() {
    let workers = serve("127.0.0.1:0", made_up_snapshot(), 1);
    for count in [0, 1, 3] {
        let error = worker::bind(workers.address(), count).unwrap_err();
        assert!(matches!(error, worker::BindError::InUse { .. }), "{error}");
        assert!(error.action().unwrap().contains("ss -ulnp"));
    }
    let foreign = "192.0.2.1:0".parse().unwrap();
    assert!(matches!(worker::bind(foreign, 1).unwrap_err(), worker::BindError::NoSuchAddress { .. }));
}

#[test]
fn inline_serves_on_the_callers_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let served = Served::new(ntp_common::handle(made_up_snapshot()), Access::default());
    runtime.block_on(async {
        let listener = worker::bind("127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let inline = listener.inline(&served).unwrap();
        let (address, counters) = (inline.address(), inline.counters());
        let asked = std::thread::spawn(move || (1..50).all(|cookie| ask(address, &request(cookie)).is_some()));
        tokio::select! {
            () = inline.run() => {}
            () = async { while !asked.is_finished() { tokio::time::sleep(Duration::from_millis(5)).await } } => {}
        }
        assert!(asked.join().unwrap());
        assert_eq!(counters.totals().answered, 49);
    });
}

/// Context switches of all threads of this process whose name begins with `ntp-`.
fn switches_of_workers() -> u64 {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with("ntp-") {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap_or("0");
            total += line.split_whitespace().last().unwrap().parse::<u64>().unwrap();
        }
    }
    total
}

#[test]
fn an_idle_worker_never_wakes_up() {
    // The tests beside this one have workers as well: look at ours in a process of its own.
    if std::env::var_os("NTP_SERVER_IDLE").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "an_idle_worker_never_wakes_up"])
            .env("NTP_SERVER_IDLE", "1")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let workers = serve("127.0.0.1:0", made_up_snapshot(), 2);
    std::thread::sleep(Duration::from_millis(200));
    let before = switches_of_workers();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(switches_of_workers(), before);
    workers.stop();
}

/// Serves until it is stopped, for a load generator: by hand, with `--ignored --nocapture` and the
/// seconds in NTP_SERVE_S.
#[test]
#[ignore = "serves a load generator that is started by hand"]
fn serve_a_load_generator() {
    let seconds = std::env::var("NTP_SERVE_S").map_or(5, |s| s.parse().unwrap());
    let begun = Instant::now();
    let workers = serve("127.0.0.1:0", made_up_snapshot(), 1);
    assert!(ask(workers.address(), &request(1)).is_some());
    println!("{} first reply after {:?}", workers.address(), begun.elapsed());
    std::thread::sleep(Duration::from_secs(seconds));
    println!("{:?}", totals_at_the_end(workers));
}
