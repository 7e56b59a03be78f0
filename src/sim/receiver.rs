//! A GNSS receiver: what it writes each second.

use refclocks::calendar::CivilTime;
use refclocks::nmea::write;
use refclocks::{Constellation, Satellite};

use super::Rng;

/// Satellites in the simulated sky.
const IN_VIEW: usize = 11;
/// Below this elevation a satellite is not used, degrees.
const MASK: f64 = 12.0;

/// One satellite of the simulated sky.
#[derive(Clone, Copy, Debug)]
struct InView {
    number: u16,
    /// Degrees.
    elevation: f64,
    /// Degrees.
    azimuth: f64,
    /// Degrees per second.
    climb: f64,
}

/// The receiver.
#[derive(Clone, Debug)]
pub struct Receiver {
    rng: Rng,
    sky: Vec<InView>,
    cycles: u64,
}

impl Receiver {
    /// A receiver under a sky of its own.
    pub fn new(mut rng: Rng) -> Self {
        let sky = (0..IN_VIEW)
            .map(|i| InView {
                number: 1 + (3 * i as u16) % 32,
                elevation: 5.0 + 80.0 * rng.uniform(),
                azimuth: 360.0 * rng.uniform(),
                climb: 0.01 * (rng.uniform() - 0.5),
            })
            .collect();
        Self { rng, sky, cycles: 0 }
    }

    /// What it writes in the second that it takes for `at`: with a fix if it sees the sky, else with none.
    pub fn cycle(&mut self, at: CivilTime, sees_sky: bool) -> Vec<u8> {
        self.cycles += 1;
        for s in &mut self.sky {
            s.elevation += s.climb;
            if s.elevation > 89.0 || s.elevation < 3.0 {
                s.climb = -s.climb;
            }
            s.azimuth = (s.azimuth + 0.005).rem_euclid(360.0);
        }
        let used: Vec<u16> =
            self.sky.iter().filter(|s| sees_sky && s.elevation > MASK).map(|s| s.number).take(12).collect();
        let fix = if sees_sky { 3 } else { 1 };
        let mut text = write::rmc("GP", &at, sees_sky);
        text += &write::gga("GP", &at, sees_sky, used.len() as u16);
        text += &write::gsa("GP", fix, &used);
        if self.cycles % 5 == 1 {
            let satellites: Vec<Satellite> = self.sky.clone().iter().map(|s| self.heard(s, sees_sky)).collect();
            text += &write::gsv("GP", &satellites);
        }
        text.into_bytes()
    }

    /// A satellite as it is heard: stronger overhead.
    fn heard(&mut self, s: &InView, sees_sky: bool) -> Satellite {
        let strength = 28.0 + 18.0 * (s.elevation / 90.0) + 1.5 * self.rng.normal();
        Satellite {
            constellation: Constellation::Gps,
            number: s.number,
            elevation: Some(s.elevation as i8),
            azimuth: Some(s.azimuth as u16),
            signal: sees_sky.then_some(strength.clamp(15.0, 55.0) as u8),
            used: false,
        }
    }
}
