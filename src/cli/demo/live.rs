//! The demo in real time: the real NMEA driver on a real pseudo-terminal, NTP served, the control
//! socket answering, and a view of it all; or, without a terminal, a line now and then.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::stage::Stage;
use super::{DemoArgs, DemoResult};
use crate::cli::view::{Key, Screen, Shown};
use crate::cli::words::Style;
use crate::control;
use crate::core::state::{Magnitude, direction, round_up};
use crate::daemon::Input;
use crate::observe::Look;
use crate::observe::report::{SatellitesReport, SourcesReport, StatusReport};
use crate::sim::Scenario;

/// Without a view: a line this often, besides every event.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// With a view: drawn this often, besides at every key.
const DRAW_EVERY: Duration = Duration::from_millis(500);
/// Events that a view may show.
const EVENTS_SHOWN: usize = 16;

/// Runs until told to stop, or until the duration is over.
pub fn run(args: &DemoArgs, scenario: &Scenario) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let played = runtime.and_then(|runtime| tokio::task::LocalSet::new().block_on(&runtime, play(args, scenario)));
    match played {
        Ok(result) => {
            result.print(args.json);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the demo could not begin: {error}");
            ExitCode::from(71)
        }
    }
}

async fn play(args: &DemoArgs, scenario: &Scenario) -> io::Result<DemoResult> {
    let mut stage = Stage::set(args, scenario)?;
    let socket = args.socket.clone().unwrap_or_else(own_socket);
    let asks = how_to_ask(&stage, &socket);
    let mut teller = Teller::new(args, scenario, &asks)?;
    let (inbox, mut inputs) = mpsc::unbounded_channel();
    let commands = inbox.clone();
    let commission = move |commission| drop(commands.send(Input::Command(commission)));
    let control = control::server::run(socket.clone(), None, stage.daemon.reader(), commission, |_| ());
    tokio::task::spawn_local(control);
    stage.plug_in(&inbox);
    let began = Instant::now();
    let mut next_telling = began;
    let ends = args.duration.map(|seconds| began + Duration::from_secs_f64(seconds));
    let mut interrupt = std::pin::pin!(crate::cli::run::stopped());
    stage.daemon.publish();
    loop {
        let left = ends.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            break;
        }
        let until_telling = next_telling.saturating_duration_since(Instant::now());
        let wait = stage.until_next().min(stage.daemon.until_timeout()).min(until_telling).min(left);
        tokio::select! {
            biased;
            () = &mut interrupt => break,
            key = teller.key() => match key {
                Key::Quit => break,
                Key::Other => next_telling = Instant::now(),
            },
            Some(input) = inputs.recv() => {
                stage.follow_crystal();
                stage.daemon.handle(input);
            }
            () = tokio::time::sleep(wait) => {
                stage.follow_crystal();
                stage.let_happen(&inbox);
                stage.fetch_pulses(&inbox);
                stage.ask_servers(&inbox);
                stage.daemon.handle_timeout();
            }
        }
        stage.daemon.publish();
        if teller.has_news(&stage) || next_telling <= Instant::now() {
            next_telling = Instant::now() + teller.tell(&stage)?;
        }
    }
    drop(teller);
    let score = stage.judge.score();
    if let Some(workers) = stage.ntp.take() {
        workers.stop();
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(DemoResult::new(scenario, args.seed, seconds, seconds, score))
}

/// A socket that no other user's demo has.
fn own_socket() -> PathBuf {
    std::env::temp_dir().join(format!("refclockd-demo-{}.sock", nix::unistd::getuid()))
}

/// Where others can ask, in one line each.
fn how_to_ask(stage: &Stage, socket: &std::path::Path) -> Vec<String> {
    let ntp = match &stage.ntp {
        Some(workers) => format!("refclockd query {}", workers.address()),
        None => "NTP is not served: no port near the one asked for is free".into(),
    };
    vec![ntp, format!("refclockd status --socket {}", socket.display())]
}

/// Shows how it goes.
enum Teller {
    /// Nothing before the end.
    Silent,
    /// Lines.
    Lines { told: u64, next_line: Instant },
    /// The live view.
    View { screen: Box<Screen>, title: String, footer: String },
}

impl Teller {
    fn new(args: &DemoArgs, scenario: &Scenario, asks: &[String]) -> io::Result<Self> {
        if args.json {
            return Ok(Self::Silent);
        }
        if args.headless || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            println!("{}", scenario.shows);
            println!("Ask it: {}. Ctrl-C ends.", asks.join("; "));
            return Ok(Self::Lines { told: 0, next_line: Instant::now() });
        }
        let screen = Box::new(Screen::open(Style::of_stdout(args.ascii))?);
        let title = format!("demo {}: {}", scenario.name, scenario.shows);
        Ok(Self::View { screen, title, footer: asks.join(" · ") })
    }

    /// The next key; never, where there is no view.
    async fn key(&mut self) -> Key {
        match self {
            Self::View { screen, .. } => screen.key().await,
            Self::Silent | Self::Lines { .. } => std::future::pending().await,
        }
    }

    fn has_news(&self, stage: &Stage) -> bool {
        matches!(self, Self::Lines { told, .. } if stage.daemon.journal().noted() > *told)
    }

    /// Tells; returns how long until the next time.
    fn tell(&mut self, stage: &Stage) -> io::Result<Duration> {
        match self {
            Self::Silent => Ok(Duration::from_secs(3600)),
            Self::Lines { told, next_line } => {
                for (at, text) in stage.daemon.journal().after(*told) {
                    println!("{at}  {text}");
                }
                *told = stage.daemon.journal().noted();
                if *next_line <= Instant::now() {
                    println!("{}", line(stage));
                    *next_line += LINE_EVERY;
                }
                Ok(next_line.saturating_duration_since(Instant::now()))
            }
            Self::View { screen, title, footer } => {
                let (snapshot, now) = stage.daemon.reader().look();
                let events = stage.daemon.journal().recent().rev().take(EVENTS_SHOWN);
                screen.draw(&Shown {
                    title: title.clone(),
                    status: StatusReport::new(&snapshot, now),
                    sources: SourcesReport::new(&snapshot, now.raw),
                    satellites: SatellitesReport::new(&snapshot, now.raw),
                    true_error: Some(stage.true_error()),
                    events: events.map(|(at, text)| format!("{}  {text}", clock_of_day(&at.to_string()))).collect(),
                    footer: footer.clone(),
                })?;
                Ok(DRAW_EVERY)
            }
        }
    }
}

/// `03:04:05` of an RFC 3339 time.
fn clock_of_day(utc: &str) -> &str {
    utc.get(11..19).unwrap_or(utc)
}

/// How it goes, in one line: state, bound, offset, and the truth that only a demo knows.
fn line(stage: &Stage) -> String {
    let (snapshot, now) = stage.daemon.reader().look();
    let (utc, _) = snapshot.utc_at(now.raw);
    let bound = snapshot.distance_at(now.raw);
    let error = stage.true_error();
    let system = snapshot.system_at(now.raw);
    let serving = if system.stratum < 16 { format!("stratum {}", system.stratum) } else { "not serving".into() };
    let claims =
        if bound.is_finite() { format!("within ±{}", Magnitude(round_up(bound))) } else { "time unknown".into() };
    format!(
        "{utc:.1}  {} {}, {claims}, {serving}; in truth {} {}",
        snapshot.state.shape(),
        snapshot.state.headline(),
        Magnitude(error.abs()),
        direction(error)
    )
}
