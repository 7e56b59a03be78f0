//! Which edge of a pulse is on the second, where its shape does not tell: both are reported then, and those who
//! know where the second is decide.

use refclocks::Edge;
use refclocks::time::{Raw, Span, Timestamp};

/// An edge that did not come for so long does not come.
const SILENT: Span = Span::from_millis(2500);
/// So near to a whole second an edge is on it, s. The two are further apart than twice that.
const NEAR: f64 = 0.12;
/// So many pulses in a row decide.
const TO_DECIDE: u8 = 3;

/// The edges of one pulse source.
#[derive(Clone, Debug, Default)]
pub struct Edges {
    used: Option<Edge>,
    /// When each came last, assert first, and when the first of all did.
    seen: [Option<Timestamp<Raw>>; 2],
    first: Option<Timestamp<Raw>>,
    /// The one that witnesses name, and how often in a row.
    votes: (Option<Edge>, u8),
    /// Who said so, once that is settled.
    by: Option<String>,
}

/// Somebody who knows where the second is.
#[derive(Clone, Debug, PartialEq)]
pub struct Witness {
    /// Its name.
    pub name: String,
    /// Servers are heard before messages, whose delay may have been learned from the wrong edge.
    pub server: bool,
    /// How far from the nearest whole second the assert edge and the clear edge are by it, s.
    pub phases: [f64; 2],
}

impl Edges {
    /// An edge came. Is it the one in use? The first to be reported is, until others know better.
    pub fn hear(&mut self, edge: Edge, at: Timestamp<Raw>) -> bool {
        self.first.get_or_insert(at);
        let silent = self.used.is_none_or(|used| self.last(used).is_none_or(|last| at - last > SILENT));
        if let Some(seen) = self.seen.get_mut(edge as usize) {
            *seen = Some(at);
        }
        if silent && self.used != Some(edge) {
            (self.used, self.by) = (Some(edge), None);
        }
        self.used == Some(edge)
    }

    /// When both edges came last, assert first, where both are reported.
    pub fn both(&self) -> Option<[Timestamp<Raw>; 2]> {
        let [assert, clear] = [self.seen[0]?, self.seen[1]?];
        ((assert - clear).abs() < SILENT).then_some([assert, clear])
    }

    /// The edge in use, and who said that it is on the second; `None` where the shape tells.
    pub fn told(&self) -> Option<(Edge, Option<&str>)> {
        self.both().and(self.used).map(|used| (used, self.by.as_deref()))
    }

    /// When the first edge came, where nobody has said which is on the second.
    pub fn open_since(&self) -> Option<Timestamp<Raw>> {
        self.both().filter(|_| self.by.is_none()).and(self.first)
    }

    /// Hears those who know where the second is. Returns the edge to go on with, if it is another.
    pub fn judge(&mut self, witnesses: &[Witness]) -> Option<Edge> {
        let any_server = witnesses.iter().any(|w| w.server && w.says().is_some());
        let heard: Vec<(Edge, &str)> = witnesses
            .iter()
            .filter(|w| w.server || !any_server)
            .filter_map(|w| Some((w.says()?, w.name.as_str())))
            .collect();
        let count = |edge| heard.iter().filter(|(said, _)| *said == edge).count();
        let edge = match (count(Edge::Assert), count(Edge::Clear)) {
            (assert, clear) if assert > clear => Edge::Assert,
            (assert, clear) if clear > assert => Edge::Clear,
            _ => return None,
        };
        self.votes =
            if self.votes.0 == Some(edge) { (Some(edge), self.votes.1.saturating_add(1)) } else { (Some(edge), 1) };
        if self.votes.1 < TO_DECIDE {
            return None;
        }
        self.by = heard.iter().find(|(said, _)| *said == edge).map(|(_, name)| (*name).to_owned());
        (self.used.replace(edge) != Some(edge)).then_some(edge)
    }

    fn last(&self, edge: Edge) -> Option<Timestamp<Raw>> {
        self.seen.get(edge as usize).copied().flatten()
    }
}

impl Witness {
    /// The edge that is on the second by it; `None` if neither is, or both.
    fn says(&self) -> Option<Edge> {
        match self.phases.map(|phase| phase.abs() < NEAR) {
            [true, false] => Some(Edge::Assert),
            [false, true] => Some(Edge::Clear),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp<Raw> {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    fn witness(name: &str, server: bool, assert: f64, clear: f64) -> Witness {
        Witness { name: name.into(), server, phases: [assert, clear] }
    }

    fn square() -> Edges {
        let mut edges = Edges::default();
        assert!(edges.hear(Edge::Assert, at(1000)) && !edges.hear(Edge::Clear, at(1500)));
        edges
    }

    #[test]
    fn a_lone_edge_is_in_use_and_another_takes_over_when_it_stays_away() {
        let mut edges = Edges::default();
        assert!(edges.hear(Edge::Assert, at(1000)) && edges.hear(Edge::Assert, at(2000)));
        assert_eq!((edges.both(), edges.told(), edges.open_since()), (None, None, None));
        // The shape has changed: only the other one is reported from now on.
        let used: Vec<bool> = (3..8).map(|k| edges.hear(Edge::Clear, at(1000 * k + 100))).collect();
        assert_eq!(used, [false, false, true, true, true]);
    }

    #[test]
    fn servers_decide_before_messages_and_three_times_in_a_row() {
        let mut edges = square();
        assert_eq!(edges.open_since(), Some(at(1000)));
        let clear = [witness("A", true, 0.48, -0.01), witness("GPS", false, 0.01, 0.49)];
        assert_eq!([(); 3].map(|()| edges.judge(&clear)), [None, None, Some(Edge::Clear)]);
        assert_eq!((edges.told(), edges.open_since()), (Some((Edge::Clear, Some("A"))), None));
        assert!(edges.hear(Edge::Clear, at(2500)) && !edges.hear(Edge::Assert, at(2000)));
        // Those who say neither, or contradict each other, change nothing.
        let nobody = [witness("A", true, 0.25, -0.25), witness("B", true, 0.0, 0.01)];
        let both = [witness("A", true, 0.0, 0.5), witness("B", true, 0.5, 0.0)];
        assert!((0..9).all(|_| edges.judge(&nobody).is_none() && edges.judge(&both).is_none()));
        let messages = [witness("GPS", false, 0.01, 0.49)];
        assert_eq!([(); 3].map(|()| edges.judge(&messages)), [None, None, Some(Edge::Assert)]);
    }
}
