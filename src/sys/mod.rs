//! System calls. This module and its children hold all of this crate's unsafe code.
#![allow(unsafe_code)]

pub mod address;
pub mod batch;
pub mod control_message;
pub mod departure;
pub mod kernel_clock;
pub mod network_changes;
pub mod networks;
pub mod ports;
pub mod steering;
pub mod udp;
