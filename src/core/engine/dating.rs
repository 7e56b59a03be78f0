//! Dates against the last good time of an earlier life; see [`LastGood`].
//!
//! [`LastGood`]: crate::core::last_good::LastGood

use refclocks::time::{Tai, Timestamp, Utc};

use super::{Engine, Now};
use crate::core::event::Event;
use crate::core::last_good::Witness;
use crate::core::snapshot::SourceKind;
use crate::core::source::Source;

impl Engine {
    /// Lets everybody who knows a date speak, once somebody says one before the last good time.
    pub(super) fn hear_dates(&mut self, now: Now) {
        if !self.sources.values().any(|s| self.date_in_doubt(s, now).is_some()) {
            return;
        }
        let mut witnesses: Vec<Witness> = (self.sources.values())
            .filter(|s| !s.config.options.noselect && !s.offline)
            .filter_map(|s| {
                let receiver = s.config.kind != SourceKind::Network;
                Some(Witness { name: s.config.name.clone(), receiver, says: said_by(s, now)? })
            })
            .collect();
        witnesses.extend(self.system_clock(now));
        let Some((last, by)) = self.last_good.hear(&witnesses) else { return };
        let utc = |tai| self.config.utc.utc(tai).0;
        let (last_good, now_by) = (utc(last), utc(by[0].says));
        self.remembered.last_utc = None;
        let witnesses = by.map(|witness| witness.name.clone());
        self.events.push_back(Event::LastGoodRefuted { last_good, witnesses, now: now_by });
    }

    /// The last good time, if this source says an earlier one.
    pub(super) fn date_in_doubt(&self, s: &Source, now: Now) -> Option<Timestamp<Tai>> {
        self.last_good.after(said_by(s, now)?)
    }

    /// The system clock speaks if its time is possible at all.
    fn system_clock(&self, now: Now) -> Option<Witness> {
        let (raw, realtime) = self.base.latest()?;
        let utc: Timestamp<Utc> = realtime.reinterpret();
        let says = self.config.utc.tai(utc, false) + (now.raw - raw);
        (utc >= crate::NOT_BEFORE).then(|| Witness { name: "the system clock".into(), receiver: false, says })
    }
}

/// What time it is now by a source that tells dates; `None` while it says nothing.
fn said_by(s: &Source, now: Now) -> Option<Timestamp<Tai>> {
    let m = s.recent.back().filter(|_| s.config.kind != SourceKind::Pulse && s.is_fresh(now.raw))?;
    Some(m.tai + (now.raw - m.raw))
}
