//! Classes MON and SEC: antenna, interference, counterfeit signals.

use super::Payload;
use crate::report::{Antenna, Jamming, Spoofing};

/// MON-HW.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonHw {
    /// The antenna; `None` while the receiver does not know.
    pub antenna: Option<Antenna>,
    /// Interference; `None` where the receiver does not watch for it.
    pub jamming: Option<Jamming>,
    /// Noise, in counts per millisecond.
    pub noise: u16,
    /// Gain of the input, 0 to 8191.
    pub gain: u16,
    /// Strength of a continuous wave, 0 to 255.
    pub wave: u8,
}

impl MonHw {
    pub(super) fn decode(p: Payload<'_>) -> Self {
        // u-blox 6 has 25 virtual pins where later ones have 17.
        let wave = if p.0.len() == 68 { 53 } else { 45 };
        Self {
            antenna: antenna(p.u8(20)),
            jamming: jamming(p.u8(22) >> 2),
            noise: p.u16(16),
            gain: p.u16(18),
            wave: p.u8(wave),
        }
    }
}

/// MON-RF: the worst of its bands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonRf {
    /// The antenna; `None` while the receiver does not know.
    pub antenna: Option<Antenna>,
    /// Interference; `None` where the receiver does not watch for it.
    pub jamming: Option<Jamming>,
}

impl MonRf {
    pub(super) fn decode(p: Payload<'_>) -> Self {
        let bands = || (0..usize::from(p.u8(1))).map(|band| 4 + 24 * band);
        let bad = |a: &Option<Antenna>| matches!(a, Some(Antenna::Open | Antenna::Short));
        let antennas = || bands().map(|at| antenna(p.u8(at + 2)));
        Self {
            antenna: antennas().find(bad).or_else(|| antennas().find(Option::is_some)).flatten(),
            jamming: bands().filter_map(|at| jamming(p.u8(at + 1))).max(),
        }
    }
}

/// SEC-SIG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecSig {
    /// Interference; `None` where the receiver does not watch for it.
    pub jamming: Option<Jamming>,
    /// Counterfeit signals; `None` where the receiver does not watch for them.
    pub spoofing: Option<Spoofing>,
}

impl SecSig {
    pub(super) fn decode(p: Payload<'_>) -> Self {
        let (jam, spoof) = match p.u8(0) {
            1 => (p.u8(4), p.u8(8)),
            // The later version has both in one byte.
            _ => (p.u8(1), p.u8(1) >> 3),
        };
        Self {
            jamming: jamming(jam >> 1).filter(|_| jam & 1 == 1),
            spoofing: spoofing(spoof >> 1 & 7).filter(|_| spoof & 1 == 1),
        }
    }
}

fn antenna(code: u8) -> Option<Antenna> {
    match code {
        2 => Some(Antenna::Ok),
        3 => Some(Antenna::Short),
        4 => Some(Antenna::Open),
        _ => None,
    }
}

/// By the lowest two bits.
fn jamming(code: u8) -> Option<Jamming> {
    match code & 3 {
        1 => Some(Jamming::None),
        2 => Some(Jamming::Warning),
        3 => Some(Jamming::Critical),
        _ => None,
    }
}

pub(crate) fn spoofing(code: u8) -> Option<Spoofing> {
    match code {
        1 => Some(Spoofing::None),
        2 => Some(Spoofing::Indicated),
        3 => Some(Spoofing::Affirmed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn antenna_and_interference() {
        let mut old = [0; 60];
        (old[20], old[22], old[45]) = (4, 3 << 2, 17);
        let hw = MonHw::decode(Payload(&old));
        assert_eq!((hw.antenna, hw.jamming, hw.wave), (Some(Antenna::Open), Some(Jamming::Critical), 17));
        let mut older = [0; 68];
        (older[20], older[53]) = (1, 99);
        let hw = MonHw::decode(Payload(&older));
        assert_eq!((hw.antenna, hw.jamming, hw.wave), (None, None, 99));
    }

    #[test]
    fn the_worst_band_counts() {
        let mut rf = [0; 52];
        rf[1] = 2;
        (rf[5], rf[6]) = (1, 2);
        (rf[29], rf[30]) = (2, 3);
        let said = MonRf::decode(Payload(&rf));
        assert_eq!((said.antenna, said.jamming), (Some(Antenna::Short), Some(Jamming::Warning)));
    }

    #[test]
    fn both_versions_of_sec_sig() {
        let mut first = [0; 12];
        (first[0], first[4], first[8]) = (1, 1 | 3 << 1, 1 | 2 << 1);
        let said = SecSig::decode(Payload(&first));
        assert_eq!((said.jamming, said.spoofing), (Some(Jamming::Critical), Some(Spoofing::Indicated)));
        let second = SecSig::decode(Payload(&[2, 1 | 1 << 1 | 1 << 3 | 3 << 4, 0, 0]));
        assert_eq!((second.jamming, second.spoofing), (Some(Jamming::None), Some(Spoofing::Affirmed)));
        let off = SecSig::decode(Payload(&[2, 3 << 1 | 3 << 4, 0, 0]));
        assert_eq!((off.jamming, off.spoofing), (None, None), "it does not watch");
    }
}
