//! Bytes to lines of a bounded length.

/// The longest line taken, without its end, in bytes.
pub const LONGEST_LINE: usize = 64 * 1024;

/// Collects bytes until a line is whole. Holds no more than [`LONGEST_LINE`] bytes.
#[derive(Debug, Default)]
pub struct Lines {
    held: Vec<u8>,
    overflowed: bool,
}

/// What came of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, without its end. Bytes that are no UTF-8 have become U+FFFD.
    Whole(String),
    /// A line that was longer than may be; it is dropped.
    TooLong,
}

impl Lines {
    /// Takes bytes as they come, and hands back the lines they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (piece, ends) = match piece.strip_suffix(b"\n") {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            if self.held.len() + piece.len() > LONGEST_LINE {
                self.overflowed = true;
                self.held = Vec::new();
            } else if !self.overflowed {
                self.held.extend_from_slice(piece);
            }
            if ends {
                lines.push(self.take());
            }
        }
        lines
    }

    /// The peer sends no more: what is left is a line without an end.
    pub fn finish(&mut self) -> Option<Line> {
        (self.overflowed || !self.held.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> Line {
        let held = std::mem::take(&mut self.held);
        if std::mem::take(&mut self.overflowed) {
            return Line::TooLong;
        }
        let text = String::from_utf8_lossy(&held);
        Line::Whole(text.strip_suffix('\r').unwrap_or(&text).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_bytes_are_cut(
            text in "[a-z\\n]{0,60}",
            cuts in prop::collection::vec(1usize..7, 0..40),
        ) {
            let whole = Lines::default().push(text.as_bytes());
            let mut lines = Lines::default();
            let mut pieces = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.extend(lines.push(piece));
                rest = after;
            }
            pieces.extend(lines.push(rest));
            prop_assert_eq!(pieces, whole);
        }
    }

    #[test]
    fn a_long_line_is_dropped_and_the_next_one_taken() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            assert_eq!(lines.push(&[b'x'; 4096]), []);
            assert!(lines.held.len() <= LONGEST_LINE);
        }
        assert_eq!(lines.push(b"x\n{}\r\nrest"), [Line::TooLong, Line::Whole("{}".into())]);
        assert_eq!(lines.finish(), Some(Line::Whole("rest".into())));
        assert_eq!(lines.finish(), None);
    }

    #[test]
    fn the_longest_line_is_taken_whole() {
        let mut bytes = vec![b'x'; LONGEST_LINE];
        bytes.push(b'\n');
        assert!(matches!(Lines::default().push(&bytes).as_slice(), [Line::Whole(_)]));
        bytes.insert(0, b'x');
        assert_eq!(Lines::default().push(&bytes), [Line::TooLong]);
    }
}
