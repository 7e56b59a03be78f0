//! `refclockd record`: the daemon with a clock of its own, and all that is told to what decides in a file.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::check;
use super::run::{ToRecord, run_configured};
use crate::config::{Discipline, parse_duration};

/// Options of `refclockd record`.
#[derive(Args, Debug)]
pub struct RecordArgs {
    /// The configuration file. The system clock is left alone, and other daemons are told nothing.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/refclockd/refclockd.toml")]
    config: PathBuf,

    /// Where to write; a file that is not there yet.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// End after so long, e.g. `10min`; else with Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
}

/// Runs it.
pub fn run(args: &RecordArgs) -> ExitCode {
    let mut config = match check::load(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    // What the system's clock reads is not ours to say again.
    config.clock.discipline = Discipline::Software;
    config.feeds.clear();
    let record = ToRecord { path: &args.output, duration: args.duration };
    run_configured(&args.config, &mut config, true, Some(&record))
}

fn duration(text: &str) -> Result<Duration, String> {
    let seconds = parse_duration(text).filter(|seconds| (0.0..1e9).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write seconds, or a time such as 10min".to_owned())
}
