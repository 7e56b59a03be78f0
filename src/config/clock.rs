//! `[clock]`: which clock is steered, and how.

use std::path::PathBuf;

use toml::de::DeValue;

use super::diagnostic::Diagnostic;
use super::value::{Section, wrong_type};
use crate::clock::LeapMode;

/// Which clock is steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Discipline {
    /// The system clock, for every program on the machine.
    Kernel,
    /// A clock of our own that is served; the system clock is left alone.
    #[default]
    Software,
    /// None: sources are watched and reported.
    Observe,
}

/// What to do where the system clock may not be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Otherwise {
    /// Steer and serve a clock of our own.
    #[default]
    Software,
    /// Only watch.
    Observe,
}

/// What is done to the clock.
#[derive(Clone, Debug, PartialEq)]
pub struct ClockSettings {
    /// Which clock is steered.
    pub discipline: Discipline,
    /// What happens if the system clock is to be steered and may not be set.
    pub otherwise: Otherwise,
    /// A leap-seconds.list. `None`: the system's, if it has one.
    pub leap_file: Option<PathBuf>,
    /// How the system clock crosses a leap second.
    pub leap: LeapMode,
    /// Step rather than slew beyond this, s...
    pub step_threshold: f64,
    /// ...within so many updates of the start.
    pub step_updates: u64,
    /// Do not move a clock that is set further than this, s.
    pub panic: f64,
    /// Fastest slew, on top of the crystal's correction, s/s.
    pub max_slew: f64,
    /// End the program then.
    pub panic_exit: bool,
}

impl Default for ClockSettings {
    fn default() -> Self {
        Self {
            discipline: Discipline::default(),
            otherwise: Otherwise::default(),
            leap_file: None,
            leap: LeapMode::default(),
            step_threshold: 1e-3,
            step_updates: 10,
            panic: 1000.0,
            max_slew: 500e-6,
            panic_exit: false,
        }
    }
}

/// Reads it.
pub(super) fn clock(section: &Section<'_, '_>, settings: &mut ClockSettings, out: &mut Vec<Diagnostic>) {
    section.only(&["discipline", "otherwise", "leap_file", "leap", "step", "panic", "panic_exit", "max_slew"], out);
    let disciplines =
        [("kernel", Discipline::Kernel), ("software", Discipline::Software), ("observe", Discipline::Observe)];
    let others = [("software", Otherwise::Software), ("observe", Otherwise::Observe)];
    let leaps = [("kernel", LeapMode::Kernel), ("slew", LeapMode::Slew), ("step", LeapMode::Step)];
    let discipline = section.choice("discipline", "discipline", &disciplines, out);
    settings.discipline = discipline.unwrap_or(settings.discipline);
    settings.otherwise = section.choice("otherwise", "clock", &others, out).unwrap_or(settings.otherwise);
    settings.leap = section.choice("leap", "way across a leap second", &leaps, out).unwrap_or(settings.leap);
    settings.leap_file = section.path("leap_file", out).or_else(|| settings.leap_file.take());
    settings.panic = section.duration("panic", 1e-3..=1e9, out).unwrap_or(settings.panic);
    // What the kernel's tick gives, less the crystal's correction.
    let max_slew = section.integer("max_slew", 1..=90_000, out);
    settings.max_slew = max_slew.map_or(settings.max_slew, |ppm| ppm as f64 * 1e-6);
    settings.panic_exit = section.boolean("panic_exit", out).unwrap_or(settings.panic_exit);
    let Some(value) = section.get("step") else { return };
    let DeValue::Table(_) = value.get_ref() else {
        out.push(wrong_type(
            "step",
            "a table such as `{ threshold = \"1 ms\", updates = 10 }`",
            value.get_ref(),
            value.span(),
        ));
        return;
    };
    let Some(step) = Section::new("step", value, out) else { return };
    step.only(&["threshold", "updates"], out);
    settings.step_threshold = step.duration("threshold", 1e-6..=1e9, out).unwrap_or(settings.step_threshold);
    let updates = step.integer("updates", 0..=i64::MAX, out).and_then(|u| u64::try_from(u).ok());
    settings.step_updates = updates.unwrap_or(settings.step_updates);
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn the_fastest_slew_is_in_ppm_and_has_limits() {
        let with = |ppm: &str| format!("[[server]]\naddress = \"ntp.example.org\"\n[clock]\nmax_slew = {ppm}\n");
        let (config, _) = Config::from_toml("test.toml", &with("2000")).unwrap();
        assert!((config.clock.max_slew - 2e-3).abs() < 1e-12);
        for ppm in ["0", "100000", "\"fast\""] {
            assert_eq!(Config::from_toml("test.toml", &with(ppm)).unwrap_err().len(), 1, "{ppm}");
        }
    }
}
