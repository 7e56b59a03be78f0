//! Receivers' habits: how they name leap seconds, repeat themselves, speak before they know, and err.

use super::*;
use crate::calendar::CivilTime;
use crate::calendar::parse_iso8601;
use crate::nmea::write;
use crate::receiver::{Checksums, SawtoothUse};
use crate::report::{ComingLeap, Fix, LeapIndicator, Remark, Sample};
use crate::time::{Span, Utc};
use crate::ubx::setup::tests::simulated_ublox::Receiver;
use crate::ubx::setup::{Outcome, Wishes};
use crate::ubx::write as ubx_write;

const BUILT: &str = "2025-07-01T00:00:00Z";
const ONE_SECOND: Span = Span::from_whole_seconds(1);

fn utc(text: &str) -> Timestamp<Utc> {
    parse_iso8601(text).unwrap().0
}

fn civil(text: &str, plus: i64) -> CivilTime {
    CivilTime::from_utc(utc(text) + Span::from_whole_seconds(plus))
}

/// A driver, and when its next second begins.
struct Line {
    driver: Driver,
    now: Timestamp<Raw>,
}

impl Line {
    fn new(config: Config) -> Self {
        Self { driver: Driver::new(config), now: Timestamp::from_parts(1000, 0) }
    }

    fn built() -> Self {
        Self::new(Config { not_before: utc(BUILT), ..Config::default() })
    }

    /// One cycle's bytes, which come at once; then so much time passes. Returns the samples.
    fn says_for(&mut self, bytes: &[u8], time: Span) -> Vec<Sample> {
        self.driver.handle_bytes(bytes, self.now);
        self.now += time;
        let reports = std::iter::from_fn(|| self.driver.poll_report());
        reports.filter_map(|r| if let Report::Sample(s) = r { Some(s) } else { None }).collect()
    }

    fn says(&mut self, bytes: impl AsRef<[u8]>) -> Vec<String> {
        let samples = self.says_for(bytes.as_ref(), Span::from_whole_seconds(1));
        samples.iter().map(|s| super::super::utc_in_words(s.reference, s.second60)).collect()
    }

    fn phase(&self) -> Option<DevicePhase> {
        self.driver.mind.phase()
    }
}

/// Sentences given as bodies.
fn sentences(bodies: &[&str]) -> String {
    bodies.iter().map(|body| write::sentence(body)).collect()
}

#[test]
fn a_leap_second_by_any_name_gives_no_wrong_second() {
    let names = |at: &[(&str, &str)]| {
        let mut line = Line::new(Config { not_before: utc("2016-01-01T00:00:00Z"), ..Config::default() });
        let each = at.iter().map(|(date, time)| line.says(sentences(&[&format!("GPRMC,{time},A,,,,,,,{date},,,A")])));
        each.map(|mut samples| samples.pop().unwrap_or_default()).collect::<Vec<_>>()
    };
    let day = |times: &[&'static str]| times.iter().map(|t| ("311216", *t)).collect::<Vec<_>>();
    let after = [("010117", "000000"), ("010117", "000001"), ("010117", "000002")];
    let first = ["", "", "2016-12-31T23:59:58.000Z", "2016-12-31T23:59:59.000Z"];
    let usual = day(&["235956", "235957", "235958", "235959"]);

    let sixty = [usual.clone(), day(&["235960"]), after.to_vec()].concat();
    let told = ["2016-12-31T23:59:60.000Z", "", "2017-01-01T00:00:01.000Z", "2017-01-01T00:00:02.000Z"];
    assert_eq!(names(&sixty), [first, told].concat());
    // The second 59 that is really 60 is taken for a repetition.
    let twice_59 = [usual.clone(), day(&["235959"]), after.to_vec()].concat();
    let told = ["", "", "2017-01-01T00:00:01.000Z", "2017-01-01T00:00:02.000Z"];
    assert_eq!(names(&twice_59), [first, told].concat());
    // The second 0 that is really 60 is not used.
    let twice_00 = [usual, after[..1].to_vec(), after.to_vec()].concat();
    assert_eq!(names(&twice_00), [first, told].concat());
}

#[test]
fn ten_cycles_a_second_each_give_a_sample_and_a_repeated_second_starts_anew() {
    let mut line = Line::built();
    let mut samples = Vec::new();
    // Ten receivers' cycles of each second, the second 3 twice.
    for second in [1, 2, 3, 3, 4, 5] {
        for tenth in 0..10u32 {
            let at = CivilTime { nanos: tenth * 100_000_000, ..civil("2026-01-01T12:00:00Z", second) };
            let bytes = write::rmc("GN", &at, true) + &write::gga("GN", &at, true, 9);
            samples.extend(line.says_for(bytes.as_bytes(), Span::from_millis(100)));
        }
    }
    // Two cycles are waited out at the beginning and after the jump back.
    assert_eq!(samples.len(), 60 - 2 - 2);
    assert_eq!(samples[1].reference, utc("2026-01-01T12:00:01.3Z"));
}

#[test]
fn several_talkers_in_one_stream_give_one_sample_a_cycle() {
    let mut line = Line::built();
    let mut samples = Vec::new();
    for k in 0..10 {
        let at = civil("2026-01-01T12:00:00Z", k);
        let each = ["GP", "GN", "GA"].map(|talker| write::gga(talker, &at, true, 9) + &write::rmc(talker, &at, true));
        samples.extend(line.says(each.concat()));
    }
    assert_eq!(samples.len(), 8);
    assert_eq!(line.driver.mind.health.stale, 0);
}

#[test]
fn before_the_fix_there_is_no_time_unless_it_is_asked_for() {
    let story = |k: i64| match k {
        0 | 1 => sentences(&["GNRMC,,V,,,,,,,,,,N", "GNGGA,,,,,,0,00,99.99,,,,,,", "GNZDA,,,,,00,00"]),
        // Its own clock's time, with no fix.
        2..6 => {
            write::rmc("GN", &civil("2026-01-01T12:00:00Z", k), false)
                + &write::zda("GN", &civil("2026-01-01T12:00:00Z", k))
        }
        _ => write::rmc("GN", &civil("2026-01-01T12:00:00Z", k), true),
    };
    let mut line = Line::built();
    let given: Vec<usize> = (0..10).map(|k| line.says(story(k)).len()).collect();
    assert_eq!(given, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    let mut line = Line::new(Config { without_fix: true, ..line.driver.mind.config });
    let given: Vec<usize> = (0..10).map(|k| line.says(story(k)).len()).collect();
    assert_eq!(given, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn a_date_without_a_word_on_validity_needs_one_from_elsewhere() {
    let zda = |k| write::zda("GP", &civil("2026-01-01T12:00:00Z", k));
    let mut line = Line::built();
    assert!((0..6).all(|k| line.says(zda(k)).is_empty()), "nobody says that it is valid");
    let mut line = Line::built();
    let samples: Vec<String> = (0..6).flat_map(|k| line.says(write::gsa("GP", 3, &[5]) + &zda(k))).collect();
    assert_eq!(samples.len(), 4, "GSA says that there is a fix");
    assert!(line.says(write::gsa("GP", 1, &[]) + &zda(6)).is_empty(), "and that there is none");
    // Two seconds ahead of the rest, as some firmware sends it, it does not disturb.
    let mut line = Line::built();
    let samples: Vec<String> = (0..6)
        .flat_map(|k| line.says(write::rmc("GP", &civil("2026-01-01T12:00:00Z", k), true) + &zda(k + 2)))
        .collect();
    assert_eq!(samples.first().map(String::as_str), Some("2026-01-01T12:00:02.000Z"));
    assert_eq!(samples.len(), 4);
}

#[test]
fn checksums_by_policy() {
    let bare = |k| format!("$GPRMC,1200{k:02},A,,,,,,,010126,,\r\n");
    let count = |checksums, first: &str| {
        let mut line = Line::new(Config { not_before: utc(BUILT), checksums, ..Config::default() });
        line.says(first);
        (0..6).map(|k| line.says(bare(k)).len()).sum::<usize>()
    };
    let checked = write::sentence("GPGSA,A,3,05,,,,,,,,,,,,1.5,0.9,1.2");
    assert_eq!(count(Checksums::Auto, ""), 4);
    assert_eq!(count(Checksums::Auto, &checked), 0, "this receiver has checksums");
    assert_eq!(count(Checksums::Required, ""), 0);
    assert_eq!(count(Checksums::Optional, &checked), 4);
    let wrong = "$GPRMC,120000,A,,,,,,,010126,,*00\r\n";
    let mut line = Line::new(Config { checksums: Checksums::Optional, ..Config::default() });
    assert!((0..6).all(|_| line.says(wrong).is_empty()), "a wrong one never counts");
    let sentence = write::sentence("GPRMC,120003,A,,,,,,,010126,,,A");
    let (body, checksum) = sentence.split_at(sentence.len() - 4);
    let mut line = Line::built();
    line.says(body.to_owned() + &checksum.to_lowercase());
    assert_eq!(line.driver.mind.health.frames, 1);
}

#[test]
fn a_packet_that_cuts_into_a_sentence_costs_that_one_only() {
    let mut line = Line::built();
    let mut samples = 0;
    for k in 0..20 {
        let sentence = write::rmc("GP", &civil("2026-01-01T12:00:00Z", k), true);
        let (head, tail) = sentence.split_at(if k % 5 == 4 { 20 } else { sentence.len() });
        let cut = if tail.is_empty() { String::new() } else { write::sentence("PTNTA,1,2,3") };
        samples += line.says(format!("{head}{cut}{tail}")).len();
    }
    // After each that is lost one more is waited out.
    assert_eq!(samples, 20 - 4 - 3 - 2);
}

#[test]
fn accord_s_gps_time_of_the_next_pulse_becomes_utc_of_the_last() {
    let mut line = Line::built();
    // 12:00:18 GPS is 12:00:00 UTC, and that pulse is to come.
    let zdg = |k| sentences(&[&format!("GPZDG,12{:02}{:02}.0,01,01,2026,AA.BB,2", (18 + k) / 60, (18 + k) % 60)]);
    let samples: Vec<String> = (0..4).flat_map(|k| line.says(zdg(k))).collect();
    assert_eq!(samples, ["2026-01-01T12:00:01.000Z", "2026-01-01T12:00:02.000Z"]);
}

#[test]
fn dates_that_cannot_be_are_repaired_or_refused() {
    let says = |date: &str| {
        let mut line = Line::built();
        let rmc = |k| sentences(&[&format!("GPRMC,12000{k},A,,,,,,,{date},,,A")]);
        let given: Vec<String> = (0..3).flat_map(|k| line.says(rmc(k))).collect();
        let repaired = line.driver.health().rollover_repaired;
        (given.first().map(|t| t[..10].to_owned()), repaired, line.phase())
    };
    let good = Some(DevicePhase::Good);
    let day = |text: &str| Some(text.to_owned());
    assert_eq!(says("010126"), (day("2026-01-01"), 0, good));
    assert_eq!(says("180506"), (day("2026-01-01"), 3, good), "1024 weeks ago");
    assert_eq!(says("021086"), (day("2026-01-01"), 3, good), "2048 weeks ago");
    assert_eq!(says("170845"), (day("2026-01-01"), 3, good), "as gpsd adds them");
    // Week 0 as april6_2019.log has it: the next time that it can be, not 2019.
    assert_eq!(says("220899"), (day("2038-11-21"), 3, good));
    assert_eq!(says("2208-1"), (None, 0, None), "malformed");
    assert_eq!(says("310226"), (None, 0, None), "no such day");
    // The last good time moves the end of what can be.
    let fold = |last_good| {
        let mut line = Line::new(Config { not_before: utc(BUILT), last_good: utc(last_good), ..Config::default() });
        let rmc = |k| {
            sentences(&[&format!("GPZDA,12000{k},01,03,2046,00,00",), &format!("GPRMC,12000{k},A,,,,,,,010346,,,A")])
        };
        (0..3).flat_map(|k| line.says(rmc(k))).next()
    };
    assert_eq!(fold(BUILT).as_deref(), Some("2026-07-16T12:00:02.000Z"));
    assert_eq!(fold("2046-02-28T00:00:00Z").as_deref(), Some("2046-03-01T12:00:02.000Z"));
}

#[test]
fn a_malformed_date_is_not_borrowed_for() {
    let mut line = Line::built();
    for k in 0..4 {
        line.says(write::rmc("GP", &civil("2026-01-01T23:59:57Z", k), true));
    }
    // The date of its sentence is lost, so the sentence names nothing; one that never has a date does.
    assert!(line.says(sentences(&["GPRMC,000001,A,,,,,,,2208-1,,,A"])).is_empty());
    let heard = |line: &mut Line, bytes: String| {
        let mut utc = None;
        line.driver.handle_bytes_telling(bytes.as_bytes(), line.now, |h| utc = h.utc);
        utc
    };
    assert_eq!(heard(&mut line, sentences(&["GPRMC,000002,A,,,,,,,,,,A"])), Some(utc("2026-01-02T00:00:02Z")));
    assert_eq!(
        heard(&mut line, write::gga("GP", &civil("2026-01-02T00:00:02Z", 0), true, 8)),
        Some(utc("2026-01-02T00:00:02Z"))
    );
}

#[test]
fn ubx_alone_and_among_nmea() {
    let second = |k| ubx_write::nav_pvt(&civil("2026-01-01T12:00:00Z", k), -123, true);
    let mut line = Line::built();
    let samples: Vec<Sample> = (0..5).flat_map(|k| line.says_for(&second(k), ONE_SECOND)).collect();
    assert_eq!(samples.len(), 3);
    assert_eq!(samples[0].reference, utc("2026-01-01T12:00:02Z") - Span::from_nanos(123));
    assert_eq!(line.driver.mind.sky.has_fix().then_some(Fix::ThreeD), Some(Fix::ThreeD));

    // NMEA comes first and may carry the time; not with driver `ubx`.
    let both = |k| [write::rmc("GN", &civil("2026-01-01T12:00:00Z", k), true).into_bytes(), second(k)].concat();
    for only_ubx in [false, true] {
        let mut line = Line::new(Config { not_before: utc(BUILT), only_ubx, ..Config::default() });
        let samples: Vec<Sample> = (0..5).flat_map(|k| line.says_for(&both(k), ONE_SECOND)).collect();
        let exact = samples.iter().filter(|s| s.reference.to_parts().1 != 0).count();
        assert_eq!((samples.len(), exact), (3, if only_ubx { 3 } else { 0 }));
    }
}

#[test]
fn while_ubx_says_that_the_second_is_not_known_nmea_is_not_believed_either() {
    let mut line = Line::built();
    let mut given = Vec::new();
    for k in 0..12 {
        let at = civil("2026-01-01T12:00:00Z", k);
        let mut pvt = ubx_write::nav_pvt(&at, 0, true);
        if k < 5 {
            // Date and time, not fully resolved.
            pvt[6 + 11] = 0xf3;
            pvt = ubx_write::message(1, 7, &pvt[6..98]);
        }
        given.push(line.says([write::rmc("GN", &at, true).into_bytes(), pvt].concat()).len());
    }
    // The first sentence comes before UBX has said anything.
    assert_eq!(given, [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
}

#[test]
fn a_coming_leap_second_is_told_with_the_samples_and_with_the_sky() {
    let mut line = Line::built();
    let mut reports = Vec::new();
    for k in 0..6 {
        let at = civil("2026-12-31T12:00:00Z", k);
        let ls = ubx_write::nav_timels(18, i8::from(k >= 2), 12 * 3600 - k as i32);
        line.driver.handle_bytes(&[ubx_write::nav_pvt(&at, 0, true), ls].concat(), line.now);
        line.now += ONE_SECOND;
        reports.extend(std::iter::from_fn(|| line.driver.poll_report()));
    }
    let said: Vec<_> =
        reports.iter().filter_map(|r| if let Report::Sample(s) = r { Some(s.leap) } else { None }).collect();
    let insert = Some(LeapIndicator::Insert);
    assert_eq!(said, [None, insert, insert, insert], "it counts from a sample on");
    let mut skies = reports.iter().filter_map(|r| if let Report::Receiver(r) = r { Some(r) } else { None });
    let last = skies.next_back().unwrap();
    assert_eq!(last.leap, Some(ComingLeap { at: utc("2027-01-01T00:00:00Z"), change: 1 }));
    assert_eq!(last.tai_minus_utc, Some(37));
}

/// Lets a receiver answer what it is sent, as long as something is sent.
fn answer(line: &mut Line, receiver: &mut Receiver) -> usize {
    let mut sent = 0;
    while let Some(bytes) = line.driver.poll_transmit() {
        sent += 1;
        let answers = if line.driver.mind.config.baud.is_none_or(|b| b == receiver.baud) {
            receiver.hears(&bytes)
        } else {
            vec![]
        };
        answers.iter().for_each(|answer| line.driver.handle_bytes(answer, line.now));
    }
    sent
}

#[test]
fn a_receiver_is_set_up_only_if_that_is_asked_for() {
    let second = |k| ubx_write::nav_pvt(&civil("2026-01-01T12:00:00Z", k), 0, true);
    let mut line = Line::built();
    line.says(second(0));
    assert_eq!(line.driver.poll_transmit(), None, "nothing is ever sent");
    let mut line = Line::new(Config { configure: Some(Wishes::default()), ..Config::default() });
    assert_eq!(line.driver.poll_transmit(), None, "the speed may be wrong");
    line.says(second(0));
    let mut receiver = Receiver::new(18);
    receiver.lacks = vec![256 + 0x35];
    // The version and the port; each setting asked for, set, and asked for again, but the one it does not have.
    assert_eq!(answer(&mut line, &mut receiver), 2 + 3 * 8 - 1);
    let reports: Vec<Report> = std::iter::from_fn(|| line.driver.poll_report()).collect();
    let [Report::Remark(remark)] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!(remark.to_string(), "setting up the receiver: it is set up but for NAV-SAT (refused)");
    let mut told = None;
    for k in 1..6 {
        line.driver.handle_bytes(&second(k), line.now);
        line.now += ONE_SECOND;
        told = std::iter::from_fn(|| line.driver.poll_report()).fold(told, |told, r| match r {
            Report::Receiver(r) => r.set_up,
            _ => told,
        });
    }
    let Some(Outcome::Done(not_taken)) = told else { panic!("{told:?}") };
    assert_eq!((not_taken.len(), not_taken[0].subject.as_str(), not_taken[0].extra), (1, "NAV-SAT", true));
}

#[test]
fn a_receiver_that_was_restarted_is_set_up_again() {
    let rmc = |k| write::rmc("GP", &civil("2026-01-01T12:00:00Z", k), true).into_bytes();
    let mut line = Line::new(Config { configure: Some(Wishes::default()), ..Config::default() });
    let mut receiver = Receiver::new(27);
    let mut sent = Vec::new();
    for k in 0..60 {
        line.says(rmc(k));
        // From second 20 on it has forgotten that it was to send messages.
        if (1..20).contains(&k) {
            line.says_for(&ubx_write::nav_pvt(&civil("2026-01-01T12:00:00Z", k), 0, true), Span::ZERO);
        }
        if k == 20 {
            receiver = Receiver::new(27);
        }
        if answer(&mut line, &mut receiver) > 0 {
            sent.push(k);
        }
    }
    assert_eq!(sent, [0, 31, 43, 55], "once, and as long as it does not speak");
}

#[test]
fn the_line_follows_the_receiver_to_its_new_speed() {
    let wishes = Wishes { baud: Some(115_200), timing: None };
    let mut line = Line::new(Config { baud: Some(9600), configure: Some(wishes), ..Config::default() });
    let mut receiver = Receiver::new(18);
    line.says(write::rmc("GP", &civil("2026-01-01T12:00:00Z", 0), true));
    let mut speeds = Vec::new();
    for _ in 0..100 {
        answer(&mut line, &mut receiver);
        speeds.extend(line.driver.poll_speed());
        let Some(due) = line.driver.mind.setup.as_ref().and_then(Setup::poll_timeout) else { break };
        line.now = line.now.max(due);
        line.driver.handle_timeout(line.now);
        // What comes in between, at another speed, makes no sense; that is not the receiver's fault.
        if line.driver.mind.config.baud != Some(receiver.baud) {
            line.driver.handle_bytes(&[0xf0; 500], line.now);
        }
        assert_ne!(line.phase(), Some(DevicePhase::Faulty));
    }
    assert_eq!((speeds, receiver.baud), (vec![115_200], 115_200));
    let remarks: Vec<Report> = std::iter::from_fn(|| line.driver.poll_report()).collect();
    assert!(remarks.iter().any(|r| matches!(r, Report::Remark(Remark::Granted { .. }))), "{remarks:?}");
}

#[test]
fn the_sawtooth_is_told_with_the_second_it_belongs_to() {
    let mut line = Line::built();
    line.driver.handle_bytes(&ubx_write::tim_tp(2399, 1000, -4331), line.now);
    let Some(Report::Sawtooth(told)) = line.driver.poll_report() else { panic!() };
    assert_eq!((told.error_ps, told.sign), (-4331, None));
    // Week 2399 of GPS began on 2025-12-28; a second of it is over, and TAI is 19 s ahead of GPS.
    assert_eq!(told.pulse.map(|tai| tai.reinterpret()), Some(utc("2025-12-28T00:00:20Z")));
    let mut line = Line::new(Config { sawtooth: SawtoothUse::Off, ..Config::default() });
    line.driver.handle_bytes(&ubx_write::tim_tp(2399, 1000, -4331), line.now);
    assert_eq!(line.driver.poll_report(), None);
}
