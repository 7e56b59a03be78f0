//! What the daemon forbids itself: to write outside a few folders, and to execute anything.
//!
//! Rules are about folders and not files, so that devices may come and go and sockets be made anew.
//! Reading is left to the user's rights: name resolution reads, and loads, what each distribution
//! keeps elsewhere.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, AccessFs, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    path_beneath_rules,
};
use tracing::{info, warn};

use refclocks::shell::feed::FeedConfig;

use crate::config::{Config, Driver, Receiver};

/// The newest rules we know; an older kernel follows those it knows.
const NEWEST: ABI = ABI::V5;

/// Shuts it, as far as the kernel can.
pub(super) fn shut(config: &Config) {
    match restrict(&writable(config)) {
        Ok(RestrictionStatus { ruleset: RulesetStatus::NotEnforced, .. }) => {
            info!("no sandbox: this kernel has no Landlock, or it is switched off");
        }
        Ok(_) => {}
        Err(error) => warn!("no sandbox: {error}"),
    }
}

fn restrict(folders: &[PathBuf]) -> Result<RestrictionStatus, RulesetError> {
    let write = AccessFs::from_write(NEWEST);
    Ruleset::default()
        .handle_access(write | AccessFs::Execute)?
        .create()?
        .add_rules(path_beneath_rules(folders, write))?
        .restrict_self()
}

/// The folders that are written to, or hold devices.
fn writable(config: &Config) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = ["/dev", "/sys", "/run"].map(PathBuf::from).into();
    folders.push(config.state_dir.clone());
    folders.extend(config.control_socket.parent().map(Path::to_owned));
    folders.extend(config.refclocks.iter().filter_map(|clock| match &clock.driver {
        Driver::Receiver(Receiver { device: path, .. })
        | Driver::Phc { device: path, .. }
        | Driver::Pps { device: Some(path), .. }
        | Driver::Sock { path, .. } => path.parent().map(Path::to_owned),
        Driver::Pps { device: None, .. } | Driver::Gpsd { .. } | Driver::Shm { .. } => None,
    }));
    folders.extend(config.feeds.iter().filter_map(|feed| match &feed.driver {
        FeedConfig::Sock { path, .. } => path.parent().map(Path::to_owned),
        FeedConfig::Shm { .. } => None,
    }));
    let mut folders: Vec<PathBuf> = folders.iter().filter_map(|folder| nearest(folder)).collect();
    folders.sort();
    folders.dedup();
    folders
}

/// The folder, or what there is of the way to it: somebody may make it later. Never the root, which
/// would allow everything.
fn nearest(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().find(|folder| folder.is_dir()).filter(|folder| folder.parent().is_some()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Refclock;

    #[test]
    fn folders_of_devices_sockets_and_state_may_be_written() {
        let place = tempfile::tempdir().unwrap();
        let pps = Driver::Pps { device: Some("/dev/pps0".into()), edge: None, echo: false, kernel_consumer: false };
        let sock = Driver::Sock { path: place.path().join("feed/gps.sock"), pulse: false, access: Default::default() };
        let config = Config {
            refclocks: vec![Refclock::new(pps), Refclock::new(sock)],
            state_dir: "/no-such-place/state".into(),
            control_socket: "/run/refclockd/api.sock".into(),
            ..Config::default()
        };
        let folders = writable(&config);
        assert!(folders.contains(&"/dev".into()) && folders.contains(&place.path().to_owned()), "{folders:?}");
        assert!(!folders.contains(&"/".into()), "{folders:?}");
    }

    #[test]
    fn a_shut_sandbox_writes_and_executes_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let (state, other) = (place.path().join("state"), place.path().join("other"));
        std::fs::create_dir_all(&state).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        // It holds for the thread that shuts it.
        let told = std::thread::spawn(move || {
            let status = restrict(&[state.clone(), "/dev".into()]).unwrap();
            let write = |folder: &Path| std::fs::write(folder.join("file"), "text").is_ok();
            let run = || std::process::Command::new("/bin/true").status().is_ok();
            (status.ruleset, write(&state), std::fs::write("/dev/null", "text").is_ok(), write(&other), run())
        });
        let (status, state, dev, other, run) = told.join().unwrap();
        if status == RulesetStatus::NotEnforced {
            println!("skipped: this kernel has no Landlock");
            return;
        }
        assert!(state && dev && !other && !run, "{state} {dev} {other} {run}");
    }
}
