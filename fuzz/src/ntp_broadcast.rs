//! What is broadcast, what a volley is answered, and who answers in a group.

use refclockd::ntp::client::manycast::Solicitation;
use refclockd::ntp::client::measurement::Rate;
use refclockd::ntp::client::overheard::{Config, Overheard};
use refclockd::ntp::client::{Filters, Rejected};
use refclockd::ntp::packet::{HEADER_LEN, Mode, Packet};
use refclocks::LeapIndicator;
use refclocks::time::{Raw, Span, Timestamp};

use crate::bytes::Tail;
use crate::ntp_client::assert_counted_once;

/// Datagrams of a broadcaster, 48 octets and two of options each; some are answers to our volley.
pub fn ntp_broadcast(data: &[u8]) {
    let mut now: Timestamp<Raw> = Timestamp::from_parts(500, 0);
    let config = Config {
        address: ([192, 0, 2, 1], 123).into(),
        key: None,
        delay: data.len().is_multiple_of(2).then_some(Span::from_millis(4)),
        max_delay: Span::from_millis(100),
        filters: Filters::default(),
        seed: [7; 32],
    };
    let with_volley = config.delay.is_none();
    let mut overheard = Overheard::new(config, now);
    let (solicitation, asked) = Solicitation::new(4, None, [8; 32]);
    let rate = Rate { correction: 0.0, deviation: 1e-7 };
    let (mut cookie, mut last, mut replies) = (None, None, 0);
    for record in data.chunks(HEADER_LEN + 2).take(64) {
        let mut options = Tail(record);
        let (choice, wait) = (options.byte(), options.byte());
        now += Span::from_millis(i64::from(wait) * if choice & 4 != 0 { 100 } else { 1 });
        overheard.handle_timeout(now);
        assert!(overheard.is_lost() || overheard.poll_timeout() < now + Span::from_whole_seconds(1 << 18));
        if let Some(request) = overheard.poll_transmit(now) {
            overheard.handle_transmitted(now);
            cookie = Packet::new_checked(request.octets()).ok().map(|p| p.transmit());
            now += Span::from_millis(2);
        }
        let mut octets = options.0.to_vec();
        // A fuzzer that watches comparisons learns the number that a reply repeats.
        let repeats = octets.get(24..32).is_some_and(|origin| Some(origin) == asked.octets().get(40..48));
        assert!(repeats || solicitation.admits(&octets).is_err(), "it answers nothing we asked a group");
        if choice & 1 != 0 {
            if let (Some(cookie), Some(origin)) = (cookie, octets.get_mut(24..32)) {
                origin.copy_from_slice(&cookie.0.to_be_bytes());
            }
            if let Ok(m) = overheard.handle_reply(&octets, now, now) {
                assert!(with_volley && m.delay >= Span::ZERO);
                replies += 1;
            }
            continue;
        }
        match overheard.handle_heard(&octets, now, rate) {
            Ok(m) => {
                let Ok(packet) = Packet::new_checked(&octets) else { unreachable!("too short for a packet") };
                assert_eq!(packet.first_octet().mode(), Mode::Broadcast);
                assert!(!with_volley || replies >= 5, "its way is not known yet");
                assert!((1..=15).contains(&m.stratum) && m.leap != LeapIndicator::Unsynchronised);
                assert!(m.at == now && m.delay >= Span::ZERO && m.root_distance().is_finite(), "{m:?}");
                // A stamp carries no era: which one is later, the client's reading of it tells.
                let left = m.reference - Span::from_seconds(m.delay.seconds() / 2.0);
                assert!(last.is_none_or(|last| left > last), "nothing is taken out of order");
                last = Some(left);
                let again = overheard.handle_heard(&octets, now, rate);
                assert_eq!(again, Err(Rejected::Duplicate), "nothing is taken twice");
            }
            Err(Rejected::ImpliedDelay { implied_s, longest_s }) => {
                assert!(implied_s.is_finite() && longest_s == 0.1);
            }
            Err(_) => {}
        }
        assert!((0..=17).contains(&overheard.interval()));
    }
    assert_counted_once(overheard.tally());
}
