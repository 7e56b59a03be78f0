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
