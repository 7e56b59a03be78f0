//! The simulated world: oscillator, receivers, servers and what goes wrong, all seeded, in virtual or
//! real time.
//!
//! | module | subject |
//! |---|---|
//! | `scenario` | what happens, read from a file |
//! | `world` | true time and everything in it but us |
//! | `oscillator`, `pulse`, `receiver`, `server`, `jitter` | its parts |
//! | `fault` | what goes wrong, and when |
//! | [`rehearsal`] | the daemon's core in that world, in virtual time |
//! | [`judge`] | the clock held against true time |
//! | [`oracle`] | how well it could be known |

pub mod fault;
mod jitter;
pub mod judge;
pub mod oracle;
mod oscillator;
mod pulse;
mod receiver;
pub mod rehearsal;
mod rng;
pub mod scenario;
mod server;
mod world;

pub use fault::Fault;
pub use jitter::{Jitter, Shape};
pub use oscillator::{Crystal, Oscillator, Sensor, Temperature};
pub use pulse::{PulseModel, PulseNoise};
pub use receiver::Receiver;
pub use rng::Rng;
pub use scenario::Scenario;
pub use server::{ServerModel, Way};
pub use world::{Happening, World};
