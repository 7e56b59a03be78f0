//! Who the daemon is: from root to an ordinary user, and a sandbox around either.
//!
//! Started as root it takes what only root may ([`Taken`]), gives the folders of its state and its
//! socket to the user, and becomes that user, keeping two capabilities: the clock's and the port's; and where the
//! configuration has network cards stamp packets, that of setting them. Started as anybody else it keeps what it was
//! given of these.
//!
//! Capabilities and the sandbox belong to a thread and are inherited by those it starts: all of this
//! happens before the first one.

mod folders;
mod sandbox;
mod taken;

use std::ffi::CString;

use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgid, setuid};
use thiserror::Error;
use tracing::{info, warn};

use crate::config::Config;
pub use taken::Taken;

/// Whom a daemon becomes that was started as root and not told.
pub const USUAL_USER: &str = "refclockd";
/// To set the clock and have a pulse's edge captured; to serve on port 123, again after an address
/// has come back.
const KEPT: [Capability; 2] = [Capability::CAP_SYS_TIME, Capability::CAP_NET_BIND_SERVICE];

/// Why the daemon does not run: it was told to be somebody, and would have been root.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// There is no such user.
    #[error("[process] user = \"{name}\": there is no such user")]
    NoSuchUser {
        /// As configured.
        name: String,
    },
    /// The system refused.
    #[error("[process] user = \"{name}\": {error}")]
    Refused {
        /// As configured.
        name: String,
        /// Which step failed, and how.
        error: String,
    },
}

impl PrivilegeError {
    /// What a person can do about it, in one imperative sentence.
    pub fn action(&self) -> String {
        match self {
            Self::NoSuchUser { name } => {
                format!("Make the user with `useradd --system {}`, or name one there is.", printable(name))
            }
            Self::Refused { .. } => "Start it as that user, or write `user = \"root\"` to stay what you are.".into(),
        }
    }
}

/// Becomes who the configuration says, and shuts the sandbox. Returns what was taken as root.
///
/// # Errors
///
/// [`PrivilegeError`], when it was told to become somebody and cannot.
pub async fn settle(config: &Config) -> Result<Taken, PrivilegeError> {
    let taken = match successor(config)? {
        Some(user) => {
            folders::give(config, &user);
            let taken = Taken::of(config).await;
            taken.give(&user);
            match become_user(&user, &kept(config)) {
                Ok(()) => info!("no longer root: {} from here on", user.name),
                Err(error) if config.process.user.is_none() => {
                    warn!("going on as root: {error}. To mean it, write `user = \"root\"` in [process].");
                }
                Err(error) => return Err(PrivilegeError::Refused { name: user.name, error }),
            }
            taken
        }
        None => Taken::default(),
    };
    if !geteuid().is_root()
        && let Err(error) = keep_only(&kept(config))
    {
        warn!("{error}");
    }
    if config.process.sandbox {
        sandbox::shut(config);
    }
    Ok(taken)
}

/// Whom to become; `None` to stay who we are.
fn successor(config: &Config) -> Result<Option<User>, PrivilegeError> {
    let wanted = config.process.user.as_deref();
    let name = wanted.unwrap_or(USUAL_USER);
    let found = User::from_name(name).ok().flatten();
    match found {
        Some(user) if user.uid == geteuid() => Ok(None),
        found if !geteuid().is_root() => {
            if wanted.is_some() {
                let how = if found.is_some() { "only root can become" } else { "there is no user" };
                warn!("[process] user is not followed: {how} {}. Going on as uid {}.", printable(name), geteuid());
            }
            Ok(None)
        }
        Some(user) => Ok(Some(user)),
        None if wanted.is_some() => Err(PrivilegeError::NoSuchUser { name: printable(name) }),
        None => {
            warn!(
                "going on as root: there is no user {USUAL_USER}. Make it with `useradd --system {USUAL_USER}`, \
                 or set `user` in [process]."
            );
            Ok(None)
        }
    }
}

/// What is kept: network cards are had to stamp whenever an interface comes, so that goes on to need its capability.
fn kept(config: &Config) -> Vec<Capability> {
    let cards = (!config.hwtimestamps.is_empty()).then_some(Capability::CAP_NET_ADMIN);
    KEPT.into_iter().chain(cards).collect()
}

/// Becomes a user with that user's groups, keeping these capabilities.
fn become_user(user: &User, kept: &[Capability]) -> Result<(), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what} failed: {error}");
    caps::securebits::set_keepcaps(true).map_err(|e| failed("PR_SET_KEEPCAPS", &e))?;
    let name = CString::new(user.name.as_str()).map_err(|e| failed("the name", &e))?;
    initgroups(&name, user.gid).map_err(|e| failed("initgroups", &e))?;
    setgid(user.gid).map_err(|e| failed("setgid", &e))?;
    setuid(user.uid).map_err(|e| failed("setuid", &e))?;
    keep_only(kept)?;
    caps::securebits::set_keepcaps(false).map_err(|e| failed("PR_SET_KEEPCAPS", &e))?;
    // There is no way back, or this was all for nothing.
    let back = [setuid(Uid::from_raw(0)).is_ok(), setgid(Gid::from_raw(0)).is_ok()];
    if back == [false, false] { Ok(()) } else { Err("root can be had back".into()) }
}

/// Gives up all capabilities but these; of these, what we do not have stays away.
fn keep_only(kept: &[Capability]) -> Result<(), String> {
    let failed = |error| format!("capabilities could not be given up: {error}");
    let have = caps::read(None, CapSet::Permitted).map_err(failed)?;
    let kept: CapsHashSet = kept.iter().copied().filter(|c| have.contains(c)).collect();
    caps::clear(None, CapSet::Inheritable).map_err(failed)?;
    // What is effective must be permitted at any moment.
    caps::clear(None, CapSet::Effective).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed)?;
    caps::set(None, CapSet::Effective, &kept).map_err(failed)?;
    nix::sys::prctl::set_no_new_privs().map_err(|error| format!("PR_SET_NO_NEW_PRIVS failed: {error}"))
}

fn printable(name: &str) -> String {
    crate::observe::plain::plain(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Process;

    fn config(user: &str) -> Config {
        Config { process: Process { user: Some(user.into()), ..Process::default() }, ..Config::default() }
    }

    #[test]
    fn cards_are_set_only_where_that_is_configured() {
        let without = config("nobody");
        let with = Config { hwtimestamps: vec![crate::ntp::hardware::Wish::new("*")], ..without.clone() };
        assert_eq!(kept(&without), KEPT);
        assert_eq!(kept(&with), [KEPT[0], KEPT[1], Capability::CAP_NET_ADMIN]);
    }

    #[test]
    fn who_one_is_already_is_not_become() {
        let me = User::from_uid(geteuid()).unwrap().unwrap();
        assert!(successor(&config(&me.name)).unwrap().is_none());
    }

    #[test]
    fn a_user_that_does_not_exist_is_an_error_of_root_and_a_word_of_others() {
        let told = successor(&config("no-such-user-here\u{1b}[2J"));
        match told {
            Err(error) if geteuid().is_root() => {
                let said = format!("{error}. {}", error.action());
                assert!(said.contains("there is no such user") && !said.contains('\u{1b}'), "{said}");
            }
            told => assert!(!geteuid().is_root() && told.unwrap().is_none()),
        }
    }
}
