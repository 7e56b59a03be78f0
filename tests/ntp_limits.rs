//! Rate limits on a real port.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ntp_common::{handle, made_up_snapshot};
use refclockd::ntp::access::policy::{Known, Policy};
use refclockd::ntp::access::restrict::Restriction;
use refclockd::ntp::access::{Access, Flags};
use refclockd::ntp::client::names::Names;
use refclockd::ntp::client::{ClientConfig, Orders, shell};
use refclockd::ntp::limit::Limits;
use refclockd::ntp::packet::{Header, Mode, Packet};
use refclockd::ntp::served::Served;
use refclockd::ntp::worker::{self, Workers};
use refclocks::time::NtpTimestamp;

fn limited(limits: Limits) -> Served {
    let policy = Policy::lists(Vec::new(), Vec::new(), Flags::LIMITED | Flags::KOD);
    let access: Access = policy.access(&Known::default());
    let served = Served::new(handle(made_up_snapshot()), access);
    served.limits.store(Some(Arc::new(limits)));
    served
}

fn serve_limited(limits: Limits, workers: usize) -> Workers {
    worker::bind("127.0.0.1:0".parse().unwrap(), workers).unwrap().spawn(&limited(limits)).unwrap()
}

/// A client at an address of its own.
fn client(from: [u8; 4], server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((std::net::Ipv4Addr::from(from), 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

fn request() -> [u8; 48] {
    Header::request(4, NtpTimestamp(0x1234_5678_9abc_def0)).to_octets()
}

/// What comes back: the stratum, or nothing.
fn ask(socket: &UdpSocket) -> Option<u8> {
    socket.send(&request()).unwrap();
    let mut reply = [0; 128];
    let len = socket.recv(&mut reply).ok()?;
    assert!(len <= 48, "no reply is longer than its request");
    Some(Packet::new_checked(&reply[..len]).unwrap().stratum())
}

#[test]
fn whoever_asks_too_often_is_told_and_then_ignored_and_it_is_counted() {
    let limits = Limits { minimum: 10.0, interval: 1000.0, burst: 3, leak: None, ..Limits::NTPD };
    // From ports of its own choice, with several workers: it is one client all the same.
    let workers = serve_limited(limits, 3);
    let answers: Vec<Option<u8>> = (0..5)
        .map(|i| {
            let socket = client([127, 0, 0, 2], workers.address());
            socket.set_read_timeout(Some(Duration::from_millis(if i < 3 { 2000 } else { 200 }))).unwrap();
            ask(&socket)
        })
        .collect();
    assert_eq!(answers, [Some(1), Some(0), Some(0), None, None]);
    assert_eq!(ask(&client([127, 0, 0, 3], workers.address())), Some(1));
    // A reply may be here before it is counted there.
    let counters = workers.counters();
    workers.stop();
    let totals = counters.totals();
    assert_eq!((totals.answered, totals.kissed, totals.dropped.limited), (4, 2, 2), "{totals:?}");
}

/// What a peer asks from its own port comes to a socket of its own, and is limited and counted all the same.
#[test]
fn a_peer_that_asks_like_a_client_is_limited_and_counted_too() {
    let served = limited(Limits { minimum: 0.0, interval: 1000.0, burst: 3, leak: None, ..Limits::NTPD });
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = peer.local_addr().unwrap().port();
    peer.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    let asking = std::thread::spawn(move || {
        let mut octets = [0; 128];
        let (_, ours) = peer.recv_from(&mut octets).unwrap();
        peer.connect(ours).unwrap();
        for _ in 0..6 {
            peer.send(&request()).unwrap();
        }
        // Besides, it is sent packets as a peer.
        let mut modes = Vec::new();
        while let Ok(len) = peer.recv(&mut octets)
            && modes.len() < 5
        {
            modes.push(Header::parse(&Packet::new_checked(&octets[..len]).unwrap()).mode);
        }
        modes
    });
    let config =
        ClientConfig { port, peer: Some(served.clone()), maxpoll: 0, minpoll: 0, ..ClientConfig::new("127.0.0.1") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let modes = runtime.block_on(async {
        let finished = async {
            while !asking.is_finished() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = shell::run(config, Names::here(), Orders::none(), |_| {}) => {}
            () = finished => {}
        }
        asking.join().unwrap()
    });
    assert_eq!(modes.iter().filter(|mode| **mode == Mode::Server).count(), 3, "{modes:?}");
    let totals = served.board.totals().unwrap();
    assert_eq!((totals.received, totals.answered, totals.dropped.limited), (6, 3, 3), "{totals:?}");
    assert_eq!(served.board.monitors.clients()[0].limited, 3);
}

/// ntpd's `flake` and `mssntp`: of ten packets one is lost, and what Samba would have to sign gets a crypto-NAK.
#[test]
fn a_flaky_server_loses_one_in_ten_and_signs_nothing_for_windows() {
    let rules = ["127.0.0.0/8 flake", "127.3.0.0/16 mssntp"].map(|line| Restriction::parse(line).unwrap());
    let access = Policy::Restrict(rules.into()).access(&Known::default());
    let workers = worker::bind("127.0.0.1:0".parse().unwrap(), 1)
        .unwrap()
        .spawn(&Served::new(handle(made_up_snapshot()), access))
        .unwrap();
    let socket = client([127, 2, 0, 1], workers.address());
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut reply = [0; 128];
    // A socket holds some two hundred that wait to be read.
    let mut answered = 0;
    for _ in 0..8 {
        for _ in 0..50 {
            socket.send(&request()).unwrap();
        }
        answered += std::iter::from_fn(|| socket.recv(&mut reply).ok()).count() as u64;
    }
    let windows = client([127, 3, 0, 1], workers.address());
    // Its relative identifier for a key, and a digest of zeros to be filled in (MS-SNTP 3.1.5.1).
    let asked = [&request()[..], &1108_u32.to_le_bytes(), &[0; 16]].concat();
    windows.send(&asked).unwrap();
    assert_eq!(windows.recv(&mut reply).unwrap(), 52);
    assert_eq!(reply[48..52], [0; 4]);
    let counters = workers.counters();
    workers.stop();
    let totals = counters.totals();
    println!("{answered} of 400 answered; {totals:?}");
    // Five standard deviations; nothing else is lost.
    assert!((10..70).contains(&totals.dropped.flaked), "{totals:?}");
    assert_eq!((answered, totals.refused_keys), (400 - totals.dropped.flaked, 1));
}

/// The bar of a rate limit: 200 clients ask 250 times a second each, and those beside them that keep to the rules lose no
/// reply. A machine that is busy with other things may not get so far, and its kernel may lose what waits too long: that is
/// counted apart.
#[test]
fn the_well_behaved_lose_nothing_beside_a_flood() {
    const FLOODING: u8 = 200;
    const GOOD: u8 = 40;
    const ROUNDS: u64 = 8;
    let served = limited(Limits::default());
    let workers = worker::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap().spawn(&served).unwrap();
    let server = workers.address();
    let stop = Arc::new(AtomicBool::new(false));
    let flood = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let sockets: Vec<UdpSocket> = (1..=FLOODING).map(|i| client([127, 1, 0, i], server)).collect();
            let (mut sent, started) = (0u64, Instant::now());
            while !stop.load(Ordering::Relaxed) {
                let round = Instant::now();
                sent += sockets.iter().map(|socket| u64::from(socket.send(&request()).is_ok())).sum::<u64>();
                // 250 rounds a second; what this machine had no time for is not made up for.
                std::thread::sleep(Duration::from_millis(4).saturating_sub(round.elapsed()));
            }
            (sent, started.elapsed())
        })
    };
    let good: Vec<UdpSocket> = (1..=GOOD).map(|i| client([127, 2, 0, i], server)).collect();
    let mut unanswered = 0;
    for _ in 0..ROUNDS {
        for socket in &good {
            match ask(socket) {
                Some(stratum) => assert_eq!(stratum, 1, "no kiss code"),
                None => unanswered += 1,
            }
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    stop.store(true, Ordering::Relaxed);
    let (sent, took) = flood.join().unwrap();
    // What is on its way is answered yet.
    std::thread::sleep(Duration::from_millis(500));
    let (totals, clients) = (workers.counters().totals(), served.board.monitors.clients());
    let from =
        |net: u8| clients.iter().filter(move |client| client.address.to_string().starts_with(&format!("127.{net}.")));
    let of_good: Vec<_> = from(2).collect();
    let heard: u64 = of_good.iter().map(|client| client.count).sum();
    let asked = ROUNDS * u64::from(GOOD);
    println!(
        "the flood sent {sent} in {took:.1?}; of {asked} asked in turn {unanswered} were lost before they were heard; {totals:?}"
    );
    // Each that was heard was answered, and none was one too many.
    assert_eq!(of_good.len(), usize::from(GOOD));
    assert!(of_good.iter().all(|client| (client.dropped, client.limited) == (0, 0)), "{of_good:?}");
    assert_eq!(asked - heard, unanswered, "what is missing never came");
    assert!(unanswered * 50 <= asked, "{unanswered} of {asked}");
    // Of the flood the burst, what the interval gives, and one in four of the rest.
    let (flood_heard, flood_limited) = (totals.received - heard, totals.dropped.limited + totals.kissed);
    let by_right = u64::from(FLOODING) * (16 + took.as_secs() / 2 + 1);
    let leaked = (flood_heard - flood_limited).saturating_sub(by_right) as f64 / (flood_heard - by_right) as f64;
    assert!(from(1).count() == usize::from(FLOODING) && sent > 50_000, "{sent}");
    assert!((0.2..0.27).contains(&leaked), "{leaked}: {totals:?}");
    assert_eq!(totals.answered, heard + (flood_heard - totals.dropped.limited));
}
