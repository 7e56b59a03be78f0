//! The gate that requests pass, wherever they come in: how often is their sender answered, and are some lost on purpose?

use std::net::SocketAddr;

use refclocks::time::{Raw, Timestamp};

use super::access::Flags;
use super::flake::Flake;
use super::limit::{Admit, Limiter, Limits};
use super::packet::{FirstOctet, Mode};
use super::server::DropReason;

/// One gate, and what it remembers of those who pass it.
#[derive(Debug)]
pub(super) struct Gate {
    /// How many it can remember.
    clients: usize,
    /// Once somebody's rate is limited.
    limiter: Option<Limiter>,
    flake: Flake,
}

impl Gate {
    /// A gate that can remember so many clients.
    pub(super) fn new(clients: usize) -> Self {
        Self { clients, limiter: None, flake: Flake::default() }
    }

    /// Takes over other limits. The table is made when the first ones come, and stays.
    pub(super) fn follow(&mut self, limits: Option<&Limits>) {
        match (limits, &mut self.limiter) {
            (Some(limits), None) => self.limiter = Some(Limiter::new(*limits, self.clients)),
            (Some(limits), Some(limiter)) if limiter.limits() != *limits => limiter.set_limits(*limits),
            _ => {}
        }
    }

    /// A datagram came whose sender has that taken away. `true`: it is answered only with a word to ask less.
    ///
    /// # Errors
    ///
    /// Why it gets no answer at all.
    pub(super) fn admit(
        &mut self,
        first: FirstOctet,
        source: SocketAddr,
        flags: Flags,
        now: Timestamp<Raw>,
    ) -> Result<bool, DropReason> {
        // Of what is no request the limiter knows nothing.
        let is_request = first.mode().asks() || first.mode() == Mode::SymmetricActive;
        let terms = flags.terms(first.version()).filter(|_| is_request);
        if terms.is_some() && self.flake.loses(flags) {
            return Err(DropReason::Flaked);
        }
        let is_limited = terms.is_some_and(|terms| terms.limited);
        match self.limiter.as_mut().filter(|_| is_limited).map(|limiter| limiter.admit(source.ip(), now)) {
            None | Some(Admit::Answer) => Ok(false),
            Some(Admit::Kiss) if flags.contains(Flags::KOD) => Ok(true),
            Some(Admit::Kiss | Admit::Drop) => Err(DropReason::Limited),
        }
    }
}
