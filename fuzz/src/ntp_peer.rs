//! Packets between peers.

use std::sync::Arc;

use refclockd::ntp::client::measurement::Rate;
use refclockd::ntp::client::ours::Ours;
use refclockd::ntp::client::passive::Passive;
use refclockd::ntp::client::symmetric::is_symmetric;
use refclockd::ntp::client::{Config, Filters, Rejected, Symmetric};
use refclockd::ntp::keys::{Algorithm, Key};
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

fn config(key: Option<Arc<Key>>, xleave: bool, iburst: bool) -> Config {
    Config {
        address: ([192, 0, 2, 1], 123).into(),
        iburst,
        minpoll: 4,
        maxpoll: 10,
        version: 4,
        key,
        xleave,
        presend: None,
        filters: Filters::default(),
        seed: [7; 32],
    }
}

/// What a packet of ours says that one of theirs may repeat: when it left, or the one before it; and when theirs came.
#[derive(Clone, Copy, Default)]
struct Said([NtpTimestamp; 2]);

impl Said {
    fn of(octets: &[u8], before: Self) -> Self {
        Packet::new_checked(octets).map_or(before, |p| Self([p.transmit(), p.receive()]))
    }

    /// Makes a packet repeat one of them.
    fn repeat(self, packet: &mut [u8], which: usize) {
        if let (Some(origin), Some(said)) = (packet.get_mut(24..32), self.0.get(which)) {
            origin.copy_from_slice(&said.0.to_be_bytes());
        }
    }
}

/// Datagrams from a peer, 48 octets and two of options each: one of ours, and one that came by itself.
pub fn ntp_peer(data: &[u8]) {
    ours_by_configuration(data);
    came_by_itself(data);
}

fn ours_by_configuration(data: &[u8]) {
    let xleave = data.first().is_some_and(|octet| octet & 4 != 0);
    let mut association = Symmetric::new(config(None, xleave, data.len().is_multiple_of(2)));
    let mut now: Timestamp<Raw> = Timestamp::from_parts(500, 0);
    let (mut last, mut measured) = (Said::default(), false);
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
            if choice & 8 != 0 {
                association.handle_departed(now + Span::from_nanos(20_000));
            }
            assert!(association.poll_timeout().is_none_or(|next| next > now), "it would send without end");
            last = Said::of(request.octets(), last);
            measured = false;
        }
        let mut packet = options.0.to_vec();
        if choice & 2 != 0 {
            last.repeat(&mut packet, usize::from(choice & 16 != 0));
        }
        let before = (association.reach(), association.poll(), association.poll_timeout());
        now += Span::from_millis(i64::from(wait));
        match association.handle_receive(&packet, now, now, &ours(now)) {
            Ok(m) => {
                let Ok(packet) = Packet::new_checked(&packet) else { unreachable!("too short for a packet") };
                assert!(last.0.contains(&packet.origin()), "it repeats what we sent last");
                assert!(is_symmetric(packet.first_octet().mode()));
                assert!(!std::mem::replace(&mut measured, true), "one exchange is measured once");
                assert!((1..=15).contains(&m.stratum) && m.leap != LeapIndicator::Unsynchronised);
                assert!(m.at <= now && m.delay >= Span::ZERO && m.root_distance().is_finite(), "{m:?}");
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

fn came_by_itself(data: &[u8]) {
    let Ok(key) = Key::new(5, Algorithm::Aes128Cmac, &[1; 16]) else { unreachable!("a key of 128 bits") };
    let key = Arc::new(key);
    let mut now: Timestamp<Raw> = Timestamp::from_parts(500, 0);
    let mut association = Passive::new(config(Some(Arc::clone(&key)), false, false), now);
    let mut last = Said::default();
    for record in data.chunks(HEADER_LEN + 2).take(64) {
        let mut options = Tail(record);
        let (choice, wait) = (options.byte(), options.byte());
        let mut packet = [0; 128];
        let len = options.0.len().min(HEADER_LEN);
        packet[..len].copy_from_slice(&options.0[..len]);
        if choice & 2 != 0 {
            last.repeat(&mut packet, usize::from(choice & 16 != 0));
        }
        let is_signed = choice & 1 == 0;
        let len = if is_signed { key.sign(&mut packet, HEADER_LEN, 16).unwrap_or(HEADER_LEN) } else { HEADER_LEN };
        now += Span::from_millis(i64::from(wait) * 100);
        let result = association.handle_receive(&packet[..len], now, now, &ours(now));
        if result.is_ok() {
            assert!(is_signed && association.is_proven());
        }
        let answer = association.poll_transmit(now, &ours(now));
        assert!(answer.is_none() || is_signed, "only the signed are answered");
        if let Some(answer) = answer {
            assert_eq!(answer.octets().len(), HEADER_LEN + 20, "never longer than what it answers");
            association.handle_transmitted(now);
            association.handle_departed(now + Span::from_nanos(20_000));
            last = Said::of(answer.octets(), last);
        }
        assert!(association.poll_transmit(now, &ours(now)).is_none(), "one answer to one packet");
        let longest = Span::from_whole_seconds(1 << 16);
        assert!(association.poll_timeout() - now < longest && association.is_lost(now + longest));
    }
    assert_counted_once(association.tally());
}
