//! What happened, told to the log and kept for whoever asks.

use std::collections::VecDeque;

use refclocks::time::{Timestamp, Utc};
use tracing::{info, warn};

use crate::core::event::Event;

/// Events kept.
const KEPT: usize = 256;

/// The journal.
#[derive(Debug, Default)]
pub struct Journal {
    events: VecDeque<(Timestamp<Utc>, String)>,
    noted: u64,
    silent: bool,
}

impl Journal {
    /// A journal that only keeps, because something else owns the terminal.
    pub fn silent() -> Self {
        Self { silent: true, ..Self::default() }
    }

    /// Notes an event.
    pub fn note(&mut self, at: Timestamp<Utc>, event: &Event) {
        let text = event.to_string();
        if !self.silent {
            if event.is_warning() { warn!("{text}") } else { info!("{text}") }
        }
        self.noted += 1;
        self.events.push_back((at, text));
        if self.events.len() > KEPT {
            self.events.pop_front();
        }
    }

    /// The last events, oldest first.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = &(Timestamp<Utc>, String)> {
        self.events.iter()
    }

    /// Events noted so far, those that are no longer kept included.
    pub fn noted(&self) -> u64 {
        self.noted
    }

    /// The events after the first `told`, as far as they are kept, oldest first.
    pub fn after(&self, told: u64) -> impl Iterator<Item = &(Timestamp<Utc>, String)> {
        let new = usize::try_from(self.noted.saturating_sub(told)).unwrap_or(usize::MAX);
        self.events.iter().skip(self.events.len().saturating_sub(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::verdict::Verdict;

    #[test]
    fn a_reader_that_fell_behind_gets_what_is_kept() {
        let mut journal = Journal::silent();
        for i in 0..300 {
            let event = Event::Verdict { source: i.to_string(), verdict: Verdict::Selected };
            journal.note(Timestamp::from_parts(i, 0), &event);
        }
        assert_eq!(journal.noted(), 300);
        let times = |told| journal.after(told).map(|(at, _)| *at).collect::<Vec<_>>();
        assert_eq!(times(298), [Timestamp::from_parts(298, 0), Timestamp::from_parts(299, 0)]);
        assert_eq!(times(0).len(), KEPT);
        assert!(times(300).is_empty());
    }
}
