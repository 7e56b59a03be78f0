//! The sources: what the engine knows of them, and the shells that read them.

use std::path::Path;

use refclocks::gpsd::Stream;
use refclocks::shell::{gpsd, pps, serial, shm, sock};
use refclocks::time::{Timestamp, Utc};
use refclocks::{ReferenceId, gpsd as gpsd_driver, nmea};

use crate::config::{Config, Driver, Refclock, Server};
use crate::core::engine::EngineConfig;
use crate::core::leap::UtcMap;
use crate::core::snapshot::SourceKind;
use crate::core::source::SourceConfig;
use crate::core::steering::StepPolicy;
use crate::daemon::privileges::Taken;
use crate::daemon::{Inbox, Input};
use crate::ntp::client::names::Names;
use crate::ntp::client::{self, ClientConfig};

/// The sources in the engine's order: reference clocks (gpsd counts twice), then servers.
pub fn engine(config: &Config, utc: UtcMap) -> EngineConfig {
    let mut sources = Vec::new();
    for clock in &config.refclocks {
        sources.push(source(clock));
        if let Driver::Gpsd { .. } = clock.driver {
            let refid = ReferenceId(*b"PPS\0");
            let name = format!("{}-pulse", clock.name);
            sources.push(SourceConfig { name, refid, kind: SourceKind::NumberedPulse, delay: None, ..source(clock) });
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
            max_slew: clock.max_slew,
        },
        holdover_budget: config.holdover_budget,
        local: config.local,
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
        lock: clock.lock.clone(),
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

/// Starts a shell for each source, with what was taken for it; they end with the daemon.
pub fn start_sources(config: &Config, taken: &mut Taken, not_before: Timestamp<Utc>, names: &Names, inbox: &Inbox) {
    let mut next = 0;
    for clock in &config.refclocks {
        start_refclock(config, clock, taken, next, not_before, inbox);
        next += if matches!(clock.driver, Driver::Gpsd { .. }) { 2 } else { 1 };
    }
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
        tokio::task::spawn_local(client::shell::run(client, names.clone(), client::Orders::none(), sink));
    }
}

/// Does another refclock read the pulse on the DCD input of this port?
fn carries_pulse(port: &Path, config: &Config) -> bool {
    config.refclocks.iter().any(|other| matches!(&other.driver, Driver::Pps { device, .. } if device == port))
}

fn start_refclock(
    config: &Config,
    clock: &Refclock,
    taken: &mut Taken,
    at: usize,
    not_before: Timestamp<Utc>,
    inbox: &Inbox,
) {
    let inbox = inbox.clone();
    // An inbox that is closed means that the daemon ends; nobody is left to tell.
    let send = move |at, delivery| drop(inbox.send(Input::Device(at, delivery)));
    match &clock.driver {
        Driver::Nmea { device, baud } => {
            let path = device.to_string_lossy().into_owned();
            let nmea = nmea::Config { baud: *baud, not_before };
            let config = serial::SerialConfig { path, baud: *baud, shared: carries_pulse(device, config), nmea };
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
            tokio::task::spawn_local(shm::run(config, taken.segment(*unit), move |d| send(at, d)));
        }
        Driver::Sock { path, .. } => {
            let config = sock::SockConfig { path: path.to_string_lossy().into_owned(), mode: sock::USUAL_MODE };
            tokio::task::spawn_local(sock::run(config, taken.socket(path), move |d| send(at, d)));
        }
    }
}
