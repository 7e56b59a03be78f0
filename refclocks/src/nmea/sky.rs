//! What the receiver sees, put together from GSA, GSV, GGA and TXT over a cycle.

use super::sentence::Sentence;
use crate::report::{Constellation, Fix, ReceiverReport, Satellite};

/// Satellites kept of a list, and numbers of satellites used: more than any receiver sees. A line
/// that says the same part of a list for ever must not fill the memory.
const MOST: usize = 64;

/// The sky so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Sky {
    lists: Vec<([u8; 2], Vec<Satellite>)>,
    growing: Vec<Satellite>,
    used: Vec<u16>,
    fix: Option<Fix>,
    satellites_used: Option<u16>,
    used_without_fix: Option<u16>,
    antenna: Option<String>,
    told: Option<ReceiverReport>,
}

impl Sky {
    /// Takes a sentence, whatever it is.
    pub(super) fn push(&mut self, talker: [u8; 2], sentence: &Sentence) {
        match sentence {
            Sentence::Gsa { fix, used, .. } => {
                // One sentence per system; any of them with a fix is a fix.
                self.fix = match (self.fix, *fix) {
                    (Some(old @ (Fix::TwoD | Fix::ThreeD)), Some(Fix::None)) if !self.used.is_empty() => Some(old),
                    (_, new) => new,
                };
                self.used.extend(used.iter().take(MOST.saturating_sub(self.used.len())));
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
                let these = satellites.iter().take(room);
                self.growing.extend(these.map(|s| Satellite { constellation: system(talker, s.number), ..*s }));
                if part >= parts {
                    let list = std::mem::take(&mut self.growing);
                    if let Some((_, old)) = self.lists.iter_mut().find(|(t, _)| *t == talker) {
                        *old = list;
                    } else if self.lists.len() < 16 {
                        self.lists.push((talker, list));
                    }
                }
            }
            Sentence::Txt(text) if text.contains("ANTSTATUS") => self.antenna = Some(text.clone()),
            _ => {}
        }
    }

    /// The cycle is over: what the receiver sees, if it changed.
    pub(super) fn finish_cycle(&mut self) -> Option<ReceiverReport> {
        let used = std::mem::take(&mut self.used);
        let satellites: Vec<Satellite> = self
            .lists
            .iter()
            .flat_map(|(_, list)| list)
            .map(|s| Satellite { used: used.contains(&s.number), ..*s })
            .collect();
        let report = ReceiverReport {
            fix: self.fix,
            satellites_used: self.satellites_used,
            satellites,
            tai_minus_utc: None,
            antenna: self.antenna.clone(),
        };
        if self.told.as_ref() == Some(&report) || report == ReceiverReport::default() {
            return None;
        }
        self.told = Some(report.clone());
        Some(report)
    }

    /// Satellites used when the receiver last said that it has no fix.
    pub(super) fn used_without_fix(&self) -> Option<u16> {
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
}
