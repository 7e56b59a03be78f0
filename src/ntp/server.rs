//! The answer to one request: pure; no allocation, lock or log.

use std::net::IpAddr;

use refclocks::time::{NtpTimestamp, Raw, Span, Timestamp, Utc};
use refclocks::{LeapIndicator, ReferenceId};
use serde::{Deserialize, Serialize};

use super::access::Flags;
use super::keys::{KEY_ID_LEN, KeyTable, Verdict};
use super::packet::{FirstOctet, HEADER_LEN, Header, Mode, NtpShort, Packet, STRATUM_UNSYNCHRONISED};
use crate::core::snapshot::Snapshot;

/// What replies say of our clock: the same for all requests of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Leap indicator.
    pub leap: LeapIndicator,
    /// Stratum 1 to 15, or 16 while unsynchronised.
    pub stratum: u8,
    /// Whose time it is.
    pub refid: ReferenceId,
    /// log2 of the clock's precision, s.
    pub precision: i8,
    /// Round trip to the primary reference, rounded up.
    pub root_delay: NtpShort,
    /// Dispersion to the primary reference, rounded up.
    pub root_dispersion: NtpShort,
    /// When the clock was last set or corrected.
    pub reference_time: NtpTimestamp,
}

impl View {
    /// What a snapshot says at a raw instant (of the snapshot's own raw scale). Past its validity,
    /// that nobody vouches for the clock.
    pub fn at(snapshot: &Snapshot, raw: Timestamp<Raw>) -> Self {
        let system = snapshot.system_at(raw);
        let view = Self {
            // The leap map is a function of time, `system.leap` a value of some moments ago: only
            // the map knows that the leap second is over now.
            leap: snapshot.utc.indicator(snapshot.clock.at(raw)),
            stratum: system.stratum,
            refid: system.refid,
            precision: system.precision,
            root_delay: NtpShort::from_seconds_up(system.root_delay),
            root_dispersion: NtpShort::from_seconds_up(snapshot.root_dispersion_at(raw)),
            reference_time: system.reference_time.map_or(NtpTimestamp::UNKNOWN, NtpTimestamp::from_utc),
        };
        let unsynchronised = system.leap == LeapIndicator::Unsynchronised
            || system.stratum == 0
            || system.stratum >= STRATUM_UNSYNCHRONISED;
        if unsynchronised { view.unsynchronised() } else { view }
    }

    /// The same of a clock whose leap seconds are spread: they are never announced, and it differs from UTC
    /// by `correction`.
    pub fn smeared(self, correction: Span) -> Self {
        let announced = matches!(self.leap, LeapIndicator::Insert | LeapIndicator::Delete);
        // An NTP timestamp counts 2^-32 s.
        let moved = (correction.seconds() * 4_294_967_296.0) as i64;
        let reference_time = match self.reference_time {
            NtpTimestamp::UNKNOWN => NtpTimestamp::UNKNOWN,
            NtpTimestamp(at) => NtpTimestamp(at.wrapping_add_signed(moved)),
        };
        Self { leap: if announced { LeapIndicator::None } else { self.leap }, reference_time, ..self }
    }

    /// The same, but nobody vouches for it.
    pub fn unsynchronised(self) -> Self {
        Self {
            leap: LeapIndicator::Unsynchronised,
            stratum: STRATUM_UNSYNCHRONISED,
            refid: ReferenceId(*b"INIT"),
            ..self
        }
    }
}

/// A datagram, and when.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The datagram.
    pub octets: &'a [u8],
    /// Whose it is.
    pub source: IpAddr,
    /// What is taken away from them.
    pub flags: Flags,
    /// When the reply left that it names (interleaved mode, RFC 9769), if it names one we know.
    pub previous_left: Option<NtpTimestamp>,
    /// They ask too often, and are to be told so.
    pub kiss: bool,
    /// What the served clock read when it came.
    pub received: Timestamp<Utc>,
    /// What it will read when the reply leaves.
    pub transmit: Timestamp<Utc>,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// So many octets of reply were written.
    Reply(usize),
    /// So many octets of a reply that says: your key is not one of ours, or your digest is wrong.
    Nak(usize),
    /// No answer.
    Drop(DropReason),
}

/// Why a datagram gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DropReason {
    /// The access list says no.
    Denied,
    /// Not an NTP packet: too short, cut off, or wrongly framed after the header.
    Malformed,
    /// A version before 1 or after 4.
    Version,
    /// A reply, which must never be answered, or a mode without a meaning.
    NotARequest,
    /// From an address or port that no reply can go to.
    BadSource,
    /// Not signed, or wrongly, and only the signed are answered there.
    NotSigned,
    /// Its client asks too often.
    Limited,
    /// Lost on purpose (`flake`).
    Flaked,
    /// Of a mode that is not answered here, and that nobody wants: symmetric passive, broadcast, control or
    /// private.
    NotSpoken,
}

impl DropReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Denied,
        Self::Malformed,
        Self::Version,
        Self::NotARequest,
        Self::BadSource,
        Self::NotSigned,
        Self::Limited,
        Self::Flaked,
        Self::NotSpoken,
    ];
}

/// Answers one request (RFC 5905 section 9.2, the fast path of a server without state).
///
/// The reply is of the request's version: a header, and a MAC by the request's key, of the same length,
/// if the request has one. If that is wrong, the reply ends in a crypto-NAK and proves nothing, as
/// RFC 5905 has it. It is never longer than the request. Extension fields are tolerated and not
/// answered; this is where NTS will extend the reply.
pub fn respond(request: &Request<'_>, view: &View, keys: &KeyTable, reply: &mut [u8]) -> Disposition {
    let malformed = Disposition::Drop(DropReason::Malformed);
    let Some(first) = request.octets.first().copied().map(FirstOctet) else { return malformed };
    let version = first.version();
    if !(1..=4).contains(&version) {
        return Disposition::Drop(DropReason::Version);
    }
    let mode = match first.mode() {
        Mode::Client => Mode::Server,
        // Version 1 had no mode field (RFC 1059 appendix B): its clients leave it zero.
        Mode::Reserved if version == 1 => Mode::Server,
        // Of somebody who has us for a peer and whom we do not know: told our time, and not believed.
        Mode::SymmetricActive => Mode::SymmetricPassive,
        Mode::Reserved | Mode::Server => return Disposition::Drop(DropReason::NotARequest),
        Mode::SymmetricPassive | Mode::Broadcast | Mode::Control | Mode::Private => {
            return Disposition::Drop(DropReason::NotSpoken);
        }
    };
    let Some(terms) = request.flags.terms(version) else { return Disposition::Drop(DropReason::Denied) };
    let Ok(packet) = Packet::new_checked(request.octets) else { return malformed };
    let Ok(tail) = packet.tail() else { return malformed };
    let header = Header {
        leap: view.leap,
        version,
        mode,
        stratum: if view.stratum >= STRATUM_UNSYNCHRONISED { 0 } else { view.stratum },
        poll: packet.poll(),
        precision: view.precision,
        root_delay: view.root_delay,
        root_dispersion: view.root_dispersion,
        refid: view.refid,
        reference_time: view.reference_time,
        // Which of its two stamps is repeated tells the client what the transmit timestamp is.
        origin: request.previous_left.map_or(packet.transmit(), |_| packet.receive()),
        receive: NtpTimestamp::from_utc(request.received),
        transmit: request.previous_left.unwrap_or(NtpTimestamp::from_utc(request.transmit)),
    };
    let digest_len = tail.mac().len().saturating_sub(KEY_ID_LEN);
    let covered = request.octets.get(..request.octets.len() - tail.mac().len()).unwrap_or_default();
    let verdict = keys.judge(tail.authenticator(), covered, request.source);
    if terms.signed_only && !matches!(verdict, Verdict::Signed(_)) {
        return Disposition::Drop(DropReason::NotSigned);
    }
    let header = match (request.kiss, verdict) {
        (false, _) => header,
        (true, Verdict::Wrong) => return Disposition::Drop(DropReason::Limited),
        (true, _) => kiss_of_death(&header, packet.transmit(), view.precision),
    };
    let needed = HEADER_LEN
        + match verdict {
            Verdict::Unsigned => 0,
            Verdict::Signed(_) => KEY_ID_LEN + digest_len,
            Verdict::Wrong => KEY_ID_LEN,
        };
    // With too little room nothing is written.
    let Some(reply) = reply.get_mut(..needed) else { return malformed };
    let Some((head, rest)) = reply.split_first_chunk_mut::<HEADER_LEN>() else { return malformed };
    header.emit(head);
    match verdict {
        Verdict::Unsigned => Disposition::Reply(HEADER_LEN),
        Verdict::Wrong => {
            rest.fill(0);
            Disposition::Nak(needed)
        }
        Verdict::Signed(key) => match key.sign(reply, HEADER_LEN, digest_len) {
            Some(len) => Disposition::Reply(len),
            None => malformed,
        },
    }
}

/// Tells the client to ask less (RFC 5905 section 7.4). No time is in it: the client's own stamp stands
/// for all of ours.
fn kiss_of_death(reply: &Header, asked: NtpTimestamp, precision: i8) -> Header {
    Header {
        leap: LeapIndicator::Unsynchronised,
        stratum: 0,
        poll: reply.poll,
        precision,
        root_delay: NtpShort(0),
        root_dispersion: NtpShort(0),
        refid: ReferenceId(*b"RATE"),
        reference_time: NtpTimestamp::UNKNOWN,
        origin: asked,
        receive: asked,
        transmit: asked,
        ..*reply
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
