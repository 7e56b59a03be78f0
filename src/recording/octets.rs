//! Octets in a recording: two hexadecimal digits each.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The digits.
pub fn to_digits(octets: &[u8]) -> String {
    use std::fmt::Write;
    let mut digits = String::with_capacity(2 * octets.len());
    for octet in octets {
        // A String takes all.
        let _ = write!(digits, "{octet:02x}");
    }
    digits
}

/// The octets that so many digits say. `None`: they are none.
pub fn from_digits(digits: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = digits.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    digits.filter(|digits| digits.len().is_multiple_of(2)).map(|digits| {
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |octet, digit| (octet << 4) | digit)).collect()
    })
}

/// Writes them, for `#[serde(with)]`.
///
/// # Errors
///
/// The writer's.
pub fn serialize<Z: Serializer>(octets: &[u8], to: Z) -> Result<Z::Ok, Z::Error> {
    to_digits(octets).serialize(to)
}

/// Reads them.
///
/// # Errors
///
/// The reader's; digits that are none.
pub fn deserialize<'de, D: Deserializer<'de>, O: TryFrom<Vec<u8>>>(from: D) -> Result<O, D::Error> {
    let digits = String::deserialize(from)?;
    let octets = from_digits(&digits).ok_or_else(|| D::Error::custom("its bytes are not hexadecimal digits"))?;
    O::try_from(octets).map_err(|_| D::Error::custom("it is of another length"))
}
