//! NAV-SAT: the satellites in view.

use super::Payload;
use crate::satellite::{Constellation, Satellite};

/// NAV-SAT; its length was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NavSat<'a>(&'a [u8]);

impl<'a> NavSat<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    /// The satellites.
    pub fn satellites(self) -> impl Iterator<Item = Satellite> + 'a {
        let (blocks, _) = self.0.get(8..).unwrap_or_default().as_chunks::<12>();
        blocks.iter().map(|block| {
            let p = Payload(block);
            let (elevation, azimuth, signal) = (p.i8(3), p.i16(4), p.u8(2));
            // An elevation beyond 90 degrees means that it is not known where the satellite is.
            let known = (-90..=90).contains(&elevation);
            Satellite {
                constellation: system(p.u8(0)),
                number: p.u8(1).into(),
                elevation: known.then_some(elevation),
                azimuth: u16::try_from(azimuth).ok().filter(|a| known && *a <= 360),
                signal: (signal > 0).then_some(signal),
                used: p.bit(8, 3),
            }
        })
    }
}

/// u-blox's gnssId.
fn system(code: u8) -> Constellation {
    match code {
        0 => Constellation::Gps,
        1 => Constellation::Sbas,
        2 => Constellation::Galileo,
        3 => Constellation::BeiDou,
        5 => Constellation::Qzss,
        6 => Constellation::Glonass,
        7 => Constellation::NavIc,
        _ => Constellation::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ubx::{Frame, Message, write};

    #[test]
    fn satellites_come_back() {
        let satellite = |number, elevation: Option<i8>, used| Satellite {
            constellation: Constellation::Galileo,
            number,
            elevation,
            azimuth: elevation.map(|_| 359),
            signal: Some(42),
            used,
        };
        let sent = [satellite(5, Some(-3), true), satellite(36, None, false)];
        let bytes = write::nav_sat(&sent);
        let Ok(Message::NavSat(sat)) = Message::decode(Frame::from_bytes(&bytes).unwrap()) else { panic!() };
        assert_eq!(sat.satellites().collect::<Vec<_>>(), sent);
    }
}
