//! The operator's hand on the clock: time set by hand, steps, panic; and who may serve a clock that
//! nobody checks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use refclockd::clock::{DisciplinedClock, SoftwareClock};
use refclockd::core::by_hand::{Outcome, Use};
use refclockd::core::engine::EngineConfig;
use refclockd::core::local::LocalPolicy;
use refclockd::core::measurement::Measurement;
use refclockd::core::memory::Memory;
use refclockd::core::snapshot::{Snapshot, SourceKind};
use refclockd::core::source::{ServerSays, SourceConfig};
use refclockd::core::state::{State, StateReason};
use refclockd::core::verdict::Verdict;
use refclockd::ntp::server::View;
use refclockd::sim::{Crystal, Oscillator, Rng};
use refclocks::ReferenceId;
use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Span, Tai, Timestamp};

const EPOCH: Timestamp<Tai> = Timestamp::from_parts(1_767_225_637, 0);
const RAW0: Timestamp<Raw> = Timestamp::from_parts(40, 0);

fn server(name: &str) -> SourceConfig {
    SourceConfig::new(name, SourceKind::Network)
}

/// A machine with a crystal, and true time.
struct Machine {
    crystal: Oscillator,
    clock: DisciplinedClock,
    at: Timestamp<Tai>,
}

impl Machine {
    /// Its clock starts so many seconds ahead.
    fn new(config: EngineConfig, ahead: f64, ppm: f64) -> Self {
        let crystal = Oscillator::new(
            Rng::new(3),
            EPOCH,
            RAW0,
            Crystal { frequency: ppm * 1e-6, wander: 1e-9, ..Crystal::default() },
        );
        let clock = SoftwareClock::new(RAW0, EPOCH + Span::from_seconds(ahead));
        let config = EngineConfig { holdover_budget: 1e-3, ..config };
        let clock = DisciplinedClock::new(config, &Memory::default(), Box::new(clock), RAW0);
        Self { crystal, clock, at: EPOCH }
    }

    fn raw(&mut self) -> Timestamp<Raw> {
        self.crystal.raw_at(self.at)
    }

    /// Lets so many seconds pass.
    fn live(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.at += Span::from_whole_seconds(1);
            let raw = self.raw();
            let realtime = Timestamp::EPOCH + (raw - Timestamp::EPOCH);
            self.clock.handle_timeout(&Bracket { raw_before: raw, realtime, raw_after: raw });
            while self.clock.poll_event().is_some() {}
        }
    }

    /// Clock - true time, s.
    fn error(&mut self) -> f64 {
        let raw = self.raw();
        (self.clock.now(raw).clock - self.at).seconds()
    }

    fn snapshot(&mut self) -> Snapshot {
        let raw = self.raw();
        self.clock.snapshot(raw)
    }

    /// Somebody types the time, so much late.
    fn set(&mut self, late: f64) -> Outcome {
        let raw = self.raw();
        self.clock.handle_set(self.at - Span::from_seconds(late), raw).unwrap()
    }

    /// A server whose clock is so much ahead answers.
    fn answer(&mut self, source: usize, ahead: f64, says: ServerSays) {
        let raw = self.raw();
        let m = Measurement { raw, tai: self.at + Span::from_seconds(ahead), delay: Some(200e-6) };
        self.clock.handle_reach(source, 255, 3);
        self.clock.handle_exchange(source, m, says, raw);
    }
}

#[test]
fn one_setting_sets_and_several_teach_the_drift() {
    let local = Some(LocalPolicy::usual(false));
    let mut machine = Machine::new(EngineConfig { local, ..EngineConfig::default() }, -5000.0, 35.0);
    assert!(machine.snapshot().bound_at(RAW0).is_infinite());
    let outcome = machine.set(0.2);
    assert_eq!(outcome.used, Use::Followed { anew: false });
    assert!((outcome.offset + 4999.8).abs() < 1e-3 && (outcome.stepped.unwrap() - 4999.8).abs() < 1e-3, "{outcome:?}");
    assert!((machine.error() + 0.2).abs() < 1e-3, "{}", machine.error());
    let snapshot = machine.snapshot();
    assert!(matches!(snapshot.reason, StateReason::SetByHand { .. }), "{:?}", snapshot.reason);
    // Nobody checks it: it is served because of [local] alone, as its own reference.
    assert_eq!((snapshot.state, snapshot.system.stratum), (State::Local, 10));
    let bound = snapshot.bound_at(machine.raw());
    assert!((0.5..2.0).contains(&bound), "{bound}");
    // A crystal nobody knows: 35 ppm make 3 s a day.
    let mut rng = Rng::new(8);
    let mut last = outcome;
    for _ in 0..6 {
        machine.live(12 * 3600);
        let bound =
            machine.clock.snapshot(machine.crystal.raw_at(machine.at)).bound_at(machine.crystal.raw_at(machine.at));
        assert!(machine.error().abs() < bound, "{} {bound}", machine.error());
        last = machine.set(0.2 + 0.1 * rng.normal());
    }
    let (frequency, sd) = last.frequency.unwrap();
    println!("{frequency:e} {sd:e} {last:?}");
    assert!((frequency - 35e-6).abs() < 3.0 * sd && sd < 2e-6, "{frequency:e} {sd:e}");
    assert!(last.settings.len() == 7 && last.settings.iter().all(|(_, residual)| residual.abs() < 0.4), "{last:?}");
    machine.live(24 * 3600);
    assert!(machine.error().abs() < 0.6, "{}", machine.error());
    assert!(machine.snapshot().frequency.is_some());
}

#[test]
fn a_setting_that_contradicts_the_others_begins_anew() {
    let mut machine = Machine::new(EngineConfig::default(), 0.0, 5.0);
    // An hour wrong, then right.
    machine.set(3600.0);
    machine.live(600);
    assert!((machine.error() + 3600.0).abs() < 1.0);
    let outcome = machine.set(0.0);
    assert_eq!((outcome.used, outcome.settings.len()), (Use::Followed { anew: true }, 1));
    assert!(machine.error().abs() < 0.1, "{}", machine.error());
    // Without [local] nobody is told to use it.
    assert_eq!(machine.snapshot().state, State::Unsynchronised);
}

#[test]
fn servers_take_over_from_the_hand_and_are_not_overruled_by_it() {
    let sources = vec![server("A"), server("B")];
    let mut machine = Machine::new(EngineConfig { sources, ..EngineConfig::default() }, 0.0, 5.0);
    machine.set(7200.0);
    machine.live(100);
    let says = ServerSays { stratum: 1, ..ServerSays::default() };
    for _ in 0..12 {
        machine.live(8);
        machine.answer(0, 0.0, says);
        machine.answer(1, 0.0, says);
    }
    assert!(machine.error().abs() < 1e-3, "{}", machine.error());
    let snapshot = machine.snapshot();
    assert_eq!(snapshot.state, State::Network);
    let by_hand = &snapshot.sources[2];
    assert!((by_hand.name == "by hand") && matches!(by_hand.verdict, Verdict::Falseticker { .. }), "{by_hand:?}");
    let outcome = machine.set(1.0);
    assert_eq!(outcome.used, Use::Outranked { by: "A".into() });
    assert!((outcome.offset - 1.0).abs() < 0.01 && outcome.stepped.is_none());
    // They go away: the clock knows better than a person for a while.
    machine.live(400);
    assert!(matches!(machine.set(3.0).used, Use::KnownBetter { .. }));
    assert!(machine.error().abs() < 0.01, "{}", machine.error());
}

#[test]
fn a_panic_waits_for_the_operator() {
    let sources = vec![server("A")];
    let mut machine = Machine::new(EngineConfig { sources, ..EngineConfig::default() }, 0.0, 5.0);
    let says = ServerSays { stratum: 1, ..ServerSays::default() };
    let mut ahead = 0.0;
    let hear = |machine: &mut Machine, ahead: f64, times: usize| {
        for _ in 0..times {
            machine.live(8);
            machine.answer(0, ahead, says);
        }
    };
    hear(&mut machine, ahead, 30);
    assert_eq!(machine.snapshot().state, State::Network);
    // The server's clock now is two hours ahead, and ours was set long ago.
    ahead += 7200.0;
    hear(&mut machine, ahead, 60);
    let snapshot = machine.snapshot();
    assert!(matches!(snapshot.reason, StateReason::Panic { .. }), "{:?}", snapshot.reason);
    assert_eq!((snapshot.state, snapshot.system.stratum), (State::Unsynchronised, 16));
    assert!(machine.clock.panic().is_some());
    let off = machine.error();
    machine.live(100);
    assert!((machine.error() - off).abs() < 0.1, "it was moved by {}", machine.error() - off);
    let raw = machine.raw();
    let (offset, stepped) = machine.clock.handle_step(raw).unwrap().unwrap();
    assert!(stepped && offset < -1000.0, "{offset}");
    hear(&mut machine, ahead, 30);
    assert!((machine.error() - 7200.0).abs() < 0.01, "{}", machine.error());
    assert_eq!(machine.snapshot().state, State::Network);
}

#[test]
fn a_jump_is_followed_and_nothing_about_the_crystal_follows_from_it() {
    let sources = vec![server("A")];
    let mut machine = Machine::new(EngineConfig { sources, ..EngineConfig::default() }, 0.0, 5.0);
    let says = ServerSays { stratum: 1, ..ServerSays::default() };
    let hear = |machine: &mut Machine, ahead: f64, times: usize| {
        for _ in 0..times {
            machine.live(8);
            machine.answer(0, ahead, says);
        }
    };
    hear(&mut machine, 0.0, 60);
    let rate = |machine: &mut Machine| machine.snapshot().frequency.unwrap().0;
    let before = rate(&mut machine);
    hear(&mut machine, 20.0, 60);
    assert!((rate(&mut machine) - before).abs() < 2e-6, "{}", rate(&mut machine));
    assert!((machine.error() - 20.0).abs() < 1e-3, "{}", machine.error());
}

/// What a machine's clients are told, as a server's words.
fn says(snapshot: &Snapshot, raw: Timestamp<Raw>, id: u8, our_id: u8) -> Option<ServerSays> {
    let view = View::at(snapshot, raw);
    (view.stratum < 16).then(|| ServerSays {
        root_delay: view.root_delay.seconds(),
        root_dispersion: view.root_dispersion.seconds(),
        stratum: view.stratum,
        refid: view.refid,
        leap: view.leap,
        id: ReferenceId([192, 0, 2, id]),
        our_id: ReferenceId([192, 0, 2, our_id]),
        ..ServerSays::default()
    })
}

#[test]
fn of_orphans_one_serves_and_the_others_follow() {
    // Machines 192.0.2.7, .3 and .9, each with the others as servers; wildly different clocks.
    let ids = [7u8, 3, 9];
    let local = Some(LocalPolicy { wait_unsynchronised: 60.0, ..LocalPolicy::usual(true) });
    let mut machines: Vec<Machine> = (0..3)
        .map(|i| {
            let sources = (0..3).filter(|j| *j != i).map(|j| server(&format!("{}", ids[j]))).collect();
            let config = EngineConfig { sources, local, ..EngineConfig::default() };
            Machine::new(config, 100.0 * i as f64, 10.0 * i as f64)
        })
        .collect();
    let step = |machines: &mut Vec<Machine>, absent: Option<usize>| {
        for machine in machines.iter_mut() {
            machine.live(8);
        }
        for i in 0..3 {
            for (source, j) in (0..3).filter(|j| *j != i).enumerate() {
                let snapshot = machines[j].snapshot();
                let (raw, ahead) = (machines[j].raw(), machines[j].error());
                if let Some(says) = says(&snapshot, raw, ids[j], ids[i]).filter(|_| Some(j) != absent) {
                    machines[i].answer(source, ahead, says);
                }
            }
        }
    };
    let states = |machines: &mut Vec<Machine>| -> Vec<(State, u8)> {
        machines.iter_mut().map(|m| m.snapshot()).map(|s| (s.state, s.system.stratum)).collect()
    };
    // None is there at first, and each looks out for the others.
    step(&mut machines, None);
    assert!(states(&mut machines).iter().all(|(state, _)| *state == State::Unsynchronised));
    for _ in 0..40 {
        step(&mut machines, None);
    }
    assert_eq!(states(&mut machines), [(State::Network, 11), (State::Local, 10), (State::Network, 11)]);
    let errors: Vec<f64> = machines.iter_mut().map(Machine::error).collect();
    assert!((errors[0] - errors[1]).abs() < 1e-3 && (errors[2] - errors[1]).abs() < 1e-3, "{errors:?}");
    let verdicts: Vec<Verdict> = machines[1].snapshot().sources.iter().map(|s| s.verdict.clone()).collect();
    assert_eq!(verdicts, [Verdict::FollowsUs, Verdict::FollowsUs]);
    // The one that serves goes away: the next takes its place, and the third follows that.
    for _ in 0..600 {
        step(&mut machines, Some(1));
    }
    let after = states(&mut machines);
    assert_eq!((after[0], after[2]), ((State::Local, 10), (State::Network, 11)));
    // It comes back.
    for _ in 0..100 {
        step(&mut machines, None);
    }
    assert_eq!(states(&mut machines), [(State::Network, 11), (State::Local, 10), (State::Network, 11)]);
}
