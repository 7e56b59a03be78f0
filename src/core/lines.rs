//! Lines through points of which some are far off: (time, value) pairs in, robust estimates out.

use super::numerics::median;

/// Variance of single points from the median of squared second differences: immune to offset,
/// frequency and outliers. s^2.
pub(super) fn second_difference_variance(points: &[(f64, f64)]) -> Option<f64> {
    let mut squares: Vec<f64> = second_differences(points).map(|e| e * e).collect();
    // The median of chi-squared with one degree of freedom is 0.455.
    median(&mut squares).map(|m| m / 0.455)
}

/// How far each point lies from the line through its neighbours, normalised to one standard deviation of
/// single points. Uneven spacing is allowed for. s.
pub(super) fn second_differences(points: &[(f64, f64)]) -> impl Iterator<Item = f64> {
    points.windows(3).filter_map(|w| match w {
        [(t0, z0), (t1, z1), (t2, z2)] if t2 > t0 => {
            let a = (t1 - t2) / (t0 - t2);
            let e = z1 - a * z0 - (1.0 - a) * z2;
            Some(e / (1.0 + a * a + (1.0 - a) * (1.0 - a)).sqrt())
        }
        _ => None,
    })
}

/// Siegel's repeated-median slope: half of the points may be anywhere.
pub(super) fn repeated_median_slope(points: &[(f64, f64)]) -> f64 {
    let mut slopes: Vec<f64> = points
        .iter()
        .filter_map(|(t0, z0)| {
            let mut through: Vec<f64> =
                points.iter().filter(|(t, _)| t != t0).map(|(t, z)| (z - z0) / (t - t0)).collect();
            median(&mut through)
        })
        .collect();
    median(&mut slopes).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slope_survives_outliers() {
        let mut points: Vec<(f64, f64)> = (0..9).map(|i| (f64::from(i), 12e-6 * f64::from(i))).collect();
        points[2].1 += 1e-3;
        points[5].1 += 5e-4;
        points[8].1 += 1.0;
        assert!((repeated_median_slope(&points) - 12e-6).abs() < 1e-12);
    }
}
