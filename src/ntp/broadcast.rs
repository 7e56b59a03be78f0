//! Broadcast mode: our time, told to a whole network now and then (RFC 5905 section 3.1, mode 5).

use refclocks::LeapIndicator;
use refclocks::time::{NtpTimestamp, Timestamp, Utc};

use super::keys::{KEY_ID_LEN, Key, MAX_DIGEST_LEN};
use super::packet::{HEADER_LEN, Header, Mode};
use super::server::View;

/// Octets of the longest packet.
pub const MAX_LEN: usize = HEADER_LEN + KEY_ID_LEN + MAX_DIGEST_LEN;

/// Writes the packet that leaves at `transmit`, signed if there is a key. Returns its length; `None` while
/// nobody vouches for the clock: a network is told the time or nothing.
pub fn packet(
    view: &View,
    transmit: Timestamp<Utc>,
    interval_s: f64,
    key: Option<&Key>,
    to: &mut [u8; MAX_LEN],
) -> Option<usize> {
    if view.leap == LeapIndicator::Unsynchronised {
        return None;
    }
    let header = Header {
        leap: view.leap,
        version: 4,
        mode: Mode::Broadcast,
        stratum: view.stratum,
        poll: libm::round(libm::log2(interval_s)) as i8,
        precision: view.precision,
        root_delay: view.root_delay,
        root_dispersion: view.root_dispersion,
        refid: view.refid,
        reference_time: view.reference_time,
        origin: NtpTimestamp::UNKNOWN,
        receive: NtpTimestamp::UNKNOWN,
        transmit: NtpTimestamp::from_utc(transmit),
    };
    header.emit(to.first_chunk_mut()?);
    match key {
        Some(key) => key.sign(to, HEADER_LEN, key.digest_len(header.version)),
        None => Some(HEADER_LEN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntp::keys::Algorithm;
    use crate::ntp::packet::{NtpShort, Packet};
    use refclocks::ReferenceId;

    const VIEW: View = View {
        leap: LeapIndicator::Insert,
        stratum: 1,
        refid: ReferenceId(*b"PPS\0"),
        precision: -22,
        root_delay: NtpShort(0),
        root_dispersion: NtpShort(3),
        reference_time: NtpTimestamp(5),
    };

    #[test]
    fn the_time_is_told_signed_or_not_at_all() {
        let at = Timestamp::from_parts(1_800_000_000, 0);
        let key = Key::new(7, Algorithm::Aes128Cmac, &[1; 16]).unwrap();
        for (key, len) in [(None, 48), (Some(&key), 68)] {
            let mut octets = [0; MAX_LEN];
            assert_eq!(packet(&VIEW, at, 64.0, key, &mut octets), Some(len));
            let header = Header::parse(&Packet::new_checked(&octets[..len]).unwrap());
            assert_eq!((header.mode, header.poll, header.stratum), (Mode::Broadcast, 6, 1));
            assert_eq!((header.transmit, header.origin), (NtpTimestamp::from_utc(at), NtpTimestamp::UNKNOWN));
            assert!(key.is_none_or(|key| key.verifies(&octets[..48], &octets[52..len])));
        }
        let mut octets = [0; MAX_LEN];
        assert_eq!(packet(&VIEW.unsynchronised(), at, 64.0, None, &mut octets), None);
    }
}
