//! Class TIM: the time pulse.

use super::navigation::gps_week;
use super::{DecodeError, Payload};
use crate::time::{Span, Tai, Timestamp};

/// TAI - GPS, s: for ever.
pub(crate) const TAI_MINUS_GPS: i64 = 19;

/// TIM-TP: the pulse that comes next. The message is sent up to a second before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimTp {
    /// The second that the pulse marks, where it is given on GPS's scale or, with the leap seconds in
    /// `utc_seconds`, on UTC's.
    pub pulse: Pulse,
    /// qErr as sent, ps; `None` where the receiver says that it is not valid, or the pulse not locked.
    pub error: Option<i32>,
}

/// The second that a pulse marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// On GPS's scale, hence TAI.
    Tai(Timestamp<Tai>),
    /// On UTC's grid; TAI - UTC leads to TAI.
    Utc(Timestamp<crate::time::Utc>),
    /// On the scale of another system.
    Other,
}

impl TimTp {
    pub(super) fn decode(p: Payload<'_>) -> Result<Self, DecodeError> {
        let (milliseconds, submilliseconds) = (p.u32(0), p.u32(4));
        if milliseconds >= 7 * 86_400_000 {
            return Err(DecodeError::Field { name: "TIM-TP", field: "time of week" });
        }
        let (flags, reference) = (p.u8(14), p.u8(15) & 15);
        let nanos = i64::from(milliseconds) * 1_000_000 + ((i64::from(submilliseconds) * 1_000_000) >> 32);
        let at = gps_week(p.u16(12).into()) + Span::from_nanos(nanos);
        let pulse = match (flags & 1, reference) {
            (1, _) if flags & 2 != 0 => Pulse::Utc(at),
            (0, 0) => Pulse::Tai(at.reinterpret() + Span::from_whole_seconds(TAI_MINUS_GPS)),
            _ => Pulse::Other,
        };
        let usable = flags >> 4 & 3 == 0;
        Ok(Self { pulse, error: usable.then(|| p.i32(8)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ubx::{Frame, Message};

    fn tim_tp(flags: u8, reference: u8) -> TimTp {
        let mut payload = [0; 16];
        payload[..4].copy_from_slice(&237_888_000u32.to_le_bytes());
        payload[8..12].copy_from_slice(&(-4331i32).to_le_bytes());
        payload[12..14].copy_from_slice(&2146u16.to_le_bytes());
        payload[14] = flags;
        payload[15] = reference;
        match Message::decode(Frame { class: 0x0d, id: 1, payload: &payload }) {
            Ok(Message::TimTp(tp)) => tp,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_pulse_is_named_on_its_scale() {
        // A real NEO-M8T's flags, in the second that began at 18:04:29 UTC.
        let tp = tim_tp(0x0b, 0x0f);
        assert_eq!(tp.error, Some(-4331));
        let Pulse::Utc(at) = tp.pulse else { panic!("{tp:?}") };
        assert_eq!(at.to_string(), "2021-02-23T18:04:48Z");
        let Pulse::Tai(tai) = tim_tp(0, 0).pulse else { panic!() };
        assert_eq!((tai.reinterpret() - at).nanos(), 19_000_000_000);
        assert_eq!(tim_tp(0, 2).pulse, Pulse::Other, "BeiDou's scale");
        assert_eq!(tim_tp(1, 0).pulse, Pulse::Other, "UTC that is not available");
    }

    #[test]
    fn an_error_that_is_not_valid_is_none() {
        assert_eq!(tim_tp(0x1b, 0x0f).error, None);
        assert_eq!(tim_tp(0x2b, 0x0f).error, None);
    }
}
