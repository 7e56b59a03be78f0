//! Packets between peers.

use refclockd::ntp::client::measurement::Rate;
use refclockd::ntp::client::ours::Ours;
use refclockd::ntp::client::symmetric::is_symmetric;
use refclockd::ntp::client::{Config, Filters, Rejected, Symmetric};
use refclockd::ntp::packet::{HEADER_LEN, NtpShort, Packet};
use refclockd::ntp::server::View;
use refclocks::time::{NtpTimestamp, Raw, Span, Timestamp};
use refclocks::{LeapIndicator, ReferenceId};

use crate::bytes::Tail;
use crate::ntp_client::assert_counted_once;

/// Our own clock, which reads 2026 and something.
fn ours(now: Timestamp<Raw>) -> Ours {
    let view = View {
        leap: LeapIndicator::None,
        stratum: 2,
        refid: ReferenceId([192, 0, 2, 7]),
        precision: -24,
        root_delay: NtpShort(0),
        root_dispersion: NtpShort(66),
        reference_time: NtpTimestamp::UNKNOWN,
    };
    let elapsed = now - Timestamp::EPOCH;
    let utc = Timestamp::from_parts(1_795_319_000, 0) + elapsed;
    Ours { view, at: now, utc, rate: Rate { correction: 0.0, deviation: 1e-7 } }
}

/// Datagrams from a peer, 48 octets and two of options each.
pub fn ntp_peer(data: &[u8]) {
    let mut association = Symmetric::new(Config {
        address: ([192, 0, 2, 1], 123).into(),
        iburst: data.len().is_multiple_of(2),
        minpoll: 4,
        maxpoll: 10,
        version: 4,
        key: None,
        xleave: false,
        presend: None,
        filters: Filters::default(),
        seed: [7; 32],
    });
    let mut now: Timestamp<Raw> = Timestamp::from_parts(500, 0);
    let (mut last, mut measured) = (NtpTimestamp::UNKNOWN, false);
    for record in data.chunks(HEADER_LEN + 2).take(64) {
        let mut options = Tail(record);
        let (choice, wait) = (options.byte(), options.byte());
        let Some(due) = association.poll_timeout() else {
            assert!(association.refused().is_some(), "it stopped sending, and nobody refused");
            return;
        };
        now = now.max(if choice & 1 != 0 { due } else { now });
        if let Some(request) = association.poll_transmit(now, &ours(now)) {
            association.handle_transmitted(now);
            assert!(association.poll_timeout().is_none_or(|next| next > now), "it would send without end");
            last = Packet::new_checked(request.octets()).map_or(last, |p| p.transmit());
            measured = false;
        }
        let mut packet = options.0.to_vec();
        if choice & 2 != 0
            && let Some(origin) = packet.get_mut(24..32)
        {
            origin.copy_from_slice(&last.0.to_be_bytes());
        }
        let before = (association.reach(), association.poll(), association.poll_timeout());
        now += Span::from_millis(i64::from(wait));
        match association.handle_receive(&packet, now, now, &ours(now)) {
            Ok(m) => {
                let Ok(packet) = Packet::new_checked(&packet) else { unreachable!("too short for a packet") };
                assert_eq!(packet.origin(), last, "it tells of what we sent last");
                assert!(is_symmetric(packet.first_octet().mode()));
                assert!(!std::mem::replace(&mut measured, true), "one exchange is measured once");
                assert!((1..=15).contains(&m.stratum) && m.leap != LeapIndicator::Unsynchronised);
                assert!(m.at == now && m.delay >= Span::ZERO && m.root_distance().is_finite(), "{m:?}");
                assert_eq!(association.reach() & 1, 1);
            }
            Err(Rejected::Kiss(_) | Rejected::Measured) => {}
            Err(_) => {
                let after = (association.reach(), association.poll(), association.poll_timeout());
                assert_eq!(before, after, "what is not measured changes no poll");
            }
        }
        let longest = Span::from_whole_seconds(1 << 18);
        assert!(association.poll_timeout().is_none_or(|due| due - now < longest), "{:?}", association.poll_timeout());
    }
    assert_counted_once(association.tally());
}
