//! `refclockd query`: asks servers for the time, once, and says how this machine's clock compares.

use std::fmt;
use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use refclocks::{LeapIndicator, ReferenceId};
use serde::Serialize;

use crate::core::state::{Magnitude, direction, round_up};
use crate::ntp::client::Rejected;
use crate::ntp::client::names::{Names, ResolveError};
use crate::ntp::client::once::{Answers, OnceConfig, OnceError, once};

/// sysexits.h: EX_UNAVAILABLE, no server gave the time.
const EX_UNAVAILABLE: u8 = 69;

/// sysexits.h: EX_OSERR.
const EX_OSERR: u8 = 71;

/// Ask NTP servers for the time and compare this machine's clock with it. Changes nothing.
#[derive(Clone, Debug, clap::Args)]
pub struct QueryArgs {
    /// Servers to ask: name or address, with a port if it is not 123
    #[arg(required = true, value_name = "HOST[:PORT]")]
    pub hosts: Vec<Host>,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,

    /// Seconds after which a server is given up
    #[arg(long, short = 't', value_name = "SECONDS", default_value = "8", value_parser = seconds)]
    pub timeout: Duration,

    /// How many times to ask each server; the exchange with the shortest delay counts
    #[arg(long, short = 'n', value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub samples: u32,

    /// NTP version to speak
    #[arg(long, value_name = "VERSION", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub ntp_version: u8,
}

/// A server as written on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Name or address, without brackets.
    pub host: String,
    /// UDP port, 123 if none is written.
    pub port: u16,
}

/// Why text is not a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing before the port.
    #[error("there is no host name")]
    NoHost,
    /// What follows the last colon is not a port.
    #[error("`{0}` is not a port: 1 to 65535")]
    Port(String),
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: address.ip().to_string(), port: address.port() });
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if bare.parse::<Ipv6Addr>().is_ok() {
            return Ok(Self { host: bare.to_owned(), port: 123 });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => {
                let number = port.parse().ok().filter(|port| *port != 0);
                (host, number.ok_or_else(|| HostError::Port(port.to_owned()))?)
            }
            None => (text, 123),
        };
        if host.is_empty() {
            return Err(HostError::NoHost);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.host.contains(':')) {
            (123, _) => f.write_str(&self.host),
            (port, true) => write!(f, "[{}]:{port}", self.host),
            (port, false) => write!(f, "{}:{port}", self.host),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.05..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("not between 0.05 and 3600 s".to_owned())
    }
}

/// Asks all servers at once and prints what they say, in the order given.
///
/// Exit codes: 0 if at least one gave the time, 69 if none did, 71 if the system gave us nothing to
/// ask with.
pub fn run(args: QueryArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "refclockd query: {error}");
            return ExitCode::from(EX_OSERR);
        }
    };
    let results = runtime.block_on(ask_all(&args));
    let reports: Vec<_> = args.hosts.iter().zip(results).map(|(host, result)| Report::new(host, result)).collect();
    let text = if args.json {
        serde_json::to_string_pretty(&serde_json::json!({ "servers": reports })).unwrap_or_default() + "\n"
    } else {
        reports.iter().map(ToString::to_string).collect()
    };
    // A reader that has gone away is no failure of the query.
    let _ = std::io::stdout().write_all(text.as_bytes());
    // A name that is still being looked up holds nothing up.
    runtime.shutdown_background();
    if reports.iter().any(|report| report.status == Status::Ok) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EX_UNAVAILABLE)
    }
}

async fn ask_all(args: &QueryArgs) -> Vec<Result<Answers, OnceError>> {
    let asked: Vec<_> = args
        .hosts
        .iter()
        .map(|host| {
            let config = OnceConfig {
                host: host.host.clone(),
                port: host.port,
                samples: args.samples,
                timeout: args.timeout,
                version: args.ntp_version,
            };
            // A names thread for each: one name that is slow to resolve does not delay the others.
            tokio::spawn(async move { once(&config, &Names::on_a_thread()).await })
        })
        .collect();
    let mut results = Vec::new();
    for task in asked {
        results.push(task.await.unwrap_or(Err(OnceError::ResolveTimeout)));
    }
    results
}

/// What came of asking one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// It gave the time.
    Ok,
    /// It answers and has no time itself.
    Unsynchronised,
    /// It answers, and what it says cannot be used.
    Rejected,
    /// It does not answer.
    Silent,
    /// It cannot be reached.
    Unreachable,
    /// Its name has no address.
    Unresolved,
}

/// One server's line, or object.
#[derive(Clone, Debug, Serialize)]
struct Report {
    host: String,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<SocketAddr>,
    #[serde(flatten)]
    reading: Option<Reading>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Reading {
    /// System clock - server, s.
    offset_s: f64,
    /// How wrong `offset_s` can be if the server is honest, s.
    root_distance_s: f64,
    delay_s: f64,
    stratum: u8,
    refid: String,
    leap: LeapIndicator,
    root_delay_s: f64,
    root_dispersion_s: f64,
    precision: i8,
    samples: usize,
    asked: u32,
}

impl Report {
    fn new(host: &Host, result: Result<Answers, OnceError>) -> Self {
        let host = host.to_string();
        let error = match result {
            Ok(answers) => {
                if let Some(reading) = Reading::new(&answers) {
                    let address = Some(answers.address);
                    return Self { host, status: Status::Ok, address, reading: Some(reading), error: None };
                }
                OnceError::Silent { address: answers.address }
            }
            Err(error) => error,
        };
        let (status, address) = match &error {
            OnceError::Resolve(_) | OnceError::ResolveTimeout => (Status::Unresolved, None),
            OnceError::Unreachable { address, .. } => (Status::Unreachable, Some(*address)),
            OnceError::Silent { address } => (Status::Silent, Some(*address)),
            OnceError::Rejected { address, reason: Rejected::Unsynchronised { .. } } => {
                (Status::Unsynchronised, Some(*address))
            }
            OnceError::Rejected { address, .. } => (Status::Rejected, Some(*address)),
        };
        let error = match &error {
            OnceError::Rejected { reason, .. } => reason.to_string(),
            OnceError::Unreachable { source, .. } => format!("it cannot be reached: {source}"),
            OnceError::Silent { .. } => "it does not answer".into(),
            OnceError::Resolve(ResolveError::Failed { error, .. }) => error.clone(),
            other => other.to_string(),
        };
        Self { host, status, address, reading: None, error: Some(error) }
    }
}

impl Reading {
    fn new(answers: &Answers) -> Option<Self> {
        let best = answers.best()?;
        let measurement = &best.measurement;
        Some(Self {
            offset_s: best.offset.seconds(),
            root_distance_s: measurement.root_distance(),
            delay_s: measurement.delay.seconds(),
            stratum: measurement.stratum,
            refid: refid(measurement.stratum, measurement.refid),
            leap: measurement.leap,
            root_delay_s: measurement.root_delay,
            root_dispersion_s: measurement.root_dispersion,
            precision: measurement.precision,
            samples: answers.exchanges.len(),
            asked: answers.asked,
        })
    }
}

/// A reference ID is a name at stratum 1 only; further away it is an address, or the hash of one,
/// that may look like letters.
fn refid(stratum: u8, refid: ReferenceId) -> String {
    let ReferenceId([a, b, c, d]) = refid;
    if stratum <= 1 { refid.to_string() } else { format!("{a}.{b}.{c}.{d}") }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        if let Some(address) = self.address
            && !self.host.starts_with(&address.ip().to_string())
            && self.host != address.to_string()
        {
            write!(f, " ({})", address.ip())?;
        }
        let Some(reading) = &self.reading else {
            return writeln!(f, ": {}", self.error.as_deref().unwrap_or("no answer"));
        };
        let Reading { offset_s, root_distance_s, delay_s, stratum, refid, samples, asked, .. } = reading;
        writeln!(
            f,
            ": the local clock is {} {}, ±{}",
            Magnitude(offset_s.abs()),
            direction(*offset_s),
            Magnitude(round_up(*root_distance_s))
        )?;
        let leap = match reading.leap {
            LeapIndicator::Insert => "a second will be inserted",
            LeapIndicator::Delete => "a second will be left out",
            LeapIndicator::None | LeapIndicator::Unsynchronised => "none",
        };
        writeln!(
            f,
            "    stratum {stratum}, reference {refid}, leap second: {leap}, delay {}, root distance {}, {samples} of {asked} answered",
            Magnitude(*delay_s),
            Magnitude(*root_distance_s)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntp::client::Measurement;
    use crate::ntp::client::once::Exchange;
    use refclocks::time::{Span, Timestamp};

    fn host(text: &str) -> Result<(String, u16), HostError> {
        text.parse::<Host>().map(|host| (host.host, host.port))
    }

    #[test]
    fn hosts_are_read_in_every_spelling() {
        for (text, name, port) in [
            ("ntp.example.org", "ntp.example.org", 123),
            ("ntp.example.org:10123", "ntp.example.org", 10123),
            ("192.0.2.1", "192.0.2.1", 123),
            ("192.0.2.1:99", "192.0.2.1", 99),
            ("2001:db8::1", "2001:db8::1", 123),
            ("[2001:db8::1]", "2001:db8::1", 123),
            ("[2001:db8::1]:99", "2001:db8::1", 99),
        ] {
            assert_eq!(host(text), Ok((name.into(), port)));
        }
        assert_eq!(host(":99"), Err(HostError::NoHost));
        assert_eq!(host(""), Err(HostError::NoHost));
        assert_eq!(host("a:b"), Err(HostError::Port("b".into())));
        assert_eq!(host("a:0"), Err(HostError::Port("0".into())));
    }

    fn answers(offset: Span, stratum: u8) -> Answers {
        let measurement = Measurement {
            at: Timestamp::EPOCH,
            reference: Timestamp::EPOCH,
            delay: Span::from_millis(24),
            root_delay: 0.0,
            root_dispersion: 0.0005,
            stratum,
            refid: ReferenceId(*b"PPS\0"),
            leap: LeapIndicator::None,
            precision: -20,
            stamps: Default::default(),
            stamp_error: 0.0,
        };
        let slow = Exchange {
            measurement: Measurement { delay: Span::from_millis(80), ..measurement },
            offset: Span::from_whole_seconds(9),
        };
        let address = "192.0.2.1:123".parse().unwrap();
        Answers { address, asked: 4, exchanges: vec![slow, Exchange { measurement, offset }] }
    }

    #[test]
    fn the_best_exchange_is_told_in_words() {
        let host: Host = "ntp.example.org".parse().unwrap();
        let report = Report::new(&host, Ok(answers(-Span::from_nanos(1_240_000), 1)));
        assert_eq!(
            report.to_string(),
            "ntp.example.org (192.0.2.1): the local clock is 1.24 ms behind, ±13.0 ms\n    \
             stratum 1, reference PPS, leap second: none, delay 24.0 ms, root distance 12.5 ms, 2 of 4 answered\n"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["status"], "ok");
        assert!((json["offset_s"].as_f64().unwrap() + 0.00124).abs() < 1e-9);
        assert_eq!(json["address"], "192.0.2.1:123");
        let report = Report::new(&host, Ok(answers(Span::from_whole_seconds(2), 2)));
        assert!(report.to_string().contains("2.00 s ahead"));
        assert!(report.to_string().contains("reference 80.80.83.0"));
    }

    #[test]
    fn a_server_without_time_is_explained() {
        let address = "192.0.2.1:123".parse().unwrap();
        let reason =
            Rejected::Unsynchronised { leap: LeapIndicator::Unsynchronised, stratum: 0, refid: ReferenceId(*b"INIT") };
        let report = Report::new(&"192.0.2.1".parse().unwrap(), Err(OnceError::Rejected { address, reason }));
        assert_eq!(
            report.to_string(),
            "192.0.2.1: the server says that it has no time yet (leap indicator 3, stratum 0, INIT)\n"
        );
        assert_eq!(report.status, Status::Unsynchronised);
    }

    #[test]
    fn arguments_parse() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            query: QueryArgs,
        }
        use clap::{CommandFactory, Parser};
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["query", "a", "[::1]:5", "--json", "-t", "0.5"]).unwrap();
        assert_eq!((cli.query.hosts.len(), cli.query.samples), (2, 4));
        assert_eq!(cli.query.timeout, Duration::from_millis(500));
        assert!(Cli::try_parse_from(["query"]).is_err());
        assert!(Cli::try_parse_from(["query", "a:x"]).is_err());
    }
}
