//! refclockd turns a GNSS receiver and its pulse into a stratum-1 time server.
//!
//! ```text
//!  receiver --bytes, edges--> refclocks (drivers) --Sample, Pulse--> pairing --> filter --> selection --> discipline --> Clock
//!  network  --packets-------> ntp::client          --Sample--------------------/                             |
//!                                                                                                            v
//!                                                          Snapshot (immutable, published once per update)
//!                                                                |            |             |
//!                                                         ntp::server      control       observe
//! ```
//!
//! State flows left to right by value. Nothing on the right is called from the left, nothing on the
//! right writes: an operator's command enters again at the left, as input.
//!
//! | room | knows |
//! |---|---|
//! | [`refclocks`] | one device's bytes or edges |
//! | [`core`] | everything that decides; pure: no clock, no socket, no file, no random source |
//! | [`ntp`] | the NTP protocol, as server and as client |
//! | [`cli`] | the subcommands |
//! | [`sys`] | system calls: this crate's only unsafe code |

pub mod cli;
pub mod core;
pub mod ntp;
pub mod sys;
