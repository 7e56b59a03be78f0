//! What goes wrong in the simulated world, and when.

use super::server::Detour;

/// Something goes wrong for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// When it begins, s after the start.
    pub from: f64,
    /// When it is over, s after the start; infinite: never.
    pub until: f64,
    /// What it is.
    pub what: What,
}

/// What goes wrong. Sources by their index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// Nothing comes: no edge, no byte, no packet.
    Silent(usize),
    /// The receiver does not see the sky: its messages say so, and it gives no pulse.
    NoFix(usize),
    /// Its time is ahead of true time by this much, s.
    Ahead(usize, f64),
    /// Its date is off by so many weeks.
    Weeks(usize, i64),
    /// The way to the server is longer there and back by this much, s.
    Route(usize, f64, f64),
    /// Our crystal runs faster by this much, s/s.
    Frequency(f64),
    /// Our counter jumps ahead by this much, s.
    Phase(f64),
    /// Our crystal's random walk is this one, (s/s)/sqrt(s).
    Wander(f64),
}

/// How one source is at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Condition {
    /// Nothing comes.
    pub silent: bool,
    /// It has no fix.
    pub no_fix: bool,
    /// Its time is ahead, s.
    pub ahead: f64,
    /// Its date is off by so many weeks.
    pub weeks: i64,
    /// The way is longer there and back, s.
    pub longer: (f64, f64),
}

impl Fault {
    /// Is it so many seconds after the start?
    pub fn is_on(&self, since: f64) -> bool {
        self.from <= since && since < self.until
    }
}

impl Condition {
    /// How a source is, so many seconds after the start.
    pub fn of(source: usize, faults: &[Fault], since: f64) -> Self {
        let mut condition = Self::default();
        for fault in faults.iter().filter(|f| f.is_on(since)) {
            match fault.what {
                What::Silent(i) if i == source => condition.silent = true,
                What::NoFix(i) if i == source => condition.no_fix = true,
                What::Ahead(i, by) if i == source => condition.ahead += by,
                What::Weeks(i, weeks) if i == source => condition.weeks += weeks,
                What::Route(i, there, back) if i == source => {
                    condition.longer = (condition.longer.0 + there, condition.longer.1 + back);
                }
                _ => {}
            }
        }
        condition
    }

    /// What that means for an exchange of packets.
    pub fn detour(&self) -> Detour {
        let week = 7.0 * 86_400.0 * self.weeks as f64;
        Detour { silent: self.silent, there: self.longer.0, back: self.longer.1, ahead: self.ahead + week }
    }
}
