//! Interleaved mode of a server (RFC 9769): when a reply really left is known only after it has left, so
//! it is told in the next one. What is remembered for that is when each request came and its reply went,
//! in a table of fixed size. Pure.

use refclocks::time::NtpTimestamp;

use super::packet::Packet;

/// Replies remembered: 256 KiB.
const REPLIES: usize = 1 << 14;

/// Replies that share a place: what fits a cache line.
const WAYS: usize = 4;

/// A reply that went: 16 octets.
#[derive(Clone, Copy, Debug, Default)]
struct Gone {
    /// When its request came, as told in it: by that the client names it.
    receive: u64,
    /// When it left.
    transmit: u64,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Set([Gone; WAYS]);

/// When the last replies left.
#[derive(Clone, Debug)]
pub struct Departures(Box<[Set]>);

impl Default for Departures {
    fn default() -> Self {
        Self(vec![Set::default(); REPLIES / WAYS].into_boxed_slice())
    }
}

impl Departures {
    /// A reply left at `transmit`, that told its request to have come at `receive`.
    pub fn note(&mut self, receive: NtpTimestamp, transmit: NtpTimestamp) {
        let Some(Set(replies)) = self.0.get_mut(place(receive)) else { return };
        let known = replies.iter().position(|gone| gone.receive == receive.0);
        // The oldest makes room; eras may change meanwhile.
        let oldest = || {
            let age = |gone: &Gone| if gone.receive == 0 { u64::MAX } else { receive.0.wrapping_sub(gone.receive) };
            replies.iter().enumerate().max_by_key(|(_, gone)| age(gone)).map(|(at, _)| at)
        };
        if let Some(gone) = known.or_else(oldest).and_then(|at| replies.get_mut(at)) {
            *gone = Gone { receive: receive.0, transmit: transmit.0 };
        }
    }

    /// When the reply left that this request names, if it asks for that.
    ///
    /// Such a request repeats our last receive timestamp as its origin; and of its own two timestamps,
    /// each of which a reply may repeat, one must be different from the other.
    pub fn asked_for(&self, request: &Packet<'_>) -> Option<NtpTimestamp> {
        let named = request.origin();
        if !wants(request) {
            return None;
        }
        let Set(replies) = self.0.get(place(named))?;
        replies.iter().find(|gone| gone.receive == named.0).map(|gone| NtpTimestamp(gone.transmit))
    }
}

/// Does the client keep what the interleaved mode takes? One that does not has no origin to repeat.
pub fn wants(request: &Packet<'_>) -> bool {
    request.origin() != NtpTimestamp::UNKNOWN && request.receive() != request.transmit()
}

/// Fibonacci hashing.
fn place(receive: NtpTimestamp) -> usize {
    (receive.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - (REPLIES / WAYS).trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntp::packet::Header;
    use proptest::prelude::*;

    fn asks(origin: u64, receive: u64, transmit: u64) -> [u8; 48] {
        let header = Header::request(4, NtpTimestamp(transmit));
        Header { origin: NtpTimestamp(origin), receive: NtpTimestamp(receive), ..header }.to_octets()
    }

    fn asked_for(departures: &Departures, octets: &[u8]) -> Option<u64> {
        departures.asked_for(&Packet::new_checked(octets).unwrap()).map(|at| at.0)
    }

    #[test]
    fn whoever_names_a_reply_is_told_when_it_left() {
        let mut departures = Departures::default();
        departures.note(NtpTimestamp(1000), NtpTimestamp(1007));
        departures.note(NtpTimestamp(2000), NtpTimestamp(2008));
        assert_eq!(asked_for(&departures, &asks(1000, 5, 6)), Some(1007));
        assert_eq!(asked_for(&departures, &asks(2000, 5, 6)), Some(2008));
        // The kernel knew better.
        departures.note(NtpTimestamp(1000), NtpTimestamp(1005));
        assert_eq!(asked_for(&departures, &asks(1000, 5, 6)), Some(1005));
        for basic in [asks(1001, 5, 6), asks(0, 5, 6), asks(1000, 6, 6), asks(0, 0, 6)] {
            assert_eq!(asked_for(&departures, &basic), None);
        }
    }

    proptest! {
        /// The last few thousand are there, whatever came before.
        #[test]
        fn the_latest_are_remembered(start: u64, step in 1u64..1 << 40) {
            let mut departures = Departures::default();
            let count = 40_000;
            for i in 0..count {
                let at = start.wrapping_add(step.wrapping_mul(i)) | 1 << 40;
                departures.note(NtpTimestamp(at), NtpTimestamp(at ^ 1));
            }
            let newest = start.wrapping_add(step.wrapping_mul(count - 1)) | 1 << 40;
            prop_assert_eq!(asked_for(&departures, &asks(newest, 5, 6)), Some(newest ^ 1));
        }
    }
}
