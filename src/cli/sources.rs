//! `refclockd sources`: a line for each, and a sentence about each odd one.

use std::process::ExitCode;

use clap::Args;

use super::ask::{AskArgs, ask_and_print};
use super::status::Page;
use super::words::{self, Role, Style, left, right};
use crate::control::protocol::Request;
use crate::core::source::Stamps;
use crate::core::state::{Bound, Signed};
use crate::observe::report::{SourceEntry, SourcesReport};

/// Options of `refclockd sources`.
#[derive(Args, Debug)]
pub struct SourcesArgs {
    #[command(flatten)]
    ask: AskArgs,
}

/// Asks and prints.
pub fn run(args: SourcesArgs) -> ExitCode {
    ask_and_print(&args.ask, &Request::Sources, render)
}

/// The report as a table.
pub fn render(report: &SourcesReport, style: Style) -> String {
    let mut out = Page::new(style);
    if report.sources.is_empty() {
        out.wrapped("", "No time source is configured. Name a receiver or a server in the configuration.");
        return out.finish();
    }
    let header = row("name", "kind", "offset", "bound", "last", "reach", "verdict");
    out.lines.push(style.text(&format!("  {header}")).into_owned());
    for source in &report.sources {
        let (role, mark) = Role::of_verdict(&source.verdict.code);
        // Rendered before it is fitted, because ASCII takes more columns.
        let cells = [
            words::kind(&source.kind).to_owned(),
            Signed(words::seconds(source.offset_ns)).to_string(),
            Bound(words::bound_seconds(source.interval_ns)).to_string(),
            words::age(source.last_s),
        ]
        .map(|cell| style.text(&cell).into_owned());
        let [kind, offset, bound, last] = &cells;
        let text = row(&source.name, kind, offset, bound, last, &source.reach, &source.verdict.word);
        let line = format!("{} {}", style.paint(role, &mark.to_string()), style.text(&text));
        out.lines.push(line);
    }
    let by_cards: Vec<&str> = report
        .sources
        .iter()
        .filter(|source| source.stamps == Some(Stamps::Hardware))
        .map(|source| source.name.as_str())
        .collect();
    if !by_cards.is_empty() {
        out.blank();
        out.wrapped("", &format!("Stamped by the network card: {}.", by_cards.join(", ")));
    }
    for source in report.sources.iter().filter(|s| s.is_odd()) {
        out.blank();
        let (role, mark) = Role::of_verdict(&source.verdict.code);
        out.marked(role, mark, &sentences(source).join(" "));
    }
    out.finish()
}

fn row(name: &str, kind: &str, offset: &str, bound: &str, last: &str, reach: &str, verdict: &str) -> String {
    let [name, kind] = [left(name, 17), left(kind, 8)];
    let [offset, bound, last, reach] = [right(offset, 9), right(bound, 9), right(last, 6), right(reach, 5)];
    format!("{name} {kind} {offset} {bound}  {last}  {reach}  {verdict}")
}

/// Why a source is odd, and what to do.
pub(super) fn sentences(source: &SourceEntry) -> Vec<String> {
    let mut sentences = vec![format!("{} is {}.", source.name, source.verdict.text)];
    let mut actions = Vec::new();
    if let Some(device) = source.device.as_ref().filter(|device| device.phase != "good") {
        let since = device.since_s.map_or_else(String::new, |s| format!(", for {}", crate::core::state::Duration(s)));
        sentences.push(format!("Its device: {}{since}.", device.reason));
        actions.extend(device.action.clone());
    }
    if let Some(server) = source.server.as_ref().filter(|server| server.action.is_some()) {
        sentences.push(format!("The server: {}.", words::clause(&server.text)));
        actions.extend(server.action.clone());
    }
    if actions.is_empty() {
        actions.extend(source.verdict.action.clone());
    }
    sentences.extend(actions);
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ask::COLUMNS;
    use crate::cli::words::{Charset, width};
    use crate::observe::report::made_up::{NOW, holdover, locked, starting};

    #[test]
    fn words() {
        for (name, snapshot) in [("locked", locked()), ("holdover", holdover()), ("starting", starting())] {
            let text = render(&SourcesReport::new(&snapshot, NOW), Style::PLAIN);
            assert!(text.lines().all(|line| width(line) <= COLUMNS), "{text}");
            insta::assert_snapshot!(format!("sources_{name}"), text);
        }
    }

    #[test]
    fn whom_the_network_card_stamps_is_told() {
        let mut snapshot = locked();
        let network = crate::core::snapshot::SourceKind::Network;
        let mut sources = snapshot.sources.to_vec();
        let told = |snapshot: &_| render(&SourcesReport::new(snapshot, NOW), Style::PLAIN);
        let server = sources.iter_mut().find(|source| source.kind == network).unwrap();
        server.stamps = Some(Stamps::Kernel);
        let name = server.name.clone();
        snapshot.sources = sources.clone().into();
        assert!(!told(&snapshot).contains("network card"));
        sources.iter_mut().find(|source| source.name == name).unwrap().stamps = Some(Stamps::Hardware);
        snapshot.sources = sources.into();
        let text = told(&snapshot);
        assert!(text.contains(&format!("Stamped by the network card: {name}.")), "{text}");
        let json = serde_json::to_string(&SourcesReport::new(&snapshot, NOW)).unwrap();
        assert!(json.contains("\"stamps\":\"hardware\"") && json.matches("\"stamps\"").count() >= 1, "{json}");
    }

    #[test]
    fn ascii_is_ascii_and_fits() {
        let style = Style { charset: Charset::Ascii, color: false };
        let text = render(&SourcesReport::new(&locked(), NOW), style);
        assert!(text.is_ascii() && text.lines().all(|line| line.len() <= COLUMNS), "{text}");
    }
}
