use std::sync::Arc;

use refclocks::time::{NtpTimestamp, Utc};
use refclocks::{LeapIndicator, ReferenceId};

use super::*;
use crate::ntp::client::filters::Filters;
use crate::ntp::client::measurement::Rate;
use crate::ntp::keys::{Algorithm, Key};
use crate::ntp::packet::{Header, Mode, NtpShort, Packet};
use crate::ntp::server::View;

const START: Timestamp<Utc> = Timestamp::from_parts(1_800_000_000, 0);

/// Under way, each way, s.
const WAY: f64 = 0.004;

fn raw(at: f64) -> Timestamp<Raw> {
    Timestamp::from_parts(5000, 0) + Span::from_seconds(at)
}

/// A clock that is ahead by so much at a true time.
fn clock(at: f64, ahead: f64, stratum: u8) -> Ours {
    let view = View {
        leap: LeapIndicator::None,
        stratum,
        refid: ReferenceId([192, 0, 2, 7]),
        precision: -24,
        root_delay: NtpShort(0),
        root_dispersion: NtpShort(66),
        reference_time: NtpTimestamp::UNKNOWN,
    };
    let view = if stratum == 16 { view.unsynchronised() } else { view };
    let rate = Rate { correction: 0.0, deviation: 1e-7 };
    Ours { view, at: raw(at), utc: START + Span::from_seconds(at + ahead), rate }
}

fn config(seed: u8) -> Config {
    Config {
        address: "192.0.2.1:123".parse().unwrap(),
        iburst: false,
        minpoll: 4,
        maxpoll: 4,
        version: 4,
        key: Some(Arc::new(Key::new(5, Algorithm::Aes128Cmac, &[1; 16]).unwrap())),
        xleave: false,
        presend: None,
        filters: Filters::default(),
        seed: [seed; 32],
    }
}

/// A peer that has us for one of its own, with a clock that is ahead by a second.
struct Active {
    association: Symmetric,
    stratum: u8,
}

impl Active {
    fn new(xleave: bool) -> Self {
        Self { association: Symmetric::new(Config { xleave, ..config(1) }), stratum: 2 }
    }

    fn send(&mut self, at: f64) -> Vec<u8> {
        let packet = self.association.poll_transmit(raw(at), &clock(at, 1.0, self.stratum)).unwrap();
        self.association.handle_transmitted(raw(at));
        self.association.handle_departed(raw(at + 20e-6));
        packet.octets().to_vec()
    }

    fn hear(&mut self, packet: &[u8], at: f64) -> Result<Measurement, Rejected> {
        self.association.handle_receive(packet, raw(at), raw(at), &clock(at, 1.0, self.stratum))
    }
}

fn hear(passive: &mut Passive, packet: &[u8], at: f64) -> Result<Measurement, Rejected> {
    passive.handle_receive(packet, raw(at), raw(at), &clock(at, 0.0, 3))
}

fn answer(passive: &mut Passive, at: f64) -> Option<Vec<u8>> {
    let packet = passive.poll_transmit(raw(at), &clock(at, 0.0, 3))?;
    passive.handle_transmitted(raw(at));
    passive.handle_departed(raw(at + 20e-6));
    Some(packet.octets().to_vec())
}

fn header(packet: &[u8]) -> Header {
    Header::parse(&Packet::new_checked(packet).unwrap())
}

/// How far the other side is ahead of true time, as measured, s.
fn ahead(m: &Measurement) -> f64 {
    (m.reference - START).seconds() - (m.at - raw(0.0)).seconds()
}

/// When it can send again.
fn due(active: &Active) -> f64 {
    (active.association.poll_timeout().unwrap() - raw(0.0)).seconds().max(0.0) + 1e-6
}

#[test]
fn whoever_hears_us_is_measured_answered_at_once_and_missed() {
    let (mut active, mut passive) = (Active::new(false), Passive::new(config(2), raw(0.0)));
    let mut at = 0.0;
    for round in 0..5 {
        at = due(&active);
        let packet = active.send(at);
        let result = hear(&mut passive, &packet, at + WAY);
        if round == 0 {
            assert_eq!((result, passive.is_proven()), (Err(Rejected::Unheard), false));
        } else {
            let m = result.unwrap();
            assert!((ahead(&m) - 1.0).abs() < 100e-6 && passive.is_proven(), "{m:?}");
        }
        assert!(passive.poll_timeout() <= raw(at + WAY));
        let reply = answer(&mut passive, at + WAY + 1e-4).unwrap();
        assert_eq!((header(&reply).mode, header(&reply).poll), (Mode::SymmetricPassive, 4));
        let m = active.hear(&reply, at + 2.0 * WAY + 1.2e-4).unwrap();
        assert!(ahead(&m).abs() < 100e-6, "{m:?}");
        // Nothing is sent that was not asked for.
        assert!(answer(&mut passive, at + 5.0).is_none());
    }
    assert_eq!((passive.reach(), passive.poll()), (0b11110, 4));
    assert!(!passive.is_lost(raw(at + 127.0)) && passive.is_lost(raw(at + 129.0)));
}

#[test]
fn the_interleaved_are_answered_interleaved() {
    let (mut active, mut passive) = (Active::new(true), Passive::new(config(2), raw(0.0)));
    let (mut of_active, mut of_passive) = (0, 0);
    for _ in 0..8 {
        let at = due(&active);
        let packet = active.send(at);
        match hear(&mut passive, &packet, at + WAY + 20e-6) {
            Ok(m) => {
                of_passive += 1;
                assert!((ahead(&m) - 1.0).abs() < 5e-6, "{} {m:?}", ahead(&m) - 1.0);
            }
            Err(reason) => assert!(matches!(reason, Rejected::Unheard | Rejected::Measured), "{reason}"),
        }
        let reply = answer(&mut passive, at + WAY + 1e-4).unwrap();
        match active.hear(&reply, at + 2.0 * WAY + 1.2e-4) {
            Ok(m) => {
                of_active += 1;
                assert!(ahead(&m).abs() < 15e-6, "{m:?}");
            }
            Err(reason) => assert_eq!(reason, Rejected::Measured),
        }
    }
    assert!(of_active >= 6 && of_passive >= 5, "{of_active} {of_passive}");
}

#[test]
fn records_of_packets_prove_nothing() {
    let mut active = Active::new(false);
    let (first, second) = (active.send(0.0), active.send(due(&active)));
    let mut passive = Passive::new(config(2), raw(1000.0));
    assert_eq!(hear(&mut passive, &first, 1000.0), Err(Rejected::Unheard));
    assert!(answer(&mut passive, 1000.0).is_some());
    // Not again for the same.
    assert_eq!(hear(&mut passive, &first, 1001.0), Err(Rejected::Duplicate));
    assert!(answer(&mut passive, 1001.0).is_none());
    for (packet, at) in [(&second, 1010.0), (&first, 1020.0), (&second, 1040.0)] {
        assert_eq!(hear(&mut passive, packet, at), Err(Rejected::Unheard));
        assert!(answer(&mut passive, at).is_some());
    }
    // However often they come: three intervals after the first it has to have heard us.
    assert!(!passive.is_proven() && !passive.is_lost(raw(1047.0)) && passive.is_lost(raw(1049.0)));
    let mut forged = second;
    forged[47] ^= 1;
    assert_eq!(hear(&mut passive, &forged, 1041.0), Err(Rejected::NotSigned { key: 5 }));
    assert!(answer(&mut passive, 1041.0).is_none());
}

#[test]
fn one_that_is_of_no_use_any_more_is_gone_although_it_talks() {
    let (mut active, mut passive) = (Active::new(false), Passive::new(config(2), raw(0.0)));
    let mut useless = 0;
    for round in 0..40 {
        let at = due(&active);
        active.stratum = if round < 4 { 2 } else { 16 };
        let packet = active.send(at);
        let result = hear(&mut passive, &packet, at + WAY);
        let Some(reply) = answer(&mut passive, at + WAY) else { panic!("{round}") };
        active.hear(&reply, at + 2.0 * WAY).unwrap();
        if round >= 4 {
            assert!(matches!(result, Err(Rejected::Unsynchronised { .. })), "{result:?}");
            useless += 1;
        }
        if passive.is_lost(raw(at + WAY)) {
            break;
        }
    }
    assert_eq!((useless, passive.reach()), (USELESS - 1, 0));
}
