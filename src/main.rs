//! The `refclockd` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    refclockd::cli::run()
}
