//! A pool: one name, several servers behind it, of which some are to be used. Pure.
//!
//! ```text
//! poll_timeout -> wait -> handle_timeout -> poll_step -> Resolve -> handle_resolved
//!                                                     -> Add, Remove: an association begins, ends
//! handle_standing: how a member does
//! ```
//! The name may have no address for now, give others each time it is asked, or change them for good:
//! what is used is kept as long as it is of use, and replaced when it is not and there is another.

use std::collections::VecDeque;
use std::net::SocketAddr;

use refclocks::time::{Raw, Span, Timestamp};

/// A member may be of no use for so long before it is replaced.
const PATIENCE: Span = Span::from_whole_seconds(300);
/// A member that was replaced is not tried again for so long.
const SPENT_FOR: Span = Span::from_whole_seconds(7200);
/// Without any server the name is asked again so soon at first, s, and so late at last.
const FIRST_WAIT: i64 = 2;
const LAST_WAIT: i64 = 64;
/// With some servers, but fewer than wanted: a resolver gives a few at a time.
const FIRST_WAIT_FOR_MORE: i64 = 64;
const LAST_WAIT_FOR_MORE: i64 = 3600;

/// What the owner of a pool is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask for the addresses of the name, and hand them to [`Pool::handle_resolved`].
    Resolve,
    /// Begin an association with this server.
    Add(SocketAddr),
    /// End it.
    Remove(SocketAddr),
}

/// How a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is of use, or may yet be.
    Good,
    /// It does not answer, has no time, or a wrong one.
    Useless,
    /// It wants no requests from us.
    Refused,
}

#[derive(Clone, Debug)]
struct Member {
    address: SocketAddr,
    /// Since when it is of no use.
    useless_since: Option<Timestamp<Raw>>,
    refused: bool,
}

/// The pool.
#[derive(Clone, Debug)]
pub struct Pool {
    wanted: usize,
    members: Vec<Member>,
    /// Known and not used, the next one first.
    spare: VecDeque<SocketAddr>,
    /// Tried and found useless, and when.
    spent: Vec<(SocketAddr, Timestamp<Raw>)>,
    resolving: bool,
    next_resolve: Timestamp<Raw>,
    wait: i64,
    steps: VecDeque<Step>,
}

impl Pool {
    /// A pool of which so many servers are wanted. Its name is to be resolved at once.
    pub fn new(wanted: usize) -> Self {
        Self {
            wanted,
            members: Vec::new(),
            spare: VecDeque::new(),
            spent: Vec::new(),
            resolving: true,
            next_resolve: Timestamp::EPOCH,
            wait: FIRST_WAIT,
            steps: VecDeque::from([Step::Resolve]),
        }
    }

    /// The servers in use.
    pub fn members(&self) -> impl Iterator<Item = SocketAddr> {
        self.members.iter().map(|m| m.address)
    }

    /// So many are wanted from now on. Those that are too many leave, the useless first.
    pub fn want(&mut self, wanted: usize) {
        self.wanted = wanted;
        self.members.sort_by_key(|m| m.useless_since.is_some());
        for gone in self.members.split_off(self.members.len().min(wanted)) {
            self.steps.push_back(Step::Remove(gone.address));
            self.spare.push_back(gone.address);
        }
        self.next_resolve = Timestamp::EPOCH;
    }

    /// What the name leads to now: nothing, if it could not be resolved. `taken` tells whether a server
    /// is asked already, by whomever.
    pub fn handle_resolved(&mut self, found: &[SocketAddr], taken: impl Fn(SocketAddr) -> bool, now: Timestamp<Raw>) {
        self.resolving = false;
        self.spent.retain(|(_, at)| now - *at < SPENT_FOR);
        for address in found {
            let known = self.members.iter().any(|m| m.address == *address)
                || self.spare.contains(address)
                || self.spent.iter().any(|(spent, _)| spent == address);
            if !known {
                self.spare.push_back(*address);
            }
        }
        self.fill(&taken, now);
        let (first, last) =
            if self.members.is_empty() { (FIRST_WAIT, LAST_WAIT) } else { (FIRST_WAIT_FOR_MORE, LAST_WAIT_FOR_MORE) };
        self.wait = self.wait.clamp(first, last);
        self.next_resolve = now + Span::from_whole_seconds(self.wait);
        self.wait *= 2;
    }

    /// How a member does now.
    pub fn handle_standing(&mut self, address: SocketAddr, standing: Standing, now: Timestamp<Raw>) {
        let Some(member) = self.members.iter_mut().find(|m| m.address == address) else { return };
        member.refused = standing == Standing::Refused;
        match standing {
            Standing::Good => member.useless_since = None,
            Standing::Useless | Standing::Refused => {
                member.useless_since.get_or_insert(now);
            }
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, taken: impl Fn(SocketAddr) -> bool, now: Timestamp<Raw>) {
        self.fill(&taken, now);
        let lacking = self.members.len() < self.wanted || self.members.iter().any(|m| m.is_useless(now));
        if !lacking {
            // Whoever fails next is the first of a new row.
            self.wait = FIRST_WAIT;
        } else if !self.resolving && now >= self.next_resolve {
            self.resolving = true;
            self.steps.push_back(Step::Resolve);
        }
    }

    /// The next thing to do.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Takes new servers as far as they are wanted and known.
    fn fill(&mut self, taken: &impl Fn(SocketAddr) -> bool, now: Timestamp<Raw>) {
        while let Some(next) = self.spare.front().copied() {
            if taken(next) {
                self.spare.pop_front();
                continue;
            }
            if self.members.len() >= self.wanted {
                // One that is of no use makes room; the longest useless first.
                let useless = self.members.iter().enumerate().filter(|(_, m)| m.is_useless(now));
                let Some((i, _)) = useless.min_by_key(|(_, m)| m.useless_since) else { return };
                let gone = self.members.remove(i);
                self.spent.push((gone.address, now));
                self.steps.push_back(Step::Remove(gone.address));
            }
            self.spare.pop_front();
            self.members.push(Member { address: next, useless_since: None, refused: false });
            self.steps.push_back(Step::Add(next));
        }
    }
}

impl Member {
    fn is_useless(&self, now: Timestamp<Raw>) -> bool {
        self.refused || self.useless_since.is_some_and(|since| now - since >= PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn server(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 123))
    }

    fn at(seconds: i64) -> Timestamp<Raw> {
        Timestamp::from_parts(1000 + seconds, 0)
    }

    fn steps(pool: &mut Pool) -> Vec<Step> {
        std::iter::from_fn(|| pool.poll_step()).collect()
    }

    /// Lets the seconds pass; when the name was asked, and `answer` what it then says.
    fn asked(pool: &mut Pool, seconds: std::ops::Range<i64>, answer: &[SocketAddr]) -> Vec<i64> {
        let mut asked = Vec::new();
        for second in seconds {
            pool.handle_timeout(|_| false, at(second));
            while let Some(step) = pool.poll_step() {
                if step == Step::Resolve {
                    asked.push(second);
                    pool.handle_resolved(answer, |_| false, at(second));
                }
            }
        }
        asked
    }

    #[test]
    fn a_name_that_resolves_late_is_asked_again_and_again() {
        let mut pool = Pool::new(4);
        assert_eq!(asked(&mut pool, 0..200, &[]), [0, 2, 6, 14, 30, 62, 126, 190]);
        let found = [server(1), server(2), server(3), server(4), server(5)];
        assert_eq!(asked(&mut pool, 200..100_000, &found), [254]);
        assert_eq!(pool.members().collect::<Vec<_>>(), found[..4]);
    }

    #[test]
    fn fewer_than_wanted_are_used_and_more_are_looked_for_patiently() {
        let mut pool = Pool::new(4);
        let asked = asked(&mut pool, 0..20_000, &[server(1)]);
        assert_eq!(asked[..6], [0, 64, 192, 448, 960, 1984]);
        assert_eq!(asked[asked.len() - 1] - asked[asked.len() - 2], LAST_WAIT_FOR_MORE);
        assert_eq!(pool.members().collect::<Vec<_>>(), [server(1)]);
    }

    #[test]
    fn what_is_of_no_use_is_replaced_once_there_is_another() {
        let mut pool = Pool::new(2);
        asked(&mut pool, 0..1, &[server(1), server(2)]);
        pool.handle_standing(server(1), Standing::Useless, at(10));
        // Nobody else is known: it stays, and the name is asked again.
        assert_eq!(asked(&mut pool, 10..320, &[server(1), server(2)]), [310]);
        assert_eq!(pool.members().collect::<Vec<_>>(), [server(1), server(2)]);
        // The name has changed.
        pool.handle_timeout(|_| false, at(800));
        assert_eq!(steps(&mut pool), [Step::Resolve]);
        pool.handle_resolved(&[server(2), server(3)], |_| false, at(800));
        assert_eq!(steps(&mut pool), [Step::Remove(server(1)), Step::Add(server(3))]);
        // One that comes back in the meantime is kept.
        pool.handle_standing(server(2), Standing::Useless, at(900));
        pool.handle_standing(server(2), Standing::Good, at(1100));
        pool.handle_timeout(|_| false, at(1300));
        assert_eq!(steps(&mut pool), []);
        // The one that was useless is not tried again so soon.
        pool.handle_resolved(&[server(1)], |_| false, at(1400));
        pool.handle_standing(server(3), Standing::Refused, at(1400));
        pool.handle_timeout(|_| false, at(1401));
        assert!(!steps(&mut pool).contains(&Step::Add(server(1))));
        pool.handle_resolved(&[server(4)], |_| false, at(1500));
        assert_eq!(steps(&mut pool), [Step::Remove(server(3)), Step::Add(server(4))]);
    }

    #[test]
    fn a_server_that_is_asked_already_is_passed_over() {
        let mut pool = Pool::new(2);
        pool.handle_timeout(|_| false, at(0));
        pool.handle_resolved(&[server(1), server(2), server(3)], |a| a == server(2), at(0));
        assert_eq!(steps(&mut pool), [Step::Resolve, Step::Add(server(1)), Step::Add(server(3))]);
    }

    #[test]
    fn fewer_are_wanted_and_more() {
        let mut pool = Pool::new(3);
        asked(&mut pool, 0..1, &[server(1), server(2), server(3)]);
        pool.handle_standing(server(1), Standing::Useless, at(1));
        pool.want(2);
        assert_eq!(steps(&mut pool), [Step::Remove(server(1))]);
        pool.want(3);
        pool.handle_timeout(|_| false, at(2));
        assert_eq!(steps(&mut pool), [Step::Add(server(1))]);
    }

    proptest! {
        #[test]
        fn never_more_than_wanted_never_one_twice(
            wanted in 1usize..6,
            story in proptest::collection::vec((0u8..4, 0u8..12, 1i64..400), 0..200),
        ) {
            let mut pool = Pool::new(wanted);
            let (mut now, mut used, mut open) = (0, BTreeSet::new(), true);
            prop_assert_eq!(steps(&mut pool), [Step::Resolve]);
            for (what, n, after) in story {
                now += after;
                match what {
                    0 if open => {
                        open = false;
                        let found: Vec<SocketAddr> = (n..n + 3).map(server).collect();
                        pool.handle_resolved(&found, |_| false, at(now));
                    }
                    1 => pool.handle_standing(server(n), Standing::Useless, at(now)),
                    2 => pool.handle_standing(server(n), Standing::Refused, at(now)),
                    _ => pool.handle_timeout(|_| false, at(now)),
                }
                while let Some(step) = pool.poll_step() {
                    match step {
                        Step::Resolve => {
                            prop_assert!(!open, "asked twice at once");
                            open = true;
                        }
                        Step::Add(server) => prop_assert!(used.insert(server), "{server} twice"),
                        Step::Remove(server) => prop_assert!(used.remove(&server), "{server} was not used"),
                    }
                    prop_assert!(used.len() <= wanted);
                }
                prop_assert_eq!(used.iter().copied().collect::<Vec<_>>(), {
                    let mut members: Vec<_> = pool.members().collect();
                    members.sort();
                    members
                });
            }
        }
    }
}
