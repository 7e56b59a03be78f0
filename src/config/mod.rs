//! The configuration: what the operator wrote, read with all its mistakes at once.
//!
//! Text goes in, a [`Config`] or the list of everything that is wrong with it comes out. Nothing
//! here opens a file or a device: that a device exists is for the daemon to find out, again and
//! again, while it runs.
//!
//! | module | subject |
//! |---|---|
//! | [`model`] | what a configuration is |
//! | `reader` | from TOML to the model |
//! | `clock` | `[clock]`: which clock is steered, and how |
//! | [`serve`](mod@serve) | `[serve]`: who is answered where |
//! | `refclock`, `receiver`, `server` | single sources |
//! | `hwtimestamp` | network cards that stamp packets |
//! | `source` | what they have in common |
//! | `value` | single values: durations, addresses, integers in a range |
//! | [`keys`] | the file of symmetric keys, and reading it |
//! | `dialect` | telling the files of other programs from ours |
//! | [`diagnostic`] | what is wrong where, and what to do about it |

mod broadcast;
mod broadcast_client;
mod clock;
pub mod diagnostic;
mod dialect;
mod feed;
mod hwtimestamp;
pub mod keys;
mod listen;
pub mod model;
mod passive_peer;
mod reader;
mod receiver;
mod refclock;
pub mod serve;
mod server;
mod source;
pub(crate) mod value;

pub use broadcast::Broadcast;
pub use broadcast_client::BroadcastClient;
pub use clock::{ClockSettings, Discipline, Otherwise};
pub use diagnostic::{Diagnostic, Severity};
pub use keys::Keys;
pub use listen::Listen;
pub use model::{Config, Driver, Feed, PhcInput, Pool, Process, Receiver, Refclock, Server, Thermometer};
pub use passive_peer::PassivePeer;
pub use serve::Serve;
pub use value::parse_duration;
