//! Those who have us for a peer and sign: each is a source as long as it hears us and is heard. Nobody has named them, so
//! they are no more than the operator allows.

use std::net::{IpAddr, SocketAddr};

use super::shells::Shell;
use super::{Roster, key_of};
use crate::clock::DisciplinedClock;
use crate::config::PassivePeer;
use crate::core::measurement::SourceId;
use crate::core::snapshot::SourceKind;
use crate::core::source::SourceConfig;
use crate::daemon::Input;
use crate::ntp::client::ClientEvent;
use crate::ntp::client::stranger::{self, StrangerConfig};
use crate::ntp::passing::{Passed, Wanted};
use crate::recording::association::{Turn, Whose};

/// So many at once may have yet to show that they hear us, for each section.
const WAITING: usize = 16;

/// One of them; dropping it ends that.
pub(super) struct RunningStranger {
    address: SocketAddr,
    key: u32,
    /// What it is to the engine, once it has shown that it hears us.
    id: Option<SourceId>,
    _shell: Shell,
}

impl RunningStranger {
    /// Its address, once it is a source.
    pub(super) fn source(&self) -> Option<SocketAddr> {
        self.id.map(|_| self.address)
    }
}

impl Roster {
    pub(super) fn apply_strangers(
        &mut self,
        wanted: &[PassivePeer],
        other_keys: bool,
        clock: &mut DisciplinedClock,
        said: &mut Vec<String>,
    ) {
        let before = std::mem::replace(&mut self.welcome, wanted.to_vec());
        self.strangers.retain(|stranger| {
            let of = |all: &[PassivePeer]| all.iter().find(|peer| peer.key == stranger.key).cloned();
            let stays = !other_keys && of(wanted).is_some() && of(wanted) == of(&before);
            if let (false, Some(id)) = (stays, stranger.id) {
                clock.remove_source(id);
                said.push(format!("{} is gone.", stranger.address));
            }
            stays
        });
        self.want_strangers();
    }

    /// A stranger's packet was passed on, signed with a key that one of the sections names.
    pub fn handle_stranger_came(&mut self, first: Passed) {
        let from = first.source.ip().to_canonical();
        if self.known_addresses().contains(&from) {
            return;
        }
        let Some(section) = self.welcome.iter().find(|peer| peer.key == first.key) else { return };
        let Some(key) = key_of(&section.each, self.keys.as_ref()) else { return };
        if !self.has_room(section) {
            return;
        }
        let witness = self.witness(Whose::Stranger(first.source));
        let config = StrangerConfig { key, filters: section.each.filters, served: self.served.clone(), witness };
        let (address, key, inbox) = (first.source, first.key, self.inbox.clone());
        let sink = move |from, event| drop(inbox.send(Input::Stranger(from, event)));
        let shell = Shell::start(stranger::run(config, first, sink));
        self.strangers.push(RunningStranger { address, key, id: None, _shell: shell });
        self.want_strangers();
    }

    /// What a stranger's shell tells; `None`: it is gone. Returns the source that it is, and what is new of it.
    pub fn handle_stranger(
        &mut self,
        from: SocketAddr,
        event: Option<ClientEvent>,
        clock: &mut DisciplinedClock,
    ) -> Option<(SourceId, ClientEvent)> {
        let at = self.strangers.iter().position(|stranger| stranger.address == from)?;
        let Some(event) = event else {
            let gone = self.strangers.remove(at);
            if let Some(id) = gone.id {
                clock.remove_source(id);
            }
            self.want_strangers();
            return None;
        };
        let stranger = self.strangers.get(at)?;
        if let Some(id) = stranger.id {
            return Some((id, event));
        }
        let section = self.welcome.iter().find(|peer| peer.key == stranger.key)?;
        let ip = from.ip().to_string();
        let name = if self.names_in_use().contains(&ip) { format!("{ip} ({})", section.each.name) } else { ip };
        let id = clock.add_source(SourceConfig {
            refid: refclocks::ReferenceId::default(),
            address: format!("{from} ({})", section.each.name),
            options: section.each.options,
            ..SourceConfig::new(&name, SourceKind::Network)
        });
        if let Some(stranger) = self.strangers.get_mut(at) {
            stranger.id = Some(id);
        }
        self.witness(Whose::Stranger(from)).note(|| Turn::Source(id));
        self.want_strangers();
        Some((id, event))
    }

    /// Tells the workers whose packets are to be passed on: of those whom we do not know, while there is room for them.
    pub(super) fn want_strangers(&self) {
        let keys = self.welcome.iter().filter(|peer| self.has_room(peer)).map(|peer| peer.key).collect();
        self.served.ring.want(Wanted { keys, known: self.known_addresses().into_iter().collect() });
    }

    /// Is there room for one more of this section: to show that it hears us, and to be a source then?
    fn has_room(&self, section: &PassivePeer) -> bool {
        let of_section = self.strangers.iter().filter(|stranger| stranger.key == section.key);
        let (sources, waiting): (Vec<_>, Vec<_>) = of_section.partition(|stranger| stranger.id.is_some());
        sources.len() < section.maxsources && waiting.len() < WAITING
    }

    /// Those of whom we know already.
    fn known_addresses(&self) -> Vec<IpAddr> {
        let strangers = self.strangers.iter().map(|stranger| stranger.address.ip());
        self.addresses().into_iter().chain(strangers).map(|ip| ip.to_canonical()).collect()
    }
}
