//! The system clock, and what is done while it may not be set.
//!
//! The kernel may refuse at the start (no capability, a container) or at any time later. From then on
//! a clock of our own is steered and served, beginning where the system's stood, or the system's is
//! only watched, as configured; and now and then it is tried again. When it may be set, it is brought
//! to where our own clock is, so that what clients see goes on.

use std::io::ErrorKind;

use refclocks::time::{Raw, Span, Tai, Timestamp};

use super::{Announcement, Clock, ClockError, ForeignHand, KernelClock, SoftwareClock};
use crate::core::engine::ClockCommand;
use crate::core::snapshot::{ClockKind, ClockRefusal};

/// The first try after a refusal, and the longest time between two: each may leave a line in a log
/// of the kernel's.
const FIRST_TRY: Span = Span::from_whole_seconds(2);
const LAST_TRY: Span = Span::from_whole_seconds(256);

/// What is done while the system clock may not be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// A clock of our own is steered, beginning at this instant of `raw` if the start was refused.
    Own(Timestamp<Tai>),
    /// Nothing: it is watched.
    Watch,
}

/// The system clock.
pub struct SystemClock {
    kernel: KernelClock,
    /// Asked to steer: what to do where that is refused. `None` where only watching was asked for.
    instead: Option<Instead>,
    /// The clock steered instead, while one is.
    own: Option<SoftwareClock>,
    refused: Option<Refused>,
    /// What other programs were told last: it is told again when the clock is taken again.
    said: Option<Announcement>,
    retaken: Option<Span>,
}

struct Refused {
    why: ClockRefusal,
    pause: Span,
    next_try: Timestamp<Raw>,
}

impl SystemClock {
    /// The system clock, only watched.
    pub fn watch(kernel: KernelClock) -> Self {
        Self { kernel, instead: None, own: None, refused: None, said: None, retaken: None }
    }

    /// The system clock, steered for as long as that is allowed; `raw` is now.
    pub fn steer(kernel: KernelClock, instead: Instead, raw: Timestamp<Raw>) -> Self {
        let mut clock = Self { instead: Some(instead), ..Self::watch(kernel) };
        if let Err(error) = clock.kernel.take(None) {
            clock.fall_back(&error, raw);
            if let Instead::Own(start) = instead {
                clock.own = Some(SoftwareClock::new(raw, start));
            }
        }
        clock
    }

    fn fall_back(&mut self, error: &ClockError, raw: Timestamp<Raw>) {
        let Some(instead) = self.instead else { return };
        if let Instead::Own(_) = instead {
            let mut own = SoftwareClock::new(raw, self.kernel.read(raw));
            own.apply(raw, ClockCommand::SetRate(self.kernel.rate()));
            self.own = Some(own);
        }
        self.kernel.leave_alone();
        let why = self.refusal_of(error);
        self.refused = Some(Refused { why, pause: FIRST_TRY, next_try: raw + FIRST_TRY });
    }

    fn refusal_of(&self, error: &ClockError) -> ClockRefusal {
        let ClockError::Refused { source, .. } = error;
        let permission = source.kind() == ErrorKind::PermissionDenied;
        let instead = if self.own.is_some() { ClockKind::Own } else { ClockKind::Watched };
        ClockRefusal { error: error.to_string(), permission, instead }
    }

    /// Takes the kernel's clock again, all of it: what fails one way would only fail again.
    fn take_again(&mut self, raw: Timestamp<Raw>) -> Result<Option<Span>, ClockError> {
        self.kernel.take(self.own.as_ref().map(Clock::rate))?;
        if let Some(said) = &self.said {
            self.kernel.announce(said)?;
        }
        let Some(own) = &self.own else { return Ok(None) };
        let behind = own.read(raw) - self.kernel.read(raw);
        self.kernel.apply(ClockCommand::Step(behind))?;
        Ok(Some(behind))
    }
}

impl Clock for SystemClock {
    fn read(&self, raw: Timestamp<Raw>) -> Timestamp<Tai> {
        self.own.as_ref().map_or_else(|| self.kernel.read(raw), |own| own.read(raw))
    }

    fn rate(&self) -> f64 {
        self.own.as_ref().map_or_else(|| self.kernel.rate(), Clock::rate)
    }

    fn kind(&self) -> ClockKind {
        match (&self.own, self.kernel.steers()) {
            (Some(_), _) => ClockKind::Own,
            (None, true) => ClockKind::System,
            (None, false) => ClockKind::Watched,
        }
    }

    fn apply(&mut self, raw: Timestamp<Raw>, command: ClockCommand) {
        if self.own.is_none()
            && let Err(error) = self.kernel.apply(command)
        {
            self.fall_back(&error, raw);
        }
        if let Some(own) = &mut self.own {
            own.apply(raw, command);
        }
    }

    fn announce(&mut self, raw: Timestamp<Raw>, said: &Announcement) {
        self.said = Some(*said);
        if let Err(error) = self.kernel.announce(said) {
            self.fall_back(&error, raw);
        }
    }

    fn handle_timeout(&mut self, raw: Timestamp<Raw>) {
        if self.own.is_none()
            && let Err(error) = self.kernel.handle_timeout(raw)
        {
            self.fall_back(&error, raw);
        }
        if self.refused.as_ref().is_none_or(|refused| raw < refused.next_try) {
            return;
        }
        match self.take_again(raw) {
            Ok(stepped) => {
                self.own = None;
                self.refused = None;
                self.retaken = stepped;
            }
            Err(error) => {
                self.kernel.leave_alone();
                let why = self.refusal_of(&error);
                if let Some(refused) = &mut self.refused {
                    refused.pause = (refused.pause + refused.pause).min(LAST_TRY);
                    refused.next_try = raw + refused.pause;
                    refused.why = why;
                }
            }
        }
    }

    fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        self.kernel.poll_timeout()
    }

    fn leap_left(&self, raw: Timestamp<Raw>) -> Option<Span> {
        self.kernel.leap_left(raw)
    }

    fn leave(&mut self, raw: Timestamp<Raw>, rate: f64) {
        if let Err(error) = self.kernel.end_slew() {
            self.fall_back(&error, raw);
        }
        self.apply(raw, ClockCommand::SetRate(rate));
    }

    fn refusal(&self) -> Option<&ClockRefusal> {
        self.refused.as_ref().map(|refused| &refused.why)
    }

    fn retaken(&mut self) -> Option<Span> {
        self.retaken.take()
    }

    fn foreign_hand(&mut self) -> Option<ForeignHand> {
        self.kernel.foreign_hand()
    }
}

#[cfg(test)]
#[path = "system_tests.rs"]
mod tests;
