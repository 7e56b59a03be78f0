//! ntpd's `restrict ... flake`: of the packets of some, one in ten is lost on purpose, to see how clients and servers bear it.

use super::access::Flags;
#[cfg(test)]
use super::client::random::Seed;
use super::client::random::{Random, seed};

/// The share that is lost.
const SHARE: f64 = 0.1;

/// Whoever loses them. Which it will be nobody can predict.
#[derive(Debug, Default)]
pub(super) struct Flake(Option<Random>);

impl Flake {
    /// Settled by a seed.
    #[cfg(test)]
    pub(super) fn seeded(seed: Seed) -> Self {
        Self(Some(Random::new(seed)))
    }

    /// Is a time packet lost, from somebody who has that taken away?
    pub(super) fn loses(&mut self, flags: Flags) -> bool {
        if !flags.contains(Flags::FLAKE) {
            return false;
        }
        // A system without random numbers loses some that can be predicted.
        let random = self.0.get_or_insert_with(|| Random::new(seed().unwrap_or_default()));
        random.fraction() < SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_ten_is_lost_and_of_others_none() {
        let lost = |flake: &mut Flake, flags| (0..10_000).filter(|_| flake.loses(flags)).count();
        let mut flake = Flake::seeded([3; 32]);
        assert_eq!(lost(&mut flake, Flags::empty() | Flags::LIMITED), 0);
        let of_one = lost(&mut flake, Flags::FLAKE);
        assert!((900..1100).contains(&of_one), "{of_one}");
        assert_eq!(lost(&mut Flake::seeded([3; 32]), Flags::FLAKE), of_one);
        assert!((900..1100).contains(&lost(&mut Flake::default(), Flags::FLAKE)));
    }
}
