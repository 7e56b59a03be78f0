//! UBX, the binary language of u-blox receivers, generations 5 to 10.
//!
//! A [`Frame`] is a message whose checksum is right; [`Message`] is what it says, a plain decoding of the
//! fields that matter to a clock, with the validity flags beside them. What is made of it is the business
//! of [`crate::receiver`].

mod frame;
mod health;
mod navigation;
pub mod setup;
mod sky;
mod time_pulse;
pub mod write;

use thiserror::Error;

pub use frame::{Frame, LONGEST, OVERHEAD, SYNC_1, SYNC_2};
pub(crate) use health::spoofing;
pub use health::{MonHw, MonRf, SecSig};
pub use navigation::{Instant, NavPvt, NavStatus, NavTimeGps, NavTimeLs, NavTimeUtc};
pub use sky::NavSat;
pub use time_pulse::{Pulse, TimTp};

use frame::{Payload, checksum};

/// The messages we understand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Message<'a> {
    /// Position, velocity and time in one: the best single choice.
    NavPvt(NavPvt),
    /// UTC.
    NavTimeUtc(NavTimeUtc),
    /// GPS time, and how far it is from UTC.
    NavTimeGps(NavTimeGps),
    /// Leap seconds.
    NavTimeLs(NavTimeLs),
    /// Kind of fix.
    NavStatus(NavStatus),
    /// The sky.
    NavSat(NavSat<'a>),
    /// The next pulse.
    TimTp(TimTp),
    /// Antenna and interference.
    MonHw(MonHw),
    /// Antenna and interference, of newer receivers.
    MonRf(MonRf),
    /// Interference and counterfeit signals.
    SecSig(SecSig),
    /// Which protocol it speaks, by its first number; 0 where it does not say.
    MonVer {
        /// 18 with u-blox M8, 27 and more with u-blox 9 and later.
        protocol: u8,
    },
    /// The receiver took a setting.
    Ack {
        /// Class and number of the message that set it.
        of: (u8, u8),
        /// Or did it refuse it?
        taken: bool,
    },
    /// How something is set, in answer to a question.
    Setting {
        /// Which: the message's number.
        id: u8,
        /// As the setting's own message has it.
        payload: &'a [u8],
    },
    /// Anything else.
    Other,
}

/// Why a message is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// It has another length than its class and number have.
    #[error("{name} of {length} bytes")]
    Length {
        /// Which message.
        name: &'static str,
        /// Bytes of its payload.
        length: usize,
    },
    /// A field holds what it cannot.
    #[error("the field of {field} of {name} cannot be read")]
    Field {
        /// Which message.
        name: &'static str,
        /// Which field.
        field: &'static str,
    },
}

impl<'a> Message<'a> {
    /// What a frame says.
    pub fn decode(frame: Frame<'a>) -> Result<Self, DecodeError> {
        let length = frame.payload.len();
        let of_length = |name, fits: bool| {
            if fits { Ok(Payload(frame.payload)) } else { Err(DecodeError::Length { name, length }) }
        };
        Ok(match (frame.class, frame.id) {
            // 84 bytes with u-blox 7.
            (0x01, 0x07) => Self::NavPvt(NavPvt::decode(of_length("NAV-PVT", length >= 84)?)?),
            (0x01, 0x21) => Self::NavTimeUtc(NavTimeUtc::decode(of_length("NAV-TIMEUTC", length == 20)?)?),
            (0x01, 0x20) => Self::NavTimeGps(NavTimeGps::decode(of_length("NAV-TIMEGPS", length == 16)?)?),
            (0x01, 0x26) => Self::NavTimeLs(NavTimeLs::decode(of_length("NAV-TIMELS", length == 24)?)),
            (0x01, 0x03) => Self::NavStatus(NavStatus::decode(of_length("NAV-STATUS", length == 16)?)),
            (0x01, 0x35) => {
                let fits = frame.payload.get(5).is_some_and(|n| length == 8 + 12 * usize::from(*n));
                of_length("NAV-SAT", fits)?;
                Self::NavSat(NavSat::new(frame.payload))
            }
            (0x0d, 0x01) => Self::TimTp(TimTp::decode(of_length("TIM-TP", length == 16)?)?),
            // 68 bytes with u-blox 6.
            (0x0a, 0x09) => Self::MonHw(MonHw::decode(of_length("MON-HW", matches!(length, 60 | 68))?)),
            (0x0a, 0x38) => {
                let fits = frame.payload.get(1).is_some_and(|n| length == 4 + 24 * usize::from(*n));
                Self::MonRf(MonRf::decode(of_length("MON-RF", fits)?))
            }
            (0x0a, 0x04) => {
                of_length("MON-VER", length >= 40)?;
                Self::MonVer { protocol: protocol(frame.payload) }
            }
            (0x27, 0x09) => {
                let fits = match frame.payload.first() {
                    Some(1) => length >= 12,
                    Some(2) => length >= 4,
                    _ => false,
                };
                Self::SecSig(SecSig::decode(of_length("SEC-SIG", fits)?))
            }
            (0x05, taken @ (0 | 1)) => {
                let p = of_length("ACK", length == 2)?;
                Self::Ack { of: (p.u8(0), p.u8(1)), taken: taken == 1 }
            }
            (0x06, id) => Self::Setting { id, payload: frame.payload },
            _ => Self::Other,
        })
    }
}

/// The protocol's version among MON-VER's texts of 30 bytes each: `PROTVER=18.00` or `PROTVER 14.00`.
fn protocol(payload: &[u8]) -> u8 {
    let (texts, _) = payload.get(40..).unwrap_or_default().as_chunks::<30>();
    let said = texts.iter().find_map(|text| text.strip_prefix(b"PROTVER"));
    let digits = said.and_then(|said| said.get(1..)).unwrap_or_default();
    digits.iter().take_while(|b| b.is_ascii_digit()).fold(0u8, |n, b| n.saturating_mul(10).saturating_add(b - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Frames with their checksums as they are printed in u-blox's documents and the project's notes.
    #[test]
    fn known_frames() {
        let poll = [0xb5, 0x62, 0x01, 0x07, 0x00, 0x00, 0x08, 0x19];
        assert_eq!(Frame::from_bytes(&poll), Some(Frame { class: 1, id: 7, payload: &[] }));
        assert_eq!(write::message(1, 7, &[]), poll);
        let rate = [0xb5, 0x62, 0x06, 0x08, 0x06, 0x00, 0xe8, 0x03, 0x01, 0x00, 0x00, 0x00, 0x00, 0x37];
        assert_eq!(write::message(6, 8, &[0xe8, 3, 1, 0, 0, 0]), rate);
        for at in 0..rate.len() {
            let mut broken = rate;
            broken[at] ^= 0x10;
            assert_eq!(Frame::from_bytes(&broken), None, "byte {at}");
        }
    }

    #[test]
    fn a_wrong_length_is_refused_by_name() {
        let frame = |class, id, payload| Message::decode(Frame { class, id, payload });
        assert_eq!(frame(1, 7, &[0; 83]), Err(DecodeError::Length { name: "NAV-PVT", length: 83 }));
        assert_eq!(frame(1, 0x35, &[0, 0, 0, 0, 0, 2, 0, 0]), Err(DecodeError::Length { name: "NAV-SAT", length: 8 }));
        assert_eq!(frame(0x27, 9, &[3; 20]), Err(DecodeError::Length { name: "SEC-SIG", length: 20 }));
        assert_eq!(frame(5, 1, &[6, 0x8a]), Ok(Message::Ack { of: (6, 0x8a), taken: true }));
        assert_eq!(frame(0x42, 1, &[]), Ok(Message::Other));
        let version = |text: &str| {
            let mut payload = [0; 100];
            payload[70..70 + text.len()].copy_from_slice(text.as_bytes());
            Message::decode(Frame { class: 0x0a, id: 4, payload: &payload })
                .ok()
                .map(|m| matches!(m, Message::MonVer { protocol: 27 }))
        };
        assert_eq!(
            [version("PROTVER=27.11"), version("PROTVER 27"), version("PROTVER=18.00")],
            [Some(true), Some(true), Some(false)]
        );
    }

    proptest! {
        #[test]
        fn no_payload_is_too_much(class in prop::sample::select(vec![1u8, 5, 0x0a, 0x0d, 0x27]), id in any::<u8>(), payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::decode(Frame { class, id, payload: &payload });
        }
    }
}
