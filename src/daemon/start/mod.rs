//! From a configuration to what runs: one file for each thing that is started.

pub mod clock;
pub mod memory;
pub mod serving;
pub mod sources;
