//! The answer to one request: pure; no allocation, lock or log.

use refclocks::time::{NtpTimestamp, Raw, Timestamp, Utc};
use refclocks::{LeapIndicator, ReferenceId};

use super::packet::{FirstOctet, HEADER_LEN, Header, Mode, NtpShort, Packet, STRATUM_UNSYNCHRONISED};
use crate::core::snapshot::Snapshot;

/// What replies say of our clock: the same for all requests of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// So many octets of reply were written.
    Reply(usize),
    /// Well-formed, and for the main thread: symmetric, broadcast, control and private modes.
    Pass(Mode),
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
}

impl DropReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Denied, Self::Malformed, Self::Version, Self::NotARequest, Self::BadSource];
}

/// Answers one request (RFC 5905 section 9.2, the fast path of a server without state).
///
/// `received` and `transmit` are the served clock's readings when the request came and when the
/// reply leaves. The reply is a bare header of the request's version, never longer than the request.
/// A MAC or extension fields in the request are tolerated and not answered: nothing here holds keys
/// yet. This is where NTS and symmetric keys will extend the reply.
pub fn respond(
    request: &[u8],
    received: Timestamp<Utc>,
    transmit: Timestamp<Utc>,
    view: &View,
    reply: &mut [u8],
) -> Disposition {
    let first = match request.first() {
        Some(octet) => FirstOctet(*octet),
        None => return Disposition::Drop(DropReason::Malformed),
    };
    let version = first.version();
    if !(1..=4).contains(&version) {
        return Disposition::Drop(DropReason::Version);
    }
    match first.mode() {
        Mode::Client => {}
        // Version 1 had no mode field (RFC 1059 appendix B): its clients leave it zero.
        Mode::Reserved if version == 1 => {}
        Mode::Reserved | Mode::Server => return Disposition::Drop(DropReason::NotARequest),
        mode @ (Mode::SymmetricActive | Mode::SymmetricPassive | Mode::Broadcast | Mode::Control | Mode::Private) => {
            return Disposition::Pass(mode);
        }
    }
    let Ok(packet) = Packet::new_checked(request) else {
        return Disposition::Drop(DropReason::Malformed);
    };
    if packet.tail().is_err() {
        return Disposition::Drop(DropReason::Malformed);
    }
    let Some(reply) = reply.first_chunk_mut::<HEADER_LEN>() else {
        return Disposition::Drop(DropReason::Malformed);
    };
    let header = Header {
        leap: view.leap,
        version,
        mode: Mode::Server,
        stratum: if view.stratum >= STRATUM_UNSYNCHRONISED { 0 } else { view.stratum },
        poll: packet.poll(),
        precision: view.precision,
        root_delay: view.root_delay,
        root_dispersion: view.root_dispersion,
        refid: view.refid,
        reference_time: view.reference_time,
        origin: packet.transmit(),
        receive: NtpTimestamp::from_utc(received),
        transmit: NtpTimestamp::from_utc(transmit),
    };
    header.emit(reply);
    Disposition::Reply(HEADER_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VIEW: View = View {
        leap: LeapIndicator::None,
        stratum: 1,
        refid: ReferenceId(*b"PPS\0"),
        precision: -22,
        root_delay: NtpShort(0),
        root_dispersion: NtpShort(3),
        reference_time: NtpTimestamp(0x1234_5678_0000_0000),
    };

    fn ask(request: &[u8]) -> (Disposition, [u8; HEADER_LEN]) {
        let mut reply = [0xee; HEADER_LEN];
        let at = Timestamp::from_parts(1_800_000_000, 5);
        let disposition = respond(request, at, Timestamp::from_parts(1_800_000_000, 25_000), &VIEW, &mut reply);
        (disposition, reply)
    }

    fn request(version: u8, mode: Mode) -> [u8; HEADER_LEN] {
        Header { mode, poll: 9, ..Header::request(version, NtpTimestamp(0xfeed_face_cafe_f00d)) }.to_octets()
    }

    #[test]
    fn clients_of_all_versions_are_answered_in_kind() {
        for version in 1..=4 {
            let (disposition, reply) = ask(&request(version, Mode::Client));
            assert_eq!(disposition, Disposition::Reply(48));
            let reply = Header::parse(&Packet::new_checked(&reply).unwrap());
            assert_eq!(
                reply,
                Header {
                    leap: LeapIndicator::None,
                    version,
                    mode: Mode::Server,
                    stratum: 1,
                    poll: 9,
                    precision: -22,
                    root_delay: NtpShort(0),
                    root_dispersion: NtpShort(3),
                    refid: ReferenceId(*b"PPS\0"),
                    reference_time: VIEW.reference_time,
                    origin: NtpTimestamp(0xfeed_face_cafe_f00d),
                    receive: NtpTimestamp::from_utc(Timestamp::from_parts(1_800_000_000, 5)),
                    transmit: NtpTimestamp::from_utc(Timestamp::from_parts(1_800_000_000, 25_000)),
                }
            );
        }
        assert_eq!(ask(&request(1, Mode::Reserved)).0, Disposition::Reply(48));
    }

    #[test]
    fn what_is_no_request_gets_no_answer() {
        use Disposition::{Drop, Pass};
        for version in 2..=4 {
            assert_eq!(ask(&request(version, Mode::Reserved)).0, Drop(DropReason::NotARequest));
        }
        for (mode, expected) in [
            (Mode::Server, Drop(DropReason::NotARequest)),
            (Mode::SymmetricActive, Pass(Mode::SymmetricActive)),
            (Mode::Broadcast, Pass(Mode::Broadcast)),
            (Mode::Control, Pass(Mode::Control)),
            (Mode::Private, Pass(Mode::Private)),
        ] {
            assert_eq!(ask(&request(4, mode)).0, expected);
        }
        for version in [0, 5, 6, 7] {
            assert_eq!(ask(&request(version, Mode::Client)).0, Drop(DropReason::Version));
        }
        assert_eq!(ask(&[]).0, Drop(DropReason::Malformed));
        assert_eq!(ask(&request(4, Mode::Client)[..47]).0, Drop(DropReason::Malformed));
        let odd = [&request(4, Mode::Client)[..], &[0; 3]].concat();
        assert_eq!(ask(&odd).0, Drop(DropReason::Malformed));
    }

    #[test]
    fn a_mac_is_tolerated() {
        let keyed = [&request(4, Mode::Client)[..], &[1; 20]].concat();
        assert_eq!(ask(&keyed).0, Disposition::Reply(48));
    }

    #[test]
    fn unsynchronised_is_said_on_the_wire() {
        let view = View { leap: LeapIndicator::Unsynchronised, stratum: 16, refid: ReferenceId(*b"INIT"), ..VIEW };
        let mut reply = [0; 64];
        let at = Timestamp::EPOCH;
        assert_eq!(respond(&request(4, Mode::Client), at, at, &view, &mut reply), Disposition::Reply(48));
        let reply = Packet::new_checked(&reply[..48]).unwrap();
        assert_eq!(reply.first_octet().leap(), LeapIndicator::Unsynchronised);
        assert_eq!((reply.stratum(), reply.refid()), (0, ReferenceId(*b"INIT")));
    }

    proptest! {
        #[test]
        fn never_amplifies_and_never_answers_a_reply(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (disposition, reply) = ask(&bytes);
            match disposition {
                Disposition::Reply(len) => {
                    prop_assert!(len <= bytes.len() && len == HEADER_LEN);
                    // Its own replies are not requests: two servers can never keep each other busy.
                    let (again, _) = ask(&reply);
                    prop_assert_eq!(again, Disposition::Drop(DropReason::NotARequest));
                }
                _ => prop_assert_eq!(reply, [0xee; HEADER_LEN]),
            }
        }
    }
}
