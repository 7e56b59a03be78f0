//! What the engine is told to begin with. The sources come afterwards, see [`roster`](crate::daemon::roster).

use refclocks::time::{Timestamp, Utc};

use crate::config::Config;
use crate::core::engine::EngineConfig;
use crate::core::leap::UtcMap;
use crate::core::steering::StepPolicy;

/// The engine's settings. `table_until`: see [`EngineConfig::table_until`].
pub fn engine(config: &Config, utc: UtcMap, table_until: Option<Timestamp<Utc>>) -> EngineConfig {
    EngineConfig {
        sources: Vec::new(),
        step: step_policy(config),
        holdover_budget: config.holdover_budget,
        local: config.local,
        utc,
        table_until,
        steers_realtime: false,
    }
}

/// When the clock may be stepped, and how it is slewed.
pub fn step_policy(config: &Config) -> StepPolicy {
    let clock = &config.clock;
    StepPolicy {
        threshold: clock.step_threshold,
        updates: clock.step_updates,
        panic: clock.panic,
        max_slew: clock.max_slew,
    }
}
