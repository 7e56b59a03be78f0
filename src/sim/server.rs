//! A network server and the way to it and back.
//!
//! It answers with the code that answers for us: requests and replies are octets on a wire.

use refclocks::ReferenceId;
use refclocks::time::{NtpTimestamp, Span, Tai, Timestamp};

use super::{Jitter, Rng};
use crate::core::leap::UtcMap;
use crate::ntp::access::Flags;
use crate::ntp::keys::KeyTable;
use crate::ntp::packet::{HEADER_LEN, NtpShort};
use crate::ntp::server::{Disposition, Request, View, respond};

/// How long it takes to answer, s, with a clock that reads exactly; and how many deviations of its
/// stamps more, so that the second never comes before the first.
const SERVICE: f64 = 20e-6;
const SERVICE_DEVIATIONS: f64 = 8.0;

/// What a server is like, and the way to it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerModel {
    /// The way there and the way back.
    pub there: Way,
    /// The way back.
    pub back: Way,
    /// Share of the exchanges that are lost.
    pub loss: f64,
    /// Standard deviation of each of the four stamps, s.
    pub stamp_noise: f64,
    /// How far its clock is ahead of true time, s.
    pub ahead: f64,
    /// log2 of the shortest poll interval, s.
    pub minpoll: i8,
    /// log2 of the longest, s.
    pub maxpoll: i8,
    /// Begin with quick polls.
    pub iburst: bool,
    /// Its stratum.
    pub stratum: u8,
    /// What it says of its way to its own reference, s.
    pub root_delay: f64,
    /// What it says of its own dispersion, s.
    pub root_dispersion: f64,
}

/// One direction of a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Way {
    /// What every packet takes, s.
    pub base: f64,
    /// What most take on top.
    pub jitter: Jitter,
}

/// What a fault does to the way and the server for a while.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Detour {
    /// Nothing comes back.
    pub silent: bool,
    /// Longer there, s.
    pub there: f64,
    /// Longer back, s.
    pub back: f64,
    /// Its clock is ahead by so much more, s.
    pub ahead: f64,
}

/// A server at work.
#[derive(Clone, Debug)]
pub struct Server {
    rng: Rng,
    model: ServerModel,
}

/// A reply on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// When it arrives.
    pub at: Timestamp<Tai>,
    /// Its octets.
    pub bytes: Vec<u8>,
}

impl Server {
    /// A server.
    pub fn new(rng: Rng, model: ServerModel) -> Self {
        Self { rng, model }
    }

    /// The error of one of our own stamps, s.
    pub fn stamp_error(&mut self) -> f64 {
        if self.model.stamp_noise > 0.0 { self.model.stamp_noise * self.rng.normal() } else { 0.0 }
    }

    /// A request leaves us at `sent`.
    pub fn ask(&mut self, request: &[u8], sent: Timestamp<Tai>, detour: &Detour, utc: &UtcMap) -> Option<Reply> {
        let there = self.model.there.base + self.model.there.jitter.draw(&mut self.rng) + detour.there;
        let back = self.model.back.base + self.model.back.jitter.draw(&mut self.rng) + detour.back;
        let is_lost = self.rng.uniform() < self.model.loss;
        let service = SERVICE + SERVICE_DEVIATIONS * self.model.stamp_noise;
        let (arrives, leaves) = (sent + Span::from_seconds(there), sent + Span::from_seconds(there + service));
        let mut stamp = |at: Timestamp<Tai>| {
            let ahead = self.model.ahead + detour.ahead + self.stamp_error();
            utc.utc(at + Span::from_seconds(ahead)).0
        };
        let (received, transmitted) = (stamp(arrives), stamp(leaves));
        let transmitted = transmitted.max(received);
        let view = View {
            leap: utc.indicator(leaves),
            stratum: self.model.stratum,
            refid: ReferenceId(*b"SIM\0"),
            precision: -24,
            root_delay: NtpShort::from_seconds_up(self.model.root_delay),
            root_dispersion: NtpShort::from_seconds_up(self.model.root_dispersion),
            reference_time: NtpTimestamp::from_utc(received),
        };
        let mut bytes = vec![0; HEADER_LEN];
        let source = std::net::IpAddr::from([127, 0, 0, 1]);
        let flags = Flags::empty();
        let request = Request {
            octets: request,
            source,
            flags,
            previous_left: None,
            kiss: false,
            received,
            transmit: transmitted,
        };
        let answered = respond(&request, &view, &KeyTable::default(), &mut bytes);
        let is_answered = matches!(answered, Disposition::Reply(_)) && !is_lost && !detour.silent;
        is_answered.then_some(Reply { at: leaves + Span::from_seconds(back), bytes })
    }
}
