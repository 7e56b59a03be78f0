//! What we know, told to another daemon of this machine: through NTP shared memory or chrony's SOCK.
//!
//! Telling never waits. A reader that is not there yet is looked for at each telling.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use super::shm::{judge, refused};
use crate::device::DeviceReason;
use crate::report::LeapIndicator;
use crate::shm::Segment;
use crate::sock::{TimeWidth, write};
use crate::sys::shm::{ShmSegment, find};
use crate::time::{Realtime, Timestamp, Utc};

/// A reader, and how it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedConfig {
    /// A unit of NTP shared memory.
    Shm {
        /// Unit, 0 to 255.
        unit: u8,
        /// Use a segment that others than root and we can write.
        trust_owner: bool,
    },
    /// The SOCK socket of a chronyd.
    Sock {
        /// Its path.
        path: PathBuf,
        /// How wide time is to that chronyd.
        time: TimeWidth,
    },
}

/// The local clock beside the time it ought to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// CLOCK_REALTIME at an instant.
    pub local: Timestamp<Realtime>,
    /// UTC at that instant.
    pub reference: Timestamp<Utc>,
    /// What is known of a leap second to come.
    pub leap: LeapIndicator,
    /// How well that is known, log2 s.
    pub precision: i8,
}

/// Tells one reader.
#[derive(Debug)]
pub struct Feed {
    config: FeedConfig,
    segment: Option<ShmSegment>,
    socket: Option<UnixDatagram>,
    /// Tellings since the segment was last looked for.
    told: u32,
}

/// A segment may be removed and made anew: so many tellings, and it is looked for again.
const LOOK_AGAIN: u32 = 16;

impl Feed {
    /// A reader that was not told anything yet. `segment` is its memory, if it is attached already.
    pub fn new(config: FeedConfig, segment: Option<ShmSegment>) -> Self {
        Self { config, segment, socket: None, told: 0 }
    }

    /// How it is told.
    pub fn config(&self) -> &FeedConfig {
        &self.config
    }

    /// Tells it.
    ///
    /// # Errors
    ///
    /// Why it cannot be told now. The next telling tries anew.
    pub fn tell(&mut self, comparison: &Comparison) -> Result<(), DeviceReason> {
        match self.config.clone() {
            FeedConfig::Shm { unit, trust_owner } => self.write_segment(unit, trust_owner, comparison),
            FeedConfig::Sock { path, time } => self.send(&path, time, comparison),
        }
    }

    fn write_segment(&mut self, unit: u8, trust_owner: bool, comparison: &Comparison) -> Result<(), DeviceReason> {
        self.told = self.told.wrapping_add(1);
        if self.told.is_multiple_of(LOOK_AGAIN) && self.segment.as_ref().is_some_and(|s| is_another(unit, s)) {
            self.segment = None;
        }
        let segment = match self.segment.take() {
            Some(segment) => segment,
            None => {
                let facts = find(unit).map_err(|error| refused(unit, &error).1)?;
                judge(facts, unit, trust_owner)?;
                ShmSegment::attach(facts).map_err(|error| refused(unit, &error).1)?
            }
        };
        segment.publish(&segment_of(comparison));
        self.segment = Some(segment);
        Ok(())
    }

    fn send(&mut self, path: &std::path::Path, time: TimeWidth, comparison: &Comparison) -> Result<(), DeviceReason> {
        let bytes = write(comparison.local, comparison.reference, comparison.leap, time);
        let connect = || {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            socket.connect(path)?;
            Ok(socket)
        };
        let sent = self.socket.take().map_or_else(connect, Ok).and_then(|socket| socket.send(&bytes).map(|_| socket));
        match sent {
            Ok(socket) => {
                self.socket = Some(socket);
                Ok(())
            }
            Err(error) => {
                let path = path.to_string_lossy().into_owned();
                Err(match error.kind() {
                    // A socket that nobody reads any more: its owner is gone.
                    std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound => {
                        DeviceReason::NobodyListens { path }
                    }
                    _ => super::explain_open(path, &error).1,
                })
            }
        }
    }
}

/// Has the unit another segment by now?
fn is_another(unit: u8, segment: &ShmSegment) -> bool {
    find(unit).is_ok_and(|facts| facts.id != segment.facts().id)
}

fn segment_of(comparison: &Comparison) -> Segment {
    // Microseconds are cut off, never rounded: readers compare them with the nanoseconds.
    let parts = |(seconds, nanos): (i64, u32)| (seconds, (nanos / 1000) as i32, nanos);
    Segment {
        clock: parts(comparison.reference.to_parts()),
        receive: parts(comparison.local.to_parts()),
        leap: i32::from(comparison.leap.bits()),
        precision: i32::from(comparison.precision),
        ..Segment::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn comparison() -> Comparison {
        Comparison {
            local: Timestamp::from_parts(1_795_319_391, 501_234),
            reference: Timestamp::from_parts(1_795_319_391, 0),
            leap: LeapIndicator::None,
            precision: -20,
        }
    }

    #[test]
    fn a_chronyd_that_comes_late_goes_and_comes_back_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chrony.sock");
        let mut feed = Feed::new(FeedConfig::Sock { path: path.clone(), time: TimeWidth::Bits64 }, None);
        let nobody = DeviceReason::NobodyListens { path: path.to_string_lossy().into_owned() };
        assert_eq!(feed.tell(&comparison()), Err(nobody.clone()));
        for _ in 0..2 {
            let chronyd = UnixDatagram::bind(&path).unwrap();
            assert_eq!(feed.tell(&comparison()), Ok(()));
            let mut bytes = [0; 64];
            let n = chronyd.recv(&mut bytes).unwrap();
            let (sample, _) = crate::sock::parse(&bytes[..n]).unwrap();
            let expected = Timestamp::from_parts(1_795_319_391, 0) - crate::Span::from_nanos(234);
            assert!((sample.reference - expected).abs() < crate::Span::from_nanos(1));
            drop(chronyd);
            // A child that another test is starting at this moment holds the socket open until it runs.
            let patience = Instant::now() + Duration::from_secs(5);
            let told = std::iter::repeat_with(|| feed.tell(&comparison()));
            let last = told.take_while(|told| told.is_ok() && Instant::now() < patience).count();
            assert_eq!(feed.tell(&comparison()), Err(nobody.clone()), "after {last} more");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_segment_says_what_was_told() {
        let segment = segment_of(&comparison());
        assert_eq!((segment.clock, segment.receive), ((1_795_319_391, 0, 0), (1_795_319_391, 501, 501_234)));
        let copy = Segment { mode: 1, valid: 1, ..segment };
        assert_eq!(crate::shm::parse(&copy, 0).unwrap().reference, comparison().reference);
    }
}
