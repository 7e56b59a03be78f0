use refclocks::time::Utc;

use super::*;
use crate::clock::fake_kernel::{Call, EVERY_CALL, Fake};
use crate::core::leap::LeapSecond;

const MIDNIGHT: Timestamp<Utc> = Timestamp::from_parts(1_800_230_400, 0);

fn taken(kernel: &Fake, utc: UtcMap) -> KernelClock {
    let mut clock = KernelClock::watch(Box::new(kernel.clone()), utc);
    clock.take(None).unwrap();
    clock
}

fn said(utc: UtcMap) -> Announcement {
    Announcement { synchronised: true, max_error: 410.2e-9, estimated_error: 80e-9, utc, leap_today: 0 }
}

#[test]
fn the_kernels_clock_follows_commands_and_says_how_good_it_is() {
    let kernel = Fake::default();
    kernel.0.realtime.set(Timestamp::from_parts(1_800_000_000, 0));
    kernel.0.rate.set(20e-6);
    let utc = UtcMap::default();
    let mut clock = taken(&kernel, utc);
    // What it found goes on, and CLOCK_TAI is made right.
    assert_eq!((clock.rate(), kernel.0.tai.get()), (20e-6, 37));
    let raw = kernel.0.raw.get();
    assert_eq!(clock.read(raw), utc.tai(Timestamp::from_parts(1_800_000_000, 0), false));
    clock.apply(ClockCommand::SetRate(-37.5e-6)).unwrap();
    clock.apply(ClockCommand::Step(Span::from_millis(-2200))).unwrap();
    kernel.pass(10.0);
    let expected = utc.tai(Timestamp::from_parts(1_800_000_007, 800_000_000), false) + Span::from_seconds(-375e-6);
    assert!((clock.read(kernel.0.raw.get()) - expected).seconds().abs() < 1e-12);
    clock.announce(&said(utc)).unwrap();
    let quality = kernel.0.quality.borrow().unwrap();
    assert_eq!((quality.unsynchronised, quality.max_error, quality.estimated_error), (false, 1, 1));
    clock.announce(&Announcement { synchronised: false, max_error: f64::INFINITY, ..said(utc) }).unwrap();
    let quality = kernel.0.quality.borrow().unwrap();
    assert_eq!((quality.unsynchronised, quality.max_error), (true, 16_000_000));
    assert_eq!(clock.foreign_hand(), None);
}

#[test]
fn a_clock_that_may_not_be_set_is_an_error_and_stays_as_it_is() {
    for code in [libc::EPERM, libc::EINVAL, libc::ENODEV] {
        let kernel = Fake::default();
        kernel.refuse(&EVERY_CALL, code);
        let mut clock = KernelClock::watch(Box::new(kernel.clone()), UtcMap::default());
        let refused = clock.take(None).unwrap_err();
        assert!(refused.to_string().starts_with("reading its discipline: "), "{refused}");
        assert!(!clock.steers());
        kernel.allow_all();
        clock.take(None).unwrap();
        kernel.refuse(&EVERY_CALL, code);
        assert!(clock.apply(ClockCommand::SetRate(1e-6)).is_err());
        assert!(clock.apply(ClockCommand::Step(Span::from_millis(1))).is_err());
        assert!(clock.announce(&said(UtcMap::default())).is_err());
        assert_eq!(clock.rate(), 0.0);
    }
}

#[test]
fn a_watched_clock_is_never_touched() {
    let kernel = Fake::default();
    kernel.0.realtime.set(Timestamp::from_parts(1_800_000_000, 0));
    kernel.refuse(&[Call::Rate, Call::Step, Call::Tai, Call::Quality], libc::EPERM);
    kernel.0.rate.set(5e-6);
    let utc = UtcMap::default();
    let mut clock = KernelClock::watch(Box::new(kernel.clone()), utc);
    clock.apply(ClockCommand::SetRate(1e-6)).unwrap();
    clock.announce(&said(utc)).unwrap();
    assert_eq!((clock.steers(), clock.rate()), (false, 5e-6));
    // The kernel's TAI is not known to be right; the table is.
    assert_eq!(clock.read(Timestamp::EPOCH), utc.tai(Timestamp::from_parts(1_800_000_000, 0), false));
}

#[test]
fn another_hand_on_the_rate_is_seen() {
    let kernel = Fake::default();
    let mut clock = taken(&kernel, UtcMap::default());
    clock.apply(ClockCommand::SetRate(1e-6)).unwrap();
    assert_eq!(clock.foreign_hand(), None);
    kernel.0.rate.set(50e-6);
    clock.apply(ClockCommand::SetRate(1e-6)).unwrap();
    assert_eq!(clock.foreign_hand(), Some(ForeignHand { found: 50e-6, ours: 1e-6 }));
    assert_eq!(kernel.0.rate.get(), 1e-6);
}

#[test]
fn a_leap_second_is_the_kernels_to_insert_and_changes_nothing_in_tai() {
    let kernel = Fake::default();
    let utc = UtcMap { tai_minus_utc: 37, next: Some(LeapSecond { at: MIDNIGHT, change: 1 }) };
    kernel.0.realtime.set(MIDNIGHT.reinterpret() - Span::from_whole_seconds(100));
    let mut clock = taken(&kernel, utc);
    clock.announce(&Announcement { leap_today: 1, ..said(utc) }).unwrap();
    assert!(kernel.0.quality.borrow().unwrap().insert);
    kernel.pass(99.0);
    let before = clock.read(kernel.0.raw.get());
    // The kernel repeats the last second: REALTIME goes back, TAI - UTC goes up.
    kernel.pass(1.0);
    kernel.0.realtime.set(kernel.0.realtime.get() - Span::from_whole_seconds(1));
    kernel.0.tai.set(38);
    assert_eq!(clock.read(kernel.0.raw.get()) - before, Span::from_whole_seconds(1));
    clock.announce(&said(utc)).unwrap();
    kernel.pass(60.0);
    clock.announce(&said(utc)).unwrap();
    assert_eq!(kernel.0.tai.get(), 38);
    assert_eq!(clock.read(kernel.0.raw.get()) - before, Span::from_whole_seconds(61));
}

#[test]
fn a_kernel_that_was_set_is_told_of_its_leap_second_anew() {
    let kernel = Fake::default();
    let utc = UtcMap { tai_minus_utc: 37, next: Some(LeapSecond { at: MIDNIGHT, change: 1 }) };
    kernel.0.realtime.set(MIDNIGHT.reinterpret() - Span::from_whole_seconds(1000));
    let mut clock = taken(&kernel, utc);
    let mut inserts = || {
        clock.announce(&Announcement { leap_today: 1, ..said(utc) }).unwrap();
        kernel.0.quality.borrow().unwrap().insert
    };
    assert!(inserts());
    kernel.0.pending.set(true);
    assert!(inserts());
    // Somebody sets the clock: the flag goes down until the kernel has seen it, and up again.
    let forgotten = Quality { unsynchronised: true, ..kernel.0.quality.borrow().unwrap() };
    *kernel.0.quality.borrow_mut() = Some(forgotten);
    assert!(!inserts());
    assert!(!inserts());
    kernel.0.pending.set(false);
    assert!(!inserts());
    assert!(inserts());
}

/// A clock that is to cross a leap second in this way, 100 s before it.
fn before_a_leap(change: i32, mode: LeapMode) -> (Fake, KernelClock, UtcMap) {
    let kernel = Fake::default();
    let utc = UtcMap { tai_minus_utc: 37, next: Some(LeapSecond { at: MIDNIGHT, change }) };
    kernel.0.realtime.set(MIDNIGHT.reinterpret() - Span::from_whole_seconds(100));
    kernel.0.rate.set(20e-6);
    let mut clock = KernelClock::watch(Box::new(kernel.clone()), utc).cross_leaps(mode, 0.01);
    clock.take(Some(0.0)).unwrap();
    clock.announce(&Announcement { leap_today: change, ..said(utc) }).unwrap();
    let quality = kernel.0.quality.borrow().unwrap();
    assert_eq!((quality.insert, quality.delete), (false, false), "the kernel is not told of what is ours to do");
    (kernel, clock, utc)
}

#[test]
fn a_leap_second_is_slewed_and_those_who_steer_see_none_of_it() {
    for change in [1, -1] {
        let (kernel, mut clock, utc) = before_a_leap(change, LeapMode::Slew);
        let begun = clock.read(kernel.0.raw.get());
        let tai = |passed: f64| begun + Span::from_seconds(passed);
        let left = |clock: &KernelClock| clock.leap_left(kernel.0.raw.get()).map(Span::seconds);
        // The one that is left out would have been the last of the day.
        let parting = if change > 0 { 100.0 } else { 99.0 };
        let at = clock.poll_timeout().unwrap() - kernel.0.raw.get();
        assert!((at.seconds() - parting).abs() < 1e-9, "{at:?}");
        let mut passed = 0.0;
        let mut pass = |seconds: f64| {
            kernel.pass(seconds);
            passed += seconds;
            passed
        };
        pass(parting - 0.5);
        clock.handle_timeout(kernel.0.raw.get()).unwrap();
        assert_eq!(left(&clock), None);
        pass(0.501);
        clock.handle_timeout(kernel.0.raw.get()).unwrap();
        assert_eq!(left(&clock), Some(f64::from(change)));
        // Half way: another rate of the discipline's does not disturb it.
        let now = pass(25.0);
        assert!((clock.read(kernel.0.raw.get()) - tai(now)).seconds().abs() < 1e-9);
        clock.apply(ClockCommand::SetRate(1e-6)).unwrap();
        assert!((clock.rate() - 1e-6).abs() < 1e-12);
        assert_eq!(clock.foreign_hand(), None);
        clock.apply(ClockCommand::SetRate(0.0)).unwrap();
        let now = pass(25.0);
        let off = clock.read(kernel.0.raw.get()) - tai(now);
        assert!(off.seconds().abs() < 1e-9, "{off:?}");
        assert!((left(&clock).unwrap() - 0.5 * f64::from(change)).abs() < 1e-9);
        // Other programs are told how far off it is meanwhile.
        clock.announce(&said(utc)).unwrap();
        let quality = kernel.0.quality.borrow().unwrap();
        assert_eq!((quality.max_error, quality.unsynchronised), (500_001, false));
        // The last of it goes slowly, and it does not matter that we wake late.
        let mut now = 0.0;
        for expected in [48.0, 200.0] {
            let over = clock.poll_timeout().unwrap() - kernel.0.raw.get();
            assert!((over.seconds() - expected).abs() < 1e-2, "{over:?}");
            now = pass(over.seconds() + 10e-6);
            clock.handle_timeout(kernel.0.raw.get()).unwrap();
            assert!((clock.read(kernel.0.raw.get()) - tai(now)).seconds().abs() < 2e-9);
        }
        assert_eq!((left(&clock), clock.poll_timeout()), (None, None));
        assert!(kernel.0.rate.get().abs() < 1e-12);
        assert!((clock.read(kernel.0.raw.get()) - tai(now)).seconds().abs() < 2e-9);
        let realtime = utc.utc(tai(now)).0.reinterpret();
        assert!((kernel.0.realtime.get() - realtime).seconds().abs() < 2e-9);
        assert_eq!(kernel.0.tai.get(), 37 + change);
    }
}

#[test]
fn whoever_is_interrupted_while_a_slew_begins_knows_since_when_it_runs() {
    for interrupted in [(0.013, 0.002), (0.0, 0.013), (0.013, 0.0)] {
        let (kernel, mut clock, _) = before_a_leap(1, LeapMode::Slew);
        let begun = clock.read(kernel.0.raw.get());
        kernel.pass(100.001);
        kernel.0.interrupted.set(interrupted);
        clock.handle_timeout(kernel.0.raw.get()).unwrap();
        kernel.0.interrupted.set((0.0, 0.0));
        let passed = 100.001 + interrupted.0 + interrupted.1;
        let off = clock.read(kernel.0.raw.get()) - begun - Span::from_seconds(passed);
        assert!(off.seconds().abs() < 2e-9, "{interrupted:?}: {off:?}");
    }
}

#[test]
fn a_slew_over_a_leap_second_ends_with_whoever_slews() {
    let (kernel, mut clock, _) = before_a_leap(1, LeapMode::Slew);
    kernel.pass(101.0);
    clock.handle_timeout(kernel.0.raw.get()).unwrap();
    assert_eq!(kernel.0.rate.get(), -0.01);
    clock.end_slew().unwrap();
    assert_eq!((kernel.0.rate.get(), clock.leap_left(kernel.0.raw.get())), (0.0, None));
    // Whoever takes the clock then takes it as it is: there is no second slew.
    clock.take(None).unwrap();
    assert_eq!(clock.poll_timeout(), None);
}

#[test]
fn a_leap_second_may_be_ours_to_step() {
    for change in [1, -1] {
        let (kernel, mut clock, utc) = before_a_leap(change, LeapMode::Step);
        let begun = clock.read(kernel.0.raw.get());
        kernel.pass(clock.poll_timeout().map(|at| (at - kernel.0.raw.get()).seconds()).unwrap());
        kernel.pass(0.001);
        clock.handle_timeout(kernel.0.raw.get()).unwrap();
        kernel.pass(10.0);
        clock.handle_timeout(kernel.0.raw.get()).unwrap();
        let tai = begun + (kernel.0.raw.get() - Timestamp::EPOCH);
        assert!((clock.read(kernel.0.raw.get()) - tai).seconds().abs() < 1e-9);
        assert!((kernel.0.realtime.get() - utc.utc(tai).0.reinterpret()).seconds().abs() < 1e-9);
        assert_eq!((kernel.0.tai.get(), clock.poll_timeout()), (37 + change, None));
    }
}
