//! Where an antenna stands.

/// How a receiver for timing knows where its antenna is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// It averages its position for at least so long, s.
    SurveyIn(u32),
    /// It is told.
    Fixed {
        /// Where the antenna is.
        at: Position,
        /// How well that is known, mm: 300 mm are a nanosecond.
        accuracy: u32,
    },
}

/// A place in WGS 84, as finely as receivers take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// On the ellipsoid.
    Geodetic {
        /// North, 1e-9 degrees.
        latitude: i64,
        /// East, 1e-9 degrees.
        longitude: i64,
        /// Above the ellipsoid, 0.1 mm.
        height: i64,
    },
    /// From the Earth's centre: through longitude 0, longitude 90 east, and the north pole, 0.1 mm each.
    Ecef([i64; 3]),
}

impl Position {
    /// From degrees north and east, and metres above the ellipsoid.
    pub fn geodetic(latitude: f64, longitude: f64, height: f64) -> Self {
        let [latitude, longitude] = [latitude, longitude].map(|degrees| (degrees * 1e9).round() as i64);
        Self::Geodetic { latitude, longitude, height: (height * 1e4).round() as i64 }
    }

    /// From metres.
    pub fn ecef(metres: [f64; 3]) -> Self {
        Self::Ecef(metres.map(|m| (m * 1e4).round() as i64))
    }

    /// Is it given on the ellipsoid?
    pub(super) fn is_geodetic(&self) -> bool {
        matches!(self, Self::Geodetic { .. })
    }

    /// The three coordinates in hundreds of their units (cm, 1e-7 degrees), and what is left of each.
    pub(super) fn in_hundreds(&self) -> [(i32, i8); 3] {
        let all = match *self {
            Self::Geodetic { latitude, longitude, height } => [latitude, longitude, height],
            Self::Ecef(xyz) => xyz,
        };
        all.map(|value| {
            let hundreds = (value + 50).div_euclid(100);
            (hundreds as i32, (value - 100 * hundreds) as i8)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_is_lost(latitude in -90.0..90.0f64, longitude in -180.0..180.0f64, height in -500.0..9000.0f64) {
            let at = Position::geodetic(latitude, longitude, height);
            let [north, east, up] = at.in_hundreds().map(|(hundreds, rest)| f64::from(hundreds) * 100.0 + f64::from(rest));
            prop_assert!((north * 1e-9 - latitude).abs() < 0.6e-9);
            prop_assert!((east * 1e-9 - longitude).abs() < 0.6e-9);
            prop_assert!((up * 1e-4 - height).abs() < 0.6e-4);
        }
    }

    #[test]
    fn the_rest_has_either_sign() {
        assert_eq!(Position::ecef([-1.2345, 1.2345, 0.0149]).in_hundreds(), [(-123, -45), (123, 45), (1, 49)]);
        assert_eq!(Position::ecef([-1.2355, 1.2355, 6.4e6]).in_hundreds(), [(-124, 45), (124, -45), (640_000_000, 0)]);
    }
}
