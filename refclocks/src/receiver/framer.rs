//! Finds frames in a receiver's bytes, whatever languages it mixes on one line, and tells when each began.
//!
//! NMEA sentences and UBX messages are given; RTCM 3 messages are stepped over; the rest is garbage. A
//! binary frame whose length was damaged would swallow what follows: a whole frame with the right
//! checksum inside an unfinished one shows that the outer one is damaged. So a frame is found as soon as
//! its last byte is there, and how the bytes were cut into reads makes no difference.

use std::collections::VecDeque;

use crate::nmea;
use crate::time::{Raw, Span, Timestamp};
use crate::ubx;

/// Longest sentence we keep: the book says 82, real receivers send a bit over 100.
const LONGEST: usize = 255;
/// Longest line of a capture that is taken for a remark.
const LONGEST_REMARK: usize = 4096;

/// A frame found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame<'a> {
    /// When its first byte came.
    pub at: Timestamp<Raw>,
    /// How many bytes came before it.
    pub offset: u64,
    /// What it is.
    pub content: Content<'a>,
}

/// Whose language a frame is in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Content<'a> {
    /// A sentence, from `$` up to but not including the line's end. Its checksum is not looked at.
    Nmea(&'a [u8]),
    /// A message whose checksum is right.
    Ubx(ubx::Frame<'a>),
}

/// The framer.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    /// Seconds a byte takes on the line; zero where bytes come at once.
    byte_time: f64,
    /// Drop a capture's own remarks: lines that begin with `#`.
    remarks: bool,
    /// What is not settled yet, and the offset of its first byte in the stream.
    buffer: Vec<u8>,
    start: u64,
    /// Is its first byte the first of a line?
    line_start: bool,
    /// Where each read that the buffer has bytes of ended, and when it came.
    reads: VecDeque<(u64, Timestamp<Raw>)>,
    garbage: u64,
}

/// What the bytes at some place are the beginning of.
enum Found {
    /// Nothing.
    Garbage,
    /// A frame whose end has not come.
    Unfinished,
    /// A frame that claims so many bytes, for good or not.
    Claim { length: usize, good: bool },
    /// A sentence of so many bytes, which its end followed.
    Sentence { length: usize },
    /// A capture's remark, line end included.
    Remark { length: usize },
}

impl Framer {
    /// A framer for a line of so many bit/s; `None` where the line has no speed of its own.
    pub fn new(baud: Option<u32>) -> Self {
        let byte_time = baud.filter(|b| *b > 0).map_or(0.0, |b| 10.0 / f64::from(b));
        Self { byte_time, line_start: true, ..Self::default() }
    }

    /// For a capture, which may have remarks of its own: lines that begin with `#`.
    pub fn dropping_remarks(self) -> Self {
        Self { remarks: true, ..self }
    }

    /// Begins anew, on a line of so many bit/s.
    pub fn restart(&mut self, baud: Option<u32>) {
        *self = Self { remarks: self.remarks, ..Self::new(baud) };
    }

    /// Bytes that belonged to no frame.
    pub fn garbage(&self) -> u64 {
        self.garbage
    }

    /// Takes the bytes of one read, whose last byte came at `arrived`.
    pub fn push(&mut self, bytes: &[u8], arrived: Timestamp<Raw>, mut found: impl FnMut(Frame<'_>)) {
        self.buffer.extend_from_slice(bytes);
        self.reads.push_back((self.start + self.buffer.len() as u64, arrived));
        let mut at = 0;
        while at < self.buffer.len() {
            let rest = self.buffer.get(at..).unwrap_or_default();
            let line_start = at.checked_sub(1).map_or(self.line_start, |i| self.buffer.get(i) == Some(&b'\n'));
            let begins = self.begins(rest, line_start);
            // Wherever a frame claims bytes, another that ends before it does comes first.
            let claimed = match begins {
                Found::Claim { length, .. } => length,
                Found::Unfinished if !matches!(rest.first(), Some(b'$' | b'#')) => rest.len() + 1,
                _ => 0,
            };
            let step = match inner(rest, claimed) {
                Some(inner) => {
                    self.garbage += inner as u64;
                    inner
                }
                None => match begins {
                    Found::Unfinished => break,
                    Found::Garbage | Found::Claim { good: false, .. } => {
                        self.garbage += u64::from(!matches!(rest.first(), Some(b'\r' | b'\n')));
                        1
                    }
                    Found::Remark { length } => length,
                    Found::Claim { length, good: true } | Found::Sentence { length } => {
                        let frame = rest.get(..length).unwrap_or_default();
                        let content = match rest.first() {
                            Some(b'$') => Some(Content::Nmea(frame)),
                            _ => ubx::Frame::from_bytes(frame).map(Content::Ubx),
                        };
                        if let Some(content) = content {
                            let offset = self.start + at as u64;
                            found(Frame { at: self.stamp(offset), offset, content });
                        }
                        length
                    }
                },
            };
            at += step;
        }
        if let Some(last) = at.checked_sub(1).and_then(|i| self.buffer.get(i)) {
            self.line_start = *last == b'\n';
        }
        self.buffer.drain(..at);
        self.start += at as u64;
        // A read is of use while the buffer has bytes of it.
        let old = self.reads.iter().take_while(|(end, _)| *end <= self.start).count();
        self.reads.drain(..old);
    }

    /// When the byte at an offset came: the bytes of a read came back to back, the last just then. More
    /// than a second of them came at once from some buffer, and tell nothing.
    fn stamp(&self, offset: u64) -> Timestamp<Raw> {
        let read = self.reads.iter().find(|(end, _)| *end > offset);
        read.map_or(Timestamp::EPOCH, |(end, arrived)| {
            *arrived - Span::from_seconds(((end - offset) as f64 * self.byte_time).min(1.0))
        })
    }

    fn begins(&self, bytes: &[u8], line_start: bool) -> Found {
        match bytes.first() {
            Some(b'#') if self.remarks && line_start => remark(bytes),
            Some(b'$') => sentence(bytes),
            Some(&ubx::SYNC_1) => message(bytes),
            Some(&RTCM3) => correction(bytes),
            _ => Found::Garbage,
        }
    }
}

/// Where the frame with the right checksum begins that ends first, before the `claimed` bytes do.
fn inner(bytes: &[u8], claimed: usize) -> Option<usize> {
    let mut first: Option<(usize, usize)> = None;
    let within = bytes.get(..claimed.min(bytes.len())).unwrap_or_default();
    for (at, byte) in within.iter().enumerate().skip(1) {
        // A sentence is whole only when the byte behind it has come.
        let (rest, behind) = match byte {
            b'$' => (within.get(at..).unwrap_or_default(), 1),
            &ubx::SYNC_1 => (within.get(at..).unwrap_or_default(), 0),
            _ => continue,
        };
        let length = match if behind == 1 { sentence(rest) } else { message(rest) } {
            Found::Sentence { length } if rest.get(..length).is_some_and(nmea::has_good_checksum) => length,
            Found::Claim { length, good: true } => length,
            _ => continue,
        };
        let end = at + length + behind;
        if end < claimed && first.is_none_or(|(_, other)| end < other) {
            first = Some((at, end));
        }
    }
    first.map(|(at, _)| at)
}

/// A sentence ends at the line's end, or with its checksum where something else follows at once. Another
/// packet that cuts into it ends it without.
fn sentence(bytes: &[u8]) -> Found {
    for (i, byte) in bytes.iter().enumerate().skip(1) {
        let ended = || matches!(i.checked_sub(3).and_then(|star| bytes.get(star)), Some(b'*'));
        match byte {
            b'\r' | b'\n' => return Found::Sentence { length: i },
            0x20..=0x7e if *byte != b'$' && i < LONGEST => {}
            _ if ended() => return Found::Sentence { length: i },
            _ => return Found::Garbage,
        }
    }
    Found::Unfinished
}

fn message(bytes: &[u8]) -> Found {
    match bytes {
        [_, second, ..] if *second != ubx::SYNC_2 => Found::Garbage,
        [_, _, _, _, low, high, ..] => {
            let length = usize::from(u16::from_le_bytes([*low, *high]));
            if length > ubx::LONGEST {
                return Found::Garbage;
            }
            let length = length + ubx::OVERHEAD;
            match bytes.get(..length) {
                Some(frame) => Found::Claim { length, good: ubx::Frame::from_bytes(frame).is_some() },
                None => Found::Unfinished,
            }
        }
        _ => Found::Unfinished,
    }
}

/// The first byte of an RTCM 3 message: then six zero bits, ten of length, and a CRC behind the payload.
const RTCM3: u8 = 0xd3;

fn correction(bytes: &[u8]) -> Found {
    match bytes {
        [_, high, ..] if high & 0xfc != 0 => Found::Garbage,
        [_, high, low, ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low])) + 6;
            match bytes.get(..length) {
                Some(frame) => Found::Claim { length, good: crc24q(frame) == 0 },
                None => Found::Unfinished,
            }
        }
        _ => Found::Unfinished,
    }
}

/// RTCM's CRC: zero over a whole message with its CRC behind it.
fn crc24q(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u32::from(*byte) << 16), |crc, _| {
            let shifted = crc << 1;
            if shifted & 0x0100_0000 != 0 { shifted ^ 0x0186_4cfb } else { shifted }
        })
    })
}

fn remark(bytes: &[u8]) -> Found {
    let end = bytes.iter().position(|b| *b == b'\n');
    let line = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    match end {
        _ if line.iter().any(|b| b.is_ascii_control() && !matches!(b, b'\t' | b'\r')) => Found::Garbage,
        Some(end) => Found::Remark { length: end + 1 },
        None if bytes.len() < LONGEST_REMARK => Found::Unfinished,
        None => Found::Garbage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ubx::write;
    use proptest::prelude::*;

    fn at(ms: i64) -> Timestamp<Raw> {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    /// What was found: when, where, and the sentence or the message's class and number.
    fn frames(framer: &mut Framer, bytes: &[u8], ms: i64) -> Vec<(i64, u64, String)> {
        let mut found = Vec::new();
        framer.push(bytes, at(ms), |f| {
            let what = match f.content {
                Content::Nmea(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                Content::Ubx(frame) => format!("{:02x}{:02x}", frame.class, frame.id),
            };
            found.push((f.at.to_nanos() / 1_000_000, f.offset, what));
        });
        found
    }

    fn contents(bytes: &[u8]) -> Vec<String> {
        frames(&mut Framer::new(None), bytes, 0).into_iter().map(|f| f.2).collect()
    }

    #[test]
    fn the_first_byte_is_stamped() {
        let mut framer = Framer::new(Some(9600));
        assert_eq!(frames(&mut framer, b"$GP", 1000), []);
        assert_eq!(frames(&mut framer, b"RMC\r\n", 1100), [(996, 0, "$GPRMC".to_owned())]);
        assert_eq!(frames(&mut Framer::new(None), b"$A\n$B\n", 7), [(7, 0, "$A".to_owned()), (7, 3, "$B".to_owned())]);
        let message = write::message(1, 7, &[0; 92]);
        let mut framer = Framer::new(Some(9600));
        assert_eq!(frames(&mut framer, &message[..48], 1000), []);
        assert_eq!(frames(&mut framer, &message[48..], 1054), [(950, 0, "0107".to_owned())]);
    }

    #[test]
    fn languages_mix() {
        let mut stream = b"noise\r\n$GPRMC,1\r\n".to_vec();
        stream.extend(write::message(1, 7, &[b'$'; 92]));
        // A message of another vendor's, RTCM 1005, from the standard's own example.
        stream.extend([0xd3, 0x00, 0x13, 0x3e, 0xd7, 0xd3, 0x02, 0x02, 0x98, 0x0e, 0xde, 0xef, 0x34, 0xb4, 0xbd]);
        stream.extend([0x62, 0xac, 0x09, 0x41, 0x98, 0x6f, 0x33, 0x36, 0x0b, 0x98]);
        stream.extend(b"$GPGGA,1*00$GPGLL,2\n");
        assert_eq!(contents(&stream), ["$GPRMC,1", "0107", "$GPGGA,1*00", "$GPGLL,2"]);
    }

    #[test]
    fn cut_sentences_are_left_out_and_the_one_that_cut_in_is_whole() {
        let stream = b"\xb5\x62\x01$GPRMC,12$GPGGA,1\r\nnoise\r\n$PTNTA\n";
        assert_eq!(contents(stream), ["$GPGGA,1", "$PTNTA"]);
    }

    #[test]
    fn a_capture_s_remarks_are_dropped() {
        let stream = b"# $GPRMC,1\n#\n$GPGGA,1\n# $GPGLL,2\n$GPZDA,#\n";
        let mut framer = Framer::new(None).dropping_remarks();
        let found: Vec<String> = frames(&mut framer, stream, 0).into_iter().map(|f| f.2).collect();
        assert_eq!(found, ["$GPGGA,1", "$GPZDA,#"]);
    }

    #[test]
    fn a_damaged_length_swallows_nothing() {
        let good = nmea::write::sentence("GPGLL,,,,,000000,A,A");
        let mut stream = write::message(1, 0x21, &[7; 20]);
        stream[5] = 0x1f;
        stream.extend(good.as_bytes());
        let found = contents(&stream);
        assert_eq!(found, [good.trim_end()], "the sentence is there as soon as its line ends");
        // A message that lost bytes costs itself only.
        let mut stream = write::message(1, 0x21, &[7; 20]);
        stream.drain(9..14);
        stream.extend(write::message(1, 7, &[0; 92]));
        assert_eq!(contents(&stream), ["0107"]);
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let bytes = |range| proptest::collection::vec(any::<u8>(), range);
        prop_oneof![
            bytes(0..30),
            Just(b"$".to_vec()),
            Just(b"\n".to_vec()),
            Just(vec![ubx::SYNC_1, ubx::SYNC_2]),
            Just(nmea::write::sentence("GPGLL,,,,,000000,A,A").into_bytes()),
            bytes(0..40).prop_map(|payload| write::message(1, 7, &payload)),
            (bytes(0..40), 0usize..40).prop_map(|(payload, cut)| {
                let mut message = write::message(1, 7, &payload);
                message.truncate(cut);
                message
            }),
        ]
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(pieces in proptest::collection::vec(piece(), 0..20), chunk in 1usize..60) {
            let bytes = pieces.concat();
            let whole = frames(&mut Framer::new(None), &bytes, 0);
            let mut framer = Framer::new(None);
            let parts: Vec<_> = bytes.chunks(chunk).flat_map(|part| frames(&mut framer, part, 0)).collect();
            prop_assert_eq!(whole, parts);
        }

        #[test]
        fn good_frames_between_garbage_are_all_found(garbage in proptest::collection::vec(any::<u8>(), 0..60), payload in proptest::collection::vec(any::<u8>(), 0..60)) {
            let sentence = nmea::write::sentence("GPGLL,,,,,000000,A,A");
            let mut stream = garbage;
            stream.extend(sentence.as_bytes());
            stream.extend(write::message(1, 7, &payload));
            stream.extend(sentence.as_bytes());
            let found = contents(&stream);
            prop_assert_eq!(found.iter().filter(|f| *f == sentence.trim_end()).count(), 2);
            prop_assert!(found.iter().any(|f| f == "0107"));
        }
    }
}
