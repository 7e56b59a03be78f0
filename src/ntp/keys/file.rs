//! The key files of ntpd (`ntp.keys`) and of chrony (`chrony.keys`): one key a line.
//!
//! They look alike and differ where it hurts: a bare key of more than 20 characters is hexadecimal to
//! ntpd and text to chrony, and a `#` ends a line of ntpd's anywhere. Which of the two a file is has to
//! be known; it is never guessed.

use std::fmt;

use ipnet::IpNet;

use super::mac::{Algorithm, KeyLength};
use super::{Key, KeyTable};

/// Whose file it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `ID [TYPE] KEY`, where KEY is text, `ASCII:` text or `HEX:` octets.
    #[default]
    Chrony,
    /// `ID TYPE KEY [addresses]`, where KEY is up to 20 characters of text or more of hexadecimal.
    Ntp,
}

/// A secret of fewer bits than this can be guessed.
const WEAK_BITS: usize = 80;

/// ntpd takes up to so many characters as text.
const NTP_TEXT_LEN: usize = 20;

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not as many words as it takes.
    #[error("a key is {0}")]
    Shape(&'static str),
    /// Not a key number.
    #[error("the key's number is not from 1 to {0}")]
    Number(u32),
    /// An algorithm we do not have.
    #[error("its type is none of MD5, SHA1, SHA256, SHA384, SHA512, AES128 and AES256")]
    Type,
    /// Not hexadecimal octets.
    #[error("its key is not pairs of hexadecimal digits")]
    NotHex,
    /// The algorithm wants another length.
    #[error("{0}")]
    Length(#[from] KeyLength),
    /// Not a list of addresses.
    #[error("its list of addresses cannot be read")]
    Addresses,
    /// The number was used before.
    #[error("another line above has the same number; this one counts")]
    Twice,
    /// A key that can be guessed.
    #[error("its key has {0} bits only; one of 128 cannot be guessed")]
    Weak(usize),
}

impl Problem {
    /// Is the key there all the same?
    pub fn is_harmless(self) -> bool {
        matches!(self, Self::Twice | Self::Weak(_))
    }
}

/// A problem and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left_out = if self.problem.is_harmless() { "" } else { "; the line is left out" };
        write!(f, "line {}: {}{left_out}", self.line, self.problem)
    }
}

/// Reads a key file. Lines that cannot be read are left out, and told.
pub fn parse(text: &str, dialect: Dialect) -> (KeyTable, Vec<Found>) {
    let mut keys: Vec<Key> = Vec::new();
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = match dialect {
            Dialect::Ntp => line.split('#').next().unwrap_or_default(),
            Dialect::Chrony if line.trim_start().starts_with(['#', '!', ';', '%']) => "",
            Dialect::Chrony => line,
        };
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        let mut tell = |problem| found.push(Found { line: number + 1, problem });
        let read = match dialect {
            Dialect::Chrony => chrony_key(&words),
            Dialect::Ntp => ntp_key(&words),
        };
        match read {
            Ok((key, bits)) => {
                if bits < WEAK_BITS {
                    tell(Problem::Weak(bits));
                }
                if keys.iter().any(|other| other.id() == key.id()) {
                    tell(Problem::Twice);
                }
                keys.push(key);
            }
            Err(problem) => tell(problem),
        }
    }
    (KeyTable::new(keys), found)
}

/// The key, and how many bits its secret has.
fn chrony_key(words: &[&str]) -> Result<(Key, usize), Problem> {
    let (id, kind, secret) = match *words {
        [id, secret] => (id, Algorithm::Md5, secret),
        [id, kind, secret] => (id, algorithm(kind).ok_or(Problem::Type)?, secret),
        _ => return Err(Problem::Shape("a number, a type if it is not MD5, and a key")),
    };
    let id = number(id, u32::MAX)?;
    let secret = match (prefixed(secret, "HEX:"), prefixed(secret, "ASCII:")) {
        (Some(digits), _) => octets(digits)?,
        (None, Some(text)) => text.as_bytes().to_vec(),
        (None, None) => secret.as_bytes().to_vec(),
    };
    Ok((Key::new(id, kind, &secret)?, secret.len() * 8))
}

fn ntp_key(words: &[&str]) -> Result<(Key, usize), Problem> {
    let (id, kind, secret, addresses) = match *words {
        [id, kind, secret] => (id, kind, secret, None),
        [id, kind, secret, addresses] => (id, kind, secret, Some(addresses)),
        _ => return Err(Problem::Shape("a number, a type and a key")),
    };
    let id = number(id, u32::from(u16::MAX))?;
    let kind = algorithm(kind).ok_or(Problem::Type)?;
    let secret = if secret.len() <= NTP_TEXT_LEN { secret.as_bytes().to_vec() } else { octets(secret)? };
    let addresses = addresses.map_or(Ok(Vec::new()), networks)?;
    Ok((Key::new(id, kind, &secret)?.only_for(addresses), secret.len() * 8))
}

fn number(text: &str, max: u32) -> Result<u32, Problem> {
    text.parse().ok().filter(|n| (1..=max).contains(n)).ok_or(Problem::Number(max))
}

/// What follows a prefix, in whatever case it is written.
fn prefixed<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn octets(digits: &str) -> Result<Vec<u8>, Problem> {
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return Err(Problem::NotHex);
    }
    let nibble = |c: &u8| char::from(*c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(nibble(high)? << 4 | nibble(low)?),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(pair).collect::<Option<_>>().ok_or(Problem::NotHex)
}

fn networks(list: &str) -> Result<Vec<IpNet>, Problem> {
    let one = |text: &str| text.parse().ok().or_else(|| Some(IpNet::from(text.parse::<std::net::IpAddr>().ok()?)));
    list.split(',').map(one).collect::<Option<_>>().ok_or(Problem::Addresses)
}

/// The names that ntpd, NTPsec and chrony have for the algorithms, in any case.
fn algorithm(name: &str) -> Option<Algorithm> {
    let name: String = name.chars().filter(|c| *c != '-').map(|c| c.to_ascii_uppercase()).collect();
    Some(match name.as_str() {
        "M" | "MD5" => Algorithm::Md5,
        "SHA" | "SHA1" => Algorithm::Sha1,
        "SHA256" => Algorithm::Sha256,
        "SHA384" => Algorithm::Sha384,
        "SHA512" => Algorithm::Sha512,
        "AES" | "AES128" | "AES128CMAC" => Algorithm::Aes128Cmac,
        "AES256" | "AES256CMAC" => Algorithm::Aes256Cmac,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Keys = Vec<(u32, Algorithm)>;
    type Problems = Vec<(usize, Problem)>;

    fn read(text: &str, dialect: Dialect) -> (Keys, Problems) {
        let (table, found) = parse(text, dialect);
        let keys = table.iter().map(|k| (k.id(), k.algorithm())).collect();
        (keys, found.into_iter().map(|f| (f.line, f.problem)).collect())
    }

    fn same(a: (&str, Dialect), b: (&str, Dialect)) -> bool {
        parse(a.0, a.1).0 == parse(b.0, b.1).0
    }

    #[test]
    fn chronys_lines() {
        let text = "# comment\n! comment\n;\n% x\n\n1 tulipsandroses\n2 MD5 ASCII:tulipsandroses\r\n\
            10 SHA1 HEX:2E0A7F7D6C5B4A3928170605040302010F0E0D0C\n30 AES128 HEX:00112233445566778899aabbccddeeff\n\
            40 aes256 ASCII:0123456789abcdef0123456789abcdef\n4294967295 SHA512 longenough\n";
        let (keys, found) = read(text, Dialect::Chrony);
        assert_eq!(
            keys,
            [
                (1, Algorithm::Md5),
                (2, Algorithm::Md5),
                (10, Algorithm::Sha1),
                (30, Algorithm::Aes128Cmac),
                (40, Algorithm::Aes256Cmac),
                (u32::MAX, Algorithm::Sha512),
            ]
        );
        assert_eq!(found, []);
        assert!(same(("5 secretsecret", Dialect::Chrony), ("5 MD5 ASCII:secretsecret", Dialect::Chrony)));
        // A trailing comment is an argument, and `#` may be part of a key.
        assert_eq!(
            read("1 MD5 key # mine", Dialect::Chrony).1[0].1,
            Problem::Shape("a number, a type if it is not MD5, and a key")
        );
        assert!(same(("1 MD5 HEX:2361626364656667686970", Dialect::Chrony), ("1 MD5 #abcdefghip", Dialect::Chrony)));
    }

    #[test]
    fn ntpds_lines() {
        let text = "# comment\n1 M tulipsandroses # mine\n2 MD5 tulipsandroses#glued\n\
            10 SHA1 2E0A7F7D6C5B4A3928170605040302010F0E0D0C\n11 AES-128-CMAC 00112233445566778899aabbccddeeff\n\
            12 AES 0123456789abcdef 192.0.2.1,2001:db8::/32\n";
        let (keys, found) = read(text, Dialect::Ntp);
        assert_eq!(
            keys,
            [
                (1, Algorithm::Md5),
                (2, Algorithm::Md5),
                (10, Algorithm::Sha1),
                (11, Algorithm::Aes128Cmac),
                (12, Algorithm::Aes128Cmac),
            ]
        );
        assert_eq!(found, []);
        let key = parse(text, Dialect::Ntp).0.get(12).unwrap().clone();
        assert!(key.is_for("192.0.2.1".parse().unwrap()) && !key.is_for("192.0.2.2".parse().unwrap()));
    }

    #[test]
    fn a_long_bare_key_is_not_the_same_to_both() {
        let line = "7 SHA1 2E0A7F7D6C5B4A3928170605040302010F0E0D0C";
        assert!(!same((line, Dialect::Ntp), (line, Dialect::Chrony)));
        let hex = "7 SHA1 HEX:2E0A7F7D6C5B4A3928170605040302010F0E0D0C";
        assert!(same((line, Dialect::Ntp), (hex, Dialect::Chrony)));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        use Dialect::{Chrony, Ntp};
        let aes = |found| Problem::Length(KeyLength { algorithm: Algorithm::Aes128Cmac, wanted: 16, found });
        for (text, dialect, problem, kept) in [
            ("0 MD5 abcdefghijkl", Chrony, Problem::Number(u32::MAX), 0),
            ("65536 MD5 abcdefghijkl", Ntp, Problem::Number(65535), 0),
            ("x MD5 abcdefghijkl", Ntp, Problem::Number(65535), 0),
            ("1 abcdefghijkl", Ntp, Problem::Shape("a number, a type and a key"), 0),
            ("1 S 0123456789abcdef", Ntp, Problem::Type, 0),
            ("1 TIGER abcdefghijkl", Chrony, Problem::Type, 0),
            ("1 MD5 HEX:abc", Chrony, Problem::NotHex, 0),
            ("1 MD5 HEX:", Chrony, Problem::NotHex, 0),
            ("1 MD5 this_is_longer_than_20_x", Ntp, Problem::NotHex, 0),
            ("1 AES128 HEX:0011", Chrony, aes(2), 0),
            ("1 AES short", Ntp, aes(5), 0),
            ("1 MD5 abcdefghijkl 10.0.0.0/8,x", Ntp, Problem::Addresses, 0),
            ("1 MD5 short", Ntp, Problem::Weak(40), 1),
            ("1 abcdefghijkl\n1 bcdefghijklm", Chrony, Problem::Twice, 1),
        ] {
            let (keys, found) = read(text, dialect);
            assert_eq!((keys.len(), found.last().map(|f| f.1)), (kept, Some(problem)), "{text}");
        }
        let said = parse("\n1 MD5 x_secret_x 1 2 3", Dialect::Ntp).1[0].to_string();
        assert_eq!(said, "line 2: a key is a number, a type and a key; the line is left out");
    }
}
