//! What the simulated world does: the stories of `refclockd demo --scenario`, as files.

mod read;

use refclocks::ReferenceId;
use refclocks::time::{Span, Tai, Timestamp, Utc};

use super::{Crystal, Fault, PulseModel, ServerModel};
use crate::config::Diagnostic;
use crate::core::engine::EngineConfig;
use crate::core::leap::{LeapSecond, UtcMap};
use crate::core::selection::SelectionOptions;
use crate::core::snapshot::SourceKind;
use crate::core::source::SourceConfig;

/// One story.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// What it will show, in one or two sentences.
    pub shows: String,
    /// How long it lasts unless told otherwise, s.
    pub duration: Option<f64>,
    /// When the statistics begin, s after the start. `None`: two minutes after the first pulse.
    pub judged_from: Option<f64>,
    /// What the machine's clock says at the start.
    pub start: ClockAtStart,
    /// Our crystal.
    pub crystal: Crystal,
    /// The sources, in the order of the file.
    pub sources: Vec<SourceModel>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// A leap second, if one falls into the story: the world then begins so that it does.
    pub leap: Option<Leap>,
}

/// A leap second of the story.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Leap {
    /// +1 is inserted, -1 left out.
    pub change: i32,
    /// So long after the start, s.
    pub after: f64,
    /// Does the daemon know it from its table? Else it only hears of it from servers.
    pub by_table: bool,
}

/// The midnight before which the leap second of a story falls: 2027-01-01.
const MIDNIGHT: Timestamp<Utc> = Timestamp::from_parts(1_798_761_600, 0);

/// What receivers write in an inserted second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InsertedSecond {
    /// 23:59:60, as they ought to.
    #[default]
    Sixty,
    /// 23:59:59 once more.
    FiftyNine,
    /// 00:00:00 of the next day, which then comes twice.
    Zero,
}

/// What the machine's clock says when the world begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClockAtStart {
    /// Off by something drawn from 10 to 100 ms, either way.
    Drawn,
    /// Ahead by this much, s.
    Ahead(f64),
    /// No battery: it stands at 1970.
    In1970,
}

/// One source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceModel {
    /// Its name.
    pub name: String,
    /// What it gives, and how well.
    pub model: Model,
    /// As in the configuration.
    pub options: SelectionOptions,
}

/// What a source gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Model {
    /// A receiver's sentences.
    Messages(MessageModel),
    /// Edges without a number, through the kernel.
    Pulse(PulseModel),
    /// Stamps that come with their second: gpsd's pulses, or a coarse reference clock.
    Numbered(PulseModel),
    /// Packets.
    Server(ServerModel),
}

/// When messages come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MessageModel {
    /// When the first byte comes after the second it names: mean, s.
    pub delay: f64,
    /// Its standard deviation, s.
    pub jitter: f64,
    /// What the receiver writes in an inserted second.
    pub inserted: InsertedSecond,
}

/// The stories that the program brings along, the default first.
const STORIES: [(&str, &str); 5] = [
    ("gps-hat.toml", include_str!("../stories/gps-hat.toml")),
    ("antenna-loss.toml", include_str!("../stories/antenna-loss.toml")),
    ("nmea-only.toml", include_str!("../stories/nmea-only.toml")),
    ("wrong-week.toml", include_str!("../stories/wrong-week.toml")),
    ("cold-start.toml", include_str!("../stories/cold-start.toml")),
];

impl Scenario {
    /// A world without a name and a story: a clock that starts 0.1 s ahead, and nothing goes wrong.
    pub fn of(crystal: Crystal, sources: Vec<SourceModel>) -> Self {
        Self {
            name: String::new(),
            shows: String::new(),
            duration: None,
            judged_from: None,
            start: ClockAtStart::Ahead(0.1),
            crystal,
            sources,
            faults: Vec::new(),
            leap: None,
        }
    }

    /// TAI and UTC as they truly are in this story.
    pub fn utc(&self) -> UtcMap {
        let next = self.leap.map(|leap| LeapSecond { at: MIDNIGHT, change: leap.change });
        UtcMap { next, ..UtcMap::default() }
    }

    /// When the story begins: as usual, or so long before its leap second as it says.
    pub fn begins(&self, usual: Timestamp<Utc>) -> Timestamp<Tai> {
        let utc = self.utc();
        match (self.leap, utc.parting()) {
            (Some(leap), Some(parting)) => parting - Span::from_seconds(leap.after),
            _ => utc.tai(usual, false),
        }
    }

    /// Reads a scenario file.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, in the order of the text.
    pub fn from_toml(text: &str) -> Result<Self, Vec<Diagnostic>> {
        read::scenario(text)
    }

    /// All stories that the program brings along, the default first.
    pub fn all() -> Vec<Self> {
        STORIES.iter().filter_map(|(_, text)| Self::from_toml(text).ok()).collect()
    }

    /// The story of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|s| s.name == name)
    }

    /// The engine as its configuration would set it up for these sources.
    pub fn engine(&self) -> EngineConfig {
        EngineConfig {
            sources: self.sources.iter().map(SourceModel::config).collect(),
            holdover_budget: 1e-3,
            utc: if self.leap.is_some_and(|leap| leap.by_table) { self.utc() } else { UtcMap::default() },
            ..EngineConfig::default()
        }
    }
}

impl SourceModel {
    fn config(&self) -> SourceConfig {
        let (driver, address, kind, usual) = match self.model {
            Model::Messages(_) => ("nmea", "/dev/gps0", SourceKind::Message, *b"GPS\0"),
            Model::Pulse(_) => ("pps", "/dev/pps0", SourceKind::Pulse, *b"PPS\0"),
            Model::Numbered(_) => ("shm", "unit 1", SourceKind::NumberedPulse, *b"PPS\0"),
            Model::Server(_) => ("ntp", "192.0.2.1:123", SourceKind::Network, [0; 4]),
        };
        SourceConfig {
            name: self.name.clone(),
            refid: ReferenceId::from_name(&self.name).unwrap_or(ReferenceId(usual)),
            driver,
            address: address.into(),
            kind,
            lock: None,
            delay: None,
            offset: 0.0,
            options: self.options,
            stratum: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::render;

    #[test]
    fn every_story_of_ours_can_be_read_and_is_called_as_its_file() {
        for (file, text) in STORIES {
            let story = Scenario::from_toml(text).unwrap_or_else(|all| panic!("{}", render(file, text, &all, false)));
            assert_eq!(format!("{}.toml", story.name), file);
            assert!(!story.shows.is_empty());
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let text = r#"name = "mine"
durration = "1 h"

[crystal]
wander_ppb = -1

[[pulse]]
jiter = "1 us"
late = { share = 2, by = "20 parsec" }

[[server]]
name = "LAN"
shape = "paretto"

[[fault]]
what = "no-fix"
source = ["PSP", "LAN"]

[[fault]]
what = "ahead"
source = "PPS"
"#;
        let all = Scenario::from_toml(text).unwrap_err();
        insta::assert_snapshot!(render("mine.toml", text, &all, false));
    }

    #[test]
    fn what_is_no_toml_and_what_has_no_source_is_refused() {
        let wrong = |text| Scenario::from_toml(text).unwrap_err();
        assert!(wrong("[[pulse").iter().any(|d| d.title.starts_with("not TOML")));
        assert_eq!(wrong("")[0].title, "no source at all");
        assert_eq!(wrong("[[pulse]]\n[[pulse]]")[0].title, "two sources are named `PPS`");
    }
}
