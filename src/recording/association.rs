//! What an NTP association saw and was told: its inputs as data, each with what came of it.
//!
//! Associations are pure: begun alike and told the same, they ask the same, take the same for measurements and reject
//! the same. So a recording has their inputs, and a replay runs them again ([`super::rerun`]). Secrets are not in it:
//! a key is named, and the digests it made are noughts; whether a packet was signed by it is said beside.

use std::net::SocketAddr;

use refclocks::time::{Raw, Timestamp};
use serde::{Deserialize, Serialize};

use super::Line;
use super::octets;
use super::write::Tape;
use crate::core::measurement::SourceId;
use crate::ntp::client::measurement::{Measurement, Rate};
use crate::ntp::client::ours::Ours;
use crate::ntp::client::rejection::Rejected;
use crate::ntp::client::{association, overheard};
use crate::ntp::extension::Authenticator;
use crate::ntp::keys::{KEY_ID_LEN, Key};
use crate::ntp::packet::Packet;
use crate::ntp::stamp::Stamp;

/// Whose association it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// Of this source.
    Source(SourceId),
    /// Of nobody yet: of who listens, by number.
    Listener(usize),
    /// Of this broadcaster, by the number of who listens; which source it is, a [`Turn::Source`] tells.
    Heard(usize, SocketAddr),
    /// Of this peer that came by itself; which source it is, a [`Turn::Source`] tells.
    Stranger(SocketAddr),
}

impl Whose {
    /// Of the broadcaster that whoever listens hears there.
    #[must_use]
    pub fn heard(self, from: SocketAddr) -> Self {
        match self {
            Self::Listener(number) | Self::Heard(number, _) => Self::Heard(number, from),
            Self::Source(_) | Self::Stranger(_) => self,
        }
    }
}

/// How an association begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begin {
    /// With a server.
    Server(association::Config),
    /// With a peer.
    Peer(association::Config),
    /// With a peer that came by itself then.
    Passive(association::Config, Timestamp<Raw>),
    /// With a broadcaster, heard for the first time then.
    Broadcaster(overheard::Config, Timestamp<Raw>),
}

/// One thing that an association saw or was told. All stamps are of CLOCK_MONOTONIC_RAW.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// It begins; what it was before is over.
    Begin(Box<Begin>),
    /// This broadcaster or stranger is that source from now on.
    Source(SourceId),
    /// It was due, and had this to send.
    Sent {
        /// When it was asked.
        at: Timestamp<Raw>,
        /// The datagram, its digest left out.
        #[serde(with = "octets")]
        octets: Vec<u8>,
        /// What it was to tell of us, if it is with a peer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ours: Option<Ours>,
    },
    /// The datagram was handed to the system then.
    HandedOver(Timestamp<Raw>),
    /// The datagram left then, by the stamps of the kernel and of the network card.
    Departed(Stamp),
    /// The system says why it could not be sent, or that nobody is there.
    Failed(String),
    /// A datagram came.
    Came(Came),
    /// A datagram came, and our access rules say not to heed it.
    Restricted {
        /// When it came.
        at: Timestamp<Raw>,
        /// The datagram, its digest left out.
        #[serde(with = "octets")]
        octets: Vec<u8>,
    },
    /// This interval between polls is wanted from now on, log2 s.
    WantedPoll(i8),
    /// A few quick polls are wanted now.
    Burst(Timestamp<Raw>),
    /// Time passed.
    Timeout(Timestamp<Raw>),
}

/// A datagram that came, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Came {
    /// When, by the stamps of the kernel and of the network card.
    pub at: Stamp,
    /// When it was looked at.
    pub read: Timestamp<Raw>,
    /// It, its digest left out.
    #[serde(with = "octets")]
    pub octets: Vec<u8>,
    /// Was it signed by our key? Where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<bool>,
    /// What our own clock read, if it is a peer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ours: Option<Ours>,
    /// The rate of our raw counter, if it was broadcast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// [`MEASURED`], or why not.
    pub outcome: String,
}

/// What came of a datagram that is a measurement.
pub const MEASURED: &str = "measured";

/// What came of a datagram, in words.
pub fn outcome(result: &Result<Measurement, Rejected>) -> String {
    result.as_ref().map_or_else(Rejected::to_string, |_| MEASURED.to_owned())
}

impl Came {
    /// A datagram that an association with this key took so.
    pub fn new(
        octets: &[u8],
        at: impl Into<Stamp>,
        read: Timestamp<Raw>,
        key: Option<&Key>,
        result: &Result<Measurement, Rejected>,
    ) -> Self {
        let signed = key.map(|key| is_signed(octets, key));
        let (ours, rate, outcome) = (None, None, outcome(result));
        Self { at: at.into(), read, octets: without_digest(octets), signed, ours, rate, outcome }
    }
}

impl Turn {
    /// A datagram to be sent.
    pub fn sent(at: Timestamp<Raw>, octets: &[u8], ours: Option<Ours>) -> Self {
        Self::Sent { at, octets: without_digest(octets), ours }
    }

    /// One that is not heeded.
    pub fn restricted(at: Timestamp<Raw>, octets: &[u8]) -> Self {
        Self::Restricted { at, octets: without_digest(octets) }
    }

    /// When it was, where it says so.
    pub fn at(&self) -> Option<Timestamp<Raw>> {
        match self {
            Self::Begin(begin) => match **begin {
                Begin::Passive(_, at) | Begin::Broadcaster(_, at) => Some(at),
                Begin::Server(_) | Begin::Peer(_) => None,
            },
            Self::Sent { at, .. } | Self::HandedOver(at) => Some(*at),
            Self::Departed(stamp) => Some(stamp.host),
            Self::Came(Came { read, .. }) => Some(*read),
            Self::Restricted { at, .. } | Self::Burst(at) | Self::Timeout(at) => Some(*at),
            Self::Source(_) | Self::Failed(_) | Self::WantedPoll(_) => None,
        }
    }
}

/// Where an association's turns are recorded, if they are.
#[derive(Clone, Debug, Default)]
pub struct Witness(Option<(Tape, Whose)>);

impl Witness {
    /// One that records them on this tape.
    pub fn new(tape: Tape, whose: Whose) -> Self {
        Self(Some((tape, whose)))
    }

    /// One of another association.
    #[must_use]
    pub fn of(&self, whose: impl FnOnce(Whose) -> Whose) -> Self {
        Self(self.0.clone().map(|(tape, before)| (tape, whose(before))))
    }

    /// Records a turn.
    pub fn note(&self, turn: impl FnOnce() -> Turn) {
        if let Some((tape, whose)) = &self.0 {
            tape.note(Line::Ntp { of: *whose, turn: turn() });
        }
    }
}

/// How many octets at the end of a datagram are key number and digest.
fn mac_len(octets: &[u8]) -> usize {
    Packet::new_checked(octets).ok().and_then(|packet| packet.tail().ok()).map_or(0, |tail| tail.mac().len())
}

/// The same with a digest of noughts: who has a recording has nothing to try keys on.
pub fn without_digest(octets: &[u8]) -> Vec<u8> {
    let digest = mac_len(octets).saturating_sub(KEY_ID_LEN);
    let mut octets = octets.to_vec();
    octets.iter_mut().rev().take(digest).for_each(|octet| *octet = 0);
    octets
}

fn is_signed(octets: &[u8], key: &Key) -> bool {
    let covered = octets.get(..octets.len() - mac_len(octets)).unwrap_or_default();
    let tail = Packet::new_checked(octets).ok().and_then(|packet| packet.tail().ok());
    match tail.map(|tail| tail.authenticator()) {
        Some(Authenticator::Mac { key: id, digest }) => id == key.id() && key.verifies(covered, digest),
        _ => false,
    }
}

/// The same, signed by a key that stands in for ours, where it was signed by ours.
pub fn signed_again(octets: &[u8], key: &Key) -> Vec<u8> {
    let mac = mac_len(octets);
    let mut again = octets.to_vec();
    // A packet that was signed has room for it.
    let _ = key.sign(&mut again, octets.len() - mac, mac.saturating_sub(KEY_ID_LEN));
    again
}
