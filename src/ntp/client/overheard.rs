//! One broadcaster that we listen to (RFC 5905, mode 5), without clock, socket or random source.
//!
//! ```text
//! the volley:    poll_timeout -> wait -> poll_transmit -> send; receive -> handle_reply
//! the broadcast: receive -> handle_heard(octets, arrival) -> Measurement or Rejected
//! silence:       poll_timeout -> wait -> handle_timeout -> is_lost
//! ```
//! What is broadcast tells when it left and not how long it was under way. That is measured once an hour, by a volley: a
//! few exchanges as a client's, of which the shortest counts. Between volleys each packet is held against the one before:
//! one that comes later than time went on was held up, and one that comes sooner is of another clock.

use std::net::SocketAddr;
use std::sync::Arc;

use refclocks::time::{NtpTimestamp, Raw, Span, Timestamp, Utc, exact};
use serde::{Deserialize, Serialize};

use super::association::{Association, Config as ClientConfig};
use super::checks::{is_signed, is_vouched_for};
use super::filters::{Filters, Judge};
use super::measurement::{Measurement, Rate, utc_of};
use super::random::Seed;
use super::rejection::Rejected;
use super::request::Request;
use super::tally::Tally;
use crate::ntp::keys::{Key, named};
use crate::ntp::packet::{Header, Mode, Packet, PacketError};

/// Exchanges of a volley that are wanted: 2, 2, 2 and 4 s apart.
const VOLLEY: u32 = 5;
/// A volley is repeated so long after the last.
const VOLLEY_EVERY: Span = Span::from_whole_seconds(3600);
/// So many packets in a row whose delay cannot be are one of two things: the way or the clock has changed. A volley tells.
const DOUBTS: u32 = 4;
/// Jitter of stamps and queues that means nothing, s.
const JITTER: f64 = 200e-6;

/// What is to be known of a broadcaster. Written down, it names its key and does not tell it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Who it is.
    pub address: SocketAddr,
    /// Believe only what is signed with this key, and sign the volley.
    #[serde(with = "named")]
    pub key: Option<Arc<Key>>,
    /// The assumed round trip of one that answers no volley. `None`: measured.
    #[serde(with = "exact::option")]
    pub delay: Option<Span>,
    /// No packet is believed that was under way for longer.
    #[serde(with = "exact")]
    pub max_delay: Span,
    /// Which are not good enough besides.
    pub filters: Filters,
    /// What the numbers follow from that the volley's replies have to repeat.
    pub seed: Seed,
}

/// What the last volley and the packets since have taught.
#[derive(Clone, Copy, Debug)]
struct Calibration {
    /// The shortest round trip.
    delay: Span,
    /// What our raw counter read...
    at: Timestamp<Raw>,
    /// ...when its clock read that.
    reference: Timestamp<Utc>,
}

/// The last packet that was believed.
#[derive(Clone, Copy, Debug)]
struct Heard {
    transmit: Timestamp<Utc>,
    at: Timestamp<Raw>,
}

/// A broadcaster that we listen to.
#[derive(Debug)]
pub struct Overheard {
    config: Config,
    volley: Option<Volley>,
    next_volley: Option<Timestamp<Raw>>,
    calibration: Option<Calibration>,
    heard: Option<Heard>,
    /// log2 of its interval, s.
    interval: i8,
    /// By when the next is missed.
    silent_from: Timestamp<Raw>,
    doubts: u32,
    judge: Judge,
    reach: u8,
    missed: u32,
    tally: Tally,
}

/// A few exchanges as a client's.
#[derive(Debug)]
struct Volley {
    association: Association,
    shortest: Option<Measurement>,
    good: u32,
}

impl Overheard {
    /// One that was heard for the first time now. Its way is measured at once.
    pub fn new(config: Config, now: Timestamp<Raw>) -> Self {
        let mut new = Self {
            volley: None,
            next_volley: None,
            calibration: None,
            heard: None,
            interval: 6,
            silent_from: now + Span::from_whole_seconds(96),
            doubts: 0,
            judge: Judge::new(config.filters),
            reach: 0,
            missed: 0,
            tally: Tally::default(),
            config,
        };
        if new.config.delay.is_none() {
            new.begin_volley();
        }
        new
    }

    fn begin_volley(&mut self) {
        if self.volley.is_some() || self.config.delay.is_some() {
            return;
        }
        // Each volley's numbers are its own.
        for (at, octet) in self.config.seed.iter_mut().enumerate() {
            *octet = octet.wrapping_add(1 + at as u8);
        }
        let association = Association::new(ClientConfig {
            address: self.config.address,
            iburst: true,
            minpoll: 6,
            maxpoll: 10,
            version: 4,
            key: self.config.key.clone(),
            xleave: false,
            presend: None,
            filters: self.config.filters,
            seed: self.config.seed,
        });
        self.volley = Some(Volley { association, shortest: None, good: 0 });
    }

    /// When something is to be done: [`Overheard::handle_timeout`] and [`Overheard::poll_transmit`].
    pub fn poll_timeout(&self) -> Timestamp<Raw> {
        let volley = self.volley.as_ref().and_then(|volley| volley.association.poll_timeout());
        [volley, self.next_volley].into_iter().flatten().fold(self.silent_from, Timestamp::min)
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Timestamp<Raw>) {
        while now >= self.silent_from {
            self.reach <<= 1;
            self.missed += 1;
            self.silent_from += self.expected();
        }
        if self.next_volley.is_some_and(|at| now >= at) {
            self.next_volley = None;
            self.begin_volley();
        }
    }

    fn expected(&self) -> Span {
        Span::from_seconds(libm::exp2(f64::from(self.interval)))
    }

    /// Has it been silent for so long that it is gone?
    pub fn is_lost(&self) -> bool {
        self.missed >= 8
    }

    /// A request of the volley, if one is due.
    pub fn poll_transmit(&mut self, now: Timestamp<Raw>) -> Option<Request> {
        self.volley.as_mut()?.association.poll_transmit(now)
    }

    /// As of [`Association::handle_transmitted`].
    pub fn handle_transmitted(&mut self, stamp: Timestamp<Raw>) {
        if let Some(volley) = &mut self.volley {
            volley.association.handle_transmitted(stamp);
        }
    }

    /// As of [`Association::handle_departed`].
    pub fn handle_departed(&mut self, stamp: Timestamp<Raw>) {
        if let Some(volley) = &mut self.volley {
            volley.association.handle_departed(stamp);
        }
    }

    /// A reply to the volley came at `received`. It is a measurement like any client's.
    ///
    /// # Errors
    ///
    /// [`Rejected`], counted.
    pub fn handle_reply(
        &mut self,
        octets: &[u8],
        received: Timestamp<Raw>,
        now: Timestamp<Raw>,
    ) -> Result<Measurement, Rejected> {
        self.tally.received += 1;
        let result = match &mut self.volley {
            None => Err(Rejected::Bogus),
            Some(volley) => volley.association.handle_receive(octets, received, now),
        };
        self.tally.count(&result);
        if let (Ok(measurement), Some(volley)) = (&result, &mut self.volley) {
            volley.good += 1;
            let is_shorter = volley.shortest.is_none_or(|shortest| measurement.delay < shortest.delay);
            let shortest = if is_shorter { *measurement } else { volley.shortest.unwrap_or(*measurement) };
            volley.shortest = Some(shortest);
            if volley.good >= VOLLEY {
                let Measurement { delay, at, reference, .. } = shortest;
                self.calibration = Some(Calibration { delay, at, reference });
                self.volley = None;
                self.next_volley = Some(now + VOLLEY_EVERY);
                self.doubts = 0;
            }
        }
        result
    }

    /// A datagram that was broadcast came at `received`. `rate` is that of our raw counter.
    ///
    /// # Errors
    ///
    /// [`Rejected`], counted.
    pub fn handle_heard(
        &mut self,
        octets: &[u8],
        received: Timestamp<Raw>,
        rate: Rate,
    ) -> Result<Measurement, Rejected> {
        self.tally.received += 1;
        let result = self.hear(octets, received, rate);
        self.tally.count(&result);
        result
    }

    fn hear(&mut self, octets: &[u8], received: Timestamp<Raw>, rate: Rate) -> Result<Measurement, Rejected> {
        let header = checked(octets, self.config.key.as_deref())?;
        let transmit = utc_of(header.transmit);
        if let Some(heard) = self.heard {
            if transmit == heard.transmit {
                return Err(Rejected::Duplicate);
            }
            if transmit < heard.transmit || received <= heard.at {
                return Err(Rejected::Old);
            }
        }
        is_vouched_for(&header)?;
        let calibration = match (self.calibration, self.config.delay) {
            (Some(calibration), _) => Some(calibration),
            // Without a volley the first packet is the measure of those that follow.
            (None, Some(delay)) => Some(Calibration { delay, at: received, reference: transmit + half(delay) }),
            (None, None) => None,
        };
        let Some(calibration) = calibration else {
            self.is_heard(&header, transmit, received);
            return Err(Rejected::Uncalibrated);
        };
        let elapsed = received - calibration.at;
        let expected = calibration.reference + elapsed + Span::from_seconds(elapsed.seconds() * rate.correction);
        let late = (expected - transmit).seconds() - calibration.delay.seconds() / 2.0;
        let drift = elapsed.seconds().abs() * (1e-6 + 4.0 * rate.deviation);
        let (implied_s, longest_s) = (calibration.delay.seconds() / 2.0 + late, self.config.max_delay.seconds());
        if late < -(drift + JITTER) || implied_s > longest_s + drift {
            self.doubts += 1;
            if self.doubts >= DOUBTS {
                self.calibration = None;
                self.begin_volley();
            }
            return Err(Rejected::ImpliedDelay { implied_s, longest_s });
        }
        // Whoever is late is not the measure of those that follow, as far as our own rate is known.
        let held_up = Span::from_seconds((late - drift).max(0.0));
        let reference = transmit + half(calibration.delay) + held_up;
        self.calibration = Some(Calibration { at: received, reference, ..calibration });
        self.doubts = 0;
        let measurement = Measurement::new(received, transmit + half(calibration.delay), calibration.delay, &header);
        self.is_heard(&header, transmit, received);
        self.judge.admit(&measurement)?;
        self.reach = (self.reach << 1) | 1;
        Ok(measurement)
    }

    /// A packet that is its own, and newer than the last.
    fn is_heard(&mut self, header: &Header, transmit: Timestamp<Utc>, received: Timestamp<Raw>) {
        self.heard = Some(Heard { transmit, at: received });
        self.interval = header.poll.clamp(0, 17);
        self.missed = 0;
        let expected = self.expected();
        self.silent_from = received + expected + half(expected);
    }

    /// The broadcaster.
    pub fn address(&self) -> SocketAddr {
        self.config.address
    }

    /// The last eight that were expected, the newest in the lowest bit: set if it could be used.
    pub fn reach(&self) -> u8 {
        self.reach
    }

    /// log2 of its interval, s.
    pub fn interval(&self) -> i8 {
        self.interval
    }

    /// What came of its packets and of the volley.
    pub fn tally(&self) -> Tally {
        self.tally
    }
}

/// A packet that was broadcast, signed by the key if there is one: such a one makes its sender a source.
///
/// # Errors
///
/// [`Rejected`], if it is none.
pub fn checked(octets: &[u8], key: Option<&Key>) -> Result<Header, Rejected> {
    let packet = Packet::new_checked(octets)?;
    let tail = packet.tail().map_err(PacketError::from)?;
    let header = Header::parse(&packet);
    if header.mode != Mode::Broadcast || !(1..=4).contains(&header.version) {
        return Err(Rejected::NotAReply { mode: header.mode });
    }
    is_signed(key, octets, &tail)?;
    if header.transmit == NtpTimestamp::UNKNOWN {
        return Err(Rejected::ImpossibleTimes);
    }
    Ok(header)
}

fn half(span: Span) -> Span {
    Span::from_seconds(span.seconds() / 2.0)
}

#[cfg(test)]
#[path = "overheard_tests.rs"]
mod tests;
