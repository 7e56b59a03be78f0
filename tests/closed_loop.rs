//! The core alone in a closed loop: reports made directly, no driver, no bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use refclockd::clock::{DisciplinedClock, SoftwareClock};
use refclockd::core::engine::EngineConfig;
use refclockd::core::leap::UtcMap;
use refclockd::core::memory::Memory;
use refclockd::core::snapshot::SourceKind;
use refclockd::core::source::SourceConfig;
use refclockd::core::state::State;
use refclockd::sim::{Oscillator, Rng};
use refclocks::sys::clock::Bracket;
use refclocks::time::{Span, Tai, Timestamp};
use refclocks::{Edge, Health, LocalStamp, Pulse, ReferenceId, Report, Sample};

fn source(name: &str, kind: SourceKind) -> SourceConfig {
    SourceConfig {
        name: name.into(),
        refid: ReferenceId::from_name(name).unwrap(),
        driver: "test",
        address: String::new(),
        kind,
        lock: None,
        delay: None,
        offset: 0.0,
        prefer: false,
        noselect: false,
        trust: false,
        stratum: 0,
    }
}

#[derive(Debug, Default)]
struct Result {
    rms: f64,
    max: f64,
    early: f64,
    cover: f64,
    ratio: f64,
    lock: f64,
}

fn run(seed: u64, seconds: i64, frequency: f64, start: Option<f64>) -> Result {
    let mut rng = Rng::new(seed);
    let epoch: Timestamp<Tai> = Timestamp::from_parts(1_767_225_637, 0);
    let raw0 = Timestamp::from_parts(40, 123_456_789);
    let mut crystal = Oscillator::new(Rng::new(seed ^ 0x55), epoch, raw0, frequency, 1e-9);
    let sign = if rng.uniform() < 0.5 { -1.0 } else { 1.0 };
    let off = sign * start.unwrap_or_else(|| 0.01 + 0.09 * rng.uniform());
    let clock = SoftwareClock::new(raw0, epoch + Span::from_seconds(off));
    let config = EngineConfig {
        sources: vec![source("GPS", SourceKind::Message), source("PPS", SourceKind::Pulse)],
        holdover_budget: 1e-3,
        utc: UtcMap::default(),
        ..EngineConfig::default()
    };
    let mut clock = DisciplinedClock::new(config, &Memory::default(), Box::new(clock), raw0);
    let mut result = Result::default();
    let (mut squares, mut n, mut inside, mut bounds) = (0.0, 0.0, 0.0, vec![]);
    let deliver = |clock: &mut DisciplinedClock, raw, source, report: &Report| {
        let bracket =
            Bracket { raw_before: raw, realtime: Timestamp::EPOCH + (raw - Timestamp::EPOCH), raw_after: raw };
        clock.handle_report(source, report, &Health::default(), &bracket);
        while clock.poll_event().is_some() {}
    };
    for k in 1..seconds {
        let at = epoch + Span::from_whole_seconds(k);
        let raw = crystal.raw_at(at);
        let error = (clock.now(raw).clock - at).seconds();
        let snapshot = clock.snapshot(raw);
        let bound = snapshot.bound_at(raw);
        if snapshot.state != State::Locked {
            result.lock = k as f64;
        }
        if (60..120).contains(&k) {
            result.early = result.early.max(error.abs());
        }
        if k >= 120 {
            squares += error * error;
            n += 1.0;
            result.max = result.max.max(error.abs());
            inside += f64::from(u8::from(error.abs() <= bound));
            bounds.push(bound);
        }
        let mut late = 1e-6 * rng.normal();
        if rng.uniform() < 0.02 {
            late += 20e-6 * rng.exponential();
        }
        let stamp = raw + Span::from_seconds(late);
        let fetched = crystal.raw_at(at + Span::from_millis(3));
        let pulse = Pulse { local: LocalStamp::Raw(stamp), edge: Edge::Assert, sequence: k as u32, missed: 0 };
        deliver(&mut clock, fetched, 1, &Report::Pulse(pulse));
        let arrives = crystal.raw_at(at + Span::from_seconds((0.12 + 0.02 * rng.normal()).clamp(0.01, 0.4)));
        let utc = UtcMap::default().utc(at).0;
        let sample = Sample {
            local: LocalStamp::Raw(arrives),
            reference: utc,
            second60: false,
            quantum: Span::ZERO,
            leap: None,
        };
        deliver(&mut clock, arrives, 0, &Report::Sample(sample));
    }
    bounds.sort_by(f64::total_cmp);
    if n > 0.0 {
        result.rms = (squares / n).sqrt();
        result.cover = inside / n;
        result.ratio = bounds[bounds.len() / 2] / result.rms;
    }
    result
}

#[test]
fn the_demo_hour() {
    let results: Vec<Result> = (1..=20).map(|seed| run(seed, 3600, 12e-6, None)).collect();
    for r in &results {
        println!("{r:?}");
    }
    let n = results.len() as f64;
    let rms = (results.iter().map(|r| r.rms * r.rms).sum::<f64>() / n).sqrt();
    let cover = results.iter().map(|r| r.cover).sum::<f64>() / n;
    let worst = |f: fn(&Result) -> f64| results.iter().map(f).fold(0.0, f64::max);
    println!(
        "rms {rms:.3e} each <= {:.3e}, max {:.3e}, early {:.3e}, lock {}, cover {cover:.4} least {:.4}, ratio {:.2} worst {:.2}",
        worst(|r| r.rms),
        worst(|r| r.max),
        worst(|r| r.early),
        worst(|r| r.lock),
        1.0 - worst(|r| 1.0 - r.cover),
        results.iter().map(|r| r.ratio).sum::<f64>() / n,
        worst(|r| r.ratio)
    );
    assert!(rms <= 240e-9 && worst(|r| r.rms) <= 300e-9);
    assert!(worst(|r| r.max) <= 1.6e-6 && worst(|r| r.early) <= 5e-6);
    assert!(worst(|r| r.lock) <= 30.0);
    assert!(cover >= 0.99 && worst(|r| 1.0 - r.cover) <= 0.03);
    assert!(worst(|r| r.ratio) <= 4.5);
}

#[test]
fn a_thousand_cold_starts() {
    let mut bad = 0;
    let mut worst: f64 = 0.0;
    for seed in 0..1000 {
        let r = run(10_000 + seed, 120, 80e-6, Some(0.1));
        worst = worst.max(r.early);
        if r.early > 5e-6 {
            bad += 1;
            println!("seed {} early {:.3e}", 10_000 + seed, r.early);
        }
    }
    println!("worst {worst:.3e}");
    assert_eq!(bad, 0);
}
