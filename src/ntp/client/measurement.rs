//! What one exchange with a server says.

use refclocks::time::{NtpTimestamp, Raw, Span, Timestamp, Utc};
use refclocks::{LeapIndicator, ReferenceId};

use super::rejection::Rejected;
use crate::ntp::packet::Header;

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
}

impl Measurement {
    /// The furthest that the reference can be from true time, if the server is honest: half of all
    /// delay, and all dispersion, s (RFC 5905 section 11.2, root distance).
    pub fn root_distance(&self) -> f64 {
        (self.delay.seconds() + self.root_delay) / 2.0 + self.root_dispersion
    }
}

/// The four timestamps as a measurement.
///
/// # Errors
///
/// [`Rejected::ImpossibleTimes`] and [`Rejected::TooShort`], if they contradict each other.
pub(super) fn measure(reply: &Header, sent: Timestamp<Raw>, received: Timestamp<Raw>) -> Result<Measurement, Rejected> {
    if reply.receive == NtpTimestamp::UNKNOWN || reply.transmit == NtpTimestamp::UNKNOWN {
        return Err(Rejected::ImpossibleTimes);
    }
    let (t2, t3) = (reply.receive.to_utc(ERA_PIVOT), reply.transmit.to_utc(ERA_PIVOT));
    let there_and_back = received - sent;
    let served_for = t3 - t2;
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
    // A reference time after the reply was made is a server that does not know what it says. A second
    // is left to servers that write the two from different clocks.
    if reply.reference_time != NtpTimestamp::UNKNOWN
        && reply.reference_time.to_utc(ERA_PIVOT) > t3 + Span::from_whole_seconds(1)
    {
        return Err(Rejected::ImpossibleTimes);
    }
    let half = |span: Span| Span::from_seconds(span.seconds() / 2.0);
    Ok(Measurement {
        at: sent + half(there_and_back),
        reference: t2 + half(served_for),
        delay: delay.max(Span::ZERO),
        root_delay: reply.root_delay.seconds(),
        root_dispersion: reply.root_dispersion.seconds(),
        stratum: reply.stratum,
        refid: reply.refid,
        leap: reply.leap,
        precision: reply.precision,
    })
}
