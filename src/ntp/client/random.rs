//! Numbers that nobody can guess: ChaCha20, keyed once from the system's random source.

use std::io;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use refclocks::time::NtpTimestamp;

/// What the numbers of one association follow from.
pub type Seed = [u8; 32];

/// A seed of the system's random source (getrandom(2)): another one each time.
///
/// # Errors
///
/// If the system has no such source, or not yet.
pub fn seed() -> io::Result<Seed> {
    let mut seed = Seed::default();
    getrandom::fill(&mut seed)
        .map_err(|error| io::Error::other(format!("the system gives no random numbers: {error}")))?;
    Ok(seed)
}

/// The numbers of one association: the same for the same seed, and of no use to whoever has seen others.
#[derive(Debug)]
pub(in crate::ntp) struct Random(ChaCha20Rng);

impl Random {
    pub(in crate::ntp) fn new(seed: Seed) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// 0 to 1.
    pub(in crate::ntp) fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number to repeat; never zero, which would mean "unknown".
    pub(super) fn cookie(&mut self) -> NtpTimestamp {
        NtpTimestamp(self.bits().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// draft-strombergson-chacha-test-vectors-01, TC1, 20 rounds: the key stream of an all-zero key and nonce.
    #[test]
    fn the_numbers_are_the_key_stream_of_chacha20() {
        let mut random = Random::new([0; 32]);
        let stream: Vec<u8> = (0..4).flat_map(|_| random.bits().to_le_bytes()).collect();
        let published = "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7";
        assert_eq!(stream.iter().map(|octet| format!("{octet:02x}")).collect::<String>(), published);
    }

    #[test]
    fn seeds_differ_and_decide() {
        let (a, b) = (seed().unwrap(), seed().unwrap());
        assert_ne!(a, b);
        let numbers = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| random.cookie()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(a), numbers(a));
        assert!(numbers(a).iter().all(|number| !numbers(b).contains(number) && *number != NtpTimestamp::UNKNOWN));
        let mut random = Random::new(a);
        assert!((0..1000).map(|_| random.fraction()).all(|f| (0.0..1.0).contains(&f)));
    }
}
