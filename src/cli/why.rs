//! `refclockd why [SOURCE]`: in sentences.

use std::process::ExitCode;

use clap::Args;

use super::ask::{AskArgs, ask_and_print};
use super::status::Page;
use super::words::{Role, Style};
use crate::control::protocol::Request;
use crate::observe::report::WhyReport;

/// Options of `refclockd why`.
#[derive(Args, Debug)]
pub struct WhyArgs {
    /// Only about this source.
    source: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

/// Asks and prints.
pub fn run(args: WhyArgs) -> ExitCode {
    let only = args.source.is_some();
    ask_and_print(&args.ask, &Request::Why { source: args.source }, |report, style| render(report, style, only))
}

/// The report in sentences. `only`: about the sources alone.
pub fn render(report: &WhyReport, style: Style, only: bool) -> String {
    let mut out = Page::new(style);
    if !only {
        out.marked(Role::of_state(report.state), report.state.shape(), &report.headline);
        out.wrapped("  ", &format!("{} {} {}", report.because, report.serving, report.clock));
        out.wrapped("  ", &report.next.join(" "));
    }
    for source in &report.sources {
        if !out.lines.is_empty() {
            out.blank();
        }
        let (role, mark) = Role::of_verdict(&source.code);
        out.marked(role, mark, &source.because.join(" "));
        for next in &source.next {
            out.wrapped("  → ", next);
        }
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ask::COLUMNS;
    use crate::cli::words::width;
    use crate::observe::report::made_up::{NOW, holdover, locked, starting};

    #[test]
    fn words() {
        for (name, snapshot) in [("locked", locked()), ("holdover", holdover()), ("starting", starting())] {
            let text = render(&WhyReport::new(&snapshot, NOW, None).unwrap(), Style::PLAIN, false);
            assert!(text.lines().all(|line| width(line) <= COLUMNS), "{text}");
            insta::assert_snapshot!(format!("why_{name}"), text);
        }
        let one = WhyReport::new(&starting(), NOW, Some("gps")).unwrap();
        insta::assert_snapshot!("why_one", render(&one, Style::PLAIN, true));
    }
}
