//! One port, several sockets of ours: those that answer there, and one for each peer, connected to it. The kernel
//! hands a datagram to the one that is connected to its sender.
//!
//! A port is shared among them alone: SO_REUSEADDR is set on ours for the moment of binding another one, and then
//! taken off again, so that no other program can share it unawares.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::udp::UdpSocket;

/// Our sockets that are bound to a port.
#[derive(Clone, Debug, Default)]
pub struct Ports(Arc<Mutex<Vec<Weak<UdpSocket>>>>);

impl Ports {
    /// Adds one that is bound already.
    pub fn add(&self, socket: &Arc<UdpSocket>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| known.strong_count() > 0);
        known.push(Arc::downgrade(socket));
    }

    /// Binds a socket where nobody is, or nobody but ours.
    ///
    /// # Errors
    ///
    /// Those of bind(2); `AddrInUse` if somebody else is there.
    pub fn bind(&self, socket: &UdpSocket, address: SocketAddr) -> io::Result<()> {
        match socket.bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            done => return done,
        }
        let known: Vec<Arc<UdpSocket>> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
        let is_there = |ours: &Arc<UdpSocket>| ours.local_address().is_ok_and(|at| at.port() == address.port());
        let there: Vec<&Arc<UdpSocket>> = known.iter().filter(|ours| is_there(ours)).collect();
        let share = |on: i32| {
            let all = there.iter().map(|ours| ours.as_ref()).chain([socket]);
            all.map(|socket| socket.set(libc::SOL_SOCKET, libc::SO_REUSEADDR, on)).fold(Ok(()), io::Result::and)
        };
        let bound = share(1).and_then(|()| socket.bind(address));
        share(0).and(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::batch::{Batch, Wait};

    #[test]
    fn a_port_is_ours_alone_and_a_peer_has_a_socket_of_its_own() {
        let (ports, others) = (Ports::default(), Ports::default());
        let server = Arc::new(UdpSocket::server("127.0.0.1:0".parse().unwrap(), false).unwrap());
        ports.add(&server);
        let port = server.local_address().unwrap();
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        // Another program cannot have it, whatever it asks for.
        let refused = UdpSocket::peer(peer.local_addr().unwrap(), port, None, &others).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        let ours = UdpSocket::peer(peer.local_addr().unwrap(), port, None, &ports).unwrap();
        assert_eq!(ours.local_address().unwrap(), port);
        let refused = UdpSocket::peer(peer.local_addr().unwrap(), port, None, &others).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        peer.send_to(b"peer", port).unwrap();
        stranger.send_to(b"stranger", port).unwrap();
        for (socket, expected) in [(&*ours, &b"peer"[..]), (&*server, b"stranger")] {
            let mut batch = Batch::new(4);
            assert_eq!(batch.receive(socket, Wait::ForOne).unwrap(), 1);
            assert_eq!(batch.datagram(0).unwrap().0.octets, expected);
        }
        // Both ways: the one that answers may come later.
        drop(server);
        let again = UdpSocket::server_beside(port, false, &ports).unwrap();
        assert_eq!(again.local_address().unwrap(), port);
    }
}
