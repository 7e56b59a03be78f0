//! Time set by hand: a person looks at a clock and types what it says.
//!
//! One setting tells the time to half a second or so; several, hours and days apart, tell the crystal's
//! frequency as well. They feed the same estimate as every other source, and only when no other does.

use std::collections::VecDeque;

use refclocks::time::{Raw, Tai, Timestamp};

use super::measurement::Measurement;

/// A person is off by this at most, whatever the number of settings, s.
pub const FIXED: f64 = 0.5;
/// What differs from one setting to the next, one standard deviation, s.
pub const NOISE: f64 = 0.1;
/// A setting that is off by so many standard deviations is not of the clock that the others are of.
pub const CONTRADICTION: f64 = 4.0;
/// Settings remembered.
const KEPT: usize = 16;

/// What became of a setting.
#[derive(Clone, Debug, PartialEq)]
pub enum Use {
    /// The clock follows it.
    Followed {
        /// Those before it told another time and are forgotten.
        anew: bool,
    },
    /// Another source feeds the clock.
    Outranked {
        /// Its name.
        by: String,
    },
    /// No source feeds the clock, but it still knows better by itself.
    KnownBetter {
        /// To within this, s.
        bound: f64,
    },
}

/// What became of a setting, and what is known with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What became of it.
    pub used: Use,
    /// Clock - what was set, before anything was done, s.
    pub offset: f64,
    /// How far the clock was stepped, s; positive = forward. `None`: it was not.
    pub stepped: Option<f64>,
    /// Clock - what it should read, after that, s: this is slewed away.
    pub remaining: f64,
    /// How wrong the clock can be by now, s.
    pub bound: f64,
    /// Our crystal's frequency error and its standard deviation, s/s.
    pub frequency: Option<(f64, f64)>,
    /// The settings followed so far, oldest first, and how far each is from the line through them:
    /// line - setting, s.
    pub settings: Vec<(Timestamp<Tai>, f64)>,
}

/// The settings that are followed.
#[derive(Clone, Debug, Default)]
pub struct Settings(VecDeque<Measurement>);

impl Settings {
    /// Notes one.
    pub fn push(&mut self, m: Measurement) {
        self.0.push_back(m);
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each with its distance from a line: line - setting, s.
    pub fn residuals(&self, line: impl Fn(Timestamp<Raw>) -> Timestamp<Tai>) -> Vec<(Timestamp<Tai>, f64)> {
        self.0.iter().map(|m| (m.tai, (line(m.raw) - m.tai).seconds())).collect()
    }
}
