//! What drivers deliver: pulses get their number, messages lose their delay.

use std::sync::Arc;

use refclocks::time::{Raw, Span, Tai, Timestamp};
use refclocks::{Edge, Sample, Sawtooth};

use super::{Engine, Now};
use crate::core::event::Event;
use crate::core::measurement::{Measurement, SourceId};
use crate::core::pairing::{LearnedDelay, Numbering, PulseTrain};
use crate::core::sawtooth::SawtoothState;
use crate::core::snapshot::SourceKind;
use crate::core::source::Source;
use crate::core::state::State;

/// A clock known to better than this can number a pulse, s.
const NUMBERING_CLOCK: f64 = 0.4;
/// A clock known to better than this can calibrate a message's delay, s.
const CALIBRATING_CLOCK: f64 = 0.005;
/// A contradicted number is given up after this, if it is young.
const CONTRADICTION_PATIENCE: f64 = 60.0;
/// A number this young may rest on a receiver's default leap second count, s.
const YOUNG_NUMBER: f64 = 900.0;

impl Engine {
    pub(super) fn handle_pulse(&mut self, source: SourceId, raw: Timestamp<Raw>, edge: Edge, now: Now) {
        if !self.hear_edge(source, raw, edge, now) {
            return;
        }
        let rate = self.estimator.estimate().map_or(-self.rate, |(_, e)| e.frequency);
        let Some(s) = self.sources.get_mut(&source) else { return };
        s.arrived(raw);
        s.train.push(raw, rate);
        if s.train.is_confirmed_anew() {
            // What came before belongs to another train.
            s.recent.clear();
        }
        self.number(source, raw, now);
        let Some(s) = self.sources.get_mut(&source) else { return };
        if let Numbering::Numbered { tai, .. } = s.numbering {
            let before = s.sawtooth.state();
            let raw = raw + Span::from_seconds(s.sawtooth.pulse(raw, tai));
            let m = Measurement { raw, tai, delay: None };
            s.push(m);
            self.note_sawtooth(source, before);
            self.select(now);
            self.feed(source, m, now);
        } else {
            if let Numbering::Contradicted { seconds } = s.numbering {
                self.handle_lost_time(source, raw, seconds);
            }
            self.select(now);
        }
        self.finish(now);
    }

    /// A receiver says how far off its next pulse will be. It speaks of the pulse that it numbers.
    pub(super) fn handle_sawtooth(&mut self, source: SourceId, raw: Timestamp<Raw>, said: &Sawtooth) {
        let error = f64::from(said.error_ps) * 1e-12;
        let days = self.sources.get(&source).map_or(Span::ZERO, Source::days_added);
        let second = said.pulse.map(|pulse| pulse + days);
        for pulse in self.sources.values_mut().filter(|p| p.numbered_by == Some(source)) {
            pulse.sawtooth.announce(raw, second, error, said.sign);
        }
    }

    /// Says when the correction of the sawtooth begins, ends, or is found to be of no use.
    fn note_sawtooth(&mut self, source: SourceId, before: Option<SawtoothState>) {
        let Some(s) = self.sources.get(&source) else { return };
        let Some(now) = s.sawtooth.state() else { return };
        let is_same = before.is_some_and(|before| std::mem::discriminant(&before) == std::mem::discriminant(&now));
        if !is_same && !matches!(now, SawtoothState::Checking { .. }) {
            self.events.push_back(Event::Sawtooth { pulse: s.config.name.clone(), state: now });
        }
    }

    pub(super) fn handle_sample(&mut self, source: SourceId, raw: Timestamp<Raw>, sample: &Sample, now: Now) {
        let days = self.sources.get(&source).map_or(Span::ZERO, Source::days_added);
        let named = self.config.utc.tai(sample.reference + days, sample.second60);
        let Some(s) = self.sources.get_mut(&source) else { return };
        s.arrived(raw);
        s.leap = sample.leap.or(s.leap);
        if s.config.kind != SourceKind::Message {
            let m = Measurement { raw, tai: named, delay: None };
            s.push(m);
            self.select(now);
            self.feed(source, m, now);
            return self.finish(now);
        }
        let name = s.config.name.clone();
        self.first_message.get_or_insert(raw);
        let clock = self.clock_at(raw, CALIBRATING_CLOCK).filter(|_| !self.feeding.contains(&source));
        let trains: Vec<(SourceId, PulseTrain)> = (self.sources.iter())
            .filter(|(_, p)| p.config.kind == SourceKind::Pulse && p.may_be_numbered_by(&name))
            .map(|(pulse, p)| (*pulse, p.train.clone()))
            .collect();
        let Some(s) = self.sources.get_mut(&source) else { return };
        for (pulse, train) in &trains {
            s.record(*pulse).push(train, raw, named);
        }
        // Whole seconds are another matter than a delay.
        let delay = clock.map(|tai| (tai - named).seconds()).filter(|delay| (-0.5..2.0).contains(delay));
        if let Some(delay) = delay {
            Arc::make_mut(&mut s.delays).push(delay);
            if s.config.delay.is_none() {
                match &mut s.delay {
                    Some(learned) => learned.push(delay),
                    None => s.delay = Some(LearnedDelay::first(delay)),
                }
            }
        }
        let m = Measurement { raw: raw - Span::from_seconds(s.message_delay()), tai: named, delay: None };
        s.push(m);
        self.select(now);
        self.feed(source, m, now);
        self.finish(now);
    }

    /// The time our own clock gives, where it is known to within `bound` s.
    fn clock_at(&self, raw: Timestamp<Raw>, bound: f64) -> Option<Timestamp<Tai>> {
        let (tai, own) = self.estimate_at(raw)?;
        (own < bound && self.panic.is_none()).then_some(tai)
    }

    fn number(&mut self, pulse: SourceId, raw: Timestamp<Raw>, now: Now) {
        let clock = self.clock_at(raw, NUMBERING_CLOCK);
        let p = &self.sources[&pulse];
        let train = &p.train;
        let mut by = None;
        let mut best = Numbering::Nothing;
        for (i, s) in &self.sources {
            let may = s.config.kind == SourceKind::Message
                && s.is_fresh(now.raw)
                && p.may_be_numbered_by(&s.config.name)
                && !self.date_is_open(s, now);
            let Some(record) = s.records.get(&pulse).filter(|_| may) else { continue };
            let judged = record.judge(train, clock);
            let rank = |n: &Numbering| match n {
                Numbering::Nothing => 0,
                Numbering::Undecided(_) => 1,
                Numbering::Ambiguous(_) => 2,
                Numbering::Numbered { .. } => 3,
                Numbering::Contradicted { .. } => 4,
            };
            match (best, judged) {
                (Numbering::Numbered { tai: a, .. }, Numbering::Numbered { tai: b, .. }) if a != b => {
                    best = Numbering::Contradicted { seconds: b.whole_seconds() - a.whole_seconds() };
                    by = Some(*i);
                }
                _ if rank(&judged) > rank(&best) => {
                    best = judged;
                    by = Some(*i);
                }
                _ => {}
            }
        }
        if best == Numbering::Nothing
            && let Some(tai) = clock
        {
            best = Numbering::Numbered { tai: tai.round(), evidence: None };
        }
        self.note_numbering(pulse, best, by, now);
    }

    fn note_numbering(&mut self, pulse: SourceId, numbering: Numbering, by: Option<SourceId>, now: Now) {
        let is_server = |i: &SourceId| self.sources.get(i).is_some_and(|s| s.config.kind == SourceKind::Network);
        let by_servers = self.feeding.iter().any(is_server);
        let messages = by.and_then(|i| self.sources.get(&i)).map(|s| s.config.name.clone());
        let Some(p) = self.sources.get_mut(&pulse) else { return };
        let was = matches!(p.numbering, Numbering::Numbered { .. });
        match numbering {
            Numbering::Numbered { evidence, .. } if !was => {
                self.numbered_at.get_or_insert(now.raw);
                self.events.push_back(Event::Numbered {
                    pulse: p.config.name.clone(),
                    messages,
                    delay: evidence.map(|e| e.delay),
                });
            }
            Numbering::Contradicted { .. } => {
                let since = *p.contradicted_since.get_or_insert(now.raw);
                let young = self.numbered_at.is_none_or(|at| (now.raw - at).seconds() < YOUNG_NUMBER);
                let untrusted = self.labels.state == State::Unsynchronised;
                if (now.raw - since).seconds() > CONTRADICTION_PATIENCE && (young || untrusted) && !by_servers {
                    // The messages have changed their mind for good, and what we hold is no better.
                    self.start_anew();
                }
            }
            _ => {}
        }
        let Some(p) = self.sources.get_mut(&pulse) else { return };
        if !matches!(numbering, Numbering::Contradicted { .. }) {
            p.contradicted_since = None;
        }
        p.numbering = numbering;
        p.numbered_by = by;
    }
}
