//! The access rules in force: they follow their host names and our sources.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::{AbortHandle, spawn_local};
use tracing::{info, warn};

use crate::ntp::access::policy::Known;
use crate::ntp::access::{Access, Policy};
use crate::ntp::client::names::Names;

/// Names are looked up again after so long, and sooner while one of them leads nowhere.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(600);
const LOOK_UP_SOON: Duration = Duration::from_secs(16);

/// Keeps the rules in force up to date.
pub struct Admission {
    names: Names,
    access: Arc<ArcSwap<Access>>,
    known: Rc<RefCell<Known>>,
    policy: Rc<Policy>,
    following: Option<AbortHandle>,
}

impl Admission {
    /// Rules to be put in force there.
    pub fn new(access: Arc<ArcSwap<Access>>, names: Names) -> Self {
        let policy = Rc::new(Policy::Restrict(Vec::new()));
        Self { names, access, known: Rc::default(), policy, following: None }
    }

    /// Puts other rules in force. What names lead to is kept.
    pub fn apply(&mut self, policy: Policy) {
        if let Some(following) = self.following.take() {
            following.abort();
        }
        self.policy = Rc::new(policy);
        self.access.store(Arc::new(self.policy.access(&self.known.borrow())));
        if !self.policy.names().is_empty() {
            let (names, access) = (self.names.clone(), Arc::clone(&self.access));
            let task = follow(names, Rc::clone(&self.policy), Rc::clone(&self.known), access);
            self.following = Some(spawn_local(task).abort_handle());
        }
    }

    /// These are our sources.
    pub fn handle_sources(&mut self, sources: impl FnOnce() -> Vec<IpAddr>) {
        if !self.policy.follows_sources() {
            return;
        }
        let sources = sources();
        if self.known.borrow().sources != sources {
            self.known.borrow_mut().sources = sources;
            self.access.store(Arc::new(self.policy.access(&self.known.borrow())));
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(following) = &self.following {
            following.abort();
        }
    }
}

/// Looks the names up, for ever.
async fn follow(names: Names, policy: Rc<Policy>, known: Rc<RefCell<Known>>, access: Arc<ArcSwap<Access>>) {
    let mut failed: Vec<String> = Vec::new();
    loop {
        let mut missing = Vec::new();
        for name in policy.names() {
            match names.resolve(name, 0).await {
                Ok(found) => {
                    let found: Vec<IpAddr> = found.into_iter().map(|address| address.ip()).collect();
                    let before = known.borrow_mut().names.insert(name.to_owned(), found.clone());
                    if before.as_ref() != Some(&found) {
                        access.store(Arc::new(policy.access(&known.borrow())));
                        if before.is_some() {
                            info!("the access rules for {name} follow it to other addresses");
                        }
                    }
                }
                Err(error) => {
                    if !failed.iter().any(|other| other == name) {
                        let until = if known.borrow().addresses(name).is_empty() {
                            "The rules for it apply to nobody until then"
                        } else {
                            "The rules for it stay at its last addresses until then"
                        };
                        warn!("{error}: looked up again every {} s. {until}.", LOOK_UP_SOON.as_secs());
                    }
                    missing.push(name.to_owned());
                }
            }
        }
        tokio::time::sleep(if missing.is_empty() { LOOK_UP_AGAIN } else { LOOK_UP_SOON }).await;
        failed = missing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntp::access::Flags;
    use crate::ntp::access::policy::Whom;
    use crate::ntp::access::restrict::Restriction;

    #[test]
    fn the_rules_follow_names_and_sources() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let access = Arc::new(ArcSwap::from_pointee(Access::default()));
            let mut admission = Admission::new(Arc::clone(&access), Names::here());
            let answered = |address: &str| access.load().permits(address.parse().unwrap());

            // The one name that every system can resolve. Loopback is allowed anyhow: it is denied first.
            let deny = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
            admission.apply(Policy::lists(vec![Whom::Name("localhost".into())], deny, Flags::empty()));
            assert!(!answered("127.9.0.1"));
            for _ in 0..1000 {
                tokio::task::yield_now().await;
                if answered("127.0.0.1") || answered("::1") {
                    break;
                }
            }
            assert!(answered("127.0.0.1") || answered("::1"));
            assert!(!answered("127.9.0.1"));

            let lines = ["default ignore", "source nomodify"];
            let rules = lines.map(|line| Restriction::parse(line).unwrap());
            admission.apply(Policy::Restrict(rules.into()));
            assert!(!answered("192.0.2.1"));
            admission.handle_sources(|| vec!["192.0.2.1".parse().unwrap()]);
            assert!(answered("192.0.2.1"));
            admission.handle_sources(Vec::new);
            assert!(!answered("192.0.2.1"));
        });
    }
}
