//! The gpsd shell: connects, and connects again.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::comeback::Comeback;
use super::{Delivery, Tap};
use crate::device::{DevicePhase, DeviceReason};
use crate::gpsd::{Config, Fatal, Session, Stream};
use crate::sys::clock::raw_now;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Where a gpsd listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket that speaks JSON; gpsd's own control socket does not.
    Unix(PathBuf),
    /// A host, by name or address, and a port.
    Tcp(String, u16),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// Which gpsd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpsdConfig {
    /// Where it listens.
    pub address: Address,
    /// The session's settings.
    pub session: Config,
}

/// Why a connection ended.
enum End {
    Closed,
    Io(io::Error),
    NotGpsd,
}

/// Talks to gpsd for ever. `resolve` finds the addresses of a host.
pub async fn run(
    config: GpsdConfig,
    resolve: impl AsyncFn(&str, u16) -> io::Result<Vec<SocketAddr>>,
    sink: impl FnMut(Stream, Delivery),
) {
    run_tapped(config, resolve, Tap::default(), sink).await;
}

/// The same, with all bytes for a tap as well.
pub async fn run_tapped(
    config: GpsdConfig,
    resolve: impl AsyncFn(&str, u16) -> io::Result<Vec<SocketAddr>>,
    tap: Tap,
    mut sink: impl FnMut(Stream, Delivery),
) {
    let mut session = Session::new(config.session.clone());
    let mut comeback = Comeback::default();
    loop {
        let end = talk(&config.address, &resolve, (&mut session, &tap), &mut comeback, &mut sink).await;
        let address = || format!("gpsd at {}", config.address);
        let (phase, reason) = match end {
            End::Closed => (DevicePhase::Absent, DeviceReason::Unplugged { path: address() }),
            End::NotGpsd => (DevicePhase::Faulty, DeviceReason::NotTheProtocol { expected: "gpsd's JSON" }),
            End::Io(error) => (DevicePhase::Absent, DeviceReason::Io { path: address(), error: error.to_string() }),
        };
        session.handle_fault(phase, &reason, raw_now());
        deliver(&mut session, &mut sink);
        let path = match &config.address {
            Address::Unix(path) => Some(path.as_path()),
            Address::Tcp(..) => None,
        };
        comeback.wait(path).await;
    }
}

async fn talk(
    address: &Address,
    resolve: &impl AsyncFn(&str, u16) -> io::Result<Vec<SocketAddr>>,
    (session, tap): (&mut Session, &Tap),
    comeback: &mut Comeback,
    sink: &mut impl FnMut(Stream, Delivery),
) -> End {
    match address {
        Address::Unix(path) => match UnixStream::connect(path).await {
            Ok(stream) => converse(stream, (session, tap), comeback, sink).await,
            Err(error) => End::Io(error),
        },
        Address::Tcp(host, port) => {
            let addresses = match resolve(host, *port).await {
                Ok(addresses) => addresses,
                Err(error) => return End::Io(error),
            };
            let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name leads nowhere");
            // `localhost` is two addresses, and gpsd may listen at one of them.
            for address in addresses {
                match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                    Ok(Ok(stream)) => return converse(stream, (session, tap), comeback, sink).await,
                    Ok(Err(error)) => failed = error,
                    Err(_) => failed = io::ErrorKind::TimedOut.into(),
                }
            }
            End::Io(failed)
        }
    }
}

async fn converse<S: AsyncReadExt + AsyncWriteExt + Unpin>(
    mut stream: S,
    (session, tap): (&mut Session, &Tap),
    comeback: &mut Comeback,
    sink: &mut impl FnMut(Stream, Delivery),
) -> End {
    session.handle_open(raw_now());
    deliver(session, sink);
    let mut buffer = [0; 4096];
    loop {
        let read = match session.poll_timeout() {
            Some(due) => {
                let wait = (due - raw_now()).to_duration();
                tokio::time::timeout(wait, stream.read(&mut buffer)).await.ok()
            }
            None => Some(stream.read(&mut buffer).await),
        };
        let handled = match read {
            Some(Ok(0)) => return End::Closed,
            Some(Ok(n)) => {
                let (at, bytes) = (raw_now(), buffer.get(..n).unwrap_or_default());
                tap.hear(at, bytes);
                session.handle_bytes(bytes, at)
            }
            Some(Err(error)) => return End::Io(error),
            None => session.handle_timeout(raw_now()),
        };
        if let Err(Fatal::NotGpsd) = handled {
            return End::NotGpsd;
        }
        while let Some(bytes) = session.poll_transmit() {
            comeback.reset();
            if let Err(error) = stream.write_all(&bytes).await {
                return End::Io(error);
            }
        }
        deliver(session, sink);
    }
}

fn deliver(session: &mut Session, sink: &mut impl FnMut(Stream, Delivery)) {
    while let Some((stream, report)) = session.poll_report() {
        sink(stream, Delivery { at: raw_now(), report, health: session.health(stream) });
    }
}
