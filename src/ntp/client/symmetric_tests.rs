use std::sync::Arc;

use proptest::prelude::*;
use refclocks::time::Utc;
use refclocks::{LeapIndicator, ReferenceId};

use super::*;
use crate::ntp::access::Flags;
use crate::ntp::client::filters::Filters;
use crate::ntp::client::measurement::Rate;
use crate::ntp::keys::{Algorithm, Key, KeyTable};
use crate::ntp::packet::NtpShort;
use crate::ntp::server::{self, Disposition, View, respond};

/// True time at the beginning.
const START: Timestamp<Utc> = Timestamp::from_parts(1_800_000_000, 0);

/// Under way, each way.
const WAY: f64 = 0.010;

/// One of two machines: its counter gains, its clock is ahead, and both are known to it.
struct Machine {
    association: Symmetric,
    gains: f64,
    ahead: f64,
}

fn config(key: Option<&Arc<Key>>, seed: u8) -> Config {
    Config {
        address: "192.0.2.1:123".parse().unwrap(),
        iburst: false,
        minpoll: 6,
        maxpoll: 10,
        version: 4,
        key: key.cloned(),
        xleave: false,
        presend: None,
        filters: Filters::default(),
        seed: [seed; 32],
    }
}

impl Machine {
    fn new(key: Option<&Arc<Key>>, seed: u8, gains: f64, ahead: f64) -> Self {
        Self { association: Symmetric::new(config(key, seed)), gains, ahead }
    }

    /// What its counter reads at a true time, s after the beginning.
    fn raw(&self, at: f64) -> Timestamp<Raw> {
        Timestamp::from_parts(5000, 0) + Span::from_seconds(at * (1.0 + self.gains))
    }

    fn ours(&self, at: f64) -> Ours {
        let view = View {
            leap: LeapIndicator::None,
            stratum: 2,
            refid: ReferenceId([192, 0, 2, 7]),
            precision: -24,
            root_delay: NtpShort(0),
            root_dispersion: NtpShort(66),
            reference_time: NtpTimestamp::UNKNOWN,
        };
        Ours {
            view,
            at: self.raw(at),
            utc: START + Span::from_seconds(at + self.ahead),
            rate: Rate { correction: 1.0 / (1.0 + self.gains) - 1.0, deviation: 1e-7 },
        }
    }

    /// Sends, if it is due; the packet leaves 30 us after it was made.
    fn send(&mut self, at: f64) -> Option<Vec<u8>> {
        let (now, ours) = (self.raw(at), self.ours(at));
        let packet = self.association.poll_transmit(now, &ours)?;
        self.association.handle_transmitted(now);
        self.association.handle_departed(self.raw(at + 30e-6));
        Some(packet.octets().to_vec())
    }

    fn hear(&mut self, packet: &[u8], at: f64) -> Result<Measurement, Rejected> {
        let (raw, ours) = (self.raw(at), self.ours(at));
        self.association.handle_receive(packet, raw, raw, &ours)
    }

    /// How far the other is ahead of true time, as measured, s.
    fn other_ahead(&self, m: &Measurement) -> f64 {
        let truth = START + Span::from_seconds((m.at - Timestamp::from_parts(5000, 0)).seconds() / (1.0 + self.gains));
        (m.reference - truth).seconds()
    }
}

fn key() -> Arc<Key> {
    Arc::new(Key::new(5, Algorithm::Aes128Cmac, &[1; 16]).unwrap())
}

/// Two that are heard by each other already, and when that was.
fn acquainted(key: Option<&Arc<Key>>) -> (Machine, Machine, f64) {
    let (mut a, mut b) = (Machine::new(key, 1, 40e-6, 0.0), Machine::new(key, 2, -25e-6, 0.005));
    let first = a.send(0.0).unwrap();
    assert_eq!(b.hear(&first, WAY), Err(Rejected::Unheard));
    let second = b.send(20.0).unwrap();
    a.hear(&second, 20.0 + WAY).unwrap();
    let third = a.send(70.0).unwrap();
    b.hear(&third, 70.0 + WAY).unwrap();
    (a, b, 70.0)
}

#[test]
fn two_that_send_at_their_own_pace_measure_each_other() {
    let key = key();
    let (mut a, mut b) = (Machine::new(Some(&key), 1, 40e-6, 0.0), Machine::new(Some(&key), 2, -25e-6, 0.005));
    let (mut of_b, mut of_a) = (Vec::new(), Vec::new());
    for second in 0..1000 {
        let at = f64::from(second);
        if let Some(packet) = a.send(at)
            && let Ok(m) = b.hear(&packet, at + 30e-6 + WAY)
        {
            of_a.push((b.other_ahead(&m), m.delay.seconds()));
        }
        if let Some(packet) = b.send(at + 0.3).filter(|_| second >= 20)
            && let Ok(m) = a.hear(&packet, at + 0.3 + 30e-6 + WAY)
        {
            of_b.push((a.other_ahead(&m), m.delay.seconds()));
        }
    }
    assert!(of_a.len() > 10 && of_b.len() > 10, "{of_a:?} {of_b:?}");
    // The stamp of leaving is learned; what remains is the doubt about the rate over a poll interval, as delay.
    for (measured, expected) in [(&of_b, 0.005), (&of_a, 0.0)] {
        for (ahead, delay) in measured.iter().skip(6) {
            assert!((ahead - expected).abs() < 20e-6, "{ahead} {delay}");
            assert!((2.0 * WAY - 40e-6..2.0 * WAY + 100e-6).contains(delay), "{ahead} {delay}");
        }
    }
    assert!(a.association.reach().count_ones() >= 7, "{:b}", a.association.reach());
    assert_eq!((a.association.tally().bogus, b.association.tally().bogus), (0, 0));
}

/// Two that send in turn, once a minute each, and interleave.
fn interleaving(key: &Arc<Key>) -> (Machine, Machine, f64) {
    let mut machines = [(1, 40e-6, 0.0), (2, -25e-6, 0.005)].map(|(seed, gains, ahead)| {
        let config = Config { xleave: true, maxpoll: 6, ..config(Some(key), seed) };
        Machine { association: Symmetric::new(config), gains, ahead }
    });
    let mut at = 0.0;
    for _ in 0..4 {
        let [a, b] = &mut machines;
        let packet = a.send(at).unwrap();
        let _ = b.hear(&packet, at + 30e-6 + WAY);
        let packet = b.send(at + 35.0).unwrap();
        let _ = a.hear(&packet, at + 35.0 + 30e-6 + WAY);
        at += 70.0;
    }
    let [a, b] = machines;
    (a, b, at)
}

fn header(packet: &[u8]) -> Header {
    Header::parse(&Packet::new_checked(packet).unwrap())
}

#[test]
fn in_interleaved_mode_each_tells_when_its_last_one_left() {
    let key = key();
    let (mut a, mut b, at) = interleaving(&key);
    for round in 0..6 {
        let at = at + 70.0 * f64::from(round);
        let packet = a.send(at).unwrap();
        let m = b.hear(&packet, at + 30e-6 + WAY).unwrap();
        // It tells of what left a poll ago, to the tens of nanoseconds that its stamp can say; the rate's doubt is in the delay.
        let left = START + Span::from_seconds(at - 70.0 + 30e-6);
        assert!((header(&packet).transmit.to_utc(START) - left).abs() < Span::from_nanos(1000), "{m:?}");
        assert!((b.other_ahead(&m)).abs() < 3e-6, "{}", b.other_ahead(&m));
        let packet = b.send(at + 35.0).unwrap();
        let m = a.hear(&packet, at + 35.0 + 30e-6 + WAY).unwrap();
        assert!((a.other_ahead(&m) - 0.005).abs() < 3e-6, "{}", a.other_ahead(&m));
    }
    assert_eq!((a.association.tally().bogus, b.association.tally().bogus), (0, 0));
}

#[test]
fn after_a_loss_nobody_interleaves_until_it_is_known_who_heard_what() {
    let key = key();
    let (mut a, mut b, at) = interleaving(&key);
    // This one is lost, and their own next one stands for no answer to it.
    let lost = a.send(at).unwrap();
    let packet = b.send(at + 35.0).unwrap();
    let told = header(&packet);
    assert!(
        (told.transmit.to_utc(START) - (START + Span::from_seconds(at + 35.0))).abs() < Span::from_millis(6),
        "basic"
    );
    // It repeats what it heard before: no answer to our last.
    assert!(a.hear(&packet, at + 35.0 + WAY).is_err());
    let mut measured = 0;
    for round in 1..8 {
        let at = at + 70.0 * f64::from(round);
        let packet = a.send(at).unwrap();
        measured += i32::from(b.hear(&packet, at + 30e-6 + WAY).is_ok_and(|m| {
            assert!(b.other_ahead(&m).abs() < 50e-6, "{m:?}");
            true
        }));
        let packet = b.send(at + 35.0).unwrap();
        measured += i32::from(a.hear(&packet, at + 35.0 + 30e-6 + WAY).is_ok_and(|m| {
            assert!((a.other_ahead(&m) - 0.005).abs() < 50e-6, "{m:?}");
            true
        }));
    }
    assert!(measured >= 8, "{measured}");
    // The lost one comes after all, very late.
    let result = b.hear(&lost, at + 700.0);
    assert!(matches!(result, Err(Rejected::Old | Rejected::Duplicate)), "{result:?}");
}

#[test]
fn one_that_does_not_ask_for_it_interleaves_once_the_other_does() {
    let key = key();
    let (mut a, mut b) = (Machine::new(Some(&key), 1, 0.0, 0.0), Machine::new(Some(&key), 2, 0.0, 0.0));
    for machine in [&mut a, &mut b] {
        machine.association.config.maxpoll = 6;
    }
    b.association.config.xleave = true;
    let mut told = Vec::new();
    for round in 0..6 {
        let at = 70.0 * f64::from(round);
        let packet = a.send(at).unwrap();
        let _ = b.hear(&packet, at + WAY);
        let ago =
            |packet: &[u8], at: f64| (START + Span::from_seconds(at) - header(packet).transmit.to_utc(START)).seconds();
        let packet_of_b = b.send(at + 35.0).unwrap();
        let _ = a.hear(&packet_of_b, at + 35.0 + WAY);
        told.push((ago(&packet, at) > 60.0, ago(&packet_of_b, at + 35.0) > 60.0));
    }
    assert_eq!(told[..2], [(false, false), (false, true)], "{told:?}");
    assert!(told[3..].iter().all(|both| *both == (true, true)), "{told:?}");
}

#[test]
fn each_exchange_is_measured_once() {
    let (mut a, mut b, at) = acquainted(None);
    let packet = b.send(at + 20.0).unwrap();
    assert!(a.hear(&packet, at + 20.0 + WAY).is_ok());
    assert_eq!(a.hear(&packet, at + 20.1), Err(Rejected::Duplicate));
    // They send more often than we.
    b.association.handle_burst(b.raw(at + 21.0));
    let packet = b.send(at + 21.0).unwrap();
    assert_eq!(a.hear(&packet, at + 21.0 + WAY), Err(Rejected::Measured));
    // What we repeat is the newest of theirs.
    let next = a.send(at + 70.0).unwrap();
    let newest = Header::parse(&Packet::new_checked(&packet).unwrap()).transmit;
    let ours = Header::parse(&Packet::new_checked(&next).unwrap());
    assert_eq!((ours.origin, ours.mode), (newest, Mode::SymmetricActive));
    assert_eq!(ours.receive, NtpTimestamp::from_utc(START + Span::from_seconds(at + 21.0 + WAY)));
    assert_eq!(a.association.tally().astray, 0);
}

#[test]
fn strangers_change_nothing() {
    let (mut a, mut b, at) = acquainted(None);
    let good = b.send(at + 20.0).unwrap();
    let header = Header::parse(&Packet::new_checked(&good).unwrap());
    let later = NtpTimestamp(header.transmit.0 + (1 << 32));
    for origin in [NtpTimestamp(header.origin.0 ^ 1), NtpTimestamp::UNKNOWN] {
        let made_up = Header { origin, transmit: later, ..header }.to_octets();
        assert_eq!(a.hear(&made_up, at + 20.0), Err(Rejected::Bogus));
    }
    let denied =
        Header { origin: NtpTimestamp(7), stratum: 0, refid: ReferenceId(*b"DENY"), transmit: later, ..header };
    assert_eq!(a.hear(&denied.to_octets(), at + 20.0), Err(Rejected::Bogus));
    assert!(a.association.poll_timeout().is_some() && a.association.refused().is_none());
    assert!(a.hear(&good, at + 20.0 + WAY).is_ok());
}

#[test]
fn a_replay_is_old_unless_nothing_newer_comes() {
    let key = key();
    let (mut a, mut b, at) = acquainted(Some(&key));
    let first = b.send(at + 20.0).unwrap();
    assert!(a.hear(&first, at + 20.0 + WAY).is_ok());
    let second = b.send(at + 90.0).unwrap();
    a.send(at + 85.0).unwrap();
    // It tells of the packet before our last.
    assert_eq!(a.hear(&second, at + 90.0 + WAY), Err(Rejected::Bogus));
    assert_eq!(a.hear(&first, at + 91.0), Err(Rejected::Old));
    let mut forged = second;
    forged[47] ^= 1;
    assert_eq!(a.hear(&forged, at + 91.0), Err(Rejected::NotSigned { key: 5 }));
    // They set their clock back: after eight polls without them that is heeded.
    b.ahead = -1e6;
    for poll in 0..9 {
        a.send(at + 200.0 + f64::from(poll) * 70.0).unwrap();
    }
    let back = b.send(at + 1000.0).unwrap();
    assert_eq!(a.hear(&back, at + 1000.0 + WAY), Err(Rejected::Bogus));
    b.hear(&a.send(at + 1070.0).unwrap(), at + 1070.0 + WAY).unwrap();
    let m = a.hear(&b.send(at + 1080.0).unwrap(), at + 1080.0 + WAY).unwrap();
    assert!((a.other_ahead(&m) + 1e6).abs() < 1e-3);
}

#[test]
fn one_that_knows_nothing_of_us_answers_passively() {
    let mut a = Machine::new(None, 1, 10e-6, 0.0);
    let request = a.send(0.0).unwrap();
    // Their clock is ahead by a second.
    let theirs = |at: f64| START + Span::from_seconds(1.0 + at);
    let (received, transmit) = (theirs(30e-6 + WAY), theirs(30e-6 + WAY + 50e-6));
    let asked = server::Request {
        octets: &request,
        source: [192, 0, 2, 9].into(),
        flags: Flags::empty(),
        previous_left: None,
        kiss: false,
        received,
        transmit,
    };
    let mut reply = [0; 48];
    let Disposition::Reply(48) = respond(&asked, &a.ours(0.0).view, &KeyTable::default(), &mut reply) else {
        panic!("no answer");
    };
    assert_eq!(reply[0] & 7, Mode::SymmetricPassive.bits());
    let m = a.hear(&reply, 30e-6 + 2.0 * WAY + 50e-6).unwrap();
    assert!((a.other_ahead(&m) - 1.0).abs() < 20e-6 && (m.delay.seconds() - 2.0 * WAY).abs() < 50e-6, "{m:?}");
    // Its poll field repeats ours: that is no pace of its own.
    assert_eq!(a.association.poll(), 6);
    // In that mode a kiss is an answer.
    let request = a.send(70.0).unwrap();
    let denied =
        Header { stratum: 0, refid: ReferenceId(*b"DENY"), ..Header::parse(&Packet::new_checked(&reply).unwrap()) };
    let origin = Header::parse(&Packet::new_checked(&request).unwrap()).transmit;
    let denied = Header { origin, transmit: NtpTimestamp(denied.transmit.0 + (70 << 32)), ..denied }.to_octets();
    assert_eq!(a.hear(&denied, 70.1), Err(Rejected::Kiss(KissCode::Deny)));
    assert_eq!((a.association.poll_timeout(), a.association.refused()), (None, Some(KissCode::Deny)));
}

#[test]
fn the_pace_of_the_slower_one_is_taken() {
    let (mut a, mut b, at) = acquainted(None);
    b.association.handle_wanted_poll(9);
    let _ = b.association.poll_transmit(b.raw(at + 600.0), &b.ours(at + 600.0));
    let mut slow = Header::parse(&Packet::new_checked(&a.send(at + 100.0).unwrap()).unwrap());
    slow.poll = 9;
    let origin = slow.transmit;
    let theirs = Header {
        origin,
        receive: NtpTimestamp(origin.0 + (1 << 25)),
        transmit: NtpTimestamp(origin.0 + (2 << 25)),
        ..slow
    };
    a.hear(&theirs.to_octets(), at + 100.1).unwrap();
    assert_eq!(a.association.poll(), 9);
    // What our own side wants may be more, and not less.
    a.association.handle_wanted_poll(7);
    assert_eq!(a.association.poll(), 9);
    a.association.handle_wanted_poll(10);
    assert_eq!(a.association.poll(), 10);
}

#[test]
fn what_is_sent_tells_our_state_and_cannot_be_guessed_whole() {
    let mut fractions = std::collections::HashSet::new();
    for seed in 0..50 {
        let mut a = Machine::new(None, seed, 0.0, 0.0);
        let packet = a.send(0.0).unwrap();
        let header = Header::parse(&Packet::new_checked(&packet).unwrap());
        assert_eq!((header.stratum, header.leap, header.mode), (2, LeapIndicator::None, Mode::SymmetricActive));
        assert_eq!((header.origin, header.receive), (NtpTimestamp::UNKNOWN, NtpTimestamp::UNKNOWN));
        let true_stamp = NtpTimestamp::from_utc(START);
        assert!(header.transmit.0.abs_diff(true_stamp.0) < 1 << 8, "within the precision of 2^-24 s");
        fractions.insert(header.transmit.0);
    }
    assert!(fractions.len() > 40, "{}", fractions.len());
    // Without time we say so, and are heard all the same.
    let mut a = Machine::new(None, 1, 0.0, 0.0);
    let unsynchronised = Ours { view: a.ours(0.0).view.unsynchronised(), ..a.ours(0.0) };
    let packet = a.association.poll_transmit(a.raw(0.0), &unsynchronised).unwrap();
    let header = Header::parse(&Packet::new_checked(packet.octets()).unwrap());
    assert_eq!((header.stratum, header.leap), (0, LeapIndicator::Unsynchronised));
}

proptest! {
    #[test]
    fn arbitrary_datagrams_never_panic(
        octets in proptest::collection::vec(any::<u8>(), 0..120),
        known in any::<bool>(),
        at in any::<i64>(),
    ) {
        let (mut a, _, now) = acquainted(None);
        let request = a.send(now + 70.0).unwrap();
        let mut octets = octets;
        if known && octets.len() >= 48 {
            octets[24..32].copy_from_slice(&request[40..48]);
            octets[0] = 0x21;
        }
        let (at, ours) = (Timestamp::from_nanos(at), a.ours(now + 70.0));
        if let Ok(m) = a.association.handle_receive(&octets, at, at, &ours) {
            prop_assert!(m.delay >= Span::ZERO && (1..=15).contains(&m.stratum));
            prop_assert!(m.root_delay / 2.0 + m.root_dispersion < 16.0);
        }
    }
}
