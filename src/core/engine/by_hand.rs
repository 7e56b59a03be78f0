//! The operator's hand on the clock: a step allowed, a time set.

use refclocks::ReferenceId;
use refclocks::time::{Tai, Timestamp};

use super::{Engine, Now};
use crate::core::by_hand::{FIXED, NOISE, Outcome, Use};
use crate::core::measurement::{Measurement, SourceId};
use crate::core::snapshot::SourceKind;
use crate::core::source::SourceConfig;

impl Engine {
    /// The operator wants what is left of the offset stepped away now, whatever its size. Returns
    /// clock - true time as it was, s, and whether the clock is stepped; `None` while nothing is known
    /// to step by: then the first estimate may step.
    pub fn handle_step(&mut self, now: Now) -> Option<(f64, bool)> {
        self.give_in();
        self.allow_step();
        let offset = self.offset(now)?;
        self.stepped_by = 0.0;
        self.step_asked = true;
        self.finish(now);
        Some((offset, self.stepped_by != 0.0))
    }

    /// The operator says that it is `tai` now.
    pub fn handle_set(&mut self, tai: Timestamp<Tai>, now: Now) -> Outcome {
        let offset = (now.clock - tai).seconds();
        let used = self.use_of_a_setting(now);
        let mut outcome = Outcome {
            used,
            offset,
            stepped: None,
            remaining: self.offset(now).unwrap_or(offset),
            bound: self.bound(self.offset(now).unwrap_or(0.0)).distance(now.raw),
            frequency: self.frequency_and_doubt(),
            settings: Vec::new(),
        };
        let Use::Followed { anew } = &mut outcome.used else { return outcome };
        self.last_good.overrule(tai);
        let source = self.by_hand_source();
        let m = Measurement { raw: now.raw, tai, delay: None };
        *anew = self.estimator.set(source, m, NOISE);
        if *anew {
            self.settings.clear();
        }
        self.settings.push(m);
        if let Some(s) = self.sources.get_mut(&source) {
            s.push(m);
            s.last = Some(now.raw);
        }
        self.feeding = vec![source];
        self.fixed = FIXED;
        self.last_feed = Some((now.raw, SourceKind::Manual));
        self.allow_step();
        self.stepped_by = 0.0;
        self.select(now);
        self.finish(now);
        let by = self.stepped_by;
        outcome.stepped = (by != 0.0).then_some(by);
        outcome.remaining = self.offset(now).map_or(0.0, |offset| offset + by);
        outcome.bound = self.bound(outcome.remaining).distance(now.raw);
        outcome.frequency = self.frequency_and_doubt();
        outcome.settings = self.settings.residuals(|raw| self.line_at(raw));
        outcome
    }

    /// Is there anything better than a setting by hand?
    fn use_of_a_setting(&self, now: Now) -> Use {
        let mut feeders = self.feeding.iter().filter_map(|i| self.sources.get(i));
        let better = feeders.find(|s| s.config.kind != SourceKind::Manual && s.is_fresh(now.raw));
        let bound = self.bound(0.0).distance(now.raw);
        match better {
            Some(s) => Use::Outranked { by: s.config.name.clone() },
            None if bound < FIXED => Use::KnownBetter { bound },
            None => Use::Followed { anew: false },
        }
    }

    fn frequency_and_doubt(&self) -> Option<(f64, f64)> {
        self.estimator.estimate().map(|(_, e)| (e.frequency, e.frequency_variance.sqrt()))
    }

    /// Does the clock rest on settings by hand alone?
    pub(super) fn is_by_hand(&self) -> bool {
        self.last_feed.is_some_and(|(_, kind)| kind == SourceKind::Manual)
    }

    /// The source that stands for the operator; it comes with the first setting.
    fn by_hand_source(&mut self) -> SourceId {
        let known = self.sources.iter().find(|(_, s)| s.config.kind == SourceKind::Manual).map(|(i, _)| *i);
        known.unwrap_or_else(|| {
            self.add_source(SourceConfig {
                refid: ReferenceId(*b"MAN\0"),
                address: "refclockd set time".into(),
                ..SourceConfig::new("by hand", SourceKind::Manual)
            })
        })
    }
}
