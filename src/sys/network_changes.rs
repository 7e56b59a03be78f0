//! Word that interfaces or their addresses have come or gone (rtnetlink(7)). What it is the kernel tells as well, but whoever
//! wants to know looks at [`interfaces`](super::networks::interfaces): so nothing is missed.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Changes come in swarms: an address is a moment after its interface.
const SETTLED_AFTER: Duration = Duration::from_millis(200);

/// Where the kernel does not tell, one looks so often.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Tells of changes; made in a tokio runtime with I/O.
#[derive(Debug)]
pub struct NetworkChanges {
    socket: Option<AsyncFd<OwnedFd>>,
    /// Something was heard, and nobody has been told yet.
    heard: bool,
}

impl NetworkChanges {
    /// From now on.
    pub fn watch() -> Self {
        Self { socket: open().ok(), heard: false }
    }

    /// Waits for a change, and until nothing more is heard for a moment; a call that is given up loses none. Where the
    /// kernel does not tell, it may be that there was none.
    pub async fn next(&mut self) {
        let Some(socket) = &self.socket else { return tokio::time::sleep(LOOK_AGAIN).await };
        if !self.heard && told(socket).await.is_err() {
            self.socket = None;
            return;
        }
        self.heard = true;
        while let Ok(Ok(())) = tokio::time::timeout(SETTLED_AFTER, told(socket)).await {}
        self.heard = false;
    }
}

fn open() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups as u32))?;
    // SAFETY: the descriptor that an `OwnedFd` names is its own, and is open for as long as it lives.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(Into::into)
}

/// Waits for word, and takes it out.
async fn told(socket: &AsyncFd<OwnedFd>) -> io::Result<()> {
    loop {
        let mut ready = socket.readable().await?;
        let mut word = [0; 4096];
        let taken = ready.try_io(|socket| match recv(socket.as_raw_fd(), &mut word, MsgFlags::empty()) {
            // There was more than it could keep for us.
            Err(nix::errno::Errno::ENOBUFS) => Ok(0),
            other => Ok(other?),
        });
        if let Ok(taken) = taken {
            return taken.map(|_| ());
        }
    }
}
