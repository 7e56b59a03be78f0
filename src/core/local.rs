//! `[local]`: when a clock that nobody checks is served, and which of several machines that could do so
//! does.
//!
//! It changes what clients are told, never the clock itself. Such a clock is its own root: the
//! dispersion that its clients are told counts from it, not from UTC.

use refclocks::ReferenceId;
use serde::{Deserialize, Serialize};

use super::source::ServerSays;

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalPolicy {
    /// The stratum to serve it at.
    pub stratum: u8,
    /// Serve it so, rather than by its source, once it is only known to within this, s...
    pub distance: f64,
    /// ...but not before it has been known to better than this once, s. `None`: at once.
    pub activate: Option<f64>,
    /// Of several machines that see each other, one serves it and the others follow.
    pub orphan: bool,
    /// Wait so long after the last measurement, s.
    pub wait_synchronised: f64,
    /// Wait so long for a first one, s: another machine may serve it already.
    pub wait_unsynchronised: f64,
}

impl LocalPolicy {
    /// Stratum 10, at once; machines that choose one among them look out for the others first.
    pub fn usual(orphan: bool) -> Self {
        Self {
            stratum: 10,
            distance: 1.0,
            activate: None,
            orphan,
            wait_synchronised: 0.0,
            wait_unsynchronised: if orphan { 300.0 } else { 0.0 },
        }
    }
}

/// May the clock be served as it is?
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Readiness {
    /// The operator does not want it.
    Off,
    /// Yes, once it is known to no better than `distance`, s.
    Ready {
        /// The limit, s.
        distance: f64,
    },
    /// It has never been known well enough.
    NotActivated {
        /// To within this, s.
        activate: f64,
    },
    /// Not yet.
    Waiting {
        /// For so long, s.
        left: f64,
    },
}

impl Readiness {
    /// Is it ready?
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Ready { .. })
    }
}

/// The local reference.
#[derive(Clone, Debug, Default)]
pub struct LocalReference {
    policy: Option<LocalPolicy>,
    activated: bool,
}

/// What a server is to a machine in orphan mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinship {
    /// It has its time from elsewhere.
    Stranger,
    /// It serves a clock that nobody checks, and is the one to do so rather than us.
    Elder,
    /// It serves such a clock, or follows one that does; we do not follow it.
    Younger,
}

impl LocalReference {
    /// A reference that has not been activated.
    pub fn new(policy: Option<LocalPolicy>) -> Self {
        Self { policy, activated: false }
    }

    /// The operator wants something else.
    pub fn configure(&mut self, policy: Option<LocalPolicy>) {
        self.policy = policy;
    }

    /// What the operator wants.
    pub fn policy(&self) -> Option<LocalPolicy> {
        self.policy
    }

    /// A source checks the clock, which is known to within `bound` s.
    pub fn handle_synchronised(&mut self, bound: f64) {
        self.activated |= self.policy.and_then(|p| p.activate).is_some_and(|activate| bound < activate);
    }

    /// May it be served? `since_fed`: seconds since the last measurement, if there ever was one;
    /// `since_started`: since the start, s.
    pub fn readiness(&self, since_fed: Option<f64>, since_started: f64) -> Readiness {
        let Some(policy) = self.policy else { return Readiness::Off };
        if let Some(activate) = policy.activate.filter(|_| !self.activated) {
            return Readiness::NotActivated { activate };
        }
        let left = match since_fed {
            Some(since) => policy.wait_synchronised - since,
            None => policy.wait_unsynchronised - since_started,
        };
        if left > 0.0 { Readiness::Waiting { left } } else { Readiness::Ready { distance: policy.distance } }
    }

    /// What a server is to us: of the machines at the orphans' stratum, the one whose address makes
    /// the smallest reference ID serves, and those that follow it only repeat what it says.
    pub fn kinship(&self, says: &ServerSays) -> Kinship {
        let Some(policy) = self.policy.filter(|p| p.orphan) else { return Kinship::Stranger };
        if says.stratum < policy.stratum || says.stratum == 0 {
            Kinship::Stranger
        } else if says.stratum == policy.stratum && rank(says.id) < rank(says.our_id) {
            Kinship::Elder
        } else {
            Kinship::Younger
        }
    }
}

/// Reference IDs as numbers.
pub fn rank(id: ReferenceId) -> u32 {
    u32::from_be_bytes(id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn served_at_once_unless_something_is_to_come_first() {
        let ready = Readiness::Ready { distance: 1.0 };
        let usual = LocalReference::new(Some(LocalPolicy::usual(false)));
        assert_eq!((usual.readiness(None, 0.0), usual.readiness(Some(0.0), 9.0)), (ready, ready));
        assert_eq!(LocalReference::default().readiness(None, 1e9), Readiness::Off);

        let policy = LocalPolicy { wait_synchronised: 60.0, ..LocalPolicy::usual(true) };
        let orphan = LocalReference::new(Some(policy));
        assert_eq!(orphan.readiness(None, 100.0), Readiness::Waiting { left: 200.0 });
        assert_eq!(orphan.readiness(None, 300.0), ready);
        assert_eq!(orphan.readiness(Some(15.0), 1000.0), Readiness::Waiting { left: 45.0 });
    }

    #[test]
    fn activated_once_and_for_all() {
        let policy = LocalPolicy { activate: Some(0.1), ..LocalPolicy::usual(false) };
        let mut local = LocalReference::new(Some(policy));
        local.handle_synchronised(0.2);
        assert_eq!(local.readiness(Some(0.0), 50.0), Readiness::NotActivated { activate: 0.1 });
        local.handle_synchronised(0.05);
        local.handle_synchronised(5.0);
        assert!(local.readiness(Some(0.0), 50.0).is_ready());
    }

    #[test]
    fn the_smallest_reference_id_serves_and_nobody_follows_a_follower() {
        let says = |stratum, id: u8, our: u8| ServerSays {
            stratum,
            id: ReferenceId([192, 0, 2, id]),
            our_id: ReferenceId([192, 0, 2, our]),
            ..ServerSays::default()
        };
        let local = LocalReference::new(Some(LocalPolicy::usual(true)));
        assert_eq!(local.kinship(&says(9, 1, 2)), Kinship::Stranger);
        assert_eq!(local.kinship(&says(10, 1, 2)), Kinship::Elder);
        assert_eq!(local.kinship(&says(10, 3, 2)), Kinship::Younger);
        assert_eq!(local.kinship(&says(10, 200, 100)), Kinship::Younger);
        assert_eq!(local.kinship(&says(11, 1, 2)), Kinship::Younger);
        let alone = LocalReference::new(Some(LocalPolicy::usual(false)));
        assert_eq!(alone.kinship(&says(12, 3, 2)), Kinship::Stranger);
        // Of any number of machines that see each other exactly one follows nobody.
        let ids = [17, 4, 250, 9];
        let elders = |our: u8| ids.iter().filter(|id| local.kinship(&says(10, **id, our)) == Kinship::Elder).count();
        assert_eq!(ids.iter().filter(|our| elders(**our) == 0).collect::<Vec<_>>(), [&4]);
    }
}
