//! A leap second as clients meet it over the wire, at one daemon's addresses: announced and jumped over in UTC, spread in
//! smeared time, by a daemon that knew of it and by one that hears of it late. A hundred seconds pass in one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ntp_common::made_up_snapshot;
use refclockd::config::Config;
use refclockd::core::leap::{LeapSecond, UtcMap};
use refclockd::core::snapshot::Snapshot;
use refclockd::daemon::start::serving::Serving;
use refclockd::ntp::client::names::Names;
use refclockd::ntp::client::random::seed;
use refclockd::ntp::client::{Association, Config as ClientConfig, Filters, Measurement, Rejected};
use refclockd::ntp::packet::{Header, Packet};
use refclockd::ntp::served::RawMap;
use refclocks::LeapIndicator;
use refclocks::sys::clock;
use refclocks::time::{Raw, Span, Timestamp, Utc};
use tokio::sync::mpsc::unbounded_channel;

/// How much faster than real time passes.
const SPEED: f64 = 100.0;

/// By how much a reading may be off beyond half of its round trip, s: a server foresees when its reply will leave, by 200 us too
/// late on a busy machine, and that is a hundred times as much here.
const FORESEEN: f64 = 200e-6 * SPEED;

/// Over how long a leap second is spread, s: the shortest there is.
const INTERVAL: f64 = 1000.0;

/// How long before the leap second the story begins, when who hears of it late does so, and when it ends after it, s.
const BEGIN: f64 = 1080.0;
const HEARD: f64 = 400.0;
const END: f64 = 720.0;

/// A client at one address, as far as it has come.
struct Client {
    socket: UdpSocket,
    association: Association,
    measured: Vec<Measurement>,
    announced: Vec<(Timestamp<Raw>, LeapIndicator)>,
}

impl Client {
    fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let association = Association::new(ClientConfig {
            address: server,
            iburst: false,
            minpoll: 2,
            maxpoll: 2,
            version: 4,
            key: None,
            xleave: false,
            presend: None,
            filters: Filters { max_delay: Span::from_whole_seconds(1000), ..Filters::default() },
            seed: seed().unwrap(),
        });
        Self { socket, association, measured: Vec::new(), announced: Vec::new() }
    }

    /// Asks, if it is time, and hears. All its stamps are of the time that passes faster.
    fn step(&mut self, map: &RawMap) {
        let now = || map.apply(clock::raw_now());
        let Some(request) = self.association.poll_transmit(now()) else { return };
        self.association.handle_transmitted(now());
        self.socket.send(request.octets()).unwrap();
        // Longer than by any foresight of when the reply will leave.
        std::thread::sleep(Duration::from_micros(150));
        let mut octets = [0; 128];
        while let Ok(len) = self.socket.recv(&mut octets) {
            let at = now();
            let header = Header::parse(&Packet::new_checked(&octets[..len]).unwrap());
            self.announced.push((at, header.leap));
            // One that came too late for its own request is none of this one.
            match self.association.handle_receive(&octets[..len], at, at) {
                Ok(measurement) => return self.measured.push(measurement),
                Err(Rejected::Bogus) => {}
                // When it will leave is foreseen a hundred times too far.
                Err(Rejected::TooShort { .. }) => return,
                Err(other) => panic!("{other}"),
            }
        }
    }
}

/// One daemon: what it serves as UTC at one address, and smeared at another.
struct Daemon {
    serving: Serving,
    published: Arc<ArcSwap<Snapshot>>,
    plain: Client,
    smeared: Client,
    change: i32,
    late: bool,
}

impl Daemon {
    fn start(number: u8, port: u16, snapshot: &Snapshot, map: RawMap, (change, late): (i32, bool)) -> Self {
        let [plain, smeared] = [1, 2].map(|which| SocketAddr::from(([127, 61, number, which], port)));
        let text = format!(
            "[local]\nstratum = 3\n[serve]\nlisten = [\"{plain}\", \"{smeared}\"]\nsmear = \"{smeared}\"\nsmear_interval = {INTERVAL}\n"
        );
        let (config, _) = Config::from_toml("test.toml", &text).unwrap();
        let published = Arc::new(ArcSwap::from_pointee(snapshot.clone()));
        let (mut serving, _) = Serving::new(&published, Names::here(), unbounded_channel().0);
        serving.served().raw_map.store(map.into());
        serving.apply(&config);
        assert!(serving.outages().read().is_empty(), "{:?}", serving.outages().read());
        Self { serving, published, plain: Client::new(plain), smeared: Client::new(smeared), change, late }
    }

    /// What the daemon does whenever it publishes.
    fn publish(&mut self, snapshot: &Snapshot, midnight: Timestamp<Utc>, to_go: f64, raw: Timestamp<Raw>) {
        let next = LeapSecond { at: midnight, change: self.change };
        let before = snapshot.utc.tai_minus_utc;
        let utc = match to_go {
            _ if to_go < -60.0 => UtcMap { tai_minus_utc: before + self.change, next: None },
            _ if self.late && to_go > HEARD => UtcMap { tai_minus_utc: before, next: None },
            _ => UtcMap { tai_minus_utc: before, next: Some(next) },
        };
        let snapshot = Snapshot { utc, ..snapshot.clone() };
        self.serving.handle_leap(&snapshot.utc, snapshot.clock.at(raw));
        self.published.store(Arc::new(snapshot));
    }

    /// What smeared time is ahead of UTC as it went on before the leap second, so long before it by that, s.
    fn spread(&self, to_go: f64, heard: f64) -> f64 {
        let change = f64::from(self.change);
        let (begin, end) = if self.late { (heard, heard - INTERVAL) } else { (INTERVAL, -change) };
        -change * ((begin - to_go) / (begin - end)).clamp(0.0, 1.0)
    }
}

#[test]
fn clients_meet_a_leap_second_or_smeared_time_and_never_both() {
    let mut snapshot = made_up_snapshot();
    snapshot.valid_until += Span::from_whole_seconds(10_000);
    let map = RawMap { host: snapshot.at, raw: snapshot.at, rate: SPEED - 1.0 };
    let utc = |raw: Timestamp<Raw>| snapshot.utc_at(raw).0;
    let midnight = (utc(snapshot.at) + Span::from_seconds(BEGIN)).round();
    // Seconds until the leap second, by UTC as it went on before it.
    let to_go = |raw: Timestamp<Raw>| (midnight - utc(raw)).seconds();
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let stories = [(1, false), (1, true), (-1, false), (-1, true)];
    let mut daemons: Vec<Daemon> =
        (1..).zip(stories).map(|(number, story)| Daemon::start(number, port, &snapshot, map, story)).collect();
    let mut heard = None;
    loop {
        let raw = map.apply(clock::raw_now());
        if to_go(raw) < -END {
            break;
        }
        for daemon in &mut daemons {
            daemon.publish(&snapshot, midnight, to_go(raw), raw);
            daemon.plain.step(&map);
            daemon.smeared.step(&map);
        }
        if to_go(raw) <= HEARD {
            heard.get_or_insert(to_go(raw));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    for daemon in &daemons {
        let story = format!("change {}, heard of late: {}", daemon.change, daemon.late);
        // By how much each reading differs from what it has to be, and how far that may be for the wire's sake.
        let off = |m: &Measurement, expected: f64| {
            let ahead = (m.reference - utc(m.at)).seconds() - expected;
            (ahead.abs() - m.delay.seconds() / 2.0, ahead)
        };
        let mut good = 0;
        for m in &daemon.smeared.measured {
            let expected = daemon.spread(to_go(m.at), heard.unwrap());
            let (beyond, ahead) = off(m, expected);
            assert!(beyond < FORESEEN, "smeared, {story}, {:.1} s before: off by {ahead}, {m:?}", to_go(m.at));
            good += i32::from(m.delay < Span::from_millis(200));
        }
        for m in &daemon.plain.measured {
            // Within the second itself a second is there twice, or not at all.
            if to_go(m.at).abs() < 2.0 {
                continue;
            }
            let expected = if to_go(m.at) < 0.0 { -f64::from(daemon.change) } else { 0.0 };
            let (beyond, ahead) = off(m, expected);
            assert!(beyond < FORESEEN, "UTC, {story}, {:.1} s before: off by {ahead}, {m:?}", to_go(m.at));
        }
        let (smeared, plain) = (&daemon.smeared, &daemon.plain);
        println!("{story}: {} and {} readings, {good} good ones", smeared.measured.len(), plain.measured.len());
        assert!(good >= 30 && plain.measured.len() >= 30, "{story}");
        // Smeared time is never announced, not even while it is spread after the leap second.
        assert!(smeared.announced.iter().all(|(_, leap)| *leap == LeapIndicator::None), "{story}");
        let word = if daemon.change > 0 { LeapIndicator::Insert } else { LeapIndicator::Delete };
        let until_heard = if daemon.late { heard.unwrap() } else { f64::INFINITY };
        for (at, leap) in &plain.announced {
            let to_go = to_go(*at);
            // An answer may be under way when it is heard of, and when it comes.
            if (to_go - until_heard).abs() < 30.0 || to_go.abs() < 30.0 {
                continue;
            }
            let expected = if (0.0..until_heard).contains(&to_go) { word } else { LeapIndicator::None };
            assert_eq!(*leap, expected, "{story}, {to_go:.1} s before");
        }
    }
    daemons.into_iter().for_each(|daemon| daemon.serving.stop());
}
