//! A year of pulses, one each second: `cargo test --release --test year -- --ignored --nocapture`. All
//! tests together can afford a few days of it.
//!
//! The last month is as accurate as the first, the process is no larger, and the year takes less than
//! fifteen minutes of one processor.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use refclockd::core::memory::Memory;
use refclockd::sim::rehearsal::{Rehearsal, Scene};
use refclockd::sim::scenario::{Model, SourceModel};
use refclockd::sim::{Crystal, PulseModel, Scenario};
use refclocks::time::{Timestamp, Utc};

const START: Timestamp<Utc> = Timestamp::from_parts(1_767_225_600, 0);
const DAY: f64 = 86_400.0;
/// Seconds before anything is judged.
const SETTLED: f64 = 4000.0;

/// What one stretch of time gave.
#[derive(Clone, Debug, Default)]
struct Stretch {
    seconds: f64,
    squares: f64,
    max: f64,
    inside: f64,
    /// Resident memory at its end, bytes.
    resident: f64,
}

impl Stretch {
    fn rms(&self) -> f64 {
        (self.squares / self.seconds).sqrt()
    }
}

/// The pulse of the accuracy tables: 1 us, one of twenty late by 20 us on the average.
fn scenario() -> Scenario {
    let pulse = PulseModel { jitter: 1e-6, late: vec![(0.05, 20e-6)], rate: 1.0, ..PulseModel::default() };
    let crystal = Crystal { frequency: 12e-6, wander: 1e-9, ..Crystal::default() };
    let source = SourceModel { name: "PPS".into(), model: Model::Numbered(pulse), options: Default::default() };
    // The rehearsal's own judge remembers each second's bound; it is not asked.
    Scenario { judged_from: Some(f64::INFINITY), ..Scenario::of(crystal, vec![source]) }
}

fn stretches(number: usize, each: f64) -> Vec<Stretch> {
    let mut rehearsal = Rehearsal::new(scenario(), 1, START, &Memory::default());
    rehearsal.play(SETTLED, |_| ());
    let mut all = Vec::new();
    println!("| until day | rms | max | bound covers | resident | processor |\n|---|---|---|---|---|---|");
    for i in 1..=number {
        let mut stretch = Stretch::default();
        rehearsal.play(SETTLED + each * i as f64, |scene| {
            let Scene::Second { raw, error, snapshot, .. } = scene else { return };
            stretch.seconds += 1.0;
            stretch.squares += error * error;
            stretch.max = stretch.max.max(error.abs());
            stretch.inside += f64::from(u8::from(error.abs() <= snapshot.bound_at(raw)));
        });
        stretch.resident = resident();
        println!(
            "| {:.1} | {:.1} ns | {:.2} us | {:.4} | {:.1} MB | {:.0} s |",
            (SETTLED + each * i as f64) / DAY,
            1e9 * stretch.rms(),
            1e6 * stretch.max,
            stretch.inside / stretch.seconds,
            stretch.resident / 1e6,
            processor()
        );
        all.push(stretch);
    }
    all
}

/// No stretch is less accurate than `ratio` times the rms of all, and memory stays what it was after the
/// first.
fn judge(all: &[Stretch], ratio: f64) {
    let seconds: f64 = all.iter().map(|s| s.seconds).sum();
    let rms = (all.iter().map(|s| s.squares).sum::<f64>() / seconds).sqrt();
    println!("all: {:.1} ns", 1e9 * rms);
    for (i, stretch) in all.iter().enumerate() {
        let of_all = stretch.rms() / rms;
        assert!((1.0 / ratio..ratio).contains(&of_all), "stretch {i}: {:.1} ns", 1e9 * stretch.rms());
        assert!(stretch.inside >= 0.99 * stretch.seconds, "stretch {i}: {stretch:?}");
        assert!(stretch.max < 20.0 * rms, "stretch {i}: {stretch:?}");
    }
    let (first, last) = (all[0].resident, all[all.len() - 1].resident);
    assert!(last < first + 1e6, "{first} bytes have become {last}");
}

/// Memory of this process, bytes.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    4096.0 * statm.split(' ').nth(1).unwrap().parse::<f64>().unwrap()
}

/// Time on a processor so far, s.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // After the name, which may hold blanks: user and system time in hundredths are the 12th and 13th.
    let after = stat.rsplit(") ").next().unwrap();
    after.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

#[test]
fn some_days_are_alike() {
    judge(&stretches(4, 0.5 * DAY), 1.1);
}

#[test]
#[ignore = "minutes"]
fn a_year_has_months_alike() {
    let all = stretches(12, 365.25 / 12.0 * DAY);
    assert!(processor() < 900.0, "{} s", processor());
    judge(&all, 1.02);
}
