//! A key as recordings name it: by number and algorithm. Its secret stays where it is, and whoever reads the recording has
//! another of the same shape in its place.

use std::sync::Arc;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Algorithm, Key, MAX_DIGEST_LEN};

/// What signs in place of a key that is not told: no secret.
const STAND_IN: [u8; MAX_DIGEST_LEN] = [0x55; MAX_DIGEST_LEN];

#[derive(Serialize, Deserialize)]
struct Named {
    id: u32,
    algorithm: Algorithm,
}

/// Writes which key it is.
///
/// # Errors
///
/// The writer's.
pub fn serialize<Z: Serializer>(key: &Option<Arc<Key>>, to: Z) -> Result<Z::Ok, Z::Error> {
    key.as_ref().map(|key| Named { id: key.id(), algorithm: key.algorithm() }).serialize(to)
}

/// A stand-in for the key that is named.
///
/// # Errors
///
/// The reader's.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Arc<Key>>, D::Error> {
    let Some(Named { id, algorithm }) = Option::deserialize(from)? else { return Ok(None) };
    let secret = STAND_IN.get(..algorithm.key_len().unwrap_or(STAND_IN.len())).unwrap_or(&STAND_IN);
    Key::new(id, algorithm, secret).map(|key| Some(Arc::new(key))).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Holder(#[serde(with = "super")] Option<Arc<Key>>);

    #[test]
    fn a_key_is_named_and_not_told() {
        for algorithm in Algorithm::ALL {
            let secret = b"a secret of thirty-two octets...";
            let secret = &secret[..algorithm.key_len().unwrap_or(secret.len())];
            let key = Arc::new(Key::new(7, algorithm, secret).unwrap());
            let written = serde_json::to_string(&Holder(Some(key.clone()))).unwrap();
            assert!(!written.contains("secret") && written.len() < 50, "{written}");
            let read = serde_json::from_str::<Holder>(&written).unwrap().0.unwrap();
            assert_eq!((read.id(), read.algorithm()), (7, algorithm));
            assert_ne!(read, key);
        }
        assert_eq!(serde_json::to_string(&Holder(None)).unwrap(), "null");
        assert!(serde_json::from_str::<Holder>("null").unwrap().0.is_none());
    }
}
