//! The clock we serve from and steer, behind one contract.
//!
//! | clock | what it is |
//! |---|---|
//! | [`SystemClock`] | the system clock, for every program on the machine, and what is done while it may not be set; or only watched |
//! | [`SoftwareClock`] | a user-space clock: a line over the raw counter, steered without privileges |
//!
//! The simulated world steers a [`SoftwareClock`] over its simulated counter.

mod disciplined;
#[cfg(test)]
mod fake_kernel;
mod kernel;
mod leap;
mod software;
mod system;

pub use disciplined::{DisciplinedClock, Unmoved};
pub use kernel::KernelClock;
pub use leap::LeapMode;
pub use software::SoftwareClock;
pub use system::{Instead, SystemClock};

use std::io;

use refclocks::time::{Raw, Span, Tai, Timestamp};
use thiserror::Error;

use crate::core::engine::ClockCommand;
use crate::core::leap::UtcMap;
use crate::core::snapshot::{ClockKind, ClockRefusal};

/// Why the clock could not be moved.
#[derive(Debug, Error)]
pub enum ClockError {
    /// The system refused.
    #[error("{what}: {source}")]
    Refused {
        /// What was tried, e.g. "setting its rate".
        what: &'static str,
        /// The system's words.
        source: io::Error,
    },
}

impl ClockError {
    fn refused(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Refused { what, source }
    }
}

/// What a clock may tell other programs of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Announcement {
    /// Does anybody vouch for it?
    pub synchronised: bool,
    /// How wrong it can be, s.
    pub max_error: f64,
    /// How wrong it most likely is: one standard deviation, s.
    pub estimated_error: f64,
    /// TAI and UTC.
    pub utc: UtcMap,
    /// The leap second at the end of this UTC day: +1, -1, or 0 for none.
    pub leap_today: i32,
}

/// Somebody else has changed the clock's rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ForeignHand {
    /// The rate found, s/s.
    pub found: f64,
    /// The rate we had set, s/s.
    pub ours: f64,
}

/// A clock that can be read against the raw counter, and steered.
pub trait Clock {
    /// What the clock reads when the raw counter reads `raw`; `raw` is now or very near.
    fn read(&self, raw: Timestamp<Raw>) -> Timestamp<Tai>;

    /// How much faster than the raw counter it runs, s/s.
    fn rate(&self) -> f64;

    /// Which clock it is.
    fn kind(&self) -> ClockKind;

    /// Applies a command; `raw` is now.
    fn apply(&mut self, raw: Timestamp<Raw>, command: ClockCommand);

    /// Tells other programs how good the clock is, where it has a way to; `raw` is now.
    fn announce(&mut self, _raw: Timestamp<Raw>, _said: &Announcement) {}

    /// Time passed: a leap second may have come, and what could not be done before may be tried again.
    fn handle_timeout(&mut self, _raw: Timestamp<Raw>) {}

    /// When [`Clock::handle_timeout`] must not wait for longer, if there is such an instant.
    fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        None
    }

    /// How far CLOCK_REALTIME is ahead of UTC while it is slewed over a leap second; negative: behind.
    fn leap_left(&self, _raw: Timestamp<Raw>) -> Option<Span> {
        None
    }

    /// Nobody steers it from here on: runs on at this rate, s/s; `raw` is now.
    fn leave(&mut self, raw: Timestamp<Raw>, rate: f64) {
        self.apply(raw, ClockCommand::SetRate(rate));
    }

    /// Why it cannot be set, while it cannot.
    fn refusal(&self) -> Option<&ClockRefusal> {
        None
    }

    /// By how much the system clock was stepped since the last call to take it over again, if it was.
    fn retaken(&mut self) -> Option<Span> {
        None
    }

    /// Who else moved it since the last call, if anybody did.
    fn foreign_hand(&mut self) -> Option<ForeignHand> {
        None
    }
}
