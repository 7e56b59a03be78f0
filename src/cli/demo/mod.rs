//! `refclockd demo`: the whole thing with no hardware, no root, no network and no configuration.

mod live;
mod stage;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, ValueEnum};
use refclocks::time::{Timestamp, Utc};
use serde::Serialize;

use crate::config::diagnostic;
use crate::core::memory::Memory;
use crate::sim::Scenario;
use crate::sim::judge::Score;
use crate::sim::rehearsal::{Rehearsal, Scene};

/// When a rehearsal begins: 2026-01-01T00:00:00Z.
const BEGINNING: Timestamp<Utc> = Timestamp::from_parts(1_767_225_600, 0);
/// sysexits: the file cannot be understood, or not be read.
const EX_CONFIG: u8 = 78;
const EX_NOINPUT: u8 = 66;
/// The seed when none is given.
const SEED: u64 = 1;

/// Options of `refclockd demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// The story: gps-hat, antenna-loss, nmea-only, wrong-week or cold-start; or a file with one of
    /// your own (docs/scenarios.md).
    #[arg(long, default_value = "gps-hat", value_name = "STORY|FILE")]
    pub scenario: String,
    /// How fast time passes. At `max` nothing waits, and no pty, socket or NTP server is involved.
    #[arg(long, value_enum, default_value = "real")]
    pub speed: Speed,
    /// Stop after this much simulated time, e.g. 90s, 10m, 1h. Without it: as the story says, or until
    /// you quit, or an hour at `--speed max`.
    #[arg(long, value_parser = duration)]
    pub duration: Option<f64>,
    /// The same seed gives the same crystal, pulses and messages.
    #[arg(long, default_value_t = SEED)]
    pub seed: u64,
    /// No live view: a line now and then, and the result at the end.
    #[arg(long)]
    pub headless: bool,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Where NTP is served in real time; the next free port is taken if this one is busy.
    #[arg(long, default_value = "127.0.0.1:11123")]
    pub ntp: std::net::SocketAddr,
    /// Where `refclockd status` and the others can ask in real time. Without it: a socket of your
    /// own in the folder for temporary files; the demo says which.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Show nothing but ASCII.
    #[arg(long)]
    pub ascii: bool,
}

/// How fast time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Speed {
    /// A second a second: the real drivers on a real pty, and NTP served.
    Real,
    /// As fast as the machine computes.
    Max,
}

/// What the demo prints at its end.
#[derive(Debug, Serialize)]
pub struct DemoResult {
    scenario: String,
    seed: u64,
    simulated_s: f64,
    wall_s: f64,
    #[serde(flatten)]
    score: Score,
}

impl DemoResult {
    /// A result.
    pub fn new(scenario: &Scenario, seed: u64, simulated_s: f64, wall_s: f64, score: Score) -> Self {
        Self { scenario: scenario.name.clone(), seed, simulated_s, wall_s, score }
    }

    /// Prints it for a program or for a person.
    pub fn print(&self, json: bool) {
        if json {
            match serde_json::to_string(self) {
                Ok(text) => println!("{text}"),
                Err(error) => eprintln!("the result could not be written as JSON: {error}"),
            }
            return;
        }
        use crate::core::state::{Duration, Magnitude};
        let say = |value: Option<f64>| value.map_or_else(|| "—".to_owned(), |v| Magnitude(v).to_string());
        let Self { scenario, seed, simulated_s, wall_s, score } = self;
        println!("{scenario}, seed {seed}: {} simulated in {wall_s:.2} s", Duration(*simulated_s));
        match score.time_to_lock_s {
            Some(seconds) => println!("  locked     {seconds:.0} s after the first pulse"),
            None => println!("  locked     never"),
        }
        println!(
            "  error      {} rms, {} at most (from two minutes on)",
            say(score.rms_error_s),
            say(score.max_error_s)
        );
        if let (Some(coverage), Some(ratio)) = (score.bound_coverage, score.bound_ratio) {
            println!("  bound      held in {:.2} % of the seconds, {ratio:.1} x the rms error", 100.0 * coverage);
        }
        println!("  wrong      {} seconds served more than half a second off", score.wrong_seconds);
        if let Some(state) = score.final_state {
            println!("  state      {state}");
        }
    }
}

/// Runs the demo.
pub fn run(mut args: DemoArgs) -> ExitCode {
    let scenario = match scenario(&args.scenario) {
        Ok(scenario) => scenario,
        Err(code) => return code,
    };
    args.duration = args.duration.or(scenario.duration);
    match args.speed {
        Speed::Max => rehearse(&args, &scenario),
        Speed::Real => live::run(&args, &scenario),
    }
}

fn rehearse(args: &DemoArgs, scenario: &Scenario) -> ExitCode {
    let seconds = args.duration.unwrap_or(3600.0);
    let began = Instant::now();
    let quiet = args.json;
    if !quiet {
        println!("{}", scenario.shows);
    }
    let mut rehearsal = Rehearsal::new(scenario.clone(), args.seed, BEGINNING, &Memory::default());
    let mut clock = BEGINNING;
    let score = rehearsal.play(seconds, |scene| match scene {
        Scene::Second { at, .. } => clock = at,
        Scene::Event(event) if !quiet => println!("{clock}  {event}"),
        Scene::Event(_) | Scene::Measured { .. } => {}
    });
    DemoResult::new(scenario, args.seed, seconds, began.elapsed().as_secs_f64(), score).print(args.json);
    ExitCode::SUCCESS
}

/// The story of that name, or the one in that file. What is wrong goes to standard error.
fn scenario(name: &str) -> Result<Scenario, ExitCode> {
    if let Some(story) = Scenario::by_name(name) {
        return Ok(story);
    }
    let text = std::fs::read_to_string(name).map_err(|error| {
        let names: Vec<String> = Scenario::all().into_iter().map(|s| s.name).collect();
        eprintln!("{name} is no story of ours, and no file to read: {error}. The stories are {}.", names.join(", "));
        ExitCode::from(EX_NOINPUT)
    })?;
    Scenario::from_toml(&text).map_err(|all| {
        eprint!("{}", diagnostic::render(name, &text, &all, std::io::stderr().is_terminal()));
        eprintln!("Nothing was started.");
        ExitCode::from(EX_CONFIG)
    })
}

/// `90`, `90s`, `10m`, `1h`, `2d` in seconds.
fn duration(text: &str) -> Result<f64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..) {
        Some("" | "s") => 1.0,
        Some("m" | "min") => 60.0,
        Some("h") => 3600.0,
        Some("d") => 86_400.0,
        _ => return Err("write it as 90s, 10m, 1h or 2d".into()),
    };
    match digits.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value * unit),
        _ => Err("write it as 90s, 10m, 1h or 2d".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let read: Vec<_> = ["90", "90s", "10m", "1.5h", "2d"].iter().map(|t| duration(t).unwrap()).collect();
        assert_eq!(read, [90.0, 90.0, 600.0, 5400.0, 172_800.0]);
        for bad in ["", "h", "-1s", "1y", "nan"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
