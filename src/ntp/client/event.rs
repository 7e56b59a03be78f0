//! What a shell tells its owner.

use std::net::{IpAddr, SocketAddr};

use refclocks::sys::clock;
use refclocks::time::{Raw, Timestamp};

use super::dialogue::Dialogue;
use super::measurement::Measurement;
use super::rejection::Rejected;
use super::standing::ServerState;
use super::tally::Tally;

/// What a shell hands to its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// The server came, went or changed its mind.
    State {
        /// When.
        at: Timestamp<Raw>,
        /// How it stands now.
        state: ServerState,
    },
    /// A poll was sent or answered: what `reach` and `poll` are now.
    Polled {
        /// When.
        at: Timestamp<Raw>,
        /// The server's address.
        address: SocketAddr,
        /// The last eight polls, the newest in the lowest bit.
        reach: u8,
        /// log2 of the poll interval in use, s.
        poll: i8,
        /// What came of all polls of this address so far.
        tally: Tally,
    },
    /// An exchange that can be used.
    Measurement {
        /// When it was handed over.
        at: Timestamp<Raw>,
        /// The server's address.
        address: SocketAddr,
        /// Ours, as it sees it; `None` if the system does not tell.
        local: Option<IpAddr>,
        /// What it says.
        measurement: Measurement,
    },
    /// A datagram that cannot.
    Rejected {
        /// When.
        at: Timestamp<Raw>,
        /// The server's address.
        address: SocketAddr,
        /// Why not.
        reason: Rejected,
    },
}

/// Hands events over; a state only when it changed.
pub(super) struct Teller<'a, S> {
    pub(super) sink: &'a mut S,
    pub(super) last: Option<ServerState>,
}

impl<S: FnMut(ClientEvent)> Teller<'_, S> {
    pub(super) fn state(&mut self, state: ServerState) {
        if self.last.as_ref() != Some(&state) {
            self.last = Some(state.clone());
            (self.sink)(ClientEvent::State { at: clock::raw_now(), state });
        }
    }

    pub(super) fn polled(&mut self, association: &Dialogue) {
        (self.sink)(ClientEvent::Polled {
            at: clock::raw_now(),
            address: association.address(),
            reach: association.reach(),
            poll: association.poll(),
            tally: association.tally(),
        });
    }
}
