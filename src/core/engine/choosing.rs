//! Which sources agree, and which of them feed the clock.

use std::cell::LazyCell;
use std::collections::BTreeMap;

use refclocks::time::{Raw, Tai, Timestamp};

use super::jumps::Course;
use super::{Engine, Now};
use crate::core::event::Event;
use crate::core::local::{Kinship, rank};
use crate::core::measurement::{Measurement, SourceId};
use crate::core::pairing::Numbering;
use crate::core::selection::{Claim, select};
use crate::core::snapshot::SourceKind;
use crate::core::source::{Interval, Source};
use crate::core::verdict::Verdict;

/// How long messages wait for the pulse that is configured beside them, s.
const PULSE_PATIENCE: f64 = 30.0;
/// Samples that a server must have given before it has a voice, and how long all configured servers
/// may take for that, s: the first to answer must not set the clock alone.
const SERVER_SAMPLES: u64 = 3;
const SERVER_PATIENCE: f64 = 6.0;
/// So many ticks are soon averaged.
const TICKS_AVERAGED: f64 = 64.0;

impl Engine {
    /// Judges every source and decides which feed the clock.
    pub(super) fn select(&mut self, now: Now) {
        self.hear_dates(now);
        let estimated = self.estimator.estimate().is_some();
        let rate_doubt = match self.estimator.estimate() {
            Some((_, e)) => 3.0 * e.frequency_variance.sqrt(),
            None => 200e-6,
        };
        let intervals: BTreeMap<SourceId, Interval> = {
            let line = |raw| self.line_at(raw);
            let interval = |s: &Source| s.interval(now.raw, rate_doubt, self.poor_fix(s), line);
            self.sources.iter().filter_map(|(i, s)| Some((*i, interval(s)?))).collect()
        };
        let mut claims = Vec::new();
        for (i, interval) in &intervals {
            let s = &self.sources[i];
            if s.is_fresh(now.raw)
                && !s.config.options.noselect
                && !s.offline
                && !s.follows_us()
                && s.config.kind != SourceKind::Manual
                && self.may_vote(*i, s, now)
            {
                let (offset, width) = (interval.offset, interval.width);
                claims.push(Claim { source: *i, offset, interval: width, trusted: s.config.options.trust });
            }
        }
        self.keep_orphans_apart(&mut claims);
        let own = || estimated.then(|| (0.0, self.bound(0.0).distance(now.raw))).filter(|own| own.1.is_finite());
        let outcome = select(&claims, own);
        let agreeing: Vec<SourceId> =
            outcome.truechimers.iter().filter_map(|c| claims.get(*c)).map(|c| c.source).collect();
        self.disagreement = (outcome.agreed.is_none() && !claims.is_empty()).then_some(claims.len());
        self.against_the_agreed = outcome.agreed.map_or(0.0, |(low, high)| low.max(-high).max(0.0));
        let survivors: &[SourceId] = if self.lacks_a_required(&agreeing) { &[] } else { &agreeing };
        self.choose_feeders(survivors, &intervals, now);
        let agreed = outcome.agreed.map(|(low, high)| 0.5 * (low + high));
        let claimed: Vec<SourceId> = claims.iter().map(|c| c.source).collect();
        let verdicts: Vec<(SourceId, Verdict)> = (self.sources.keys())
            .map(|i| (*i, self.verdict(*i, &agreeing, &claimed, agreed, intervals.get(i), now)))
            .collect();
        for (i, verdict) in verdicts {
            let was = self.sources.get(&i).map(|s| &s.verdict);
            if matches!(verdict, Verdict::Falseticker { .. }) && was == Some(&Verdict::Selected) {
                self.estimator.leave_out(i, self.against_the_agreed);
                self.let_go(i);
            }
            let Some(s) = self.sources.get_mut(&i) else { continue };
            if std::mem::discriminant(&s.verdict) != std::mem::discriminant(&verdict) {
                let worth_telling = !matches!(verdict, Verdict::NoData | Verdict::TooFewSamples { .. });
                if worth_telling {
                    self.events.push_back(Event::Verdict { source: s.config.name.clone(), verdict: verdict.clone() });
                }
            }
            s.verdict = verdict;
        }
    }

    /// Does the configuration require sources, and none of them agrees?
    fn lacks_a_required(&self, agreeing: &[SourceId]) -> bool {
        let is_required = |s: &Source| s.config.options.require && !s.config.options.noselect;
        // Messages that number a pulse are one voice with it.
        let counts = |s: &Source| is_required(s) || s.numbered_by.is_some_and(|by| is_required(&self.sources[&by]));
        self.sources.values().any(is_required) && !agreeing.iter().any(|i| counts(&self.sources[i]))
    }

    /// In orphan mode, machines that serve a clock nobody checks have a voice only if nobody else has,
    /// and then it is one voice.
    fn keep_orphans_apart(&self, claims: &mut Vec<Claim>) {
        let kin = |claim: &Claim| {
            let says = &self.sources[&claim.source].says;
            (self.local.kinship(says), rank(says.id))
        };
        let any_stranger = claims.iter().any(|c| kin(c).0 == Kinship::Stranger);
        let eldest = claims.iter().map(kin).filter(|k| k.0 == Kinship::Elder).map(|k| k.1).min();
        claims.retain(|claim| match kin(claim) {
            (Kinship::Stranger, _) => true,
            (Kinship::Elder, rank) => !any_stranger && Some(rank) == eldest,
            (Kinship::Younger, _) => false,
        });
    }

    /// The common line that intervals are told against: the estimate, or the served clock while
    /// there is none.
    pub(super) fn line_at(&self, raw: Timestamp<Raw>) -> Timestamp<Tai> {
        self.estimator.tai_at(raw).unwrap_or_else(|| self.started.clock + (raw - self.started.raw))
    }

    /// Messages that number a pulse of ours are one voice with it; servers speak once they have given
    /// a few samples, and the first few wait for each other. Nobody does whose date is in doubt.
    fn may_vote(&self, i: SourceId, s: &Source, now: Now) -> bool {
        if self.date_is_open(s, now) || self.edge_waits(s, now) {
            return false;
        }
        if s.config.kind == SourceKind::Network {
            let waited = self.first_exchange.map_or(0.0, |first| (now.raw - first).seconds());
            let mut servers = self.sources.values().filter(|s| s.config.kind == SourceKind::Network);
            return s.samples >= SERVER_SAMPLES
                && (waited > SERVER_PATIENCE || servers.all(|s| s.samples >= SERVER_SAMPLES));
        }
        // Those that contradict a pulse train that goes on as before have lost theirs.
        let judged = |n: &Numbering| matches!(n, Numbering::Numbered { .. } | Numbering::Contradicted { .. });
        !self.sources.values().any(|p| p.numbered_by == Some(i) && judged(&p.numbering))
            || s.config.kind != SourceKind::Message
    }

    fn choose_feeders(&mut self, survivors: &[SourceId], intervals: &BTreeMap<SourceId, Interval>, now: Now) {
        let doubt = |i: SourceId| {
            let Some(v) = intervals.get(&i) else { return f64::INFINITY };
            let preferred = if self.sources[&i].config.options.prefer { 0.1 } else { 1.0 };
            let calibrated = self.sources[&i].doubt_without_bias().unwrap_or(f64::INFINITY);
            // What averaging leaves of the noise of a clock that ticks each second.
            let noise = match self.sources[&i].config.kind {
                SourceKind::Pulse | SourceKind::NumberedPulse => {
                    self.estimator.jitter(i).unwrap_or(v.jitter) / TICKS_AVERAGED.sqrt()
                }
                SourceKind::Message | SourceKind::Network | SourceKind::Manual => 0.0,
            };
            (v.fixed.min(calibrated) + noise) * preferred
        };
        let allowed: Vec<SourceId> =
            survivors.iter().copied().filter(|i| self.may_feed(&self.sources[i], now)).collect();
        let best = allowed.iter().map(|i| doubt(*i)).fold(f64::INFINITY, f64::min);
        let own = LazyCell::new(|| match self.estimator.estimate() {
            Some(_) => self.bound(0.0).distance(now.raw),
            None => f64::INFINITY,
        });
        // A source that knows less than our coasting clock waits until the clock knows as little.
        let feeding: Vec<SourceId> = allowed
            .into_iter()
            .filter(|i| doubt(*i) <= 2.0 * best + 1e-6)
            .filter(|i| self.feeding.contains(i) || doubt(*i) <= *own)
            .collect();
        if !feeding.is_empty() {
            self.feeding = feeding;
        } else {
            self.feeding.retain(|i| survivors.contains(i) || self.sources[i].config.kind == SourceKind::Manual);
        }
    }

    /// What the receiver behind a source says against its own time, s: half-width. A pulse has nobody to speak
    /// for it but the messages that number it.
    pub(super) fn poor_fix(&self, s: &Source) -> f64 {
        let numbered_by = s.numbered_by.and_then(|by| self.sources.get(&by));
        s.poor_fix().max(numbered_by.map_or(0.0, Source::poor_fix))
    }

    /// Is this source one that may feed the clock at all now?
    fn may_feed(&self, s: &Source, now: Now) -> bool {
        if s.config.kind != SourceKind::Message || s.is_calibrated() {
            return true;
        }
        // A clock that has been locked is never fed by a message of unknown delay.
        !self.labels.has_been_locked && self.pulse_wait(now) <= 0.0
    }

    /// How much longer messages wait for the pulse configured beside them, s.
    pub(super) fn pulse_wait(&self, now: Now) -> f64 {
        let expected = self.sources.values().any(|s| {
            s.config.kind == SourceKind::Pulse
                && !s.config.options.noselect
                && s.device.as_ref().is_some_and(|d| {
                    !matches!(d.phase, refclocks::DevicePhase::Absent | refclocks::DevicePhase::Faulty)
                })
        });
        match self.first_message {
            Some(first) if expected => PULSE_PATIENCE - (now.raw - first).seconds(),
            _ => 0.0,
        }
    }

    fn verdict(
        &self,
        i: SourceId,
        agreeing: &[SourceId],
        claimed: &[SourceId],
        agreed: Option<f64>,
        interval: Option<&Interval>,
        now: Now,
    ) -> Verdict {
        let Some(s) = self.sources.get(&i) else { return Verdict::NoData };
        let by = |messages: Option<SourceId>| {
            messages.and_then(|m| self.sources.get(&m)).map_or_else(String::new, |m| m.config.name.clone())
        };
        if s.config.options.noselect {
            return Verdict::NoSelect;
        }
        if s.config.kind == SourceKind::Manual {
            let (offset_s, interval_s) = interval.map_or((0.0, f64::INFINITY), |v| (v.offset, v.width));
            return match self.feeding.contains(&i) {
                true => Verdict::Selected,
                false if offset_s.abs() <= interval_s => Verdict::Agrees { interval_s },
                false => Verdict::Falseticker { offset_s, interval_s },
            };
        }
        if s.offline {
            return Verdict::Offline;
        }
        if s.follows_us() {
            return Verdict::FollowsUs;
        }
        match self.local.kinship(&s.says) {
            Kinship::Elder if s.samples > 0 && !claimed.contains(&i) => return Verdict::Orphan { elder: true },
            Kinship::Younger if s.samples > 0 => return Verdict::Orphan { elder: false },
            _ => {}
        }
        if s.config.kind == SourceKind::Pulse && s.last.is_some_and(|last| (now.raw - last).seconds() < 4.0) {
            match s.numbering {
                Numbering::Nothing => return Verdict::NothingNumbersIt,
                Numbering::Undecided(e) => {
                    let (have, delay_s, error_s) = (e.messages as u32, e.delay, e.error);
                    return Verdict::NumberingUndecided { messages: by(s.numbered_by), have, delay_s, error_s };
                }
                Numbering::Ambiguous(e) => {
                    let messages = by(s.numbered_by);
                    return Verdict::NumberingAmbiguous { messages, delay_s: e.delay, error_s: e.error };
                }
                Numbering::Contradicted { seconds } => {
                    return Verdict::NumberingContradicted { messages: by(s.numbered_by), seconds };
                }
                Numbering::Numbered { .. } => {}
            }
        }
        if s.config.kind == SourceKind::Network && s.samples == 0 && (now.raw - self.started.raw).seconds() < 10.0 {
            return Verdict::TooFewSamples { have: 0, need: SERVER_SAMPLES as u32 };
        }
        if !s.is_fresh(now.raw) {
            return if s.config.kind == SourceKind::Network { Verdict::Unreachable } else { Verdict::NoData };
        }
        if let Some(last_good) = self.date_in_doubt(s, now) {
            return Verdict::DateInDoubt { last_good: self.config.utc.utc(last_good).0.floor().to_string() };
        }
        if self.date_waits(s, now) {
            return Verdict::DateWaits;
        }
        if self.edge_waits(s, now) {
            return Verdict::EdgeWaits;
        }
        if self.feeding.contains(&i) {
            return Verdict::Selected;
        }
        if let Some(p) = self.sources.values().find(|p| p.numbered_by == Some(i)) {
            return Verdict::NamesTheSecond { pulse: p.config.name.clone() };
        }
        if s.config.kind == SourceKind::Network && !claimed.contains(&i) {
            return Verdict::TooFewSamples { have: s.samples.min(SERVER_SAMPLES) as u32, need: SERVER_SAMPLES as u32 };
        }
        let interval_s = interval.map_or(f64::INFINITY, |v| v.width);
        if claimed.contains(&i) && agreed.is_none() {
            return Verdict::NoMajority { sources: claimed.len() };
        }
        if claimed.contains(&i) && !agreeing.contains(&i) {
            let offset_s = interval.map_or(0.0, |v| v.offset) - agreed.unwrap_or(0.0);
            return Verdict::Falseticker { offset_s, interval_s };
        }
        if !s.is_calibrated() && !self.may_feed(s, now) {
            return Verdict::DelayUnknown;
        }
        if agreeing.contains(&i) && self.lacks_a_required(agreeing) {
            return Verdict::RequiredMissing;
        }
        Verdict::Agrees { interval_s }
    }

    /// Lets one measurement into the estimate, if its source feeds it. Returns what it took away of
    /// the doubt about our clock, nats.
    pub(super) fn feed(&mut self, source: SourceId, m: Measurement, now: Now) -> f64 {
        if !self.feeding.contains(&source) {
            self.estimator.abandon_take_over(source);
            return 0.0;
        }
        self.doubt_what_coasted(m.raw);
        let doubt_before = self.doubt_at(m.raw);
        let Some(s) = self.sources.get(&source) else { return 0.0 };
        let m = s.unbiased(m);
        let kind = s.config.kind;
        if kind == SourceKind::Network && self.estimator.estimate().is_some() && !self.estimator.knows(source) {
            // How its delays spread was seen while others fed the clock.
            self.estimator.learn_delays(source, s.recent.iter().filter_map(|m| m.delay));
        }
        let (fixed, path) = self.feeders_fixed(now);
        // What a person set is not averaged with what a source says.
        let far_better = self.estimator.estimate().is_some() && (fixed < 0.25 * self.fixed || self.is_by_hand());
        let took = if far_better && !self.estimator.knows(source) {
            // A better class of source starts the phase anew, and may set the clock right at once
            // if nobody has been told yet that it was locked.
            let took = self.estimator.take_over(source, m);
            if took && !self.labels.has_been_locked {
                self.updates = 0;
            }
            took
        } else if self.estimator.estimate().is_none() && kind == SourceKind::Network {
            // What it gave while it had no voice yet counts as well.
            let so_far: Vec<Measurement> = s.recent.iter().map(|m| s.unbiased(*m)).collect();
            so_far.into_iter().fold(false, |_, m| self.estimator.measure(source, m))
        } else {
            match self.course(source, m) {
                Course::Beyond => return 0.0,
                Course::Moved(by) if self.disowns(source, by, now) => return 0.0,
                _ if !self.may_follow(m, now) => return 0.0,
                Course::Moved(by) => {
                    self.follow_the_move(by);
                    true
                }
                Course::Expected | Course::Odd => {
                    if far_better && self.fixed.is_finite() {
                        // What fed the clock so far may have been wrong by its fixed part.
                        self.estimator.doubt(self.fixed * self.fixed, 0.0);
                    }
                    self.estimator.measure(source, m)
                }
            }
        };
        if took {
            (self.fixed, self.path) = (fixed, path);
            self.updates += 1;
            self.last_feed = Some((m.raw, kind));
        }
        match (doubt_before, self.doubt_at(m.raw)) {
            (Some(before), Some(after)) => (0.5 * libm::log(before / after)).max(0.0),
            _ => 0.0,
        }
    }

    /// Variance of our clock's phase, let go until an instant, s^2.
    fn doubt_at(&mut self, raw: Timestamp<Raw>) -> Option<f64> {
        self.estimator.advance(raw);
        self.estimator.estimate().map(|(_, e)| e.phase_variance).filter(|v| *v > 0.0)
    }

    /// What averaging does not remove of the best of those that feed the clock, s, and how much of that
    /// is its path's.
    fn feeders_fixed(&self, now: Now) -> (f64, f64) {
        self.feeding
            .iter()
            .filter_map(|i| self.sources.get(i))
            .filter_map(|s| s.fixed(now.raw, self.poor_fix(s)))
            .fold((f64::INFINITY, 0.0), |best, v| if v.0 < best.0 { v } else { best })
    }
}
