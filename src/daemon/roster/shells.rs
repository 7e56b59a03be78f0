//! The shells that read the sources.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use refclocks::gpsd::Stream;
use refclocks::shell::{Tap, gpsd, phc, pps, serial, shm, sock};
use refclocks::sys::clock;
use refclocks::{gpsd as gpsd_driver, receiver};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_local};

use super::{PoolId, Roster, RunningServer, key_of};
use crate::config::{Driver, PhcInput, Pool, Refclock, Server};
use crate::core::measurement::SourceId;
use crate::daemon::Input;
use crate::ntp::client::manycast::solicit;
use crate::ntp::client::names::ResolveError;
use crate::ntp::client::{self, ClientConfig, ClientEvent, Orders, ServerState};
use crate::recording::Line;
use crate::recording::association::{Whose, Witness};

/// A task that ends when it is dropped.
#[derive(Debug)]
pub(super) struct Shell(AbortHandle);

impl Shell {
    pub(super) fn start(task: impl Future<Output = ()> + 'static) -> Self {
        Self(spawn_local(task).abort_handle())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Roster {
    /// Starts the shell of a reference clock that is these sources. `shared`: another one reads the
    /// pulse of its port.
    pub(super) fn start_clock(&mut self, clock: &Refclock, shared: bool, ids: &[SourceId]) -> Shell {
        let (segment, socket) = match &clock.driver {
            Driver::Shm { unit, .. } => (self.taken.segment(*unit), None),
            Driver::Sock { path, .. } => (None, self.taken.socket(path)),
            _ => (None, None),
        };
        let inbox = self.inbox.clone();
        let at = ids.first().copied().unwrap_or_default();
        let pulse_at = ids.get(1).copied().unwrap_or(at);
        // An inbox that is closed means that the daemon ends; nobody is left to tell.
        let send = move |at, delivery| drop(inbox.send(Input::Device(at, delivery)));
        let (not_before, last_good) = (crate::NOT_BEFORE, self.last_good);
        match &clock.driver {
            Driver::Receiver(config) => {
                let path = config.device.to_string_lossy().into_owned();
                let receiver = receiver::Config {
                    baud: config.baud,
                    not_before,
                    last_good,
                    checksums: config.checksums,
                    without_fix: config.without_fix,
                    tai_minus_utc: self.published.load().utc.tai_minus_utc,
                    only_ubx: config.only_ubx,
                    sawtooth: config.sawtooth,
                    configure: config.configure,
                };
                let config = serial::SerialConfig { path, baud: config.baud, shared, receiver };
                Shell::start(serial::run_tapped(config, self.tap(at), move |d| send(at, d)))
            }
            Driver::Pps { device, edge, echo, kernel_consumer } => {
                let path = device.as_ref().map(|device| device.to_string_lossy().into_owned());
                let config = pps::PpsConfig { path, edge: *edge, echo: *echo, kernel_consumer: *kernel_consumer };
                Shell::start(pps::run_tapped(config, self.tap(at), move |d| send(at, d)))
            }
            Driver::Phc { device, scale, input } => {
                let what = match *input {
                    None => phc::What::Clock { scale: *scale, not_before },
                    Some(PhcInput { channel, pin, edge }) => phc::What::Input { channel, pin, edge },
                };
                let config = phc::PhcConfig { path: device.to_string_lossy().into_owned(), what };
                let published = Arc::clone(&self.published);
                let to_utc = move |tai| published.load().utc.utc(tai);
                Shell::start(phc::run_tapped(config, to_utc, self.tap(at), move |d| send(at, d)))
            }
            Driver::Gpsd { address, device } => {
                let session = gpsd_driver::Config { device: device.clone(), not_before, last_good };
                let config = gpsd::GpsdConfig { address: address.clone(), session };
                let names = self.names.clone();
                let resolve = async move |host: &str, port| names.resolve(host, port).await.map_err(io::Error::other);
                let sink = move |stream, d| send(if stream == Stream::Pulse { pulse_at } else { at }, d);
                Shell::start(gpsd::run_tapped(config, resolve, self.tap(at), sink))
            }
            Driver::Shm { unit, trust_owner, .. } => {
                let config = shm::ShmConfig { unit: *unit, trust_owner: *trust_owner };
                Shell::start(shm::run_tapped(config, segment, self.tap(at), move |d| send(at, d)))
            }
            Driver::Sock { path, access, .. } => {
                let path = path.to_string_lossy().into_owned();
                let config = sock::SockConfig { path, access: access.clone() };
                Shell::start(sock::run_tapped(config, socket, self.tap(at), move |d| send(at, d)))
            }
        }
    }

    /// What gets all that is seen of a source's device.
    fn tap(&self, source: SourceId) -> Tap {
        match self.tape.clone() {
            Some(tape) => Tap::new(move |seen| tape.note(Line::seen(source, seen))),
            None => Tap::default(),
        }
    }

    /// Who records the datagrams of an association.
    pub(super) fn witness(&self, whose: Whose) -> Witness {
        self.tape.clone().map_or_else(Witness::default, |tape| Witness::new(tape, whose))
    }

    /// Starts the shell of a server that is this source.
    pub(super) fn start_server(&self, server: Server, id: SourceId) -> RunningServer {
        let key = key_of(&server, self.keys.as_ref());
        let client = ClientConfig {
            port: server.port,
            iburst: server.iburst,
            minpoll: server.minpoll,
            maxpoll: server.maxpoll,
            version: server.version,
            key: key.clone(),
            peer: server.peer.then(|| self.served.clone()),
            xleave: server.xleave,
            presend: server.presend,
            filters: server.filters,
            origin: server.origin.clone(),
            cards: Arc::clone(&self.served.cards),
            access: Some(Arc::clone(&self.served.access)),
            witness: self.witness(Whose::Source(id)),
            ..ClientConfig::new(server.host.clone())
        };
        let inbox = self.inbox.clone();
        let sink = move |event| drop(inbox.send(Input::Server(id, event)));
        let (orders, given) = mpsc::unbounded_channel();
        let shell = match server.key {
            Some(number) if key.is_none() => Shell::start(async move {
                let state = ServerState::NoKey { key: number };
                sink(ClientEvent::State { at: clock::raw_now(), state });
            }),
            _ => Shell::start(client::shell::run(client, self.names.clone(), Orders::from(given), sink)),
        };
        let address = server.host.parse().ok().map(|ip| SocketAddr::new(ip, server.port));
        RunningServer { config: server, id, orders, address, refused: false, key, _shell: shell }
    }

    /// Asks for the addresses of a pool's name, or who is in its group.
    pub(super) fn start_resolving(&self, number: PoolId, pool: &Pool) -> Shell {
        let (names, inbox) = (self.names.clone(), self.inbox.clone());
        let Server { host, port, version, .. } = pool.each.clone();
        let (group, key) = (pool.group(), key_of(&pool.each, self.keys.as_ref()));
        Shell::start(async move {
            let answer = match group {
                None => names.resolve(&host, port).await,
                Some(group) => match solicit(&group, version, key).await {
                    Ok(found) if found.is_empty() => Err(ResolveError::NoAnswer { host }),
                    Ok(found) => Ok(found),
                    Err(error) => Err(ResolveError::Failed { host, error: error.to_string() }),
                },
            };
            drop(inbox.send(Input::Resolved(number, answer)));
        })
    }
}
