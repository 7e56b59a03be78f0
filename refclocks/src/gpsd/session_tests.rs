//! What a session makes of what gpsd says.

use super::*;
use proptest::prelude::*;

const GREETING_LINE: &[u8] =
    b"{\"class\":\"VERSION\",\"release\":\"3.22\",\"rev\":\"3.22\",\"proto_major\":3,\"proto_minor\":14}\r\n";

fn session() -> Session {
    session_with(None)
}

fn session_with(device: Option<&str>) -> Session {
    let not_before = Timestamp::from_parts(1_751_328_000, 0);
    let device = device.map(str::to_owned);
    let mut session = Session::new(Config { device, not_before, last_good: Timestamp::EPOCH });
    session.handle_open(Timestamp::from_parts(1, 0));
    session
}

fn feed(session: &mut Session, second: i64, text: &str) -> Vec<(Stream, Report)> {
    session.handle_bytes(text.as_bytes(), Timestamp::from_parts(second, 0)).unwrap();
    std::iter::from_fn(|| session.poll_report()).filter(|(_, r)| matches!(r, Report::Sample(_))).collect()
}

fn toff(real: i64, clock: i64, nanos: i64) -> String {
    format!(
        "{{\"class\":\"TOFF\",\"device\":\"/dev/ttyAMA0\",\"real_sec\":{real}, \"real_nsec\":0,\"clock_sec\":{clock},\"clock_nsec\":{nanos}}}\r\n"
    )
}

#[test]
fn the_most_absurd_numbers_are_refused() {
    let mut session = session();
    session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0)).unwrap();
    assert_eq!(feed(&mut session, 2, &toff(1_795_319_391, 1_795_319_391, i64::MIN)), []);
    assert_eq!(session.health(Stream::Message).malformed, 1);
    let text = format!("{{\"class\":\"TPV\",\"mode\":3,\"leapseconds\":{}}}\n", i64::MAX);
    session.handle_bytes(text.as_bytes(), Timestamp::from_parts(2, 0)).unwrap();
    assert_eq!(session.told.map(|t| t.tai_minus_utc), Some(None));
}

#[test]
fn asks_to_watch_once_gpsd_has_greeted() {
    let mut session = session();
    assert_eq!(session.poll_transmit(), None);
    session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0)).unwrap();
    let watch = "?WATCH={\"enable\":true,\"json\":true,\"pps\":true};\n";
    assert_eq!(session.poll_transmit().as_deref(), Some(watch.as_bytes()));
}

#[test]
fn messages_keep_every_nanosecond() {
    let mut session = session();
    session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0)).unwrap();
    let found = feed(&mut session, 2, &toff(1_795_319_465, 1_795_319_465, 141_078_203));
    let [(Stream::Message, Report::Sample(sample))] = &found[..] else { unreachable!("{found:?}") };
    assert_eq!(sample.local, LocalStamp::Realtime(Timestamp::from_nanos(1_795_319_465_141_078_203)));
    assert_eq!(feed(&mut session, 3, &toff(1_795_319_465, 1_795_319_465, 141_078_203)), []);
}

#[test]
fn no_fix_gates_the_messages() {
    let mut session = session();
    session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0)).unwrap();
    feed(&mut session, 2, "{\"class\":\"TPV\",\"device\":\"/dev/ttyAMA0\",\"mode\":1}\r\n");
    assert_eq!(feed(&mut session, 2, &toff(1_795_319_465, 1_795_319_465, 1)), []);
    feed(&mut session, 3, "{\"class\":\"TPV\",\"device\":\"/dev/ttyAMA0\",\"mode\":3,\"leapseconds\":18}\r\n");
    assert_eq!(feed(&mut session, 3, &toff(1_795_319_466, 1_795_319_466, 1)).len(), 1);
}

/// What a second of a device with this mode gives: a TPV, a TOFF and a PPS.
fn second(session: &mut Session, at: i64, device: &str, mode: i64) -> Vec<Stream> {
    let now = 1_795_319_000 + at;
    let stamps = |class: &str, nanos: i64| {
        format!(
            "{{\"class\":\"{class}\",\"device\":\"{device}\",\"real_sec\":{now},\"real_nsec\":0,\"clock_sec\":{now},\"clock_nsec\":{nanos}}}\r\n"
        )
    };
    let tpv = format!("{{\"class\":\"TPV\",\"device\":\"{device}\",\"mode\":{mode}}}\r\n");
    let text = tpv + &stamps("TOFF", 141_000_000) + &stamps("PPS", 1000);
    feed(session, at, &text).into_iter().map(|(stream, _)| stream).collect()
}

fn remarks(session: &mut Session, text: &str) -> Vec<String> {
    session.handle_bytes(text.as_bytes(), Timestamp::from_parts(99, 0)).unwrap();
    let reports = std::iter::from_fn(|| session.poll_report());
    reports.filter_map(|(_, r)| if let Report::Remark(r) = r { Some(r.to_string()) } else { None }).collect()
}

#[test]
fn one_of_several_receivers_is_followed_until_it_falls_silent() {
    let mut session = session();
    session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0)).unwrap();
    assert!(second(&mut session, 10, "/dev/ttyACM0", 1).iter().all(|s| *s == Stream::Pulse), "no fix yet");
    for at in 11..14 {
        assert_eq!(second(&mut session, at, "/dev/ttyACM0", 3).first(), Some(&Stream::Message), "{at}");
        assert_eq!(second(&mut session, at, "/dev/ttyUSB0", 3), [], "{at}");
    }
    // The other's fix is not the first one's.
    assert_eq!(second(&mut session, 14, "/dev/ttyUSB0", 1), []);
    assert_eq!(second(&mut session, 15, "/dev/ttyACM0", 0).first(), Some(&Stream::Message), "0 says nothing");
    assert_eq!(second(&mut session, 19, "/dev/ttyUSB0", 3), []);
    assert_eq!(second(&mut session, 20, "/dev/ttyUSB0", 3).first(), Some(&Stream::Message));
    // gpsd says at once that a device is gone.
    feed(&mut session, 21, "{\"class\":\"DEVICE\",\"path\":\"/dev/ttyUSB0\",\"activated\":0}\n");
    assert_eq!(session.phase(Stream::Message), Some(DevicePhase::Absent));
    assert_eq!(second(&mut session, 22, "/dev/ttyACM0", 3).first(), Some(&Stream::Message));
}

#[test]
fn the_receiver_that_is_named_is_followed_alone() {
    let mut session = session_with(Some("/dev/ttyUSB0"));
    session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0)).unwrap();
    let asked = session.poll_transmit().unwrap();
    assert!(asked.ends_with(b",\"device\":\"/dev/ttyUSB0\"};\n"), "{}", String::from_utf8_lossy(&asked));
    for at in 10..20 {
        assert_eq!(second(&mut session, at, "/dev/ttyACM0", 3), []);
    }
    assert_eq!(second(&mut session, 20, "/dev/ttyUSB0", 3).first(), Some(&Stream::Message));
    // A pulse of its own device, which names no receiver.
    assert!(session.devices.follow(Stream::Pulse, "/dev/pps0", true));
}

#[test]
fn what_gpsd_says_besides_is_told_once() {
    let mut session = session();
    session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0)).unwrap();
    let error = "{\"class\":\"ERROR\",\"message\":\"Unrecognized request 'x'\"}\n";
    assert_eq!(remarks(&mut session, &error.repeat(3)), ["gpsd refuses what we asked: Unrecognized request 'x'"]);
    let osc = |disciplined| {
        format!(
            "{{\"class\":\"OSC\",\"device\":\"/dev/ttyS0\",\"running\":true,\"reference\":true,\"disciplined\":{disciplined},\"delta\":67}}\n"
        )
    };
    assert_eq!(remarks(&mut session, &osc(true).repeat(2)), ["its oscillator follows its reference"]);
    assert_eq!(remarks(&mut session, &osc(false)), ["its oscillator does not follow its reference"]);
}

#[test]
fn a_date_1024_weeks_ahead_comes_back() {
    let mut session = session();
    session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0)).unwrap();
    let found = feed(&mut session, 2, &toff(1_795_319_465 + 619_315_200, 1_795_319_465, 1));
    let (_, Report::Sample(sample)) = &found[0] else { unreachable!() };
    assert_eq!(sample.reference.whole_seconds(), 1_795_319_465);
    assert_eq!(session.health(Stream::Message).rollover_repaired, 1);
}

#[test]
fn other_servers_are_told_apart() {
    for text in ["SSH-2.0-OpenSSH_9\r\n", "{\"class\":\"TPV\",\"mode\":3}\r\n", "{\"hello\":1}\n"] {
        assert_eq!(session().handle_bytes(text.as_bytes(), Timestamp::from_parts(1, 0)), Err(Fatal::NotGpsd), "{text}");
    }
    assert_eq!(session().handle_timeout(Timestamp::from_parts(5, 0)), Err(Fatal::NotGpsd));
}

#[test]
fn bad_and_endless_lines_are_skipped() {
    let mut session = session();
    session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0)).unwrap();
    feed(&mut session, 2, &("{\"class\":\"TOFF\",".to_owned() + &"x".repeat(20_000) + "\n{broken\n"));
    assert_eq!(session.health(Stream::Message).malformed, 2);
    assert_eq!(feed(&mut session, 2, &toff(1_795_319_465, 1_795_319_465, 1)).len(), 1);
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), numbers in any::<[i64; 4]>()) {
        let mut session = session();
        let _ = session.handle_bytes(GREETING_LINE, Timestamp::from_parts(1, 0));
        let _ = session.handle_bytes(&bytes, Timestamp::from_parts(1, 0));
        let [a, b, c, d] = numbers;
        for class in ["TOFF", "PPS"] {
            let text = format!("\n{{\"class\":\"{class}\",\"real_sec\":{a},\"real_nsec\":{b},\"clock_sec\":{c},\"clock_nsec\":{d}}}\n");
            let _ = session.handle_bytes(text.as_bytes(), Timestamp::from_parts(1, 0));
        }
    }
}
