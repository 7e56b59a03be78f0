//! What the commands that ask the daemon have in common.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::words::{Style, wrap};
use crate::control::DEFAULT_SOCKET;
use crate::control::client::{AskError, ask};
use crate::control::reply::ErrorReply;

/// How long the daemon may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Columns that text is made to fit.
pub const COLUMNS: usize = 80;

/// Options of every command that asks the daemon.
#[derive(Args, Clone, Debug)]
pub struct AskArgs {
    /// The daemon's socket.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// Print the daemon's answer as it is: one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Print nothing but ASCII.
    #[arg(long)]
    pub ascii: bool,
}

/// Asks and prints: the answer as JSON, or as `words` says it; or why there is none.
pub fn ask_and_print<T: DeserializeOwned>(
    args: &AskArgs,
    request: &impl Serialize,
    words: impl FnOnce(&T, Style) -> String,
) -> ExitCode {
    match ask::<T>(&args.socket, request, LIMIT) {
        Ok((line, _)) if args.json => print(&format!("{line}\n")),
        Ok((_, report)) => print(&words(&report, Style::of_stdout(args.ascii))),
        Err(error) => {
            complain(&error, args);
            return ExitCode::from(error.exit_code());
        }
    }
    ExitCode::SUCCESS
}

fn complain(error: &AskError, args: &AskArgs) {
    if args.json {
        print(&format!("{}\n", ErrorReply::new(error.code(), error.to_string()).to_line()));
        return;
    }
    let charset = Style::of_stdout(args.ascii).charset;
    let text = error.to_string();
    let sentence = if text.ends_with('.') { text } else { format!("{text}.") };
    let lines = [Some(sentence), error.action()].into_iter().flatten();
    for line in lines.flat_map(|sentence| wrap("refclockd: ", &sentence, COLUMNS)) {
        eprintln!("{}", charset.render(&line));
    }
}

/// A reader that went away (`| head`) is no reason to panic.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
