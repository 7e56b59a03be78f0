//! NMEA 0183: framer, sentences, driver, and the writer.
//!
//! Bytes first: [`Framer`] (bytes and arrival stamp in, frames with the time of their first byte
//! out), then [`Sentence`] (pure parse), then [`Driver`] (which sentence of the cycle carries the
//! time, whether it may be believed, what the receiver sees).

mod date;
mod driver;
mod framer;
mod sentence;
mod sky;
pub mod write;

pub use date::{DateFold, MARGIN};
pub use driver::{Config, Driver};
pub use framer::{Frame, Framer};
pub use sentence::{ParseError, Parsed, Sentence, Time};
