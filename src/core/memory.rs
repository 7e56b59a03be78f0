//! What outlives a restart: frequency, wander, learned delays, the last good UTC. The drift file.

use refclocks::calendar::parse_iso8601;
use refclocks::time::{Span, Timestamp, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::delays::DelayHistogram;
use super::holdover::Growth;
use super::noise::KnownNoise;

/// The version of the file's format.
const VERSION: u32 = 1;
/// Bins of a histogram that are written.
const BINS: usize = 512;
/// Nobody runs this program for so long after it was released.
const CENTURY: Span = Span::from_whole_seconds(36_525 * 86_400);

/// Can it be this time, however wrong the clock or the source that says so?
pub fn is_a_date(at: Timestamp<Utc>) -> bool {
    Timestamp::EPOCH <= at && at < crate::NOT_BEFORE + CENTURY
}

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Our crystal's frequency error and its standard deviation, s/s.
    pub frequency: Option<Value>,
    /// log10 of the wander variance q2, (s/s)^2/s.
    pub lg_wander: Option<f64>,
    /// How far the clock goes when nothing feeds it.
    pub growth: Option<Growth>,
    /// UTC when it was written, by a clock that was right.
    pub last_utc: Option<Timestamp<Utc>>,
    delays: Vec<(String, Delay)>,
    noises: Vec<(String, KnownNoise)>,
    histograms: Vec<(String, DelayHistogram)>,
}

/// A value and its standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// The value.
    pub value: f64,
    /// Its standard deviation.
    pub sd: f64,
}

/// A learned message delay, s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delay {
    /// Mean.
    pub mean: f64,
    /// Standard deviation of single messages.
    pub sd: f64,
}

/// Why a drift file is ignored.
#[derive(Debug, Error, PartialEq)]
pub enum MemoryError {
    /// Not what we write.
    #[error("it is not a drift file of refclockd ({0})")]
    Malformed(String),
    /// Written by another version.
    #[error("it is of format {0}, and this program knows format {VERSION}")]
    Version(u32),
    /// A number that no clock has.
    #[error("its {0} is absurd")]
    Absurd(&'static str),
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_utc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_ppm: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_sd_ppm: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lg_wander: Option<f64>,
    /// One standard deviation after coasting for 64, 128, ... 4096 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    holdover_sd_s: Option<Vec<f64>>,
    #[serde(default)]
    delay: Vec<FileDelay>,
    #[serde(default)]
    noise: Vec<FileNoise>,
    #[serde(default)]
    delay_histogram: Vec<FileHistogram>,
}

/// How late a source's messages came.
#[derive(Serialize, Deserialize)]
struct FileHistogram {
    source: String,
    /// Hundredths of a second after the second, and how many messages came within that one.
    bins: Vec<(i32, u32)>,
}

#[derive(Serialize, Deserialize)]
struct FileNoise {
    source: String,
    jitter_s: f64,
    /// Probability.
    late: f64,
    lateness_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    least_delay_s: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct FileDelay {
    source: String,
    mean_s: f64,
    sd_s: f64,
}

impl Memory {
    /// The delay of a source, if it was learned.
    pub fn delay(&self, source: &str) -> Option<Delay> {
        self.delays.iter().find(|(name, _)| name == source).map(|(_, delay)| *delay)
    }

    /// Remembers a delay, s.
    pub fn set_delay(&mut self, source: &str, mean: f64, sd: f64) {
        self.delays.retain(|(name, _)| name != source);
        self.delays.push((source.to_owned(), Delay { mean, sd }));
    }

    /// The noise of a source, if it was learned.
    pub fn noise(&self, source: &str) -> Option<KnownNoise> {
        self.noises.iter().find(|(name, _)| name == source).map(|(_, noise)| *noise)
    }

    /// Remembers a noise.
    pub fn set_noise(&mut self, source: &str, noise: KnownNoise) {
        self.noises.retain(|(name, _)| name != source);
        self.noises.push((source.to_owned(), noise));
    }

    /// How late a source's messages came, if that was counted.
    pub fn histogram(&self, source: &str) -> Option<&DelayHistogram> {
        self.histograms.iter().find(|(name, _)| name == source).map(|(_, histogram)| histogram)
    }

    /// Remembers how late they came.
    pub fn set_histogram(&mut self, source: &str, histogram: &DelayHistogram) {
        self.histograms.retain(|(name, _)| name != source);
        self.histograms.push((source.to_owned(), histogram.clone()));
    }

    /// Remembers the frequency error and its standard deviation, s/s.
    pub fn set_frequency(&mut self, value: f64, sd: f64) {
        self.frequency = Some(Value { value, sd });
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let file = File {
            version: VERSION,
            last_utc: self.last_utc.map(|at| at.to_string()),
            frequency_ppm: self.frequency.map(|f| f.value * 1e6),
            frequency_sd_ppm: self.frequency.map(|f| f.sd * 1e6),
            lg_wander: self.lg_wander,
            holdover_sd_s: self.growth.map(|growth| growth.deviations().to_vec()),
            delay: self
                .delays
                .iter()
                .map(|(source, d)| FileDelay { source: source.clone(), mean_s: d.mean, sd_s: d.sd })
                .collect(),
            noise: self
                .noises
                .iter()
                .map(|(source, KnownNoise { jitter, late: (late, lateness), least_delay })| FileNoise {
                    source: source.clone(),
                    jitter_s: *jitter,
                    late: *late,
                    lateness_s: *lateness,
                    least_delay_s: *least_delay,
                })
                .collect(),
            delay_histogram: (self.histograms.iter())
                .map(|(source, histogram)| FileHistogram { source: source.clone(), bins: histogram.bins(BINS) })
                .collect(),
        };
        // A structure of numbers and names always serialises.
        toml::to_string(&file).unwrap_or_default()
    }

    /// Reads the file's text. All or nothing: a file that is absurd in one place is not believed in
    /// another.
    pub fn from_text(text: &str) -> Result<Self, MemoryError> {
        let file: File = toml::from_str(text).map_err(|e| MemoryError::Malformed(e.message().to_owned()))?;
        if file.version != VERSION {
            return Err(MemoryError::Version(file.version));
        }
        let within = |v: f64, limit: f64, what| {
            if v.is_finite() && v.abs() <= limit { Ok(v) } else { Err(MemoryError::Absurd(what)) }
        };
        let mut memory = Self::default();
        if let Some(ppm) = file.frequency_ppm {
            let value = within(ppm, 1000.0, "frequency")? * 1e-6;
            let sd = within(file.frequency_sd_ppm.unwrap_or(1.0), 1000.0, "frequency's deviation")?.abs() * 1e-6;
            memory.frequency = Some(Value { value, sd });
        }
        if let Some(lg_wander) = file.lg_wander {
            memory.lg_wander = Some(within(lg_wander, 30.0, "wander")?);
        }
        if let Some(deviations) = &file.holdover_sd_s {
            memory.growth = Some(Growth::from_deviations(deviations).ok_or(MemoryError::Absurd("holdover"))?);
        }
        if let Some(utc) = &file.last_utc {
            // Our clock would start there, and no receiver's date be believed before it.
            let date = parse_iso8601(utc).filter(|(at, _)| is_a_date(*at));
            memory.last_utc = Some(date.ok_or(MemoryError::Absurd("date"))?.0);
        }
        for d in &file.delay {
            memory.set_delay(
                &d.source,
                within(d.mean_s, 10.0, "delay")?,
                within(d.sd_s, 10.0, "delay's deviation")?.abs(),
            );
        }
        for FileNoise { source, jitter_s, late, lateness_s, least_delay_s } in &file.noise {
            let positive = |v: f64, limit: f64| within(v, limit, "noise").map(f64::abs);
            let noise = KnownNoise {
                jitter: positive(*jitter_s, 10.0)?,
                late: (positive(*late, 0.4)?, positive(*lateness_s, 10.0)?),
                least_delay: least_delay_s.map(|delay| positive(delay, 10.0)).transpose()?,
            };
            memory.set_noise(source, noise);
        }
        for FileHistogram { source, bins } in &file.delay_histogram {
            let histogram = DelayHistogram::from_bins(bins).ok_or(MemoryError::Absurd("delay histogram"))?;
            memory.set_histogram(source, &histogram);
        }
        Ok(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn round_trips() {
        let mut memory = Memory {
            lg_wander: Some(-18.2),
            growth: Some(Growth::default()),
            last_utc: Some(Timestamp::from_parts(1_767_225_600, 0)),
            ..Memory::default()
        };
        memory.set_frequency(-4.25e-6, 1e-9);
        memory.set_delay("GPS", 0.142, 0.004);
        memory.set_noise("PPS", KnownNoise { jitter: 1e-6, late: (0.02, 20e-6), least_delay: Some(2e-4) });
        let mut delays = DelayHistogram::default();
        (0..100).for_each(|k| delays.push(0.14 + f64::from(k % 3) * 0.01));
        memory.set_histogram("GPS", &delays);
        let again = Memory::from_text(&memory.to_text()).unwrap();
        assert_eq!((again.histogram("GPS"), again.histogram("PPS")), (Some(&delays), None));
        assert_eq!(again.delay("GPS"), memory.delay("GPS"));
        assert_eq!(again.noise("PPS"), memory.noise("PPS"));
        assert_eq!(again.last_utc, memory.last_utc);
        let far = |memory: &Memory| memory.growth.unwrap().variance(5000.0).sqrt();
        assert!((far(&again) - far(&memory)).abs() < 1e-12);
        assert!((again.frequency.unwrap().value + 4.25e-6).abs() < 1e-18);
    }

    #[test]
    fn bad_files_are_refused_with_a_word() {
        let error = |text: &str| Memory::from_text(text).unwrap_err().to_string();
        assert!(error("").starts_with("it is not a drift file"));
        assert!(error("12.5 0.3").starts_with("it is not a drift file"));
        assert_eq!(error("version = 7"), "it is of format 7, and this program knows format 1");
        assert_eq!(error("version = 1\nfrequency_ppm = nan"), "its frequency is absurd");
        assert_eq!(error("version = 1\nholdover_sd_s = [1e-6]"), "its holdover is absurd");
        let noise = "version = 1\n[[noise]]\nsource = \"PPS\"\njitter_s = 1e-6\nlate = 3.0\nlateness_s = 1e-5";
        assert_eq!(error(noise), "its noise is absurd");
        let bins = "version = 1\n[[delay_histogram]]\nsource = \"GPS\"\nbins = [[12, 3], [12, 4]]";
        assert_eq!(error(bins), "its delay histogram is absurd");
        assert_eq!(error("version = 1\nlast_utc = \"soon\""), "its date is absurd");
        assert_eq!(error("version = 1\nlast_utc = \"9999-12-31T23:59:60Z\""), "its date is absurd");
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = Memory::from_text(&text);
        }
    }
}
