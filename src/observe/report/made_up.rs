//! Snapshots made up for tests: a locked hat with two servers, the same in holdover, and a cold start.

use std::sync::Arc;

use refclocks::time::{Frequency, Raw, Span, Timestamp, Utc};
use refclocks::{
    Antenna, Constellation, DevicePhase, DeviceReason, DeviceState, Fix, Health, Jamming, LeapIndicator,
    ReceiverReport, ReferenceId, Satellite, Spoofing,
};

use crate::core::delays::DelayHistogram;
use crate::core::leap::UtcMap;
use crate::core::snapshot::{
    ClockKind, ClockReading, Coasting, CrystalTemperature, ErrorBound, Snapshot, SourceKind, SourceReport,
    SystemVariables,
};
use crate::core::state::{State, StateReason};
use crate::core::verdict::Verdict;

/// The reader's now: 100 000 s after boot.
pub(crate) const NOW: Timestamp<Raw> = Timestamp::from_parts(100_000, 0);
/// What true UTC is then: 2026-01-02T03:04:05.000123456Z.
const UTC: Timestamp<Utc> = Timestamp::from_parts(1_767_323_045, 123_456);

fn ago(seconds: i64) -> Timestamp<Raw> {
    NOW - Span::from_whole_seconds(seconds)
}

fn source(name: &str, kind: SourceKind) -> SourceReport {
    SourceReport {
        name: name.into(),
        refid: ReferenceId::from_name(name).unwrap_or(ReferenceId([192, 0, 2, 7])),
        driver: "ntp",
        address: name.into(),
        kind,
        device: None,
        server: None,
        stamps: None,
        verdict: Verdict::NoData,
        offset: None,
        interval: None,
        jitter: None,
        delay: None,
        delays: Arc::default(),
        bias: None,
        calibrated: false,
        reach: 0,
        poll: 0,
        stratum: 0,
        last_sample: None,
        samples: 0,
        health: Health::default(),
        receiver: None,
        sawtooth: None,
        edge: None,
        repair: None,
    }
}

/// Of a thousand messages, most 140 to 150 ms after the second.
fn delays() -> DelayHistogram {
    let mut delays = DelayHistogram::default();
    (0..1000).for_each(|k| delays.push(0.125 + if k % 10 == 0 { 0.03 } else { 0.02 } * f64::from(k % 7) / 6.0));
    delays
}

fn good(since: i64) -> Option<DeviceState> {
    Some(DeviceState { phase: DevicePhase::Good, reason: DeviceReason::Delivering, since: ago(since) })
}

/// Nine of fourteen satellites used.
pub(crate) fn sky() -> ReceiverReport {
    let list = [
        (Constellation::Gps, 5, 71, 122, 47, true),
        (Constellation::Gps, 15, 40, 210, 45, true),
        (Constellation::Glonass, 7, 65, 15, 44, true),
        (Constellation::Galileo, 19, 33, 301, 42, true),
        (Constellation::Gps, 13, 28, 80, 41, true),
        (Constellation::Galileo, 11, 25, 170, 38, true),
        (Constellation::Gps, 24, 21, 255, 36, true),
        (Constellation::BeiDou, 21, 18, 333, 34, true),
        (Constellation::Gps, 2, 15, 44, 33, true),
        (Constellation::Gps, 30, 9, 190, 24, false),
        (Constellation::Glonass, 22, 8, 12, 19, false),
    ];
    let satellites = list.map(|(constellation, number, elevation, azimuth, signal, used)| Satellite {
        constellation,
        number,
        elevation: Some(elevation),
        azimuth: Some(azimuth),
        signal: Some(signal),
        used,
    });
    ReceiverReport {
        fix: Some(Fix::ThreeD),
        satellites_used: Some(9),
        satellites: satellites.to_vec(),
        tai_minus_utc: Some(37),
        antenna: Some(Antenna::Ok),
        jamming: Some(Jamming::None),
        ..ReceiverReport::default()
    }
}

/// A hat that is locked, a server that agrees and one that does not.
pub(crate) fn locked() -> Snapshot {
    let map = UtcMap::default();
    let pps = SourceReport {
        driver: "pps",
        address: "/dev/pps0".into(),
        device: good(90_000),
        verdict: Verdict::Selected,
        offset: Some(-230e-9),
        interval: Some(403e-9),
        jitter: Some(84e-9),
        reach: 0xff,
        last_sample: Some(NOW - Span::from_millis(400)),
        samples: 89_990,
        health: Health { pulses: 89_995, missed_pulses: 2, opened: 1, ..Health::default() },
        ..source("PPS", SourceKind::Pulse)
    };
    let gps = SourceReport {
        driver: "nmea",
        address: "/dev/gps0".into(),
        device: good(90_000),
        verdict: Verdict::NamesTheSecond { pulse: "PPS".into() },
        offset: Some(3.1e-3),
        interval: Some(0.040),
        jitter: Some(3.1e-3),
        delay: Some(0.1421),
        delays: Arc::new(delays()),
        calibrated: true,
        reach: 0xff,
        last_sample: Some(NOW - Span::from_millis(260)),
        samples: 89_000,
        health: Health { bytes: 40_123_456, frames: 540_000, samples: 89_000, opened: 1, ..Health::default() },
        receiver: Some(sky()),
        ..source("GPS", SourceKind::Message)
    };
    let near = SourceReport {
        verdict: Verdict::Agrees { interval_s: 1.15e-3 },
        server: Some(("answering".into(), None)),
        offset: Some(31.2e-6),
        interval: Some(1.15e-3),
        jitter: Some(18e-6),
        delay: Some(412e-6),
        reach: 0xff,
        poll: 6,
        stratum: 1,
        last_sample: Some(ago(22)),
        samples: 1400,
        ..source("ntp.example.org", SourceKind::Network)
    };
    let far = SourceReport {
        verdict: Verdict::Falseticker { offset_s: -4.12e-3, interval_s: 1.9e-3 },
        server: Some(("answering".into(), None)),
        offset: Some(-4.12e-3),
        interval: Some(1.9e-3),
        jitter: Some(1.2e-3),
        delay: Some(11.3e-3),
        reach: 0b1111_1101,
        poll: 6,
        stratum: 1,
        last_sample: Some(ago(41)),
        samples: 1390,
        ..source("203.0.113.9", SourceKind::Network)
    };
    Snapshot {
        at: NOW - Span::from_millis(390),
        valid_until: NOW + Span::from_whole_seconds(60),
        asleep: Span::ZERO,
        started: ago(90_060),
        clock: ClockReading { raw: NOW, tai: map.tai(UTC, false), rate: 0.0 },
        clock_kind: ClockKind::Own,
        clock_refusal: None,
        leap_left: None,
        rival_seen: None,
        utc: map,
        bound: ErrorBound {
            raw: NOW,
            fixed: 100e-9,
            path: 0.0,
            residual: 0.0,
            variance: [(90e-9f64).powi(2), 0.0, 1e-20, 0.0],
            coasting: Coasting::since(NOW),
            doubt: 1.0,
            factor: 3.3488,
        },
        system: SystemVariables {
            leap: LeapIndicator::None,
            stratum: 1,
            refid: ReferenceId(*b"PPS\0"),
            root_delay: 0.0,
            precision: -24,
            reference_time: Some(UTC.floor()),
        },
        state: State::Locked,
        state_since: ago(89_940),
        previous_state: Some(State::Coarse),
        reason: StateReason::PulseAndSecondAgree { source: "PPS".into() },
        offset: Some(-230e-9),
        frequency: Some(Frequency(-4.231e-6)),
        frequency_sd: 0.8e-9,
        temperature: Some(CrystalTemperature { celsius: 48.3, coefficient: Some(-61e-9) }),
        holdover_budget: 1e-3,
        would_last_s: Some(21_600.0),
        sources: Arc::from([pps, gps, near, far]),
    }
}

/// The same after the antenna was pulled 14 minutes ago, and with a receiver that hears noise.
pub(crate) fn holdover() -> Snapshot {
    let base = locked();
    let mut sources = base.sources.to_vec();
    if let [pps, gps, near, _] = sources.as_mut_slice() {
        let quiet = DeviceReason::Quiet { silence: Span::from_whole_seconds(840) };
        pps.device = Some(DeviceState { phase: DevicePhase::Stale, reason: quiet, since: ago(838) });
        pps.verdict = Verdict::NoData;
        pps.reach = 0;
        pps.last_sample = Some(ago(840));
        let no_fix = DeviceReason::NoFix { satellites_used: Some(0) };
        gps.device = Some(DeviceState { phase: DevicePhase::WaitingForFix, reason: no_fix, since: ago(839) });
        gps.verdict = Verdict::NoData;
        gps.reach = 0;
        gps.last_sample = Some(ago(840));
        let mut receiver = sky();
        receiver.fix = Some(Fix::None);
        receiver.satellites_used = Some(0);
        receiver.satellites.clear();
        receiver.antenna = Some(Antenna::Open);
        receiver.jamming = Some(Jamming::Critical);
        receiver.spoofing = Some(Spoofing::Indicated);
        gps.receiver = Some(receiver);
        near.verdict = Verdict::Agrees { interval_s: 1.15e-3 };
    }
    Snapshot {
        bound: ErrorBound { variance: [(2.7e-6f64).powi(2), 0.0, 1e-18, 0.0], ..base.bound },
        state: State::Holdover,
        state_since: ago(836),
        previous_state: Some(State::Locked),
        reason: StateReason::NoReference { for_s: 839.61, remaining_s: Some(20_400.39) },
        would_last_s: Some(20_400.0),
        offset: Some(120e-9),
        sources: Arc::from(sources),
        ..base
    }
}

/// A receiver that waits for its first fix, beside a device that is not there.
pub(crate) fn starting() -> Snapshot {
    let base = locked();
    let started = ago(12);
    let missing = DeviceReason::NoSuchDevice { path: "/dev/pps0".into() };
    let no_fix = DeviceReason::NoFix { satellites_used: None };
    let pps = SourceReport {
        driver: "pps",
        address: "/dev/pps0".into(),
        device: Some(DeviceState { phase: DevicePhase::Absent, reason: missing, since: ago(12) }),
        ..source("PPS", SourceKind::Pulse)
    };
    let gps = SourceReport {
        driver: "nmea",
        address: "/dev/gps0".into(),
        device: Some(DeviceState { phase: DevicePhase::WaitingForFix, reason: no_fix, since: ago(11) }),
        health: Health { bytes: 900, frames: 12, no_fix: 11, opened: 1, ..Health::default() },
        ..source("GPS", SourceKind::Message)
    };
    let server = SourceReport {
        verdict: Verdict::Unreachable,
        server: Some((
            "no answer from 192.0.2.7 to 3 requests".into(),
            Some("Check that UDP port 123 is open on the way.".into()),
        )),
        poll: 6,
        stratum: 16,
        ..source("ntp.example.org", SourceKind::Network)
    };
    Snapshot {
        started,
        bound: ErrorBound::unknown(),
        system: SystemVariables::UNSYNCHRONISED,
        state: State::Unsynchronised,
        state_since: started,
        previous_state: None,
        reason: StateReason::NothingYet,
        offset: None,
        frequency: None,
        frequency_sd: f64::INFINITY,
        temperature: None,
        would_last_s: None,
        sources: Arc::from([pps, gps, server]),
        ..base
    }
}
