//! Which edge of a pulse is on the second, where its shape does not tell; see [`Edges`].
//!
//! [`Edges`]: crate::core::edge::Edges

use refclocks::Edge;
use refclocks::time::{Raw, Timestamp};

use super::{Engine, Now};
use crate::core::edge::Witness;
use crate::core::event::Event;
use crate::core::measurement::SourceId;
use crate::core::pairing::Numbering;
use crate::core::snapshot::SourceKind;
use crate::core::source::Source;

/// Who is to tell edges apart knows the second to within this, s.
const KNOWN: f64 = 0.1;

impl Engine {
    /// An edge of a pulse came. Is it the one that counts?
    pub(super) fn hear_edge(&mut self, source: SourceId, raw: Timestamp<Raw>, edge: Edge, now: Now) -> bool {
        let Some(s) = self.sources.get_mut(&source) else { return false };
        let used = s.edges.hear(edge, raw);
        let Some(both) = s.edges.both().filter(|_| used) else { return used };
        // While the pulse feeds the clock, delays are learned from it.
        let feeds = self.feeding.contains(&source);
        let witnesses: Vec<Witness> = (self.sources.values())
            .filter(|s| s.config.kind == SourceKind::Network || s.config.delay.is_some() || !feeds)
            .filter_map(|s| witness(s, both, now))
            .collect();
        let Some(s) = self.sources.get_mut(&source) else { return used };
        let Some(edge) = s.edges.judge(&witnesses) else { return used };
        let by = s.edges.told().and_then(|(_, by)| by).unwrap_or_default().to_owned();
        self.events.push_back(Event::EdgeFound { pulse: s.config.name.clone(), edge, by });
        s.train.restart();
        s.recent.clear();
        (s.numbering, s.numbered_by) = (Numbering::Nothing, None);
        if feeds {
            // It fed the clock with the other one.
            self.start_anew_with_servers();
        }
        false
    }

    /// At a start, a pulse of which nobody knows which edge counts waits for the servers that are configured.
    pub(super) fn edge_waits(&self, s: &Source, now: Now) -> bool {
        s.edges.open_since().is_some_and(|since| self.servers_may_speak(since, now))
    }
}

/// Where both edges lie by a source that knows where the second is.
fn witness(s: &Source, both: [Timestamp<Raw>; 2], now: Now) -> Option<Witness> {
    let server = match s.config.kind {
        SourceKind::Network => true,
        SourceKind::Message if s.is_calibrated() => false,
        _ => return None,
    };
    if s.config.options.noselect || s.offline || s.follows_us() || !s.is_fresh(now.raw) {
        return None;
    }
    let m = s.recent.back()?;
    let known = if server { 0.5 * (m.delay? + s.says.root_delay) + s.says.root_dispersion } else { 0.0 };
    let phase = |edge: Timestamp<Raw>| {
        let at = m.tai + (edge - m.raw);
        (at - at.round()).seconds()
    };
    (known < KNOWN).then(|| Witness { name: s.config.name.clone(), server, phases: both.map(phase) })
}
