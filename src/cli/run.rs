//! `refclockd run`: the daemon.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use arc_swap::ArcSwap;
use clap::Args;
use refclocks::sys::clock::{raw_now, realtime_now};
use refclocks::time::{Timestamp, Utc};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::check::{self, EX_CONFIG};
use crate::clock::DisciplinedClock;
use crate::config::Config;
use crate::control;
use crate::control::server::ServerState;
use crate::core::engine::ClockCommand;
use crate::core::snapshot::ClockKind;
use crate::daemon::Daemon;
use crate::daemon::files::Files;
use crate::daemon::journal::Journal;
use crate::daemon::privileges::{self, PrivilegeError};
use crate::daemon::start::clock::{clock, leap_table};
use crate::daemon::start::memory::{believable, remembered};
use crate::daemon::start::serving::listen;
use crate::daemon::start::sources::{engine, start_sources};
use crate::daemon::supervisor::Supervisor;
use crate::daemon::thermometer;
use crate::ntp::client::names::Names;
use crate::ntp::served::RawMap;

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
    if args.single_thread
        && let Some(serve) = &mut config.serve
    {
        serve.workers = 0;
    }
    tracing_subscriber::fmt().with_target(false).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the daemon could not begin: {error}");
            return ExitCode::from(71);
        }
    };
    match tokio::task::LocalSet::new().block_on(&runtime, serve(&config, !args.single_thread)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}. {} Nothing was started.", error.action());
            ExitCode::from(EX_CONFIG)
        }
    }
}

/// `threads`: may others be started beside this one?
async fn serve(config: &Config, threads: bool) -> Result<(), PrivilegeError> {
    let mut taken = privileges::settle(config).await?;
    let path = config.state_dir.join("drift.toml");
    let memory = remembered(&path);
    let raw = raw_now();
    let system: Timestamp<Utc> = realtime_now().reinterpret();
    let utc = leap_table(config.clock.leap_file.as_deref(), system);
    let last = memory.last_utc.filter(|last| believable(*last, system));
    let not_before = last.map_or(crate::NOT_BEFORE, |last| last.max(crate::NOT_BEFORE));
    let mut clock = clock(config, utc, raw, last.map_or(system, |last| last.max(system)));
    // A machine without a battery-backed clock starts at the last good time it knew.
    if let Some(last) = last.filter(|last| *last > system && clock.kind() == ClockKind::System) {
        info!("the system clock stands at {system:.0}; it goes on from {last:.0}, the last good time known");
        clock.apply(raw, ClockCommand::Step(last - system));
    }
    let clock = DisciplinedClock::new(engine(config, utc), &memory, clock, raw);
    let published = Arc::new(ArcSwap::from_pointee(clock.snapshot(raw)));
    // The port answers before anything else is ready: "not synchronised" is an answer.
    let workers = listen(config, &published);
    let raw_map = Arc::new(ArcSwap::from_pointee(RawMap::IDENTITY));
    let mut daemon = Daemon::new(clock, raw_map, published, Journal::default());
    match if threads { Files::start() } else { Ok(Files::here()) } {
        Ok(files) => daemon.remember_in(path, files),
        Err(error) => warn!("no thread for files: {error}. What is learned is lost at a restart."),
    }
    let socket = config.control_socket.clone();
    tokio::task::spawn_local(control::server::run_bound(socket, taken.control.take(), daemon.reader(), tell_control));
    let (inbox, mut inputs) = mpsc::unbounded_channel();
    let names = if threads { Names::on_a_thread() } else { Names::here() };
    start_sources(config, &mut taken, not_before, &names, &inbox);
    if threads {
        thermometer::start(&config.thermometer, &inbox);
    }
    info!("started with {} reference clocks and {} servers", config.refclocks.len(), config.servers.len());
    let supervisor = Supervisor::find(daemon.reader());
    supervisor.ready();
    daemon.run(&mut inputs, stopped()).await;
    info!("ending");
    supervisor.stopping();
    daemon.finish();
    for workers in workers.take() {
        workers.stop();
    }
    Ok(())
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
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => std::future::pending().await,
    }
}
