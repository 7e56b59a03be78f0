use proptest::prelude::*;
use refclocks::time::{Span, Utc};
use refclocks::{LeapIndicator, ReferenceId};

use super::*;
use crate::ntp::keys::Algorithm;
use crate::ntp::packet::NtpShort;

const START: Timestamp<Raw> = Timestamp::from_parts(500, 0);
const SERVER: Timestamp<Utc> = Timestamp::from_parts(1_800_000_000, 250_000_000);

fn config() -> Config {
    Config {
        address: "192.0.2.1:123".parse().unwrap(),
        iburst: true,
        minpoll: 6,
        maxpoll: 10,
        version: 4,
        key: None,
        xleave: false,
        presend: None,
        filters: Filters::default(),
        seed: [7; 32],
    }
}

fn ms(millis: i64) -> Span {
    Span::from_millis(millis)
}

/// A good reply to a request: 10 ms there, 2 ms in the server.
fn reply(request: &Request) -> Header {
    let asked = Header::parse(&Packet::new_checked(request.octets()).unwrap());
    Header {
        leap: LeapIndicator::Insert,
        mode: Mode::Server,
        stratum: 1,
        precision: -20,
        root_delay: NtpShort(0),
        root_dispersion: NtpShort(66),
        refid: ReferenceId(*b"GPS\0"),
        reference_time: NtpTimestamp::from_utc(SERVER - ms(900)),
        origin: asked.transmit,
        receive: NtpTimestamp::from_utc(SERVER),
        transmit: NtpTimestamp::from_utc(SERVER + ms(2)),
        ..asked
    }
}

/// An association that has asked once, and its request.
fn asked() -> (Association, Request) {
    let mut association = Association::new(config());
    let request = association.poll_transmit(START).unwrap();
    association.handle_transmitted(START + ms(1));
    (association, request)
}

fn answer(association: &mut Association, reply: &Header) -> Result<Measurement, Rejected> {
    association.handle_receive(&reply.to_octets(), START + ms(33), START + ms(34))
}

#[test]
fn requests_tell_nothing_and_differ() {
    let mut association = Association::new(config());
    let mut seen = std::collections::HashSet::new();
    for second in 0..100 {
        if let Some(request) = association.poll_transmit(START + Span::from_whole_seconds(second)) {
            assert_eq!(request.octets()[0], 0x23);
            assert!(request.octets()[1..40].iter().all(|octet| *octet == 0));
            assert!(seen.insert(request.octets()[40..].to_vec()));
        }
    }
    assert_eq!(seen.len(), 8);
}

#[test]
fn a_good_reply_is_a_measurement() {
    let (mut association, request) = asked();
    let measurement = answer(&mut association, &reply(&request)).unwrap();
    assert!((measurement.at - (START + ms(17))).abs() < Span::from_nanos(2));
    assert!((measurement.reference - (SERVER + ms(1))).abs() < Span::from_nanos(2));
    assert!((measurement.delay - ms(30)).abs() < Span::from_nanos(2));
    assert_eq!((measurement.stratum, measurement.refid.name()), (1, Some("GPS")));
    assert_eq!(measurement.leap, LeapIndicator::Insert);
    assert!((measurement.root_distance() - 0.016_007).abs() < 1e-6);
    assert_eq!((association.reach(), association.tally().good), (1, 1));
    assert!(!association.awaits_reply());
}

#[test]
fn stamps_of_one_instant_may_come_out_in_the_wrong_order() {
    let (mut association, request) = asked();
    let reply = reply(&request);
    let hasty = Header { transmit: NtpTimestamp(reply.receive.0 - (2 << 12)), ..reply };
    let measurement = answer(&mut association, &hasty).unwrap();
    // There and back 32 ms; the server's -2 us make that no longer.
    assert!((measurement.delay - ms(32)).abs() < Span::from_nanos(2), "{measurement:?}");
    assert!((measurement.reference - (SERVER - Span::from_nanos(954))).abs() < Span::from_nanos(2), "{measurement:?}");
}

#[test]
fn reach_shifts_with_each_request() {
    let (mut association, request) = asked();
    answer(&mut association, &reply(&request)).unwrap();
    for expected in [0b10, 0b100] {
        let due = association.poll_timeout().unwrap();
        assert!(association.poll_transmit(due - ms(1)).is_none());
        assert!(association.poll_transmit(due).is_some());
        assert_eq!(association.reach(), expected);
    }
}

#[test]
fn replies_to_nothing_are_bogus_and_change_nothing() {
    let (mut association, request) = asked();
    let good = reply(&request);
    let made_up = Header { origin: NtpTimestamp(good.origin.0 ^ 1), ..good };
    assert_eq!(answer(&mut association, &made_up), Err(Rejected::Bogus));
    let denied = Header { stratum: 0, refid: ReferenceId(*b"DENY"), ..made_up };
    assert_eq!(answer(&mut association, &denied), Err(Rejected::Bogus));
    assert!(association.poll_timeout().is_some());
    assert!(answer(&mut association, &good).is_ok());
    assert_eq!(answer(&mut association, &good), Err(Rejected::Duplicate));
    assert_eq!(answer(&mut association, &Header { origin: NtpTimestamp(0), ..good }), Err(Rejected::Duplicate));
    let tally = association.tally();
    assert_eq!((tally.received, tally.good, tally.bogus, tally.duplicate), (5, 1, 2, 2));
}

#[test]
fn a_late_reply_is_bogus() {
    let (mut association, request) = asked();
    association.poll_transmit(association.poll_timeout().unwrap()).unwrap();
    assert_eq!(answer(&mut association, &reply(&request)), Err(Rejected::Bogus));
}

#[test]
fn bad_replies_are_told_apart() {
    type Change = fn(Header) -> Header;
    type Expected = fn(&Rejected) -> bool;
    let cases: [(Change, Expected); 14] = [
        (|h| Header { mode: Mode::Client, ..h }, |r| matches!(r, Rejected::NotAReply { mode: Mode::Client })),
        (|h| Header { version: 5, ..h }, |r| matches!(r, Rejected::NotAReply { .. })),
        (|h| Header { leap: LeapIndicator::Unsynchronised, ..h }, |r| matches!(r, Rejected::Unsynchronised { .. })),
        (
            |h| Header { stratum: 0, refid: ReferenceId(*b"INIT"), ..h },
            |r| matches!(r, Rejected::Unsynchronised { stratum: 0, .. }),
        ),
        (|h| Header { stratum: 16, ..h }, |r| matches!(r, Rejected::Unsynchronised { stratum: 16, .. })),
        (|h| Header { root_dispersion: NtpShort(16 << 16), ..h }, |r| matches!(r, Rejected::RootDistance { .. })),
        (|h| Header { root_delay: NtpShort::MAX, ..h }, |r| matches!(r, Rejected::RootDistance { .. })),
        (|h| Header { receive: NtpTimestamp(0), ..h }, |r| *r == Rejected::ImpossibleTimes),
        (|h| Header { transmit: NtpTimestamp(0), ..h }, |r| *r == Rejected::ImpossibleTimes),
        // 2 us at a precision of 1 us, and a tick.
        (|h| Header { transmit: NtpTimestamp(h.receive.0 - (2 << 12) - 1), ..h }, |r| *r == Rejected::ImpossibleTimes),
        // 10 ms, whatever it says of its precision.
        (
            |h| Header { precision: 3, transmit: NtpTimestamp(h.receive.0 - (10 << 22)), ..h },
            |r| *r == Rejected::ImpossibleTimes,
        ),
        // Longer in the server than there and back.
        (
            |h| Header { transmit: NtpTimestamp(h.receive.0 + (1 << 32)), ..h },
            |r| matches!(r, Rejected::TooShort { .. }),
        ),
        (
            |h| Header { reference_time: NtpTimestamp(h.transmit.0 + (5 << 32)), ..h },
            |r| *r == Rejected::ImpossibleTimes,
        ),
        (|h| Header { stratum: 0, refid: ReferenceId(*b"RATE"), ..h }, |r| *r == Rejected::Kiss(KissCode::Rate)),
    ];
    for (index, (change, expected)) in cases.into_iter().enumerate() {
        let (mut association, request) = asked();
        let rejected = answer(&mut association, &change(reply(&request))).unwrap_err();
        assert!(expected(&rejected), "case {index}: {rejected}");
        assert_eq!(association.reach() & 1, 0, "case {index}");
    }
}

#[test]
fn kisses_of_death_are_honoured() {
    for (code, kiss) in [(*b"DENY", KissCode::Deny), (*b"RSTR", KissCode::Restrict)] {
        let (mut association, request) = asked();
        let denied =
            Header { stratum: 0, leap: LeapIndicator::Unsynchronised, refid: ReferenceId(code), ..reply(&request) };
        assert_eq!(answer(&mut association, &denied), Err(Rejected::Kiss(kiss)));
        assert_eq!(association.poll_timeout(), None);
        assert_eq!(association.poll_transmit(START + Span::from_whole_seconds(100_000)), None);
        assert_eq!(association.refused(), Some(kiss));
    }
    let (mut association, request) = asked();
    let rate = Header { stratum: 0, refid: ReferenceId(*b"RATE"), ..reply(&request) };
    assert_eq!(answer(&mut association, &rate), Err(Rejected::Kiss(KissCode::Rate)));
    assert_eq!(association.poll(), 7);
    assert_eq!(association.poll_timeout(), Some(START + ms(34) + Span::from_whole_seconds(128)));
}

#[test]
fn a_short_wire_may_come_out_a_little_below_nothing() {
    let (mut association, request) = asked();
    let good = reply(&request);
    // The server says 50 us more than there and back took.
    let transmit = NtpTimestamp::from_utc(SERVER + ms(32) + Span::from_nanos(50_000));
    let measurement = answer(&mut association, &Header { transmit, ..good }).unwrap();
    assert_eq!(measurement.delay, Span::ZERO);
}

#[test]
fn a_reply_that_came_too_soon_is_refused_with_its_reason() {
    // No time under way at all, and less than none.
    for waited in [Span::ZERO, -Span::from_nanos(1)] {
        let (mut association, request) = asked();
        let came = START + ms(1) + waited;
        let served = Header { transmit: reply(&request).receive, ..reply(&request) };
        let refused = association.handle_receive(&served.to_octets(), came, came);
        assert_eq!(refused, Err(Rejected::TooShort { waited_s: waited.seconds(), served_s: 0.0 }));
    }
    // The server says that it had it longer than we waited: by what no clock's precision explains.
    let (mut association, request) = asked();
    let transmit = NtpTimestamp::from_utc(SERVER + ms(32) + Span::from_nanos(90_000));
    let refused = answer(&mut association, &Header { transmit, ..reply(&request) }).unwrap_err();
    assert!(matches!(refused, Rejected::TooShort { .. }), "{refused}");
    let words =
        "it came back sooner than it can have: after 32.000 ms, of which it says that it was served for 32.090 ms";
    assert_eq!(refused.to_string(), words);
    assert_eq!((association.tally().impossible, association.reach()), (1, 0));
}

#[test]
fn a_stamp_of_departure_is_believed_where_it_can_be_right() {
    let with = |departed: Timestamp<Raw>| {
        let (mut association, request) = asked();
        association.handle_departed(departed);
        let measurement = answer(&mut association, &reply(&request)).unwrap();
        (measurement.delay, association.tally().astray)
    };
    let (handed_over, came) = (START + ms(1), START + ms(33));
    let delay = |departed| came - departed - ms(2);
    let near = |a: Span, b: Span| (a - b).abs() < Span::from_nanos(3);
    // Between handing over and the reply, and a little before: two clocks are read one after the other.
    for departed in [handed_over, handed_over + ms(3), handed_over - Span::from_nanos(30_000)] {
        let (measured, astray) = with(departed);
        assert!(near(measured, delay(departed)) && astray == 0, "{departed:?} {measured:?} {astray}");
    }
    // Before it was handed over; as it came, or later; of another day. Our own reading stands in, and it is counted.
    for departed in [handed_over - ms(1), came, came + ms(1), START - Span::from_whole_seconds(86_400)] {
        let (measured, astray) = with(departed);
        assert!(near(measured, delay(handed_over)) && astray == 1, "{departed:?} {measured:?} {astray}");
    }
}

#[test]
fn with_presend_a_request_opens_the_way() {
    let mut association = Association::new(Config { presend: Some(7), iburst: false, ..config() });
    let request = association.poll_transmit(START).unwrap();
    association.handle_transmitted(START + ms(1));
    answer(&mut association, &reply(&request)).unwrap();
    // Polls of 64 s need none.
    let due = association.poll_timeout().unwrap();
    association.poll_transmit(due).unwrap();
    assert!(association.awaits_reply());
    association.handle_wanted_poll(7);
    let after = due;
    let due = association.poll_timeout().unwrap();
    assert!((due - after).seconds() < 64.96 - 2.0 + 0.001, "2 s sooner");
    let opening = association.poll_transmit(due).unwrap();
    let reach = association.reach();
    assert!((association.poll_timeout().unwrap() - due - Span::from_whole_seconds(2)).abs() < ms(1));
    assert_eq!(association.poll_transmit(due + ms(1999)), None);
    // Its answer tells nothing, once or twice; what it asks of us counts.
    let opened = reply(&opening);
    assert_eq!(association.handle_receive(&opened.to_octets(), due + ms(33), due + ms(33)), Err(Rejected::Presend));
    let request = association.poll_transmit(due + ms(2000)).unwrap();
    assert_ne!(opening.octets(), request.octets());
    assert_eq!(association.reach(), reach << 1);
    let late = association.handle_receive(&opened.to_octets(), due + ms(2033), due + ms(2033));
    // This server's stamps are all the same.
    assert_eq!(late, Err(Rejected::Duplicate));
    association.handle_transmitted(due + ms(2000));
    let measured = association.handle_receive(&reply(&request).to_octets(), due + ms(2032), due + ms(2032)).unwrap();
    assert!((measured.delay - ms(30)).abs() < Span::from_nanos(2));
    let due = association.poll_timeout().unwrap();
    let opening = association.poll_transmit(due).unwrap();
    let deny = Header { stratum: 0, refid: ReferenceId(*b"DENY"), ..reply(&opening) };
    let denied = association.handle_receive(&deny.to_octets(), due + ms(5), due + ms(5));
    assert_eq!((denied, association.poll_timeout()), (Err(Rejected::Kiss(KissCode::Deny)), None));
}

#[test]
fn eras_are_resolved() {
    // 2040 lies in era 1.
    let later = Timestamp::<Utc>::from_parts(2_208_988_800, 0);
    let (mut association, request) = asked();
    let header = Header {
        reference_time: NtpTimestamp::UNKNOWN,
        receive: NtpTimestamp::from_utc(later),
        transmit: NtpTimestamp::from_utc(later),
        ..reply(&request)
    };
    assert_eq!(answer(&mut association, &header).unwrap().reference, later);
}

proptest! {
    #[test]
    fn arbitrary_datagrams_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..120), known in any::<bool>(), at in any::<i64>()) {
        let (mut association, request) = asked();
        let mut octets = octets;
        if known && octets.len() >= 48 {
            octets[24..32].copy_from_slice(&request.octets()[40..]);
            octets[0] = 0x24;
        }
        let at = Timestamp::from_nanos(at);
        if let Ok(measurement) = association.handle_receive(&octets, at, at) {
            prop_assert!(measurement.delay >= Span::ZERO);
            prop_assert!((1..=15).contains(&measurement.stratum));
            prop_assert!(measurement.root_delay / 2.0 + measurement.root_dispersion < 16.0);
        }
    }
}

/// An association with a key that has asked once, and its request.
fn asked_with(key: &Arc<Key>, version: u8) -> (Association, Request) {
    let mut association = Association::new(Config { key: Some(key.clone()), version, ..config() });
    let request = association.poll_transmit(START).unwrap();
    association.handle_transmitted(START + ms(1));
    (association, request)
}

/// A good reply, signed.
fn signed(request: &Request, key: &Key) -> Vec<u8> {
    let mut octets = reply(request).to_octets().to_vec();
    octets.resize(48 + 4 + 64, 0);
    let len = key.sign(&mut octets, 48, key.digest_len(request.octets()[0] >> 3 & 7)).unwrap();
    octets.truncate(len);
    octets
}

#[test]
fn with_a_key_only_signed_replies_count() {
    for (algorithm, version, len) in [
        (Algorithm::Aes128Cmac, 4, 68),
        (Algorithm::Sha256, 4, 72),
        (Algorithm::Sha256, 3, 84),
        (Algorithm::Md5, 3, 68),
    ] {
        let key = Arc::new(Key::new(5, algorithm, b"0123456789abcdef").unwrap());
        let (mut association, request) = asked_with(&key, version);
        assert_eq!(request.octets().len(), len);
        let (covered, mac) = request.octets().split_at(48);
        assert!(mac[..4] == [0, 0, 0, 5] && key.verifies(covered, &mac[4..]));
        let mut receive = |octets: &[u8]| association.handle_receive(octets, START + ms(33), START + ms(34));

        let good = signed(&request, &key);
        let (header, not_signed) = (&good[..48], Err(Rejected::NotSigned { key: 5 }));
        assert_eq!(receive(header), not_signed);
        assert_eq!(receive(&[header, &[0; 4]].concat()), Err(Rejected::CryptoNak { key: 5 }));
        assert_eq!(receive(&[header, &[0; 20]].concat()), not_signed);
        let other = Key::new(6, algorithm, b"0123456789abcdef").unwrap();
        assert_eq!(receive(&signed(&request, &other)), not_signed);
        let mut forged = good.clone();
        forged[47] ^= 1;
        assert_eq!(receive(&forged), not_signed);
        // A kiss that is not the server's ends nothing.
        let deny = Header { stratum: 0, refid: ReferenceId(*b"DENY"), ..reply(&request) }.to_octets();
        assert_eq!(receive(&deny), not_signed);
        // None of that spoils the right one.
        assert!(receive(&good).is_ok());
        assert_eq!(receive(&good), Err(Rejected::Duplicate));
        assert_eq!((association.refused(), association.tally().not_signed), (None, 6));
    }
}

/// A reply to a request in interleaved mode: it came at `received`, and the last one left at `left`.
fn interleaved(request: &Request, received: Timestamp<Utc>, left: Timestamp<Utc>) -> Header {
    let asked = Header::parse(&Packet::new_checked(request.octets()).unwrap());
    let (receive, transmit) = (NtpTimestamp::from_utc(received), NtpTimestamp::from_utc(left));
    Header { origin: asked.receive, receive, transmit, ..reply(request) }
}

#[test]
fn in_interleaved_mode_an_exchange_is_measured_by_when_its_reply_left() {
    let mut association = Association::new(Config { xleave: true, iburst: false, ..config() });
    let mut now = START;
    let mut requests = Vec::new();
    let mut ask = |association: &mut Association| {
        now += Span::from_whole_seconds(100);
        let request = association.poll_transmit(now).unwrap();
        association.handle_transmitted(now + ms(1));
        let asked = Header::parse(&Packet::new_checked(request.octets()).unwrap());
        requests.push((asked.receive, asked.transmit));
        (request, asked, now)
    };
    // The first is a basic one: it names no reply.
    let (request, asked, at) = ask(&mut association);
    assert_eq!((asked.origin, asked.receive), (NtpTimestamp::UNKNOWN, NtpTimestamp::UNKNOWN));
    let first = reply(&request);
    let basic = association.handle_receive(&first.to_octets(), at + ms(33), at + ms(33)).unwrap();
    assert!((basic.delay - ms(30)).abs() < Span::from_nanos(2));

    // The second tells when the first reply left, 5 ms later than it had said: known already, and not taken twice.
    let (request, asked, at) = ask(&mut association);
    assert_eq!(asked.origin, first.receive);
    assert!(asked.receive != asked.transmit && asked.receive != NtpTimestamp::UNKNOWN);
    let second_came = SERVER + Span::from_whole_seconds(100);
    let second = interleaved(&request, second_came, SERVER + ms(7));
    assert_eq!(association.handle_receive(&second.to_octets(), at + ms(35), at + ms(35)), Err(Rejected::Measured));
    assert_eq!(association.reach() & 1, 1);

    // The third tells of the second exchange: 34 ms under way, of which 7 ms there.
    let (request, asked, at_third) = ask(&mut association);
    assert_eq!(asked.origin, second.receive);
    // Its clock was set after that reply had left.
    let third = interleaved(&request, second_came + Span::from_whole_seconds(100), second_came + ms(7));
    let set = NtpTimestamp::from_utc(second_came + Span::from_whole_seconds(90));
    let third = Header { reference_time: set, ..third };
    let measured = association.handle_receive(&third.to_octets(), at_third + ms(40), at_third + ms(40)).unwrap();
    assert!((measured.delay - ms(27)).abs() < Span::from_nanos(2), "{measured:?}");
    assert!((measured.at - (at + ms(18))).abs() < Span::from_nanos(2), "{measured:?}");

    // A server that forgot answers in basic mode: this exchange is measured as it is.
    let (request, _, at) = ask(&mut association);
    let basic = association.handle_receive(&reply(&request).to_octets(), at + ms(33), at + ms(33)).unwrap();
    assert!((basic.at - (at + ms(17))).abs() < Span::from_nanos(2));

    // After a request without an answer nothing is left to ask about.
    let (_, asked, _) = ask(&mut association);
    assert_ne!(asked.origin, NtpTimestamp::UNKNOWN);
    let (_, asked, _) = ask(&mut association);
    assert_eq!((asked.origin, asked.receive), (NtpTimestamp::UNKNOWN, NtpTimestamp::UNKNOWN));
    // No number is used twice.
    let numbers: Vec<NtpTimestamp> =
        requests.iter().flat_map(|(a, b)| [*a, *b]).filter(|n| *n != NtpTimestamp::UNKNOWN).collect();
    assert_eq!(numbers.iter().collect::<std::collections::HashSet<_>>().len(), numbers.len());
}

#[test]
fn replies_that_are_not_good_enough_are_counted_and_not_measured() {
    let with = |filters| {
        let mut association = Association::new(Config { filters, ..config() });
        let request = association.poll_transmit(START).unwrap();
        association.handle_transmitted(START + ms(1));
        let result = association.handle_receive(&reply(&request).to_octets(), START + ms(33), START + ms(34));
        (result, association.tally().filtered)
    };
    let usual = Filters::default();
    assert!(with(usual).0.is_ok());
    let low = with(Filters { min_stratum: 2, ..usual });
    assert_eq!(low, (Err(Rejected::StratumTooLow { stratum: 1, least: 2 }), 1));
    let long = with(Filters { max_delay: ms(29), ..usual });
    assert!(matches!(long, (Err(Rejected::DelayTooLong { .. }), 1)), "{long:?}");
    assert!(with(Filters { max_delay: ms(31), ..usual }).0.is_ok());

    // Three times the shortest.
    let mut association = Association::new(Config { filters: Filters { max_delay_ratio: 3.0, ..usual }, ..config() });
    let mut now = START;
    let mut ask = |delay: i64| {
        now += Span::from_whole_seconds(100);
        let request = association.poll_transmit(now).unwrap();
        association.handle_transmitted(now);
        association.handle_receive(&reply(&request).to_octets(), now + ms(2 + delay), now + ms(2 + delay)).is_ok()
    };
    assert_eq!([ask(30), ask(20), ask(59), ask(61), ask(20)], [true, true, true, false, true]);
}
