//! The daemon's own interface: one JSON object a line, over a Unix socket. It answers from the
//! snapshot and changes nothing.
//!
//! ```text
//! {"ask":"status"}                    a refclockd.status/1 object
//! {"ask":"sources"}                   refclockd.sources/1
//! {"ask":"why"}                       refclockd.why/1
//! {"ask":"why","source":"GPS"}        the same, of one source
//! {"ask":"satellites"}                refclockd.satellites/1
//! {"ask":"ping"}                      refclockd.ping/1
//! anything else                       {"error":{"code":"...","text":"..."}}
//! ```

pub mod client;
pub mod lines;
pub mod protocol;
pub mod server;

/// Where the daemon listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/refclockd/api.sock";
