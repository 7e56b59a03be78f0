//! One association with a server (RFC 5905 sections 8 and 9), without clock, socket or random source.
//!
//! ```text
//! poll_timeout -> wait -> poll_transmit -> send -> handle_transmitted(T1)
//!                          receive -> handle_receive(octets, T4) -> Measurement or Rejected
//! ```
//! All stamps of this machine are on the raw scale: what happened to the system clock between request
//! and reply changes nothing. The offset is the core's to compute.

use std::net::SocketAddr;
use std::sync::Arc;

use refclocks::LeapIndicator;
use refclocks::time::{NtpTimestamp, Raw, Span, Timestamp};

use super::measurement::{Measurement, measure};
use super::poll::Poll;
use super::random::{Random, Seed};
use super::rejection::{KissCode, Rejected};
use crate::ntp::extension::Authenticator;
use crate::ntp::keys::{KEY_ID_LEN, Key, MAX_DIGEST_LEN};
use crate::ntp::packet::{HEADER_LEN, Header, Mode, NtpShort, Packet, PacketError};

/// A server further from its reference than this is useless (RFC 5905: MAXDISP), s.
const MAX_ROOT_DISTANCE: f64 = 16.0;

/// Exchanges among which the shortest delay is looked for.
const DELAYS: usize = 64;

/// How well a stamp of the kernel's clock is placed among readings of the raw one, s.
const STAMP_READING: f64 = 5e-6;

/// What an association needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The server.
    pub address: SocketAddr,
    /// Begin, and begin again after a silence, with quick polls.
    pub iburst: bool,
    /// log2 of the shortest poll interval, s.
    pub minpoll: i8,
    /// log2 of the longest, s.
    pub maxpoll: i8,
    /// NTP version of the requests, 1 to 4.
    pub version: u8,
    /// Sign requests with this key, and believe only what is signed with it.
    pub key: Option<Arc<Key>>,
    /// Ask as a peer (symmetric active), not as a client.
    pub peer: bool,
    /// Ask in interleaved mode (RFC 9769): when replies really left is told in the next ones.
    pub xleave: bool,
    /// Which replies are not good enough.
    pub filters: Filters,
    /// What the numbers follow from that replies have to repeat. Each association needs one of its own
    /// that nobody can guess.
    pub seed: Seed,
}

/// Which replies of a server are not good enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Filters {
    /// The least stratum.
    pub min_stratum: u8,
    /// The longest delay.
    pub max_delay: Span,
    /// The longest delay, as a multiple of the shortest of the last 64 exchanges.
    pub max_delay_ratio: f64,
}

impl Default for Filters {
    fn default() -> Self {
        Self { min_stratum: 0, max_delay: Span::from_whole_seconds(3), max_delay_ratio: f64::INFINITY }
    }
}

/// A stamp that the kernel took of something else, or before a step of its clock, is told by its place: a request
/// leaves after we hand it over and before its reply comes. The stamp comes by another clock, whose rate may differ
/// by 1000 ppm.
fn departure_is_credible(departed: Timestamp<Raw>, handed_over: Timestamp<Raw>, received: Timestamp<Raw>) -> bool {
    let tolerated = Span::from_seconds(STAMP_READING + (received - handed_over).seconds().max(0.0) * 1e-3);
    departed >= handed_over - tolerated && departed < received
}

/// Octets of the longest request.
const MAX_REQUEST_LEN: usize = HEADER_LEN + KEY_ID_LEN + MAX_DIGEST_LEN;

/// A request to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    bytes: [u8; MAX_REQUEST_LEN],
    len: usize,
}

impl Request {
    fn new(header: &Header, key: Option<&Key>) -> Self {
        let mut bytes = [0; MAX_REQUEST_LEN];
        for (to, octet) in bytes.iter_mut().zip(header.to_octets()) {
            *to = octet;
        }
        let signed = key.and_then(|key| key.sign(&mut bytes, HEADER_LEN, key.digest_len(header.version)));
        Self { bytes, len: signed.unwrap_or(HEADER_LEN) }
    }

    /// Its octets.
    pub fn octets(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

/// Counts of what came of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Requests.
    pub sent: u64,
    /// Datagrams that came.
    pub received: u64,
    /// Measurements.
    pub good: u64,
    /// Not NTP, or not a reply.
    pub malformed: u64,
    /// Replies to nothing we asked.
    pub bogus: u64,
    /// Replies that came twice.
    pub duplicate: u64,
    /// Replies that are not signed by our key, or say that our signature is wrong.
    pub not_signed: u64,
    /// Kiss codes.
    pub kissed: u64,
    /// Replies of a server without time, or too far from it.
    pub unsynchronised: u64,
    /// Replies that the configuration calls not good enough.
    pub filtered: u64,
    /// Replies whose timestamps contradict each other.
    pub impossible: u64,
    /// Stamps of when a request left that cannot be right; our own reading of the clock stood in.
    pub astray: u64,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    /// What a reply in basic mode repeats.
    cookie: NtpTimestamp,
    /// What a reply in interleaved mode repeats, and the exchange it tells of.
    interleaved: Option<(NtpTimestamp, Exchange)>,
    /// T1 by our own reading of the clock; until told otherwise, when the request was made.
    transmitted: Timestamp<Raw>,
    /// T1 by the kernel's stamp.
    departed: Option<Timestamp<Raw>>,
}

/// An exchange of which all but when the reply left is known for good.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    /// T1.
    transmitted: Timestamp<Raw>,
    /// T2.
    receive: NtpTimestamp,
    /// T4.
    received: Timestamp<Raw>,
    /// Has it been measured as it is?
    measured: bool,
}

/// An association with one server.
#[derive(Debug)]
pub struct Association {
    config: Config,
    random: Random,
    poll: Poll,
    outstanding: Option<Outstanding>,
    /// The last exchange, in interleaved mode.
    last: Option<Exchange>,
    /// The transmit timestamp of the last reply, to know it again.
    last_transmit: NtpTimestamp,
    /// The delays of the last exchanges, and where the next one goes.
    delays: [Option<Span>; DELAYS],
    next_delay: usize,
    reach: u8,
    tally: Tally,
    refused: Option<KissCode>,
}

impl Association {
    /// An association whose first request is due at once.
    pub fn new(config: Config) -> Self {
        let version = config.version.clamp(1, 4);
        Self {
            config: Config { version, ..config },
            random: Random::new(config.seed),
            poll: Poll::new(config.minpoll, config.maxpoll, config.iburst),
            outstanding: None,
            last: None,
            last_transmit: NtpTimestamp::UNKNOWN,
            delays: [None; DELAYS],
            next_delay: 0,
            reach: 0,
            tally: Tally::default(),
            refused: None,
        }
    }

    /// When [`Association::poll_transmit`] has something again; `None` once the server has refused.
    pub fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        self.poll.due()
    }

    /// A request, if one is due. Whoever sends it tells when with [`Association::handle_transmitted`].
    ///
    /// The request says nothing of us: its transmit timestamp is a random number that the reply has
    /// to repeat.
    pub fn poll_transmit(&mut self, now: Timestamp<Raw>) -> Option<Request> {
        if self.poll.due().is_none_or(|due| now < due) {
            return None;
        }
        self.reach <<= 1;
        self.tally.sent += 1;
        let noise = self.random.fraction();
        self.poll.sent(now, noise);
        let cookie = self.random.cookie();
        let mut header = Header::request(self.config.version, cookie);
        if self.config.peer {
            header.mode = Mode::SymmetricActive;
        }
        // A request that was not answered leaves nothing to ask about: the next one is a basic one.
        let interleaved = self.last.take().map(|last| (self.random.cookie(), last));
        if let Some((other, last)) = interleaved {
            (header.origin, header.receive) = (last.receive, other);
        }
        self.outstanding = Some(Outstanding { cookie, interleaved, transmitted: now, departed: None });
        Some(Request::new(&header, self.config.key.as_deref()))
    }

    /// This interval between polls is wanted from now on, log2 s.
    pub fn handle_wanted_poll(&mut self, exponent: i8) {
        self.poll.want(exponent);
    }

    /// A few quick polls are wanted now.
    pub fn handle_burst(&mut self, now: Timestamp<Raw>) {
        self.poll.burst(now);
    }

    /// When the request was handed to the system, by our own reading of the clock just before: T1, unless the
    /// kernel knows better.
    pub fn handle_transmitted(&mut self, stamp: Timestamp<Raw>) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.transmitted = stamp;
        }
    }

    /// When the request left (T1), as the kernel stamped it. It is believed if that is between our handing it
    /// over and the reply's coming.
    pub fn handle_departed(&mut self, stamp: Timestamp<Raw>) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.departed = Some(stamp);
        }
    }

    /// A datagram from the server came at `received` (T4).
    ///
    /// # Errors
    ///
    /// [`Rejected`], counted. A rejected datagram that does not repeat our number changes nothing.
    pub fn handle_receive(
        &mut self,
        bytes: &[u8],
        received: Timestamp<Raw>,
        now: Timestamp<Raw>,
    ) -> Result<Measurement, Rejected> {
        self.tally.received += 1;
        let result = self.judge(bytes, received, now);
        let tally = &mut self.tally;
        *match &result {
            Ok(_) | Err(Rejected::Measured) => &mut tally.good,
            Err(Rejected::Malformed(_) | Rejected::NotAReply { .. }) => &mut tally.malformed,
            Err(Rejected::Bogus) => &mut tally.bogus,
            Err(Rejected::Duplicate) => &mut tally.duplicate,
            Err(Rejected::NotSigned { .. } | Rejected::CryptoNak { .. }) => &mut tally.not_signed,
            Err(Rejected::Kiss(_)) => &mut tally.kissed,
            Err(Rejected::Unsynchronised { .. } | Rejected::RootDistance { .. }) => &mut tally.unsynchronised,
            Err(Rejected::StratumTooLow { .. } | Rejected::DelayTooLong { .. }) => &mut tally.filtered,
            Err(Rejected::ImpossibleTimes | Rejected::TooShort { .. }) => &mut tally.impossible,
        } += 1;
        result
    }

    fn judge(&mut self, bytes: &[u8], received: Timestamp<Raw>, now: Timestamp<Raw>) -> Result<Measurement, Rejected> {
        let packet = Packet::new_checked(bytes)?;
        let tail = packet.tail().map_err(PacketError::from)?;
        let reply = Header::parse(&packet);
        let mode = if self.config.peer { Mode::SymmetricPassive } else { Mode::Server };
        if reply.mode != mode || !(1..=4).contains(&reply.version) {
            return Err(Rejected::NotAReply { mode: reply.mode });
        }
        let repeated = |asked: &Outstanding| {
            asked.cookie == reply.origin || asked.interleaved.is_some_and(|(other, _)| other == reply.origin)
        };
        let Some(asked) = self.outstanding.filter(repeated) else {
            let again = reply.transmit != NtpTimestamp::UNKNOWN && reply.transmit == self.last_transmit;
            return Err(if again { Rejected::Duplicate } else { Rejected::Bogus });
        };
        if let Some(key) = &self.config.key {
            let covered = bytes.get(..bytes.len() - tail.mac().len()).unwrap_or_default();
            match tail.authenticator() {
                Authenticator::Mac { key: id, digest } if id == key.id() && key.verifies(covered, digest) => {}
                // Whoever is on the path can say so: the right reply may still come.
                Authenticator::CryptoNak => return Err(Rejected::CryptoNak { key: key.id() }),
                _ => return Err(Rejected::NotSigned { key: key.id() }),
            }
        }
        // From here on it is the server that speaks. One request has one reply.
        self.outstanding = None;
        self.last_transmit = reply.transmit;
        let transmitted = match asked.departed {
            None => asked.transmitted,
            Some(departed) if departure_is_credible(departed, asked.transmitted, received) => departed,
            Some(_) => {
                self.tally.astray += 1;
                asked.transmitted
            }
        };

        if reply.stratum == 0
            && let Some(kiss) = KissCode::from_refid(reply.refid)
        {
            match kiss {
                KissCode::Rate => self.poll.slow_down(now, reply.poll),
                KissCode::Deny | KissCode::Restrict => {
                    self.poll.end();
                    self.refused = Some(kiss);
                }
            }
            return Err(Rejected::Kiss(kiss));
        }
        if reply.leap == LeapIndicator::Unsynchronised || !(1..=15).contains(&reply.stratum) {
            let Header { leap, stratum, refid, .. } = reply;
            return Err(Rejected::Unsynchronised { leap, stratum, refid });
        }
        let distance_s = reply.root_delay.seconds() / 2.0 + reply.root_dispersion.seconds();
        if distance_s >= MAX_ROOT_DISTANCE || reply.root_delay == NtpShort::MAX {
            return Err(Rejected::RootDistance { distance_s });
        }
        let told_of = asked.interleaved.map(|(_, exchange)| exchange).filter(|_| asked.cookie != reply.origin);
        if self.config.xleave {
            self.last = Some(Exchange { transmitted, receive: reply.receive, received, measured: told_of.is_none() });
        }
        let measurement = match told_of {
            None => measure(&reply, transmitted, received),
            Some(exchange) => {
                let reply = Header { receive: exchange.receive, ..reply };
                measure(&reply, exchange.transmitted, exchange.received)
            }
        }?;
        self.filter(&measurement)?;
        if self.reach == 0 {
            self.poll.returned();
        }
        self.reach |= 1;
        if told_of.is_some_and(|exchange| exchange.measured) {
            return Err(Rejected::Measured);
        }
        Ok(measurement)
    }

    fn filter(&mut self, measurement: &Measurement) -> Result<(), Rejected> {
        let Filters { min_stratum, max_delay, max_delay_ratio } = self.config.filters;
        if measurement.stratum < min_stratum {
            return Err(Rejected::StratumTooLow { stratum: measurement.stratum, least: min_stratum });
        }
        let shortest = self.delays.iter().flatten().min().copied();
        if let Some(slot) = self.delays.get_mut(self.next_delay % DELAYS) {
            *slot = Some(measurement.delay);
        }
        self.next_delay = self.next_delay.wrapping_add(1);
        let ratio = shortest.map_or(f64::INFINITY, |shortest| shortest.seconds() * max_delay_ratio);
        let longest_s = max_delay.seconds().min(if ratio.is_nan() { f64::INFINITY } else { ratio });
        if measurement.delay.seconds() > longest_s {
            return Err(Rejected::DelayTooLong { delay_s: measurement.delay.seconds(), longest_s });
        }
        Ok(())
    }

    /// The server.
    pub fn address(&self) -> SocketAddr {
        self.config.address
    }

    /// The last eight polls, the newest in the lowest bit: set if it brought a measurement.
    pub fn reach(&self) -> u8 {
        self.reach
    }

    /// log2 of the poll interval in use, s.
    pub fn poll(&self) -> i8 {
        self.poll.exponent()
    }

    /// log2 of the shortest interval, s.
    pub fn minpoll(&self) -> i8 {
        self.poll.min()
    }

    /// What came of the requests so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The kiss code by which the server has refused to be asked again.
    pub fn refused(&self) -> Option<KissCode> {
        self.refused
    }

    /// Is a request under way that has not been answered?
    pub fn awaits_reply(&self) -> bool {
        self.outstanding.is_some()
    }
}

#[cfg(test)]
#[path = "association_tests.rs"]
mod tests;
