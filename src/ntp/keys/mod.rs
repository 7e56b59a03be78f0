//! Symmetric keys: message authentication codes of NTP packets (RFC 5905 section 7.3, RFC 8573).
//!
//! | module | what it is |
//! |---|---|
//! | here | keys, and the table of them that workers and associations read |
//! | [`file`](mod@file) | the key files of ntpd and chrony |
//! | [`mac`] | the algorithms |
//! | [`named`] | a key in a recording: by number and algorithm, without its secret |
//!
//! A secret is never shown: not in `Debug`, not in a message.

pub mod file;
pub mod mac;
pub mod named;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::extension::Authenticator;
pub use mac::{Algorithm, MAX_DIGEST_LEN};
use mac::{KeyLength, Prepared};

/// Octets of digest in an NTPv4 packet at most: a longer MAC would be taken for an extension field
/// (RFC 7822).
pub const V4_DIGEST_LEN: usize = 20;

/// Octets of a key ID.
pub const KEY_ID_LEN: usize = 4;

/// A symmetric key.
#[derive(Clone)]
pub struct Key {
    id: u32,
    secret: Box<[u8]>,
    prepared: Prepared,
    /// Who may use it; empty: anybody.
    addresses: Vec<IpNet>,
}

impl Key {
    /// A key. `id` is 1 to 2^32 - 1: nought means "no key" on the wire.
    ///
    /// # Errors
    ///
    /// If the algorithm wants another number of octets.
    pub fn new(id: u32, algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyLength> {
        let prepared = Prepared::new(algorithm, secret)?;
        Ok(Self { id, secret: secret.into(), prepared, addresses: Vec::new() })
    }

    /// The same, for these addresses only.
    #[must_use]
    pub fn only_for(self, addresses: Vec<IpNet>) -> Self {
        Self { addresses, ..self }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.prepared.algorithm()
    }

    /// May a packet from that address carry it?
    pub fn is_for(&self, address: IpAddr) -> bool {
        self.addresses.is_empty() || self.addresses.iter().any(|net| net.contains(&address.to_canonical()))
    }

    /// Octets of digest in a packet of that version: as chrony does, cut to 20 in version 4, whole in
    /// older ones.
    pub fn digest_len(&self, version: u8) -> usize {
        let whole = self.algorithm().digest_len();
        if version < 4 { whole } else { whole.min(V4_DIGEST_LEN) }
    }

    /// Is this the digest of these octets? It may be whole, or cut to 20 octets as ntpd does in every
    /// version. Takes as long for a wrong one as for the right one.
    pub fn verifies(&self, octets: &[u8], digest: &[u8]) -> bool {
        let whole = self.algorithm().digest_len();
        if digest.len() != whole && digest.len() != whole.min(V4_DIGEST_LEN) {
            return false;
        }
        let mut ours = [0; MAX_DIGEST_LEN];
        self.prepared.digest(octets, &mut ours);
        ours.get(..digest.len()).is_some_and(|ours| mac::equal(ours, digest))
    }

    /// Writes key ID and digest of `packet[..len]` behind it, the digest cut to `digest_len` octets.
    /// Returns the length of all; `None` if there is no room.
    pub fn sign(&self, packet: &mut [u8], len: usize, digest_len: usize) -> Option<usize> {
        let mut digest = [0; MAX_DIGEST_LEN];
        let whole = self.prepared.digest(packet.get(..len)?, &mut digest);
        let digest = digest.get(..digest_len.min(whole))?;
        let end = len + KEY_ID_LEN + digest.len();
        let (id, rest) = packet.get_mut(len..end)?.split_first_chunk_mut::<KEY_ID_LEN>()?;
        *id = self.id.to_be_bytes();
        rest.copy_from_slice(digest);
        Some(end)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {})", self.id, self.algorithm())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        (self.id, self.algorithm(), &self.addresses) == (other.id, other.algorithm(), &other.addresses)
            && mac::equal(&self.secret, &other.secret)
    }
}

impl Eq for Key {}

/// All keys there are, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyTable(Vec<Arc<Key>>);

/// What became of a packet's authenticator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// There is none.
    Unsigned,
    /// The right digest, by this key.
    Signed(&'a Arc<Key>),
    /// A key we do not have, or not for that address; a wrong digest; or the other side's own word that
    /// ours was wrong.
    Wrong,
}

impl KeyTable {
    /// A table of these keys. Of several with one number the last one stays.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Self {
        let mut table = Vec::<Arc<Key>>::new();
        for key in keys {
            match table.binary_search_by_key(&key.id, |k| k.id) {
                Ok(at) => table.splice(at..=at, [Arc::new(key)]).for_each(drop),
                Err(at) => table.insert(at, Arc::new(key)),
            }
        }
        Self(table)
    }

    /// The key of that number.
    pub fn get(&self, id: u32) -> Option<&Arc<Key>> {
        let at = self.0.binary_search_by_key(&id, |k| k.id).ok()?;
        self.0.get(at)
    }

    /// All keys, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Judges a packet's authenticator. `covered` is what stands before it.
    pub fn judge(&self, authenticator: Authenticator<'_>, covered: &[u8], from: IpAddr) -> Verdict<'_> {
        match authenticator {
            Authenticator::None => Verdict::Unsigned,
            Authenticator::CryptoNak => Verdict::Wrong,
            Authenticator::Mac { key, digest } => match self.get(key) {
                Some(key) if key.is_for(from) && key.verifies(covered, digest) => Verdict::Signed(key),
                _ => Verdict::Wrong,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANYBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn key(id: u32, algorithm: Algorithm) -> Key {
        let secret = match algorithm {
            Algorithm::Aes256Cmac => &b"0123456789abcdef0123456789abcdef"[..],
            _ => b"0123456789abcdef",
        };
        Key::new(id, algorithm, secret).unwrap()
    }

    #[test]
    fn what_is_signed_verifies_and_nothing_else_does() {
        for algorithm in Algorithm::ALL {
            let key = key(7, algorithm);
            let table = KeyTable::new([key.clone()]);
            for version in [3, 4] {
                let mut packet = [0x5a; 48 + 4 + MAX_DIGEST_LEN];
                let len = key.sign(&mut packet, 48, key.digest_len(version)).unwrap();
                assert!(version < 4 || len <= 48 + 24, "{algorithm} {version}");
                let judge = |packet: &[u8], id, from| {
                    let (covered, mac) = packet.split_at(48);
                    table.judge(Authenticator::Mac { key: id, digest: &mac[4..] }, covered, from)
                };
                assert!(matches!(judge(&packet[..len], 7, ANYBODY), Verdict::Signed(_)), "{algorithm}");
                assert_eq!(judge(&packet[..len], 8, ANYBODY), Verdict::Wrong);
                assert_eq!(judge(&packet[..len - 1], 7, ANYBODY), Verdict::Wrong);
                for at in [0, 47, 52, len - 1] {
                    let mut packet = packet;
                    packet[at] ^= 1;
                    assert_eq!(judge(&packet[..len], 7, ANYBODY), Verdict::Wrong, "{algorithm} octet {at}");
                }
            }
            assert_eq!(key.sign(&mut [0; 60], 48, 20), None, "no room");
        }
    }

    #[test]
    fn a_key_may_be_for_some_only() {
        let key = key(1, Algorithm::Sha1).only_for(vec!["192.0.2.0/24".parse().unwrap()]);
        assert!(key.is_for("192.0.2.9".parse().unwrap()) && key.is_for("::ffff:192.0.2.9".parse().unwrap()));
        assert!(!key.is_for(ANYBODY));
    }

    #[test]
    fn the_last_key_of_a_number_stays_and_secrets_are_not_shown() {
        let table = KeyTable::new([key(9, Algorithm::Md5), key(2, Algorithm::Md5), key(9, Algorithm::Aes128Cmac)]);
        assert_eq!(table.iter().map(|k| k.id()).collect::<Vec<_>>(), [2, 9]);
        assert_eq!(table.get(9).unwrap().algorithm(), Algorithm::Aes128Cmac);
        assert!(table.get(3).is_none());
        assert_eq!(format!("{:?}", table.get(9).unwrap()), "Key(9, AES128)");
    }
}
