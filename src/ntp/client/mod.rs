//! The client: what one association decides, without I/O, and the shell that gives it a socket.
//!
//! | module | what it is |
//! |---|---|
//! | [`association`] | requests, replies, reach, validation: pure |
//! | [`measurement`], [`rejection`] | what a reply is worth, or why it is worth nothing |
//! | `handover` | an exchange as the core takes it |
//! | [`poll`] | when the next request is due: pure |
//! | [`pool`] | one name, several servers: pure |
//! | [`random`] | numbers that nobody can guess |
//! | [`once`] | a few quick exchanges, then an end: for `refclockd query` |
//! | [`names`] | host names, resolved on a thread of their own |
//! | [`standing`] | how a server stands, in words |
//! | [`order`] | what the owner wants of a client while it runs |
//! | [`shell`], [`socket`] | timers; the socket, with the kernel's stamps |

pub mod association;
mod handover;
pub mod measurement;
pub mod names;
pub mod once;
pub mod order;
pub mod poll;
pub mod pool;
pub mod random;
pub mod rejection;
pub mod shell;
pub mod socket;
pub mod standing;

pub use association::{Association, Config, Filters, Request, Tally};
pub use measurement::Measurement;
pub use order::{Order, Orders};
pub use rejection::{KissCode, Rejected};
pub use shell::{ClientConfig, ClientEvent};
pub use standing::ServerState;
