//! A PTP hardware clock of a network card, without I/O: as a clock that knows the time (a PTP client
//! such as ptp4l steers it), or as what stamps a receiver's pulse on one of its inputs.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::device::{DevicePhase, DeviceReason, DeviceState, Health};
use crate::pps::{PpsInfo, Tracker};
use crate::report::{Edge, LocalStamp, Report, Sample};
use crate::sys::clock::Bracket;
use crate::time::{Raw, Realtime, Span, Tai, Timestamp, Utc};

/// CLOCK_REALTIME, the device's clock, and CLOCK_REALTIME again, read one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triple {
    /// CLOCK_REALTIME before.
    pub before: Timestamp<Realtime>,
    /// The device's clock, on whatever scale it is kept.
    pub device: Timestamp<Tai>,
    /// CLOCK_REALTIME after.
    pub after: Timestamp<Realtime>,
}

/// The device's clock beside CLOCK_REALTIME.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// Both at one instant, by the hardware.
    Precise {
        /// The device's clock, on whatever scale it is kept.
        device: Timestamp<Tai>,
        /// CLOCK_REALTIME.
        realtime: Timestamp<Realtime>,
    },
    /// One between two readings of the other, several times.
    Bracketed(Vec<Triple>),
}

/// When an input of the device saw an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// By the device's clock.
    pub at: Timestamp<Tai>,
    /// Which input.
    pub channel: u32,
}

/// The best that a reading says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// CLOCK_REALTIME.
    pub realtime: Timestamp<Realtime>,
    /// The device's clock at that instant.
    pub device: Timestamp<Tai>,
    /// Half-width of the interval in which they were read.
    pub half_width: Span,
}

/// The device's clock beside CLOCK_MONOTONIC_RAW.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// CLOCK_MONOTONIC_RAW.
    pub raw: Timestamp<Raw>,
    /// The device's clock at that instant, on whatever scale it is kept.
    pub device: Timestamp<Tai>,
    /// Half-width of the interval in which they were read.
    pub half_width: Span,
}

impl Pair {
    /// The same on the raw scale, by what CLOCK_REALTIME was of it before and after. `None` if CLOCK_REALTIME was
    /// set meanwhile.
    pub fn carried_over(&self, before: &Bracket, after: &Bracket) -> Option<Crossing> {
        let half = |span: Span| Span::from_seconds(span.seconds() / 2.0);
        let width = |b: &Bracket| half(b.raw_after - b.raw_before);
        let middle = |b: &Bracket| b.raw_before + width(b);
        let raw = (middle(after) - middle(before)).seconds();
        let realtime = (after.realtime - before.realtime).seconds();
        // No slew is faster than a tenth; the readings themselves are a little rough.
        let rough = (width(before) + width(after)).seconds();
        if raw <= 0.0 || realtime <= 0.0 || (realtime - raw).abs() > 0.1 * raw + rough {
            return None;
        }
        let since = (self.realtime - before.realtime).seconds();
        if since < 0.0 || since > realtime {
            return None;
        }
        let raw = middle(before) + Span::from_seconds(since * raw / realtime);
        let half_width = self.half_width + width(before).max(width(after));
        Some(Crossing { raw, device: self.device, half_width })
    }
}

/// An instant by hardware is not told more finely than this.
const FINEST: Span = Span::from_nanos(4);

impl Reading {
    /// The narrowest of its brackets. `None` if there is none, or CLOCK_REALTIME was set meanwhile.
    pub fn best(&self) -> Option<Pair> {
        match self {
            Self::Precise { device, realtime } => {
                Some(Pair { realtime: *realtime, device: *device, half_width: FINEST })
            }
            Self::Bracketed(triples) => {
                let widths = triples.iter().map(|t| (t.after - t.before, t)).filter(|(width, _)| *width >= Span::ZERO);
                let (width, best) = widths.min_by_key(|(width, _)| *width)?;
                let half_width = Span::from_nanos(width.nanos() / 2);
                Some(Pair {
                    realtime: best.before + half_width,
                    device: best.device,
                    half_width: half_width.max(FINEST),
                })
            }
        }
    }
}

/// Which time a hardware clock keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockScale {
    /// TAI, as PTP has it.
    #[default]
    Tai,
    /// UTC.
    Utc,
}

/// Reads a hardware clock that knows the time.
#[derive(Debug)]
pub struct ClockReader {
    scale: ClockScale,
    /// No date before this is possible.
    not_before: Timestamp<Utc>,
    last: Option<Timestamp<Tai>>,
    health: Health,
    state: Option<DeviceState>,
    reports: VecDeque<Report>,
}

impl ClockReader {
    /// A reader that has seen nothing.
    pub fn new(scale: ClockScale, not_before: Timestamp<Utc>) -> Self {
        Self { scale, not_before, last: None, health: Health::default(), state: None, reports: VecDeque::new() }
    }

    /// The device was opened.
    pub fn handle_open(&mut self, now: Timestamp<Raw>) {
        self.health.opened += 1;
        self.last = None;
        self.become_state(DevicePhase::Opening, DeviceReason::Silent, now);
    }

    /// The device could not be opened, or went away.
    pub fn handle_fault(&mut self, phase: DevicePhase, reason: DeviceReason, now: Timestamp<Raw>) {
        self.become_state(phase, reason, now);
    }

    /// What was read. `to_utc` tells UTC of TAI, and whether it lies within an inserted second.
    pub fn handle_reading(
        &mut self,
        reading: &Reading,
        to_utc: impl Fn(Timestamp<Tai>) -> (Timestamp<Utc>, bool),
        now: &Bracket,
    ) {
        self.health.frames += 1;
        let Some(pair) = reading.best() else {
            self.health.malformed += 1;
            return;
        };
        let (utc, in_leap) = match self.scale {
            ClockScale::Tai => to_utc(pair.device),
            ClockScale::Utc => (pair.device.reinterpret(), false),
        };
        if utc < self.not_before {
            self.health.no_fix += 1;
            let date = format!("{utc:.0}");
            self.become_state(DevicePhase::WaitingForFix, DeviceReason::ImpossibleDate { date }, now.raw_after);
            return;
        }
        // A clock that stands still, and a second that has two names, are of no use.
        if self.last.replace(pair.device) == Some(pair.device) || in_leap {
            self.health.stale += 1;
            return;
        }
        self.health.samples += 1;
        self.become_state(DevicePhase::Good, DeviceReason::Delivering, now.raw_after);
        let local = LocalStamp::Realtime(pair.realtime);
        let sample = Sample { local, reference: utc, second60: false, quantum: pair.half_width, leap: None };
        self.reports.push_back(Report::Sample(sample));
    }

    /// The next report.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// The counters.
    pub fn health(&self) -> Health {
        self.health
    }

    fn become_state(&mut self, phase: DevicePhase, reason: DeviceReason, since: Timestamp<Raw>) {
        let change = DeviceState::change(&mut self.state, phase, reason, since);
        self.reports.extend(change.map(Report::State));
    }
}

/// Follows the pulse on an input of a hardware clock, whatever time that clock keeps: an edge is carried
/// over to CLOCK_REALTIME by a reading that was made right after it.
#[derive(Debug)]
pub struct InputReader {
    channel: u32,
    edge: Edge,
    info: PpsInfo,
    tracker: Tracker,
}

impl InputReader {
    /// A reader of one edge of one input, that has seen nothing.
    pub fn new(channel: u32, edge: Edge) -> Self {
        Self { channel, edge, info: PpsInfo::default(), tracker: Tracker::new(Some(edge)) }
    }

    /// The rest is a pulse's, as of any other device.
    pub fn tracker(&mut self) -> &mut Tracker {
        &mut self.tracker
    }

    /// Edges came, and the clock was read after them at `now`. Without any, time passed.
    pub fn handle_events(&mut self, events: &[Event], reading: &Reading, now: &Bracket) {
        let ours: Vec<&Event> = events.iter().filter(|event| event.channel == self.channel).collect();
        let (sequence, stamp) = match self.edge {
            Edge::Assert => (&mut self.info.assert_sequence, &mut self.info.assert),
            Edge::Clear => (&mut self.info.clear_sequence, &mut self.info.clear),
        };
        if let (Some(last), Some(pair)) = (ours.last(), reading.best()) {
            *sequence = sequence.wrapping_add(ours.len() as u32);
            *stamp = pair.realtime + (last.at - pair.device);
        }
        self.tracker.handle_fetch(&self.info, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CLOCK_REALTIME, ns after a second of our days.
    fn realtime(nanos: i64) -> Timestamp<Realtime> {
        Timestamp::from_parts(1_795_319_391, 0) + Span::from_nanos(nanos)
    }

    fn device(nanos: i64) -> Timestamp<Tai> {
        Timestamp::from_parts(1_795_319_391 + 37, 0) + Span::from_nanos(nanos)
    }

    fn bracket(nanos: i64) -> Bracket {
        let raw = Timestamp::EPOCH + Span::from_whole_seconds(1000) + Span::from_nanos(nanos);
        Bracket { raw_before: raw, realtime: realtime(nanos), raw_after: raw }
    }

    fn to_utc(tai: Timestamp<Tai>) -> (Timestamp<Utc>, bool) {
        ((tai - Span::from_whole_seconds(37)).reinterpret(), false)
    }

    fn triple(before: i64, at: i64, after: i64) -> Triple {
        Triple { before: realtime(before), device: device(at), after: realtime(after) }
    }

    fn samples(reader: &mut ClockReader) -> Vec<Sample> {
        let reports = std::iter::from_fn(|| reader.poll_report());
        reports.filter_map(|report| if let Report::Sample(sample) = report { Some(sample) } else { None }).collect()
    }

    #[test]
    fn the_narrowest_bracket_counts() {
        let reading = Reading::Bracketed(vec![triple(0, 700, 9000), triple(10_000, 10_480, 10_800), triple(5, 6, 2)]);
        let pair = reading.best().unwrap();
        assert!((pair.realtime - realtime(10_400)).abs() < Span::from_nanos(1));
        assert_eq!((pair.device, pair.half_width), (device(10_480), Span::from_nanos(400)));
        assert_eq!(Reading::Bracketed(vec![triple(5, 6, 2)]).best(), None, "the system clock was set");
        assert_eq!(Reading::Bracketed(vec![]).best(), None);
    }

    #[test]
    fn a_reading_is_carried_over_to_the_raw_scale() {
        let at = |raw: i64, real: i64| Bracket { realtime: realtime(real), ..bracket(raw) };
        let pair = Pair { realtime: realtime(50_050), device: device(7), half_width: Span::from_nanos(300) };
        // CLOCK_REALTIME is slewed at 1000 ppm.
        let crossing = pair.carried_over(&at(0, 0), &at(100_000, 100_100)).unwrap();
        assert!((crossing.raw - bracket(50_000).raw_before).abs() < Span::from_nanos(2), "{crossing:?}");
        assert_eq!((crossing.device, crossing.half_width), (device(7), Span::from_nanos(300)));
        assert_eq!(pair.carried_over(&at(0, 0), &at(100_000, 900_000)), None, "it was stepped");
        assert_eq!(pair.carried_over(&at(0, 60_000), &at(100_000, 160_000)), None, "before the bracket");
        assert_eq!(pair.carried_over(&at(0, 0), &at(0, 0)), None);
    }

    #[test]
    fn a_clock_on_tai_gives_utc() {
        let mut reader = ClockReader::new(ClockScale::Tai, Timestamp::from_parts(1_700_000_000, 0));
        let precise = |nanos| Reading::Precise { device: device(nanos + 80), realtime: realtime(nanos) };
        reader.handle_reading(&precise(0), to_utc, &bracket(0));
        let [sample] = samples(&mut reader)[..] else { unreachable!() };
        let LocalStamp::Realtime(local) = sample.local else { unreachable!() };
        assert_eq!((sample.reference - local.reinterpret()).nanos(), 80);
        // It stands still.
        reader.handle_reading(&precise(0), to_utc, &bracket(1_000_000_000));
        assert_eq!((samples(&mut reader).len(), reader.health().stale), (0, 1));
    }

    #[test]
    fn a_clock_that_nobody_has_set_gives_nothing() {
        let mut reader = ClockReader::new(ClockScale::Utc, Timestamp::from_parts(1_700_000_000, 0));
        let reading = Reading::Precise { device: Timestamp::from_parts(77, 0), realtime: realtime(0) };
        reader.handle_reading(&reading, to_utc, &bracket(0));
        let Some(Report::State(state)) = reader.poll_report() else { unreachable!() };
        assert_eq!(state.phase, DevicePhase::WaitingForFix);
        assert!(state.reason.to_string().contains("1970-01-01"), "{}", state.reason);
        assert_eq!(reader.poll_report(), None);
    }

    #[test]
    fn an_edge_on_an_input_is_a_pulse_by_the_system_clock() {
        // The device's clock is 37 s and 0.3 s off, which does not matter.
        let off = Span::from_millis(300);
        let mut reader = InputReader::new(1, Edge::Assert);
        reader.tracker().handle_open(bracket(0).raw_after);
        let mut stamps = Vec::new();
        for second in 1..6i64 {
            let (edge, now) = (second * 1_000_000_000 + 250, second * 1_000_000_000 + 900_000);
            let reading = Reading::Precise { device: device(now) + off, realtime: realtime(now) };
            let events =
                [Event { at: device(edge) + off, channel: 1 }, Event { at: device(edge + 77) + off, channel: 0 }];
            reader.handle_events(&events, &reading, &bracket(now));
            while let Some(report) = reader.tracker().poll_report() {
                if let Report::Pulse(pulse) = report {
                    stamps.push((pulse.local, pulse.missed));
                }
            }
        }
        assert_eq!(stamps.len(), 5);
        for (second, (local, missed)) in (1..).zip(stamps) {
            let LocalStamp::Realtime(at) = local else { unreachable!() };
            assert!((at - realtime(second * 1_000_000_000 + 250)).abs() < Span::from_nanos(1), "{at:?}");
            assert_eq!(missed, 0);
        }
        // Nothing more comes.
        for second in 7..10i64 {
            let now = bracket(second * 1_000_000_000);
            reader.handle_events(&[], &Reading::Bracketed(vec![]), &now);
        }
        let states: Vec<_> = std::iter::from_fn(|| reader.tracker().poll_report()).collect();
        assert!(matches!(&states[..], [Report::State(s)] if s.phase == DevicePhase::Stale), "{states:?}");
    }
}
