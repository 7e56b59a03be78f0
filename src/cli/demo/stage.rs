//! The stage of the demo in real time: the simulated world, the daemon in it, and how their times relate.
//!
//! True time is this machine's raw counter; the crystal of the story gains or loses against it. What
//! the drivers stamp with the machine's counter is moved to the crystal's before the engine sees it.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::pty::{OpenptyResult, openpty};
use refclocks::pps::{self, PpsInfo};
use refclocks::shell::{Delivery, serial};
use refclocks::sys::clock::{bracket, raw_now, realtime_now};
use refclocks::time::{Raw, Span, Tai, Timestamp};
use refclocks::{Edge, nmea};

use super::DemoArgs;
use crate::clock::{DisciplinedClock, SoftwareClock};
use crate::core::leap::UtcMap;
use crate::core::memory::Memory;
use crate::core::snapshot::Snapshot;
use crate::daemon::journal::Journal;
use crate::daemon::{Daemon, Inbox, Input};
use crate::ntp::access::Access;
use crate::ntp::served::{RawMap, Served};
use crate::ntp::worker;
use crate::sim::judge::Judge;
use crate::sim::rehearsal::hat;
use crate::sim::{Happening, World};

/// The world, the daemon in it, and how their times relate.
pub(super) struct Stage {
    world: World,
    next_at: Timestamp<Tai>,
    pub(super) daemon: Daemon,
    raw_map: Arc<ArcSwap<RawMap>>,
    published: Arc<ArcSwap<Snapshot>>,
    pub(super) ntp: Option<worker::Workers>,
    pub(super) judge: Judge,
    receiver: Option<File>,
    /// True time and this machine's counter when it began.
    start: Timestamp<Tai>,
    host_start: Timestamp<Raw>,
    pps: Option<pps::Tracker>,
    edge: PpsInfo,
}

impl Stage {
    pub(super) fn set(args: &DemoArgs) -> io::Result<Self> {
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
        let pps = args.scenario.pulse.then(|| pps::Tracker::new(Edge::Assert));
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
            pps,
            edge: PpsInfo::default(),
        })
    }

    /// Starts the serial driver on one end of a pty whose other end the simulated receiver writes.
    pub(super) fn plug_in(&mut self, inbox: &Inbox) {
        if let Some(pps) = &mut self.pps {
            pps.handle_open(raw_now());
        }
        let Ok(OpenptyResult { master, slave }) = openpty(None, None) else {
            eprintln!("no pseudo-terminal is to be had: the receiver stays silent");
            return;
        };
        let Ok(path) = nix::unistd::ttyname(&slave) else { return };
        self.receiver = Some(master.into());
        let config = serial::SerialConfig {
            path: path.to_string_lossy().into_owned(),
            baud: None,
            shared: false,
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
    pub(super) fn follow_crystal(&mut self) {
        let host = raw_now();
        let at = self.start + (host - self.host_start);
        let raw = self.world.crystal().raw_at(at);
        let rate = self.world.crystal().frequency();
        self.raw_map.store(Arc::new(RawMap { host, raw, rate }));
    }

    /// Lets everything happen that is due.
    pub(super) fn let_happen(&mut self) {
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
                    // As the kernel would stamp it.
                    let now = bracket();
                    let edge = self.host_time_of(at) + Span::from_seconds(late);
                    self.edge.assert = now.realtime - (now.raw_after - edge);
                    self.edge.assert_sequence = self.edge.assert_sequence.wrapping_add(1);
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

    /// Fetches the last edge when it is time, as the shell of the driver would.
    pub(super) fn fetch_pulse(&mut self, inbox: &Inbox) {
        let Some(pps) = &mut self.pps else { return };
        if pps.poll_timeout().is_some_and(|due| due <= raw_now()) {
            pps.handle_fetch(&self.edge, &bracket());
        }
        while let Some(report) = pps.poll_report() {
            drop(inbox.send(Input::Device(1, Delivery { at: raw_now(), report, health: pps.health() })));
        }
    }

    /// How long until something happens in the world, or an edge is to be fetched.
    pub(super) fn until_next(&self) -> Duration {
        let happens = self.host_time_of(self.next_at);
        let fetch = self.pps.as_ref().and_then(pps::Tracker::poll_timeout);
        (fetch.map_or(happens, |fetch| fetch.min(happens)) - raw_now()).to_duration()
    }

    /// Served clock - true time now, s: what only a demo knows.
    pub(super) fn true_error(&self) -> f64 {
        let host = raw_now();
        let raw = self.raw_map.load().apply(host);
        (self.published.load().clock.at(raw) - (self.start + (host - self.host_start))).seconds()
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
