//! One association with a peer (RFC 5905, modes 1 and 2), without clock, socket or random source.
//!
//! ```text
//! poll_timeout -> wait -> poll_transmit -> send -> handle_transmitted, handle_departed (T1)
//!                         receive -> handle_receive(octets, T4) -> Measurement or Rejected
//! ```
//! Each side sends at its own pace. Every packet repeats when the other's last one left and tells when it came: whoever
//! receives it has all four timestamps, of which the middle two may be a poll interval apart. So both measure each other,
//! and nobody answers anybody. A peer that knows nothing of us answers at once, in passive mode: that is the same.
//!
//! What was sent is real time, which can be guessed better than a random number: peers ought to have a key. Without one a
//! packet that repeats nothing of ours is heeded only while we hear nothing else.

use std::net::SocketAddr;

use refclocks::time::{NtpTimestamp, Raw, Span, Timestamp};

use super::association::Config;
use super::checks::{is_signed, is_vouched_for, kiss_of};
use super::filters::Judge;
use super::measurement::{Measurement, departure, measure_slowly};
use super::ours::Ours;
use super::poll::Poll;
use super::random::Random;
use super::rejection::{KissCode, Rejected};
use super::request::Request;
use super::tally::Tally;
use crate::ntp::packet::{Header, Mode, Packet, PacketError, STRATUM_UNSYNCHRONISED};
use crate::ntp::stamp::{Ends, Stamp};

/// A packet leaves so long after it was made at most, as far as that is learned, s.
const LONGEST_WAY_OUT: f64 = 1e-3;

/// Of a packet that we sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// What it says of when it left, which theirs repeats.
    transmit: NtpTimestamp,
    /// When it was handed to the system.
    handed_over: Timestamp<Raw>,
    /// When it left, as it was stamped.
    departed: Option<Stamp>,
    /// Has it been measured by?
    measured: bool,
}

/// Of the last packet that came from them.
#[derive(Clone, Copy, Debug)]
struct Heard {
    /// What it says of when it left.
    transmit: NtpTimestamp,
    /// When it came, by the clock that we serve.
    received: NtpTimestamp,
}

/// An association with a peer.
#[derive(Debug)]
pub struct Symmetric {
    config: Config,
    random: Random,
    poll: Poll,
    sent: Option<Sent>,
    heard: Option<Heard>,
    /// The interval that our own side wants, and theirs if they send at their own pace, log2 s.
    wanted: i8,
    theirs: i8,
    /// How long after it was made a packet leaves, s: a moving average.
    way_out: f64,
    judge: Judge,
    reach: u8,
    tally: Tally,
    refused: Option<KissCode>,
}

impl Symmetric {
    /// An association whose first packet is due at once. It never interleaves.
    pub fn new(config: Config) -> Self {
        let version = config.version.clamp(1, 4);
        Self {
            random: Random::new(config.seed),
            poll: Poll::new(config.minpoll, config.maxpoll, config.iburst),
            judge: Judge::new(config.filters),
            config: Config { version, ..config },
            sent: None,
            heard: None,
            wanted: i8::MIN,
            theirs: i8::MIN,
            way_out: 0.0,
            reach: 0,
            tally: Tally::default(),
            refused: None,
        }
    }

    /// When [`Symmetric::poll_transmit`] has something again; `None` once the peer has refused.
    pub fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        self.poll.due()
    }

    /// A packet, if one is due, with what we say of ourselves.
    pub fn poll_transmit(&mut self, now: Timestamp<Raw>, ours: &Ours) -> Option<Request> {
        if self.poll.due().is_none_or(|due| now < due) {
            return None;
        }
        self.reach <<= 1;
        self.tally.sent += 1;
        let noise = self.random.fraction();
        self.poll.sent(now, noise);
        let view = &ours.view;
        let transmit =
            self.fuzzed(NtpTimestamp::from_utc(ours.reading(now + Span::from_seconds(self.way_out))), view.precision);
        let (origin, receive) = self.heard.map_or(Default::default(), |heard| (heard.transmit, heard.received));
        let header = Header {
            leap: view.leap,
            version: self.config.version,
            mode: Mode::SymmetricActive,
            stratum: if view.stratum >= STRATUM_UNSYNCHRONISED { 0 } else { view.stratum },
            poll: self.poll.exponent(),
            precision: view.precision,
            root_delay: view.root_delay,
            root_dispersion: view.root_dispersion,
            refid: view.refid,
            reference_time: view.reference_time,
            origin,
            receive,
            transmit,
        };
        self.sent = Some(Sent { transmit, handed_over: now, departed: None, measured: false });
        Some(Request::new(&header, self.config.key.as_deref()))
    }

    /// What is finer than our precision says nothing, and so may as well be unpredictable.
    fn fuzzed(&mut self, stamp: NtpTimestamp, precision: i8) -> NtpTimestamp {
        let mask = (1u64 << (32 + i32::from(precision)).clamp(4, 22)) - 1;
        NtpTimestamp((stamp.0 & !mask) | (self.random.bits() & mask))
    }

    /// This interval between polls is wanted from now on, log2 s.
    pub fn handle_wanted_poll(&mut self, exponent: i8) {
        self.wanted = exponent;
        self.follow_their_pace();
    }

    /// Of one that sends less often, each second packet of ours would tell nothing.
    fn follow_their_pace(&mut self) {
        let least = self.wanted.max(self.theirs);
        if least > i8::MIN {
            self.poll.want(least);
        }
    }

    /// A few quick polls are wanted now.
    pub fn handle_burst(&mut self, now: Timestamp<Raw>) {
        self.poll.burst(now);
    }

    /// When the packet was handed to the system, by our own reading of the clock just before.
    pub fn handle_transmitted(&mut self, stamp: Timestamp<Raw>) {
        if let Some(sent) = &mut self.sent {
            sent.handed_over = stamp;
        }
    }

    /// When it left, as it was stamped: believed as in [`super::Association::handle_departed`].
    pub fn handle_departed(&mut self, stamp: impl Into<Stamp>) {
        let stamp = stamp.into();
        if let Some(sent) = &mut self.sent {
            sent.departed = Some(stamp);
            let way_out = (stamp.best() - sent.handed_over).seconds().clamp(0.0, LONGEST_WAY_OUT);
            self.way_out += (way_out - self.way_out) / 4.0;
        }
    }

    /// A datagram from the peer came at `received` (T4).
    ///
    /// # Errors
    ///
    /// [`Rejected`], counted.
    pub fn handle_receive(
        &mut self,
        bytes: &[u8],
        received: impl Into<Stamp>,
        now: Timestamp<Raw>,
        ours: &Ours,
    ) -> Result<Measurement, Rejected> {
        self.tally.received += 1;
        let result = self.hear(bytes, received.into(), now, ours);
        self.tally.count(&result);
        result
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        received: Stamp,
        now: Timestamp<Raw>,
        ours: &Ours,
    ) -> Result<Measurement, Rejected> {
        let packet = Packet::new_checked(bytes)?;
        let tail = packet.tail().map_err(PacketError::from)?;
        let theirs = Header::parse(&packet);
        if !is_symmetric(theirs.mode) || !(1..=4).contains(&theirs.version) {
            return Err(Rejected::NotAReply { mode: theirs.mode });
        }
        is_signed(self.config.key.as_deref(), bytes, &tail)?;
        self.note(&theirs, ours.reading(received.best()))?;
        let answers = |sent: &&mut Sent| sent.transmit == theirs.origin && theirs.origin != NtpTimestamp::UNKNOWN;
        let Some(sent) = self.sent.as_mut().filter(answers) else {
            return Err(if theirs.origin == NtpTimestamp::UNKNOWN { Rejected::Unheard } else { Rejected::Bogus });
        };
        if let Some(kiss) = kiss_of(&theirs) {
            match kiss {
                KissCode::Rate => self.poll.slow_down(now, theirs.poll),
                KissCode::Deny | KissCode::Restrict => {
                    self.poll.end();
                    self.refused = Some(kiss);
                }
            }
            return Err(Rejected::Kiss(kiss));
        }
        is_vouched_for(&theirs)?;
        // Theirs come more often than ours: the first that tells of one of ours has the shortest way.
        if std::mem::replace(&mut sent.measured, true) {
            return Err(Rejected::Measured);
        }
        let left = departure(sent.departed, sent.handed_over, received.host, &mut self.tally);
        let measurement = measure_slowly(&theirs, Ends::of(&left, &received), ours.rate)?;
        self.judge.admit(&measurement)?;
        if self.reach == 0 {
            self.poll.returned();
        }
        self.reach |= 1;
        if theirs.mode == Mode::SymmetricActive {
            self.theirs = theirs.poll;
            self.follow_their_pace();
        }
        Ok(measurement)
    }

    /// Notes what our next packet has to repeat, if this is theirs: signed, or else an answer to ours, or the first that
    /// is heard for long.
    fn note(&mut self, theirs: &Header, received: Timestamp<refclocks::time::Utc>) -> Result<(), Rejected> {
        if theirs.transmit == NtpTimestamp::UNKNOWN {
            return Err(Rejected::ImpossibleTimes);
        }
        if let Some(heard) = self.heard {
            if heard.transmit == theirs.transmit {
                return Err(Rejected::Duplicate);
            }
            // A replay, or they set their clock back: that is heeded once nothing newer comes.
            if (theirs.transmit.0.wrapping_sub(heard.transmit.0) as i64) < 0 && self.reach != 0 {
                return Err(Rejected::Old);
            }
        }
        let answers = self.sent.is_some_and(|sent| sent.transmit == theirs.origin);
        if self.config.key.is_none() && !answers && self.reach != 0 {
            return Err(Rejected::Bogus);
        }
        self.heard = Some(Heard { transmit: theirs.transmit, received: NtpTimestamp::from_utc(received) });
        Ok(())
    }

    /// The peer.
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

    /// What came of the packets so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The kiss code by which the peer has refused to be asked again.
    pub fn refused(&self) -> Option<KissCode> {
        self.refused
    }
}

/// Is it a packet between peers?
pub fn is_symmetric(mode: Mode) -> bool {
    matches!(mode, Mode::SymmetricActive | Mode::SymmetricPassive)
}

#[cfg(test)]
#[path = "symmetric_tests.rs"]
mod tests;
