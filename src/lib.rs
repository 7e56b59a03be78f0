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
//! | [`clock`] | the clocks that can be steered, and the loop closed around one |
//! | [`config`] | what the operator wrote |
//! | [`ntp`] | NTP on the wire, both ways |
//! | [`daemon`] | the one thread that owns devices, engine and sockets |
//! | [`observe`] | what a reader gets to see, made from a snapshot |
//! | [`control`] | our own interface: questions and answers over a Unix socket |
//! | [`sim`] | the simulated world |
//! | [`cli`] | the command line |

pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod core;
pub mod daemon;
pub mod ntp;
pub mod observe;
pub mod recording;
pub mod sim;
pub mod sys;

use refclocks::time::{Timestamp, Utc};

/// No true date can be earlier than this release: 2025-07-01T00:00:00Z.
pub const NOT_BEFORE: Timestamp<Utc> = Timestamp::from_parts(1_751_328_000, 0);
