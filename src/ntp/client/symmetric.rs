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
//! In interleaved mode (RFC 9769 section 3) a packet tells when the one before it really left, and repeats when that peer's own last
//! packet came there; so the exchange before is measured, by what the kernel stamped at both ends. Since a lost packet would
//! spoil that unseen, a packet is sent so only as the one answer to one of theirs, after another such.
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

/// What a transmit timestamp tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tells {
    /// When the packet itself left (basic mode).
    OfItself,
    /// When the one before it left (interleaved mode).
    OfTheOneBefore,
}

/// Of a packet that we sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// What it says of when it left, which theirs repeats.
    transmit: NtpTimestamp,
    /// What it says of when their last one came, which theirs repeats in interleaved mode.
    receive: NtpTimestamp,
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
    /// What it says of when it left, or the one before it.
    transmit: NtpTimestamp,
    /// The newest of these so far.
    newest: NtpTimestamp,
    /// What it says of when our last one came.
    receive: NtpTimestamp,
    /// When it came, by the clock that we serve.
    received: NtpTimestamp,
}

/// What is to be known of their last packet once they tell when it left.
#[derive(Clone, Copy, Debug)]
struct Answered {
    /// When that of ours left which it answers.
    transmitted: Stamp,
    /// When that came there, by their clock.
    receive: NtpTimestamp,
    /// When theirs came.
    received: Stamp,
    /// Has it been measured by as it is?
    measured: bool,
}

/// An association with a peer.
#[derive(Debug)]
pub struct Symmetric {
    config: Config,
    random: Random,
    poll: Poll,
    sent: Option<Sent>,
    heard: Option<Heard>,
    answered: Option<Answered>,
    /// Packets of ours since the last of theirs that answered one, and between that and the one before.
    since: u32,
    before: u32,
    /// Their last one was interleaved.
    interleaves: bool,
    /// Of a peer that came by itself: when its packet came that is to be answered, until it is. We send nothing else to it.
    owed: Option<Option<Timestamp<Raw>>>,
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
    /// An association whose first packet is due at once. With `xleave` it begins to interleave, else it does once
    /// they do.
    pub fn new(config: Config) -> Self {
        let version = config.version.clamp(1, 4);
        Self {
            random: Random::new(config.seed),
            poll: Poll::new(config.minpoll, config.maxpoll, config.iburst),
            judge: Judge::new(config.filters),
            config: Config { version, ..config },
            sent: None,
            heard: None,
            answered: None,
            since: 0,
            before: 0,
            interleaves: false,
            owed: None,
            wanted: i8::MIN,
            theirs: i8::MIN,
            way_out: 0.0,
            reach: 0,
            tally: Tally::default(),
            refused: None,
        }
    }

    /// One with a peer that came by itself: it is answered in passive mode, at once, and nothing else is sent to it.
    pub fn passive(config: Config) -> Self {
        Self { owed: Some(None), ..Self::new(config) }
    }

    /// When [`Symmetric::poll_transmit`] has something again; `None` once the peer has refused, and while one that came by
    /// itself has to speak first.
    pub fn poll_timeout(&self) -> Option<Timestamp<Raw>> {
        self.owed.unwrap_or_else(|| self.poll.due())
    }

    /// A packet, if one is due, with what we say of ourselves.
    pub fn poll_transmit(&mut self, now: Timestamp<Raw>, ours: &Ours) -> Option<Request> {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return None;
        }
        self.reach <<= 1;
        self.tally.sent += 1;
        let mode = match &mut self.owed {
            Some(owed) => {
                *owed = None;
                Mode::SymmetricPassive
            }
            None => {
                let noise = self.random.fraction();
                self.poll.sent(now, noise);
                Mode::SymmetricActive
            }
        };
        let view = &ours.view;
        let heard = self.heard;
        // When the last one left is told only if it cannot be taken for another.
        let is_the_one_answer = self.since == 0 && self.before == 1 && (self.config.xleave || self.interleaves);
        let left = self.sent.and_then(|sent| sent.departed).filter(|_| is_the_one_answer);
        let transmit = match left {
            Some(left) => NtpTimestamp::from_utc(ours.reading(left.best())),
            None => {
                let leaves = ours.reading(now + Span::from_seconds(self.way_out));
                self.fuzzed(NtpTimestamp::from_utc(leaves), view.precision)
            }
        };
        let repeated = |heard: Heard| if left.is_some() { heard.receive } else { heard.transmit };
        let receive = heard.map_or(NtpTimestamp::UNKNOWN, |heard| heard.received);
        let header = Header {
            leap: view.leap,
            version: self.config.version,
            mode,
            stratum: if view.stratum >= STRATUM_UNSYNCHRONISED { 0 } else { view.stratum },
            poll: self.poll(),
            precision: view.precision,
            root_delay: view.root_delay,
            root_dispersion: view.root_dispersion,
            refid: view.refid,
            reference_time: view.reference_time,
            origin: heard.map_or(NtpTimestamp::UNKNOWN, repeated),
            receive,
            transmit,
        };
        self.since = self.since.saturating_add(1);
        self.sent = Some(Sent { transmit, receive, handed_over: now, departed: None, measured: false });
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
        let tells = self.tells(&theirs);
        self.note(&theirs, ours.reading(received.best()), tells)?;
        if let Some(owed) = &mut self.owed {
            *owed = Some(now);
            self.theirs = theirs.poll;
        }
        // One that comes in between has not left when this one tells.
        let told_of = self.answered.take().filter(|_| tells == Some(Tells::OfTheOneBefore));
        let Some(tells) = tells else {
            return Err(if theirs.origin == NtpTimestamp::UNKNOWN { Rejected::Unheard } else { Rejected::Bogus });
        };
        (self.before, self.since) = (self.since, 0);
        self.interleaves = tells == Tells::OfTheOneBefore;
        let Some(sent) = self.sent.as_mut() else { return Err(Rejected::Bogus) };
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
        let left = departure(sent.departed, sent.handed_over, received.host, &mut self.tally);
        let measured = tells == Tells::OfItself;
        self.answered = Some(Answered { transmitted: left, receive: theirs.receive, received, measured });
        // Theirs come more often than ours: the first that tells of one of ours has the shortest way.
        let again = std::mem::replace(&mut sent.measured, true);
        let measurement = match (tells, told_of) {
            (Tells::OfItself, _) => measure_slowly(&theirs, Ends::of(&left, &received), ours.rate)?,
            (Tells::OfTheOneBefore, Some(Answered { transmitted, receive, received, .. })) => {
                measure_slowly(&Header { receive, ..theirs }, Ends::of(&transmitted, &received), ours.rate)?
            }
            (Tells::OfTheOneBefore, None) => return Err(Rejected::Measured),
        };
        if again {
            return Err(Rejected::Measured);
        }
        self.judge.admit(&measurement)?;
        if self.reach == 0 {
            self.poll.returned();
        }
        self.reach |= 1;
        if theirs.mode == Mode::SymmetricActive {
            self.theirs = theirs.poll;
            self.follow_their_pace();
        }
        if told_of.is_some_and(|answered| answered.measured) {
            return Err(Rejected::Measured);
        }
        Ok(measurement)
    }

    /// What their packet's transmit timestamp tells of, if the packet repeats something of our last.
    fn tells(&self, theirs: &Header) -> Option<Tells> {
        let sent = self.sent.filter(|_| theirs.origin != NtpTimestamp::UNKNOWN)?;
        if theirs.origin == sent.transmit {
            Some(Tells::OfItself)
        } else {
            (theirs.origin == sent.receive).then_some(Tells::OfTheOneBefore)
        }
    }

    /// Notes what our next packet has to repeat, if this is theirs: signed, or else an answer to ours, or the first that
    /// is heard for long.
    fn note(
        &mut self,
        theirs: &Header,
        received: Timestamp<refclocks::time::Utc>,
        tells: Option<Tells>,
    ) -> Result<(), Rejected> {
        if theirs.transmit == NtpTimestamp::UNKNOWN {
            return Err(Rejected::ImpossibleTimes);
        }
        let mut newest = theirs.transmit;
        if let Some(heard) = self.heard {
            if heard.transmit == theirs.transmit {
                return Err(Rejected::Duplicate);
            }
            // A replay, or they set their clock back: that is heeded once nothing newer comes. When one really left
            // may be a little before the time that it told itself.
            let is_older = |than: NtpTimestamp| (theirs.transmit.0.wrapping_sub(than.0) as i64) < 0;
            if self.reach != 0 && tells != Some(Tells::OfTheOneBefore) && is_older(heard.newest) {
                return Err(Rejected::Old);
            }
            if self.reach != 0 && is_older(heard.newest) {
                newest = heard.newest;
            }
        }
        if self.config.key.is_none() && tells.is_none() && self.reach != 0 {
            return Err(Rejected::Bogus);
        }
        let received = NtpTimestamp::from_utc(received);
        self.heard = Some(Heard { transmit: theirs.transmit, newest, receive: theirs.receive, received });
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

    /// log2 of the poll interval in use, s: ours, or that of one that came by itself.
    pub fn poll(&self) -> i8 {
        if self.owed.is_some() { self.theirs } else { self.poll.exponent() }
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
