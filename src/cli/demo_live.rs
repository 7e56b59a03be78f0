//! The demo in real time: real drivers on a real pty, NTP served.

use std::process::ExitCode;

use super::demo::DemoArgs;

/// Runs until told to stop.
pub fn run(_args: DemoArgs) -> ExitCode {
    ExitCode::FAILURE
}
