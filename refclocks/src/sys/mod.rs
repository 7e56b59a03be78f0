//! System calls. This module and its children hold all of this crate's unsafe code.
#![allow(unsafe_code)]

#[cfg(test)]
mod abi_tests;
pub mod access;
pub mod appearance;
pub mod card;
pub mod clock;
pub mod line_discipline;
pub mod phc;
pub mod pps;
pub mod pps_class;
pub mod shm;
pub mod tty;
