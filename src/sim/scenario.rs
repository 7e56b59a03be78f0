//! What the simulated world does: the stories of `refclockd demo --scenario`.

/// A stretch of time after the start, s: from, to.
pub type Stretch = (f64, f64);

/// One story.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// As given to `--scenario`.
    pub name: &'static str,
    /// What it will show, in one or two sentences.
    pub shows: &'static str,
    /// When the receiver sees the sky; it has no fix, and gives no pulse, outside.
    pub sky: Vec<Stretch>,
    /// Is the pulse wired?
    pub pulse: bool,
    /// Noise of the pulse's stamp: standard deviation, s.
    pub pulse_jitter: f64,
    /// How often the stamp is late, and by how much on the average, s.
    pub pulse_late: (f64, f64),
    /// When the first byte of the message comes after the second: mean, standard deviation, s.
    pub message_delay: (f64, f64),
    /// Weeks that the receiver's date is off by.
    pub weeks_off: i64,
    /// Our crystal's frequency error, s/s.
    pub frequency: f64,
    /// Its wander, (s/s)/sqrt(s).
    pub wander: f64,
    /// The system clock at the start: off by 10 to 100 ms, or standing at 1970.
    pub starts_in_1970: bool,
}

const ALWAYS: f64 = f64::INFINITY;

impl Scenario {
    /// All stories, the default first.
    pub fn all() -> Vec<Self> {
        let hat = Self {
            name: "gps-hat",
            shows: "A Raspberry Pi's GPS hat: messages and a pulse. The clock, up to 100 ms off and 12 ppm fast, is numbered, set and locked within seconds.",
            sky: vec![(2.0, ALWAYS)],
            pulse: true,
            pulse_jitter: 1e-6,
            pulse_late: (0.02, 20e-6),
            message_delay: (0.120, 0.020),
            weeks_off: 0,
            frequency: 12e-6,
            wander: 1e-9,
            starts_in_1970: false,
        };
        vec![
            hat.clone(),
            Self {
                name: "antenna-loss",
                shows: "Two minutes after the start the antenna is lost for three minutes. Watch the state go to holdover, the bound grow honestly, and the lock return without a pull.",
                sky: vec![(2.0, 120.0), (300.0, ALWAYS)],
                ..hat.clone()
            },
            Self {
                name: "nmea-only",
                shows: "No pulse is wired, and nobody knows how late the messages come. The clock is served as coarse, with a bound that says so.",
                pulse: false,
                ..hat.clone()
            },
            Self {
                name: "wrong-week",
                shows: "The receiver's week number has rolled over: it says 2006. The date is repaired, and the repair is told.",
                weeks_off: -1024,
                ..hat.clone()
            },
            Self {
                name: "cold-start",
                shows: "No battery: the system clock stands at 1970, and the receiver needs 40 s for its first fix. Until then clients are told not to use this clock.",
                sky: vec![(40.0, ALWAYS)],
                starts_in_1970: true,
                ..hat
            },
        ]
    }

    /// The story of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|s| s.name == name)
    }

    /// Does the receiver see the sky so many seconds after the start?
    pub fn sees_sky(&self, seconds: f64) -> bool {
        self.sky.iter().any(|(from, to)| seconds >= *from && seconds < *to)
    }
}
