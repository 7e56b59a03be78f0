//! The end of every wake-up: the clock is steered and the state labelled.

use refclocks::time::Span;

use super::{ClockCommand, Engine, Now, TICK};
use crate::core::event::Event;
use crate::core::labels::{Facts, Reference};
use crate::core::measurement::SourceId;
use crate::core::snapshot::{Coasting, ErrorBound, LEFT_OUT, SourceKind};
use crate::core::source::Source;
use crate::core::state::State;
use crate::core::steering::{Move, decide, drift};

/// Standard deviations in the error bound: 99 % two-sided.
const BOUND_FACTOR: f64 = 2.576 * LEFT_OUT;
/// A filter that averages over this long relies on a room that gets warmer and colder as its model says, s.
const ROOM: f64 = 900.0;
/// Where a model only approximates, a room's or that of ways of unequal length, the standard deviation may
/// be short by up to these shares.
const ROOM_DOUBT: f64 = 0.6;
const WAYS_DOUBT: f64 = 0.35;
/// The same, where late pulses are hardly later than their noise is wide: which they are cannot be told, so
/// that part of their lateness stays. By their share, and the square of noise over lateness.
const LATE_DOUBT: f64 = 14.0;

impl Engine {
    /// Steers the clock and labels the state: the end of every wake-up that changed anything.
    pub(super) fn finish(&mut self, now: Now) {
        self.hold_while_coasting(now);
        self.estimator.advance(now.raw);
        self.gain_experience(now);
        let now = self.steer(now);
        self.hear_leaps(now);
        self.label(now);
        self.next_tick = now.raw + TICK;
    }

    /// Commands the clock. Returns the present as it is once the commands are carried out.
    fn steer(&mut self, mut now: Now) -> Now {
        let Some((_, estimate)) = self.estimator.estimate() else { return now };
        let Some(tai) = self.estimator.tai_at(now.raw) else { return now };
        let offset = (now.clock - tai).seconds();
        let moved_by_another = std::mem::take(&mut self.take_back) && offset.abs() > self.config.step.threshold;
        // Within the noise of the estimate there is nothing to step.
        let asked = std::mem::take(&mut self.step_asked) && offset.abs() > 4.0 * estimate.phase_variance.sqrt();
        let drift = drift(estimate);
        let decided = if self.panic.is_some() {
            Move::Panic
        } else if moved_by_another || asked {
            // What the clock was before is known; nobody waits for a slew.
            Move::Step(-offset, drift)
        } else {
            decide(estimate, offset, self.updates, self.set, &self.config.step)
        };
        match decided {
            Move::Slew(rate) => {
                self.rate = rate;
                self.set = true;
                self.commands.push_back(ClockCommand::SetRate(rate));
            }
            Move::Step(by, rate) => {
                self.rate = rate;
                self.commands.push_back(ClockCommand::Step(Span::from_seconds(by)));
                self.commands.push_back(ClockCommand::SetRate(rate));
                self.stepped_by = by;
                self.events.push_back(Event::Stepped { offset });
                now.clock += Span::from_seconds(by);
            }
            Move::Panic => {
                if self.panic.is_none() {
                    self.events.push_back(Event::Panic { offset, limit: self.config.step.panic });
                }
                self.panic.get_or_insert(offset);
                // It keeps the rate that is right by all that is known, and goes nowhere.
                if self.rate != drift {
                    self.rate = drift;
                    self.commands.push_back(ClockCommand::SetRate(drift));
                }
            }
        }
        now
    }

    /// The bound as a function of time. `offset` is what is known to be uncorrected, s.
    pub(super) fn bound(&self, offset: f64) -> ErrorBound {
        let Some((at, e)) = self.estimator.estimate() else { return ErrorBound::unknown() };
        // The first minutes after a start are over-confident: the noise is barely known.
        let n = self.estimator.bank().measurements() as f64;
        let factor = BOUND_FACTOR * (1.0 + 1.5 * libm::exp(-n / 50.0));
        // A server's answers bound the error by themselves, as far as its ways are alike.
        let ways = self.feeding.iter().filter_map(|i| self.estimator.tilted_share(*i)).reduce(f64::max);
        let averaged = (e.time_constant() / ROOM).powi(2);
        let hardly_late = |i: &SourceId| {
            let ((share, mean), jitter) = self.estimator.lateness(*i).zip(self.estimator.jitter(*i))?;
            Some(share * (jitter / mean).powi(2))
        };
        let hardly_late = self.feeding.iter().filter_map(hardly_late).fold(0.0, f64::max);
        let doubt = 1.0
            + match ways {
                Some(tilted) => WAYS_DOUBT * tilted * tilted,
                None => ROOM_DOUBT * averaged / (averaged + 1.0) + LATE_DOUBT * hardly_late,
            };
        ErrorBound {
            raw: at,
            fixed: self.fixed - self.path,
            path: self.path,
            residual: (offset.abs() - e.phase_variance.sqrt()).max(0.0) + self.doubted(),
            variance: self.estimator.bank().variance_ahead(),
            doubt,
            coasting: Coasting { since: self.last_feed.map_or(at, |(fed, _)| fed), growth: self.record.growth() },
            factor,
        }
    }

    fn label(&mut self, now: Now) {
        let offset = self.offset(now);
        let bound = self.bound(offset.unwrap_or(0.0));
        let bound_ahead = ErrorBound { residual: self.doubted(), ..bound };
        let bound = bound.distance(now.raw);
        let feeder = |kinds: &[SourceKind]| {
            let of_these =
                |i: &SourceId| self.sources.get(i).filter(|s| kinds.contains(&s.config.kind)).map(|s| (*i, s));
            self.feeding.iter().find_map(of_these)
        };
        let pulse = feeder(&[SourceKind::Pulse, SourceKind::NumberedPulse]);
        let live = |kind: SourceKind| {
            let s = self
                .sources
                .values()
                .find(|s| s.config.kind == kind && s.last.is_some_and(|l| (now.raw - l).seconds() < 4.0));
            s.map(|s| &*s.config.name)
        };
        if let Some(s) = self.feeding.first().and_then(|i| self.sources.get(i)) {
            self.reference = Some(Reference::to(s, self.local.kinship(&s.says)));
        }
        let since_fed = self.last_feed.map(|(at, _)| (now.raw - at).seconds());
        let facts = Facts {
            now: now.raw,
            bound,
            doubted: self.doubted(),
            astray: self.strays(),
            since_feed: self.last_feed.map(|(at, kind)| ((now.raw - at).seconds(), kind)),
            network_patience: 3.5
                * self
                    .feeding
                    .iter()
                    .filter_map(|i| self.sources.get(i))
                    .map(|s| libm::exp2(f64::from(s.poll.max(3))))
                    .fold(8.0, f64::max),
            pulse: pulse.map(|(i, s)| (&*s.config.name, self.estimator.jitter(i).unwrap_or(f64::INFINITY))),
            message: feeder(&[SourceKind::Message]).map(|(_, s)| &*s.config.name),
            calibrated: self.feeding.iter().all(|i| self.sources.get(i).is_some_and(Source::is_calibrated)),
            servers: self.feeding.iter().filter(|i| self.sources[i].config.kind == SourceKind::Network).count(),
            any_source: !self.sources.is_empty(),
            date_in_doubt: (self.sources.values())
                .find(|s| self.date_in_doubt(s, now).is_some())
                .map(|s| &*s.config.name),
            live_pulse: live(SourceKind::Pulse),
            live_message: live(SourceKind::Message),
            pulse_wait: self.pulse_wait(now),
            budget: self.config.holdover_budget,
            bound_ahead,
            orphan: self.reference.is_some_and(|r| r.orphan),
            local: self.local.readiness(since_fed, (now.raw - self.started.raw).seconds()),
            panic: self.panic.map(|offset| (offset, self.config.step.panic)),
            disagreement: self.disagreement,
        };
        if let Some(event) = self.labels.update(&facts) {
            self.events.push_back(event);
        }
        if matches!(self.labels.state, State::Locked | State::Coarse | State::Network) || self.is_by_hand() {
            self.local.handle_synchronised(bound);
        }
    }

    /// Best estimate of clock - true time, s.
    pub(super) fn offset(&self, now: Now) -> Option<f64> {
        self.estimator.tai_at(now.raw).map(|tai| (now.clock - tai).seconds())
    }
}
