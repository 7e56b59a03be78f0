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
        self.events.push_back((at, text));
        if self.events.len() > KEPT {
            self.events.pop_front();
        }
    }

    /// The last events, oldest first.
    pub fn recent(&self) -> impl Iterator<Item = &(Timestamp<Utc>, String)> {
        self.events.iter()
    }
}
