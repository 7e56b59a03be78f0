//! What we say of ourselves to a peer, and what our clock reads for it.

use refclocks::sys::clock;
use refclocks::time::{Raw, Span, Timestamp, Utc};
use serde::{Deserialize, Serialize};

use super::measurement::Rate;
use crate::ntp::served::Served;
use crate::ntp::server::View;

/// The rate of a crystal that nothing is known of may be off by so much, s/s.
const UNKNOWN_RATE: f64 = 500e-6;

/// Our own clock at an instant, as a peer is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ours {
    /// What packets say of it.
    pub view: View,
    /// The instant.
    pub at: Timestamp<Raw>,
    /// What the served clock reads then.
    pub utc: Timestamp<Utc>,
    /// Of our raw counter.
    pub rate: Rate,
}

impl Ours {
    /// What is served at an instant near now. A peer is told UTC, wherever clients are told smeared time.
    pub fn at(served: &Served, now: Timestamp<Raw>) -> Self {
        let (snapshot, map) = (served.snapshot.load(), **served.raw_map.load());
        let raw = map.apply(now);
        let view = View::at(&snapshot, raw);
        let slept = clock::asleep() - snapshot.asleep > clock::SHORTEST_SLEEP;
        let deviation = snapshot.frequency_sd;
        Self {
            view: if slept { view.unsynchronised() } else { view },
            at: now,
            utc: snapshot.utc_at(raw).0,
            rate: Rate {
                correction: (1.0 + map.rate) * (1.0 + snapshot.clock.rate) - 1.0,
                deviation: if deviation.is_finite() { deviation.clamp(0.0, UNKNOWN_RATE) } else { UNKNOWN_RATE },
            },
        }
    }

    /// What the served clock reads at an instant near this one.
    pub fn reading(&self, raw: Timestamp<Raw>) -> Timestamp<Utc> {
        let elapsed = raw - self.at;
        self.utc + elapsed + Span::from_seconds(elapsed.seconds() * self.rate.correction)
    }
}
