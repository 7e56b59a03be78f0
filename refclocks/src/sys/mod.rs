//! System calls. This module and its children hold all of this crate's unsafe code.
#![allow(unsafe_code)]

pub mod access;
pub mod clock;
pub mod line_discipline;
pub mod pps;
pub mod shm;
pub mod tty;
