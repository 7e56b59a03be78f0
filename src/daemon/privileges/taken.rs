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
use crate::config::{Config, Driver};
use crate::control;

/// Taken as root. Whatever could not be taken is the shell's to try again, and to report.
#[derive(Debug, Default)]
pub struct Taken {
    /// The control socket.
    pub control: Option<control::server::Bound>,
    /// Attached shared memory, by unit: 0 and 1 are root's.
    segments: HashMap<u8, ShmSegment>,
    /// SOCK sockets, by path: producers look for them in folders of root's.
    sockets: HashMap<PathBuf, UnixDatagram>,
}

impl Taken {
    /// Takes what the configuration names. Sockets in folders that are not root's are left to the
    /// user: what somebody else may swap, root does not give away.
    pub(super) async fn of(config: &Config) -> Self {
        let mut taken = Self::default();
        if lies_with_root(&config.control_socket) {
            taken.control = control::server::bind(&config.control_socket).await.ok();
        }
        for clock in &config.refclocks {
            match &clock.driver {
                Driver::Shm { unit, .. } => {
                    let segment = shm::find(*unit).and_then(ShmSegment::attach);
                    taken.segments.extend(segment.ok().map(|segment| (*unit, segment)));
                }
                Driver::Sock { path, .. } if lies_with_root(path) => {
                    let socket = sock::bind(path, sock::USUAL_MODE);
                    taken.sockets.extend(socket.ok().map(|socket| (path.clone(), socket)));
                }
                Driver::Nmea { .. } | Driver::Pps { .. } | Driver::Gpsd { .. } | Driver::Sock { .. } => {}
            }
        }
        taken
    }

    /// Gives the sockets' paths to the user.
    pub(super) fn give(&self, user: &User) {
        let control = self.control.as_ref().map(control::server::Bound::path);
        for path in self.sockets.keys().map(PathBuf::as_path).chain(control) {
            if let Err(error) = lchown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())) {
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
        self.sockets.remove(path)
    }
}
