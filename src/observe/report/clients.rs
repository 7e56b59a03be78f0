//! Who has asked for the time.

use refclocks::time::{Raw, Span, Timestamp};
use serde::{Deserialize, Serialize};

use super::numbers::{finite, utc_text};
use crate::core::snapshot::Snapshot;
use crate::ntp::monitor::Client;

/// Clients told of in one report, at most.
pub const MOST_CLIENTS: usize = 10_000;

/// `refclockd.clients/1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientsReport {
    /// Name and version of this layout.
    pub schema: String,
    /// Version of the daemon.
    pub version: String,
    /// What the served clock says, RFC 3339.
    pub time_utc: String,
    /// How many clients are remembered.
    pub known: usize,
    /// Those that asked last, as many as were wanted; the latest first.
    pub clients: Vec<ClientEntry>,
}

/// One client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientEntry {
    /// Its address.
    pub address: String,
    /// The port that it asked from last.
    pub port: u16,
    /// Datagrams that came from it.
    pub count: u64,
    /// Of these, those that got no answer.
    pub dropped: u32,
    /// Those that were too many, told so or not.
    pub limited: u32,
    /// The last one's mode, 0 to 7: 3 is a client, 1 and 2 are peers, 6 and 7 ask about us.
    pub mode: u8,
    /// The last one's NTP version.
    pub ntp_version: u8,
    /// When it was first seen, RFC 3339.
    pub first_utc: String,
    /// When last.
    pub last_utc: String,
    /// How long ago that is, s.
    pub last_s: Option<f64>,
    /// How far apart its datagrams were on the average, s; unknown of a single one.
    pub average_interval_s: Option<f64>,
    /// The same of about the last eight, s.
    pub recent_interval_s: Option<f64>,
}

impl ClientsReport {
    /// The latest of these clients at the reader's now, no more than `most`.
    pub fn new(snapshot: &Snapshot, now: Timestamp<Raw>, mut clients: Vec<Client>, most: usize) -> Self {
        clients.sort_unstable_by(|a, b| b.last.cmp(&a.last).then(a.address.cmp(&b.address)));
        let seconds = |span: Span| finite(span.seconds());
        let entry = |client: &Client| ClientEntry {
            address: client.address.to_string(),
            port: client.port,
            count: client.count,
            dropped: client.dropped,
            limited: client.limited,
            mode: client.mode,
            ntp_version: client.version,
            first_utc: utc_text(snapshot, client.first),
            last_utc: utc_text(snapshot, client.last),
            last_s: seconds((now - client.last).max(Span::ZERO)),
            average_interval_s: client.average_interval().and_then(seconds),
            recent_interval_s: client.interval.and_then(seconds),
        };
        Self {
            schema: "refclockd.clients/1".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            time_utc: utc_text(snapshot, now),
            known: clients.len(),
            clients: clients.iter().take(most.min(MOST_CLIENTS)).map(entry).collect(),
        }
    }
}
