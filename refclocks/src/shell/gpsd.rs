//! The gpsd shell: connects, and connects again.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::Delivery;
use super::comeback::Comeback;
use crate::device::{DevicePhase, DeviceReason};
use crate::gpsd::{Config, Fatal, Session, Stream};
use crate::sys::clock::raw_now;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Which gpsd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpsdConfig {
    /// `address:port` in numbers, or the path of a Unix socket.
    pub address: String,
    /// The session's settings.
    pub session: Config,
}

/// Why a connection ended.
enum End {
    Closed,
    Io(io::Error),
    NotGpsd,
}

/// Talks to gpsd for ever.
pub async fn run(config: GpsdConfig, mut sink: impl FnMut(Stream, Delivery)) {
    let mut session = Session::new(config.session);
    let mut comeback = Comeback::default();
    loop {
        let end = talk(&config, &mut session, &mut comeback, &mut sink).await;
        let address = || format!("gpsd at {}", config.address);
        let (phase, reason) = match end {
            End::Closed => (DevicePhase::Absent, DeviceReason::Unplugged { path: address() }),
            End::NotGpsd => (DevicePhase::Faulty, DeviceReason::NotTheProtocol { expected: "gpsd's JSON" }),
            End::Io(error) => (DevicePhase::Absent, DeviceReason::Io { path: address(), error: error.to_string() }),
        };
        session.handle_fault(phase, &reason, raw_now());
        deliver(&mut session, &mut sink);
        comeback.wait(config.address.starts_with('/').then_some(Path::new(&config.address))).await;
    }
}

async fn talk(
    config: &GpsdConfig,
    session: &mut Session,
    comeback: &mut Comeback,
    sink: &mut impl FnMut(Stream, Delivery),
) -> End {
    if config.address.starts_with('/') {
        match UnixStream::connect(&config.address).await {
            Ok(stream) => converse(stream, session, comeback, sink).await,
            Err(error) => End::Io(error),
        }
    } else {
        let Ok(address) = config.address.parse::<std::net::SocketAddr>() else {
            return End::Io(io::Error::new(
                io::ErrorKind::InvalidInput,
                "write the address as numbers, e.g. 127.0.0.1:2947",
            ));
        };
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => converse(stream, session, comeback, sink).await,
            Ok(Err(error)) => End::Io(error),
            Err(_) => End::Io(io::ErrorKind::TimedOut.into()),
        }
    }
}

async fn converse<S: AsyncReadExt + AsyncWriteExt + Unpin>(
    mut stream: S,
    session: &mut Session,
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
            Some(Ok(n)) => session.handle_bytes(buffer.get(..n).unwrap_or_default(), raw_now()),
            Some(Err(error)) => return End::Io(error),
            None => session.handle_timeout(raw_now()),
        };
        if let Err(Fatal::NotGpsd) = handled {
            return End::NotGpsd;
        }
        while let Some(bytes) = session.poll_transmit() {
            comeback.reset();
            if let Err(error) = stream.write_all(bytes).await {
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
