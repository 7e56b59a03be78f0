//! The NTP header (RFC 5905 section 7.3): a checked view of bytes, and its representation.
//!
//! [`Packet`] borrows the bytes of a datagram and reads fields where they lie. [`Header`] is the 48
//! octets as values: [`Header::parse`] and [`Header::emit`] are each other's inverse for every
//! possible header, the meaningless ones included; what a value means is for its reader to judge.

use refclocks::time::NtpTimestamp;
use refclocks::{LeapIndicator, ReferenceId};
use serde::{Deserialize, Serialize};

use super::extension::{Tail, TailError};

/// Octets of a header: a request or reply without extension fields and MAC.
pub const HEADER_LEN: usize = 48;

/// Stratum of a clock that is not synchronised (RFC 5905 figure 7). On the wire it is written 0.
pub const STRATUM_UNSYNCHRONISED: u8 = 16;

/// NTP's 32-bit short format (RFC 5905 figure 3): unsigned seconds, 16 bits whole and 16 bits
/// fraction. Quantum 15.3 us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct NtpShort(pub u32);

impl NtpShort {
    /// The largest value: 65535.99998 s. Stands for "longer than can be said" as well.
    pub const MAX: Self = Self(u32::MAX);

    /// The smallest representable value that is not less than `seconds`: a delay or dispersion is
    /// never claimed to be smaller than it is. Negative values and NaN become zero and
    /// [`NtpShort::MAX`]; what is too large saturates.
    pub fn from_seconds_up(seconds: f64) -> Self {
        if seconds.is_nan() {
            return Self::MAX;
        }
        // `as` saturates at both ends.
        Self((seconds * 65_536.0).ceil() as u32)
    }

    /// Seconds.
    pub fn seconds(self) -> f64 {
        f64::from(self.0) / 65_536.0
    }
}

/// Association modes (RFC 5905 figure 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// 0: reserved; what version 1 clients send.
    Reserved,
    /// 1: symmetric active.
    SymmetricActive,
    /// 2: symmetric passive.
    SymmetricPassive,
    /// 3: a client's request.
    Client,
    /// 4: a server's reply.
    Server,
    /// 5: broadcast.
    Broadcast,
    /// 6: NTP control message (RFC 9327). Not an NTP header beyond the first octet.
    Control,
    /// 7: reserved for private use. Not an NTP header beyond the first octet.
    Private,
}

impl Mode {
    /// Does a client ask so? Version 1 had no modes.
    pub const fn asks(self) -> bool {
        matches!(self, Self::Client | Self::Reserved)
    }

    /// The three bits on the wire.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Reserved => 0,
            Self::SymmetricActive => 1,
            Self::SymmetricPassive => 2,
            Self::Client => 3,
            Self::Server => 4,
            Self::Broadcast => 5,
            Self::Control => 6,
            Self::Private => 7,
        }
    }

    /// From the lowest three bits.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::Reserved,
            1 => Self::SymmetricActive,
            2 => Self::SymmetricPassive,
            3 => Self::Client,
            4 => Self::Server,
            5 => Self::Broadcast,
            6 => Self::Control,
            _ => Self::Private,
        }
    }
}

/// Why bytes are not an NTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Shorter than a header.
    #[error("{len} bytes are shorter than the {HEADER_LEN} of an NTP header")]
    Truncated {
        /// Bytes there are.
        len: usize,
    },
    /// What follows the header is framed wrongly.
    #[error("after the header: {0}")]
    Tail(#[from] TailError),
}

/// The first octet of any datagram on the NTP port: leap indicator, version, mode. All there is to
/// know of a packet before it is known to have an NTP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstOctet(pub u8);

impl FirstOctet {
    /// Leap indicator.
    pub const fn leap(self) -> LeapIndicator {
        LeapIndicator::from_bits(self.0 >> 6)
    }

    /// Version 0 to 7.
    pub const fn version(self) -> u8 {
        (self.0 >> 3) & 7
    }

    /// Mode.
    pub const fn mode(self) -> Mode {
        Mode::from_bits(self.0)
    }
}

/// A datagram that has room for a header.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    tail: &'a [u8],
}

impl<'a> Packet<'a> {
    /// A view of the bytes.
    ///
    /// # Errors
    ///
    /// [`PacketError::Truncated`] below 48 octets.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let (header, tail) =
            bytes.split_first_chunk::<HEADER_LEN>().ok_or(PacketError::Truncated { len: bytes.len() })?;
        Ok(Self { header, tail })
    }

    /// `N` octets at offset `AT`; that they lie inside the header is checked when it is compiled.
    fn field<const AT: usize, const N: usize>(&self) -> [u8; N] {
        const { assert!(AT + N <= HEADER_LEN) };
        let mut octets = [0; N];
        for (to, from) in octets.iter_mut().zip(self.header.iter().skip(AT)) {
            *to = *from;
        }
        octets
    }

    fn timestamp<const AT: usize>(&self) -> NtpTimestamp {
        NtpTimestamp(u64::from_be_bytes(self.field::<AT, 8>()))
    }

    /// Leap indicator, version and mode.
    pub fn first_octet(&self) -> FirstOctet {
        let [octet] = self.field::<0, 1>();
        FirstOctet(octet)
    }

    /// Stratum as on the wire: 0 is a kiss code or an unsynchronised server.
    pub fn stratum(&self) -> u8 {
        let [octet] = self.field::<1, 1>();
        octet
    }

    /// log2 of the poll interval, s.
    pub fn poll(&self) -> i8 {
        i8::from_be_bytes(self.field::<2, 1>())
    }

    /// log2 of the clock's precision, s.
    pub fn precision(&self) -> i8 {
        i8::from_be_bytes(self.field::<3, 1>())
    }

    /// Round trip to the primary reference.
    pub fn root_delay(&self) -> NtpShort {
        NtpShort(u32::from_be_bytes(self.field::<4, 4>()))
    }

    /// Dispersion to the primary reference.
    pub fn root_dispersion(&self) -> NtpShort {
        NtpShort(u32::from_be_bytes(self.field::<8, 4>()))
    }

    /// Reference ID, or the kiss code at stratum 0.
    pub fn refid(&self) -> ReferenceId {
        ReferenceId(self.field::<12, 4>())
    }

    /// When the clock was last set or corrected.
    pub fn reference_time(&self) -> NtpTimestamp {
        self.timestamp::<16>()
    }

    /// In a reply: the transmit timestamp of the request it answers.
    pub fn origin(&self) -> NtpTimestamp {
        self.timestamp::<24>()
    }

    /// In a reply: when the request arrived.
    pub fn receive(&self) -> NtpTimestamp {
        self.timestamp::<32>()
    }

    /// When this packet left; in a request, any number the client likes.
    pub fn transmit(&self) -> NtpTimestamp {
        self.timestamp::<40>()
    }

    /// Everything after the header, unparsed.
    pub fn tail_octets(&self) -> &'a [u8] {
        self.tail
    }

    /// Extension fields and MAC after the header.
    ///
    /// # Errors
    ///
    /// A tail that RFC 7822 does not allow.
    pub fn tail(&self) -> Result<Tail<'a>, TailError> {
        Tail::split(self.first_octet().version(), self.tail)
    }
}

/// The 48 octets of a header as values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Leap indicator.
    pub leap: LeapIndicator,
    /// Version 0 to 7; higher bits are cut off.
    pub version: u8,
    /// Mode.
    pub mode: Mode,
    /// Stratum as on the wire: 0 is a kiss code or an unsynchronised server.
    pub stratum: u8,
    /// log2 of the poll interval, s.
    pub poll: i8,
    /// log2 of the clock's precision, s.
    pub precision: i8,
    /// Round trip to the primary reference.
    pub root_delay: NtpShort,
    /// Dispersion to the primary reference.
    pub root_dispersion: NtpShort,
    /// Reference ID, or the kiss code at stratum 0.
    pub refid: ReferenceId,
    /// When the clock was last set or corrected.
    pub reference_time: NtpTimestamp,
    /// In a reply: the transmit timestamp of the request.
    pub origin: NtpTimestamp,
    /// In a reply: when the request arrived.
    pub receive: NtpTimestamp,
    /// When the packet left.
    pub transmit: NtpTimestamp,
}

impl Header {
    /// A client's request that tells nothing of the client: everything is zero but version, mode
    /// and the number the reply has to repeat.
    pub fn request(version: u8, transmit: NtpTimestamp) -> Self {
        Self {
            leap: LeapIndicator::None,
            version,
            mode: Mode::Client,
            stratum: 0,
            poll: 0,
            precision: 0,
            root_delay: NtpShort(0),
            root_dispersion: NtpShort(0),
            refid: ReferenceId::default(),
            reference_time: NtpTimestamp::UNKNOWN,
            origin: NtpTimestamp::UNKNOWN,
            receive: NtpTimestamp::UNKNOWN,
            transmit,
        }
    }

    /// The values of a packet's header.
    pub fn parse(packet: &Packet<'_>) -> Self {
        let first = packet.first_octet();
        Self {
            leap: first.leap(),
            version: first.version(),
            mode: first.mode(),
            stratum: packet.stratum(),
            poll: packet.poll(),
            precision: packet.precision(),
            root_delay: packet.root_delay(),
            root_dispersion: packet.root_dispersion(),
            refid: packet.refid(),
            reference_time: packet.reference_time(),
            origin: packet.origin(),
            receive: packet.receive(),
            transmit: packet.transmit(),
        }
    }

    /// Writes the header.
    pub fn emit(&self, to: &mut [u8; HEADER_LEN]) {
        let first = [(self.leap.bits() << 6) | ((self.version & 7) << 3) | self.mode.bits(), self.stratum];
        let octets = first
            .into_iter()
            .chain(self.poll.to_be_bytes())
            .chain(self.precision.to_be_bytes())
            .chain(self.root_delay.0.to_be_bytes())
            .chain(self.root_dispersion.0.to_be_bytes())
            .chain(self.refid.0)
            .chain(self.reference_time.0.to_be_bytes())
            .chain(self.origin.0.to_be_bytes())
            .chain(self.receive.0.to_be_bytes())
            .chain(self.transmit.0.to_be_bytes());
        for (to, octet) in to.iter_mut().zip(octets) {
            *to = octet;
        }
    }

    /// The header as octets.
    pub fn to_octets(&self) -> [u8; HEADER_LEN] {
        let mut octets = [0; HEADER_LEN];
        self.emit(&mut octets);
        octets
    }
}

/// Reads arbitrary bytes in every way there is; for the fuzzer. Returns how many octets of
/// extension fields it walked over.
pub fn fuzz(bytes: &[u8]) -> usize {
    let Ok(packet) = Packet::new_checked(bytes) else { return 0 };
    let header = Header::parse(&packet);
    let again = header.to_octets();
    debug_assert!(bytes.starts_with(&again), "parse and emit are each other's inverse");
    packet.tail().map_or(0, |tail| tail.fields().map(|field| field.value.len()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_header_survives_parse_and_emit(octets in proptest::array::uniform32(any::<u8>()), rest in proptest::array::uniform16(any::<u8>())) {
            let bytes: Vec<u8> = octets.into_iter().chain(rest).collect();
            let packet = Packet::new_checked(&bytes).unwrap();
            prop_assert_eq!(&Header::parse(&packet).to_octets()[..], &bytes[..]);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
            fuzz(&bytes);
        }

        #[test]
        fn short_format_never_claims_less(seconds in 0.0f64..65_535.0) {
            let short = NtpShort::from_seconds_up(seconds).seconds();
            prop_assert!(short >= seconds && short - seconds <= 1.0 / 65_536.0);
        }
    }

    #[test]
    fn short_format_saturates() {
        assert_eq!(NtpShort::from_seconds_up(f64::INFINITY), NtpShort::MAX);
        assert_eq!(NtpShort::from_seconds_up(f64::NAN), NtpShort::MAX);
        assert_eq!(NtpShort::from_seconds_up(70_000.0), NtpShort::MAX);
        assert_eq!(NtpShort::from_seconds_up(-1.0), NtpShort(0));
        assert_eq!(NtpShort::from_seconds_up(1e-9), NtpShort(1));
        assert_eq!(NtpShort::from_seconds_up(0.5), NtpShort(0x8000));
    }

    #[test]
    fn fields_lie_where_the_rfc_says() {
        let header = Header {
            leap: LeapIndicator::Delete,
            version: 4,
            mode: Mode::Server,
            stratum: 1,
            poll: 6,
            precision: -20,
            root_delay: NtpShort(0x0102_0304),
            root_dispersion: NtpShort(0x0506_0708),
            refid: ReferenceId(*b"PPS\0"),
            reference_time: NtpTimestamp(0x1112_1314_1516_1718),
            origin: NtpTimestamp(0x2122_2324_2526_2728),
            receive: NtpTimestamp(0x3132_3334_3536_3738),
            transmit: NtpTimestamp(0x4142_4344_4546_4748),
        };
        let expected = [
            0xa4, 1, 6, 0xec, 1, 2, 3, 4, 5, 6, 7, 8, b'P', b'P', b'S', 0, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17,
            0x18, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x41,
            0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
        ];
        assert_eq!(header.to_octets(), expected);
    }

    #[test]
    fn too_short_is_refused() {
        assert_eq!(Packet::new_checked(&[0x23; 47]).unwrap_err(), PacketError::Truncated { len: 47 });
    }
}
