//! What the network's servers say, and how often they are worth asking.

use super::{Engine, Now};
use crate::core::bias::Bias;
use crate::core::event::Event;
use crate::core::measurement::{Measurement, SourceId};
use crate::core::polling::Answer;
use crate::core::source::{ServerSays, without_offset};

/// Stamps and wires vary by so much where nothing else does, s.
const STAMPS: f64 = 2e-6;

impl Engine {
    /// A packet exchange with a server: true time was `tai` when the raw counter read `raw`.
    pub fn handle_exchange(&mut self, source: SourceId, m: Measurement, says: ServerSays, now: Now) {
        if let Some(refused) = self.refused(source, &m, &says, now) {
            return self.tell_refused(source, refused);
        }
        let Some(s) = self.sources.get_mut(&source) else { return };
        if s.samples > 0 && s.says.id != says.id {
            // The name leads to another machine now, over another route.
            s.forget_measurements();
            self.estimator.forget(source);
        }
        s.says = says;
        s.leap = Some(says.leap);
        s.last = Some(m.raw);
        // Shorter than nothing is the grain of clocks.
        let m = Measurement { raw: without_offset(m.raw, &s.config), delay: m.delay.map(|d| d.max(0.0)), ..m };
        s.push(m);
        self.first_exchange.get_or_insert(m.raw);
        self.select(now);
        self.learn_bias(source, m);
        let taught = self.feed(source, m, now);
        self.consider_poll(source, m, taught);
        self.finish(now);
    }

    /// Learns what a server is off by, while something at least four times as good feeds the clock.
    fn learn_bias(&mut self, source: SourceId, m: Measurement) {
        let Some((_, e)) = self.estimator.estimate() else { return };
        let offset = (self.line_at(m.raw) - m.tai).seconds();
        let own = self.fixed + e.phase_variance.sqrt();
        let is_better_fed = !self.feeding.is_empty() && !self.feeding.contains(&source);
        let Some(s) = self.sources.get_mut(&source) else { return };
        let round_trip = m.delay.unwrap_or(0.0);
        // What is off by more than its way is long is false, not biased.
        let is_plausible = offset.abs() < 0.5 * round_trip + STAMPS;
        if !is_better_fed || !is_plausible || own > 0.125 * round_trip {
            return;
        }
        let sd = 0.5 * s.excess_delay(&m) + own + STAMPS;
        s.bias.get_or_insert(Bias::unknown(round_trip)).learn(offset, sd * sd);
    }

    /// Reach and poll of a server, whether it answers or not.
    pub fn handle_reach(&mut self, source: SourceId, reach: u8, poll: i8) {
        if let Some(s) = self.sources.get_mut(&source) {
            s.reach = reach;
            s.poll = poll;
        }
    }

    /// How a server stands, in the client's words, and what to do about it.
    pub fn handle_server_state(&mut self, source: SourceId, text: String, action: Option<String>) {
        if let Some(s) = self.sources.get_mut(&source) {
            self.events.push_back(Event::Server { source: s.config.name.clone(), text: text.clone() });
            s.server_state = Some((text, action));
        }
    }

    /// The operator has taken a server offline, or brought it back.
    pub fn handle_offline(&mut self, source: SourceId, offline: bool, now: Now) {
        let Some(s) = self.sources.get_mut(&source) else { return };
        if std::mem::replace(&mut s.offline, offline) != offline {
            self.select(now);
            self.finish(now);
        }
    }

    /// Was this answer worth its packet? `taught`: what it took away of the doubt about our clock, nats.
    fn consider_poll(&mut self, source: SourceId, m: Measurement, taught: f64) {
        let line = self.line_at(m.raw);
        let sigma = self.estimator.estimate().map_or(f64::INFINITY, |(_, e)| e.phase_variance.sqrt());
        let feeds = self.feeding.contains(&source);
        let Some(s) = self.sources.get_mut(&source) else { return };
        let offset = (line - m.tai).seconds();
        let excess = s.excess_delay(&m);
        let before = s.last_answer.replace((offset, excess));
        // An asymmetry of the route is in both answers alike.
        let surprise = match before.filter(|_| feeds && sigma.is_finite()) {
            Some((last, excess_then)) => (offset - last).abs() / (0.5 * (excess + excess_then) + 3.0 * sigma + STAMPS),
            None => 0.0,
        };
        if let Some(wanted) = s.polling.handle_answer(s.poll, Answer { taught, surprise }) {
            self.wanted_polls.push_back((source, wanted));
        }
    }
}
