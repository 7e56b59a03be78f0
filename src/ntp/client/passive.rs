//! One association with a peer that came by itself (RFC 5905: symmetric passive, ephemeral), without clock, socket or random
//! source.
//!
//! It exists because of a signed packet, which anybody may have recorded and sent again. So it counts for nothing until a
//! packet repeats something of ours: only whoever hears us at that address can send one. It ends when nothing comes any more,
//! or when nothing that comes can be used.

use std::net::SocketAddr;

use refclocks::time::{Raw, Span, Timestamp};

use super::association::Config;
use super::measurement::Measurement;
use super::ours::Ours;
use super::rejection::Rejected;
use super::request::Request;
use super::symmetric::Symmetric;
use super::tally::Tally;
use crate::ntp::stamp::Stamp;

/// Intervals of its own in which a stranger has to show that it hears us.
const PROBATION: f64 = 3.0;

/// Intervals of its own after which one that is silent is gone.
const PATIENCE: f64 = 8.0;

/// Answers in a row that brought nothing, after which one that talks is gone, too.
const USELESS: u32 = 24;

/// An association with a peer that came by itself.
#[derive(Debug)]
pub struct Passive {
    association: Symmetric,
    /// It hears us.
    proven: bool,
    /// Answers since the last measurement.
    useless: u32,
    lost_at: Timestamp<Raw>,
}

impl Passive {
    /// One of which nothing is known but that a packet came from it, to be handed in next.
    pub fn new(config: Config, now: Timestamp<Raw>) -> Self {
        Self {
            association: Symmetric::passive(config),
            proven: false,
            useless: 0,
            lost_at: now + intervals(PROBATION, 6),
        }
    }

    /// When something is to be done: [`Passive::poll_transmit`], or an end.
    pub fn poll_timeout(&self) -> Timestamp<Raw> {
        self.association.poll_timeout().map_or(self.lost_at, |owed| owed.min(self.lost_at))
    }

    /// An answer, if one is owed.
    pub fn poll_transmit(&mut self, now: Timestamp<Raw>, ours: &Ours) -> Option<Request> {
        let answer = self.association.poll_transmit(now, ours)?;
        self.useless += 1;
        Some(answer)
    }

    /// As of [`Symmetric::handle_transmitted`].
    pub fn handle_transmitted(&mut self, stamp: Timestamp<Raw>) {
        self.association.handle_transmitted(stamp);
    }

    /// As of [`Symmetric::handle_departed`].
    pub fn handle_departed(&mut self, stamp: impl Into<Stamp>) {
        self.association.handle_departed(stamp);
    }

    /// A datagram came from it at `received`.
    ///
    /// # Errors
    ///
    /// [`Rejected`], counted.
    pub fn handle_receive(
        &mut self,
        octets: &[u8],
        received: impl Into<Stamp>,
        now: Timestamp<Raw>,
        ours: &Ours,
    ) -> Result<Measurement, Rejected> {
        let is_first = self.association.tally().received == 0;
        let result = self.association.handle_receive(octets, received, now, ours);
        if result.is_ok() {
            (self.proven, self.useless) = (true, 0);
        }
        // An answer is owed for what was signed and new.
        if self.association.poll_timeout().is_some() {
            let poll = self.association.poll();
            if self.proven {
                self.lost_at = now + intervals(PATIENCE, poll);
            } else if is_first {
                self.lost_at = now + intervals(PROBATION, poll);
            }
        }
        result
    }

    /// Has it shown that it hears us?
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Is it gone?
    pub fn is_lost(&self, now: Timestamp<Raw>) -> bool {
        now >= self.lost_at || self.useless >= USELESS
    }

    /// The peer.
    pub fn address(&self) -> SocketAddr {
        self.association.address()
    }

    /// As of [`Symmetric::reach`].
    pub fn reach(&self) -> u8 {
        self.association.reach()
    }

    /// log2 of its interval, s.
    pub fn poll(&self) -> i8 {
        self.association.poll()
    }

    /// What came of its packets so far.
    pub fn tally(&self) -> Tally {
        self.association.tally()
    }
}

/// So many intervals of log2 s, from 4 s to more than an hour.
fn intervals(count: f64, poll: i8) -> Span {
    Span::from_seconds(count * libm::exp2(f64::from(poll.clamp(2, 12))))
}

#[cfg(test)]
#[path = "passive_tests.rs"]
mod tests;
