//! Setting up a u-blox receiver for timing: only where it was asked for, in the receiver's volatile memory
//! only, so that a restart of the receiver undoes it.
//!
//! The receiver is asked which protocol it speaks. Older ones (before 27: u-blox 5 to 8) take a message
//! for each subject, newer ones keys with values. Each is acknowledged, or asked once more, or given up.

use std::collections::VecDeque;

use super::write::message;
use crate::time::{Raw, Span, Timestamp};

/// How long a receiver may take to acknowledge.
const PATIENCE: Span = Span::from_millis(1500);
/// The first protocol with keys and values.
const WITH_KEYS: u8 = 27;
/// MON-VER, asked for.
const ASK_VERSION: (u8, u8) = (0x0a, 0x04);

/// What is asked for beside a cycle a second, the messages that a clock reads, and a pulse of 100 ms that is
/// only there while it is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Average the position for at least so long, s, then work for time only. For an antenna that stays.
    pub survey_in: Option<u32>,
}

/// A survey goes on until the position is this good, mm.
const SURVEY_ACCURACY: u32 = 2000;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is set.
    Done,
    /// These were refused; the rest is set.
    Refused(Vec<&'static str>),
    /// The receiver does not answer: it is no u-blox, or our way to it is not connected.
    NoAnswer,
}

/// One thing to set.
#[derive(Clone, Debug)]
struct Step {
    subject: &'static str,
    bytes: Vec<u8>,
    /// Class and number, which an acknowledgement repeats.
    of: (u8, u8),
}

/// The set-up under way.
#[derive(Clone, Debug)]
pub struct Setup {
    wishes: Wishes,
    steps: VecDeque<Step>,
    transmit: VecDeque<Vec<u8>>,
    /// When the first one of `steps` is given up, once it was sent; and how often it was.
    due: Option<Timestamp<Raw>>,
    tries: u8,
    refused: Vec<&'static str>,
    outcome: Option<Outcome>,
    over: bool,
}

impl Setup {
    /// Begins by asking for the version.
    pub fn new(wishes: Wishes, now: Timestamp<Raw>) -> Self {
        let ask = Step { subject: "version", bytes: message(0x0a, 0x04, &[]), of: ASK_VERSION };
        let mut setup = Self {
            wishes,
            steps: VecDeque::from([ask]),
            transmit: VecDeque::new(),
            due: None,
            tries: 0,
            refused: Vec::new(),
            outcome: None,
            over: false,
        };
        setup.send(now);
        setup
    }

    /// The receiver told its protocol's version.
    pub fn handle_version(&mut self, protocol: u8, now: Timestamp<Raw>) {
        if self.steps.front().is_some_and(|step| step.of == ASK_VERSION) {
            self.steps = if protocol < WITH_KEYS { by_messages(self.wishes) } else { by_keys(self.wishes) }.into();
            self.tries = 0;
            self.send(now);
        }
    }

    /// The receiver took a setting, or refused it.
    pub fn handle_answer(&mut self, of: (u8, u8), taken: bool, now: Timestamp<Raw>) {
        if let Some(step) = self.steps.front().filter(|step| step.of == of && step.of != ASK_VERSION) {
            if !taken {
                self.refused.push(step.subject);
            }
            self.advance(now);
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Timestamp<Raw>) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        if self.tries < 2 {
            return self.send(now);
        }
        match self.steps.front() {
            Some(step) if step.of == ASK_VERSION => self.end(Outcome::NoAnswer),
            Some(step) => {
                self.refused.push(step.subject);
                self.advance(now);
            }
            None => {}
        }
    }

    /// When to call [`Setup::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        self.due
    }

    /// What to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.pop_front()
    }

    /// How it ended; told once.
    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcome.take()
    }

    fn send(&mut self, now: Timestamp<Raw>) {
        if let Some(step) = self.steps.front() {
            self.transmit.push_back(step.bytes.clone());
            self.due = Some(now + PATIENCE);
            self.tries += 1;
        }
    }

    fn advance(&mut self, now: Timestamp<Raw>) {
        self.steps.pop_front();
        self.tries = 0;
        if self.steps.is_empty() {
            let refused = std::mem::take(&mut self.refused);
            self.end(if refused.is_empty() { Outcome::Done } else { Outcome::Refused(refused) });
        } else {
            self.send(now);
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.steps.clear();
        self.due = None;
        if !std::mem::replace(&mut self.over, true) {
            self.outcome = Some(outcome);
        }
    }
}

/// What older receivers take.
fn by_messages(wishes: Wishes) -> Vec<Step> {
    let step = |subject, id, payload: &[u8]| Step { subject, bytes: message(0x06, id, payload), of: (0x06, id) };
    // 1000 ms a measurement, one a cycle, aligned to UTC.
    let mut steps = vec![step("rate", 0x08, &[0xe8, 3, 1, 0, 0, 0])];
    // On the port that the request comes by: so many cycles between two.
    for (subject, class, id, cycles) in [
        ("NAV-PVT", 0x01, 0x07, 1),
        ("NAV-TIMELS", 0x01, 0x26, 1),
        ("TIM-TP", 0x0d, 0x01, 1),
        ("NAV-SAT", 0x01, 0x35, 5),
        ("MON-HW", 0x0a, 0x09, 5),
    ] {
        steps.push(step(subject, 0x01, &[class, id, cycles]));
    }
    // CFG-NAV5: of all it has, the dynamic model alone: an antenna that stays.
    let mut model = [0; 36];
    (model[0], model[2]) = (1, 2);
    steps.push(step("stationary", 0x24, &model));
    // CFG-TP5: 1 Hz; high for 100 ms from the UTC second on while locked, nothing otherwise. The cable
    // delay is u-blox's default of 50 ns.
    let mut pulse = [0; 32];
    (pulse[1], pulse[4]) = (1, 50);
    for (at, value) in [(8, 1_000_000u32), (12, 1_000_000), (16, 0), (20, 100_000), (28, 0x77)] {
        for (to, from) in pulse.iter_mut().skip(at).zip(value.to_le_bytes()) {
            *to = from;
        }
    }
    steps.push(step("pulse", 0x31, &pulse));
    if let Some(seconds) = wishes.survey_in {
        // CFG-TMODE2.
        let mut survey = [0; 28];
        survey[0] = 1;
        for (at, value) in [(20, seconds), (24, SURVEY_ACCURACY)] {
            for (to, from) in survey.iter_mut().skip(at).zip(value.to_le_bytes()) {
                *to = from;
            }
        }
        steps.push(step("survey-in", 0x3d, &survey));
    }
    steps
}

/// What newer receivers take: keys, each with its value, into volatile memory. A subject that a receiver
/// does not have is refused whole, so each is set by itself.
fn by_keys(wishes: Wishes) -> Vec<Step> {
    let step = |subject, pairs: &[(u32, u32)]| {
        let mut payload = vec![0, 1, 0, 0];
        for (key, value) in pairs {
            payload.extend(key.to_le_bytes());
            // The key tells how long its value is.
            let length = match key >> 28 & 7 {
                1 | 2 => 1,
                3 => 2,
                _ => 4,
            };
            payload.extend(value.to_le_bytes().iter().take(length));
        }
        Step { subject, bytes: message(0x06, 0x8a, &payload), of: (0x06, 0x8a) }
    };
    // On the first UART, and on USB.
    let mut steps = vec![
        step("rate", &[(0x3021_0001, 1000), (0x3021_0002, 1), (0x2021_0003, 0)]),
        step("NAV-PVT", &[(0x2091_0007, 1), (0x2091_0009, 1)]),
        step("NAV-TIMELS", &[(0x2091_0061, 1), (0x2091_0063, 1)]),
        step("TIM-TP", &[(0x2091_017e, 1), (0x2091_0180, 1)]),
        step("NAV-SAT", &[(0x2091_0016, 5), (0x2091_0018, 5)]),
        step("MON-RF", &[(0x2091_035a, 5), (0x2091_035c, 5)]),
        step("SEC-SIG", &[(0x2091_0635, 5), (0x2091_0637, 5)]),
        step("stationary", &[(0x2011_0021, 2)]),
        step(
            "pulse",
            &[
                (0x1005_0007, 1),
                (0x2005_0023, 0),
                (0x4005_0002, 1_000_000),
                (0x4005_0003, 1_000_000),
                (0x2005_0030, 1),
                (0x4005_0004, 0),
                (0x4005_0005, 100_000),
                (0x2005_000c, 0),
                (0x1005_000a, 1),
                (0x1005_000b, 1),
            ],
        ),
    ];
    if let Some(seconds) = wishes.survey_in {
        // The accuracy is in tenths of a millimetre here.
        let pairs = [(0x2003_0001, 1), (0x4003_0010, seconds), (0x4003_0011, 10 * SURVEY_ACCURACY)];
        steps.push(step("survey-in", &pairs));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ubx::Frame;

    fn at(ms: i64) -> Timestamp<Raw> {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    fn sent(setup: &mut Setup) -> Vec<(u8, u8)> {
        let all = std::iter::from_fn(|| setup.poll_transmit());
        all.map(|bytes| Frame::from_bytes(&bytes).map(|f| (f.class, f.id)).unwrap()).collect()
    }

    /// Frames as u-blox's documents and the project's notes have them.
    #[test]
    fn frames_are_u_blox_s() {
        let bytes = |steps: Vec<Step>, subject| steps.into_iter().find(|s| s.subject == subject).unwrap().bytes;
        let wishes = Wishes { survey_in: Some(300) };
        let hex = |text: &str| -> Vec<u8> { text.split(' ').map(|b| u8::from_str_radix(b, 16).unwrap()).collect() };
        assert_eq!(bytes(by_messages(wishes), "rate"), hex("b5 62 06 08 06 00 e8 03 01 00 00 00 00 37"));
        assert_eq!(bytes(by_messages(wishes), "TIM-TP"), hex("b5 62 06 01 03 00 0d 01 01 19 69"));
        let zeros = " 00".repeat(19);
        let survey = format!("b5 62 06 3d 1c 00 01{zeros} 2c 01 00 00 d0 07 00 00 64 43");
        assert_eq!(bytes(by_messages(wishes), "survey-in"), hex(&survey));
        let pulse = "b5 62 06 8a 42 00 00 01 00 00 07 00 05 10 01 23 00 05 20 00 02 00 05 40 40 42 0f 00 03 00 05 40 40 42 \
                     0f 00 30 00 05 20 01 04 00 05 40 00 00 00 00 05 00 05 40 a0 86 01 00 0c 00 05 20 00 0a 00 05 10 01 0b \
                     00 05 10 01 6b 23";
        assert_eq!(bytes(by_keys(wishes), "pulse"), hex(pulse));
    }

    #[test]
    fn each_step_waits_for_its_answer() {
        let mut setup = Setup::new(Wishes::default(), at(0));
        assert_eq!(sent(&mut setup), [ASK_VERSION]);
        setup.handle_version(18, at(100));
        let mut answered = 0;
        while let [of] = sent(&mut setup)[..] {
            assert_eq!(setup.poll_outcome(), None);
            setup.handle_answer((0x06, 0xff), true, at(200));
            assert_eq!(sent(&mut setup), [], "somebody else's answer");
            setup.handle_answer(of, answered != 3, at(200));
            answered += 1;
        }
        assert_eq!(answered, 8);
        assert_eq!(setup.poll_outcome(), Some(Outcome::Refused(vec!["TIM-TP"])));
        assert_eq!((setup.poll_outcome(), setup.poll_timeout()), (None, None));
    }

    #[test]
    fn silence_is_asked_once_more_and_then_given_up() {
        let mut setup = Setup::new(Wishes::default(), at(0));
        setup.handle_timeout(at(1499));
        assert_eq!(sent(&mut setup).len(), 1);
        setup.handle_timeout(setup.poll_timeout().unwrap());
        assert_eq!(sent(&mut setup).len(), 1);
        setup.handle_timeout(setup.poll_timeout().unwrap());
        assert_eq!((sent(&mut setup), setup.poll_outcome()), (vec![], Some(Outcome::NoAnswer)));
        // One step that is not answered does not hold up the rest.
        let mut setup = Setup::new(Wishes { survey_in: Some(300) }, at(0));
        setup.handle_version(32, at(0));
        while let Some(due) = setup.poll_timeout() {
            setup.handle_timeout(due);
        }
        let Some(Outcome::Refused(subjects)) = setup.poll_outcome() else { panic!() };
        assert_eq!((subjects.len(), subjects.last()), (10, Some(&"survey-in")));
    }
}
