//! Our parsers and layouts against those of other crates, where those are right.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod outside;

use outside::folder;
use proptest::prelude::*;
use refclocks::Fix;
use refclocks::calendar::{CivilTime, days_in_month};
use refclocks::gpsd::{Message, parse as parse_gpsd};
use refclocks::nmea::{ParseError, Parsed, Sentence, write};

/// Any civil time that both take: the oracle knows no second 60, and a two-digit year is one of 1983
/// to 2082 to it, one of 1980 to 2079 to us.
fn civil() -> impl Strategy<Value = CivilTime> {
    (1983i32..2080, 1u8..=12, 1u8..=31, 0u8..24, 0u8..60, 0u8..60, 0u32..100).prop_map(
        |(year, month, day, hour, minute, second, hundredths)| CivilTime {
            year,
            month,
            day: day.min(days_in_month(year, month)),
            hour,
            minute,
            second,
            nanos: hundredths * 10_000_000,
        },
    )
}

fn talker() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["GP", "GN", "GL", "GA"])
}

fn ours(text: &str) -> Sentence {
    Parsed::from_bytes(text.trim_end().as_bytes()).unwrap().sentence
}

fn theirs(text: &str) -> nmea::ParseResult {
    nmea::parse_str(text).unwrap()
}

/// As a text, so that the test needs no calendar of its own: `2026-01-01T00:00:00.25`.
fn date_and_time(sentence: &Sentence) -> (Option<String>, String) {
    let time = sentence.time().unwrap();
    let date = sentence.date().map(|d| format!("{:04}-{:02}-{:02}", d.year, d.month, d.day));
    // The oracle reads seconds as a float.
    let micros = (time.nanos + 500) / 1000;
    (date, format!("{:02}:{:02}:{:02}.{micros:06}", time.hour, time.minute, time.second))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rmc_agrees(at in civil(), talker in talker(), valid in any::<bool>()) {
        let text = write::rmc(talker, &at, valid);
        let nmea::ParseResult::RMC(rmc) = theirs(&text) else { panic!("{text}") };
        let ours = ours(&text);
        let (date, time) = date_and_time(&ours);
        prop_assert_eq!(date, rmc.fix_date.map(|d| d.to_string()));
        prop_assert_eq!(Some(time), rmc.fix_time.map(|t| t.format("%H:%M:%S%.6f").to_string()));
        let fixed = rmc.status_of_fix != nmea::sentences::rmc::RmcStatusOfFix::Invalid;
        prop_assert_eq!(ours.valid(), Some(fixed));
    }

    #[test]
    fn zda_agrees(at in civil(), talker in talker()) {
        let text = write::zda(talker, &at);
        let nmea::ParseResult::ZDA(zda) = theirs(&text) else { panic!("{text}") };
        let (date, time) = date_and_time(&ours(&text));
        prop_assert_eq!(date, zda.utc_date().map(|d| d.to_string()));
        prop_assert_eq!(Some(time), zda.utc_time.map(|t| t.format("%H:%M:%S%.6f").to_string()));
    }

    #[test]
    fn gga_agrees(at in civil(), talker in talker(), valid in any::<bool>(), used in 0u16..40) {
        let text = write::gga(talker, &at, valid, used);
        let nmea::ParseResult::GGA(gga) = theirs(&text) else { panic!("{text}") };
        let ours = ours(&text);
        prop_assert_eq!(Some(date_and_time(&ours).1), gga.fix_time.map(|t| t.format("%H:%M:%S%.6f").to_string()));
        prop_assert_eq!(ours.valid(), gga.fix_type.map(|f| f.is_valid()));
        let Sentence::Gga { satellites, .. } = ours else { panic!("{text}") };
        prop_assert_eq!(satellites.map(u32::from), gga.fix_satellites);
    }

    #[test]
    fn a_damaged_sentence_is_refused_by_both(at in civil(), place in 1usize..40, bit in 0u8..7) {
        let text = write::rmc("GP", &at, true);
        let mut bytes = text.trim_end().as_bytes().to_vec();
        bytes[place] ^= 1 << bit;
        prop_assert!(Parsed::from_bytes(&bytes).is_err());
        prop_assert!(nmea::parse_bytes(&bytes).is_err());
    }
}

/// What the oracle gets wrong is why it is one only.
#[test]
fn the_oracle_knows_no_leap_second() {
    for body in ["GPRMC,235960.00,A,,,,,,,311216,,,A", "GPZDA,235960.00,31,12,2016,00,00"] {
        let text = write::sentence(body);
        assert_eq!(ours(&text).time().map(|t| t.second), Some(60));
        let second60 = match nmea::parse_str(&text) {
            Ok(nmea::ParseResult::RMC(rmc)) => rmc.fix_time.is_some(),
            Ok(nmea::ParseResult::ZDA(zda)) => zda.utc_time.is_some(),
            _ => false,
        };
        assert!(!second60, "{body}: it does now; test against it here as well");
    }
}

/// Every sentence of the captures that both take says the same to both.
#[test]
fn captures_agree() {
    let Some(folder) = folder("REFCLOCKD_CAPTURES") else { return };
    let (mut compared, mut only_ours, mut skies) = (0, 0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.extension().is_some_and(|e| e == "log" || e == "nmea") {
            continue;
        }
        for line in std::fs::read(&path).unwrap().split(|b| *b == b'\n') {
            let line = line.trim_ascii_end();
            let (ours, theirs) = (Parsed::from_bytes(line), nmea::parse_bytes(line));
            let shown = String::from_utf8_lossy(line);
            let (date, time) = match theirs {
                Ok(nmea::ParseResult::RMC(rmc)) => (Some(rmc.fix_date), rmc.fix_time),
                Ok(nmea::ParseResult::ZDA(zda)) => (Some(zda.utc_date()), zda.utc_time),
                Ok(nmea::ParseResult::GGA(gga)) => (None, gga.fix_time),
                Ok(nmea::ParseResult::GLL(gll)) => (None, gll.fix_time),
                Ok(nmea::ParseResult::GNS(gns)) => (None, gns.fix_time),
                Ok(nmea::ParseResult::GSA(theirs)) => {
                    if let Ok(Parsed { sentence: Sentence::Gsa { fix, used, .. }, .. }) = ours {
                        let mode = match theirs.mode2 {
                            nmea::sentences::gsa::GsaMode2::NoFix => Fix::None,
                            nmea::sentences::gsa::GsaMode2::Fix2D => Fix::TwoD,
                            nmea::sentences::gsa::GsaMode2::Fix3D => Fix::ThreeD,
                        };
                        assert_eq!(fix, Some(mode), "{shown}");
                        let ours: Vec<u32> = used.iter().flatten().map(|n| u32::from(*n)).collect();
                        assert_eq!(ours, theirs.fix_sats_prn.as_slice(), "{}: {shown}", path.display());
                        skies += 1;
                    }
                    continue;
                }
                Ok(nmea::ParseResult::GSV(theirs)) => {
                    if let Ok(Parsed { sentence: Sentence::Gsv { part, satellites }, .. }) = ours {
                        assert_eq!(
                            (u16::from(part.0), u16::from(part.1)),
                            (theirs.number_of_sentences, theirs.sentence_num),
                            "{shown}"
                        );
                        let known =
                            |s: &nmea::Satellite| (s.prn(), s.elevation().map(|e| e as i8), s.snr().map(|s| s as u8));
                        let theirs: Vec<_> = theirs.sats_info.iter().flatten().map(known).collect();
                        let ours: Vec<_> =
                            satellites.iter().flatten().map(|s| (u32::from(s.number), s.elevation, s.signal)).collect();
                        assert_eq!(ours, theirs, "{}: {shown}", path.display());
                        skies += 1;
                    }
                    continue;
                }
                Ok(_) => continue,
                Err(_) => {
                    only_ours += u32::from(ours.is_ok_and(|p| p.sentence.time().is_some()));
                    continue;
                }
            };
            // It does without a checksum, which we do not.
            let Ok(parsed) = ours else {
                assert_eq!(ours, Err(ParseError::NoChecksum), "{}: {shown}", path.display());
                continue;
            };
            let Some(time) = time else { continue };
            let (our_date, our_time) = date_and_time(&parsed.sentence);
            assert_eq!(our_time, time.format("%H:%M:%S%.6f").to_string(), "{}: {shown}", path.display());
            // Of the years that stand for a lost week, 80 and 99, it makes others than we do.
            if let Some(Some(date)) = date
                && date.to_string().as_str() < "2080"
                && date.to_string().starts_with("20")
            {
                assert_eq!(our_date, Some(date.to_string()), "{}: {shown}", path.display());
            }
            compared += 1;
        }
    }
    println!("{compared} sentences with a time and {skies} of the sky agree; {only_ours} are read by us only");
    assert!(compared > 900);
}

/// What gpsd's recordings say, read by both.
#[test]
fn gpsd_recordings_agree() {
    let Some(folder) = folder("REFCLOCKD_GPSD_RECORDINGS") else { return };
    let (mut tpv, mut sky, mut pps) = (0, 0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let Ok(ours) = parse_gpsd(line.as_bytes()) else { continue };
            match (ours, serde_json::from_str::<gpsd_proto::UnifiedResponse>(line)) {
                (Message::Tpv(ours), Ok(gpsd_proto::UnifiedResponse::Tpv(theirs))) => {
                    let mode = match theirs.mode {
                        gpsd_proto::Mode::Fix2d => 2,
                        gpsd_proto::Mode::Fix3d => 3,
                        gpsd_proto::Mode::NoFix => ours.mode.min(1),
                    };
                    assert_eq!(ours.mode, mode, "{line}");
                    assert_eq!(ours.time, theirs.time, "{line}");
                    assert_eq!(ours.leapseconds, theirs.leapseconds.map(i64::from), "{line}");
                    assert_eq!(ours.device, theirs.device.unwrap_or_default(), "{line}");
                    tpv += 1;
                }
                (Message::Sky(ours), Ok(gpsd_proto::UnifiedResponse::Sky(theirs))) => {
                    let ours: Option<Vec<_>> = ours.satellites.map(|list| {
                        let float = |v: Option<f64>| v.map(|v| v as f32);
                        let one = list.iter();
                        one.map(|s| (s.prn, float(s.el), float(s.az), float(s.ss), s.used, s.gnssid, s.svid)).collect()
                    });
                    let theirs: Option<Vec<_>> = theirs.satellites.map(|list| {
                        let one = list.iter().map(|s| {
                            let (gnss, number) = (s.gnssid.map(i64::from), s.svid.map(i64::from));
                            (Some(i64::from(s.prn)), s.el, s.az, s.ss, s.used, gnss, number)
                        });
                        one.collect()
                    });
                    assert_eq!(ours, theirs, "{line}");
                    sky += 1;
                }
                (Message::Pps(ours), Ok(gpsd_proto::UnifiedResponse::Pps(theirs))) => {
                    // Its floats hold 24 bits; ours must be what they were rounded from.
                    let rounded = [ours.real_sec, ours.real_nsec, ours.clock_sec, ours.clock_nsec].map(|v| v as f32);
                    let floats = [theirs.real_sec, theirs.real_nsec, theirs.clock_sec, theirs.clock_nsec];
                    assert_eq!(rounded, floats, "{line}");
                    pps += 1;
                }
                // It has no TOFF; that it refuses some of the rest is why it is an oracle only.
                _ => {}
            }
        }
    }
    println!("{tpv} TPV, {sky} SKY and {pps} PPS objects agree");
    assert!(tpv > 100 && sky > 50 && pps > 20, "{tpv} {sky} {pps}");
}
