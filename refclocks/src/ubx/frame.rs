//! A message's frame, and numbers in its payload.

/// The first byte of a message.
pub const SYNC_1: u8 = 0xb5;
/// The second.
pub const SYNC_2: u8 = 0x62;
/// Bytes around a payload: two of sync, class, number, two of length, two of checksum.
pub const OVERHEAD: usize = 8;
/// Longest payload that is believed; the longest that receivers send are raw measurements of 6 kB.
pub const LONGEST: usize = 8192;

/// A message: checked, not yet understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Class.
    pub class: u8,
    /// Number within the class.
    pub id: u8,
    /// What it says.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// From the bytes of one message, first sync to last checksum byte; `None` if they are not just that.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (checked, [a, b]) = bytes.strip_prefix(&[SYNC_1, SYNC_2])?.split_last_chunk::<2>()?;
        let ([class, id, low, high], payload) = checked.split_first_chunk::<4>()?;
        let whole = payload.len() == usize::from(u16::from_le_bytes([*low, *high]));
        (whole && checksum(checked) == [*a, *b]).then_some(Self { class: *class, id: *id, payload })
    }
}

/// 8-bit Fletcher, from the class to the payload's end.
pub(super) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let (mut a, mut b) = (0u8, 0u8);
    for byte in bytes {
        a = a.wrapping_add(*byte);
        b = b.wrapping_add(a);
    }
    [a, b]
}

/// A payload of the length its message has at least. What lies beyond its end reads as zero; decoders
/// check the length before they read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload<'a>(pub &'a [u8]);

impl Payload<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
    }

    pub fn u8(&self, at: usize) -> u8 {
        u8::from_le_bytes(self.bytes(at))
    }

    pub fn i8(&self, at: usize) -> i8 {
        i8::from_le_bytes(self.bytes(at))
    }

    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    pub fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.bytes(at))
    }

    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    pub fn i32(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.bytes(at))
    }

    /// Is that bit of the byte at that place set?
    pub fn bit(&self, at: usize, bit: u32) -> bool {
        self.u8(at) >> bit & 1 == 1
    }
}
