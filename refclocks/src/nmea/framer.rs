//! Finds sentences in a stream of bytes and tells when each began.

use crate::time::{Raw, Span, Timestamp};

/// Longest sentence we keep: the book says 82, real receivers send a bit over 100.
const LONGEST: usize = 255;

/// One sentence, from `$` up to but not including the line's end.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// When its first byte came.
    pub at: Timestamp<Raw>,
    /// The bytes, `$` included.
    pub bytes: Vec<u8>,
}

/// The framer.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    /// Seconds a byte takes on the line; zero where bytes come at once.
    byte_time: f64,
    at: Option<Timestamp<Raw>>,
    bytes: Vec<u8>,
    comment: bool,
    line_start: bool,
    garbage: u64,
}

impl Framer {
    /// A framer for a line of so many bit/s; `None` where the line has no speed of its own.
    pub fn new(baud: Option<u32>) -> Self {
        let byte_time = baud.filter(|b| *b > 0).map_or(0.0, |b| 10.0 / f64::from(b));
        Self { byte_time, line_start: true, ..Self::default() }
    }

    /// Bytes that belonged to no sentence.
    pub fn garbage(&self) -> u64 {
        self.garbage
    }

    /// Takes the bytes of one read, whose last byte came at `arrived`.
    pub fn push(&mut self, bytes: &[u8], arrived: Timestamp<Raw>, mut found: impl FnMut(Frame)) {
        let total = bytes.len();
        for (i, &byte) in bytes.iter().enumerate() {
            let line_start = std::mem::replace(&mut self.line_start, matches!(byte, b'\n' | b'\r'));
            if self.comment {
                // A capture's own remark, up to the end of its line.
                self.comment = byte != b'\n';
                continue;
            }
            match byte {
                b'#' if line_start && self.at.is_none() => self.comment = true,
                // Also inside a sentence: another packet cut into it, and this one is whole.
                b'$' => {
                    self.garbage += self.bytes.len() as u64;
                    self.bytes.clear();
                    self.bytes.push(byte);
                    // The bytes of a read came back to back, the last just now; more than a second
                    // of them came at once from some buffer, and tell nothing.
                    let behind = ((total - i) as f64 * self.byte_time).min(1.0);
                    self.at = Some(arrived - Span::from_seconds(behind));
                }
                b'\r' | b'\n' => {
                    if let Some(at) = self.at.take() {
                        found(Frame { at, bytes: std::mem::take(&mut self.bytes) });
                    }
                }
                0x20..=0x7e if self.at.is_some() && self.bytes.len() < LONGEST => self.bytes.push(byte),
                _ => {
                    self.garbage += 1 + self.bytes.len() as u64;
                    self.bytes.clear();
                    self.at = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: i64) -> Timestamp<Raw> {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    fn frames(framer: &mut Framer, bytes: &[u8], ms: i64) -> Vec<(i64, String)> {
        let mut found = Vec::new();
        framer.push(bytes, at(ms), |f| found.push((f.at.to_nanos() / 1_000_000, String::from_utf8(f.bytes).unwrap())));
        found
    }

    #[test]
    fn the_first_byte_is_stamped() {
        let mut framer = Framer::new(Some(9600));
        assert_eq!(frames(&mut framer, b"$GP", 1000), []);
        assert_eq!(frames(&mut framer, b"RMC\r\n", 1100), [(996, "$GPRMC".to_owned())]);
        assert_eq!(frames(&mut Framer::new(None), b"$A\n$B\n", 7), [(7, "$A".to_owned()), (7, "$B".to_owned())]);
    }

    #[test]
    fn comments_binary_and_cut_sentences_are_left_out() {
        let mut framer = Framer::new(None);
        let stream = b"# $remark\n\xb5\x62\x01$GPRMC,12$GPGGA,1\r\nnoise\r\n$PTNTA\n";
        let found: Vec<String> = frames(&mut framer, stream, 0).into_iter().map(|f| f.1).collect();
        assert_eq!(found, ["$GPGGA,1", "$PTNTA"]);
        assert!(framer.garbage() > 10);
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(bytes in proptest::collection::vec(prop_oneof![Just(b'$'), Just(b'\n'), any::<u8>()], 0..400), cut in 0usize..400) {
            let cut = cut.min(bytes.len());
            let mut whole = Vec::new();
            Framer::new(None).push(&bytes, at(0), |f| whole.push(f));
            let mut parts = Vec::new();
            let mut framer = Framer::new(None);
            framer.push(&bytes[..cut], at(0), |f| parts.push(f));
            framer.push(&bytes[cut..], at(0), |f| parts.push(f));
            prop_assert_eq!(whole, parts);
        }
    }
}
