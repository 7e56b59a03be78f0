//! The algorithms: keyed digests as NTP has used them since version 3, and AES-CMAC (RFC 8573).

use std::fmt;

use aes::{Aes128, Aes256};
use cmac::digest::KeyInit;
use cmac::{Cmac, Mac};
use ctutils::CtEq;
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// Octets of the longest digest.
pub const MAX_DIGEST_LEN: usize = 64;

/// How a digest is made. The keyed digests are that of the key followed by the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// MD5: broken as a hash, and what old servers speak.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// AES-CMAC with a key of 128 bits: what RFC 8573 wants.
    Aes128Cmac,
    /// AES-CMAC with a key of 256 bits.
    Aes256Cmac,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512, Self::Aes128Cmac, Self::Aes256Cmac];

    /// Octets of its digest.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Md5 | Self::Aes128Cmac | Self::Aes256Cmac => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Octets of its key, if they are not for the operator to choose.
    pub const fn key_len(self) -> Option<usize> {
        match self {
            Self::Aes128Cmac => Some(16),
            Self::Aes256Cmac => Some(32),
            _ => None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha384 => "SHA384",
            Self::Sha512 => "SHA512",
            Self::Aes128Cmac => "AES128",
            Self::Aes256Cmac => "AES256",
        })
    }
}

/// A secret of the wrong length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key for {algorithm} has {wanted} octets; this one has {found}")]
pub struct KeyLength {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Octets it wants.
    pub wanted: usize,
    /// Octets there are.
    pub found: usize,
}

/// An algorithm that has taken in its key already: each packet costs only its own octets.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "few, behind an Arc each; a box would be one more cache line")]
pub(super) enum Prepared {
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
    Aes128Cmac(Cmac<Aes128>),
    Aes256Cmac(Cmac<Aes256>),
}

impl Prepared {
    pub(super) fn new(algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyLength> {
        let wrong =
            || KeyLength { algorithm, wanted: algorithm.key_len().unwrap_or(secret.len()), found: secret.len() };
        Ok(match algorithm {
            Algorithm::Md5 => Self::Md5(Md5::new_with_prefix(secret)),
            Algorithm::Sha1 => Self::Sha1(Sha1::new_with_prefix(secret)),
            Algorithm::Sha256 => Self::Sha256(Sha256::new_with_prefix(secret)),
            Algorithm::Sha384 => Self::Sha384(Sha384::new_with_prefix(secret)),
            Algorithm::Sha512 => Self::Sha512(Sha512::new_with_prefix(secret)),
            Algorithm::Aes128Cmac => Self::Aes128Cmac(Cmac::new_from_slice(secret).map_err(|_| wrong())?),
            Algorithm::Aes256Cmac => Self::Aes256Cmac(Cmac::new_from_slice(secret).map_err(|_| wrong())?),
        })
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Md5(_) => Algorithm::Md5,
            Self::Sha1(_) => Algorithm::Sha1,
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha384(_) => Algorithm::Sha384,
            Self::Sha512(_) => Algorithm::Sha512,
            Self::Aes128Cmac(_) => Algorithm::Aes128Cmac,
            Self::Aes256Cmac(_) => Algorithm::Aes256Cmac,
        }
    }

    /// Writes the whole digest of `octets`. Returns its length.
    pub(super) fn digest(&self, octets: &[u8], to: &mut [u8; MAX_DIGEST_LEN]) -> usize {
        match self {
            Self::Md5(keyed) => keep(&keyed.clone().chain_update(octets).finalize(), to),
            Self::Sha1(keyed) => keep(&keyed.clone().chain_update(octets).finalize(), to),
            Self::Sha256(keyed) => keep(&keyed.clone().chain_update(octets).finalize(), to),
            Self::Sha384(keyed) => keep(&keyed.clone().chain_update(octets).finalize(), to),
            Self::Sha512(keyed) => keep(&keyed.clone().chain_update(octets).finalize(), to),
            Self::Aes128Cmac(keyed) => keep(&keyed.clone().chain_update(octets).finalize().into_bytes(), to),
            Self::Aes256Cmac(keyed) => keep(&keyed.clone().chain_update(octets).finalize().into_bytes(), to),
        }
    }
}

fn keep(digest: &[u8], to: &mut [u8; MAX_DIGEST_LEN]) -> usize {
    for (to, octet) in to.iter_mut().zip(digest) {
        *to = *octet;
    }
    digest.len()
}

/// Are they the same octets? How long it takes says nothing of where they differ.
pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).to_bool()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    fn digest(algorithm: Algorithm, secret: &[u8], octets: &[u8]) -> Vec<u8> {
        let mut to = [0; MAX_DIGEST_LEN];
        let len = Prepared::new(algorithm, secret).unwrap().digest(octets, &mut to);
        assert_eq!(len, algorithm.digest_len());
        to[..len].to_vec()
    }

    #[test]
    fn cmac_is_that_of_rfc_4493_and_sp_800_38b() {
        let key = hex("2b7e151628aed2a6abf7158809cf4f3c");
        let message = hex("6bc1bee22e409f96e93d7e117393172a");
        assert_eq!(digest(Algorithm::Aes128Cmac, &key, &message), hex("070a16b46b4d4144f79bdd9dd04a287c"));
        assert_eq!(digest(Algorithm::Aes128Cmac, &key, &[]), hex("bb1d6929e95937287fa37d129b756746"));
        let key = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        assert_eq!(digest(Algorithm::Aes256Cmac, &key, &message), hex("28a7023f452e8f82bd4bf28d8c37c35c"));
    }

    #[test]
    fn keyed_digests_are_those_of_key_and_packet() {
        // printf 'secretpacket' | md5sum, sha1sum, sha256sum
        for (algorithm, expected) in [
            (Algorithm::Md5, "2b45f1acb7426b808208b37cbb08ec34"),
            (Algorithm::Sha1, "68f7c8ffbbdfc1d91bb299a6b0973ef7b19c7b4f"),
            (Algorithm::Sha256, "c1ce55aae1ebc69174a9773d6f21a0958f220ab6f9223945270360697621dc30"),
            (
                Algorithm::Sha384,
                "71b543baae643d66ebc8e4177e5f1774b9d0d4f21495f46d7061abd88e762f1307d8553fa66fd1d62177b8d6ab76d1fc",
            ),
            (
                Algorithm::Sha512,
                "bb5341e7da8863192e8989d1911f812a83f49b2785d2e84aa84439be5e066645c8be36df0d81e8d4fad59eb1b69ee877d59766d7d0a3b0d71f791cf2eae3753b",
            ),
        ] {
            assert_eq!(digest(algorithm, b"secret", b"packet"), hex(expected), "{algorithm}");
        }
    }

    #[test]
    fn aes_keys_have_one_length() {
        let error = Prepared::new(Algorithm::Aes128Cmac, b"short").err().unwrap();
        assert_eq!(error.to_string(), "a key for AES128 has 16 octets; this one has 5");
        assert!(Prepared::new(Algorithm::Aes256Cmac, &[0; 16]).is_err());
    }
}
