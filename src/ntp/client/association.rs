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

use refclocks::time::{NtpTimestamp, Raw, Span, Timestamp};
use serde::{Deserialize, Serialize};

use super::checks::{is_signed, is_vouched_for, kiss_of};
use super::filters::{Filters, Judge};
use super::measurement::{Measurement, departure, knows_its_reference, measure};
use super::poll::Poll;
use super::random::{Random, Seed};
use super::rejection::{KissCode, Rejected};
use super::request::Request;
use super::tally::Tally;
use crate::ntp::keys::{Key, named};
use crate::ntp::packet::{Header, Mode, Packet, PacketError};
use crate::ntp::stamp::{Stamp, Unevenness};

/// So long before the request that is measured by, one opens the way.
const OPENS_BEFORE: Span = Span::from_whole_seconds(2);

/// What an association needs to know. Written down, it names its key and does not tell it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    #[serde(with = "named")]
    pub key: Option<Arc<Key>>,
    /// Ask in interleaved mode (RFC 9769): when replies really left is told in the next ones.
    pub xleave: bool,
    /// From this interval on, log2 s, a request without consequence opens the way 2 s before each that is measured by:
    /// for whoever on it has forgotten us meanwhile.
    pub presend: Option<i8>,
    /// Which replies are not good enough.
    pub filters: Filters,
    /// What the numbers follow from that replies have to repeat. Each association needs one of its own
    /// that nobody can guess.
    pub seed: Seed,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    /// What a reply in basic mode repeats.
    cookie: NtpTimestamp,
    /// What a reply in interleaved mode repeats, and the exchange it tells of.
    interleaved: Option<(NtpTimestamp, Exchange)>,
    /// T1 by our own reading of the clock; until told otherwise, when the request was made.
    transmitted: Timestamp<Raw>,
    /// T1 by the stamps of the kernel and of the network card.
    departed: Option<Stamp>,
}

/// An exchange of which all but when the reply left is known for good.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    /// T1.
    transmitted: Stamp,
    /// T2.
    receive: NtpTimestamp,
    /// T4.
    received: Stamp,
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
    /// The number of the request that opened the way for the next, once it has been sent.
    presend: Option<NtpTimestamp>,
    /// The last exchange, in interleaved mode.
    last: Option<Exchange>,
    /// The transmit timestamp of the last reply, to know it again.
    last_transmit: NtpTimestamp,
    judge: Judge,
    unevenness: Unevenness,
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
            presend: None,
            last: None,
            last_transmit: NtpTimestamp::UNKNOWN,
            judge: Judge::new(config.filters),
            unevenness: Unevenness::default(),
            reach: 0,
            tally: Tally::default(),
            refused: None,
        }
    }

    /// When [`Association::poll_transmit`] has something again; `None` once the server has refused.
    pub fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        let due = self.poll.due()?;
        Some(if self.opens_the_way() { due - OPENS_BEFORE } else { due })
    }

    /// Is a request without consequence due before the next that is measured by?
    fn opens_the_way(&self) -> bool {
        self.presend.is_none() && self.config.presend.is_some_and(|least| self.poll.exponent() >= least)
    }

    /// A request, if one is due. Whoever sends it tells when with [`Association::handle_transmitted`].
    ///
    /// The request says nothing of us: its transmit timestamp is a random number that the reply has
    /// to repeat.
    pub fn poll_transmit(&mut self, now: Timestamp<Raw>) -> Option<Request> {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return None;
        }
        let key = self.config.key.clone();
        if self.opens_the_way() && self.poll.due().is_some_and(|due| now < due) {
            self.tally.sent += 1;
            let cookie = self.random.cookie();
            self.presend = Some(cookie);
            return Some(Request::new(&Header::request(self.config.version, cookie), key.as_deref()));
        }
        self.presend = None;
        self.reach <<= 1;
        self.tally.sent += 1;
        let noise = self.random.fraction();
        self.poll.sent(now, noise);
        let cookie = self.random.cookie();
        let mut header = Header::request(self.config.version, cookie);
        // A request that was not answered leaves nothing to ask about: the next one is a basic one.
        let interleaved = self.last.take().map(|last| (self.random.cookie(), last));
        if let Some((other, last)) = interleaved {
            (header.origin, header.receive) = (last.receive, other);
        }
        self.outstanding = Some(Outstanding { cookie, interleaved, transmitted: now, departed: None });
        Some(Request::new(&header, key.as_deref()))
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

    /// When the request left (T1), as it was stamped. It is believed if that is between our handing it
    /// over and the reply's coming.
    pub fn handle_departed(&mut self, stamp: impl Into<Stamp>) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.departed = Some(stamp.into());
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
        received: impl Into<Stamp>,
        now: Timestamp<Raw>,
    ) -> Result<Measurement, Rejected> {
        self.tally.received += 1;
        let result = self.hear(bytes, received.into(), now);
        self.tally.count(&result);
        result
    }

    fn hear(&mut self, bytes: &[u8], received: Stamp, now: Timestamp<Raw>) -> Result<Measurement, Rejected> {
        let packet = Packet::new_checked(bytes)?;
        let tail = packet.tail().map_err(PacketError::from)?;
        let reply = Header::parse(&packet);
        if reply.mode != Mode::Server || !(1..=4).contains(&reply.version) {
            return Err(Rejected::NotAReply { mode: reply.mode });
        }
        let repeated = |asked: &Outstanding| {
            asked.cookie == reply.origin || asked.interleaved.is_some_and(|(other, _)| other == reply.origin)
        };
        if self.presend == Some(reply.origin) {
            is_signed(self.config.key.as_deref(), bytes, &tail)?;
            kiss_of(&reply).map_or(Ok(()), |kiss| self.heed(kiss, &reply, now))?;
            return Err(Rejected::Presend);
        }
        let Some(asked) = self.outstanding.filter(repeated) else {
            let again = reply.transmit != NtpTimestamp::UNKNOWN && reply.transmit == self.last_transmit;
            return Err(if again { Rejected::Duplicate } else { Rejected::Bogus });
        };
        is_signed(self.config.key.as_deref(), bytes, &tail)?;
        // From here on it is the server that speaks. One request has one reply.
        self.outstanding = None;
        self.last_transmit = reply.transmit;
        let transmitted = departure(asked.departed, asked.transmitted, received.host, &mut self.tally);
        kiss_of(&reply).map_or(Ok(()), |kiss| self.heed(kiss, &reply, now))?;
        is_vouched_for(&reply)?;
        let told_of = asked.interleaved.map(|(_, exchange)| exchange).filter(|_| asked.cookie != reply.origin);
        if self.config.xleave {
            self.last = Some(Exchange { transmitted, receive: reply.receive, received, measured: told_of.is_none() });
        }
        let measurement = match told_of {
            None => measure(&reply, self.unevenness.ends(&transmitted, &received)),
            Some(exchange) => {
                // What else it says is of now: its clock may well have been set since that reply left.
                knows_its_reference(&reply, reply.receive)?;
                let reply = Header { receive: exchange.receive, reference_time: NtpTimestamp::UNKNOWN, ..reply };
                measure(&reply, self.unevenness.ends(&exchange.transmitted, &exchange.received))
            }
        }?;
        self.judge.admit(&measurement)?;
        if self.reach == 0 {
            self.poll.returned();
        }
        self.reach |= 1;
        if told_of.is_some_and(|exchange| exchange.measured) {
            return Err(Rejected::Measured);
        }
        Ok(measurement)
    }

    /// Does what a kiss code asks.
    fn heed(&mut self, kiss: KissCode, reply: &Header, now: Timestamp<Raw>) -> Result<(), Rejected> {
        match kiss {
            KissCode::Rate => self.poll.slow_down(now, reply.poll),
            KissCode::Deny | KissCode::Restrict => {
                self.poll.end();
                self.refused = Some(kiss);
            }
        }
        Err(Rejected::Kiss(kiss))
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
