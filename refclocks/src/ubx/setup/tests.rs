//! Against a receiver that is made up.

use super::*;
use crate::ubx::{Frame, Message};

#[path = "../../../tests/simulated_ublox/mod.rs"]
pub(crate) mod simulated_ublox;

use simulated_ublox::{BAUD, Receiver};

fn at(ms: i64) -> Timestamp<Raw> {
    Timestamp::from_nanos(ms * 1_000_000)
}

/// Plays a set-up to its end over a line of that speed. Returns how it ended, and the line's speed then.
fn play(receiver: &mut Receiver, wishes: Wishes, mut line: u32) -> (Outcome, u32) {
    let mut now = at(0);
    let mut setup = Setup::new(wishes, Some(line), now);
    for _ in 0..1000 {
        while let Some(bytes) = setup.poll_transmit() {
            // What is sent at another speed than the receiver's is not understood, nor are its answers.
            let answers = if line == receiver.baud { receiver.hears(&bytes) } else { vec![] };
            now += Span::from_millis(20);
            for answer in answers.iter().filter(|_| line == receiver.baud) {
                match Message::decode(Frame::from_bytes(answer).unwrap()).unwrap() {
                    Message::MonVer { protocol } => setup.handle_version(protocol, now),
                    Message::Ack { of, taken } => setup.handle_answer(of, taken, now),
                    Message::Setting { id, payload } => setup.handle_setting(id, payload, now),
                    other => panic!("{other:?}"),
                }
            }
        }
        if let Some(outcome) = setup.poll_outcome() {
            assert_eq!((setup.poll_outcome(), setup.poll_timeout(), setup.poll_transmit()), (None, None, None));
            return (outcome, line);
        }
        if let Some(due) = setup.poll_timeout().filter(|_| setup.transmit.is_empty()) {
            now = now.max(due);
            setup.handle_timeout(now);
        }
        line = setup.poll_speed().unwrap_or(line);
    }
    panic!("it never ends: {setup:?}");
}

const SURVEY: Wishes = Wishes { baud: None, timing: Some(Timing::SurveyIn(300)) };

fn fixed() -> Wishes {
    let at = Position::geodetic(47.285_233_123, 8.565_265_987, 440.1237);
    Wishes { baud: None, timing: Some(Timing::Fixed { at, accuracy: 50 }) }
}

fn not_taken(subject: &str, why: Why, extra: bool) -> NotTaken {
    NotTaken { subject: subject.into(), why, extra }
}

#[test]
fn old_and_new_receivers_take_it_all_and_are_left_alone_the_next_time() {
    for (protocol, wishes, settings) in [(18, SURVEY, 9), (18, fixed(), 9), (27, SURVEY, 10), (34, fixed(), 10)] {
        let mut receiver = Receiver::new(protocol);
        assert_eq!(play(&mut receiver, wishes, 9600), (Outcome::Done(vec![]), 9600), "{protocol}");
        assert_eq!(receiver.sets, settings);
        // A survey that is under way goes on when the daemon is started anew.
        assert_eq!(play(&mut receiver, wishes, 9600), (Outcome::Done(vec![]), 9600), "{protocol}");
        assert_eq!(receiver.sets, settings, "it was so already");
    }
}

#[test]
fn what_is_not_taken_is_told_with_the_reason() {
    let mut receiver = Receiver::new(18);
    // No survey-in, no NAV-SAT; a pulse of its own; a rate that it does not tell.
    receiver.lacks = vec![0x3d, 0x71, 256 + 0x35];
    receiver.ignores = vec![0x31];
    receiver.hides = vec![0x08];
    let (outcome, _) = play(&mut receiver, SURVEY, 9600);
    let expected = [
        not_taken("rate", Why::NotTold, false),
        not_taken("NAV-SAT", Why::Refused, true),
        not_taken("pulse", Why::OtherValue, false),
        not_taken("survey-in", Why::Refused, false),
    ];
    assert_eq!(outcome, Outcome::Done(expected.to_vec()));
    assert_eq!(
        outcome.to_string(),
        "it is set up but for rate (acknowledged, and not told when asked), NAV-SAT (refused), pulse (acknowledged, \
         and set otherwise), survey-in (refused)"
    );
    let mut receiver = Receiver::new(32);
    receiver.lacks = vec![0x2091_0635];
    receiver.ignores = vec![0x4003_000b];
    let expected = [not_taken("SEC-SIG", Why::Refused, true), not_taken("position", Why::OtherValue, false)];
    assert_eq!(play(&mut receiver, fixed(), 9600).0, Outcome::Done(expected.to_vec()));
}

#[test]
fn a_base_station_takes_the_other_time_mode() {
    let mut receiver = Receiver::new(20);
    receiver.lacks = vec![0x3d];
    assert_eq!(play(&mut receiver, fixed(), 9600).0, Outcome::Done(vec![]));
    assert_eq!(receiver.messages[&vec![0x71]][2..4], [2, 1]);
}

#[test]
fn the_speed_is_changed_and_the_port_follows() {
    for protocol in [18, 27] {
        let mut receiver = Receiver::new(protocol);
        let wishes = Wishes { baud: Some(115_200), ..SURVEY };
        assert_eq!(play(&mut receiver, wishes, 9600), (Outcome::Done(vec![]), 115_200), "{protocol}");
        assert_eq!(receiver.baud, 115_200);
        assert_eq!(play(&mut receiver, wishes, 115_200), (Outcome::Done(vec![]), 115_200), "it is so already");
    }
}

#[test]
fn a_receiver_that_does_not_change_its_speed_is_heard_at_the_old_one() {
    let wishes = Wishes { baud: Some(115_200), timing: None };
    let speed = Outcome::Done(vec![not_taken("speed", Why::NoAnswer, false)]);
    let mut receiver = Receiver::new(18);
    receiver.ignores = vec![PORT.into()];
    assert_eq!(play(&mut receiver, wishes, 9600), (speed.clone(), 9600));
    // We are on its second port: the first gets its speed back.
    let mut receiver = Receiver::new(27);
    receiver.port = 2;
    receiver.keys.insert(BAUD, 38_400);
    assert_eq!(play(&mut receiver, wishes, 9600), (speed, 9600));
    assert_eq!(receiver.keys[&BAUD], 38_400);
    // On USB there is no speed.
    let mut receiver = Receiver::new(18);
    receiver.port = 3;
    receiver.messages.get_mut(&vec![PORT]).unwrap()[0] = 3;
    assert_eq!(play(&mut receiver, wishes, 9600), (Outcome::Done(vec![]), 9600));
}

#[test]
fn one_that_is_heard_no_more_is_lost_and_says_so() {
    let wishes = Wishes { baud: Some(115_200), timing: None };
    let mut receiver = Receiver::new(18);
    let mut setup = Setup::new(wishes, Some(9600), at(0));
    let mut now = at(0);
    let mut speeds = Vec::new();
    let outcome = loop {
        while let Some(bytes) = setup.poll_transmit() {
            // It goes to a speed of its own.
            let answers = if receiver.baud == 9600 { receiver.hears(&bytes) } else { vec![] };
            for answer in &answers {
                match Message::decode(Frame::from_bytes(answer).unwrap()).unwrap() {
                    Message::MonVer { protocol } => setup.handle_version(protocol, now),
                    Message::Setting { id, payload } => setup.handle_setting(id, payload, now),
                    _ => {}
                }
            }
        }
        speeds.extend(setup.poll_speed());
        if let Some(outcome) = setup.poll_outcome() {
            break outcome;
        }
        now = setup.poll_timeout().unwrap();
        setup.handle_timeout(now);
    };
    assert_eq!((outcome, speeds), (Outcome::Lost(115_200), vec![115_200, 9600]));
    assert!(now < at(5000), "the search for a speed begins after 5 s: {now:?}");
}

#[test]
fn silence_is_asked_once_more_and_then_given_up() {
    let sent = |setup: &mut Setup| std::iter::from_fn(|| setup.poll_transmit()).count();
    let mut setup = Setup::new(Wishes::default(), None, at(0));
    setup.handle_timeout(at(1499));
    assert_eq!(sent(&mut setup), 1);
    setup.handle_timeout(setup.poll_timeout().unwrap());
    assert_eq!(sent(&mut setup), 1);
    setup.handle_timeout(setup.poll_timeout().unwrap());
    assert_eq!((sent(&mut setup), setup.poll_outcome()), (0, Some(Outcome::NoAnswer)));
    // One setting that is not answered does not hold up the rest.
    let mut setup = Setup::new(SURVEY, None, at(0));
    setup.handle_version(32, at(0));
    while let Some(due) = setup.poll_timeout() {
        setup.handle_timeout(due);
        setup.handle_answer((CFG, 0xff), true, due);
    }
    let Some(Outcome::Done(not_taken)) = setup.poll_outcome() else { panic!() };
    assert_eq!((not_taken.len(), not_taken.iter().all(|n| n.why == Why::NoAnswer)), (10, true));
}
