//! What a client sends, ready for the wire.

use crate::ntp::keys::{KEY_ID_LEN, Key, MAX_DIGEST_LEN};
use crate::ntp::packet::{HEADER_LEN, Header};

/// Octets of the longest request.
const MAX_REQUEST_LEN: usize = HEADER_LEN + KEY_ID_LEN + MAX_DIGEST_LEN;

/// A request to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    bytes: [u8; MAX_REQUEST_LEN],
    len: usize,
}

impl Request {
    /// That header, signed if there is a key.
    pub(super) fn new(header: &Header, key: Option<&Key>) -> Self {
        let mut bytes = [0; MAX_REQUEST_LEN];
        for (to, octet) in bytes.iter_mut().zip(header.to_octets()) {
            *to = octet;
        }
        let signed = key.and_then(|key| key.sign(&mut bytes, HEADER_LEN, key.digest_len(header.version)));
        Self { bytes, len: signed.unwrap_or(HEADER_LEN) }
    }

    /// Its octets.
    pub fn octets(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}
