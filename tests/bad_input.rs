//! What no honest world gives: absurd, infinite and repeated numbers, time that goes back, pulses at the
//! wrong rate, lies of a second and of 1024 weeks, a clock that cannot be set. Whatever comes, every
//! number stays a number, what is claimed stays true, and a reason is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "bad_input/stage.rs"]
mod stage;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use refclockd::clock::Clock;
use refclockd::core::engine::ClockCommand;
use refclockd::core::measurement::Measurement;
use refclockd::core::memory::Memory;
use refclockd::core::snapshot::{ClockKind, ClockRefusal};
use refclockd::core::source::ServerSays;
use refclockd::core::state::State;
use refclockd::core::verdict::Verdict;
use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Span, Tai, Timestamp, Utc};
use stage::{ALL, GPS, LAN, PPS, SHM, Stage, WAN, honest, unsound, utc};

/// Seconds in 1024 weeks.
const ROLLOVER: f64 = 619_315_200.0;

/// One thing that comes from outside, into whatever source. Seconds count from now.
#[derive(Clone, Debug)]
enum Input {
    /// True seconds pass.
    Seconds(u8),
    Pulse(usize, f64),
    Sample(usize, f64, f64),
    /// Raw instant, clock - server, delay, root delay, root dispersion, stratum and poll.
    Exchange(usize, [f64; 5], u8, i8),
    /// A time nobody lives to see, by which any driver may be fooled.
    Date(usize, i64, u32),
    Temperature(f64),
    Set(f64),
    Step,
    Sleep(f64),
    /// The counter and REALTIME are read elsewhere.
    Clocks(f64, f64),
    Offline(usize, bool),
}

/// Any number at all, and those that hurt.
fn number() -> impl Strategy<Value = f64> {
    let edges = [
        0.0,
        -0.0,
        1e-300,
        1e-12,
        0.2,
        0.5,
        1.0,
        -1.0,
        2.0,
        3600.0,
        ROLLOVER,
        -ROLLOVER,
        1e12,
        9.3e18,
        -9.3e18,
        1e150,
        -1e150,
        f64::MAX,
        f64::MIN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        f64::MIN_POSITIVE / 2.0,
    ];
    prop_oneof![
        3 => prop::sample::select(edges.to_vec()),
        2 => -1e-3f64..1e-3,
        1 => -2.0f64..2.0,
        1 => any::<f64>(),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    let source = || 0..ALL.len();
    let server = 3..ALL.len();
    prop_oneof![
        6 => (1u8..30).prop_map(Input::Seconds),
        3 => (source(), number()).prop_map(|(s, at)| Input::Pulse(s, at)),
        4 => (source(), number(), number()).prop_map(|(s, at, says)| Input::Sample(s, at, says)),
        6 => (server, prop::array::uniform5(number()), any::<u8>(), any::<i8>())
            .prop_map(|(s, numbers, stratum, poll)| Input::Exchange(s, numbers, stratum, poll)),
        1 => (source(), any::<i64>(), any::<u32>()).prop_map(|(s, at, nanos)| Input::Date(s, at, nanos)),
        2 => number().prop_map(Input::Temperature),
        1 => number().prop_map(Input::Set),
        1 => Just(Input::Step),
        1 => number().prop_map(Input::Sleep),
        1 => (number(), number()).prop_map(|(raw, realtime)| Input::Clocks(raw, realtime)),
        1 => (source(), any::<bool>()).prop_map(|(s, off)| Input::Offline(s, off)),
    ]
}

impl Input {
    fn give(&self, stage: &mut Stage) {
        const NOW: f64 = 0.95;
        let after = |s: f64| Span::from_seconds(s);
        match *self {
            Self::Seconds(n) => (0..n).for_each(|_| {
                stage.play();
            }),
            Self::Pulse(s, at) => stage.pulse(s, stage.raw(NOW) + after(at), NOW),
            Self::Sample(s, at, says) => {
                stage.sample(s, stage.raw(NOW) + after(at), utc(stage.tai(NOW)) + after(says), NOW);
            }
            Self::Exchange(s, [at, off, delay, root_delay, root_dispersion], stratum, poll) => {
                let m = Measurement {
                    raw: stage.raw(NOW) + after(at),
                    tai: stage.tai(NOW) + after(off),
                    delay: Some(delay),
                };
                let says = ServerSays { root_delay, root_dispersion, stratum, ..honest() };
                stage.clock.handle_reach(s, stratum, poll);
                stage.clock.handle_exchange(s, m, says, stage.raw(NOW));
            }
            Self::Date(s, at, nanos) => {
                let says: Timestamp<Utc> = Timestamp::from_parts(at, nanos);
                let (raw, tai) = (stage.raw(NOW), says.reinterpret::<Tai>());
                stage.sample(s, raw, says, NOW);
                stage.clock.handle_exchange(s, Measurement { raw, tai, delay: Some(1e-4) }, honest(), raw);
            }
            Self::Temperature(celsius) => stage.clock.handle_temperature(celsius, stage.raw(NOW)),
            Self::Set(off) => {
                let _ = stage.clock.handle_set(stage.tai(NOW) + after(off), stage.raw(NOW));
            }
            Self::Step => {
                let _ = stage.clock.handle_step(stage.raw(NOW));
            }
            Self::Sleep(s) => stage.clock.handle_sleep(after(s), stage.raw(NOW)),
            Self::Clocks(raw, realtime) => {
                let bracket = stage.bracket(NOW);
                let moved = bracket.raw_after + after(raw);
                let realtime = bracket.realtime + after(realtime);
                stage.clock.handle_timeout(&Bracket { raw_before: moved, realtime, raw_after: moved });
            }
            Self::Offline(s, off) => stage.clock.handle_offline(s, off, stage.raw(NOW)),
        }
    }
}

/// The same inputs on every machine, every time.
fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]))
}

/// All that a reader, the operator and the next life are told.
fn all_numbers(stage: &mut Stage) -> Result<(), TestCaseError> {
    let raw = stage.raw(0.99);
    let snapshot = stage.clock.snapshot(raw);
    let (bound, distance, sigma) = (snapshot.bound_at(raw), snapshot.distance_at(raw), snapshot.bound.sigma(raw));
    let dispersion = snapshot.root_dispersion_at(raw);
    prop_assert!(bound >= 0.0 && distance >= bound && sigma >= 0.0 && dispersion >= 0.0, "{:?}", snapshot.bound);
    let memory = stage.clock.memory(raw);
    for text in [format!("{snapshot:?}"), format!("{:?}", stage.events()), format!("{memory:?}")] {
        prop_assert_eq!(unsound(&text), None);
    }
    for source in snapshot.sources.iter() {
        prop_assert!(!source.verdict.to_string().is_empty());
    }
    prop_assert!(Memory::from_text(&memory.to_text()).is_ok(), "{}", memory.to_text());
    Ok(())
}

#[test]
fn whatever_comes_every_number_stays_a_number() {
    let inputs = prop::collection::vec(input(), 1..60);
    let outcome = runner(160).run(&(0u8..90, inputs), |(warm_up, inputs)| {
        let mut stage = Stage::new(&Memory::default());
        Input::Seconds(warm_up).give(&mut stage);
        for input in &inputs {
            input.give(&mut stage);
            all_numbers(&mut stage)?;
        }
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}

/// What is thought of a source, in a word.
fn word(stage: &Stage, source: usize) -> &'static str {
    stage.clock.verdict_of(source).map_or("gone", Verdict::word)
}

/// Liars, one or two of seven, that say anything at all at any time.
#[test]
fn what_is_claimed_is_true_while_most_sources_are() {
    let lie = prop_oneof![
        2 => (Just(SHM), number(), number()).prop_map(|(s, at, says)| Input::Sample(s, at, says)),
        1 => (Just(SHM), any::<i64>(), any::<u32>()).prop_map(|(s, at, nanos)| Input::Date(s, at, nanos)),
        3 => (prop::array::uniform5(number()), any::<u8>(), 0i8..17)
            .prop_map(|(numbers, stratum, poll)| Input::Exchange(WAN, numbers, stratum, poll)),
        1 => number().prop_map(Input::Temperature),
    ];
    let lies = prop::collection::vec((1u8..12, lie), 1..40);
    let outcome = runner(60).run(&(any::<bool>(), 0u8..120, lies), |(with_pulse, warm_up, lies)| {
        let mut stage = Stage::new(&Memory::default());
        // What lies here says nothing true besides.
        stage.silent = vec![SHM, WAN];
        if !with_pulse {
            stage.silent.extend([GPS, PPS]);
        }
        Input::Seconds(warm_up).give(&mut stage);
        for (seconds, lie) in &lies {
            Input::Seconds(*seconds).give(&mut stage);
            lie.give(&mut stage);
            let (error, raw) = (stage.error(0.95), stage.raw(0.95));
            let snapshot = stage.snapshot(0.95);
            let served = snapshot.system_at(raw).stratum < 16;
            prop_assert!(
                !served || error.abs() < snapshot.distance_at(raw),
                "{error} after {lie:?}: {:?}",
                snapshot.bound
            );
        }
        Input::Seconds(120).give(&mut stage);
        prop_assert!(stage.outside <= 2, "{} s outside the bound", stage.outside);
        prop_assert!(stage.error(0.0).abs() < 1e-3, "{}", stage.error(0.0));
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn what_is_said_again_is_said_once() {
    let mut stage = Stage::new(&Memory::default());
    stage.silent = vec![GPS, PPS, SHM, WAN];
    for _ in 0..200 {
        stage.play();
    }
    let repeated = |stage: &mut Stage, times: u32| {
        let (raw, tai) = (stage.raw(0.9), stage.tai(0.9) + Span::from_seconds(2e-4));
        let m = Measurement { raw, tai, delay: Some(1e-4) };
        let before = stage.snapshot(0.95);
        for _ in 0..times {
            stage.clock.handle_exchange(LAN[0], m, honest(), stage.raw(0.95));
        }
        let after = stage.snapshot(0.95);
        let samples = after.sources[LAN[0]].samples - before.sources[LAN[0]].samples;
        (samples, before.bound.sigma(stage.raw(0.95)), after)
    };
    let (samples, sigma, after) = repeated(&mut stage, 100);
    assert_eq!(samples, 1);
    let (told, _) = after.sources[LAN[0]].server.clone().unwrap();
    assert_eq!(told, "its answer is refused: it is no later than the one before");
    // A hundred answers would have made it ten times as sure.
    assert!(after.bound.sigma(stage.raw(0.95)) > 0.4 * sigma);

    // A reference clock that hands over the same stamp for ever gives no time.
    let (raw, says) = (stage.raw(0.0), utc(stage.tai(0.0)));
    for _ in 0..20 {
        stage.play();
        stage.sample(SHM, raw, says, 0.004);
    }
    assert!(stage.snapshot(0.95).sources[SHM].samples <= 1);
    assert_eq!(word(&stage, SHM), "no data");
    assert_eq!(stage.outside, 0);
}

#[test]
fn samples_out_of_order_and_time_that_goes_back_change_nothing() {
    let mut stage = Stage::new(&Memory::default());
    for _ in 0..300 {
        stage.play();
    }
    let before = stage.snapshot(0.95).sources[PPS].samples;
    for back in [0.2, 0.5, 1.0, 1.9, 3.0, 100.0, 1e9] {
        let at = |s: f64| Span::from_seconds(s);
        stage.pulse(PPS, stage.raw(0.0) - at(back), 0.95);
        stage.sample(SHM, stage.raw(0.0) - at(back), utc(stage.tai(0.0)), 0.95);
        let m = Measurement { raw: stage.raw(0.0) - at(back), tai: stage.tai(0.0), delay: Some(2e-4) };
        stage.clock.handle_exchange(LAN[1], m, honest(), stage.raw(0.95));
        // The present goes back as well.
        stage.clock.handle_timeout(&Bracket { raw_before: m.raw, raw_after: m.raw, ..stage.bracket(0.95) });
    }
    assert_eq!(stage.snapshot(0.95).sources[PPS].samples, before);
    for _ in 0..60 {
        let (error, bound) = stage.play().expect("served");
        assert!(error.abs() < 10e-6 && error.abs() < bound, "{error:.3e}");
    }
    assert_eq!((word(&stage, PPS), stage.outside), ("used", 0));
}

/// The pulse comes at another rate than it should. With messages alone beside it, nothing may be wrong;
/// with servers too, the clock goes on with them.
#[test]
fn a_pulse_at_another_rate_is_not_believed() {
    for (rate, every, offsets) in [("5 Hz", 1, &[0.0, 0.2, 0.4, 0.6, 0.8][..]), ("0.5 Hz", 2, &[0.0][..])] {
        for silent in [vec![PPS, SHM, 3, 4, 5, WAN], vec![PPS, SHM]] {
            let mut stage = Stage::new(&Memory::default());
            stage.silent = silent.clone();
            let mut worst: f64 = 0.0;
            for second in 0..600i64 {
                let served = stage.play();
                if second > 60 {
                    let wrong = served.is_some_and(|(error, _)| error.abs() > 0.5);
                    assert!(!wrong, "{rate}: {served:?}");
                    worst = worst.max(served.map_or(0.0, |(error, _)| error.abs()));
                }
                if second % every == 0 {
                    for after in offsets {
                        // Fetched after the second's other inputs, and stamped right.
                        let late = 1e-6 * stage.noise();
                        stage.pulse(PPS, stage.raw(after + late), 0.95);
                    }
                }
            }
            println!("{rate} without {silent:?}: {} {worst:.3e}, {} s outside", word(&stage, PPS), stage.outside);
            assert!(stage.outside <= 6, "{rate}: {} s outside the bound", stage.outside);
            assert!(!stage.clock.verdict_of(PPS).unwrap().to_string().is_empty());
        }
    }
}

#[test]
fn a_lie_of_a_second_or_of_1024_weeks_is_named() {
    for (lie, from) in [(1.0, 0), (-1.0, 0), (1.0, 300), (-1.0, 300), (ROLLOVER, 300), (-ROLLOVER, 300), (-ROLLOVER, 0)]
    {
        for liar in [GPS, SHM, LAN[0]] {
            let mut stage = Stage::new(&Memory::default());
            for second in 0..600 {
                if second == from {
                    stage.silent.push(liar);
                }
                let served = stage.play();
                if let Some((error, bound)) = served {
                    assert!(
                        error.abs() < 0.5 && error.abs() <= bound.max(5e-6),
                        "{liar} {lie}: {error:.3e} {bound:.3e}"
                    );
                }
                if second < from || (liar == LAN[0] && second % 16 != 0) {
                    continue;
                }
                let says = stage.tai(0.0) + Span::from_seconds(lie);
                let comes = if liar == GPS { 0.12 } else { 0.9 };
                if liar == LAN[0] {
                    let m = Measurement { raw: stage.raw(0.0), tai: says, delay: Some(3e-4) };
                    stage.clock.handle_reach(liar, 255, 4);
                    stage.clock.handle_exchange(liar, m, honest(), stage.raw(comes));
                } else {
                    stage.sample(liar, stage.raw(if liar == GPS { comes } else { 0.0 }), utc(says), comes.max(0.91));
                }
            }
            println!("{liar} {lie} from {from}: {} / {}", word(&stage, liar), word(&stage, PPS));
            let told = [word(&stage, liar), word(&stage, PPS)];
            let named = told[0] == "disagrees" || told[0] == "no data" || (liar == GPS && told[1] == "contradicted");
            // Whole days, on which the servers agree, are added or taken off, and that is told.
            let repaired = stage.snapshot(0.0).sources[liar].repair.as_ref().map(|repair| repair.days as f64);
            let mended = lie.abs() == ROLLOVER && repaired == Some(-lie / 86_400.0);
            assert!(named || mended || liar == GPS && told[1] == "used", "{liar} {lie} from {from}: {told:?}");
        }
    }
}

/// A clock that does not do what it is told, and says so.
struct Stuck(ClockRefusal);

impl Clock for Stuck {
    fn read(&self, raw: Timestamp<Raw>) -> Timestamp<Tai> {
        Timestamp::from_parts(1_767_225_637, 0)
            + (raw - Timestamp::from_parts(40, 123_456_789))
            + Span::from_millis(300)
    }

    fn rate(&self) -> f64 {
        0.0
    }

    fn kind(&self) -> ClockKind {
        ClockKind::Watched
    }

    fn apply(&mut self, _raw: Timestamp<Raw>, _command: ClockCommand) {}

    fn refusal(&self) -> Option<&ClockRefusal> {
        Some(&self.0)
    }
}

#[test]
fn a_clock_that_cannot_be_set_is_served_with_what_it_is_off_by() {
    let refusal =
        ClockRefusal { error: "operation not permitted".into(), permission: true, instead: ClockKind::Watched };
    let mut stage = Stage::around(Box::new(Stuck(refusal.clone())), &Memory::default());
    for second in 0..600 {
        let served = stage.play();
        if second > 60 {
            // It is 0.3 s off and goes further; whoever is served is told so.
            let (error, bound) = served.unwrap_or((0.3, 1.0));
            assert!(error.abs() > 0.2 && error.abs() <= bound + 5e-6, "{error} {bound}");
        }
    }
    let snapshot = stage.snapshot(0.0);
    assert_eq!(snapshot.clock_refusal, Some(refusal));
    assert_ne!(snapshot.state, State::Locked, "{:?}", snapshot.reason);
    assert!((snapshot.offset.unwrap() - stage.error(0.0)).abs() < 2e-6, "{:?} {}", snapshot.offset, stage.error(0.0));
    assert_eq!(word(&stage, PPS), "used");
    assert!(stage.outside <= 6, "{} s outside the bound", stage.outside);
    let text = format!("{snapshot:?}{:?}", stage.events());
    assert_eq!(unsound(&text), None);
}
