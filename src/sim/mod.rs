//! The simulated world: oscillator and receiver, all seeded, in virtual or real time.

mod oscillator;
mod rng;
mod scenario;

pub use oscillator::Oscillator;
pub use rng::Rng;
pub use scenario::Scenario;
