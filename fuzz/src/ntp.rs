//! Datagrams on the NTP port.

use refclockd::ntp::packet::{HEADER_LEN, Header, Mode, NtpShort, Packet};
use refclockd::ntp::server::{Disposition, View, respond};
use refclocks::time::{NtpTimestamp, Span, Timestamp};
use refclocks::{LeapIndicator, ReferenceId};

use crate::bytes::Tail;

/// Reading: what is read writes back to the same bytes, and the tail is split without loss.
pub fn ntp_packet(data: &[u8]) {
    refclockd::ntp::packet::fuzz(data);
    let Ok(packet) = Packet::new_checked(data) else {
        assert!(data.len() < HEADER_LEN);
        return;
    };
    let header = Header::parse(&packet);
    let octets = header.to_octets();
    assert!(data.starts_with(&octets), "parse and emit are each other's inverse");
    let again = Packet::new_checked(&octets).map(|p| Header::parse(&p));
    assert_eq!(again.ok(), Some(header));
    assert_eq!(packet.tail_octets().len() + HEADER_LEN, data.len());
    if let Ok(tail) = packet.tail() {
        let mut octets = Vec::new();
        for field in tail.fields() {
            let length = field.value.len() + 4;
            assert!(length >= 16 && length.is_multiple_of(4));
            octets.extend(field.kind.to_be_bytes());
            octets.extend((length as u16).to_be_bytes());
            octets.extend(field.value);
        }
        assert!(header.version == 4 || octets.is_empty() || header.version > 4, "extension fields came with version 4");
        octets.extend(tail.mac());
        assert_eq!(octets, packet.tail_octets(), "fields and MAC are all there is");
    }
}

/// Answering. The last two bytes choose what the server thinks of its clock, and its buffer.
pub fn ntp_respond(data: &[u8]) {
    let mut options = Tail(data);
    let (choice, room) = (options.byte(), options.byte());
    let request = options.0;
    let unsynchronised = choice & 1 != 0;
    let view = View {
        leap: if unsynchronised { LeapIndicator::Unsynchronised } else { LeapIndicator::None },
        stratum: if unsynchronised { 16 } else { 1 + choice % 15 },
        refid: ReferenceId(*b"PPS\0"),
        precision: -22,
        root_delay: NtpShort(0),
        root_dispersion: NtpShort(7),
        reference_time: NtpTimestamp(1 << 40),
    };
    let received = Timestamp::from_parts(1_767_323_045, 123_456);
    let transmit = received + Span::from_nanos(7000);
    // Usually there is room for every reply.
    let mut reply = vec![0xaa; if choice & 2 != 0 { usize::from(room) } else { 1500 }];
    match respond(request, received, transmit, &view, &mut reply) {
        Disposition::Reply(length) => {
            assert!(length <= request.len(), "no reply is longer than its request");
            let (reply, rest) = reply.split_at(length);
            assert!(rest.iter().all(|b| *b == 0xaa), "nothing is written beyond the reply");
            let (Ok(asked), Ok(packet)) = (Packet::new_checked(request), Packet::new_checked(reply)) else {
                unreachable!("both have a header")
            };
            let header = Header::parse(&packet);
            let version = asked.first_octet().version();
            assert!((1..=4).contains(&version) && header.version == version);
            assert!(matches!(asked.first_octet().mode(), Mode::Client | Mode::Reserved));
            assert_eq!(header.mode, Mode::Server);
            assert_eq!(header.origin, asked.transmit());
            assert_eq!(
                (header.receive, header.transmit),
                (NtpTimestamp::from_utc(received), NtpTimestamp::from_utc(transmit))
            );
            assert_eq!(header.stratum, if unsynchronised { 0 } else { view.stratum });
            assert_eq!(header.leap, view.leap);
            // Two servers must not be made to talk to each other for ever.
            let mut loops = vec![0; 1500];
            let again = respond(reply, received, transmit, &view, &mut loops);
            assert!(matches!(again, Disposition::Drop(_)), "a reply was answered: {again:?}");
        }
        Disposition::Pass(_) | Disposition::Drop(_) => {
            assert!(reply.iter().all(|b| *b == 0xaa), "no answer, but something was written");
        }
    }
}
