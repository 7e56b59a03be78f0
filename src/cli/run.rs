//! `refclockd run`: the daemon.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use clap::Args;
use refclocks::gpsd::Stream;
use refclocks::shell::{gpsd, pps, serial, shm, sock};
use refclocks::sys::clock::{raw_now, realtime_now};
use refclocks::time::{Raw, Span, Timestamp, Utc};
use refclocks::{ReferenceId, gpsd as gpsd_driver, nmea};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::check;
use crate::clock::{Clock, DisciplinedClock, KernelClock, SoftwareClock};
use crate::config::{Config, Discipline, Driver, Otherwise, Refclock, Server};
use crate::control;
use crate::control::server::ServerState;
use crate::core::engine::{ClockCommand, EngineConfig};
use crate::core::leap::UtcMap;
use crate::core::leap_list::LeapList;
use crate::core::memory::Memory;
use crate::core::snapshot::{ClockKind, Snapshot, SourceKind};
use crate::core::source::SourceConfig;
use crate::core::steering::StepPolicy;
use crate::daemon::journal::Journal;
use crate::daemon::{Daemon, Inbox, Input};
use crate::ntp::access::Access;
use crate::ntp::client::names::Names;
use crate::ntp::client::{self, ClientConfig};
use crate::ntp::served::{RawMap, Served};
use crate::ntp::worker::{self, Workers};
use crate::sys::kernel_clock::ThisKernel;

/// A port that could not be had is tried again so often.
const BIND_AGAIN: Duration = Duration::from_secs(5);

/// The system's table of leap seconds.
const LEAP_FILE: &str = "/usr/share/zoneinfo/leap-seconds.list";

/// Options of `refclockd run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/refclockd/refclockd.toml")]
    config: PathBuf,
}

/// Runs until SIGTERM or Ctrl-C; then ends with 0.
pub fn run(args: &RunArgs) -> ExitCode {
    let config = match check::load(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    tracing_subscriber::fmt().with_target(false).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the daemon could not begin: {error}");
            return ExitCode::from(71);
        }
    };
    tokio::task::LocalSet::new().block_on(&runtime, serve(&config));
    ExitCode::SUCCESS
}

async fn serve(config: &Config) {
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
        if let Err(error) = clock.apply(raw, ClockCommand::Step(last - system)) {
            warn!("{error}");
        }
    }
    let clock = DisciplinedClock::new(engine(config, utc), &memory, clock, raw);
    let published = Arc::new(ArcSwap::from_pointee(clock.snapshot(raw)));
    // The port answers before anything else is ready: "not synchronised" is an answer.
    let workers = listen(config, &published);
    let raw_map = Arc::new(ArcSwap::from_pointee(RawMap::IDENTITY));
    let mut daemon = Daemon::new(clock, raw_map, published, Journal::default());
    daemon.remember_in(path);
    tokio::task::spawn_local(control::server::run(config.control_socket.clone(), daemon.reader(), tell_control));
    let (inbox, mut inputs) = mpsc::unbounded_channel();
    start_sources(config, not_before, &inbox);
    info!("started with {} reference clocks and {} servers", config.refclocks.len(), config.servers.len());
    daemon.run(&mut inputs, stopped()).await;
    info!("ending");
    daemon.finish();
    for workers in workers.take() {
        workers.stop();
    }
}

/// A last good time that lies ahead of a clock that is itself possible is a mistake of somebody's.
fn believable(last: Timestamp<Utc>, system: Timestamp<Utc>) -> bool {
    let day = Span::from_whole_seconds(86_400);
    let believable = last <= system + day || system < crate::NOT_BEFORE;
    if !believable {
        warn!("the last good time known is {last:.0}, and the system clock stands at {system:.0}: not believed");
    }
    believable
}

/// TAI and UTC around now, by the operator's table or the system's; what is known to this program
/// where there is none.
fn leap_table(file: Option<&Path>, system: Timestamp<Utc>) -> UtcMap {
    let path = file.unwrap_or(Path::new(LEAP_FILE));
    let now = system.max(crate::NOT_BEFORE);
    let list = match std::fs::read_to_string(path) {
        Ok(text) => LeapList::parse(&text).map_err(|error| error.to_string()),
        // The system need not have one.
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => return UtcMap::default(),
        Err(error) => Err(error.to_string()),
    };
    match list {
        Ok(list) => {
            if list.expires.is_some_and(|expires| expires < now) {
                warn!("{} has expired: a leap second announced since is not in it. Update tzdata.", path.display());
            }
            let utc = list.map_at(now);
            if let Some(leap) = utc.next {
                let what = if leap.change > 0 { "inserted" } else { "left out" };
                info!("a second will be {what} before {}, by {}", leap.at, path.display());
            }
            utc
        }
        Err(error) => {
            warn!("{} is not used: {error}", path.display());
            UtcMap::default()
        }
    }
}

/// The clock to steer; `start` is where one of our own begins.
fn clock(config: &Config, utc: UtcMap, raw: Timestamp<Raw>, start: Timestamp<Utc>) -> Box<dyn Clock> {
    let own = || Box::new(SoftwareClock::new(raw, utc.tai(start, false))) as Box<dyn Clock>;
    let watched = || Box::new(KernelClock::watch(Box::new(ThisKernel), utc)) as Box<dyn Clock>;
    match config.clock.discipline {
        Discipline::Software => own(),
        Discipline::Observe => watched(),
        Discipline::Kernel => match KernelClock::take(Box::new(ThisKernel), utc) {
            Ok(clock) => Box::new(clock),
            Err(error) => {
                let (instead, clock) = match config.clock.otherwise {
                    Otherwise::Software => ("A clock of our own is steered and served instead", own()),
                    Otherwise::Observe => ("It is only watched", watched()),
                };
                warn!("{error}. {instead}. Run as root, or give the program CAP_SYS_TIME.");
                clock
            }
        },
    }
}

/// What the last life learned; a file that cannot be used is ignored with a word.
fn remembered(path: &Path) -> Memory {
    match std::fs::read_to_string(path) {
        Ok(text) => Memory::from_text(&text).unwrap_or_else(|error| {
            warn!("{} is ignored: {error}", path.display());
            Memory::default()
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Memory::default(),
        Err(error) => {
            warn!("{} cannot be read: {error}", path.display());
            Memory::default()
        }
    }
}

/// The sources in the engine's order: reference clocks (gpsd counts twice), then servers.
fn engine(config: &Config, utc: UtcMap) -> EngineConfig {
    let mut sources = Vec::new();
    for clock in &config.refclocks {
        sources.push(source(clock));
        if let Driver::Gpsd { .. } = clock.driver {
            let refid = ReferenceId(*b"PPS\0");
            let name = format!("{}-pulse", clock.name);
            sources.push(SourceConfig { name, refid, kind: SourceKind::NumberedPulse, delay: None, ..source(clock) });
        }
    }
    let names: Vec<String> = sources.iter().map(|s| s.name.clone()).collect();
    for clock in &config.refclocks {
        let lock = clock.lock.as_ref().and_then(|lock| names.iter().position(|n| n == lock));
        if let Some(source) = sources.iter_mut().find(|s| s.name == clock.name) {
            source.lock = lock;
        }
    }
    sources.extend(config.servers.iter().map(server));
    let clock = &config.clock;
    EngineConfig {
        sources,
        step: StepPolicy {
            threshold: clock.step_threshold,
            updates: clock.step_updates,
            panic: clock.panic,
            ..StepPolicy::default()
        },
        holdover_budget: config.holdover_budget,
        local_stratum: config.local.map(|l| l.stratum),
        utc,
        steers_realtime: false,
    }
}

fn source(clock: &Refclock) -> SourceConfig {
    let kind = match clock.driver {
        Driver::Nmea { .. } | Driver::Gpsd { .. } => SourceKind::Message,
        Driver::Pps { .. } => SourceKind::Pulse,
        // gpsd writes messages to even units and pulses, numbered, to odd ones.
        Driver::Shm { unit, pulse, .. } if pulse.unwrap_or(unit % 2 == 1) => SourceKind::NumberedPulse,
        Driver::Shm { .. } => SourceKind::Message,
        // gpsd's are numbered although they are pulses.
        Driver::Sock { pulse: true, .. } => SourceKind::NumberedPulse,
        Driver::Sock { .. } => SourceKind::Message,
    };
    SourceConfig {
        name: clock.name.clone(),
        refid: clock.refid,
        driver: clock.driver.name(),
        address: clock.driver.address(),
        kind,
        lock: None,
        delay: clock.delay,
        offset: clock.offset,
        prefer: clock.prefer,
        noselect: clock.noselect,
        trust: clock.trust,
        stratum: clock.stratum,
    }
}

fn server(server: &Server) -> SourceConfig {
    SourceConfig {
        name: server.name.clone(),
        refid: ReferenceId::default(),
        driver: "ntp",
        address: format!("{}:{}", server.host, server.port),
        kind: SourceKind::Network,
        lock: None,
        delay: None,
        offset: 0.0,
        prefer: server.prefer,
        noselect: server.noselect,
        trust: server.trust,
        stratum: 0,
    }
}

/// Starts a shell for each source; they end with the daemon.
fn start_sources(config: &Config, not_before: Timestamp<Utc>, inbox: &Inbox) {
    let mut next = 0;
    for clock in &config.refclocks {
        start_refclock(clock, next, not_before, inbox);
        next += if matches!(clock.driver, Driver::Gpsd { .. }) { 2 } else { 1 };
    }
    let names = Names::new();
    for server in &config.servers {
        let inbox = inbox.clone();
        let at = next;
        next += 1;
        let client = ClientConfig {
            port: server.port,
            iburst: server.iburst,
            minpoll: server.minpoll,
            maxpoll: server.maxpoll,
            ..ClientConfig::new(server.host.clone())
        };
        let sink = move |event| drop(inbox.send(Input::Server(at, event)));
        tokio::task::spawn_local(client::shell::run(client, names.clone(), sink));
    }
}

fn start_refclock(clock: &Refclock, at: usize, not_before: Timestamp<Utc>, inbox: &Inbox) {
    let inbox = inbox.clone();
    // An inbox that is closed means that the daemon ends; nobody is left to tell.
    let send = move |at, delivery| drop(inbox.send(Input::Device(at, delivery)));
    match &clock.driver {
        Driver::Nmea { device, baud } => {
            let path = device.to_string_lossy().into_owned();
            let nmea = nmea::Config { baud: *baud, not_before };
            let config = serial::SerialConfig { path, baud: *baud, nmea };
            tokio::task::spawn_local(serial::run(config, move |d| send(at, d)));
        }
        Driver::Pps { device, edge } => {
            let config = pps::PpsConfig { path: device.to_string_lossy().into_owned(), edge: *edge };
            tokio::task::spawn_local(pps::run(config, move |d| send(at, d)));
        }
        Driver::Gpsd { address } => {
            let session = gpsd_driver::Config { not_before };
            let config = gpsd::GpsdConfig { address: address.to_string(), session };
            let sink = move |stream, d| send(if stream == Stream::Pulse { at + 1 } else { at }, d);
            tokio::task::spawn_local(gpsd::run(config, sink));
        }
        Driver::Shm { unit, trust_owner, .. } => {
            let config = shm::ShmConfig { unit: *unit, trust_owner: *trust_owner };
            tokio::task::spawn_local(shm::run(config, move |d| send(at, d)));
        }
        Driver::Sock { path, .. } => {
            let config = sock::SockConfig { path: path.to_string_lossy().into_owned(), mode: 0o660 };
            tokio::task::spawn_local(sock::run(config, move |d| send(at, d)));
        }
    }
}

/// Serves NTP on every address; one that cannot be had is tried again.
fn listen(config: &Config, published: &Arc<ArcSwap<Snapshot>>) -> Rc<RefCell<Vec<Workers>>> {
    let serving = Rc::new(RefCell::new(Vec::new()));
    let Some(serve) = &config.serve else { return serving };
    let access = Access::from_lists(serve.allow.iter().copied(), serve.deny.iter().copied());
    let served = Served::new(Arc::clone(published), access);
    let threads = serve.workers.max(1);
    for address in serve.listen.iter().copied() {
        match start_workers(address, threads, &served) {
            Ok(workers) => serving.borrow_mut().push(workers),
            Err(error) => {
                warn!("NTP is not served on {address}: {error}. Trying again every 5 s.");
                let (serving, served) = (Rc::clone(&serving), served.clone());
                tokio::task::spawn_local(async move {
                    loop {
                        tokio::time::sleep(BIND_AGAIN).await;
                        if let Ok(workers) = start_workers(address, threads, &served) {
                            info!("NTP is served on {address} now");
                            return serving.borrow_mut().push(workers);
                        }
                    }
                });
            }
        }
    }
    serving
}

fn start_workers(address: SocketAddr, threads: usize, served: &Served) -> Result<Workers, String> {
    let listener = worker::bind(address, threads).map_err(|e| match e.action() {
        Some(action) => format!("{e}. {action}"),
        None => e.to_string(),
    })?;
    listener.spawn(served).map_err(|e| e.to_string())
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
