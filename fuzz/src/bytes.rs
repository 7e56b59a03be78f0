//! Numbers from a fuzzer's bytes.

/// Takes numbers off the end of the bytes, so that what stands in front may be a file as it is.
/// What is not there is zero.
pub(crate) struct Tail<'a>(pub(crate) &'a [u8]);

impl Tail<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_last() {
            Some((last, rest)) => {
                self.0 = rest;
                *last
            }
            None => 0,
        }
    }

    /// A number of so many bytes.
    fn number(&mut self, bytes: u32) -> u64 {
        (0..bytes).fold(0, |number, _| (number << 8) | u64::from(self.byte()))
    }

    pub(crate) fn i32(&mut self) -> i32 {
        self.number(4) as u32 as i32
    }

    pub(crate) fn i64(&mut self) -> i64 {
        self.number(8) as i64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
