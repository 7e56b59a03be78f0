//! Time that passed without our counter, and sources whose phase moved.
//!
//! A machine that sleeps, or a virtual one that is paused, stops the raw counter. The first is told to
//! us; the second shows itself only as a source that is off from one moment to the next, far beyond
//! its noise, and stays there. One late pulse is no such thing: the clock starts anew only when
//! several in a row agree, and until then the bound covers what they say.

use refclocks::time::{Raw, Span, Timestamp};

use super::{Engine, Now};
use crate::core::bank::Prior;
use crate::core::estimator::Estimator;
use crate::core::event::Event;
use crate::core::lines::second_differences;
use crate::core::measurement::{Measurement, SourceId};
use crate::core::numerics::median;
use crate::core::snapshot::SourceKind;

/// Far beyond noise: so many standard deviations of a source's noise, and of the estimate.
const FAR_IN_JITTERS: f64 = 12.0;
const FAR_IN_SIGMAS: f64 = 6.0;
/// Nothing nearer than this is far, s.
const FAR: f64 = 2e-6;
/// So many in a row make a jump: from a clock that ticks each second, and from a server.
const TICKS: usize = 8;
const EXCHANGES: usize = 4;
/// Before that, so many make the bound grow.
const DOUBTFUL: usize = 2;
/// So many put the second's name in doubt as well, if messages contradict it.
const DOUBTFUL_SECOND: usize = 3;
/// And so many are worth a word.
const WORTH_TELLING: usize = 4;
/// Pulses further off than so many standard deviations of their noise are late, or their phase or our
/// frequency has jumped. Late ones scatter; a jump is a line, to within so many standard deviations.
const LATE_IN_JITTERS: f64 = 4.0;
const LINE_IN_JITTERS: f64 = 3.0;
/// So improbable must it be that so many are late in a row and happen to lie on a line.
const CHANCE: f64 = 1e-9;
/// Fewest that make a line worth the name.
const FEWEST_ON_A_LINE: usize = 4;
/// So many late ones in a row are kept.
const MOST_LATE: usize = 32;
/// The estimate must rest on so many measurements to be held against a source.
const SETTLED: u64 = 64;

/// No noise of a source that is known reaches further than this, s, and further than so many times what
/// the source and our clock are good to.
const BEYOND: f64 = 0.05;
const BEYOND_BOUNDS: f64 = 10.0;

/// How a measurement stands to what was expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Course {
    /// Near it.
    Expected,
    /// Far from it, as noise may be now and then.
    Odd,
    /// Further than any noise. It must not be let in: the crystal would be blamed for it.
    Beyond,
    /// Several in a row agree: the source has moved by so much, s.
    Moved(f64),
}

/// Measurements of one source in a row that are far from the estimate.
#[derive(Clone, Debug)]
pub(super) struct Astray {
    source: SourceId,
    measurements: Vec<Measurement>,
    /// Estimate - source, s.
    offsets: Vec<f64>,
    /// By how many seconds their names are off as well.
    seconds: i64,
    /// What was believed of the frequency before the first of them came.
    frequency: (f64, f64),
}

impl Astray {
    /// The one under way of this source, or a new one.
    fn of(under_way: &mut Option<Self>, source: SourceId, frequency: (f64, f64)) -> &mut Self {
        under_way.take_if(|other| other.source != source);
        under_way.get_or_insert_with(|| Self {
            source,
            measurements: Vec::new(),
            offsets: Vec::new(),
            seconds: 0,
            frequency,
        })
    }

    /// That source's is over, if there is one.
    fn end(under_way: &mut Option<Self>, source: SourceId) {
        under_way.take_if(|astray| astray.source == source);
    }

    /// One more; at most so many of the last are kept.
    fn push(&mut self, m: Measurement, offset: f64, most: usize) {
        if self.offsets.len() == most {
            self.offsets.remove(0);
            self.measurements.remove(0);
        }
        self.offsets.push(offset);
        self.measurements.push(m);
    }

    fn offset(&self) -> f64 {
        median(&mut self.offsets.clone()).unwrap_or(0.0)
    }

    /// How far the clock would be off if they were right, s.
    fn distance(&self) -> f64 {
        let seconds = if self.offsets.len() >= DOUBTFUL_SECOND { self.seconds.unsigned_abs() } else { 0 };
        self.offset().abs() + seconds as f64
    }

    fn agree(&self) -> bool {
        let offset = self.offset();
        self.offsets.iter().all(|o| (o - offset).abs() < 0.25 * offset.abs())
    }

    /// Do they lie on a line, more of them than late ones would by chance? `jitter` is one standard
    /// deviation of those that are not late, s; late ones come with this probability and are late by
    /// `mean` s on the average.
    fn is_a_line(&self, jitter: f64, (probability, mean): (f64, f64)) -> bool {
        let Some(first) = self.measurements.first() else { return false };
        let n = self.measurements.len();
        let near_a_line = (LINE_IN_JITTERS * jitter / mean).min(1.0);
        let chance = n as f64 * libm::log(probability) + (n as f64 - 2.0) * libm::log(near_a_line);
        let points: Vec<(f64, f64)> =
            self.measurements.iter().map(|m| (m.raw - first.raw).seconds()).zip(self.offsets.iter().copied()).collect();
        n >= FEWEST_ON_A_LINE
            && chance < libm::log(CHANCE)
            && second_differences(&points).all(|e| e.abs() < LINE_IN_JITTERS * jitter)
    }
}

impl Engine {
    /// The machine slept for so long, and its counter with it. The crystal is the same; what time it
    /// is must be learned anew.
    pub fn handle_sleep(&mut self, slept: Span, now: Now) {
        self.events.push_back(Event::Slept { for_s: slept.seconds() });
        self.base = self.config.time_base();
        self.take_back = false;
        self.start_anew();
        self.finish(now);
    }

    /// Holds a measurement of a source that feeds the clock, or should, against the estimate.
    pub(super) fn course(&mut self, source: SourceId, m: Measurement) -> Course {
        self.course_of_known(source, m).unwrap_or(Course::Expected)
    }

    fn course_of_known(&mut self, source: SourceId, m: Measurement) -> Option<Course> {
        let offset = (self.estimator.tai_at(m.raw)? - m.tai).seconds();
        let kind = self.sources.get(&source)?.config.kind;
        let jitter = self.estimator.jitter(source)?;
        let bound = self.bound(0.0);
        let own = self.fixed + bound.factor * bound.greatest_sigma(m.raw);
        let beyond = BEYOND + 0.5 * m.delay.unwrap_or(0.0) + BEYOND_BOUNDS * (4.0 * jitter + own);
        let settled = self.estimator.bank().measurements() >= SETTLED;
        let sigma = bound.greatest_sigma(m.raw);
        if settled && self.is_on_a_new_line(source, m, offset, jitter, FAR_IN_SIGMAS * sigma) {
            return Some(Course::Moved(offset));
        }
        let noise = FAR_IN_JITTERS * jitter + 0.5 * m.delay.unwrap_or(0.0);
        let far = noise.max(FAR_IN_SIGMAS * sigma).max(FAR);
        if offset.abs() < if settled { far } else { beyond } {
            Astray::end(&mut self.astray, source);
            return Some(Course::Expected);
        }
        let frequency = self.estimator.frequency_belief();
        let astray = Astray::of(&mut self.astray, source, frequency);
        let needed = if kind == SourceKind::Network { EXCHANGES } else { TICKS };
        astray.push(m, offset, needed);
        Some(if astray.offsets.len() == needed && astray.agree() {
            Course::Moved(astray.offset())
        } else if offset.abs() > beyond {
            Course::Beyond
        } else {
            Course::Odd
        })
    }

    /// Pulses that seem late one after the other, and lie on a line as no late ones do: what they tell is
    /// true, and the estimate is not. What the clock may be off by itself, `own` s, is no lateness.
    fn is_on_a_new_line(&mut self, source: SourceId, m: Measurement, offset: f64, jitter: f64, own: f64) -> bool {
        let Some(lateness) = self.estimator.lateness(source) else { return false };
        if offset.abs() < (LATE_IN_JITTERS * jitter).max(own) {
            Astray::end(&mut self.late, source);
            return false;
        }
        let late = Astray::of(&mut self.late, source, self.estimator.frequency_belief());
        late.push(m, offset, MOST_LATE);
        let is_new = late.is_a_line(jitter, lateness);
        if is_new {
            self.astray = self.late.take();
        }
        is_new
    }

    /// A source has moved by so much, s: do more of the others, as far as they were heard since, say that
    /// our clock is right than go with it? Then it is the source that is wrong, and what it gave before
    /// says nothing of it any more.
    pub(super) fn disowns(&mut self, source: SourceId, by: f64, now: Now) -> bool {
        let Some(since) = self.astray.as_ref().and_then(|a| a.measurements.first()).map(|m| m.raw) else {
            return false;
        };
        let line = |raw| self.line_at(raw);
        // One vote is the source's own.
        let (mut stay, mut go) = (0, 1);
        for (i, s) in &self.sources {
            let heard = s.recent.back().filter(|m| *i != source && m.raw > since && s.is_fresh(now.raw));
            let Some((m, interval)) = heard.zip(s.interval(now.raw, 0.0, self.poor_fix(s), line)) else { continue };
            let offset = (self.line_at(m.raw) - m.tai).seconds();
            let width = interval.width.max(0.5 * m.delay.unwrap_or(0.0));
            stay += u32::from(offset.abs() <= width && (offset - by).abs() > width);
            go += u32::from(offset.abs() > width && (offset - by).abs() <= width);
        }
        if stay <= go {
            return false;
        }
        self.astray = None;
        if let Some(s) = self.sources.get_mut(&source) {
            s.recent.retain(|m| m.raw >= since);
        }
        true
    }

    /// A source feeds the clock no longer: how far it is astray is no doubt of ours.
    pub(super) fn let_go(&mut self, source: SourceId) {
        Astray::end(&mut self.astray, source);
        Astray::end(&mut self.late, source);
    }

    /// May the clock go where this measurement says it should be? If that is further than the operator
    /// allows, it is left alone until he has spoken, or its sources have come back.
    pub(super) fn may_follow(&mut self, m: Measurement, now: Now) -> bool {
        let off = (now.clock - m.tai - (now.raw - m.raw)).seconds();
        let may_step = !self.set || self.updates <= self.config.step.updates || self.take_back;
        if may_step || off.abs() <= self.config.step.panic {
            self.panic = None;
            return true;
        }
        if self.panic.replace(off).is_none() {
            self.events.push_back(Event::Panic { offset: off, limit: self.config.step.panic });
        }
        false
    }

    /// The operator allows the step that a panic waits for: to where the sources are now.
    pub(super) fn give_in(&mut self) {
        if let (Some(_), Some(by)) = (self.panic, self.astray.as_ref().filter(|a| a.agree()).map(Astray::offset)) {
            self.follow_the_move(by);
        }
    }

    /// How far the clock would be off if the source that went astray were right, or all that agree
    /// against it, s.
    pub(super) fn doubted(&self) -> f64 {
        let astray = self.astray.as_ref().filter(|a| a.offsets.len() >= DOUBTFUL).map_or(0.0, Astray::distance);
        astray.max(self.against_the_agreed)
    }

    /// The source that went astray, when it is worth telling, and by how much, s.
    pub(super) fn strays(&self) -> Option<(String, f64)> {
        let astray = self
            .astray
            .as_ref()
            .filter(|a| a.offsets.len() >= WORTH_TELLING || (a.seconds != 0 && a.offsets.len() >= DOUBTFUL_SECOND))?;
        Some((self.sources.get(&astray.source)?.config.name.clone(), astray.distance()))
    }

    /// A source that feeds the clock has moved, and the clock goes with it.
    pub(super) fn follow_the_move(&mut self, by: f64) {
        let Some(Astray { source, measurements, frequency, .. }) = self.astray.take() else { return };
        if let (Some(m), Some(s)) = (measurements.last(), self.sources.get(&source)) {
            self.last_feed = Some((m.raw, s.config.kind));
        }
        self.tell_move(source, by, false);
        self.estimator.follow_jump(source, measurements, frequency);
        self.updates = 0;
    }

    /// The pulses have moved and the messages name other seconds for them: it was our counter that
    /// stood still.
    pub(super) fn handle_lost_time(&mut self, source: SourceId, raw: Timestamp<Raw>, seconds: i64) {
        let Some(nearest) = self.estimator.tai_at(raw).map(|tai| tai.round()) else { return };
        if let Course::Moved(by) = self.course(source, Measurement { raw, tai: nearest, delay: None }) {
            self.tell_move(source, by, true);
            self.start_anew();
        } else if let Some(astray) = &mut self.astray {
            astray.seconds = seconds;
        }
    }

    fn tell_move(&mut self, source: SourceId, by: f64, seconds_too: bool) {
        if let Some(s) = self.sources.get(&source) {
            self.events.push_back(Event::Moved { source: s.config.name.clone(), by, seconds_too });
        }
    }

    /// Forgets what time it is. The crystal's frequency is kept, with some doubt; so is what was
    /// learned of the sources.
    pub(super) fn start_anew(&mut self) {
        let frequency = match self.astray.take() {
            Some(astray) => astray.frequency,
            None => self.estimator.frequency_belief(),
        };
        self.estimator = Estimator::new(Prior { frequency, ..Prior::default() });
        self.numbered_at = None;
        self.feeding.clear();
        (self.fixed, self.path) = (f64::INFINITY, 0.0);
        self.allow_step();
        for s in self.sources.values_mut() {
            s.recent.clear();
            s.contradicted_since = None;
        }
    }
}
