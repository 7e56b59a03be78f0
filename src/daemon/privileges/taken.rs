//! What only root may take, taken before the daemon becomes somebody else.

use std::collections::HashMap;
use std::os::unix::fs::lchown;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::unistd::User;
use refclocks::shell::sock;
use refclocks::sys::shm::{self, ShmSegment};
use tracing::warn;

use super::folders::lies_with_root;
use crate::config::{Config, Driver, Feed};
use crate::control;

/// Taken as root. Whatever could not be taken is the shell's to try again, and to report.
#[derive(Debug, Default)]
pub struct Taken {
    /// The control socket.
    pub control: Option<control::server::Bound>,
    /// Attached shared memory, by unit: 0 and 1 are root's.
    segments: HashMap<u8, ShmSegment>,
    /// SOCK sockets, by path: producers look for them in folders of root's.
    sockets: HashMap<PathBuf, (UnixDatagram, sock::Access)>,
}

impl Taken {
    /// Takes what the configuration names. Sockets in folders that are not root's are left to the
    /// user: what somebody else may swap, root does not give away.
    pub(super) async fn of(config: &Config) -> Self {
        let mut taken = Self::default();
        if lies_with_root(&config.control_socket) {
            taken.control = control::server::bind(&config.control_socket).await.ok();
        }
        let written = config.feeds.iter().filter_map(Feed::unit);
        let read = config.refclocks.iter().filter_map(|clock| match clock.driver {
            Driver::Shm { unit, .. } => Some(unit),
            _ => None,
        });
        for unit in written.chain(read) {
            let segment = shm::find(unit).and_then(ShmSegment::attach);
            taken.segments.extend(segment.ok().map(|segment| (unit, segment)));
        }
        for clock in &config.refclocks {
            match &clock.driver {
                Driver::Sock { path, access, .. } if lies_with_root(path) => {
                    let socket = sock::bind(path, access);
                    taken.sockets.extend(socket.ok().map(|socket| (path.clone(), (socket, access.clone()))));
                }
                Driver::Receiver(_)
                | Driver::Phc { .. }
                | Driver::Pps { .. }
                | Driver::Gpsd { .. }
                | Driver::Shm { .. }
                | Driver::Sock { .. } => {}
            }
        }
        taken
    }

    /// Gives the sockets' paths to the user, but for what the configuration gives to others.
    pub(super) fn give(&self, user: &User) {
        let control = self.control.as_ref().map(|bound| (bound.path(), true, true));
        let sockets = self
            .sockets
            .iter()
            .map(|(path, (_, access))| (path.as_path(), access.owner.is_none(), access.group.is_none()));
        for (path, owner, group) in sockets.chain(control) {
            let (uid, gid) = (owner.then(|| user.uid.as_raw()), group.then(|| user.gid.as_raw()));
            if let Err(error) = lchown(path, uid, gid) {
                warn!("{} could not be given to {}: {error}", path.display(), user.name);
            }
        }
    }

    /// A unit's segment.
    pub fn segment(&mut self, unit: u8) -> Option<ShmSegment> {
        self.segments.remove(&unit)
    }

    /// The SOCK socket at a path.
    pub fn socket(&mut self, path: &Path) -> Option<UnixDatagram> {
        self.sockets.remove(path).map(|(socket, _)| socket)
    }
}
