//! The clock we serve from and steer, behind one contract.
//!
//! | clock | what it is |
//! |---|---|
//! | [`SoftwareClock`] | a user-space clock: a line over the raw counter, steered without privileges |
//!
//! The simulated world steers a [`SoftwareClock`] over its simulated counter; the kernel's clock
//! takes the same commands.

mod disciplined;
mod software;

pub use disciplined::DisciplinedClock;
pub use software::SoftwareClock;

use refclocks::time::{Raw, Tai, Timestamp};
use thiserror::Error;

use crate::core::engine::ClockCommand;

/// Why the clock could not be moved.
#[derive(Debug, Error)]
pub enum ClockError {
    /// The system refused.
    #[error("the system clock may not be set: {0}")]
    Refused(std::io::Error),
}

/// A clock that can be read against the raw counter, and steered.
pub trait Clock {
    /// What the clock reads when the raw counter reads `raw`; `raw` is now or very near.
    fn read(&self, raw: Timestamp<Raw>) -> Timestamp<Tai>;

    /// Applies a command; `raw` is now.
    fn apply(&mut self, raw: Timestamp<Raw>, command: ClockCommand) -> Result<(), ClockError>;
}
