//! The daemon's own interface: one JSON object a line, over a Unix socket. Questions are answered from
//! the snapshot and change nothing. Commands enter where all else does that may change something, and
//! are answered when they are carried out; they are root's and the daemon's own user's.
//!
//! ```text
//! {"ask":"status"}                    a refclockd.status/1 object
//! {"ask":"sources"}                   refclockd.sources/1
//! {"ask":"why"}                       refclockd.why/1
//! {"ask":"why","source":"GPS"}        the same, of one source
//! {"ask":"satellites"}                refclockd.satellites/1
//! {"ask":"clients","most":100}        refclockd.clients/1
//! {"ask":"ping"}                      refclockd.ping/1
//! {"set":"step"}                      a refclockd.set/1 object
//! {"set":"time","to":"16:30:05"}      see [`time_setting`]
//! {"set":"offline","source":"..."}    also online, burst; all servers without a source
//! {"set":"forget_clients"}
//! {"set":"reload"}
//! anything else                       {"error":{"code":"...","text":"..."}}
//! ```

pub mod client;
pub mod command;
pub mod lines;
pub mod protocol;
pub mod reply;
pub mod server;
pub mod time_setting;

/// Where the daemon listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/refclockd/api.sock";
