//! `refclockd clients`: who has asked for the time, a line for each.

use std::process::ExitCode;

use clap::Args;

use super::ask::{AskArgs, ask_and_print};
use super::status::Page;
use super::words::{self, Style, left, right};
use crate::control::protocol::Request;
use crate::observe::report::{ClientEntry, ClientsReport};

/// Options of `refclockd clients`.
#[derive(Args, Debug)]
pub struct ClientsArgs {
    /// Show so many, the latest first.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    #[command(flatten)]
    ask: AskArgs,
}

/// Asks and prints.
pub fn run(args: ClientsArgs) -> ExitCode {
    ask_and_print(&args.ask, &Request::Clients { most: Some(args.count) }, render)
}

/// The report as a table.
pub fn render(report: &ClientsReport, style: Style) -> String {
    let mut out = Page::new(style);
    if report.clients.is_empty() {
        out.wrapped("", "Nobody has asked for the time, or nobody is remembered.");
        return out.finish();
    }
    let header = row("address", ["asked", "dropped", "limited", "every", "lately", "last", "version"]);
    out.lines.push(style.text(&header).into_owned());
    for client in &report.clients {
        out.lines.push(style.text(&row(&client.address, cells(client))).into_owned());
    }
    let hidden = report.known.saturating_sub(report.clients.len());
    if hidden > 0 {
        out.blank();
        out.wrapped("", &format!("{hidden} more are remembered: `--count N` shows more."));
    }
    out.finish()
}

fn cells(client: &ClientEntry) -> [String; 7] {
    let version = match client.mode {
        3 => client.ntp_version.to_string(),
        mode => format!("{} m{mode}", client.ntp_version),
    };
    [
        client.count.to_string(),
        client.dropped.to_string(),
        client.limited.to_string(),
        interval(client.average_interval_s),
        interval(client.recent_interval_s),
        words::age(client.last_s),
        version,
    ]
}

/// An interval with two or three digits: `64 s`, `1.5 s`, `4 ms`.
fn interval(seconds: Option<f64>) -> String {
    match seconds {
        Some(s) if s < 0.000_95 => format!("{:.0} us", s * 1e6),
        Some(s) if s < 0.95 => format!("{:.0} ms", s * 1e3),
        Some(s) if s < 9.95 => format!("{s:.1} s"),
        other => words::age(other),
    }
}

fn row<S: AsRef<str>>(address: &str, cells: [S; 7]) -> String {
    let [count, dropped, limited, every, lately, last, version] = &cells;
    // A whole IPv6 address may have 39 characters; a longer line is better than half an address.
    let columns = [(count, 8), (dropped, 7), (limited, 7), (every, 7), (lately, 7), (last, 7), (version, 7)];
    let rest: String = columns.iter().map(|(cell, width)| format!(" {}", right(cell.as_ref(), *width))).collect();
    let address = if words::width(address) > 22 { address.to_owned() } else { left(address, 22) };
    format!("{address}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ask::COLUMNS;
    use crate::cli::words::width;
    use crate::ntp::monitor::Client;
    use crate::observe::report::made_up::{NOW, locked};
    use refclocks::time::Span;

    fn client(address: &str, count: u64, ago_s: i64, every_s: i64) -> Client {
        Client {
            address: address.parse().unwrap(),
            port: 123,
            first: NOW - Span::from_whole_seconds(ago_s + every_s * (count as i64 - 1)),
            last: NOW - Span::from_whole_seconds(ago_s),
            count,
            dropped: 2,
            limited: 1,
            mode: 3,
            version: 4,
            interval: (count > 1).then(|| Span::from_millis(every_s * 1010)),
        }
    }

    #[test]
    fn words() {
        let clients = vec![
            client("192.0.2.1", 1, 4000, 0),
            Client { mode: 6, version: 2, ..client("192.0.2.200", 12_345_678, 0, 1) },
            client("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", 20, 3, 64),
        ];
        let report = ClientsReport::new(&locked(), NOW, clients, 2);
        let text = render(&report, Style::PLAIN);
        assert!(text.lines().all(|line| width(line) <= COLUMNS || line.contains("2001:")), "{text}");
        insta::assert_snapshot!("clients", text);
        let none = ClientsReport::new(&locked(), NOW, Vec::new(), 2);
        assert!(render(&none, Style::PLAIN).starts_with("Nobody has asked"));
    }
}
