//! `refclockd run`: the daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use arc_swap::ArcSwap;
use clap::Args;
use refclocks::sys::clock::bracket;
use refclocks::time::{Timestamp, Utc};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tracing::{error, info, warn};

use super::check::{self, EX_CONFIG};
use crate::clock::DisciplinedClock;
use crate::config::Config;
use crate::control;
use crate::control::command::{Command, Commission};
use crate::control::server::{Bound, ServerState};
use crate::core::engine::ClockCommand;
use crate::core::memory::Memory;
use crate::core::snapshot::ClockKind;
use crate::daemon::files::Files;
use crate::daemon::installation::Installation;
use crate::daemon::journal::Journal;
use crate::daemon::privileges::{self, PrivilegeError};
use crate::daemon::roster::Roster;
use crate::daemon::start::clock::{clock, leap_table};
use crate::daemon::start::engine::{engine, step_policy};
use crate::daemon::start::memory::{remembered, starts_from};
use crate::daemon::start::serving::Serving;
use crate::daemon::supervisor::Supervisor;
use crate::daemon::thermometer;
use crate::daemon::{Daemon, Ending, Inbox, Input};
use crate::ntp::client::names::Names;
use crate::ntp::served::RawMap;
use crate::recording::write::Recorder;
use crate::recording::{Header, VERSION};

/// sysexits: the file is not what it ought to be.
pub(super) const EX_DATAERR: u8 = 65;
/// Beyond sysexits: the clock is further off than `[clock] panic`, and `panic_exit` is set.
const EX_PANIC: u8 = 79;

/// Options of `refclockd run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/refclockd/refclockd.toml")]
    config: PathBuf,

    /// Start no thread: answer NTP, write files and look names up on the one that decides, which waits
    /// for them. For simulators and debuggers.
    #[arg(long)]
    single_thread: bool,
}

/// Runs until SIGTERM or Ctrl-C; then ends with 0.
pub fn run(args: &RunArgs) -> ExitCode {
    let mut config = match check::load(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    if args.single_thread {
        config.without_threads();
    }
    run_configured(&args.config, &mut config, !args.single_thread, None)
}

/// What is recorded, and for how long; for ever if that is not said.
pub(super) struct ToRecord<'a> {
    pub path: &'a Path,
    pub duration: Option<std::time::Duration>,
}

/// Runs a configuration that was read from `file`. `threads`: may others be started beside this one?
pub(super) fn run_configured(
    file: &Path,
    config: &mut Config,
    threads: bool,
    record: Option<&ToRecord<'_>>,
) -> ExitCode {
    tracing_subscriber::fmt().with_target(false).with_writer(std::io::stderr).init();
    // As root, if we are: the file may be for nobody else.
    config.read_keys().iter().for_each(|said| warn!("{said}"));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the daemon could not begin: {error}");
            return ExitCode::from(71);
        }
    };
    match tokio::task::LocalSet::new().block_on(&runtime, serve(file, config, threads, record)) {
        Ok(Ending::Told) => ExitCode::SUCCESS,
        Ok(Ending::Panic) => {
            error!("ended, because the configuration says `panic_exit`");
            ExitCode::from(EX_PANIC)
        }
        Err(error) => {
            error!("{error}. {} Nothing was started.", error.action());
            ExitCode::from(EX_CONFIG)
        }
    }
}

async fn serve(
    file: &Path,
    config: &Config,
    threads: bool,
    record: Option<&ToRecord<'_>>,
) -> Result<Ending, Unstarted> {
    let mut taken = privileges::settle(config).await?;
    let path = config.state_dir.join("drift.toml");
    let mut memory = remembered(&path);
    let now = bracket();
    let raw = now.raw_after;
    let system: Timestamp<Utc> = now.realtime.reinterpret();
    let (utc, table_until) = leap_table(config.clock.leap_file.as_deref(), system);
    let last = memory.last_utc.filter(|last| starts_from(*last, system));
    let mut clock = clock(config, utc, raw, last.map_or(system, |last| last.max(system)));
    // A machine without a battery-backed clock starts at the last good time it knew.
    if let Some(last) = last.filter(|last| *last > system && clock.kind() == ClockKind::System) {
        info!("the system clock stands at {system:.0}; it goes on from {last:.0}, the last good time known");
        clock.apply(raw, ClockCommand::Step(last - system));
    }
    let mut header = None;
    if record.is_some() {
        // A replay begins with what the file says of it, and so does this.
        let text = memory.to_text();
        memory = Memory::from_text(&text).unwrap_or_default();
        header = Some(Header {
            refclockd_recording: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            at: now,
            clock: clock.read(raw),
            utc,
            table_until,
            step: step_policy(config),
            holdover_budget: config.holdover_budget,
            local: config.local,
            memory: text,
        });
    }
    let mut clock = DisciplinedClock::new(engine(config, utc, table_until), &memory, clock, raw);
    let (mut recorder, mut tap) = (None, None);
    if let (Some(record), Some(header)) = (record, header) {
        let (started, tape) = Recorder::start(record.path, &header)
            .map_err(|error| Unstarted::Recording { path: record.path.to_owned(), error })?;
        clock.record_to(tape.clone());
        tap = Some(tape);
        recorder = Some(started);
    }
    let published = Arc::new(ArcSwap::from_pointee(clock.snapshot(raw)));
    // The port answers before anything else is ready: "not synchronised" is an answer.
    let names = if threads { Names::on_a_thread() } else { Names::here() };
    let (inbox, mut inputs) = mpsc::unbounded_channel();
    let (mut serving, passed) = Serving::new(&published, names.clone(), inbox.clone());
    serving.apply(config);
    let raw_map = Arc::new(ArcSwap::from_pointee(RawMap::IDENTITY));
    let mut daemon = Daemon::new(clock, raw_map, published, Journal::default());
    daemon.tell_of(serving.board(), serving.served().cards, serving.outages());
    match if threads { Files::start() } else { Ok(Files::here()) } {
        Ok(files) => daemon.remember_in(path, files),
        Err(error) => warn!("no thread for files: {error}. What is learned is lost at a restart."),
    }
    take_commands(config, taken.control.take(), &daemon, &inbox);
    let supervisor = Supervisor::find(daemon.reader());
    supervisor.ready();
    let last_good = memory.last_utc.unwrap_or(crate::NOT_BEFORE);
    let (published, served) = (daemon.published(), serving.served());
    let mut roster = Roster::new(inbox.clone(), names, taken, last_good, published, served, passed);
    if let Some(tape) = tap {
        roster.record_to(tape);
    }
    let how = (inbox.clone(), threads);
    daemon.install(|clock| Installation::new(file.into(), config, (roster, serving), supervisor, how, clock));
    if threads {
        thermometer::start(&config.thermometer, &inbox);
    }
    info!(
        "started with {} reference clocks, {} servers, {} pools and {} networks that are listened to",
        config.refclocks.len(),
        config.servers.len(),
        config.pools.len(),
        config.broadcast_clients.len()
    );
    let duration = record.and_then(|record| record.duration);
    let ending = daemon.run(&mut inputs, stopped_or_after(duration)).await;
    info!("ending");
    daemon.finish();
    if let (Some(record), Some(recorder)) = (record, recorder) {
        match recorder.finish() {
            Ok(lines) => info!("{} lines were recorded in {}", lines, record.path.display()),
            Err(error) => error!("{} is not whole: {error}", record.path.display()),
        }
    }
    Ok(ending)
}

/// Told to stop, or so much later.
async fn stopped_or_after(duration: Option<std::time::Duration>) {
    match duration {
        Some(duration) => drop(tokio::time::timeout(duration, stopped()).await),
        None => stopped().await,
    }
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
enum Unstarted {
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    #[error("{} cannot be recorded in: {error}", path.display())]
    Recording { path: PathBuf, error: std::io::Error },
}

impl Unstarted {
    fn action(&self) -> String {
        match self {
            Self::Privileges(error) => error.action().to_string(),
            Self::Recording { .. } => "Name a file that is not there yet, in a folder that you may write.".to_owned(),
        }
    }
}

/// What the operator says comes in by the control socket, and as SIGHUP.
fn take_commands(config: &Config, bound: Option<Bound>, daemon: &Daemon, inbox: &Inbox) {
    let commands = inbox.clone();
    // A daemon that ends takes no commands.
    let commission = move |commission| drop(commands.send(Input::Command(commission)));
    let socket = config.control_socket.clone();
    spawn_local(control::server::run(socket, bound, daemon.reader(), commission, tell_control));
    let commands = inbox.clone();
    spawn_local(async move {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
        while hangup.recv().await.is_some() {
            drop(commands.send(Input::Command(Commission { command: Command::Reload, answer: None })));
        }
    });
}

fn tell_control(state: &ServerState) {
    match state {
        ServerState::Listening { .. } => info!("{state}"),
        ServerState::Unavailable { error, .. } => warn!("{state}. {}", error.action()),
        ServerState::Lost { .. } => warn!("{state}"),
    }
}

/// SIGTERM or Ctrl-C.
pub(super) async fn stopped() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => std::future::pending().await,
    }
}
