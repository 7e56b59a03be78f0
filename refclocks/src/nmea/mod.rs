//! NMEA 0183: sentences, dates, and the writer.
//!
//! [`Parsed`] is what one sentence says, by itself. Which of them carries the time of a cycle and whether
//! it may be believed is the business of [`crate::receiver`].

mod date;
mod fields;
mod sentence;
pub mod write;

pub use date::{DateFold, MARGIN};
pub use fields::{Date, ParseError, Time};
pub use sentence::{Parsed, Sentence, has_good_checksum};
