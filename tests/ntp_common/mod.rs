//! What the NTP tests share: made-up snapshots, a server of them, and the real peers.
#![allow(dead_code, unreachable_pub)]

pub mod peers;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use refclockd::core::leap::UtcMap;
use refclockd::core::snapshot::{ClockKind, ClockReading, Coasting, ErrorBound, Snapshot, SystemVariables};
use refclockd::core::state::{State, StateReason};
use refclockd::ntp::access::Access;
use refclockd::ntp::served::Served;
use refclockd::ntp::worker::{self, Workers};
use refclocks::sys::clock;
use refclocks::time::{Span, Timestamp, Utc};
use refclocks::{LeapIndicator, ReferenceId};

/// A snapshot of a clock that reads what this machine's clock reads, good for an hour.
pub fn made_up_snapshot() -> Snapshot {
    let bracket = clock::bracket();
    let utc = UtcMap::default();
    let now: Timestamp<Utc> = bracket.realtime.reinterpret();
    let half = Span::from_seconds((bracket.raw_after - bracket.raw_before).seconds() / 2.0);
    let raw = bracket.raw_before + half;
    Snapshot {
        at: raw,
        valid_until: raw + Span::from_whole_seconds(3600),
        asleep: clock::asleep(),
        started: raw,
        clock: ClockReading { raw, tai: utc.tai(now, false), rate: 0.0 },
        clock_kind: ClockKind::Own,
        clock_refusal: None,
        leap_left: None,
        rival_seen: None,
        utc,
        bound: ErrorBound {
            raw,
            fixed: 1e-6,
            path: 0.0,
            residual: 0.0,
            variance: [0.0; 4],
            coasting: Coasting::since(raw),
            doubt: 1.0,
            factor: 1.0,
        },
        system: SystemVariables {
            leap: LeapIndicator::None,
            stratum: 1,
            refid: ReferenceId(*b"PPS\0"),
            root_delay: 0.0,
            precision: -22,
            reference_time: Some(now),
        },
        state: State::Locked,
        state_since: raw,
        previous_state: None,
        reason: StateReason::PulseAndSecondAgree { source: "PPS".into() },
        offset: Some(0.0),
        frequency: None,
        frequency_sd: 0.0,
        temperature: None,
        holdover_budget: 1e-3,
        would_last_s: None,
        sources: Arc::new([]),
    }
}

/// The snapshot of a daemon that has just started.
pub fn unsynchronised_snapshot() -> Snapshot {
    Snapshot {
        bound: ErrorBound::unknown(),
        system: SystemVariables::UNSYNCHRONISED,
        state: State::Unsynchronised,
        reason: StateReason::NothingYet,
        offset: None,
        ..made_up_snapshot()
    }
}

/// A handle to a snapshot.
pub fn handle(snapshot: Snapshot) -> Arc<ArcSwap<Snapshot>> {
    Arc::new(ArcSwap::from_pointee(snapshot))
}

/// A running server of a snapshot.
pub fn serve(address: &str, snapshot: Snapshot, workers: usize) -> Workers {
    let served = Served::new(handle(snapshot), Access::default());
    worker::bind(address.parse().unwrap(), workers).unwrap().spawn(&served).unwrap()
}

/// A real peer: named by an environment variable, or on PATH. `None`, said aloud, if there is none;
/// in CI that is a failure.
pub fn peer(variable: &str, program: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .map(|folder| folder.join(program))
            .find(|candidate| candidate.is_file())
    };
    let found = named.or_else(on_path);
    if found.is_none() {
        assert!(std::env::var_os("REFCLOCKD_CI").is_none(), "{program} not found: set {variable}");
        println!("skipped: {program} not found; set {variable}, see tests/peers/fetch.sh");
    }
    found
}
