use refclocks::{LeapIndicator, ReferenceId};

use super::*;
use crate::ntp::keys::Algorithm;
use crate::ntp::packet::NtpShort;

const START: Timestamp<Utc> = Timestamp::from_parts(1_800_000_000, 0);
/// Each way, s.
const WAY: f64 = 0.003;
/// Our counter gains.
const GAINS: f64 = 30e-6;
/// What we know of that.
const RATE: Rate = Rate { correction: -30e-6, deviation: 1e-7 };

fn raw(at: f64) -> Timestamp<Raw> {
    Timestamp::from_parts(5000, 0) + Span::from_seconds(at * (1.0 + GAINS))
}

fn key() -> Arc<Key> {
    Arc::new(Key::new(5, Algorithm::Sha1, b"roses").unwrap())
}

fn config(key: Option<&Arc<Key>>, delay: Option<Span>) -> Config {
    Config {
        address: "192.0.2.1:123".parse().unwrap(),
        key: key.cloned(),
        delay,
        max_delay: Span::from_millis(100),
        filters: Filters::default(),
        seed: [3; 32],
    }
}

/// What it says of its clock.
fn says(mode: Mode, transmit: f64) -> Header {
    Header {
        leap: LeapIndicator::None,
        version: 4,
        mode,
        stratum: 1,
        poll: 4,
        precision: -20,
        root_delay: NtpShort(0),
        root_dispersion: NtpShort(66),
        refid: ReferenceId(*b"GPS\0"),
        reference_time: NtpTimestamp::UNKNOWN,
        origin: NtpTimestamp::UNKNOWN,
        receive: NtpTimestamp::UNKNOWN,
        transmit: NtpTimestamp::from_utc(START + Span::from_seconds(transmit)),
    }
}

fn octets(header: &Header, key: Option<&Arc<Key>>) -> Vec<u8> {
    let mut octets = header.to_octets().to_vec();
    if let Some(key) = key {
        octets.resize(48 + 4 + 20, 0);
        let len = key.sign(&mut octets, 48, 20).unwrap();
        octets.truncate(len);
    }
    octets
}

/// It tells the time at `at`; that comes so much later than it should.
fn hears(overheard: &mut Overheard, at: f64, held_up: f64, key: Option<&Arc<Key>>) -> Result<Measurement, Rejected> {
    overheard.handle_timeout(raw(at));
    overheard.handle_heard(&octets(&says(Mode::Broadcast, at), key), raw(at + WAY + held_up), RATE)
}

/// Answers the volley from `at` on; returns when it was over, s.
fn volley(overheard: &mut Overheard, mut at: f64, key: Option<&Arc<Key>>) -> f64 {
    let mut exchanges = 0;
    while overheard.volley.is_some() {
        at += 0.5;
        let Some(request) = overheard.poll_transmit(raw(at)) else { continue };
        overheard.handle_transmitted(raw(at));
        let asked = Header::parse(&Packet::new_checked(request.octets()).unwrap());
        // The first takes longer than the others.
        let queue = if exchanges == 0 { 0.020 } else { 0.0 };
        let (came, left) = (at + WAY + queue, at + WAY + queue + 1e-4);
        let mut reply = says(Mode::Server, left);
        (reply.origin, reply.receive) = (asked.transmit, NtpTimestamp::from_utc(START + Span::from_seconds(came)));
        let received = raw(left + WAY);
        let m = overheard.handle_reply(&octets(&reply, key), received, received).unwrap();
        assert!((m.delay.seconds() - 2.0 * WAY - queue).abs() < 2e-6, "{m:?}");
        exchanges += 1;
    }
    assert_eq!(exchanges, VOLLEY);
    at
}

/// How far off a measurement is, s.
fn error(m: &Measurement) -> f64 {
    let truth = START + Span::from_seconds((m.at - Timestamp::from_parts(5000, 0)).seconds() / (1.0 + GAINS));
    (m.reference - truth).seconds()
}

#[test]
fn the_way_is_measured_at_first_and_then_each_packet_measures() {
    for key in [None, Some(key())] {
        let key = key.as_ref();
        let mut overheard = Overheard::new(config(key, None), raw(0.0));
        assert_eq!(hears(&mut overheard, 0.0, 0.0, key), Err(Rejected::Uncalibrated));
        let mut at = volley(&mut overheard, 0.0, key);
        assert!(at < 15.0, "{at}");
        for n in 0..200 {
            at += 16.0;
            // Some wait in a queue.
            let queue = if n % 5 == 0 { 0.004 } else { 0.0 };
            let m = hears(&mut overheard, at, queue, key).unwrap();
            assert!((error(&m) + queue).abs() < 5e-6, "{n}: {}", error(&m));
            assert!((m.delay.seconds() - 2.0 * WAY).abs() < 2e-6);
        }
        assert_eq!((overheard.reach(), overheard.interval()), (255, 4));
    }
}

#[test]
fn replays_and_what_is_not_signed_change_nothing() {
    let key = key();
    let mut overheard = Overheard::new(config(Some(&key), None), raw(0.0));
    let at = volley(&mut overheard, 0.0, Some(&key));
    let first = octets(&says(Mode::Broadcast, at + 1.0), Some(&key));
    assert!(overheard.handle_heard(&first, raw(at + 1.0 + WAY), RATE).is_ok());
    assert_eq!(overheard.handle_heard(&first, raw(at + 1.5), RATE), Err(Rejected::Duplicate));
    assert!(hears(&mut overheard, at + 17.0, 0.0, Some(&key)).is_ok());
    assert_eq!(overheard.handle_heard(&first, raw(at + 18.0), RATE), Err(Rejected::Old));
    let not_signed = Err(Rejected::NotSigned { key: 5 });
    assert_eq!(hears(&mut overheard, at + 33.0, 0.0, None), not_signed);
    let mut forged = octets(&says(Mode::Broadcast, at + 33.0), Some(&key));
    forged[47] ^= 1;
    assert_eq!(overheard.handle_heard(&forged, raw(at + 33.1), RATE), not_signed);
    let reply = octets(&says(Mode::Server, at + 33.0), Some(&key));
    assert_eq!(overheard.handle_heard(&reply, raw(at + 33.1), RATE), Err(Rejected::NotAReply { mode: Mode::Server }));
    assert!(hears(&mut overheard, at + 33.0, 0.0, Some(&key)).is_ok());
    let tally = overheard.tally();
    assert_eq!((tally.duplicate, tally.not_signed, tally.malformed), (2, 2, 1));
    // One without time is not believed, signed or not.
    let unsynchronised = Header { leap: LeapIndicator::Unsynchronised, stratum: 0, ..says(Mode::Broadcast, at + 49.0) };
    let heard = overheard.handle_heard(&octets(&unsynchronised, Some(&key)), raw(at + 49.0 + WAY), RATE);
    assert!(matches!(heard, Err(Rejected::Unsynchronised { .. })), "{heard:?}");
}

#[test]
fn what_is_held_up_is_refused_and_a_clock_that_moved_is_measured_anew() {
    let mut overheard = Overheard::new(config(None, None), raw(0.0));
    let at = volley(&mut overheard, 0.0, None);
    assert!(hears(&mut overheard, at + 16.0, 0.0, None).is_ok());
    let held_up = hears(&mut overheard, at + 32.0, 1.0, None).unwrap_err();
    assert!(
        matches!(held_up, Rejected::ImpliedDelay { implied_s, .. } if (implied_s - 1.003).abs() < 1e-4),
        "{held_up}"
    );
    assert!(hears(&mut overheard, at + 48.0, 0.0, None).is_ok());
    // Held up a little more each time: never more than is allowed, however slowly it grows.
    let mut refused = 0;
    let mut worst = 0.0f64;
    for n in 0..400u32 {
        let result = hears(&mut overheard, at + 64.0 + 16.0 * f64::from(n), f64::from(n) * 0.5e-3, None);
        match result {
            Ok(m) => worst = worst.max(error(&m).abs()),
            Err(Rejected::ImpliedDelay { .. } | Rejected::Uncalibrated) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 150 && worst < 0.110, "{refused} {worst}");
    // Sooner than can be: the clock was moved. After a few of those the way is measured again.
    let mut overheard = Overheard::new(config(None, None), raw(0.0));
    let at = volley(&mut overheard, 0.0, None);
    assert!(hears(&mut overheard, at + 16.0, 0.0, None).is_ok());
    for n in 0..DOUBTS {
        let moved = says(Mode::Broadcast, at + 32.0 + 16.0 * f64::from(n) + 5.0);
        let heard = overheard.handle_heard(&octets(&moved, None), raw(at + 32.0 + 16.0 * f64::from(n)), RATE);
        assert!(matches!(heard, Err(Rejected::ImpliedDelay { .. })), "{heard:?}");
    }
    assert!(overheard.volley.is_some() && overheard.calibration.is_none());
}

#[test]
fn one_that_falls_silent_is_lost() {
    let mut overheard = Overheard::new(config(None, Some(Span::from_seconds(2.0 * WAY))), raw(0.0));
    // Without a volley the way is what the operator says.
    let mut at = 0.0;
    for _ in 0..8 {
        at += 16.0;
        assert!(error(&hears(&mut overheard, at, 0.0, None).unwrap()).abs() < 1e-6);
    }
    assert_eq!((overheard.reach(), overheard.poll_transmit(raw(at))), (255, None));
    let mut reaches = Vec::new();
    for _ in 0..8 {
        assert!(!overheard.is_lost());
        let due = overheard.poll_timeout();
        overheard.handle_timeout(due);
        reaches.push(overheard.reach());
    }
    assert_eq!((reaches[0], reaches[7], overheard.is_lost()), (0b1111_1110, 0, true));
    assert!((overheard.poll_timeout() - raw(at)).seconds() < 16.0 * 10.0);
}

#[test]
fn the_way_is_measured_again_each_hour() {
    let mut overheard = Overheard::new(config(None, None), raw(0.0));
    let mut at = volley(&mut overheard, 0.0, None);
    let mut volleys = 0;
    for _ in 0..500 {
        at += 16.0;
        assert!(hears(&mut overheard, at, 0.0, None).is_ok());
        if overheard.volley.is_some() {
            volley(&mut overheard, at, None);
            volleys += 1;
            at += 16.0;
        }
    }
    assert_eq!(volleys, 2);
}
