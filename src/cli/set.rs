//! `refclockd set`: the operator's commands.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::ask::{AskArgs, ask_and_print};
use super::status::Page;
use super::words::Style;
use crate::control::command::{Command, SetReply};
use crate::control::time_setting::{NotATime, TimeSetting};

/// Options of `refclockd set`.
#[derive(Args, Debug)]
pub struct SetArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Step away what the clock is off, whatever its size; also what a panic waits for.
    Step(AskArgs),
    /// Set the time by hand; several settings, hours apart, teach the crystal's drift.
    Time {
        /// "2026-11-26 12:00:00" (UTC, or with an offset such as +01:00), 16:30:05, +2.5s, or now.
        #[arg(value_parser = time, allow_hyphen_values = true)]
        time: TimeSetting,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Ask a server again, or all of them.
    Online(WhichArgs),
    /// Ask a server no more, or none at all.
    Offline(WhichArgs),
    /// Ask a server, or all of them, a few times in quick succession.
    Burst(WhichArgs),
    /// Forget who has asked for the time: `refclockd clients` begins anew.
    ForgetClients(AskArgs),
    /// Read the configuration again; what it says from then on holds, and nothing is lost.
    Reload(AskArgs),
}

#[derive(Args, Debug)]
struct WhichArgs {
    /// The server's or pool's name; all of them without it.
    source: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

fn time(text: &str) -> Result<TimeSetting, NotATime> {
    text.parse()
}

/// Commands and prints.
pub fn run(args: SetArgs) -> ExitCode {
    let (command, ask) = match args.what {
        What::Step(ask) => (Command::Step, ask),
        What::Time { time, ask } => (Command::Time { to: time }, ask),
        What::Online(WhichArgs { source, ask }) => (Command::Online { source }, ask),
        What::Offline(WhichArgs { source, ask }) => (Command::Offline { source }, ask),
        What::Burst(WhichArgs { source, ask }) => (Command::Burst { source }, ask),
        What::ForgetClients(ask) => (Command::ForgetClients, ask),
        What::Reload(ask) => (Command::Reload, ask),
    };
    ask_and_print(&ask, &command, render)
}

/// What was done, in sentences.
fn render(reply: &SetReply, style: Style) -> String {
    let mut out = Page::new(style);
    out.wrapped("", &reply.text);
    for change in &reply.changes {
        out.wrapped("  ", change);
    }
    for change in &reply.needs_restart {
        out.wrapped("  → ", change);
    }
    if let Some(by_hand) = reply.by_hand.as_ref().filter(|b| b.settings.len() > 1) {
        for setting in &by_hand.settings {
            let residual = setting.residual_ns.unwrap_or(0) as f64 * 1e-9;
            out.wrapped("  ", &format!("{}: {residual:+.3} s from the line", setting.utc));
        }
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::command::{ByHand, Setting};

    #[test]
    fn words() {
        let setting = |utc: &str, residual_ns| Setting { utc: utc.into(), residual_ns: Some(residual_ns) };
        let reply = SetReply {
            by_hand: Some(ByHand {
                used: true,
                bound_ns: Some(600_000_000),
                frequency_ppb: Some(35_000.0),
                frequency_sd_ppb: Some(900.0),
                settings: vec![
                    setting("2026-11-25T12:00:00Z", -120_000_000),
                    setting("2026-11-26T12:00:00Z", 120_000_000),
                ],
            }),
            ..SetReply::new(&Command::Step, "The clock was 3.20 s behind what you set; it was stepped there.")
        };
        let expected = "The clock was 3.20 s behind what you set; it was stepped there.\n  \
                        2026-11-25T12:00:00Z: -0.120 s from the line\n  \
                        2026-11-26T12:00:00Z: +0.120 s from the line\n";
        assert_eq!(render(&reply, Style::PLAIN), expected);
        let changes = vec!["A is new.".to_owned()];
        let needs_restart = vec!["The control socket stays where it is.".to_owned()];
        let reply = SetReply { changes, needs_restart, ..SetReply::new(&Command::Reload, "Read again.") };
        let expected = "Read again.\n  A is new.\n  → The control socket stays where it is.\n";
        assert_eq!(render(&reply, Style::PLAIN), expected);
    }
}
