//! The demo in real time: the real NMEA driver on a real pseudo-terminal, NTP served, and a line now
//! and then that says how it goes.
//!
//! True time is this machine's raw counter; the crystal of the story gains or loses against it. What
//! the drivers stamp with the machine's counter is moved to the crystal's before the engine sees it.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use nix::pty::{OpenptyResult, openpty};
use refclocks::shell::{Delivery, serial};
use refclocks::sys::clock::{raw_now, realtime_now};
use refclocks::time::{Raw, Span, Tai, Timestamp};
use refclocks::{Edge, Health, LocalStamp, Pulse, Report, nmea};
use tokio::sync::mpsc;

use super::demo::{DemoArgs, DemoResult};
use crate::clock::{DisciplinedClock, SoftwareClock};
use crate::core::leap::UtcMap;
use crate::core::memory::Memory;
use crate::core::snapshot::Snapshot;
use crate::core::state::{Magnitude, direction, round_up};
use crate::daemon::journal::Journal;
use crate::daemon::{Daemon, Inbox, Input};
use crate::ntp::access::Access;
use crate::ntp::served::{RawMap, Served};
use crate::ntp::worker;
use crate::sim::judge::Judge;
use crate::sim::rehearsal::hat;
use crate::sim::{Happening, World};

/// A line this often, besides every event.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Runs until told to stop, or until the duration is over.
pub fn run(args: DemoArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let played = runtime.and_then(|runtime| tokio::task::LocalSet::new().block_on(&runtime, play(&args)));
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

async fn play(args: &DemoArgs) -> io::Result<DemoResult> {
    let mut stage = Stage::set(args)?;
    if !args.json {
        println!("{}", args.scenario.shows);
        match &stage.ntp {
            Some(workers) => {
                println!("NTP is served on {0}: ask it with `refclockd query {0}`. Ctrl-C ends.", workers.address())
            }
            None => println!("NTP is not served: no port near {} is free. Ctrl-C ends.", args.ntp),
        }
    }
    let (inbox, mut inputs) = mpsc::unbounded_channel();
    stage.plug_in(&inbox);
    let began = Instant::now();
    let mut next_line = began;
    let ends = args.duration.map(|seconds| began + Duration::from_secs_f64(seconds));
    let mut interrupt = std::pin::pin!(super::run::stopped());
    stage.daemon.publish();
    loop {
        let until_world = (stage.host_time_of(stage.next_at) - raw_now()).to_duration();
        let left = ends.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            break;
        }
        let wait = until_world.min(stage.daemon.until_timeout()).min(left);
        tokio::select! {
            biased;
            () = &mut interrupt => break,
            Some(input) = inputs.recv() => {
                stage.follow_crystal();
                stage.daemon.handle(input);
            }
            () = tokio::time::sleep(wait) => {
                stage.follow_crystal();
                stage.let_happen(&inbox);
                stage.daemon.handle_timeout();
            }
        }
        stage.daemon.publish();
        if !args.json {
            stage.tell_events();
            if next_line <= Instant::now() {
                println!("{}", stage.line());
                next_line += LINE_EVERY;
            }
        }
    }
    let score = stage.judge.score();
    if let Some(workers) = stage.ntp.take() {
        workers.stop();
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(DemoResult::new(args, seconds, seconds, score))
}

/// The world, the daemon in it, and how their times relate.
struct Stage {
    world: World,
    next_at: Timestamp<Tai>,
    daemon: Daemon,
    raw_map: Arc<ArcSwap<RawMap>>,
    published: Arc<ArcSwap<Snapshot>>,
    ntp: Option<worker::Workers>,
    judge: Judge,
    receiver: Option<File>,
    /// True time and this machine's counter when it began.
    start: Timestamp<Tai>,
    host_start: Timestamp<Raw>,
    sequence: u32,
    told: usize,
}

impl Stage {
    fn set(args: &DemoArgs) -> io::Result<Self> {
        let utc = UtcMap::default();
        let host_start = raw_now();
        let start = utc.tai(realtime_now().reinterpret(), false);
        let mut world = World::new(args.scenario.clone(), args.seed, start, host_start);
        let raw_map = Arc::new(ArcSwap::from_pointee(RawMap::IDENTITY));
        let clock = SoftwareClock::new(host_start, world.system_clock_at_start());
        let clock = DisciplinedClock::new(hat(args.scenario.pulse), &Memory::default(), Box::new(clock), host_start);
        let published = Arc::new(ArcSwap::from_pointee(clock.snapshot(host_start)));
        // The port answers before anything else is ready: "not synchronised" is an answer.
        let mut served = Served::new(Arc::clone(&published), Access::from_lists([], []));
        served.raw_map = Arc::clone(&raw_map);
        let ntp = bind_near(args.ntp).and_then(|listener| listener.spawn(&served).ok());
        let daemon = Daemon::new(clock, Arc::clone(&raw_map), Arc::clone(&published), Journal::silent());
        let next_at = world.next_at();
        let (judge, receiver) = (Judge::default(), None);
        Ok(Self {
            world,
            next_at,
            daemon,
            raw_map,
            published,
            ntp,
            judge,
            receiver,
            start,
            host_start,
            sequence: 0,
            told: 0,
        })
    }

    /// Starts the serial driver on one end of a pty whose other end the simulated receiver writes.
    fn plug_in(&mut self, inbox: &Inbox) {
        let Ok(OpenptyResult { master, slave }) = openpty(None, None) else {
            eprintln!("no pseudo-terminal is to be had: the receiver stays silent");
            return;
        };
        let Ok(path) = nix::unistd::ttyname(&slave) else { return };
        self.receiver = Some(master.into());
        let config = serial::SerialConfig {
            path: path.to_string_lossy().into_owned(),
            baud: None,
            nmea: nmea::Config { not_before: crate::NOT_BEFORE, ..nmea::Config::default() },
        };
        let inbox = inbox.clone();
        tokio::task::spawn_local(async move {
            // Held open, or the pty would hang up before the driver has opened it.
            let _slave = slave;
            // The receiver ends with the demo; who is gone need not be told.
            serial::run(config, move |delivery| drop(inbox.send(Input::Device(0, delivery)))).await;
        });
    }

    /// This machine's counter at a true time.
    fn host_time_of(&self, at: Timestamp<Tai>) -> Timestamp<Raw> {
        self.host_start + (at - self.start)
    }

    /// Moves the map from this machine's counter to the crystal's up to now.
    fn follow_crystal(&mut self) {
        let host = raw_now();
        let at = self.start + (host - self.host_start);
        let raw = self.world.crystal().raw_at(at);
        let rate = self.world.crystal().frequency();
        self.raw_map.store(Arc::new(RawMap { host, raw, rate }));
    }

    /// Lets everything happen that is due.
    fn let_happen(&mut self, inbox: &Inbox) {
        while self.host_time_of(self.next_at) <= raw_now() {
            let Some((at, happening)) = self.world.next_happening() else { return };
            self.next_at = self.world.next_at();
            let since = (at - self.start).seconds();
            match happening {
                Happening::Second => {
                    let raw = self.raw_map.load().apply(self.host_time_of(at));
                    let snapshot = self.published.load();
                    let error = (snapshot.clock.at(raw) - at).seconds();
                    let serving = snapshot.system_at(raw).stratum < 16;
                    self.judge.second(since, error, snapshot.bound_at(raw), snapshot.state, serving);
                }
                Happening::Edge { late } => {
                    self.judge.pulse(since);
                    self.sequence = self.sequence.wrapping_add(1);
                    let local = LocalStamp::Raw(self.host_time_of(at) + Span::from_seconds(late));
                    let pulse = Pulse { local, edge: Edge::Assert, sequence: self.sequence, missed: 0 };
                    let health = Health { pulses: self.sequence.into(), ..Health::default() };
                    let delivery = Delivery { at: raw_now(), report: Report::Pulse(pulse), health };
                    drop(inbox.send(Input::Device(1, delivery)));
                }
                Happening::Bytes(bytes) => {
                    if let Some(receiver) = &mut self.receiver {
                        // A full pty loses bytes as a UART would.
                        let _ = receiver.write_all(&bytes);
                    }
                }
            }
        }
    }

    fn tell_events(&mut self) {
        let events: Vec<String> = self.daemon.journal().recent().map(|(at, text)| format!("{at}  {text}")).collect();
        for event in events.iter().skip(self.told.min(events.len())) {
            println!("{event}");
        }
        self.told = events.len();
    }

    /// How it goes, in one line: state, bound, offset, and the truth that only a demo knows.
    fn line(&self) -> String {
        let host = raw_now();
        let raw = self.raw_map.load().apply(host);
        let snapshot = self.published.load();
        let (utc, _) = snapshot.utc_at(raw);
        let bound = snapshot.bound_at(raw);
        let error = (snapshot.clock.at(raw) - (self.start + (host - self.host_start))).seconds();
        let system = snapshot.system_at(raw);
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
}

/// The address asked for, or the next free port after it.
fn bind_near(address: SocketAddr) -> Option<worker::Listener> {
    (0..16).find_map(|i| {
        let mut address = address;
        address.set_port(address.port().checked_add(i)?);
        worker::bind(address, 1).ok()
    })
}
