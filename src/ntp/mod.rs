//! NTP (RFC 5905), both ways.
//!
//! | module | what it is |
//! |---|---|
//! | [`packet`], [`extension`] | the wire format: checked views of bytes, and their representation |
//! | [`server`] | the pure answer to one request |
//! | [`access`] | who gets one |
//! | [`interleave`], `leaving` | when replies really left |
//! | [`hardware`] | stamps by network cards: their clocks beside ours |
//! | [`limit`], `flake`, `gate` | and how often |
//! | [`keys`] | symmetric keys: who said it |
//! | [`broadcast`] | our time, told to whole networks |
//! | [`worker`], `responder` | sockets and threads; what becomes of a batch |
//! | [`peer_door`] | requests that come to the socket of a peer |
//! | [`counters`], [`monitor`] | what came, and from whom |
//! | [`passing`] | what is not the workers' business |
//! | [`smear`] | leap seconds, spread |
//! | [`served`] | what the workers read of the rest of the daemon |
//! | [`reference_id`] | what stands for a server's address |
//! | [`client`] | one association with a server, without I/O, and the shell that gives it a socket |
//!
//! Nothing here changes the clock or the snapshot.

pub mod access;
pub mod broadcast;
pub mod client;
pub mod counters;
pub mod extension;
mod flake;
mod gate;
pub mod hardware;
pub mod interleave;
pub mod keys;
mod leaving;
pub mod limit;
pub mod monitor;
pub mod packet;
pub mod passing;
pub mod peer_door;
pub mod reference_id;
mod responder;
pub mod served;
pub mod server;
pub mod smear;
pub mod stamp;
pub mod worker;

/// The port of NTP, RFC 5905 section 7.2.
pub const NTP_PORT: u16 = 123;
