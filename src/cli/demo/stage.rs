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
use refclocks::{Edge, Health, LocalStamp, Report, Sample, receiver};

use super::DemoArgs;
use crate::clock::{DisciplinedClock, SoftwareClock};
use crate::core::memory::Memory;
use crate::core::snapshot::Snapshot;
use crate::daemon::journal::Journal;
use crate::daemon::{Daemon, Inbox, Input};
use crate::ntp::access::Access;
use crate::ntp::client::{Association, ClientEvent};
use crate::ntp::served::{RawMap, Served};
use crate::ntp::worker;
use crate::sim::judge::Judge;
use crate::sim::rehearsal::association;
use crate::sim::scenario::Model;
use crate::sim::{Happening, Scenario, World};

/// The world, the daemon in it, and how their times relate.
pub(super) struct Stage {
    world: World,
    next_at: Timestamp<Tai>,
    pub(super) daemon: Daemon,
    raw_map: Arc<ArcSwap<RawMap>>,
    published: Arc<ArcSwap<Snapshot>>,
    pub(super) ntp: Option<worker::Workers>,
    pub(super) judge: Judge,
    devices: Vec<Device>,
    /// True time and this machine's counter when it began.
    start: Timestamp<Tai>,
    host_start: Timestamp<Raw>,
}

/// What stands between a source of the world and the daemon.
enum Device {
    /// The receiver's end of a pty whose other end the serial driver reads.
    Messages(Option<File>),
    Pulse {
        tracker: Box<pps::Tracker>,
        edge: PpsInfo,
    },
    Numbered(Health),
    Server(Box<Association>),
}

impl Stage {
    pub(super) fn set(args: &DemoArgs, scenario: &Scenario) -> io::Result<Self> {
        let host_start = raw_now();
        let start = scenario.begins(realtime_now().reinterpret());
        let world = World::new(scenario.clone(), args.seed, start, host_start);
        let raw_map = Arc::new(ArcSwap::from_pointee(RawMap::IDENTITY));
        let clock = SoftwareClock::new(host_start, world.system_clock_at_start());
        let clock = DisciplinedClock::new(scenario.engine(), &Memory::default(), Box::new(clock), host_start);
        let published = Arc::new(ArcSwap::from_pointee(clock.snapshot(host_start)));
        // The port answers before anything else is ready: "not synchronised" is an answer.
        let mut served = Served::new(Arc::clone(&published), Access::from_lists([], []));
        served.raw_map = Arc::clone(&raw_map);
        let ntp = bind_near(args.ntp).and_then(|listener| listener.spawn(&served).ok());
        let daemon = Daemon::new(clock, Arc::clone(&raw_map), Arc::clone(&published), Journal::silent());
        let next_at = world.next_at();
        let judge = Judge::new(scenario.judged_from);
        let devices = scenario.sources.iter().map(|s| Device::new(&s.model, host_start)).collect();
        Ok(Self { world, next_at, daemon, raw_map, published, ntp, judge, devices, start, host_start })
    }

    /// Starts the serial driver on one end of a pty for each receiver, which writes to the other.
    pub(super) fn plug_in(&mut self, inbox: &Inbox) {
        for (source, device) in self.devices.iter_mut().enumerate() {
            if let Device::Messages(receiver) = device {
                *receiver = plug_in_receiver(source, inbox);
            }
        }
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
    pub(super) fn let_happen(&mut self, inbox: &Inbox) {
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
                Happening::Edge { source, late } => {
                    self.judge.pulse(since);
                    // As the kernel would stamp it.
                    let now = bracket();
                    let at = self.host_time_of(at) + Span::from_seconds(late);
                    if let Some(Device::Pulse { edge, .. }) = self.devices.get_mut(source) {
                        edge.assert = now.realtime - (now.raw_after - at);
                        edge.assert_sequence = edge.assert_sequence.wrapping_add(1);
                    }
                }
                Happening::Stamp { source, at: edge, late, says, second60 } => {
                    self.judge.pulse(since);
                    let local = LocalStamp::Raw(self.host_time_of(edge) + Span::from_seconds(late));
                    let sample = Sample { local, reference: says, second60, quantum: Span::ZERO, leap: None };
                    if let Some(Device::Numbered(health)) = self.devices.get_mut(source) {
                        health.frames += 1;
                        let delivery = Delivery { at: raw_now(), report: Report::Sample(sample), health: *health };
                        drop(inbox.send(Input::Device(source, delivery)));
                    }
                }
                Happening::Bytes { source, bytes } => {
                    if let Some(Device::Messages(Some(receiver))) = self.devices.get_mut(source) {
                        // A full pty loses bytes as a UART would.
                        let _ = receiver.write_all(&bytes);
                    }
                }
                Happening::Reply { source, bytes } => self.hear(source, &bytes, self.host_time_of(at), inbox),
            }
        }
    }

    /// A reply came from a server.
    fn hear(&mut self, source: usize, bytes: &[u8], received: Timestamp<Raw>, inbox: &Inbox) {
        let stamp_error = Span::from_seconds(self.world.stamp_error(source));
        let Some(Device::Server(association)) = self.devices.get_mut(source) else { return };
        let at = raw_now();
        if let Ok(measurement) = association.handle_receive(bytes, received + stamp_error, at) {
            let event = ClientEvent::Measurement { at, address: association.address(), local: None, measurement };
            drop(inbox.send(Input::Server(source, event)));
        }
        drop(inbox.send(Input::Server(source, polled(association, at))));
    }

    /// Sends the requests that are due.
    pub(super) fn ask_servers(&mut self, inbox: &Inbox) {
        for (source, device) in self.devices.iter_mut().enumerate() {
            let Device::Server(association) = device else { continue };
            let now = raw_now();
            if let Some(request) = association.poll_transmit(now) {
                association.handle_transmitted(now + Span::from_seconds(self.world.stamp_error(source)));
                self.world.ask(source, request.octets(), self.start + (now - self.host_start));
                drop(inbox.send(Input::Server(source, polled(association, now))));
            }
        }
        self.next_at = self.world.next_at();
    }

    /// Fetches the last edges when it is time, as the shell of the driver would.
    pub(super) fn fetch_pulses(&mut self, inbox: &Inbox) {
        for (source, device) in self.devices.iter_mut().enumerate() {
            let Device::Pulse { tracker, edge } = device else { continue };
            if tracker.poll_timeout().is_some_and(|due| due <= raw_now()) {
                tracker.handle_fetch(edge, &bracket());
            }
            while let Some(report) = tracker.poll_report() {
                let delivery = Delivery { at: raw_now(), report, health: tracker.health() };
                drop(inbox.send(Input::Device(source, delivery)));
            }
        }
    }

    /// How long until something happens in the world, an edge is to be fetched or a server asked.
    pub(super) fn until_next(&self) -> Duration {
        let due = self.devices.iter().filter_map(|device| match device {
            Device::Pulse { tracker, .. } => tracker.poll_timeout(),
            Device::Server(association) => association.poll_timeout(),
            Device::Messages(_) | Device::Numbered(_) => None,
        });
        (due.fold(self.host_time_of(self.next_at), Timestamp::min) - raw_now()).to_duration()
    }

    /// Served clock - true time now, s: what only a demo knows.
    pub(super) fn true_error(&self) -> f64 {
        let host = raw_now();
        let raw = self.raw_map.load().apply(host);
        (self.published.load().clock.at(raw) - (self.start + (host - self.host_start))).seconds()
    }
}

impl Device {
    fn new(model: &Model, now: Timestamp<Raw>) -> Self {
        match model {
            Model::Messages(_) => Self::Messages(None),
            Model::Pulse(_) => {
                let mut tracker = pps::Tracker::new(Some(Edge::Assert));
                tracker.handle_open(now);
                Self::Pulse { tracker: Box::new(tracker), edge: PpsInfo::default() }
            }
            Model::Numbered(_) => Self::Numbered(Health::default()),
            Model::Server(model) => Self::Server(Box::new(association(model, now.to_nanos().unsigned_abs()))),
        }
    }
}

fn polled(association: &Association, at: Timestamp<Raw>) -> ClientEvent {
    let (address, reach, poll) = (association.address(), association.reach(), association.poll());
    ClientEvent::Polled { at, address, reach, poll, tally: association.tally() }
}

/// Starts the serial driver on one end of a pty; the receiver writes to the other, if there is a pty.
fn plug_in_receiver(source: usize, inbox: &Inbox) -> Option<File> {
    let Ok(OpenptyResult { master, slave }) = openpty(None, None) else {
        eprintln!("no pseudo-terminal is to be had: the receiver stays silent");
        return None;
    };
    let path = nix::unistd::ttyname(&slave).ok()?;
    let config = serial::SerialConfig {
        path: path.to_string_lossy().into_owned(),
        baud: None,
        shared: false,
        receiver: receiver::Config { not_before: crate::NOT_BEFORE, ..receiver::Config::default() },
    };
    let inbox = inbox.clone();
    tokio::task::spawn_local(async move {
        // Held open, or the pty would hang up before the driver has opened it.
        let _slave = slave;
        // The receiver ends with the demo; who is gone need not be told.
        serial::run(config, move |delivery| drop(inbox.send(Input::Device(source, delivery)))).await;
    });
    Some(master.into())
}

/// The address asked for, or the next free port after it.
fn bind_near(address: SocketAddr) -> Option<worker::Listener> {
    (0..16).find_map(|i| {
        let mut address = address;
        address.set_port(address.port().checked_add(i)?);
        worker::bind(address, 1).ok()
    })
}
