//! A receiver on a line, whatever it speaks: NMEA, UBX, or both by turns.
//!
//! Bytes first: [`Framer`] (bytes and arrival stamp in, frames with the time of their first byte out). A
//! frame that names a time is [`Heard`], with what came of it. The [`Driver`] dates it, tells whether it
//! may be believed, chooses which message of the cycle carries the time, and reports what the receiver
//! sees.

mod capture;
mod config;
mod cycle;
mod dating;
mod driver;
mod framer;
mod heard;
mod hunt;
mod mind;
mod sky;

pub use capture::{Capture, utc_in_words};
pub use config::{Checksums, Config, SawtoothUse};
pub use driver::Driver;
pub use framer::{Content, Frame, Framer};
pub use heard::{Heard, Outcome, Refusal, Speaker};
pub use hunt::{Hunt, SPEEDS};
