//! What no server can have told is refused before anybody hears it.

use refclocks::time::Span;
use thiserror::Error;

use super::{Engine, Now};
use crate::core::event::Event;
use crate::core::measurement::{Measurement, SourceId};
use crate::core::memory::is_a_date;
use crate::core::source::ServerSays;

/// Nothing that NTP's short format holds is longer, s.
const LONGEST: f64 = 65_536.0;
/// The middle of an exchange lies this far back at most, and is never ahead by more.
const OLDEST: Span = Span::from_millis(16_000);
const AHEAD: Span = Span::from_millis(1);

/// Why an answer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub(super) enum Refused {
    #[error("its {0} is no length of time")]
    Absurd(&'static str),
    #[error("it names a time that it cannot be")]
    Date,
    #[error("it comes from the future")]
    Future,
    #[error("it is older than 16 s")]
    Old,
    #[error("it is no later than the one before")]
    Repeated,
}

impl Engine {
    /// Why this answer is refused, if it is.
    pub(super) fn refused(&self, source: SourceId, m: &Measurement, says: &ServerSays, now: Now) -> Option<Refused> {
        let lengths = [
            ("round trip", m.delay.unwrap_or(0.0)),
            ("root delay", says.root_delay),
            ("root dispersion", says.root_dispersion),
        ];
        // A round trip shorter than the server's own stay is the grain of clocks.
        let is_length = |s: f64| (-0.001..LONGEST).contains(&s);
        if let Some((what, _)) = lengths.into_iter().find(|(_, value)| !is_length(*value)) {
            return Some(Refused::Absurd(what));
        }
        if !is_a_date(self.config.utc.utc(m.tai).0) {
            return Some(Refused::Date);
        }
        let last = self.sources.get(&source).and_then(|s| s.last);
        if m.raw > now.raw + AHEAD {
            Some(Refused::Future)
        } else if now.raw - m.raw > OLDEST {
            Some(Refused::Old)
        } else {
            // Further back it is the counter itself that has gone back.
            last.is_some_and(|last| m.raw <= last && last - m.raw <= OLDEST).then_some(Refused::Repeated)
        }
    }

    /// Tells so, once for each reason.
    pub(super) fn tell_refused(&mut self, source: SourceId, refused: Refused) {
        let Some(s) = self.sources.get_mut(&source) else { return };
        let text = format!("its answer is refused: {refused}");
        if s.server_state.as_ref().is_none_or(|(before, _)| *before != text) {
            self.events.push_back(Event::Server { source: s.config.name.clone(), text: text.clone() });
            s.server_state = Some((text, None));
        }
    }
}
