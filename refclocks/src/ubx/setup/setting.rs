//! Single settings: what sets them, what asks for them, and what the answer has to say.

use std::ops::Range;

use super::position::Timing;
use crate::ubx::write::message;

/// Class of all settings.
const CFG: u8 = 0x06;
/// CFG-PRT, the port.
pub(super) const PORT: u8 = 0x00;
/// CFG-VALSET, which sets keys, and CFG-VALGET, which asks for them.
const SET_KEYS: u8 = 0x8a;
pub(super) const GET_KEYS: u8 = 0x8b;
/// CFG-UART1-BAUDRATE.
pub(super) const BAUD: u32 = 0x4052_0001;

/// A survey goes on until the position is this good, mm.
const SURVEY_ACCURACY: u32 = 2000;

/// One thing to set.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// What it is, for a person to read.
    pub subject: &'static str,
    /// It tells more of the receiver, and a clock does without.
    pub extra: bool,
    /// How it is set: by the first of these that the receiver has.
    pub ways: Vec<Way>,
}

/// One way of setting it.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// What asks how it is set now, and the number of that message.
    pub ask: Vec<u8>,
    pub ask_id: u8,
    /// What sets it, and the number of that message.
    pub set: Vec<u8>,
    pub set_id: u8,
    expected: Expected,
}

/// What the answer says when it is set.
#[derive(Clone, Debug)]
enum Expected {
    /// These bytes at these places.
    Fields(Vec<(usize, Vec<u8>)>),
    /// Keys with these values.
    Keys(Vec<(u32, u32)>),
}

impl Way {
    fn message(id: u8, asked_with: &[u8], payload: &[u8], fields: Vec<(usize, Vec<u8>)>) -> Self {
        Self {
            ask: message(CFG, id, asked_with),
            ask_id: id,
            set: message(CFG, id, payload),
            set_id: id,
            expected: Expected::Fields(fields),
        }
    }

    fn keys(pairs: &[(u32, u32)]) -> Self {
        Self {
            ask: get_keys(pairs.iter().map(|(key, _)| *key)),
            ask_id: GET_KEYS,
            set: set_keys(pairs),
            set_id: SET_KEYS,
            expected: Expected::Keys(pairs.to_vec()),
        }
    }

    /// Is this an answer to what it asks? Another setting's may be of the same number.
    pub fn is_answered_by(&self, id: u8, payload: &[u8]) -> bool {
        let repeats = |what: Option<&(usize, Vec<u8>)>| what.is_none_or(|field| has(payload, field));
        id == self.ask_id
            && match &self.expected {
                // CFG-MSG repeats which message it is about.
                Expected::Fields(fields) => id != MESSAGE_RATE || repeats(fields.first()),
                Expected::Keys(pairs) => pairs.iter().any(|(key, _)| value_of(payload, *key).is_some()),
            }
    }

    /// Does the answer say that it is set so?
    pub fn is_as_wished(&self, payload: &[u8]) -> bool {
        match &self.expected {
            Expected::Fields(fields) => fields.iter().all(|field| has(payload, field)),
            Expected::Keys(pairs) => pairs.iter().all(|(key, value)| value_of(payload, *key) == Some(*value)),
        }
    }
}

fn has(payload: &[u8], (at, bytes): &(usize, Vec<u8>)) -> bool {
    payload.get(*at..).is_some_and(|rest| rest.starts_with(bytes))
}

/// How many bytes the value of a key takes: the key tells.
fn length(key: u32) -> usize {
    match key >> 28 & 7 {
        1 | 2 => 1,
        3 => 2,
        5 => 8,
        _ => 4,
    }
}

/// Sets keys, in volatile memory only.
pub(super) fn set_keys(pairs: &[(u32, u32)]) -> Vec<u8> {
    let mut payload = vec![0, 1, 0, 0];
    for (key, value) in pairs {
        payload.extend(key.to_le_bytes());
        payload.extend(value.to_le_bytes().iter().take(length(*key)));
    }
    message(CFG, SET_KEYS, &payload)
}

/// Asks for keys as they are in force.
pub(super) fn get_keys(keys: impl Iterator<Item = u32>) -> Vec<u8> {
    let mut payload = vec![0, 0, 0, 0];
    keys.for_each(|key| payload.extend(key.to_le_bytes()));
    message(CFG, GET_KEYS, &payload)
}

/// The value of a key in an answer; shorter ones as they are without their sign.
pub(super) fn value_of(answer: &[u8], wanted: u32) -> Option<u32> {
    let mut rest = answer.get(4..)?;
    while let Some((key, after)) = rest.split_first_chunk::<4>() {
        let key = u32::from_le_bytes(*key);
        let (value, after) = after.split_at_checked(length(key))?;
        if key == wanted {
            return Some(value.iter().take(4).rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte)));
        }
        rest = after;
    }
    None
}

/// A serial port's settings with another speed, and UBX spoken both ways; `None` if it is no serial port.
pub(super) fn port_at(settings: &[u8], baud: u32) -> Option<Vec<u8>> {
    let mut port = settings.to_vec();
    if !matches!(port.first(), Some(1 | 2)) || port.len() != 20 {
        return None;
    }
    put(&mut port, 8, &baud.to_le_bytes());
    for protocols in [12, 14] {
        if let Some(byte) = port.get_mut(protocols) {
            *byte |= 1;
        }
    }
    Some(message(CFG, PORT, &port))
}

/// Asks for the settings of the port that the request comes by.
pub(super) fn ask_port() -> Vec<u8> {
    message(CFG, PORT, &[])
}

const MESSAGE_RATE: u8 = 0x01;

/// What older receivers take, on the port of that number.
pub(super) fn by_messages(timing: Option<Timing>, port: u8) -> Vec<Setting> {
    let one = |subject, way| Setting { subject, extra: false, ways: vec![way] };
    // 1000 ms a measurement, one a cycle, aligned to UTC.
    let rate = [0xe8, 3, 1, 0, 0, 0];
    let mut settings = vec![one("rate", Way::message(0x08, &[], &rate, vec![(0, rate.to_vec())]))];
    // On the port that the request comes by: so many cycles between two.
    for (subject, class, id, cycles) in [
        ("NAV-PVT", 0x01, 0x07, 1),
        ("NAV-TIMELS", 0x01, 0x26, 1),
        ("TIM-TP", 0x0d, 0x01, 1),
        ("NAV-SAT", 0x01, 0x35, 5),
        ("MON-HW", 0x0a, 0x09, 5),
    ] {
        let fields = vec![(0, vec![class, id]), (2 + usize::from(port), vec![cycles])];
        let way = Way::message(MESSAGE_RATE, &[class, id], &[class, id, cycles], fields);
        settings.push(Setting { extra: subject != "NAV-PVT", ..one(subject, way) });
    }
    // CFG-NAV5: of all it has, the dynamic model alone: an antenna that stays.
    let mut model = [0; 36];
    (model[0], model[2]) = (1, 2);
    settings.push(one("stationary", Way::message(0x24, &[], &model, vec![(2, vec![2])])));
    // CFG-TP5: 1 Hz; high for 100 ms from the UTC second on while locked, nothing otherwise. The cable
    // delay is u-blox's default of 50 ns.
    let mut pulse = [0; 32];
    (pulse[1], pulse[4], pulse[28]) = (1, 50, 0x77);
    for (at, value) in [(8, 1_000_000u32), (12, 1_000_000), (16, 0), (20, 100_000)] {
        put(&mut pulse, at, &value.to_le_bytes());
    }
    let lengths = pulse.get(8..24).unwrap_or_default().to_vec();
    settings.push(one("pulse", Way::message(0x31, &[0], &pulse, vec![(0, vec![0]), (8, lengths), (28, vec![0x77])])));
    if let Some(timing) = timing {
        let ways = vec![time_mode_2(timing), time_mode_3(timing)];
        settings.push(Setting { subject: subject_of(timing), extra: false, ways });
    }
    settings
}

/// CFG-TMODE2, of the receivers for timing up to u-blox 8.
fn time_mode_2(timing: Timing) -> Way {
    let mut mode = [0; 28];
    let compared = match timing {
        Timing::SurveyIn(seconds) => {
            mode[0] = 1;
            put(&mut mode, 20, &seconds.to_le_bytes());
            put(&mut mode, 24, &SURVEY_ACCURACY.to_le_bytes());
            20..28
        }
        Timing::Fixed { at, accuracy } => {
            (mode[0], mode[2]) = (2, u8::from(at.is_geodetic()));
            for (k, (hundreds, _)) in at.in_hundreds().into_iter().enumerate() {
                put(&mut mode, 4 + 4 * k, &hundreds.to_le_bytes());
            }
            put(&mut mode, 16, &accuracy.to_le_bytes());
            2..20
        }
    };
    let field = |range: Range<usize>| (range.start, mode.get(range).unwrap_or_default().to_vec());
    Way::message(0x3d, &[], &mode, vec![field(0..1), field(compared)])
}

/// CFG-TMODE3, of receivers that can be base stations.
fn time_mode_3(timing: Timing) -> Way {
    let mut mode = [0; 40];
    let compared = match timing {
        Timing::SurveyIn(seconds) => {
            mode[2] = 1;
            put(&mut mode, 24, &seconds.to_le_bytes());
            put(&mut mode, 28, &(10 * SURVEY_ACCURACY).to_le_bytes());
            24..32
        }
        Timing::Fixed { at, accuracy } => {
            (mode[2], mode[3]) = (2, u8::from(at.is_geodetic()));
            for (k, (hundreds, rest)) in at.in_hundreds().into_iter().enumerate() {
                put(&mut mode, 4 + 4 * k, &hundreds.to_le_bytes());
                put(&mut mode, 16 + k, &rest.to_le_bytes());
            }
            put(&mut mode, 20, &accuracy.saturating_mul(10).to_le_bytes());
            3..24
        }
    };
    let field = |range: Range<usize>| (range.start, mode.get(range).unwrap_or_default().to_vec());
    Way::message(0x71, &[], &mode, vec![field(2..3), field(compared)])
}

/// What newer receivers take: keys, each with its value. A subject that a receiver does not have is refused
/// whole, so each is set by itself.
pub(super) fn by_keys(timing: Option<Timing>) -> Vec<Setting> {
    let one = |subject, pairs: &[(u32, u32)]| Setting { subject, extra: false, ways: vec![Way::keys(pairs)] };
    let more = |subject, pairs| Setting { extra: true, ..one(subject, pairs) };
    // On the first UART, and on USB.
    let mut settings = vec![
        one("rate", &[(0x3021_0001, 1000), (0x3021_0002, 1), (0x2021_0003, 0)]),
        one("NAV-PVT", &[(0x2091_0007, 1), (0x2091_0009, 1)]),
        more("NAV-TIMELS", &[(0x2091_0061, 1), (0x2091_0063, 1)]),
        more("TIM-TP", &[(0x2091_017e, 1), (0x2091_0180, 1)]),
        more("NAV-SAT", &[(0x2091_0016, 5), (0x2091_0018, 5)]),
        more("MON-RF", &[(0x2091_035a, 5), (0x2091_035c, 5)]),
        more("SEC-SIG", &[(0x2091_0635, 5), (0x2091_0637, 5)]),
        one("stationary", &[(0x2011_0021, 2)]),
        one(
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
    match timing {
        None => {}
        // Accuracies are in tenths of a millimetre here.
        Some(survey @ Timing::SurveyIn(seconds)) => {
            let pairs = [(0x2003_0001, 1), (0x4003_0010, seconds), (0x4003_0011, 10 * SURVEY_ACCURACY)];
            settings.push(one(subject_of(survey), &pairs));
        }
        Some(fixed @ Timing::Fixed { at, accuracy }) => {
            // Which keys the coordinates have, and the rest of each.
            let (first, first_rest) =
                if at.is_geodetic() { (0x4003_0009, 0x2003_000c) } else { (0x4003_0003, 0x2003_0006) };
            let mut pairs = vec![
                (0x2003_0001, 2),
                (0x2003_0002, u32::from(at.is_geodetic())),
                (0x4003_000f, accuracy.saturating_mul(10)),
            ];
            for (key, (hundreds, rest)) in (0..).zip(at.in_hundreds()) {
                pairs.extend([(first + key, hundreds as u32), (first_rest + key, u32::from(rest as u8))]);
            }
            settings.push(one(subject_of(fixed), &pairs));
        }
    }
    settings
}

fn subject_of(timing: Timing) -> &'static str {
    match timing {
        Timing::SurveyIn(_) => "survey-in",
        Timing::Fixed { .. } => "position",
    }
}

fn put(payload: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in payload.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::super::position::Position;
    use super::*;
    use crate::ubx::Frame;

    const SURVEY: Option<Timing> = Some(Timing::SurveyIn(300));

    fn way(settings: Vec<Setting>, subject: &str, k: usize) -> Way {
        settings.into_iter().find(|s| s.subject == subject).unwrap().ways.swap_remove(k)
    }

    fn payload(bytes: &[u8]) -> Vec<u8> {
        Frame::from_bytes(bytes).unwrap().payload.to_vec()
    }

    /// Frames as u-blox's documents and the project's notes have them.
    #[test]
    fn frames_are_u_blox_s() {
        let hex = |text: &str| -> Vec<u8> { text.split(' ').map(|b| u8::from_str_radix(b, 16).unwrap()).collect() };
        let old = |subject| way(by_messages(SURVEY, 1), subject, 0);
        assert_eq!(old("rate").set, hex("b5 62 06 08 06 00 e8 03 01 00 00 00 00 37"));
        assert_eq!(old("TIM-TP").set, hex("b5 62 06 01 03 00 0d 01 01 19 69"));
        assert_eq!(old("pulse").ask, hex("b5 62 06 31 01 00 00 38 e5"));
        let zeros = " 00".repeat(19);
        let survey = format!("b5 62 06 3d 1c 00 01{zeros} 2c 01 00 00 d0 07 00 00 64 43");
        assert_eq!(old("survey-in").set, hex(&survey));
        let pulse = "b5 62 06 8a 42 00 00 01 00 00 07 00 05 10 01 23 00 05 20 00 02 00 05 40 40 42 0f 00 03 00 05 40 40 42 \
                     0f 00 30 00 05 20 01 04 00 05 40 00 00 00 00 05 00 05 40 a0 86 01 00 0c 00 05 20 00 0a 00 05 10 01 0b \
                     00 05 10 01 6b 23";
        assert_eq!(way(by_keys(SURVEY), "pulse", 0).set, hex(pulse));
    }

    #[test]
    fn a_position_is_told_in_each_language() {
        let at = Position::geodetic(47.285_233_123, -8.565_265_987, 440.1237);
        let timing = Some(Timing::Fixed { at, accuracy: 50 });
        let (two, three) = (way(by_messages(timing, 1), "position", 0), way(by_messages(timing, 1), "position", 1));
        let i32_at = |bytes: &[u8], at: usize| i32::from_le_bytes(*bytes[at..].first_chunk().unwrap());
        let (p2, p3) = (payload(&two.set), payload(&three.set));
        assert_eq!((p2.len(), p2[0], p2[2], i32_at(&p2, 16)), (28, 2, 1, 50));
        assert_eq!([4, 8, 12].map(|k| i32_at(&p2, k)), [472_852_331, -85_652_660, 44012]);
        assert_eq!((p3.len(), p3[2], p3[3], i32_at(&p3, 20)), (40, 2, 1, 500));
        assert_eq!([4, 8, 12].map(|k| i32_at(&p3, k)), [472_852_331, -85_652_660, 44012]);
        assert_eq!([16, 17, 18].map(|k| p3[k] as i8), [23, 13, 37]);
        let keys = payload(&way(by_keys(timing), "position", 0).set);
        assert_eq!(value_of(&keys, 0x4003_000a), Some(-85_652_660i32 as u32));
        assert_eq!(value_of(&keys, 0x2003_000d), Some(13));
        assert_eq!(value_of(&keys, 0x4003_000f), Some(500));
        let ecef =
            Some(Timing::Fixed { at: Position::ecef([-1_280_208.308, -4_716_803.847, 4_086_665.811]), accuracy: 1 });
        let keys = payload(&way(by_keys(ecef), "position", 0).set);
        assert_eq!(value_of(&keys, 0x2003_0002), Some(0));
        assert_eq!(value_of(&keys, 0x4003_0004), Some(-471_680_385i32 as u32));
        assert_eq!(value_of(&keys, 0x2003_0007), Some(30));
        assert_eq!(value_of(&keys, 0x4003_0009), None);
    }

    #[test]
    fn an_answer_is_the_setting_or_another() {
        for settings in [by_messages(SURVEY, 1), by_keys(SURVEY)] {
            for way in settings.iter().flat_map(|s| &s.ways) {
                let mut answer = payload(&way.set);
                if way.set_id == MESSAGE_RATE {
                    answer = vec![answer[0], answer[1], 0, answer[2], 0, 0, 0, 0];
                }
                assert!(way.is_answered_by(way.ask_id, &answer) && way.is_as_wished(&answer), "{way:?}");
                assert!(!way.is_answered_by(0xff, &answer));
                let at = match way.set_id {
                    MESSAGE_RATE => 3,
                    0x24 => 2,
                    0x31 | 0x71 => 28,
                    _ => answer.len() - 1,
                };
                answer[at] ^= 0x40;
                assert!(!way.is_as_wished(&answer), "{way:?}");
                assert!(!way.is_as_wished(&[]) && !way.is_as_wished(&[0; 8]));
            }
        }
        let pvt = way(by_messages(None, 1), "NAV-PVT", 0);
        assert!(!pvt.is_answered_by(MESSAGE_RATE, &[1, 0x26, 0, 1, 0, 0, 0, 0]), "it is about another message");
    }

    #[test]
    fn only_a_serial_port_has_a_speed() {
        let mut port = [0; 20];
        (port[0], port[4], port[8], port[12], port[14]) = (1, 0xd0, 0x80, 6, 2);
        let set = payload(&port_at(&port, 115_200).unwrap());
        assert_eq!((&set[..8], &set[8..12]), (&port[..8], &115_200u32.to_le_bytes()[..]));
        assert_eq!((set[12], set[14]), (7, 3), "UBX both ways, and the rest as it was");
        port[0] = 3;
        assert_eq!((port_at(&port, 115_200), port_at(&[1], 9600)), (None, None));
    }
}
