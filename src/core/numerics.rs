//! The few special functions the estimator needs, in forms that neither underflow nor cancel.
//!
//! All transcendental functions come from `libm`, so that a replay gives the same bits everywhere.

use std::f64::consts::{LN_2, SQRT_2};

/// ln(2 pi).
const LN_2PI: f64 = 1.837_877_066_409_345_3;
/// sqrt(pi).
const SQRT_PI: f64 = 1.772_453_850_905_516;

/// A smaller mass between two points of a normal is better told by its ln.
const LEAST_MASS: f64 = 1e-200;

/// ln erfc(x), also where erfc itself underflows. Relative error below 1e-9.
pub fn ln_erfc(x: f64) -> f64 {
    if x < 20.0 {
        libm::log(libm::erfc(x))
    } else {
        // Abramowitz & Stegun 7.1.23.
        let s = 1.0 / (2.0 * x * x);
        -x * x - libm::log(x * SQRT_PI) + libm::log1p(-s * (1.0 - 3.0 * s * (1.0 - 5.0 * s)))
    }
}

/// ln of the standard normal's upper tail beyond `a`.
pub fn ln_upper_tail(a: f64) -> f64 {
    ln_erfc(a / SQRT_2) - LN_2
}

/// ln of the standard normal density.
pub fn ln_normal(a: f64) -> f64 {
    -0.5 * (a * a + LN_2PI)
}

/// ln N(e; 0, variance).
pub fn ln_gaussian(e: f64, variance: f64) -> f64 {
    -0.5 * (e * e / variance + libm::log(variance) + LN_2PI)
}

/// Probability that a standard normal lies below `a`.
pub fn normal_below(a: f64) -> f64 {
    0.5 * libm::erfc(-a / SQRT_2)
}

/// ln of a sum of terms whose ln are given, one exponential each.
#[derive(Clone, Copy, Debug)]
pub struct LnSum {
    /// ln of the greatest term so far.
    most: f64,
    /// The sum in units of that.
    sum: f64,
}

impl Default for LnSum {
    fn default() -> Self {
        Self { most: f64::NEG_INFINITY, sum: 0.0 }
    }
}

impl LnSum {
    /// Adds exp(`ln_term`).
    pub fn add(&mut self, ln_term: f64) {
        if ln_term == f64::NEG_INFINITY {
            return;
        }
        if ln_term <= self.most {
            self.sum += libm::exp(ln_term - self.most);
        } else {
            self.sum = self.sum * libm::exp(self.most - ln_term) + 1.0;
            self.most = ln_term;
        }
    }

    /// ln of the sum; -inf of nothing.
    pub fn ln(&self) -> f64 {
        if self.sum > 0.0 { self.most + libm::log(self.sum) } else { f64::NEG_INFINITY }
    }
}

/// N(mean, sd^2) cut to [0, inf): ln of the mass that remains, mean, variance.
pub fn cut_to_positive(mean: f64, sd: f64) -> (f64, f64, f64) {
    let a = -mean / sd;
    let mass = ln_upper_tail(a);
    if a > 30.0 {
        // So far out that what remains is exponential.
        let scale = sd / a;
        return (mass, scale, scale * scale);
    }
    let hazard = libm::exp(ln_normal(a) - mass);
    let variance = 1.0 + a * hazard - hazard * hazard;
    (mass, mean + sd * hazard, sd * sd * variance.max(1e-6))
}

/// N(mean, sd^2) cut to [-b, b]: ln of the mass that remains, mean, variance.
pub fn cut_to_interval(mean: f64, sd: f64, b: f64) -> (f64, f64, f64) {
    if mean < 0.0 {
        let (mass, cut_mean, variance) = cut_to_interval(-mean, sd, b);
        return (mass, -cut_mean, variance);
    }
    if mean - b > 6.0 * sd && b > 0.05 * sd {
        // The Gaussian lies far outside: what remains piles up exponentially at the near edge.
        let distance = (mean - b) / sd;
        let scale = (sd / distance).min(0.5 * b);
        return (ln_normal(distance) - libm::log(distance), b - scale, scale * scale);
    }
    if b < 0.05 * sd {
        // The interval is a slit in the Gaussian: a uniform density tilted by exp(tilt u).
        let flat = ln_normal(mean / sd) - libm::log(sd) + libm::log(2.0 * b);
        let c = (mean / (sd * sd) * b).min(50.0);
        if c < 0.3 {
            return (flat, b * c / 3.0, b * b / 3.0);
        }
        let ln_sinh_over_c = c + libm::log1p(-libm::exp(-2.0 * c)) - libm::log(2.0 * c);
        let sinh = libm::sinh(c);
        let variance = b * b * (1.0 / (c * c) - 1.0 / (sinh * sinh)).max(1e-6);
        return (flat + ln_sinh_over_c, b * (1.0 / libm::tanh(c) - 1.0 / c), variance);
    }
    let (low, high) = ((-b - mean) / sd, (b - mean) / sd);
    // The mass as a difference of the two tails on the side where they are small.
    let (near, far) = if high <= 0.0 { (-high, -low) } else { (low, high) };
    let mass = normal_below(-near) - normal_below(-far);
    let (mass, at_low, at_high) = if mass > LEAST_MASS {
        (libm::log(mass), libm::exp(ln_normal(low)) / mass, libm::exp(ln_normal(high)) / mass)
    } else {
        let (near, far) = (ln_upper_tail(near), ln_upper_tail(far));
        let mass = near + libm::log(1.0 - libm::exp((far - near).min(-1e-12)));
        (mass, libm::exp(ln_normal(low) - mass), libm::exp(ln_normal(high) - mass))
    };
    let shift = at_low - at_high;
    let variance = sd * sd * (1.0 + low * at_low - high * at_high - shift * shift);
    let widest = sd.min(b) * sd.min(b);
    (mass, (mean + sd * shift).clamp(-b, b), variance.clamp(1e-6 * widest, widest))
}

/// The median; of an even count, the mean of the middle two. `None` of nothing. Leaves the values in
/// another order.
pub fn median(values: &mut [f64]) -> Option<f64> {
    let (middle, is_odd) = (values.len() / 2, values.len() % 2 == 1);
    if values.is_empty() {
        return None;
    }
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if is_odd {
        return Some(*upper);
    }
    below.iter().copied().max_by(f64::total_cmp).map(|lower| 0.5 * (lower + *upper))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Moments of `density` over [from, to] by the midpoint rule.
    fn integrate(from: f64, to: f64, density: impl Fn(f64) -> f64) -> (f64, f64, f64) {
        let steps = 200_000;
        let h = (to - from) / f64::from(steps);
        let (mut mass, mut first, mut second) = (0.0, 0.0, 0.0);
        for i in 0..steps {
            let u = from + (f64::from(i) + 0.5) * h;
            let weight = density(u) * h;
            mass += weight;
            first += weight * u;
            second += weight * u * u;
        }
        let mean = first / mass;
        (mass, mean, second / mass - mean * mean)
    }

    #[test]
    fn sums_of_what_underflows_are_exact() {
        let ln_sum = |terms: &[f64]| {
            let mut sum = LnSum::default();
            terms.iter().for_each(|term| sum.add(*term));
            sum.ln()
        };
        assert_eq!(ln_sum(&[]), f64::NEG_INFINITY);
        assert_eq!(ln_sum(&[f64::NEG_INFINITY]), f64::NEG_INFINITY);
        for terms in [[-2000.0, -2001.0, f64::NEG_INFINITY], [f64::NEG_INFINITY, -2001.0, -2000.0]] {
            assert!((ln_sum(&terms) - (-2000.0 + libm::log1p(libm::exp(-1.0)))).abs() < 1e-11);
        }
    }

    #[test]
    fn ln_erfc_is_smooth_where_its_forms_meet() {
        assert!((ln_erfc(20.0 - 1e-9) - ln_erfc(20.0 + 1e-9)).abs() < 1e-6);
        assert!((ln_erfc(0.0)).abs() < 1e-15);
        assert!(ln_erfc(1e4).is_finite());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn interval_moments_match_numerical_integration(mean in -4.0f64..4.0, b in 0.01f64..4.0) {
            let (mass, cut_mean, variance) = cut_to_interval(mean, 1.0, b);
            let (want_mass, want_mean, want_variance) = integrate(-b, b, |u| libm::exp(ln_normal(u - mean)));
            prop_assert!((libm::exp(mass) / want_mass - 1.0).abs() < 5e-3, "mass {} {}", libm::exp(mass), want_mass);
            prop_assert!((cut_mean - want_mean).abs() < 0.02 * b, "mean {cut_mean} {want_mean}");
            prop_assert!((variance / want_variance - 1.0).abs() < 0.05, "variance {variance} {want_variance}");
        }

        #[test]
        fn positive_moments_match_numerical_integration(mean in -5.0f64..5.0) {
            let (mass, cut_mean, variance) = cut_to_positive(mean, 1.0);
            let (want_mass, want_mean, want_variance) = integrate(0.0, 12.0, |u| libm::exp(ln_normal(u - mean)));
            prop_assert!((libm::exp(mass) / want_mass - 1.0).abs() < 1e-4);
            prop_assert!((cut_mean / want_mean - 1.0).abs() < 1e-4);
            prop_assert!((variance / want_variance - 1.0).abs() < 1e-3);
        }

        #[test]
        fn cuts_are_finite_everywhere(mean in -1e6f64..1e6, sd in 1e-12f64..1e3, b in 1e-12f64..1e3) {
            let (mass, cut_mean, variance) = cut_to_interval(mean, sd, b);
            prop_assert!(!mass.is_nan() && cut_mean.abs() <= b && variance >= 0.0);
            let (mass, positive, variance) = cut_to_positive(mean, sd);
            prop_assert!(!mass.is_nan() && positive >= 0.0 && variance >= 0.0);
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
