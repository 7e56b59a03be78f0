//! From a configuration to what runs: one file for each thing that is started.

pub mod admission;
mod broadcasting;
pub mod clock;
pub mod engine;
pub mod memory;
mod place;
pub mod serving;
