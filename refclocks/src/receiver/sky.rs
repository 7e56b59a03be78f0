//! What the receiver sees and says of itself, put together over a cycle from GSA, GSV, GGA and texts, or
//! from UBX messages.

use crate::nmea::Sentence;
use crate::quality::{Failing, Quality};
use crate::report::{Antenna, ComingLeap, Fix, Jamming, ReceiverReport, Spoofing};
use crate::satellite::{Constellation, Satellite};
use crate::time::{Timestamp, Utc};
use crate::ubx::setup::Outcome;
use crate::ubx::{Message, NavTimeLs};

/// Satellites kept of a list, and numbers of satellites used: more than any receiver sees. A line
/// that says the same part of a list for ever must not fill the memory.
const MOST: usize = 64;
/// Lists kept: one of each talker.
const LISTS: usize = 16;
/// Cycles after which what was said of the fix is of another fix: some say it every fifth second only.
const UNSAID: u8 = 20;
/// TAI - GPS, s: for ever.
const TAI_MINUS_GPS: i32 = 19;

/// The sky so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Sky {
    lists: Vec<([u8; 2], Vec<Satellite>)>,
    growing: Vec<Satellite>,
    used: Vec<u16>,
    /// The whole list of a receiver that gives it in one message.
    whole: Vec<Satellite>,
    fix: Option<Fix>,
    satellites_used: Option<u16>,
    used_without_fix: Option<u16>,
    /// Does the receiver know the whole second? `None`: it does not say.
    resolved: Option<bool>,
    tai_minus_utc: Option<i32>,
    /// The coming leap second, if the sky tells of leap seconds at all.
    leap: Option<Option<ComingLeap>>,
    antenna: Option<Antenna>,
    /// By MON-HW or MON-RF, and by SEC-SIG, which knows better.
    jamming: [Option<Jamming>; 2],
    spoofing: [Option<Spoofing>; 2],
    /// What it says of its fix, and for how many cycles it has not.
    quality: Quality,
    unsaid: u8,
    /// The report under construction, and the last one told.
    next: ReceiverReport,
    told: ReceiverReport,
}

impl Sky {
    /// Takes a sentence, whatever it is.
    pub fn push(&mut self, talker: [u8; 2], sentence: &Sentence) {
        match sentence {
            Sentence::Gsa { fix, used, .. } => {
                // One sentence per system; any of them with a fix is a fix.
                self.fix = match (self.fix, *fix) {
                    (Some(old @ (Fix::TwoD | Fix::ThreeD)), Some(Fix::None)) if !self.used.is_empty() => Some(old),
                    (_, new) => new,
                };
                self.used.extend(used.iter().flatten().take(MOST.saturating_sub(self.used.len())));
            }
            Sentence::Gga { satellites, valid, .. } | Sentence::Gns { satellites, valid, .. } => {
                self.satellites_used = *satellites;
                self.used_without_fix = satellites.filter(|_| !valid);
            }
            Sentence::Gsv { part: (parts, part), satellites } => {
                if *part <= 1 {
                    self.growing.clear();
                }
                let room = MOST.saturating_sub(self.growing.len());
                let these = satellites.iter().flatten().take(room);
                self.growing.extend(these.map(|s| Satellite { constellation: system(talker, s.number), ..*s }));
                if part >= parts {
                    if let Some((_, old)) = self.lists.iter_mut().find(|(t, _)| *t == talker) {
                        std::mem::swap(old, &mut self.growing);
                        self.growing.clear();
                    } else if self.lists.len() < LISTS {
                        self.lists.push((talker, std::mem::take(&mut self.growing)));
                    }
                }
            }
            Sentence::Gst { ranges, position } => {
                (self.quality.ranges_m, self.unsaid) = (*ranges, 0);
                self.quality.position_m = *position;
            }
            Sentence::Gbs { position, failing } => {
                self.unsaid = 0;
                // What it expects; GST knows better.
                self.quality.position_m = self.quality.position_m.or(*position);
                self.quality.failing =
                    failing.map(|(number, bias_m)| Failing { constellation: system(talker, number), number, bias_m });
            }
            Sentence::Antenna(antenna) => self.antenna = *antenna,
            Sentence::Pgrmf { valid: true, leap_seconds: Some(leap), .. }
            | Sentence::Pubx04 { leap_seconds: Some(leap), .. } => self.hear_of_gps_minus_utc(i32::from(*leap)),
            _ => {}
        }
    }

    /// Takes a UBX message, whatever it is.
    pub fn push_message(&mut self, message: &Message<'_>) {
        match message {
            Message::NavPvt(m) => {
                self.fix = m.fix;
                self.satellites_used = Some(m.satellites.into());
                self.used_without_fix = (!m.valid).then_some(m.satellites.into());
                let [horizontal, up] = m.position_accuracy.map(|mm| f64::from(mm) * 1e-3);
                if m.valid && horizontal > 0.0 {
                    let each = horizontal * std::f64::consts::FRAC_1_SQRT_2;
                    self.quality.position_m = Some([each, each, up]);
                    self.quality.time_s = Some(f64::from(m.accuracy) * 1e-9);
                    self.unsaid = 0;
                }
            }
            Message::NavTimeGps(m) if m.resolved => self.hear_of_gps_minus_utc(m.leap_seconds.into()),
            Message::NavStatus(m) => {
                self.fix = if m.fix_ok { m.fix } else { Some(Fix::None) };
                self.spoofing[0] = crate::ubx::spoofing(m.spoofing);
            }
            Message::NavSat(m) => {
                self.whole.clear();
                self.whole.extend(m.satellites().take(2 * MOST));
            }
            Message::MonHw(m) => (self.antenna, self.jamming[0]) = (m.antenna, m.jamming),
            Message::MonRf(m) => (self.antenna, self.jamming[0]) = (m.antenna, m.jamming),
            Message::SecSig(m) => (self.jamming[1], self.spoofing[1]) = (m.jamming, m.spoofing),
            _ => {}
        }
    }

    /// What the receiver knows of leap seconds, when it is now so late, as far as that is known.
    pub fn hear_of_leap_seconds(&mut self, m: &NavTimeLs, now: Option<Timestamp<Utc>>) {
        if let Some(leap) = m.leap_seconds {
            self.hear_of_gps_minus_utc(leap.into());
        }
        if let Some(now) = now.filter(|_| m.knows_of_coming) {
            self.leap = Some(m.coming_at(now));
        }
    }

    fn hear_of_gps_minus_utc(&mut self, seconds: i32) {
        // GPS's leap seconds were 0 in 1980 and only grew; what is far off is no count of them.
        if (0..=60).contains(&seconds) {
            self.tai_minus_utc = Some(seconds + TAI_MINUS_GPS);
        }
    }

    /// Whether the receiver knows the whole second, by its own word.
    pub fn hear_of_resolution(&mut self, resolved: bool) {
        self.resolved = Some(resolved);
    }

    /// Does the receiver know the whole second, as far as it has said?
    pub fn is_resolved(&self) -> bool {
        self.resolved != Some(false)
    }

    /// Is there a fix, as far as the receiver has said?
    pub fn has_fix(&self) -> bool {
        self.fix != Some(Fix::None)
    }

    /// TAI - UTC as the receiver has it from the sky, s.
    pub fn tai_minus_utc(&self) -> Option<i32> {
        self.tai_minus_utc
    }

    /// The leap second the receiver announces, or that there is none; `None`: it does not know.
    pub fn coming_leap(&self) -> Option<Option<ComingLeap>> {
        self.leap
    }

    /// How the set-up of the receiver ended, if it did.
    pub fn hear_of_setup(&mut self, outcome: Option<Outcome>) {
        self.next.set_up = outcome;
    }

    /// The cycle is over: what the receiver sees, if it changed.
    pub fn finish_cycle(&mut self) -> Option<ReceiverReport> {
        let satellites = &mut self.next.satellites;
        satellites.clear();
        satellites.extend(&self.whole);
        if self.whole.is_empty() {
            let listed = self.lists.iter().flat_map(|(_, list)| list);
            satellites.extend(listed.map(|s| Satellite { used: self.used.contains(&s.number), ..*s }));
        }
        self.used.clear();
        self.next.quality = self.finish_quality();
        self.next.fix = self.fix;
        self.next.satellites_used = self.satellites_used;
        self.next.tai_minus_utc = self.tai_minus_utc;
        self.next.leap = self.leap.flatten();
        self.next.antenna = self.antenna;
        self.next.jamming = self.jamming[1].or(self.jamming[0]);
        self.next.spoofing = self.spoofing.into_iter().flatten().max();
        if self.next == self.told {
            return None;
        }
        self.told.clone_from(&self.next);
        Some(self.next.clone())
    }

    /// What it says of its fix, as long as it has one and goes on saying so.
    fn finish_quality(&mut self) -> Option<Quality> {
        self.unsaid = self.unsaid.saturating_add(1);
        if self.unsaid > UNSAID {
            self.quality = Quality::default();
        }
        if !self.has_fix() || self.quality == Quality::default() {
            return None;
        }
        self.told.quality.filter(|told| told.is_like(&self.quality)).or(Some(self.quality))
    }

    /// Satellites used when the receiver last said that it has no fix.
    pub fn used_without_fix(&self) -> Option<u16> {
        self.used_without_fix
    }
}

/// Whose satellite: by the talker, or within a GP or GN list by its number.
fn system(talker: [u8; 2], number: u16) -> Constellation {
    match &talker {
        b"GL" => Constellation::Glonass,
        b"GA" => Constellation::Galileo,
        b"GB" | b"BD" => Constellation::BeiDou,
        b"GQ" | b"QZ" => Constellation::Qzss,
        b"GI" => Constellation::NavIc,
        _ => match number {
            1..=32 => Constellation::Gps,
            33..=64 | 120..=158 => Constellation::Sbas,
            65..=96 => Constellation::Glonass,
            193..=200 => Constellation::Qzss,
            201..=261 => Constellation::BeiDou,
            301..=336 => Constellation::Galileo,
            _ => Constellation::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nmea::Parsed;
    use crate::nmea::write::sentence;
    use crate::ubx::{Frame, write};

    #[test]
    fn a_list_without_end_is_cut_off() {
        let mut sky = Sky::default();
        for body in ["GPGSV,9,2,36,05,71,122,47,06,71,122,47", "GPGSA,A,3,05,06,,,,,,,,,,,1.50,0.90,1.20"] {
            let parsed = Parsed::from_bytes(sentence(body).trim_end().as_bytes()).unwrap();
            for _ in 0..1000 {
                sky.push(parsed.talker, &parsed.sentence);
            }
        }
        assert_eq!((sky.growing.len(), sky.used.len()), (MOST, MOST));
    }

    #[test]
    fn what_it_says_of_its_fix_is_told_as_long_as_it_says_so() {
        let mut sky = Sky::default();
        let hear = |sky: &mut Sky, body: &str| {
            let parsed = Parsed::from_bytes(sentence(body).trim_end().as_bytes()).unwrap();
            sky.push(parsed.talker, &parsed.sentence);
        };
        hear(&mut sky, "GPGBS,131528.00,0.8,0.6,1.2,70,,-150.5,3.5");
        hear(&mut sky, "GPGST,131528.00,21,,,,0.70,0.50,1.1");
        let told = sky.finish_cycle().unwrap().quality.unwrap();
        assert_eq!((told.position_m, told.ranges_m), (Some([0.70, 0.50, 1.1]), Some(21.0)));
        let failing = Failing { constellation: Constellation::Glonass, number: 70, bias_m: Some(-150.5) };
        assert_eq!(told.failing, Some(failing));
        hear(&mut sky, "GPGST,131529.00,22,,,,0.75,0.52,1.1");
        assert_eq!(sky.finish_cycle(), None, "no news");
        hear(&mut sky, "GPGST,131530.00,22,,,,4100,3900,9000");
        assert!(sky.finish_cycle().unwrap().quality.unwrap().doubt().is_some_and(|doubt| doubt > 30e-6));
        let last = (0..30).filter_map(|_| sky.finish_cycle()).last();
        assert_eq!(last.unwrap().quality, None);
    }

    #[test]
    fn both_languages_give_one_report() {
        let mut sky = Sky::default();
        let satellite = Satellite {
            constellation: Constellation::Galileo,
            number: 5,
            elevation: Some(30),
            azimuth: Some(120),
            signal: Some(44),
            used: true,
        };
        let mut hardware = [0; 60];
        (hardware[20], hardware[22]) = (3, 2 << 2);
        let messages = [
            write::nav_sat(&[satellite]),
            write::message(0x0a, 0x09, &hardware),
            write::message(0x27, 0x09, &[2, 1 | 3 << 1 | 1 << 3 | 2 << 4, 0, 0]),
            write::nav_timels(18, 0, 0),
        ];
        for bytes in &messages {
            let message = Message::decode(Frame::from_bytes(bytes).unwrap()).unwrap();
            sky.push_message(&message);
            if let Message::NavTimeLs(m) = message {
                sky.hear_of_leap_seconds(&m, None);
            }
        }
        let report = sky.finish_cycle().unwrap();
        assert_eq!(report.satellites, [satellite]);
        assert_eq!(report.antenna, Some(Antenna::Short));
        assert_eq!(report.jamming, Some(Jamming::Critical), "SEC-SIG knows better");
        assert_eq!(report.spoofing, Some(Spoofing::Indicated));
        assert_eq!(report.tai_minus_utc, Some(37));
        assert_eq!(sky.finish_cycle(), None, "nothing changed");
    }
}
