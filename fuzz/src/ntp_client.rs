//! Replies to our own requests.

use refclockd::ntp::client::{Association, Config, Filters, Rejected, Tally};
use refclockd::ntp::packet::{HEADER_LEN, Mode, Packet};
use refclocks::LeapIndicator;
use refclocks::time::{Raw, Span, Timestamp};

use crate::bytes::Tail;

/// Datagrams from a server, 48 octets and two of options each, as answers to what an association asks.
pub fn ntp_reply(data: &[u8]) {
    let config = Config {
        address: ([192, 0, 2, 1], 123).into(),
        iburst: data.len().is_multiple_of(2),
        minpoll: 4,
        maxpoll: 10,
        version: 4,
        key: None,
        xleave: data.len().is_multiple_of(3),
        presend: None,
        filters: Filters::default(),
        seed: [7; 32],
    };
    let mut association = Association::new(config);
    let mut now: Timestamp<Raw> = Timestamp::from_parts(500, 0);
    for record in data.chunks(HEADER_LEN + 2).take(64) {
        let mut options = Tail(record);
        let (choice, wait) = (options.byte(), options.byte());
        let Some(due) = association.poll_timeout() else {
            assert!(association.refused().is_some(), "it stopped asking, and nobody refused");
            assert_eq!(association.poll_transmit(now + Span::from_whole_seconds(1 << 20)), None);
            return;
        };
        // Some requests stay unanswered until the next is due.
        now = now.max(if choice & 1 != 0 { due } else { now });
        let mut cookie = None;
        if let Some(request) = association.poll_transmit(now) {
            association.handle_transmitted(now);
            assert!(association.poll_timeout().is_none_or(|next| next > now), "it would ask without end");
            cookie = Packet::new_checked(request.octets()).ok().map(|p| p.transmit());
        }
        let mut reply = options.0.to_vec();
        // A guess of the number to repeat would take for ever.
        if choice & 2 != 0
            && let (Some(cookie), Some(origin)) = (cookie, reply.get_mut(24..32))
        {
            origin.copy_from_slice(&cookie.0.to_be_bytes());
        }
        let before = (association.reach(), association.poll(), association.poll_timeout(), association.awaits_reply());
        let sent = now;
        now += Span::from_millis(i64::from(wait));
        let result = association.handle_receive(&reply, now, now);
        match result {
            Ok(m) => {
                let Ok(packet) = Packet::new_checked(&reply) else { unreachable!("too short for a reply") };
                assert_eq!(Some(packet.origin()), cookie, "it answers what we asked");
                assert_eq!(packet.first_octet().mode(), Mode::Server);
                assert!((1..=15).contains(&m.stratum) && m.leap != LeapIndicator::Unsynchronised);
                assert!(m.at >= sent && m.at <= now, "{m:?}");
                assert!(m.delay >= Span::ZERO && m.delay <= now - sent, "{m:?}");
                assert!(m.root_delay >= 0.0 && m.root_dispersion >= 0.0);
                assert!(m.root_distance() < 16.0 + m.delay.seconds(), "{m:?}");
                assert_eq!(association.reach() & 1, 1);
                let again = association.handle_receive(&reply, now, now);
                assert_eq!(again, Err(Rejected::Duplicate), "one request has one reply");
            }
            Err(Rejected::Malformed(_) | Rejected::NotAReply { .. } | Rejected::Bogus | Rejected::Duplicate) => {
                let after =
                    (association.reach(), association.poll(), association.poll_timeout(), association.awaits_reply());
                assert_eq!(before, after, "what anybody can make up changes nothing");
            }
            Err(_) => assert!(before.3 && !association.awaits_reply()),
        }
        assert!((0..=17).contains(&association.poll()), "{}", association.poll());
        // However a server asks for fewer requests, it is asked again before it is forgotten.
        let longest = Span::from_whole_seconds(1 << 18);
        assert!(association.poll_timeout().is_none_or(|due| due - now < longest), "{:?}", association.poll_timeout());
    }
    assert_counted_once(association.tally());
}

/// Whatever came of a datagram, it is counted once.
pub(crate) fn assert_counted_once(tally: Tally) {
    let sum = tally.good + tally.malformed + tally.bogus + tally.duplicate + tally.kissed;
    let sum = sum + tally.not_signed + tally.filtered;
    assert_eq!(sum + tally.unsynchronised + tally.impossible, tally.received, "each datagram is counted once");
}
