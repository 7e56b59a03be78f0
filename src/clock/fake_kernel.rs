//! A kernel for tests, which refuses what it is told to.
#![allow(unreachable_pub, missing_docs)]

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use refclocks::time::{Raw, Realtime, Span, Tai, Timestamp};

use crate::sys::kernel_clock::{Discipline, Kernel, Quality, Reading};

/// A kernel in a box: REALTIME is a line over a raw counter that the test moves.
#[derive(Clone)]
pub struct Fake(pub Rc<State>);

/// What a kernel can refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Read,
    Rate,
    Step,
    Tai,
    Quality,
}

pub const EVERY_CALL: [Call; 5] = [Call::Read, Call::Rate, Call::Step, Call::Tai, Call::Quality];

impl Default for Fake {
    fn default() -> Self {
        Self(Rc::new(State {
            raw: Cell::new(Timestamp::EPOCH),
            realtime: Cell::new(Timestamp::EPOCH),
            rate: Cell::new(0.0),
            tai: Cell::new(0),
            quality: RefCell::new(None),
            pending: Cell::new(false),
            refuses: RefCell::default(),
            interrupted: Cell::default(),
        }))
    }
}

pub struct State {
    pub raw: Cell<Timestamp<Raw>>,
    pub realtime: Cell<Timestamp<Realtime>>,
    pub rate: Cell<f64>,
    pub tai: Cell<i32>,
    pub quality: RefCell<Option<Quality>>,
    /// Is a leap second before it?
    pub pending: Cell<bool>,
    pub refuses: RefCell<Vec<(Call, i32)>>,
    /// So long, s, before a rate is taken and after it somebody else runs.
    pub interrupted: Cell<(f64, f64)>,
}

impl Fake {
    pub fn pass(&self, seconds: f64) {
        let state = &self.0;
        state.raw.set(state.raw.get() + Span::from_seconds(seconds));
        state.realtime.set(state.realtime.get() + Span::from_seconds(seconds * (1.0 + state.rate.get())));
    }

    /// These calls fail with this error from now on.
    pub fn refuse(&self, calls: &[Call], code: i32) {
        self.0.refuses.borrow_mut().extend(calls.iter().map(|call| (*call, code)));
    }

    pub fn allow_all(&self) {
        self.0.refuses.borrow_mut().clear();
    }

    fn allowed(&self, call: Call) -> io::Result<()> {
        let refuses = self.0.refuses.borrow();
        let code = refuses.iter().find(|(refused, _)| *refused == call).map(|(_, code)| *code);
        code.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
    }
}

impl Kernel for Fake {
    fn read(&self) -> Reading {
        let (raw, realtime) = (self.0.raw.get(), self.0.realtime.get());
        let tai = realtime.reinterpret::<Tai>() + Span::from_whole_seconds(self.0.tai.get().into());
        Reading { raw_before: raw, tai, raw_after: raw, realtime }
    }

    fn discipline(&mut self) -> io::Result<Discipline> {
        self.allowed(Call::Read)?;
        Ok(Discipline {
            rate: self.0.rate.get(),
            tai_minus_utc: self.0.tai.get(),
            unsynchronised: self.0.quality.borrow().is_none_or(|quality| quality.unsynchronised),
            inserts: false,
            deletes: false,
        })
    }

    fn set_rate(&mut self, rate: f64) -> io::Result<f64> {
        self.allowed(Call::Rate)?;
        let (before, after) = self.0.interrupted.get();
        self.pass(before);
        self.0.rate.set(rate);
        self.pass(after);
        Ok(rate)
    }

    fn step(&mut self, by: Span) -> io::Result<()> {
        self.allowed(Call::Step)?;
        self.0.realtime.set(self.0.realtime.get() + by);
        Ok(())
    }

    fn set_tai(&mut self, tai_minus_utc: i32) -> io::Result<()> {
        self.allowed(Call::Tai)?;
        self.0.tai.set(tai_minus_utc);
        Ok(())
    }

    fn set_quality(&mut self, quality: &Quality) -> io::Result<bool> {
        self.allowed(Call::Quality)?;
        *self.0.quality.borrow_mut() = Some(*quality);
        Ok(self.0.pending.get())
    }
}
