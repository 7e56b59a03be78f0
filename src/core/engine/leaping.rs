//! Leap seconds: who announces them, and what happens when they are over.

use refclocks::LeapIndicator;
use refclocks::time::Span;

use super::{Engine, Now};
use crate::core::event::Event;
use crate::core::leap::{LeapSecond, UtcMap};
use crate::core::leap_vote::{due, majority};
use crate::core::source::Source;
use crate::core::verdict::Verdict;

/// Sources take their warnings back when it happens, some a moment early by our clock: this near it what
/// was announced stands.
const SETTLED_BEFORE: Span = Span::from_whole_seconds(60);
/// Clients' and kernels' business with one is over after this.
const OVER_AFTER: Span = Span::from_whole_seconds(86_400);

impl Engine {
    /// Lets the sources announce a leap second, or take it back, where no table knows.
    pub(super) fn hear_leaps(&mut self, now: Now) {
        let utc = self.config.utc.utc(now.clock).0;
        if let Some(leap) = self.config.utc.next.filter(|leap| utc > leap.at + OVER_AFTER) {
            let tai_minus_utc = self.config.utc.tai_minus_utc + leap.change;
            self.config.utc = UtcMap { tai_minus_utc, next: None };
            self.leap_by.clear();
        }
        let by_table = self.config.utc.next.is_some() && self.leap_by.is_empty();
        if by_table || self.config.table_until.is_some_and(|until| utc < until) {
            return;
        }
        let voices: Vec<(&str, LeapIndicator)> =
            self.sources.values().filter(|s| is_heard(s)).filter_map(|s| Some((&*s.config.name, s.leap?))).collect();
        let said = majority(voices.iter().map(|(_, leap)| *leap));
        match (said, self.config.utc.next) {
            (Some(LeapIndicator::None), Some(leap)) if utc < leap.at - SETTLED_BEFORE => {
                self.config.utc.next = None;
                self.leap_by.clear();
                self.events.push_back(Event::LeapTakenBack { at: leap.at });
            }
            (Some(leap @ (LeapIndicator::Insert | LeapIndicator::Delete)), None) => {
                let by: Vec<String> =
                    voices.iter().filter(|(_, said)| *said == leap).map(|(name, _)| (*name).to_owned()).collect();
                let Some(at) = due(utc) else { return };
                let change = if leap == LeapIndicator::Insert { 1 } else { -1 };
                self.config.utc.next = Some(LeapSecond { at, change });
                self.events.push_back(Event::LeapAnnounced { at, change, by: by.clone() });
                self.leap_by = by;
            }
            _ => {}
        }
    }
}

/// Does it agree on the time, so that it has a voice? A server that follows us only repeats us.
fn is_heard(s: &Source) -> bool {
    matches!(s.verdict, Verdict::Selected | Verdict::Agrees { .. } | Verdict::NamesTheSecond { .. })
}
