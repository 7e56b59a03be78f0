//! A namespace in which the machine's shared memory and `/run` are our own.

use std::process::Command;

use crate::ntp_common::peer;
use crate::ntp_common::peers::{Running, hold};

/// A user, IPC and mount namespace of our own. In it we are root of nothing but ourselves: NTP's shared
/// memory units 0 and 1 and the folder `/run` are ours, and whatever the machine has of them is
/// neither seen nor touched.
pub struct Namespace(Running);

impl Namespace {
    /// `None`, said aloud, where the system allows none.
    pub fn make() -> Option<Self> {
        let program = peer("REFCLOCKD_UNSHARE", "unshare")?;
        let mut holder = Command::new(program);
        holder.args(["--user", "--map-root-user", "--ipc", "--mount", "sh", "-c"]);
        holder.arg("mount -t tmpfs none /run && echo ready && exec cat");
        hold(&mut holder, "no user namespace can be made here").map(Self)
    }

    /// A command that will run in it, as a process of ours.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--user", "--ipc", "--mount", "--preserve-credentials", "--target"]);
        command.arg(self.0.0.id().to_string()).arg("--").arg(program);
        command
    }
}
