//! The tables of accuracy: what is played, how it is judged, and how it is told.

pub mod rows;

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use refclockd::core::memory::Memory;
use refclockd::core::numerics::median;
use refclockd::sim::oracle::Oracle;
use refclockd::sim::rehearsal::{Rehearsal, Scene};
use refclocks::time::{Timestamp, Utc};
use rows::Row;

/// When every world begins.
const START: Timestamp<Utc> = Timestamp::from_parts(1_767_225_600, 0);

/// What one seed gives.
#[derive(Clone, Debug, Default)]
struct Run {
    seconds: f64,
    squares: f64,
    oracle_squares: f64,
    max: f64,
    inside_bound: f64,
    inside_probable: f64,
    inside_distance: f64,
    median_bound: f64,
    /// The last second before the statistics in which the error was beyond the row's threshold.
    converged: f64,
}

/// What all seeds of a row give.
#[derive(Clone, Debug)]
pub struct Result {
    /// rms error, pooled over the seeds, s.
    pub rms: f64,
    /// One standard error of that, s: from one set of seeds to another.
    pub rms_error: f64,
    /// The oracle's on the same measurements, s.
    pub oracle: f64,
    /// Greatest error of all, s.
    pub max: f64,
    /// Share of the seconds inside error_bound, and the least of a seed.
    pub coverage: f64,
    /// The least of any seed.
    pub least_coverage: f64,
    /// Share of the seconds inside what the error probably is.
    pub probable_coverage: f64,
    /// Share of the seconds inside the root distance, as it is told.
    pub distance_coverage: f64,
    /// Mean over the seeds of the median error_bound, over the rms error.
    pub bound_ratio: f64,
    /// Median over the seeds of the time to converge, s.
    pub converged: f64,
}

fn play(row: &Row, seed: u64) -> Run {
    let mut memory = Memory::default();
    if row.warm {
        // Another stretch of the same kind of world is lived through first.
        let mut before = Rehearsal::new(row.scenario.clone(), seed + 1_000_000, START, &memory);
        before.play(row.seconds, |_| ());
        memory = before.memory();
    }
    let mut oracle = Oracle::new(&row.scenario);
    let mut run = Run::default();
    let mut bounds = Vec::new();
    let mut rehearsal = Rehearsal::new(row.scenario.clone(), seed, START, &memory);
    rehearsal.play(row.seconds, |scene| match scene {
        Scene::Measured { source, measurement } => oracle.measure(source, measurement),
        Scene::Second { at, tai, raw, error, snapshot } => {
            let since = (at - START).seconds();
            let known = oracle.error(raw, tai).unwrap_or(0.0);
            if since < row.from {
                if error.abs() > row.threshold {
                    run.converged = since;
                }
                return;
            }
            let inside = |limit: f64| f64::from(u8::from(error.abs() <= limit));
            run.seconds += 1.0;
            run.squares += error * error;
            run.oracle_squares += known * known;
            run.max = run.max.max(error.abs());
            run.inside_bound += inside(snapshot.bound_at(raw));
            run.inside_probable += inside(snapshot.bound.probable(raw));
            // As it is told to other programs: in whole microseconds.
            run.inside_distance += inside((1e6 * snapshot.distance_at(raw)).ceil() * 1e-6);
            bounds.push(snapshot.bound_at(raw));
        }
        Scene::Event(event) => {
            if std::env::var("EVENTS").is_ok() {
                println!("{seed} {event}");
            }
        }
    });
    run.median_bound = median(&mut bounds).unwrap_or(f64::NAN);
    run
}

/// Plays every row with so many seeds, on so many threads.
pub fn run(rows: &[Row], seeds: u64, threads: usize, told: impl Fn(&Row, &Result) + Sync) -> Vec<Result> {
    let jobs: Vec<(usize, u64)> = (0..rows.len()).flat_map(|row| (1..=seeds).map(move |seed| (row, seed))).collect();
    let next = AtomicUsize::new(0);
    let runs: Vec<Mutex<Vec<(u64, Run)>>> = rows.iter().map(|_| Mutex::default()).collect();
    let results: Mutex<Vec<Option<Result>>> = Mutex::new(vec![None; rows.len()]);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&(row, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let run = play(&rows[row], seed);
                    let mut done = runs[row].lock().unwrap();
                    done.push((seed, run));
                    if done.len() as u64 == seeds {
                        done.sort_by_key(|(seed, _)| *seed);
                        let result = pool(&done);
                        told(&rows[row], &result);
                        results.lock().unwrap()[row] = Some(result);
                    }
                }
            });
        }
    });
    results.into_inner().unwrap().into_iter().map(Option::unwrap).collect()
}

fn pool(runs: &[(u64, Run)]) -> Result {
    if std::env::var("PERSEED").is_ok() {
        for (seed, r) in runs {
            println!(
                "  seed {seed:2}: rms {:.3e} oracle {:.3e} max {:.2e} cover {:.4} bound {:.2e} converged {}",
                (r.squares / r.seconds).sqrt(),
                (r.oracle_squares / r.seconds).sqrt(),
                r.max,
                r.inside_bound / r.seconds,
                r.median_bound,
                r.converged
            );
        }
    }
    let sum = |of: fn(&Run) -> f64| runs.iter().map(|(_, run)| of(run)).sum::<f64>();
    let seconds = sum(|r| r.seconds);
    let rms = (sum(|r| r.squares) / seconds).sqrt();
    // Of a mean of squares m with standard error e, the root has e / (2 sqrt(m)).
    let mean_square = |(_, r): &(u64, Run)| r.squares / r.seconds;
    let spread = runs.iter().map(|run| (mean_square(run) - rms * rms).powi(2)).sum::<f64>();
    let n = runs.len() as f64;
    let rms_error = (spread / n / (n - 1.0).max(1.0)).sqrt() / (2.0 * rms);
    let mut converged: Vec<f64> = runs.iter().map(|(_, r)| r.converged).collect();
    Result {
        rms,
        rms_error,
        oracle: (sum(|r| r.oracle_squares) / seconds).sqrt(),
        max: runs.iter().map(|(_, r)| r.max).fold(0.0, f64::max),
        coverage: sum(|r| r.inside_bound) / seconds,
        least_coverage: runs.iter().map(|(_, r)| r.inside_bound / r.seconds).fold(1.0, f64::min),
        probable_coverage: sum(|r| r.inside_probable) / seconds,
        distance_coverage: sum(|r| r.inside_distance) / seconds,
        bound_ratio: sum(|r| r.median_bound) / runs.len() as f64 / rms,
        converged: median(&mut converged).unwrap_or(f64::NAN),
    }
}

/// The heading of the table.
pub fn heading() -> String {
    "| row | rms | bound | ratio | bar | max | error_bound / rms | covers | least seed | esterror covers | root distance covers | converged |\n\
     |---|---|---|---|---|---|---|---|---|---|---|---|"
        .into()
}

/// One line of the table, with what it misses.
pub fn line(row: &Row, r: &Result) -> String {
    let mut text = String::new();
    let reference = row.reference(r);
    let missed = row.missed(r);
    let _ = write!(
        text,
        "| {} | {} ± {:.0} % | {} | {:.2} | {:.2} | {} | {:.1} | {:.4} | {:.3} | {:.2} | {:.4} | {:.0} s |",
        row.name,
        Short(r.rms),
        100.0 * r.rms_error / r.rms,
        Short(reference),
        r.rms / reference,
        row.most,
        Short(r.max),
        r.bound_ratio,
        r.coverage,
        r.least_coverage,
        r.probable_coverage,
        r.distance_coverage,
        r.converged
    );
    if !missed.is_empty() {
        let _ = write!(text, " <- {}", missed.join(", "));
    }
    text
}

/// A length of time in three digits.
struct Short(f64);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (factor, unit) = match self.0 {
            s if s < 1e-6 => (1e9, "ns"),
            s if s < 1e-3 => (1e6, "us"),
            s if s < 1.0 => (1e3, "ms"),
            _ => (1.0, "s"),
        };
        let value = self.0 * factor;
        let digits = if value < 10.0 {
            2
        } else if value < 100.0 {
            1
        } else {
            0
        };
        write!(f, "{value:.digits$} {unit}")
    }
}
