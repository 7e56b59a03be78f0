//! gpsd's JSON socket, without I/O.
//!
//! One session gives two streams: messages (TOFF: the second a message named, and when it came) and
//! numbered pulses (PPS). TPV decides whether the receiver's time may be used, SKY tells what it sees.

mod devices;
mod json;
mod pulse_window;
mod session;
mod stream;

pub use json::{Message, parse};
pub use session::{Config, Fatal, Session};
pub use stream::Stream;
