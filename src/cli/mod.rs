//! The command line: one file per subcommand.

pub mod demo;
pub mod demo_live;
pub mod query;

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
    /// Ask servers for the time, once.
    Query(query::QueryArgs),
}

/// Runs what the command line asks for.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::Query(args) => query::run(args),
    }
}
