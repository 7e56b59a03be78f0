//! The tables of accuracy: `cargo test --release --test accuracy -- [--seeds 20] [--jobs 2] [WORD...]`.
//! With words, only the rows whose name has one of them; with neither, two seeds of two rows, which is
//! what all tests together can afford. Fails if a row misses its bar.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tables/mod.rs"]
mod tables;

use std::process::ExitCode;
use std::time::Instant;

use tables::rows::{main_table, robustness};

fn main() -> ExitCode {
    let (mut seeds, mut jobs, mut words) = (None, 2, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|n| n.parse().ok()).expect("a number");
        match argument.as_str() {
            "--seeds" => seeds = Some(number()),
            "--jobs" => jobs = number(),
            // What is meant for the other tests' harness.
            flag if flag.starts_with("--") => {}
            word => words.push(word.to_owned()),
        }
    }
    let quick = seeds.is_none() && words.is_empty();
    let seeds = seeds.unwrap_or(if quick { 2 } else { 20 });
    let began = Instant::now();
    let mut missed = 0;
    for (title, mut rows) in [("Main table", main_table()), ("Robustness", robustness())] {
        rows.retain(|row| !quick || ["pps 1", "lan64 1"].contains(&row.name));
        rows.retain(|row| words.is_empty() || words.iter().any(|word| row.name.contains(word.as_str())));
        if rows.is_empty() {
            continue;
        }
        println!("\n{title}, {seeds} seeds\n\n{}", tables::heading());
        let results = tables::run(&rows, seeds, jobs as usize, |row, result| {
            if words.is_empty() {
                eprintln!("{}", tables::line(row, result));
            }
        });
        for (row, result) in rows.iter().zip(&results) {
            println!("{}", tables::line(row, result));
            missed += usize::from(!row.missed(result).is_empty());
        }
    }
    println!("\n{missed} rows missed, {:.0} s", began.elapsed().as_secs_f64());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
