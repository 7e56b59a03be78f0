//! The simulated world: oscillator and receiver, all seeded, in virtual or real time.

mod rng;

pub use rng::Rng;
