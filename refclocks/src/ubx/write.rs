//! The writer: the decoders' inverse, for the simulation, the tests and the set-up of receivers.

use super::{SYNC_1, SYNC_2, checksum};
use crate::calendar::CivilTime;
use crate::satellite::{Constellation, Satellite};

/// Puts sync, length and checksum around a payload. One that is too long for a message is cut off.
pub fn message(class: u8, id: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let payload = payload.get(..length.into()).unwrap_or(payload);
    let mut bytes = vec![SYNC_1, SYNC_2, class, id];
    bytes.extend(length.to_le_bytes());
    bytes.extend(payload);
    let sum = checksum(bytes.get(2..).unwrap_or_default());
    bytes.extend(sum);
    bytes
}

/// NAV-PVT: time, with a 3D fix and everything valid, or neither. `nanos` from -1e9 to 1e9 is added to
/// the whole seconds of `at`.
pub fn nav_pvt(at: &CivilTime, nanos: i32, valid: bool) -> Vec<u8> {
    let mut p = [0; 92];
    put(&mut p, 4, &date_and_time(at));
    put(&mut p, 11, &[if valid { 0xf7 } else { 0xf0 }]);
    let accuracy: u32 = if valid { 31 } else { u32::MAX };
    put(&mut p, 12, &accuracy.to_le_bytes());
    put(&mut p, 16, &nanos.to_le_bytes());
    put(&mut p, 20, if valid { &[3, 1, 0xea, 9] } else { &[0, 0, 0, 0] });
    let [horizontal, vertical]: [u32; 2] = if valid { [1414, 2000] } else { [u32::MAX; 2] };
    put(&mut p, 40, &horizontal.to_le_bytes());
    put(&mut p, 44, &vertical.to_le_bytes());
    message(0x01, 0x07, &p)
}

/// NAV-TIMEUTC: time, with week and leap seconds known, or not.
pub fn nav_timeutc(at: &CivilTime, nanos: i32, valid: bool) -> Vec<u8> {
    let mut p = [0; 20];
    let accuracy: u32 = if valid { 31 } else { u32::MAX };
    put(&mut p, 4, &accuracy.to_le_bytes());
    put(&mut p, 8, &nanos.to_le_bytes());
    put(&mut p, 12, &date_and_time(at));
    put(&mut p, 19, &[if valid { 0x37 } else { 0x30 }]);
    message(0x01, 0x21, &p)
}

/// NAV-TIMELS: GPS - UTC from the sky, and a leap second in so many seconds.
pub fn nav_timels(leap_seconds: i8, change: i8, seconds: i32) -> Vec<u8> {
    let mut p = [0; 24];
    put(&mut p, 8, &[2, leap_seconds as u8, 2, change as u8]);
    put(&mut p, 12, &seconds.to_le_bytes());
    put(&mut p, 23, &[3]);
    message(0x01, 0x26, &p)
}

/// NAV-SAT.
pub fn nav_sat(satellites: &[Satellite]) -> Vec<u8> {
    let satellites = satellites.get(..255).unwrap_or(satellites);
    let mut p = vec![0, 0, 0, 0, 1, satellites.len() as u8, 0, 0];
    for s in satellites {
        let system = match s.constellation {
            Constellation::Gps => 0,
            Constellation::Sbas => 1,
            Constellation::Galileo => 2,
            Constellation::BeiDou => 3,
            Constellation::Qzss => 5,
            Constellation::Glonass => 6,
            Constellation::NavIc => 7,
            Constellation::Unknown => 255,
        };
        p.extend([system, s.number as u8, s.signal.unwrap_or(0), s.elevation.unwrap_or(91) as u8]);
        p.extend(s.azimuth.unwrap_or(0).to_le_bytes());
        p.extend([0, 0, u8::from(s.used) << 3, 0, 0, 0]);
    }
    message(0x01, 0x35, &p)
}

/// TIM-TP: the next pulse, on GPS's scale: week, time of week in ms, and qErr in ps.
pub fn tim_tp(week: u16, milliseconds: u32, error_ps: i32) -> Vec<u8> {
    let mut p = [0; 16];
    put(&mut p, 0, &milliseconds.to_le_bytes());
    put(&mut p, 8, &error_ps.to_le_bytes());
    put(&mut p, 12, &week.to_le_bytes());
    message(0x0d, 0x01, &p)
}

fn date_and_time(at: &CivilTime) -> [u8; 7] {
    let [low, high] = u16::try_from(at.year).unwrap_or(0).to_le_bytes();
    [low, high, at.month, at.day, at.hour, at.minute, at.second]
}

fn put(payload: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in payload.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}
