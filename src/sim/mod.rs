//! The simulated world: oscillator and receiver, all seeded, in virtual or real time.

pub mod judge;
mod oscillator;
mod receiver;
pub mod rehearsal;
mod rng;
mod scenario;
mod world;

pub use oscillator::Oscillator;
pub use receiver::Receiver;
pub use rng::Rng;
pub use scenario::Scenario;
pub use world::{Happening, World};
