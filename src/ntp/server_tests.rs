use super::*;
use crate::ntp::keys::{Algorithm, Key};
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

/// A reply's room, with what nothing writes.
const BLANK: [u8; 128] = [0xee; 128];

fn keys() -> KeyTable {
    let key = |id, algorithm| Key::new(id, algorithm, b"0123456789abcdef").unwrap();
    let strangers = key(9, Algorithm::Sha1).only_for(vec!["192.0.2.0/24".parse().unwrap()]);
    KeyTable::new([
        key(1, Algorithm::Md5),
        key(2, Algorithm::Sha256),
        key(3, Algorithm::Aes128Cmac),
        key(4, Algorithm::Sha512),
        strangers,
    ])
}

fn request_of(octets: &[u8]) -> Request<'_> {
    Request {
        octets,
        source: IpAddr::from([127, 0, 0, 1]),
        flags: Flags::empty(),
        previous_left: None,
        kiss: false,
        received: Timestamp::from_parts(1_800_000_000, 5),
        transmit: Timestamp::from_parts(1_800_000_000, 25_000),
    }
}

fn ask(request: &[u8]) -> (Disposition, [u8; 128]) {
    let mut reply = BLANK;
    let disposition = respond(&request_of(request), &VIEW, &keys(), &mut reply);
    (disposition, reply)
}

/// A request signed by that key, the digest cut to so many octets.
fn signed(version: u8, key: u32, digest_len: usize) -> Vec<u8> {
    let mut packet = request(version, Mode::Client).to_vec();
    packet.resize(48 + 4 + 64, 0);
    let len = keys().get(key).unwrap().sign(&mut packet, 48, digest_len).unwrap();
    packet.truncate(len);
    packet
}

fn request(version: u8, mode: Mode) -> [u8; HEADER_LEN] {
    Header { mode, poll: 9, ..Header::request(version, NtpTimestamp(0xfeed_face_cafe_f00d)) }.to_octets()
}

#[test]
fn clients_of_all_versions_are_answered_in_kind() {
    for version in 1..=4 {
        let (disposition, reply) = ask(&request(version, Mode::Client));
        assert_eq!(disposition, Disposition::Reply(48));
        let reply = Header::parse(&Packet::new_checked(&reply[..48]).unwrap());
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
    use Disposition::Drop;
    for version in 2..=4 {
        assert_eq!(ask(&request(version, Mode::Reserved)).0, Drop(DropReason::NotARequest));
    }
    for (mode, expected) in [
        (Mode::Server, Drop(DropReason::NotARequest)),
        (Mode::SymmetricPassive, Drop(DropReason::NotSpoken)),
        (Mode::Broadcast, Drop(DropReason::NotSpoken)),
        (Mode::Control, Drop(DropReason::NotSpoken)),
        (Mode::Private, Drop(DropReason::NotSpoken)),
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
fn the_signed_are_answered_signed_by_the_same_key() {
    // Version 4 cuts digests to 20 octets; older ones have them whole, or as ntpd cuts them.
    for (version, key, digest_len) in
        [(4, 1, 16), (3, 1, 16), (4, 2, 20), (3, 2, 32), (3, 2, 20), (4, 3, 16), (3, 4, 64)]
    {
        let request = signed(version, key, digest_len);
        let (disposition, reply) = ask(&request);
        assert_eq!(disposition, Disposition::Reply(request.len()), "version {version}, key {key}");
        let (covered, mac) = reply[..request.len()].split_at(48);
        assert_eq!(mac[..4], key.to_be_bytes());
        assert!(keys().get(key).unwrap().verifies(covered, &mac[4..]));
    }
}

#[test]
fn a_wrong_mac_is_answered_by_a_crypto_nak() {
    let mut forged = signed(4, 3, 16);
    forged[40] ^= 1;
    let unknown = [&request(4, Mode::Client)[..], &[1; 20]].concat();
    let cut = signed(4, 3, 12);
    let not_for_us = signed(4, 9, 20);
    let nak = [&request(4, Mode::Client)[..], &[0; 4]].concat();
    for wrong in [forged, unknown, cut, not_for_us, nak] {
        let (disposition, reply) = ask(&wrong);
        assert_eq!(disposition, Disposition::Nak(52), "{wrong:?}");
        assert_eq!(reply[48..53], [0, 0, 0, 0, 0xee]);
    }
}

#[test]
fn who_is_restricted_gets_what_is_left() {
    let plain = request(4, Mode::Client);
    let old = request(3, Mode::Client);
    let good = signed(4, 3, 16);
    let mut forged = good.clone();
    forged[40] ^= 1;
    let ask = |octets, flags| {
        let mut reply = BLANK;
        let disposition = respond(&Request { flags, ..request_of(octets) }, &VIEW, &keys(), &mut reply);
        assert!(matches!(disposition, Disposition::Reply(_)) || reply == BLANK);
        disposition
    };
    for flags in [Flags::IGNORE, Flags::NOSERVE, Flags::DENY] {
        assert_eq!(ask(&plain, flags), Disposition::Drop(DropReason::Denied));
    }
    assert_eq!(ask(&old, Flags::VERSION), Disposition::Drop(DropReason::Denied));
    assert_eq!(ask(&plain, Flags::VERSION), Disposition::Reply(48));
    assert_eq!(ask(&plain, Flags::NOTRUST), Disposition::Drop(DropReason::NotSigned));
    assert_eq!(ask(&forged, Flags::NOTRUST), Disposition::Drop(DropReason::NotSigned));
    assert_eq!(ask(&good, Flags::NOTRUST), Disposition::Reply(68));
    let harmless = Flags::NOQUERY | Flags::NOMODIFY | Flags::NOPEER | Flags::NOMRULIST;
    assert_eq!(ask(&plain, harmless), Disposition::Reply(48));
}

#[test]
fn who_asks_too_often_is_told_without_a_time() {
    let mut forged = signed(4, 3, 16);
    forged[40] ^= 1;
    for (octets, len) in [(request(3, Mode::Client).to_vec(), Some(48)), (signed(4, 3, 16), Some(68)), (forged, None)] {
        let mut reply = BLANK;
        let asked = Request { kiss: true, ..request_of(&octets) };
        let disposition = respond(&asked, &VIEW, &keys(), &mut reply);
        let Some(len) = len else {
            assert_eq!((disposition, reply), (Disposition::Drop(DropReason::Limited), BLANK));
            continue;
        };
        assert_eq!(disposition, Disposition::Reply(len));
        let header = Header::parse(&Packet::new_checked(&reply[..len]).unwrap());
        let cookie = NtpTimestamp(0xfeed_face_cafe_f00d);
        assert_eq!((header.stratum, header.refid), (0, ReferenceId(*b"RATE")));
        assert_eq!([header.origin, header.receive, header.transmit], [cookie; 3]);
        assert!(len == 48 || keys().get(3).unwrap().verifies(&reply[..48], &reply[52..len]));
    }
}

#[test]
fn in_interleaved_mode_the_last_reply_is_told_of() {
    let (asked, theirs) = (NtpTimestamp(0x1111_2222_3333_4444), NtpTimestamp(0x5555_6666_7777_8888));
    let header = Header { origin: NtpTimestamp(9), receive: theirs, ..Header::request(4, asked) }.to_octets();
    let mut reply = BLANK;
    let left = NtpTimestamp(0x9999_aaaa_bbbb_cccc);
    for (previous_left, origin, transmit) in
        [(Some(left), theirs, left), (None, asked, NtpTimestamp::from_utc(request_of(&[]).transmit))]
    {
        let request = Request { previous_left, ..request_of(&header) };
        assert_eq!(respond(&request, &VIEW, &keys(), &mut reply), Disposition::Reply(48));
        let reply = Packet::new_checked(&reply[..48]).unwrap();
        assert_eq!((reply.origin(), reply.transmit()), (origin, transmit));
        assert_eq!(reply.receive(), NtpTimestamp::from_utc(request.received));
    }
}

#[test]
fn who_spreads_leap_seconds_does_not_announce_them() {
    for (leap, told) in [
        (LeapIndicator::Insert, LeapIndicator::None),
        (LeapIndicator::Delete, LeapIndicator::None),
        (LeapIndicator::Unsynchronised, LeapIndicator::Unsynchronised),
    ] {
        let smeared = View { leap, ..VIEW }.smeared(refclocks::Span::from_millis(-500));
        assert_eq!(smeared, View { leap: told, reference_time: NtpTimestamp(0x1234_5677_8000_0000), ..VIEW });
    }
}

#[test]
fn an_unknown_peer_is_answered_passively() {
    let (disposition, reply) = ask(&request(4, Mode::SymmetricActive));
    assert_eq!(disposition, Disposition::Reply(48));
    let header = Header::parse(&Packet::new_checked(&reply[..48]).unwrap());
    assert_eq!((header.mode, header.stratum), (Mode::SymmetricPassive, 1));
    assert_eq!(header.origin, NtpTimestamp(0xfeed_face_cafe_f00d));
}

#[test]
fn with_too_little_room_nothing_is_written() {
    let mut reply = [0xee; 60];
    let disposition = respond(&request_of(&signed(4, 3, 16)), &VIEW, &keys(), &mut reply);
    assert_eq!((disposition, reply), (Disposition::Drop(DropReason::Malformed), [0xee; 60]));
}

#[test]
fn unsynchronised_is_said_on_the_wire() {
    let view = View { leap: LeapIndicator::Unsynchronised, stratum: 16, refid: ReferenceId(*b"INIT"), ..VIEW };
    let mut reply = [0; 64];
    let request = request(4, Mode::Client);
    assert_eq!(respond(&request_of(&request), &view, &keys(), &mut reply), Disposition::Reply(48));
    let reply = Packet::new_checked(&reply[..48]).unwrap();
    assert_eq!(reply.first_octet().leap(), LeapIndicator::Unsynchronised);
    assert_eq!((reply.stratum(), reply.refid()), (0, ReferenceId(*b"INIT")));
}

proptest! {
    #[test]
    fn never_amplifies_and_never_answers_a_reply(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (disposition, reply) = ask(&bytes);
        match disposition {
            Disposition::Reply(len) | Disposition::Nak(len) => {
                prop_assert!(len <= bytes.len() && len >= HEADER_LEN);
                // Its own replies are not requests: two servers can never keep each other busy.
                let (again, _) = ask(&reply[..len]);
                let expected = if reply[0] & 7 == 4 {
                    Disposition::Drop(DropReason::NotARequest)
                } else {
                    Disposition::Drop(DropReason::NotSpoken)
                };
                prop_assert_eq!(again, expected);
            }
            _ => prop_assert_eq!(reply, BLANK),
        }
    }
}
