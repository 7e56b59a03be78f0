//! The client: what one association decides, without I/O, and the shell that gives it a socket.
//!
//! | module | what it is |
//! |---|---|
//! | [`association`] | requests, replies, reach, validation: pure |
//! | [`symmetric`], [`ours`] | the same between peers; what we say of ourselves: pure |
//! | [`overheard`] | a broadcaster that is listened to: pure |
//! | [`passive`], [`stranger`] | a peer that came by itself: pure; its shell |
//! | [`listener`], [`manycast`] | its shell; who answers in a group |
//! | `dialogue` | either of them, as the shell drives it |
//! | [`request`], `checks`, [`filters`], [`tally`] | what is sent; what a reply is held against; counts |
//! | [`measurement`], [`rejection`] | what a reply is worth, or why it is worth nothing |
//! | `handover` | an exchange as the core takes it |
//! | [`poll`] | when the next request is due: pure |
//! | [`pool`] | one name, several servers: pure |
//! | [`random`] | numbers that nobody can guess |
//! | [`once`] | a few quick exchanges, then an end: for `refclockd query` |
//! | [`names`] | host names, resolved on a thread of their own |
//! | [`standing`] | how a server stands, in words |
//! | [`order`] | what the owner wants of a client while it runs |
//! | [`event`] | what a shell tells its owner |
//! | [`shell`], [`socket`] | timers; the socket, with the kernel's stamps |

pub mod association;
mod checks;
mod dialogue;
pub mod event;
pub mod filters;
mod handover;
pub mod listener;
pub mod manycast;
pub mod measurement;
pub mod names;
pub mod once;
pub mod order;
pub mod ours;
pub mod overheard;
pub mod passive;
pub mod poll;
pub mod pool;
pub mod random;
pub mod rejection;
pub mod request;
pub mod shell;
pub mod socket;
pub mod standing;
pub mod stranger;
pub mod symmetric;
pub mod tally;

pub use association::{Association, Config};
pub use event::ClientEvent;
pub use filters::Filters;
pub use measurement::Measurement;
pub use order::{Order, Orders};
pub use rejection::{KissCode, Rejected};
pub use request::Request;
pub use shell::ClientConfig;
pub use standing::ServerState;
pub use symmetric::Symmetric;
pub use tally::Tally;
