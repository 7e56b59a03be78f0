//! What the discipline costs: `cargo bench --bench discipline`. Times, and allocations beside them.
//!
//! The aim: 5 us for a pulse and 60 us for a network sample, selection, steering and labels included.

use divan::{AllocProfiler, Bencher};
use refclockd::core::bank::Prior;
use refclockd::core::engine::{Engine, EngineConfig, Now};
use refclockd::core::estimator::Estimator;
use refclockd::core::measurement::Measurement;
use refclockd::core::memory::Memory;
use refclockd::core::snapshot::SourceKind;
use refclockd::core::source::{ServerSays, SourceConfig};
use refclockd::sim::Rng;
use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Span, Tai, Timestamp};
use refclocks::{Edge, Health, LocalStamp, Pulse, Report, Sample};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

/// Measurements before the first that is timed: nothing is learned from history any more.
const SETTLED: i64 = 2000;
/// Each is timed by itself.
const SAMPLES: u32 = 5000;
const EPOCH: Timestamp<Tai> = Timestamp::from_parts(1_767_225_637, 0);

fn main() {
    divan::main();
}

/// One source of measurements without end.
struct Measured {
    rng: Rng,
    second: i64,
    interval: i64,
}

impl Measured {
    fn pulses() -> Self {
        Self { rng: Rng::new(1), second: 0, interval: 1 }
    }

    fn packets() -> Self {
        Self { rng: Rng::new(1), second: 0, interval: 16 }
    }

    fn next(&mut self) -> Measurement {
        self.second += self.interval;
        let tai = EPOCH + Span::from_whole_seconds(self.second);
        if self.interval == 1 {
            return Measurement { raw: raw(tai) + Span::from_seconds(1e-6 * self.rng.normal()), tai, delay: None };
        }
        let (there, back) = (20e-6 * self.rng.exponential(), 20e-6 * self.rng.exponential());
        let off = Span::from_seconds(0.5 * (back - there));
        Measurement { raw: raw(tai) + off, tai, delay: Some(200e-6 + there + back) }
    }
}

/// The counter gains 12 ppm.
fn raw(tai: Timestamp<Tai>) -> Timestamp<Raw> {
    let elapsed = tai - EPOCH;
    Timestamp::from_parts(40, 0) + elapsed + Span::from_seconds(12e-6 * elapsed.seconds())
}

mod estimator {
    use super::*;

    fn update(bencher: Bencher, mut measured: Measured) {
        let mut estimator = Estimator::new(Prior::default());
        for _ in 0..SETTLED {
            estimator.measure(0, measured.next());
        }
        bencher.bench_local(|| {
            let m = measured.next();
            estimator.measure(0, m);
            estimator.advance(m.raw + Span::from_millis(3));
        });
    }

    #[divan::bench(sample_count = SAMPLES, sample_size = 1)]
    fn pulse(bencher: Bencher) {
        update(bencher, Measured::pulses());
    }

    #[divan::bench(sample_count = SAMPLES, sample_size = 1)]
    fn packet(bencher: Bencher) {
        update(bencher, Measured::packets());
    }
}

mod engine {
    use super::*;

    /// An engine around a clock that obeys at once: it reads what the engine thinks is true.
    struct Loop {
        engine: Engine,
        rate: f64,
    }

    impl Loop {
        fn new(sources: Vec<SourceConfig>) -> Self {
            let config = EngineConfig { sources, holdover_budget: 1e-3, ..EngineConfig::default() };
            let now = Now { raw: raw(EPOCH), clock: EPOCH, rate: 0.0 };
            Self { engine: Engine::new(config, &Memory::default(), now), rate: 0.0 }
        }

        fn now(&self, raw: Timestamp<Raw>, tai: Timestamp<Tai>) -> Now {
            let clock = self.engine.estimate_at(raw).map_or(tai, |(tai, _)| tai);
            Now { raw, clock, rate: self.rate }
        }

        fn settle(&mut self) {
            use refclockd::core::engine::ClockCommand;
            while let Some(command) = self.engine.poll_command() {
                if let ClockCommand::SetRate(rate) = command {
                    self.rate = rate;
                }
            }
            while self.engine.poll_event().is_some() {}
            while self.engine.poll_wanted_poll().is_some() {}
        }

        fn report(&mut self, source: usize, report: &Report, raw: Timestamp<Raw>, tai: Timestamp<Tai>) {
            let realtime = Timestamp::EPOCH + (raw - Timestamp::EPOCH);
            let bracket = Bracket { raw_before: raw, realtime, raw_after: raw };
            let now = self.now(raw, tai);
            self.engine.handle_report(source, report, &Health::default(), &bracket, now);
            self.settle();
        }

        fn pulse(&mut self, source: usize, m: Measurement) {
            let pulse = Pulse { local: LocalStamp::Raw(m.raw), edge: Edge::Assert, sequence: 0, missed: 0 };
            self.report(source, &Report::Pulse(pulse), m.raw + Span::from_millis(3), m.tai + Span::from_millis(3));
        }

        fn message(&mut self, source: usize, m: Measurement) {
            let after = Span::from_millis(120);
            let sample = Sample {
                local: LocalStamp::Raw(m.raw + after),
                reference: refclockd::core::leap::UtcMap::default().utc(m.tai).0,
                second60: false,
                quantum: Span::ZERO,
                leap: None,
            };
            self.report(source, &Report::Sample(sample), m.raw + after, m.tai + after);
        }

        fn packet(&mut self, source: usize, m: Measurement) {
            let says = ServerSays { root_dispersion: 1e-5, stratum: 1, ..ServerSays::default() };
            let now = self.now(m.raw + Span::from_millis(1), m.tai + Span::from_millis(1));
            self.engine.handle_reach(source, 255, 4);
            self.engine.handle_exchange(source, m, says, now);
            self.settle();
        }
    }

    /// A receiver's messages and its pulse; the pulse is timed.
    #[divan::bench(sample_count = SAMPLES, sample_size = 1)]
    fn pulse(bencher: Bencher) {
        let mut hat =
            Loop::new(vec![SourceConfig::new("GPS", SourceKind::Message), SourceConfig::new("PPS", SourceKind::Pulse)]);
        let mut measured = Measured::pulses();
        let second = Span::from_whole_seconds(1);
        for _ in 0..SETTLED {
            let m = measured.next();
            hat.message(0, Measurement { raw: m.raw - second, tai: m.tai - second, delay: None });
            hat.pulse(1, m);
        }
        assert_eq!(hat.engine.verdict_of(1).map(|v| v.word()), Some("used"));
        // Messages come as well, or the pulse would lose them; only the pulse is timed.
        let hat = std::cell::RefCell::new(hat);
        bencher
            .with_inputs(|| {
                let m = measured.next();
                hat.borrow_mut().message(0, Measurement { raw: m.raw - second, tai: m.tai - second, delay: None });
                m
            })
            .bench_local_values(|m| hat.borrow_mut().pulse(1, m));
    }

    /// One of this many servers answers.
    #[divan::bench(args = [1, 3], sample_count = SAMPLES, sample_size = 1)]
    fn packet(bencher: Bencher, servers: usize) {
        let names = ["A", "B", "C"];
        let mut net =
            Loop::new(names.iter().take(servers).map(|name| SourceConfig::new(name, SourceKind::Network)).collect());
        let mut measured = Measured::packets();
        let mut next = 0;
        for _ in 0..SETTLED {
            net.packet(next, measured.next());
            next = (next + 1) % servers;
        }
        assert!((0..servers).all(|i| net.engine.verdict_of(i).map(|v| v.word()) == Some("used")));
        bencher.bench_local(|| {
            net.packet(next, measured.next());
            next = (next + 1) % servers;
        });
    }
}
