//! Broadcasters that are listened to: each that may be believed becomes a source when it is heard, and is one no more once
//! it is silent.

use std::net::SocketAddr;

use super::shells::Shell;
use super::{Roster, key_of};
use crate::clock::DisciplinedClock;
use crate::config::BroadcastClient;
use crate::core::measurement::SourceId;
use crate::core::snapshot::SourceKind;
use crate::core::source::SourceConfig;
use crate::daemon::Input;
use crate::ntp::client::listener::{self, ListenerConfig};
use crate::ntp::client::standing::Deafness;
use crate::ntp::client::{ClientEvent, ServerState};
use crate::recording::association::{Turn, Whose};

/// A listener's number; given once.
pub type ListenerId = usize;

/// A network that is listened to; dropping it ends that.
pub(super) struct RunningListener {
    number: ListenerId,
    config: BroadcastClient,
    heard: Vec<(SocketAddr, SourceId)>,
    /// What of it cannot be listened to.
    deaf: Vec<Deafness>,
    /// Until somebody is heard, it stands for itself among the sources.
    alone: Option<SourceId>,
    _shell: Shell,
}

impl RunningListener {
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.heard.iter().map(|(address, _)| *address)
    }

    /// How it stands while nobody is heard.
    fn state(&self) -> ServerState {
        self.deaf.first().map_or(ServerState::Listening, |deafness| ServerState::Deaf(deafness.clone()))
    }

    fn source(&self, name: String, address: String) -> SourceConfig {
        SourceConfig {
            refid: refclocks::ReferenceId::default(),
            address,
            options: self.config.each.options,
            ..SourceConfig::new(&name, SourceKind::Network)
        }
    }
}

impl Roster {
    pub(super) fn apply_listeners(
        &mut self,
        wanted: &[BroadcastClient],
        other_keys: bool,
        clock: &mut DisciplinedClock,
        said: &mut Vec<String>,
    ) {
        self.listeners.retain(|running| {
            let stays = !other_keys && wanted.contains(&running.config);
            if !stays {
                running.heard.iter().map(|(_, id)| *id).chain(running.alone).for_each(|id| clock.remove_source(id));
                said.push(format!("{} is listened to no more.", running.config.each.name));
            }
            stays
        });
        for config in wanted {
            if self.listeners.iter().any(|running| running.config == *config) {
                continue;
            }
            let number = self.next_listener;
            self.next_listener += 1;
            let key = key_of(&config.each, self.keys.as_ref());
            let shell = match (config.each.key, key) {
                // What ought to be signed by a key that there is not cannot be told from anybody's.
                (Some(_), None) => Shell::start(std::future::pending()),
                (_, key) => {
                    let listener = ListenerConfig {
                        address: config.address,
                        port: config.each.port,
                        interface: config.each.origin.interface.clone(),
                        key,
                        delay: config.delay,
                        max_delay: config.each.filters.max_delay,
                        filters: config.each.filters,
                        most: config.maxsources,
                        served: self.served.clone(),
                        witness: self.witness(Whose::Listener(number)),
                    };
                    let inbox = self.inbox.clone();
                    let sink = move |from, event| drop(inbox.send(Input::Overheard(number, from, event)));
                    let inbox = self.inbox.clone();
                    let hears = move |place, deafness| drop(inbox.send(Input::Hears(number, place, deafness)));
                    Shell::start(listener::run(listener, sink, hears))
                }
            };
            let (heard, deaf) = (Vec::new(), Vec::new());
            let mut running =
                RunningListener { number, config: config.clone(), heard, deaf, alone: None, _shell: shell };
            let alone = clock.add_source(running.source(config.each.name.clone(), config.each.host.clone()));
            let state = match (config.each.key, key_of(&config.each, self.keys.as_ref())) {
                (Some(key), None) => ServerState::NoKey { key },
                _ => ServerState::Listening,
            };
            clock.handle_server_state(alone, state.to_string(), state.action());
            running.alone = Some(alone);
            self.listeners.push(running);
            said.push(format!("{} is listened to.", config.each.name));
        }
    }

    /// What is sent to an address can be heard, or why it cannot.
    pub fn handle_hears(
        &mut self,
        listener: ListenerId,
        place: SocketAddr,
        deafness: Option<Deafness>,
        clock: &mut DisciplinedClock,
    ) {
        let Some(running) = self.listeners.iter_mut().find(|running| running.number == listener) else { return };
        running.deaf.retain(|known| known.place != place);
        running.deaf.extend(deafness);
        if let Some(alone) = running.alone {
            let state = running.state();
            clock.handle_server_state(alone, state.to_string(), state.action());
        }
    }

    /// What was heard of a broadcaster; `None`: it is gone. Returns the source that it is, and what is new of it.
    pub fn handle_overheard(
        &mut self,
        listener: ListenerId,
        from: SocketAddr,
        event: Option<ClientEvent>,
        clock: &mut DisciplinedClock,
    ) -> Option<(SourceId, ClientEvent)> {
        let names = self.names_in_use();
        let witness = self.witness(Whose::Listener(listener));
        let running = self.listeners.iter_mut().find(|running| running.number == listener)?;
        let known = running.heard.iter().position(|(address, _)| *address == from);
        let Some(event) = event else {
            let (_, id) = running.heard.remove(known?);
            clock.remove_source(id);
            if running.heard.is_empty() {
                let each = &running.config.each;
                let alone = clock.add_source(running.source(each.name.clone(), each.host.clone()));
                let state = running.state();
                clock.handle_server_state(alone, state.to_string(), state.action());
                running.alone = Some(alone);
            }
            return None;
        };
        let id = match known.and_then(|at| running.heard.get(at)) {
            Some((_, id)) => *id,
            None => {
                let ip = from.ip().to_string();
                let name = if names.contains(&ip) { format!("{ip} ({})", running.config.each.name) } else { ip };
                let id = clock.add_source(running.source(name, format!("{from} ({})", running.config.each.host)));
                running.heard.push((from, id));
                witness.of(|listener| listener.heard(from)).note(|| Turn::Source(id));
                if let Some(alone) = running.alone.take() {
                    clock.remove_source(alone);
                }
                id
            }
        };
        Some((id, event))
    }
}
