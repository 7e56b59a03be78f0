//! The estimator's way of taking a measurement allocates nothing once it is settled: its memory does not
//! grow, and no allocator makes it late.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use refclockd::core::bank::Prior;
use refclockd::core::estimator::Estimator;
use refclockd::core::measurement::Measurement;
use refclockd::sim::Rng;
use refclocks::time::{Span, Timestamp};

/// Measurements of a source until nothing is learned from history any more, and after that.
const SETTLED: i64 = 3000;
const COUNTED: i64 = 20_000;

/// Allocations of settled measurements of so many sources in turn, each `interval` s after the last.
fn allocations(sources: usize, interval: i64, draw: impl Fn(&mut Rng) -> (f64, Option<f64>)) -> u64 {
    let mut estimator = Estimator::new(Prior::default());
    let mut rng = Rng::new(5);
    let mut measure = |k: i64| {
        let (late, delay) = draw(&mut rng);
        let raw = Timestamp::from_parts(40 + k * interval, 0) + Span::from_seconds(k as f64 * 12e-6 + late);
        let m = Measurement { raw, tai: Timestamp::from_parts(1_767_225_637 + k * interval, 0), delay };
        estimator.measure(k as usize % sources, m);
        estimator.advance(raw + Span::from_millis(3));
    };
    let settled = SETTLED * sources as i64;
    (0..settled).for_each(&mut measure);
    let info = allocation_counter::measure(|| (settled..settled + COUNTED).for_each(&mut measure));
    info.count_total
}

#[test]
fn a_pulse_allocates_nothing() {
    let pulse = |rng: &mut Rng| {
        let held_up = rng.uniform() < 0.05;
        (1e-6 * rng.normal() + if held_up { 20e-6 * rng.exponential() } else { 0.0 }, None)
    };
    assert_eq!(allocations(1, 1, pulse), 0);
}

#[test]
fn a_network_sample_allocates_nothing() {
    let packet = |rng: &mut Rng| {
        let (there, back) = (20e-6 * rng.exponential(), 20e-6 * rng.exponential());
        (0.5 * (back - there), Some(200e-6 + there + back))
    };
    assert_eq!((allocations(1, 16, packet), allocations(3, 16, packet)), (0, 0));
}
