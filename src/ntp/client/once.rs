//! A few exchanges with a server, and an end: what `refclockd query` does.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use refclocks::sys::clock;
use refclocks::time::Span;
use tokio::time::{Instant, sleep, timeout_at};

use super::association::{Association, Config};
use super::filters::Filters;
use super::measurement::Measurement;
use super::names::{Names, ResolveError};
use super::random::seed;
use super::rejection::Rejected;
use super::socket::{ClientSocket, Origin};
use crate::ntp::hardware::{CardBoard, Cards};
use crate::ntp::stamp::{Relation, Stamp};
use crate::sys::batch::Batch;

/// How long a reply may take.
const REPLY_TIME: Duration = Duration::from_millis(1500);

/// Between requests to a server on a network of our own.
const PRIVATE_INTERVAL: Duration = Duration::from_millis(200);

/// Between requests to a server of somebody else: many of those ignore clients that ask more often.
const PUBLIC_INTERVAL: Duration = Duration::from_secs(2);

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnceConfig {
    /// Name or address.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// Exchanges wanted.
    pub samples: u32,
    /// After which time it ends with what it has.
    pub timeout: Duration,
    /// NTP version, 1 to 4.
    pub version: u8,
}

/// One good exchange, compared with this machine's system clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exchange {
    /// What the server said.
    pub measurement: Measurement,
    /// System clock - server's time; positive = this machine is ahead.
    pub offset: Span,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// The server's address.
    pub address: SocketAddr,
    /// Requests sent to it.
    pub asked: u32,
    /// Good exchanges, in order; at least one.
    pub exchanges: Vec<Exchange>,
}

impl Answers {
    /// The exchange with the shortest delay: the one that traffic has falsified least.
    pub fn best(&self) -> Option<&Exchange> {
        self.exchanges.iter().min_by_key(|exchange| exchange.measurement.delay)
    }
}

/// Why there is no good exchange.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    /// The name has no address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Resolving the name took too long.
    #[error("looking up the name took too long")]
    ResolveTimeout,
    /// The system cannot reach the server, or ICMP said that nobody is there.
    #[error("{address} cannot be reached: {source}")]
    Unreachable {
        /// The address asked.
        address: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// Nothing came back.
    #[error("{address} does not answer")]
    Silent {
        /// The address asked.
        address: SocketAddr,
    },
    /// What came back cannot be used.
    #[error("{address}: {reason}")]
    Rejected {
        /// The address asked.
        address: SocketAddr,
        /// Why not.
        reason: Rejected,
    },
}

/// Asks a server a few times. Of several addresses the first that answers is taken.
///
/// # Errors
///
/// [`OnceError`], of the last address tried.
pub async fn once(config: &OnceConfig, names: &Names) -> Result<Answers, OnceError> {
    let deadline = Instant::now() + config.timeout;
    let resolved = timeout_at(deadline, names.resolve(&config.host, config.port)).await;
    let addresses = resolved.map_err(|_| OnceError::ResolveTimeout)??;
    let mut failure = OnceError::ResolveTimeout;
    for (index, address) in addresses.iter().enumerate() {
        let last = index + 1 == addresses.len();
        match ask(config, *address, deadline, last).await {
            Ok(answers) => return Ok(answers),
            Err(error) => failure = error,
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    Err(failure)
}

async fn ask(config: &OnceConfig, address: SocketAddr, deadline: Instant, last: bool) -> Result<Answers, OnceError> {
    let unreachable = |source| OnceError::Unreachable { address, source };
    let mut socket = ClientSocket::open(address, &Origin::default(), &CardBoard::default()).map_err(unreachable)?;
    let mut answers = Answers { address, asked: 0, exchanges: Vec::new() };
    let mut batch = Batch::new(4);
    while answers.asked < config.samples.max(1) && Instant::now() < deadline {
        // Each exchange is an association of its own: the interval is ours to choose.
        let mut association = Association::new(Config {
            address,
            iburst: false,
            minpoll: 6,
            maxpoll: 6,
            version: config.version,
            key: None,
            xleave: false,
            presend: None,
            filters: Filters::default(),
            seed: seed().map_err(unreachable)?,
        });
        let asked_at = Instant::now();
        let Some(request) = association.poll_transmit(clock::raw_now()) else { break };
        let sent_at = clock::raw_now();
        answers.asked += 1;
        if let Err(source) = socket.send(request.octets()) {
            return if answers.exchanges.is_empty() { Err(unreachable(source)) } else { Ok(answers) };
        }
        association.handle_transmitted(sent_at);
        match timeout_at((asked_at + REPLY_TIME).min(deadline), reply(&mut socket, &mut batch, &mut association)).await
        {
            Ok(Ok(exchange)) => answers.exchanges.push(exchange),
            // With one good exchange in hand, the rest is no reason to complain.
            Ok(Err(_)) if !answers.exchanges.is_empty() => break,
            Ok(Err(ReplyError::Rejected(reason))) => return Err(OnceError::Rejected { address, reason }),
            Ok(Err(ReplyError::Io(source))) => return Err(unreachable(source)),
            // There is another address to try.
            Err(_elapsed) if answers.exchanges.is_empty() && answers.asked >= 2 && !last => break,
            Err(_elapsed) => {}
        }
        if answers.asked < config.samples {
            let next = (asked_at + interval(address.ip())).min(deadline);
            sleep(next.saturating_duration_since(Instant::now())).await;
        }
    }
    if answers.exchanges.is_empty() { Err(OnceError::Silent { address }) } else { Ok(answers) }
}

enum ReplyError {
    Rejected(Rejected),
    Io(io::Error),
}

/// Waits for the reply to the request under way; what answers nothing is passed over.
async fn reply(
    socket: &mut ClientSocket,
    batch: &mut Batch,
    association: &mut Association,
) -> Result<Exchange, ReplyError> {
    loop {
        let count = socket.arrivals(batch).await.map_err(ReplyError::Io)?;
        let relation = Relation::from_bracket(&clock::bracket());
        if let Some(left) = socket.last_departure(&relation) {
            association.handle_departed(left);
        }
        for index in 0..count {
            let Some((datagram, _)) = batch.datagram(index) else { continue };
            let arrived = Stamp::of_arrival(&datagram, &relation, &Cards::default());
            match association.handle_receive(datagram.octets, arrived, relation.raw) {
                Ok(measurement) => {
                    let local = relation.realtime_at(measurement.at).reinterpret();
                    return Ok(Exchange { measurement, offset: local - measurement.reference });
                }
                Err(Rejected::Bogus | Rejected::Duplicate | Rejected::Malformed(_) | Rejected::NotAReply { .. }) => {}
                Err(reason) => return Err(ReplyError::Rejected(reason)),
            }
        }
    }
}

fn interval(address: IpAddr) -> Duration {
    let ours = match address.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    if ours { PRIVATE_INTERVAL } else { PUBLIC_INTERVAL }
}
