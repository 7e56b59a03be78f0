//! What must hold for any bytes from outside: one function for each reader of such bytes.
//!
//! A fuzzer calls them with bytes it makes up (`fuzz_targets/`), and `cargo test` with mutated
//! examples, the same ones on every run (`tests/smoke.rs`). They panic when something does not hold.
#![forbid(unsafe_code)]

mod bytes;
mod clocks;
mod gpsd;
mod ntp;
mod ntp_broadcast;
mod ntp_client;
mod ntp_clients;
mod ntp_peer;
mod receiver;
mod recordings;
mod texts;

pub use clocks::{shm, sock};
pub use gpsd::gpsd;
pub use ntp::{access_rules, key_file, ntp_packet, ntp_respond};
pub use ntp_broadcast::ntp_broadcast;
pub use ntp_client::ntp_reply;
pub use ntp_clients::ntp_clients;
pub use ntp_peer::ntp_peer;
pub use receiver::{framer, message as ubx, nmea};
pub use recordings::recording;
pub use texts::{config, control, drift, leap_list, scenario};

use refclocks::time::{Span, Timestamp, Utc};

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: [(&str, Target); 20] = [
    ("nmea", nmea),
    ("framer", framer),
    ("ubx", ubx),
    ("gpsd", gpsd),
    ("sock", sock),
    ("shm", shm),
    ("ntp_packet", ntp_packet),
    ("ntp_respond", ntp_respond),
    ("ntp_reply", ntp_reply),
    ("ntp_peer", ntp_peer),
    ("ntp_clients", ntp_clients),
    ("ntp_broadcast", ntp_broadcast),
    ("key_file", key_file),
    ("access_rules", access_rules),
    ("config", config),
    ("scenario", scenario),
    ("drift", drift),
    ("leap_list", leap_list),
    ("control", control),
    ("recording", recording),
];

/// Runs a target on the files named on the command line, e.g. on what a fuzzer found.
pub fn replay(target: Target) -> std::process::ExitCode {
    let mut code = std::process::ExitCode::SUCCESS;
    for path in std::env::args_os().skip(1) {
        match std::fs::read(&path) {
            Ok(data) => target(&data),
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                code = std::process::ExitCode::FAILURE;
            }
        }
    }
    code
}

/// A week before `refclockd::NOT_BEFORE` begins the only period of 1024 weeks in which a receiver's
/// date can lie. Everything a driver reports must lie in it, whatever the receiver said.
fn assert_possible(reference: Timestamp<Utc>) {
    let earliest = refclockd::NOT_BEFORE - Span::from_whole_seconds(7 * 86_400);
    // Second 60 of the last day, and fractions, may reach just beyond.
    let latest = earliest + refclocks::calendar::WEEK_ROLLOVER;
    assert!(reference >= earliest && reference < latest, "an impossible date got through: {reference}");
}
