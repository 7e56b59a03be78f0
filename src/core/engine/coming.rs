//! Sources come and go while the clock runs.

use std::sync::Arc;

use super::Engine;
use crate::core::measurement::SourceId;
use crate::core::pairing::LearnedDelay;
use crate::core::source::{Source, SourceConfig, given};

impl Engine {
    /// A source has come. What was learned of one of its name is known of it.
    pub fn add_source(&mut self, config: SourceConfig) -> SourceId {
        let id = self.next_source;
        self.next_source += 1;
        let known = self.remembered.delay(&config.name).map(|d| LearnedDelay::known(d.mean, d.sd));
        if let Some(noise) = self.remembered.noise(&config.name) {
            self.estimator.remember(id, noise);
        }
        let mut source = Source::new(config, known);
        if let Some(delays) = self.remembered.histogram(&source.config.name) {
            source.delays = Arc::new(delays.clone());
        }
        self.sources.insert(id, source);
        id
    }

    /// A source has left. What it gave stays in the estimate; what was learned of it is remembered.
    pub fn remove_source(&mut self, id: SourceId) {
        let Some(gone) = self.sources.remove(&id) else { return };
        if let Some(delay) = gone.learned_delay() {
            self.remembered.set_delay(&gone.config.name, delay.mean, delay.sd());
        }
        if gone.delays.total() > 0 {
            self.remembered.set_histogram(&gone.config.name, &gone.delays);
        }
        if let Some(noise) = self.estimator.known_noise(id) {
            self.remembered.set_noise(&gone.config.name, noise);
        }
        self.feeding.retain(|i| *i != id);
        self.estimator.forget(id);
        for s in self.sources.values_mut() {
            s.records.remove(&id);
            if s.numbered_by == Some(id) {
                s.numbered_by = None;
            }
        }
    }

    /// The operator says something else of a source than before. What it gave so far stays.
    pub fn configure_source(&mut self, id: SourceId, config: SourceConfig) {
        let Some(s) = self.sources.get_mut(&id) else { return };
        if config.delay != s.config.delay {
            s.delay = config.delay.map(given);
        }
        s.config = config;
    }
}
