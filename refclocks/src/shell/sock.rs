//! The SOCK shell: a datagram socket that producers connect to.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net;
use std::path::Path;

use tokio::net::UnixDatagram;

use super::comeback::Comeback;
use super::{Delivery, Tap};
use crate::device::{DevicePhase, DeviceReason, DeviceState, Remedy};
use crate::report::{Edge, LocalStamp, Pulse, Report, Sample};
use crate::sock::SockReader;
use crate::sys::access::id_of;
use crate::sys::clock::raw_now;

/// Silence after which the producer is stale.
const QUIET: std::time::Duration = std::time::Duration::from_secs(8);

/// Who may write to a socket that we make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// Name of its owner. `None`: we.
    pub owner: Option<String>,
    /// Name of its group. `None`: ours.
    pub group: Option<String>,
}

impl Default for Access {
    /// Its group may write as well.
    fn default() -> Self {
        Self { mode: 0o660, owner: None, group: None }
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SockConfig {
    /// The socket's path, e.g. `/run/chrony.ttyAMA0.sock`, where gpsd looks for it.
    pub path: String,
    /// Who may write to it.
    pub access: Access,
}

/// Receives samples for ever. `bound` is the socket, if it is bound already.
pub async fn run(config: SockConfig, bound: Option<net::UnixDatagram>, sink: impl FnMut(Delivery)) {
    run_tapped(config, bound, Tap::default(), sink).await;
}

/// The same, with each datagram for a tap as well.
pub async fn run_tapped(
    config: SockConfig,
    mut bound: Option<net::UnixDatagram>,
    tap: Tap,
    mut sink: impl FnMut(Delivery),
) {
    let mut reader = SockReader::default();
    let mut comeback = Comeback::default();
    let mut tell = |reader: &SockReader, report| sink(Delivery { at: raw_now(), report, health: reader.health() });
    let mut phase = None;
    let mut become_state = |reader: &SockReader, tell: &mut dyn FnMut(&SockReader, Report), new, reason| {
        if phase.replace(new) != Some(new) {
            tell(reader, Report::State(DeviceState { phase: new, reason, since: raw_now() }));
        }
    };
    loop {
        let ready = bound.take().map_or_else(|| bind(Path::new(&config.path), &config.access), Ok);
        let socket = match ready.and_then(UnixDatagram::from_std) {
            Ok(socket) => socket,
            Err(error) => {
                let (phase, reason) = match error.raw_os_error() {
                    // The path is to be made, and its folder is not ours.
                    Some(libc::EACCES | libc::EPERM) => {
                        let (path, remedy) = (config.path.clone(), Remedy::StartAsRoot);
                        (DevicePhase::Faulty, DeviceReason::PermissionDenied { path, remedy })
                    }
                    _ => super::explain_open(config.path.clone(), &error),
                };
                become_state(&reader, &mut tell, phase, reason);
                comeback.wait(Some(Path::new(&config.path))).await;
                continue;
            }
        };
        comeback.reset();
        become_state(&reader, &mut tell, DevicePhase::Opening, DeviceReason::Silent);
        let mut buffer = [0; 256];
        loop {
            match tokio::time::timeout(QUIET, socket.recv(&mut buffer)).await {
                Ok(Ok(n)) => {
                    let datagram = buffer.get(..n).unwrap_or_default();
                    tap.hear(raw_now(), datagram);
                    if let Ok((sample, pulse)) = reader.read(datagram) {
                        become_state(&reader, &mut tell, DevicePhase::Good, DeviceReason::Delivering);
                        let report = if pulse { edge_of(&sample) } else { Some(Report::Sample(sample)) };
                        if let Some(report) = report {
                            tell(&reader, report);
                        }
                    }
                }
                Ok(Err(_)) => break,
                Err(_) => {
                    let reason = DeviceReason::Quiet { silence: crate::Span::from_seconds(QUIET.as_secs_f64()) };
                    if reader.health().samples > 0 {
                        become_state(&reader, &mut tell, DevicePhase::Stale, reason);
                    }
                    // Somebody may have removed the path from under us: producers would not find it.
                    if !Path::new(&config.path).exists() {
                        break;
                    }
                }
            }
        }
    }
}

/// A pulse of unknown second: the local stamp of the whole second next to it. The event was stamped
/// `local` when true time was `reference`; the edge of that second lies the reference's distance to
/// the nearest whole second away.
fn edge_of(sample: &Sample) -> Option<Report> {
    let LocalStamp::Realtime(local) = sample.local else { return None };
    let to_second: crate::Span = sample.reference.round() - sample.reference;
    let local = LocalStamp::Realtime(local + to_second);
    Some(Report::Pulse(Pulse { local, edge: Edge::Assert, sequence: 0, missed: 0 }))
}

/// Makes the socket, in the place of whatever has its path.
///
/// # Errors
///
/// The system's; an owner or a group that does not exist.
pub fn bind(path: &Path, access: &Access) -> io::Result<net::UnixDatagram> {
    let id = |name: &Option<String>, database, what| match name {
        None => Ok(None),
        Some(name) => id_of(database, name)
            .map(Some)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no {what} {name:?}"))),
    };
    let owner = id(&access.owner, "/etc/passwd", "user")?;
    let group = id(&access.group, "/etc/group", "group")?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = net::UnixDatagram::bind(path)?;
    socket.set_nonblocking(true)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(access.mode))?;
    if owner.is_some() || group.is_some() {
        std::os::unix::fs::lchown(path, owner, group)?;
    }
    Ok(socket)
}
