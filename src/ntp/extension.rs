//! What may follow an NTP header: extension fields and a message authentication code (RFC 7822).
//!
//! Framing only: who holds the key of a MAC is the business of [`keys`](super::keys). This is the place
//! where NTS (RFC 8915) attaches.

/// The longest MAC without an extension field before it: 4 octets of key ID and 20 of digest.
/// A remainder of at most this many octets is a MAC, a longer one begins with an extension field.
const MAX_MAC_LEN: usize = 24;

/// Octets of the shortest extension field, its type and length included.
const MIN_FIELD_LEN: usize = 16;

/// Why the octets after a header make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    /// NTP is made of 32-bit words.
    #[error("{len} octets are not whole 32-bit words")]
    NotWords {
        /// Octets there are.
        len: usize,
    },
    /// An extension field of an impossible length.
    #[error("an extension field says that it has {said} octets; {left} are left")]
    FieldLength {
        /// What it says.
        said: usize,
        /// What there is.
        left: usize,
    },
}

/// Extension fields and MAC, split by the rules of RFC 7822 section 7.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tail<'a> {
    fields: &'a [u8],
    mac: &'a [u8],
}

/// What is to prove who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authenticator<'a> {
    /// There is none.
    None,
    /// The other side's word that our authenticator was wrong: a key ID of zero, and nothing else.
    CryptoNak,
    /// A message authentication code.
    Mac {
        /// Key ID.
        key: u32,
        /// Digest; of any length, also of one that no algorithm has.
        digest: &'a [u8],
    },
}

/// One extension field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionField<'a> {
    /// Field type (IANA registry "NTP Extension Field Types").
    pub kind: u16,
    /// Its value, padding included.
    pub value: &'a [u8],
}

impl<'a> Tail<'a> {
    /// Splits what follows the header of a packet of that version. Extension fields came with
    /// version 4; in older versions all of the tail is a MAC.
    ///
    /// # Errors
    ///
    /// Octets that are not whole words, and fields of impossible lengths.
    pub fn split(version: u8, octets: &'a [u8]) -> Result<Self, TailError> {
        if !octets.len().is_multiple_of(4) {
            return Err(TailError::NotWords { len: octets.len() });
        }
        if version < 4 {
            return Ok(Self { fields: &[], mac: octets });
        }
        let mut rest = octets;
        while rest.len() > MAX_MAC_LEN {
            (_, rest) = field_length(rest)?;
        }
        let (fields, mac) = octets.split_at(octets.len() - rest.len());
        Ok(Self { fields, mac })
    }

    /// The extension fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = ExtensionField<'a>> + use<'a> {
        let mut rest = self.fields;
        std::iter::from_fn(move || {
            let (length, after) = field_length(rest).ok()?;
            let (field, _) = rest.split_at_checked(length)?;
            rest = after;
            let ([a, b, _, _], value) = field.split_first_chunk::<4>()?;
            Some(ExtensionField { kind: u16::from_be_bytes([*a, *b]), value })
        })
    }

    /// Key ID and digest; empty if there is none. Four octets of zero are a crypto-NAK.
    pub fn mac(&self) -> &'a [u8] {
        self.mac
    }

    /// The same, understood. A MAC covers everything before it.
    pub fn authenticator(&self) -> Authenticator<'a> {
        match self.mac.split_first_chunk::<4>() {
            None => Authenticator::None,
            Some(([0, 0, 0, 0], [])) => Authenticator::CryptoNak,
            Some((key, digest)) => Authenticator::Mac { key: u32::from_be_bytes(*key), digest },
        }
    }
}

/// The length of the field that `octets` begin with, and what lies after it.
fn field_length(octets: &[u8]) -> Result<(usize, &[u8]), TailError> {
    let left = octets.len();
    let Some([_, _, high, low]) = octets.first_chunk::<4>() else {
        return Err(TailError::FieldLength { said: 0, left });
    };
    let said = usize::from(u16::from_be_bytes([*high, *low]));
    match octets.split_at_checked(said) {
        Some((_, after)) if said >= MIN_FIELD_LEN && said.is_multiple_of(4) => Ok((said, after)),
        _ => Err(TailError::FieldLength { said, left }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(kind: u16, length: u16) -> Vec<u8> {
        let mut octets = vec![0; usize::from(length)];
        octets[..2].copy_from_slice(&kind.to_be_bytes());
        octets[2..4].copy_from_slice(&length.to_be_bytes());
        octets
    }

    #[test]
    fn fields_and_mac_are_told_apart() {
        let octets = [field(0x0104, 36), field(0x0204, 104), vec![7; 20]].concat();
        let tail = Tail::split(4, &octets).unwrap();
        assert_eq!(tail.fields().map(|f| (f.kind, f.value.len())).collect::<Vec<_>>(), [(0x0104, 32), (0x0204, 100)]);
        assert_eq!(tail.mac(), [7; 20]);
    }

    #[test]
    fn a_short_remainder_is_a_mac() {
        for length in [0, 4, 20, 24] {
            let octets = vec![0; length];
            let tail = Tail::split(4, &octets).unwrap();
            assert_eq!((tail.fields().count(), tail.mac().len()), (0, length));
        }
    }

    #[test]
    fn what_proves_who_sent_it() {
        for (octets, expected) in [
            (vec![], Authenticator::None),
            (vec![0; 4], Authenticator::CryptoNak),
            (vec![0, 0, 0, 9], Authenticator::Mac { key: 9, digest: &[] }),
            (vec![1; 12], Authenticator::Mac { key: 0x0101_0101, digest: &[1; 8] }),
        ] {
            assert_eq!(Tail::split(4, &octets).unwrap().authenticator(), expected);
        }
        // In older versions a digest may be of any length.
        assert_eq!(
            Tail::split(3, &[2; 68]).unwrap().authenticator(),
            Authenticator::Mac { key: 0x0202_0202, digest: &[2; 64] }
        );
    }

    #[test]
    fn lengths_are_checked() {
        assert_eq!(Tail::split(4, &[0; 3]), Err(TailError::NotWords { len: 3 }));
        assert_eq!(Tail::split(4, &[0; 28]), Err(TailError::FieldLength { said: 0, left: 28 }));
        let mut beyond = field(1, 28);
        beyond[3] = 32;
        assert_eq!(Tail::split(4, &beyond), Err(TailError::FieldLength { said: 32, left: 28 }));
        // Two fields of which the last is too short to end a packet could be a MAC instead: it is one.
        let tail = [field(1, 28), field(2, 16)].concat();
        assert_eq!(Tail::split(4, &tail).unwrap().mac().len(), 16);
    }

    #[test]
    fn older_versions_have_a_mac_only() {
        let octets = field(1, 40);
        assert_eq!(Tail::split(3, &octets).unwrap().mac().len(), 40);
    }

    proptest! {
        #[test]
        fn fields_and_mac_cover_the_tail(version in 0u8..8, octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(tail) = Tail::split(version, &octets) {
                let fields: usize = tail.fields().map(|f| f.value.len() + 4).sum();
                prop_assert_eq!(fields + tail.mac().len(), octets.len());
            }
        }

        #[test]
        fn well_formed_fields_are_all_found(lengths in proptest::collection::vec(7u16..40, 1..6)) {
            let octets: Vec<u8> = lengths.iter().flat_map(|words| field(9, words * 4)).collect();
            let tail = Tail::split(4, &octets).unwrap();
            prop_assert_eq!(tail.fields().count(), lengths.len());
            prop_assert!(tail.mac().is_empty());
        }
    }
}
