//! The command line: one file per subcommand.

pub mod ask;
pub mod check;
pub mod clients;
pub mod demo;
pub mod query;
pub mod record;
mod recorded;
pub mod recording;
pub mod replay;
pub mod run;
pub mod satellites;
pub mod set;
pub mod sources;
pub mod status;
pub mod view;
pub mod why;
pub mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Turns a GNSS receiver and its pulse into a stratum-1 time server.
#[derive(Parser, Debug)]
#[command(name = "refclockd", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show it all with no hardware, no root, no network and no configuration.
    Demo(demo::DemoArgs),
    /// Read a configuration: everything that is wrong with it, or what it will do.
    Check(check::CheckArgs),
    /// The daemon.
    Run(run::RunArgs),
    /// May the time be trusted, how well, and why: asks the daemon.
    Status(status::StatusArgs),
    /// The sources and what is thought of each: asks the daemon.
    Sources(sources::SourcesArgs),
    /// Why it is so, of the whole or of one source: asks the daemon.
    Why(why::WhyArgs),
    /// What the receivers see of the sky: asks the daemon.
    Satellites(satellites::SatellitesArgs),
    /// Who has asked for the time: asks the daemon.
    Clients(clients::ClientsArgs),
    /// Command the daemon: step, set the time, take servers offline, read the configuration again.
    Set(set::SetArgs),
    /// Run with a clock of its own, and record all that what decides is told.
    Record(record::RecordArgs),
    /// What the drivers make of a capture of a receiver's bytes; a recording, decided again.
    Replay(replay::ReplayArgs),
    /// Ask servers for the time, once.
    Query(query::QueryArgs),
}

/// Runs what the command line asks for.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::Check(args) => check::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Status(args) => status::run(args),
        Command::Sources(args) => sources::run(args),
        Command::Why(args) => why::run(args),
        Command::Satellites(args) => satellites::run(args),
        Command::Clients(args) => clients::run(args),
        Command::Set(args) => set::run(args),
        Command::Record(args) => record::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Query(args) => query::run(args),
    }
}
