use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use refclocks::time::{Realtime, Utc};

use super::*;
use crate::core::leap::LeapSecond;
use crate::sys::kernel_clock::Discipline;

/// A kernel in a box: REALTIME is a line over a raw counter that the test moves.
#[derive(Clone)]
struct Fake(Rc<State>);

impl Default for Fake {
    fn default() -> Self {
        Self(Rc::new(State {
            raw: Cell::new(Timestamp::EPOCH),
            realtime: Cell::new(Timestamp::EPOCH),
            rate: Cell::new(0.0),
            tai: Cell::new(0),
            quality: RefCell::new(None),
            pending: Cell::new(false),
            refuses: Cell::new(None),
        }))
    }
}

struct State {
    raw: Cell<Timestamp<Raw>>,
    realtime: Cell<Timestamp<Realtime>>,
    rate: Cell<f64>,
    tai: Cell<i32>,
    quality: RefCell<Option<Quality>>,
    /// Is a leap second before it?
    pending: Cell<bool>,
    refuses: Cell<Option<i32>>,
}

impl Fake {
    fn pass(&self, seconds: f64) {
        let state = &self.0;
        state.raw.set(state.raw.get() + Span::from_seconds(seconds));
        state.realtime.set(state.realtime.get() + Span::from_seconds(seconds * (1.0 + state.rate.get())));
    }

    fn allowed(&self) -> io::Result<()> {
        self.0.refuses.get().map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
    }
}

impl Kernel for Fake {
    fn read(&self) -> Reading {
        let (raw, realtime) = (self.0.raw.get(), self.0.realtime.get());
        let tai = realtime.reinterpret::<Tai>() + Span::from_whole_seconds(self.0.tai.get().into());
        Reading { raw_before: raw, tai, raw_after: raw, realtime }
    }

    fn discipline(&mut self) -> io::Result<Discipline> {
        Ok(Discipline {
            rate: self.0.rate.get(),
            tai_minus_utc: self.0.tai.get(),
            unsynchronised: self.0.quality.borrow().is_none_or(|quality| quality.unsynchronised),
            inserts: false,
            deletes: false,
        })
    }

    fn set_rate(&mut self, rate: f64) -> io::Result<f64> {
        self.allowed()?;
        self.0.rate.set(rate);
        Ok(rate)
    }

    fn step(&mut self, by: Span) -> io::Result<()> {
        self.allowed()?;
        self.0.realtime.set(self.0.realtime.get() + by);
        Ok(())
    }

    fn set_tai(&mut self, tai_minus_utc: i32) -> io::Result<()> {
        self.allowed()?;
        self.0.tai.set(tai_minus_utc);
        Ok(())
    }

    fn set_quality(&mut self, quality: &Quality) -> io::Result<bool> {
        self.allowed()?;
        *self.0.quality.borrow_mut() = Some(*quality);
        Ok(self.0.pending.get())
    }
}

const MIDNIGHT: Timestamp<Utc> = Timestamp::from_parts(1_800_230_400, 0);

fn said(utc: UtcMap) -> Announcement {
    Announcement { synchronised: true, max_error: 410.2e-9, estimated_error: 80e-9, utc, leap_today: 0 }
}

#[test]
fn the_kernels_clock_follows_commands_and_says_how_good_it_is() {
    let kernel = Fake::default();
    kernel.0.realtime.set(Timestamp::from_parts(1_800_000_000, 0));
    kernel.0.rate.set(20e-6);
    let utc = UtcMap::default();
    let mut clock = KernelClock::take(Box::new(kernel.clone()), utc).unwrap();
    // What it found goes on, and CLOCK_TAI is made right.
    assert_eq!((clock.rate(), kernel.0.tai.get()), (20e-6, 37));
    let raw = kernel.0.raw.get();
    assert_eq!(clock.read(raw), utc.tai(Timestamp::from_parts(1_800_000_000, 0), false));
    clock.apply(raw, ClockCommand::SetRate(-37.5e-6)).unwrap();
    clock.apply(raw, ClockCommand::Step(Span::from_millis(-2200))).unwrap();
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
fn a_clock_that_may_not_be_set_is_an_error_and_later_a_refusal() {
    for code in [libc::EPERM, libc::EINVAL, libc::ENODEV] {
        let kernel = Fake::default();
        kernel.0.refuses.set(Some(code));
        let refused = KernelClock::take(Box::new(kernel.clone()), UtcMap::default()).err().unwrap();
        assert!(refused.to_string().contains("may not be set"), "{refused}");
        kernel.0.refuses.set(None);
        let mut clock = KernelClock::take(Box::new(kernel.clone()), UtcMap::default()).unwrap();
        kernel.0.refuses.set(Some(code));
        assert!(clock.apply(Timestamp::EPOCH, ClockCommand::SetRate(1e-6)).is_err());
        assert!(clock.apply(Timestamp::EPOCH, ClockCommand::Step(Span::from_millis(1))).is_err());
        assert!(clock.announce(&said(UtcMap::default())).is_err());
        assert_eq!(clock.rate(), 0.0);
    }
}

#[test]
fn a_watched_clock_is_never_touched() {
    let kernel = Fake::default();
    kernel.0.realtime.set(Timestamp::from_parts(1_800_000_000, 0));
    kernel.0.refuses.set(Some(libc::EPERM));
    kernel.0.rate.set(5e-6);
    let utc = UtcMap::default();
    let mut clock = KernelClock::watch(Box::new(kernel.clone()), utc);
    clock.apply(Timestamp::EPOCH, ClockCommand::SetRate(1e-6)).unwrap();
    clock.announce(&said(utc)).unwrap();
    assert_eq!((clock.kind(), clock.rate()), (ClockKind::Watched, 5e-6));
    // The kernel's TAI is not known to be right; the table is.
    assert_eq!(clock.read(Timestamp::EPOCH), utc.tai(Timestamp::from_parts(1_800_000_000, 0), false));
}

#[test]
fn another_hand_on_the_rate_is_seen() {
    let kernel = Fake::default();
    let mut clock = KernelClock::take(Box::new(kernel.clone()), UtcMap::default()).unwrap();
    clock.apply(Timestamp::EPOCH, ClockCommand::SetRate(1e-6)).unwrap();
    assert_eq!(clock.foreign_hand(), None);
    kernel.0.rate.set(50e-6);
    clock.apply(Timestamp::EPOCH, ClockCommand::SetRate(1e-6)).unwrap();
    assert_eq!(clock.foreign_hand(), Some(ForeignHand { found: 50e-6, ours: 1e-6 }));
    assert_eq!(kernel.0.rate.get(), 1e-6);
}

#[test]
fn a_leap_second_is_the_kernels_to_insert_and_changes_nothing_in_tai() {
    let kernel = Fake::default();
    let utc = UtcMap { tai_minus_utc: 37, next: Some(LeapSecond { at: MIDNIGHT, change: 1 }) };
    kernel.0.realtime.set(MIDNIGHT.reinterpret() - Span::from_whole_seconds(100));
    let mut clock = KernelClock::take(Box::new(kernel.clone()), utc).unwrap();
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
    let mut clock = KernelClock::take(Box::new(kernel.clone()), utc).unwrap();
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
