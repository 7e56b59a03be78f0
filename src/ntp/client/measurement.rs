//! What one exchange with a server says.

use refclocks::time::{NtpTimestamp, Raw, Span, Timestamp, Utc};
use refclocks::{LeapIndicator, ReferenceId};
use serde::{Deserialize, Serialize};

use super::rejection::Rejected;
use super::tally::Tally;
use crate::ntp::packet::Header;
use crate::ntp::stamp::{Ends, Stamp, Stamps};

/// Server timestamps carry no era. They are taken for instants within 136 years after this one,
/// 2025-01-01.
const ERA_FLOOR: Timestamp<Utc> = Timestamp::from_parts(1_735_689_600, 0);

/// Half an era after the floor: what is nearest to it lies within that era.
const ERA_PIVOT: Timestamp<Utc> = Timestamp::from_parts(ERA_FLOOR.whole_seconds() + (1 << 31), 0);

/// No server's stamps are believed to be coarser than this, whatever it says: log2 of 1 ms, s.
const COARSEST_PRECISION: i8 = -10;

/// A server writes when its reply leaves before it does. It can be so much too late, s.
const PREDICTION: f64 = 50e-6;

/// How much the rates of its clock and of our raw counter may differ.
const RATES: f64 = 1e-3;

/// What one exchange with a server says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    /// The middle between sending and receiving, by our raw clock.
    pub at: Timestamp<Raw>,
    /// The server's time in the middle between its receiving and sending: what our clock should have
    /// read at `at`, if both ways took equally long.
    pub reference: Timestamp<Utc>,
    /// Round trip without the server's share. The reference is wrong by half of it at most.
    pub delay: Span,
    /// The server's round trip to its primary reference, s.
    pub root_delay: f64,
    /// The server's dispersion to its primary reference, s.
    pub root_dispersion: f64,
    /// 1 to 15.
    pub stratum: u8,
    /// Whose time the server has.
    pub refid: ReferenceId,
    /// What it says of a coming leap second.
    pub leap: LeapIndicator,
    /// log2 of its clock's precision, s.
    pub precision: i8,
    /// Who stamped our part of it.
    pub stamps: Stamps,
    /// By how much those stamps may be off, s: the reference, too, and the delay does not tell.
    pub stamp_error: f64,
}

impl Measurement {
    /// The furthest that the reference can be from true time, if the server is honest: half of all
    /// delay, and all dispersion, s (RFC 5905 section 11.2, root distance).
    pub fn root_distance(&self) -> f64 {
        (self.delay.seconds() + self.root_delay) / 2.0 + self.root_dispersion + self.stamp_error
    }
}

/// How well a stamp of the kernel's clock is placed among readings of the raw one, s.
const STAMP_READING: f64 = 5e-6;

/// When a request left (T1): as the kernel stamped it, if it did and that can be right, or else as we handed it
/// over. A stamp that the kernel took of something else, or before a step of its clock, is told by its place: a
/// request leaves after we hand it over and before its reply comes. The stamp comes by another clock, whose rate may
/// differ by 1000 ppm.
pub(super) fn departure(
    departed: Option<Stamp>,
    handed_over: Timestamp<Raw>,
    received: Timestamp<Raw>,
    tally: &mut Tally,
) -> Stamp {
    let Some(departed) = departed else { return Stamp::of_our_own(handed_over) };
    let tolerated = Span::from_seconds(STAMP_READING + (received - handed_over).seconds().max(0.0) * 1e-3);
    if departed.host >= handed_over - tolerated && departed.host < received {
        return departed;
    }
    tally.astray += 1;
    Stamp::of_our_own(handed_over)
}

/// The rate by which our raw counter is compared with a server's clock over the time that the server had our packet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// How much slower than true time the counter runs, s/s.
    pub correction: f64,
    /// One standard deviation of it, s/s.
    pub deviation: f64,
}

/// The four timestamps, which do not contradict each other.
struct Exchange {
    receive: Timestamp<Utc>,
    transmit: Timestamp<Utc>,
    there_and_back: Span,
    served_for: Span,
    /// 0 or more.
    delay: Span,
}

impl Exchange {
    fn new(reply: &Header, sent: Timestamp<Raw>, received: Timestamp<Raw>, rate: f64) -> Result<Self, Rejected> {
        if reply.receive == NtpTimestamp::UNKNOWN || reply.transmit == NtpTimestamp::UNKNOWN {
            return Err(Rejected::ImpossibleTimes);
        }
        let (receive, transmit) = (reply.receive.to_utc(ERA_PIVOT), reply.transmit.to_utc(ERA_PIVOT));
        let waited = received - sent;
        let there_and_back = waited + Span::from_seconds(waited.seconds() * rate);
        let served_for = transmit - receive;
        // Servers fill what is finer than their precision with random bits: two stamps of nearly the same
        // instant can come out in the wrong order.
        let quantum = libm::exp2(f64::from(reply.precision.clamp(-32, COARSEST_PRECISION)));
        if served_for < -Span::from_seconds(2.0 * quantum) {
            return Err(Rejected::ImpossibleTimes);
        }
        // Nothing was longer under way than we waited for it. On a short wire the server's clock and ours,
        // of different rates and quanta, can make the delay come out a little below nothing.
        let delay = (there_and_back - served_for).min(there_and_back);
        let tolerated_s = 2.0 * quantum + PREDICTION + there_and_back.seconds() * RATES;
        if there_and_back <= Span::ZERO || delay.seconds() < -tolerated_s {
            return Err(Rejected::TooShort { waited_s: there_and_back.seconds(), served_s: served_for.seconds() });
        }
        knows_its_reference(reply, reply.transmit)?;
        Ok(Self { receive, transmit, there_and_back, served_for, delay: delay.max(Span::ZERO) })
    }
}

/// A reference time after the reply was made, at `made`, is a server that does not know what it says. A second is left to
/// servers that write the two from different clocks.
pub(super) fn knows_its_reference(reply: &Header, made: NtpTimestamp) -> Result<(), Rejected> {
    let latest = made.to_utc(ERA_PIVOT) + Span::from_whole_seconds(1);
    let knows = reply.reference_time == NtpTimestamp::UNKNOWN || reply.reference_time.to_utc(ERA_PIVOT) <= latest;
    if knows { Ok(()) } else { Err(Rejected::ImpossibleTimes) }
}

impl Measurement {
    /// What a header says of its sender, beside a comparison of clocks.
    pub(super) fn new(at: Timestamp<Raw>, reference: Timestamp<Utc>, delay: Span, says: &Header) -> Self {
        Self {
            at,
            reference,
            delay,
            root_delay: says.root_delay.seconds(),
            root_dispersion: says.root_dispersion.seconds(),
            stratum: says.stratum,
            refid: says.refid,
            leap: says.leap,
            precision: says.precision,
            stamps: Stamps::Kernel,
            stamp_error: 0.0,
        }
    }
}

impl Measurement {
    fn stamped(self, ends: Ends) -> Self {
        Self { stamps: ends.stamps, stamp_error: ends.error, ..self }
    }
}

fn half(span: Span) -> Span {
    Span::from_seconds(span.seconds() / 2.0)
}

/// The four timestamps as a measurement.
///
/// # Errors
///
/// [`Rejected::ImpossibleTimes`] and [`Rejected::TooShort`], if they contradict each other.
pub(super) fn measure(reply: &Header, ends: Ends) -> Result<Measurement, Rejected> {
    let exchange = Exchange::new(reply, ends.sent, ends.received, 0.0)?;
    let (at, reference) = (ends.sent + half(exchange.there_and_back), exchange.receive + half(exchange.served_for));
    Ok(Measurement::new(at, reference, exchange.delay, reply).stamped(ends))
}

/// The same where the packet lay at the other end until its next poll, perhaps for minutes. The measurement is of the
/// moment when theirs came; what the rate is uncertain by over that time counts as delay.
///
/// # Errors
///
/// As of [`measure`].
pub(super) fn measure_slowly(packet: &Header, ends: Ends, rate: Rate) -> Result<Measurement, Rejected> {
    let exchange = Exchange::new(packet, ends.sent, ends.received, rate.correction)?;
    let doubt = Span::from_seconds(exchange.served_for.seconds().max(0.0) * 2.0 * rate.deviation);
    let reference = exchange.transmit + half(exchange.delay);
    Ok(Measurement::new(ends.received, reference, exchange.delay + doubt, packet).stamped(ends))
}

/// What a timestamp on the wire names, in the era that we live in.
pub(super) fn utc_of(stamp: NtpTimestamp) -> Timestamp<Utc> {
    stamp.to_utc(ERA_PIVOT)
}
