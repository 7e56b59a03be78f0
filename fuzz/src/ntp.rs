//! Datagrams on the NTP port.

use std::net::{IpAddr, SocketAddr};

use refclockd::ntp::access::allow::{Line, Subnet, Verdict as Answered};
use refclockd::ntp::access::policy::Known;
use refclockd::ntp::access::restrict::Restriction;
use refclockd::ntp::access::{Flags, Policy};
use refclockd::ntp::keys::file::{Dialect, parse};
use refclockd::ntp::keys::{Algorithm, Key, KeyTable, Verdict};
use refclockd::ntp::packet::{HEADER_LEN, Header, Mode, NtpShort, Packet};
use refclockd::ntp::server::{Disposition, Request, View, respond};
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
    let keys = keys();
    let kiss = choice & 64 != 0;
    let asked = |octets| Request {
        octets,
        source: [192, 0, 2, 1].into(),
        flags: Flags::empty(),
        previous_left: None,
        kiss,
        received,
        transmit,
    };
    // Nobody guesses a digest: some requests are signed for the fuzzer.
    let mut signed = request.to_vec();
    if choice & 4 != 0
        && let Some(key) = keys.iter().nth(usize::from(choice >> 3) % keys.len())
    {
        signed.truncate(HEADER_LEN);
        let len = signed.len();
        signed.resize(len + 4 + 64, 0);
        let version = signed.first().map_or(4, |octet| octet >> 3 & 7);
        let end = key.sign(&mut signed, len, key.digest_len(version));
        signed.truncate(end.unwrap_or(len));
    }
    let request = &signed[..];
    let disposition = respond(&asked(request), &view, &keys, &mut reply);
    match disposition {
        Disposition::Reply(length) | Disposition::Nak(length) => {
            assert!(length <= request.len(), "no reply is longer than its request");
            let (reply, rest) = reply.split_at(length);
            assert!(rest.iter().all(|b| *b == 0xaa), "nothing is written beyond the reply");
            let (Ok(asked_packet), Ok(packet)) = (Packet::new_checked(request), Packet::new_checked(reply)) else {
                unreachable!("both have a header")
            };
            let header = Header::parse(&packet);
            let (Ok(tail), Ok(asked_tail)) = (packet.tail(), asked_packet.tail()) else {
                unreachable!("both are framed")
            };
            let version = asked_packet.first_octet().version();
            assert!((1..=4).contains(&version) && header.version == version);
            let mode = asked_packet.first_octet().mode();
            assert!(matches!(mode, Mode::Client | Mode::Reserved | Mode::SymmetricActive));
            let passive = mode == Mode::SymmetricActive;
            assert_eq!(header.mode, if passive { Mode::SymmetricPassive } else { Mode::Server });
            assert_eq!(header.origin, asked_packet.transmit());
            if kiss {
                assert_eq!((header.stratum, header.refid), (0, ReferenceId(*b"RATE")));
                assert_eq!((header.receive, header.transmit), (header.origin, header.origin), "no time is told");
                return;
            }
            assert_eq!(
                (header.receive, header.transmit),
                (NtpTimestamp::from_utc(received), NtpTimestamp::from_utc(transmit))
            );
            assert_eq!(header.stratum, if unsynchronised { 0 } else { view.stratum });
            assert_eq!(header.leap, view.leap);
            match disposition {
                Disposition::Nak(_) => assert_eq!(packet.tail_octets(), [0; 4], "it proves nothing"),
                _ if packet.tail_octets().is_empty() => assert!(asked_tail.mac().is_empty(), "a MAC has an answer"),
                _ => {
                    let verdict = keys.judge(tail.authenticator(), &reply[..HEADER_LEN], [192, 0, 2, 1].into());
                    assert!(matches!(verdict, Verdict::Signed(_)), "{verdict:?}");
                    assert_eq!(tail.mac().get(..4), asked_tail.mac().get(..4), "by the same key");
                }
            }
            // Two servers must not be made to talk to each other for ever.
            let mut loops = vec![0; 1500];
            let again = respond(&asked(reply), &view, &keys, &mut loops);
            assert!(matches!(again, Disposition::Drop(_)), "a reply was answered: {again:?}");
        }
        Disposition::Drop(_) => {
            assert!(reply.iter().all(|b| *b == 0xaa), "no answer, but something was written");
        }
    }
}

/// One key of each algorithm.
fn keys() -> KeyTable {
    let secret = [7; 32];
    KeyTable::new(
        Algorithm::ALL
            .into_iter()
            .zip(1..)
            .filter_map(|(algorithm, id)| Key::new(id, algorithm, &secret[..algorithm.key_len().unwrap_or(12)]).ok()),
    )
}

/// A key file, in both dialects.
pub fn key_file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for dialect in [Dialect::Chrony, Dialect::Ntp] {
        let (table, found) = parse(&text, dialect);
        let lines = text.lines().count();
        assert!(table.len() <= lines);
        assert!(found.iter().all(|f| (1..=lines).contains(&f.line)));
        for key in table.iter() {
            assert!(key.id() != 0, "nought means no key");
            let mut packet = vec![0x23; HEADER_LEN + 4 + 64];
            for version in [3, 4] {
                let Some(end) = key.sign(&mut packet, HEADER_LEN, key.digest_len(version)) else {
                    unreachable!("there is room")
                };
                assert!(key.verifies(&packet[..HEADER_LEN], &packet[HEADER_LEN + 4..end]));
            }
        }
    }
}

/// Access rules, as lines of ntpd's and as lines of chrony's.
pub fn access_rules(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let host: IpAddr = [192, 0, 2, 1].into();
    let known = Known { names: [("host".to_owned(), vec![host])].into(), sources: vec![[10, 1, 2, 3].into()] };
    let probes = ["0.0.0.0:1", "10.1.2.3:123", "192.0.2.1:9", "255.255.255.255:1", "[::]:1", "[2001:db8::1]:123"];
    let probes = probes.map(|probe| probe.parse::<SocketAddr>().unwrap_or(SocketAddr::new(host, 1)));

    let rules: Vec<Restriction> = text.lines().filter_map(|line| Restriction::parse(line).ok()).collect();
    let access = Policy::Restrict(rules.clone()).access(&known);
    // Saying everything again, without flags, loosens nothing.
    let bare = rules.iter().map(|rule| Restriction { flags: Flags::empty(), ..rule.clone() });
    let again = Policy::Restrict(rules.iter().cloned().chain(bare).collect()).access(&known);
    assert!(probes.iter().all(|probe| access.flags(*probe) == again.flags(*probe)));

    let subnets: Vec<Subnet> = text.lines().filter_map(|line| Subnet::parse(line).ok()).collect();
    let line = |(index, subnet): (usize, &Subnet)| Line {
        verdict: if index % 2 == 0 { Answered::Allow } else { Answered::Deny },
        all: index % 3 == 2,
        subnet: subnet.clone(),
    };
    let lines: Vec<Line> = subnets.iter().enumerate().map(line).collect();
    let allowed = Flags::LIMITED;
    let access = Policy::Allow { lines: lines.clone(), allowed }.access(&known);
    for probe in probes {
        assert!([allowed, Flags::DENY].contains(&access.flags(probe)));
    }
    // The last word counts.
    let all = Line { verdict: Answered::Deny, all: true, subnet: Subnet::Everybody };
    let closed = Policy::Allow { lines: lines.into_iter().chain([all]).collect(), allowed }.access(&known);
    assert!(probes.iter().all(|probe| closed.flags(*probe) == Flags::DENY));
}
