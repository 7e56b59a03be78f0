//! The last good UTC of an earlier life lies in the past. When it does not, it was a mistake.

use super::Engine;
use crate::core::event::Event;
use crate::core::snapshot::SourceKind;
use crate::core::source::{Source, SourceId};

/// So many sources that do not depend on it have to say so.
const QUORUM: usize = 2;
/// A clock may have been ahead by this when it wrote the file, s.
const TOLERANCE: f64 = 60.0;

impl Engine {
    /// Holds the last good UTC against what the sources agree on. Receivers whose dates were repaired,
    /// which is done by it, are no witnesses.
    pub(super) fn doubt_last_utc(&mut self, survivors: &[SourceId]) {
        let Some(last) = self.remembered.last_utc.filter(|_| !self.last_utc_was_judged) else { return };
        let witness = |s: &Source| {
            let by_itself = match s.config.kind {
                SourceKind::Network | SourceKind::NumberedPulse => true,
                SourceKind::Message => s.health.rollover_repaired == 0,
                SourceKind::Pulse | SourceKind::Manual => false,
            };
            s.recent.back().filter(|_| by_itself).map(|m| self.config.utc.utc(m.tai).0)
        };
        let said: Vec<_> = survivors.iter().filter_map(|i| witness(self.sources.get(i)?)).collect();
        if said.len() < QUORUM {
            return;
        }
        self.last_utc_was_judged = true;
        let Some(now) = said.into_iter().max().filter(|now| (last - *now).seconds() > TOLERANCE) else { return };
        self.events.push_back(Event::LastUtcWrong { last, now });
        self.remembered.last_utc = None;
        self.last_utc_is_wrong = true;
        self.start_anew();
    }

    /// Did the last good UTC just turn out to be wrong? Receivers' dates must no longer be measured by
    /// it. Tells it once.
    pub fn poll_last_utc_wrong(&mut self) -> bool {
        std::mem::take(&mut self.last_utc_is_wrong)
    }
}
