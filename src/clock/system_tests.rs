use super::*;
use crate::clock::fake_kernel::{Call, EVERY_CALL, Fake};
use crate::core::leap::UtcMap;

const START: Timestamp<Tai> = Timestamp::from_parts(1_800_000_037, 0);

fn kernel() -> Fake {
    let kernel = Fake::default();
    kernel.0.realtime.set(Timestamp::from_parts(1_800_000_000, 0));
    kernel
}

fn watched(kernel: &Fake) -> KernelClock {
    KernelClock::watch(Box::new(kernel.clone()), UtcMap::default())
}

fn steered(kernel: &Fake, instead: Instead) -> SystemClock {
    SystemClock::steer(watched(kernel), instead, kernel.0.raw.get())
}

fn said() -> Announcement {
    let utc = UtcMap::default();
    Announcement { synchronised: true, max_error: 1e-6, estimated_error: 1e-7, utc, leap_today: 0 }
}

/// So many seconds later, in the steps in which a daemon wakes.
fn pass(kernel: &Fake, clock: &mut SystemClock, seconds: u32) {
    for _ in 0..seconds {
        kernel.pass(1.0);
        clock.handle_timeout(kernel.0.raw.get());
    }
}

#[test]
fn a_refusal_at_the_start_is_told_and_tried_again() {
    for code in [libc::EPERM, libc::EINVAL, libc::ENODEV] {
        let kernel = kernel();
        kernel.refuse(&EVERY_CALL, code);
        let behind = START - Span::from_millis(30);
        let mut clock = steered(&kernel, Instead::Own(behind));
        let refusal = clock.refusal().unwrap().clone();
        assert_eq!((clock.kind(), refusal.permission), (ClockKind::Own, code == libc::EPERM));
        assert!(
            refusal.to_string().starts_with("the system clock cannot be set (reading its discipline: "),
            "{refusal}"
        );
        assert_eq!(clock.read(kernel.0.raw.get()), behind);

        kernel.allow_all();
        pass(&kernel, &mut clock, 2);
        assert_eq!((clock.refusal(), clock.kind()), (None, ClockKind::System));
        // It was brought to where ours was.
        assert_eq!(clock.retaken(), Some(Span::from_millis(-30)));
        assert_eq!(clock.read(kernel.0.raw.get()), behind + Span::from_whole_seconds(2));
    }
}

#[test]
fn a_refusal_at_any_later_time_leaves_no_gap_in_what_is_served() {
    let commands = [ClockCommand::SetRate(5e-6), ClockCommand::Step(Span::from_millis(-7))];
    for (refused, command) in [Call::Rate, Call::Step].into_iter().zip(commands) {
        let kernel = kernel();
        let mut clock = steered(&kernel, Instead::Own(START));
        let raw = kernel.0.raw.get();
        clock.apply(raw, ClockCommand::SetRate(20e-6));
        assert_eq!((clock.kind(), clock.refusal()), (ClockKind::System, None));
        kernel.refuse(&[refused], libc::EPERM);
        clock.apply(raw, command);
        assert_eq!(clock.kind(), ClockKind::Own);
        let (offset, rate) = match command {
            ClockCommand::SetRate(rate) => (Span::ZERO, rate),
            ClockCommand::Step(by) => (by, 20e-6),
        };
        assert_eq!((clock.read(raw), clock.rate()), (START + offset, rate));
        // Other hands move the system's clock meanwhile, and ours goes on.
        kernel.pass(1000.0);
        kernel.0.realtime.set(kernel.0.realtime.get() + Span::from_whole_seconds(3600));
        let raw = kernel.0.raw.get();
        let expected = START + offset + Span::from_seconds(1000.0 * (1.0 + rate));
        assert!((clock.read(raw) - expected).seconds().abs() < 1e-9);
        kernel.allow_all();
        clock.handle_timeout(raw);
        assert_eq!((clock.kind(), clock.rate()), (ClockKind::System, rate));
        assert!((clock.read(raw) - expected).seconds().abs() < 2e-9);
    }
}

#[test]
fn what_other_programs_are_told_is_refused_like_the_rest() {
    let kernel = kernel();
    let mut clock = steered(&kernel, Instead::Watch);
    clock.announce(kernel.0.raw.get(), &said());
    assert_eq!(clock.refusal(), None);
    kernel.refuse(&[Call::Quality], libc::EINVAL);
    clock.announce(kernel.0.raw.get(), &said());
    assert_eq!(clock.kind(), ClockKind::Watched);
    let text = clock.refusal().unwrap().to_string();
    assert!(text.contains("setting its status: Invalid argument") && text.ends_with("it is only watched"), "{text}");
    // The rest may be set, and yet it is not taken: it would only be refused again.
    pass(&kernel, &mut clock, 100);
    assert_eq!((clock.kind(), clock.retaken()), (ClockKind::Watched, None));
    kernel.allow_all();
    pass(&kernel, &mut clock, 100);
    assert_eq!(clock.retaken(), None);
    assert_eq!((clock.kind(), clock.refusal()), (ClockKind::System, None));
}

#[test]
fn tries_become_rarer_and_never_end() {
    let kernel = kernel();
    kernel.refuse(&EVERY_CALL, libc::EPERM);
    let mut clock = steered(&kernel, Instead::Watch);
    let mut tries = Vec::new();
    for second in 1..2000 {
        let before = clock.refused.as_ref().unwrap().next_try;
        pass(&kernel, &mut clock, 1);
        if clock.refused.as_ref().unwrap().next_try != before {
            tries.push(second);
        }
    }
    assert_eq!(tries, [2, 6, 14, 30, 62, 126, 254, 510, 766, 1022, 1278, 1534, 1790]);
}

#[test]
fn a_clock_that_is_only_to_be_watched_is_never_taken() {
    let kernel = kernel();
    let mut clock = SystemClock::watch(watched(&kernel));
    clock.apply(kernel.0.raw.get(), ClockCommand::SetRate(1e-6));
    clock.announce(kernel.0.raw.get(), &said());
    pass(&kernel, &mut clock, 600);
    assert_eq!((clock.kind(), clock.refusal(), kernel.0.rate.get()), (ClockKind::Watched, None, 0.0));
    assert!(kernel.0.quality.borrow().is_none());
}
