//! What every packet of a server or peer is held against before its timestamps are looked at.

use refclocks::LeapIndicator;

use super::rejection::{KissCode, Rejected};
use crate::ntp::extension::{Authenticator, Tail};
use crate::ntp::keys::Key;
use crate::ntp::packet::{Header, NtpShort};

/// A server further from its reference than this is useless (RFC 5905: MAXDISP), s.
const MAX_ROOT_DISTANCE: f64 = 16.0;

/// Is it signed by our key, if we have one?
///
/// # Errors
///
/// [`Rejected::NotSigned`] and [`Rejected::CryptoNak`].
pub(super) fn is_signed(key: Option<&Key>, octets: &[u8], tail: &Tail<'_>) -> Result<(), Rejected> {
    let Some(key) = key else { return Ok(()) };
    let covered = octets.get(..octets.len() - tail.mac().len()).unwrap_or_default();
    match tail.authenticator() {
        Authenticator::Mac { key: id, digest } if id == key.id() && key.verifies(covered, digest) => Ok(()),
        // Whoever is on the path can say so: the right reply may still come.
        Authenticator::CryptoNak => Err(Rejected::CryptoNak { key: key.id() }),
        _ => Err(Rejected::NotSigned { key: key.id() }),
    }
}

/// The kiss code, if the packet is one that asks something of us.
pub(super) fn kiss_of(header: &Header) -> Option<KissCode> {
    (header.stratum == 0).then(|| KissCode::from_refid(header.refid)).flatten()
}

/// Does its sender have the time, by what it says itself?
///
/// # Errors
///
/// [`Rejected::Unsynchronised`] and [`Rejected::RootDistance`].
pub(super) fn is_vouched_for(header: &Header) -> Result<(), Rejected> {
    if header.leap == LeapIndicator::Unsynchronised || !(1..=15).contains(&header.stratum) {
        let Header { leap, stratum, refid, .. } = *header;
        return Err(Rejected::Unsynchronised { leap, stratum, refid });
    }
    let distance_s = header.root_delay.seconds() / 2.0 + header.root_dispersion.seconds();
    if distance_s >= MAX_ROOT_DISTANCE || header.root_delay == NtpShort::MAX {
        return Err(Rejected::RootDistance { distance_s });
    }
    Ok(())
}
