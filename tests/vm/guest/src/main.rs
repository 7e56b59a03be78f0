//! What runs in the test machine beside the daemon: the receiver, the judge, a rival.
//!
//! True time comes from the module `vmpulse`, as a line over CLOCK_MONOTONIC_RAW that nothing in the
//! machine can steer.

mod client;
mod flood;
mod judge;
mod kernel;
mod receiver;
mod rival;
mod truth;
mod wire;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes NMEA to a serial port that is looped back, so that its reader sees a receiver.
    Receiver(receiver::Args),
    /// Watches the clock and the daemon, and prints the verdict as one line of JSON.
    Judge(judge::Args),
    /// Steps CLOCK_REALTIME by so many milliseconds, as another program would.
    Step {
        /// Milliseconds; negative = back.
        #[arg(allow_negative_numbers = true)]
        milliseconds: i64,
    },
    /// Slews CLOCK_REALTIME at so many ppm, as another program would.
    Slew {
        /// Parts per million.
        #[arg(allow_negative_numbers = true)]
        ppm: f64,
    },
    /// Asks the NTP server every 10 ms, and prints what came of it as one line of JSON.
    Hammer {
        /// For so long.
        seconds: f64,
    },
    /// Floods the NTP server, and reads no reply.
    Flood(flood::Args),
    /// Serves true time on an interface whose card's clock keeps it, as that card stamps packets.
    Respond(wire::Respond),
    /// Asks a server by such a card, and prints how far its stamps are from true time as one line of JSON.
    AskByCard(wire::Ask),
    /// Sets a card's clock ahead by so many milliseconds, as another program would.
    SetCard {
        /// Its device.
        clock: std::path::PathBuf,
        /// Milliseconds; negative = back.
        #[arg(allow_negative_numbers = true)]
        milliseconds: i64,
    },
    /// Holds one thread still, and not the others of its process.
    Freeze {
        /// Its number.
        thread: i32,
        /// For so long.
        seconds: u64,
    },
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Cli::parse().command {
        Command::Receiver(args) => receiver::run(&args),
        Command::Judge(args) => judge::run(&args),
        Command::Step { milliseconds } => rival::step(milliseconds),
        Command::Slew { ppm } => rival::slew(ppm),
        Command::Hammer { seconds } => client::hammer(seconds),
        Command::Flood(args) => flood::run(&args),
        Command::Respond(args) => wire::respond(&args),
        Command::AskByCard(args) => wire::ask(&args),
        Command::SetCard { clock, milliseconds } => wire::set_clock(&clock, milliseconds),
        Command::Freeze { thread, seconds } => rival::freeze(thread, seconds),
    }
}
