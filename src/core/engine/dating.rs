//! Dates: against the last good time of an earlier life (see [`LastGood`]), and against what others say (see
//! [`Voices`]).
//!
//! [`LastGood`]: crate::core::last_good::LastGood

use refclocks::time::{Raw, Span, Tai, Timestamp, Utc};

use super::{Engine, Now};
use crate::core::day::{Repair, Voices};
use crate::core::event::Event;
use crate::core::last_good::Witness;
use crate::core::local::Kinship;
use crate::core::measurement::SourceId;
use crate::core::pairing::Numbering;
use crate::core::snapshot::SourceKind;
use crate::core::source::Source;

/// A server speaks once it has given so many samples.
const SERVER_SAMPLES: u64 = 3;
/// So long a date that nothing else confirms waits for the servers that are configured, s.
const SERVERS_PATIENCE: f64 = 16.0;
/// A clock that is wrong by more has the wrong day.
const OTHER_DAY: Span = Span::from_whole_seconds(43_200);

impl Engine {
    /// Lets everybody who knows a date speak, once somebody says one that cannot be.
    pub(super) fn hear_dates(&mut self, now: Now) {
        self.repair_dates(now);
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
        let says = self.system_clock(now).map(|utc| self.config.utc.tai(utc, false));
        witnesses.extend(says.map(|says| Witness { name: "the system clock".into(), receiver: false, says }));
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

    /// Has it no say, because its date cannot be, or waits for servers?
    pub(super) fn date_is_open(&self, s: &Source, now: Now) -> bool {
        self.date_in_doubt(s, now).is_some() || self.date_waits(s, now)
    }

    /// At a start, before anything else is known, a receiver's date that is near neither the last good time nor
    /// the system clock waits for the servers that are configured: they may be about to say that it is wrong.
    pub(super) fn date_waits(&self, s: &Source, now: Now) -> bool {
        let first = self.first_message.unwrap_or(now.raw);
        if !is_receiver(s)
            || !self.servers_may_speak(first, now)
            || s.repair.is_some()
            || self.estimator.estimate().is_some()
        {
            return false;
        }
        let Some(says) = said_by(s, now) else { return false };
        let utc = self.config.utc.utc(says).0;
        let confirmed = self.last_good.is_near(says)
            || self.system_clock(now).is_some_and(|system| (system - utc).abs() < OTHER_DAY);
        !confirmed
    }

    /// Are there servers that have not said yet what they know, so early after that?
    pub(super) fn servers_may_speak(&self, since: Timestamp<Raw>, now: Now) -> bool {
        let is_asked = |s: &&Source| s.config.kind == SourceKind::Network && !s.config.options.noselect && !s.offline;
        let early = (now.raw - since).seconds() < SERVERS_PATIENCE;
        early && self.sources.values().filter(is_asked).any(|s| s.samples < SERVER_SAMPLES)
    }

    /// Forgets what time it is, where a source had deceived us; what servers say was right all along.
    pub(super) fn start_anew_with_servers(&mut self) {
        let servers = self.sources.iter_mut().filter(|(_, s)| s.config.kind == SourceKind::Network);
        let said: Vec<_> = servers.map(|(i, s)| (*i, std::mem::take(&mut s.recent))).collect();
        self.start_anew();
        for (i, recent) in said {
            if let Some(s) = self.sources.get_mut(&i) {
                s.recent = recent;
            }
        }
    }

    /// A receiver that is wrong by whole days is put right where others agree on the day.
    fn repair_dates(&mut self, now: Now) {
        if !self.sources.values().any(|s| s.config.kind == SourceKind::Network && s.samples >= SERVER_SAMPLES) {
            return;
        }
        let utc = |s: &Source| said_by(s, now).map(|tai| self.config.utc.utc(tai).0);
        let has_say = |s: &&Source| !s.config.options.noselect && !s.offline && !s.follows_us();
        let is_server = |s: &&Source| {
            s.config.kind == SourceKind::Network
                && s.samples >= SERVER_SAMPLES
                && self.local.kinship(&s.says) == Kinship::Stranger
        };
        let voices = Voices {
            servers: (self.sources.values())
                .filter(has_say)
                .filter(is_server)
                .filter_map(|s| Some((s.config.name.as_str(), utc(s)?)))
                .collect(),
            // Once we have set it, it says what we say.
            system: self.system_clock(now).filter(|_| !self.config.steers_realtime || !self.set),
            receivers: self.sources.values().filter(has_say).filter(|s| is_receiver(s)).filter_map(utc).collect(),
        };
        // Whom the operator vouches for, nobody corrects.
        let repairs: Vec<(SourceId, Repair)> = (self.sources.iter())
            .filter(|(_, s)| is_receiver(s) && !s.config.options.trust)
            .filter_map(|(i, s)| Some((*i, voices.repair(utc(s)?)?)))
            .collect();
        for (i, repair) in repairs {
            self.repair_date(i, repair, now);
        }
    }

    fn repair_date(&mut self, source: SourceId, Repair { days, by }: Repair, now: Now) {
        let Some(s) = self.sources.get_mut(&source) else { return };
        let wrong = s.recent.back().map(|m| m.tai + (now.raw - m.raw));
        let known = s.forget_repair().map_or(0, |repair| repair.days);
        // It may have found the day itself.
        s.repair = Some(Repair { days: known + days, by: by.clone() }).filter(|repair| repair.days != 0);
        // What it has named so far was of another day.
        s.recent.clear();
        s.records.clear();
        self.events.push_back(Event::DateMoved { source: s.config.name.clone(), days: known + days, by });
        for pulse in self.sources.values_mut().filter(|p| p.numbered_by == Some(source)) {
            pulse.recent.clear();
            (pulse.numbering, pulse.numbered_by) = (Numbering::Nothing, None);
        }
        let ours = self.estimator.tai_at(now.raw);
        if ours.zip(wrong).is_some_and(|(ours, wrong)| (ours - wrong).abs() < OTHER_DAY) {
            // We had believed it.
            self.start_anew_with_servers();
        }
    }

    /// The system clock's time, if that is possible at all.
    fn system_clock(&self, now: Now) -> Option<Timestamp<Utc>> {
        let (raw, realtime) = self.base.latest()?;
        let utc: Timestamp<Utc> = realtime.reinterpret();
        (utc >= crate::NOT_BEFORE).then(|| utc + (now.raw - raw))
    }
}

/// Does it tell dates by what satellites say?
fn is_receiver(s: &Source) -> bool {
    matches!(s.config.kind, SourceKind::Message | SourceKind::NumberedPulse)
}

/// What time it is now by a source that tells dates; `None` while it says nothing.
fn said_by(s: &Source, now: Now) -> Option<Timestamp<Tai>> {
    let m = s.recent.back().filter(|_| s.config.kind != SourceKind::Pulse && s.is_fresh(now.raw))?;
    Some(m.tai + (now.raw - m.raw))
}
