//! A gpsd gives two things: messages that name seconds, and pulses.

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Time messages.
    Message,
    /// Numbered pulses.
    Pulse,
}
