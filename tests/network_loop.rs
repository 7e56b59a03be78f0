//! Network servers in a closed loop with the core: one, three, and some that lie.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use refclockd::clock::{DisciplinedClock, SoftwareClock};
use refclockd::core::engine::EngineConfig;
use refclockd::core::measurement::Measurement;
use refclockd::core::memory::Memory;
use refclockd::core::snapshot::{Snapshot, SourceKind};
use refclockd::core::source::{ServerSays, SourceConfig};
use refclockd::core::state::State;
use refclockd::core::verdict::Verdict;
use refclockd::sim::{Crystal, Oscillator, Rng};
use refclocks::sys::clock::Bracket;
use refclocks::time::{Span, Tai, Timestamp};
use refclocks::{Edge, Health, LeapIndicator, LocalStamp, Pulse, Report, Sample};
struct Server {
    /// One-way base delay and mean of the exponential jitter, s.
    base: f64,
    jitter: f64,
    /// How far its clock is off, s.
    off: f64,
    /// log2 of the longest poll interval, s.
    maxpoll: i8,
    /// What it says of a leap second to come.
    leap: LeapIndicator,
    /// Is it required?
    require: bool,
}

/// Runs servers (and a hat, while `pulse` says so) from new year 2026 on and shows each second's error and
/// snapshot.
fn run(servers: &[Server], pulse: fn(i64) -> bool, seconds: i64, seed: u64, each: impl FnMut(i64, f64, &Snapshot)) {
    run_from(Timestamp::from_parts(1_767_225_637, 0), servers, pulse, seconds, seed, each);
}

fn run_from(
    epoch: Timestamp<Tai>,
    servers: &[Server],
    pulse: fn(i64) -> bool,
    seconds: i64,
    seed: u64,
    mut each: impl FnMut(i64, f64, &Snapshot),
) {
    let mut rng = Rng::new(seed);
    let raw0 = Timestamp::from_parts(40, 123_456_789);
    let mut crystal = Oscillator::new(
        Rng::new(seed ^ 0x55),
        epoch,
        raw0,
        Crystal { frequency: 30e-6, wander: 1e-9, ..Crystal::default() },
    );
    let mut sources: Vec<SourceConfig> =
        (0..servers.len()).map(|i| SourceConfig::new(&format!("N{i}"), SourceKind::Network)).collect();
    for (source, server) in sources.iter_mut().zip(servers) {
        source.options.require = server.require;
    }
    sources.push(SourceConfig::new("GPS", SourceKind::Message));
    sources.push(SourceConfig::new("PPS", SourceKind::Pulse));
    let (gps, pps) = (servers.len(), servers.len() + 1);
    let engine = EngineConfig { sources, holdover_budget: 1e-3, ..EngineConfig::default() };
    let clock = SoftwareClock::new(raw0, epoch + Span::from_seconds(0.3));
    let mut clock = DisciplinedClock::new(engine, &Memory::default(), Box::new(clock), raw0);
    let bracket =
        |raw| Bracket { raw_before: raw, realtime: Timestamp::EPOCH + (raw - Timestamp::EPOCH), raw_after: raw };
    // When the next poll is due, how many there were, and log2 of the interval.
    let mut polls: Vec<(i64, u32, i8)> = (0..servers.len()).map(|i| (2 + i as i64, 0, 6)).collect();
    for k in 1..seconds {
        let at = epoch + Span::from_whole_seconds(k);
        let raw = crystal.raw_at(at);
        let snapshot = clock.snapshot(raw);
        each(k, (clock.now(raw).clock - at).seconds(), &snapshot);
        if pulse(k) {
            let stamp = raw + Span::from_seconds(1e-6 * rng.normal());
            let fetched = crystal.raw_at(at + Span::from_millis(3));
            let pulse = Pulse { local: LocalStamp::Raw(stamp), edge: Edge::Assert, sequence: k as u32, missed: 0 };
            clock.handle_report(pps, &Report::Pulse(pulse), &Health::default(), &bracket(fetched));
            let arrives = crystal.raw_at(at + Span::from_seconds(0.12 + 0.01 * rng.uniform()));
            let reference = clock.snapshot(arrives).utc.utc(at).0;
            let sample =
                Sample { local: LocalStamp::Raw(arrives), reference, second60: false, quantum: Span::ZERO, leap: None };
            clock.handle_report(gps, &Report::Sample(sample), &Health::default(), &bracket(arrives));
        }
        for (i, server) in servers.iter().enumerate() {
            if polls[i].0 != k {
                continue;
            }
            let there = server.base + server.jitter * rng.exponential();
            let back = server.base + server.jitter * rng.exponential();
            let sent = at + Span::from_millis(300 + 20 * i as i64);
            let t1 = crystal.raw_at(sent);
            let t4 = crystal.raw_at(sent + Span::from_seconds(there + back));
            let middle = t1 + Span::from_seconds((t4 - t1).seconds() / 2.0);
            let tai = sent + Span::from_seconds(there + server.off);
            let says = ServerSays { root_dispersion: 1e-5, stratum: 1, leap: server.leap, ..ServerSays::default() };
            clock.handle_reach(i, 255, polls[i].2);
            let m = Measurement { raw: middle, tai, delay: Some((t4 - t1).seconds()) };
            clock.handle_exchange(i, m, says, t4);
            let (_, n, exponent) = polls[i];
            polls[i] = (k + if n < 3 { 2 } else { 1i64 << (n - 1).min(exponent as u32) }, n + 1, exponent);
            while let Some((i, wanted)) = clock.poll_wanted_poll() {
                polls[i].2 = wanted.clamp(6, servers[i].maxpoll);
            }
        }
        let quiet = crystal.raw_at(at + Span::from_millis(950));
        if clock.poll_timeout() <= quiet {
            clock.handle_timeout(&bracket(quiet));
        }
        while let Some(event) = clock.poll_event() {
            if std::env::var("EVENTS").is_ok() {
                println!("{k} {event}");
            }
        }
    }
}

const LAN: Server =
    Server { base: 100e-6, jitter: 20e-6, off: 0.0, maxpoll: 6, leap: LeapIndicator::None, require: false };
const WAN: Server = Server { base: 20e-3, jitter: 5e-3, maxpoll: 10, ..LAN };

/// 2026-06-30T23:00:00Z, 37 s ahead in TAI.
const LAST_HOUR_OF_JUNE: i64 = 1_782_860_400 + 37;

#[test]
fn a_leap_second_is_what_the_majority_announces() {
    let warns = || Server { leap: LeapIndicator::Insert, ..LAN };
    let epoch = Timestamp::from_parts(LAST_HOUR_OF_JUNE, 0);
    // Two of three say so. TAI is continuous, UTC repeats a second.
    run_from(
        epoch,
        &[warns(), LAN, warns()],
        |_| false,
        3700,
        1,
        |k, error, snapshot| {
            if k > 200 {
                assert!(error.abs() < 1e-3, "second {k}: {error}");
                let expected = if k < 3601 { LeapIndicator::Insert } else { LeapIndicator::None };
                assert_eq!(snapshot.system.leap, expected, "second {k}");
                let (utc, inside) = snapshot.utc_at(snapshot.at);
                let apart = snapshot.clock.tai.whole_seconds() - utc.whole_seconds();
                assert_eq!((apart, inside), (if k < 3601 { 37 } else { 38 } + i64::from(inside), k == 3600), "{k}");
            }
        },
    );
    // One of three does not make one, nor do three in another month.
    run_from(
        epoch,
        &[warns(), LAN, LAN],
        |_| false,
        3700,
        1,
        |k, _, snapshot| assert_eq!(snapshot.utc.next, None, "{k}"),
    );
    run(&[warns(), warns(), warns()], |_| false, 300, 1, |k, _, snapshot| assert_eq!(snapshot.utc.next, None, "{k}"));
}

#[test]
fn without_a_source_that_is_required_nothing_feeds_the_clock() {
    run(
        &[LAN, LAN, Server { off: 0.3, require: true, ..LAN }],
        |_| false,
        300,
        1,
        |k, _, snapshot| {
            assert_ne!(snapshot.state, State::Network, "second {k}");
            if k > 60 {
                assert_eq!(snapshot.sources[0].verdict, Verdict::RequiredMissing, "second {k}");
            }
        },
    );
    run(
        &[LAN, LAN, Server { require: true, ..LAN }],
        |_| false,
        300,
        1,
        |k, _, snapshot| assert!(k < 60 || snapshot.state == State::Network, "second {k}"),
    );
}

#[test]
fn one_server_sets_and_keeps_the_clock() {
    let (mut squares, mut n) = (0.0, 0.0);
    run(
        &[LAN],
        |_| false,
        20_000,
        1,
        |k, error, snapshot| {
            if k > 30 {
                assert_eq!(snapshot.state, State::Network, "second {k}");
                assert!(error.abs() <= snapshot.bound_at(snapshot.at), "second {k}");
            }
            if k > 5000 {
                squares += error * error;
                n += 1.0;
            }
        },
    );
    let rms = (squares / n).sqrt();
    println!("rms {rms:.3e}");
    assert!(rms < 6e-6, "{rms:.3e}");
}

/// Runs a day and shows the rms error of its second half and the polls at its end.
fn a_day(servers: &[Server]) -> (f64, Vec<i8>) {
    let (mut squares, mut n, mut polls) = (0.0, 0.0, Vec::new());
    run(
        servers,
        |_| false,
        86_400,
        5,
        |k, error, snapshot| {
            if k > 43_200 {
                squares += error * error;
                n += 1.0;
                polls = snapshot.sources[..servers.len()].iter().map(|s| s.poll).collect();
            }
        },
    );
    ((squares / n).sqrt(), polls)
}

#[test]
fn polls_are_as_rare_as_they_may_be() {
    let lan = || Server { maxpoll: 10, ..LAN };
    // On a short wire every answer counts; over a long one a quarter as many are nearly as good.
    let (rms, polls) = a_day(&[lan()]);
    println!("a local server: rms {rms:.3e}, polls {polls:?}");
    assert!(polls == [6] && rms < 6e-6, "{polls:?} {rms:.3e}");
    let (rms, polls) = a_day(&[WAN]);
    println!("a far server: rms {rms:.3e}, polls {polls:?}");
    assert!((8..=10).contains(&polls[0]) && rms < 450e-6, "{polls:?} {rms:.3e}");
    // Beside a near one, a far one teaches nothing.
    let (rms, polls) = a_day(&[lan(), WAN]);
    println!("both: rms {rms:.3e}, polls {polls:?}");
    assert!(polls == [6, 10] && rms < 6e-6, "{polls:?} {rms:.3e}");
}

#[test]
fn a_liar_among_three_is_named_and_ignored() {
    for off in [0.05, 0.3, 1.0, 619_315_200.0] {
        run(
            &[LAN, Server { off, ..LAN }, LAN],
            |_| false,
            2000,
            2,
            |k, error, snapshot| {
                if k > 60 {
                    assert!(error.abs() < 1e-3, "off {off} second {k}: {error}");
                    assert!(
                        matches!(snapshot.sources[1].verdict, Verdict::Falseticker { .. }),
                        "{:?}",
                        snapshot.sources[1].verdict
                    );
                }
            },
        );
    }
}

#[test]
fn a_server_takes_over_from_the_pulse_without_its_bias() {
    for off in [40e-6, -70e-6] {
        let (mut since, mut worst, mut outside) = (None, 0.0f64, 0);
        run(
            &[Server { off, ..LAN }],
            |k| k < 6000,
            12_000,
            4,
            |k, error, snapshot| {
                outside += i32::from(k > 60 && error.abs() > snapshot.distance_at(snapshot.at));
                if k >= 6000 {
                    worst = worst.max(error.abs());
                    if snapshot.state == State::Network {
                        since.get_or_insert(k);
                    }
                }
            },
        );
        println!("off {off:e}: worst {worst:e}, fed by it from second {since:?} on");
        assert!(outside <= 60, "outside the bound in {outside} seconds of 12000");
        assert!(worst < 0.5 * f64::abs(off), "off {off:e}: {worst:e}");
        assert!(since.is_some_and(|k| k < 6900), "{since:?}");
    }
}

#[test]
fn the_pulse_takes_over_from_the_network_and_gives_back() {
    let (mut states, mut outside) = (Vec::new(), 0);
    run(
        &[LAN, LAN, LAN],
        |k| (600..3000).contains(&k),
        9000,
        3,
        |k, error, snapshot| {
            if (700..3000).contains(&k) {
                assert!(error.abs() < 2e-6, "second {k}: {error:.3e}");
            }
            if k > 60 {
                assert!(error.abs() < 100e-6, "second {k}: {error:.3e}");
                outside += u32::from(error.abs() > snapshot.bound_at(snapshot.at));
            }
            if states.last() != Some(&snapshot.state) {
                states.push(snapshot.state);
            }
        },
    );
    assert!(outside < 90, "{outside} of 9000 seconds outside the bound");
    assert_eq!(states[..4], [State::Unsynchronised, State::Network, State::Locked, State::Holdover], "{states:?}");
    assert_eq!(states.last(), Some(&State::Network), "{states:?}");
}
