//! `refclockd check`: reads a configuration, says everything that is wrong with it, or what it will do.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use refclocks::phc::ClockScale;
use refclocks::ubx::setup::Timing;

use crate::config::{Config, Discipline, Driver, Otherwise, diagnostic};
use crate::core::state::Bound;

/// sysexits: the configuration cannot be understood; the file cannot be read.
pub(super) const EX_CONFIG: u8 = 78;
const EX_NOINPUT: u8 = 66;

/// Options of `refclockd check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Print what is wrong as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &CheckArgs) -> ExitCode {
    let file = args.config.display().to_string();
    let text = match std::fs::read_to_string(&args.config) {
        Ok(text) => text,
        Err(error) => return unreadable(&args.config, &error),
    };
    let read = Config::from_toml(&file, &text);
    let found = match &read {
        Ok((_, warnings)) => warnings,
        Err(all) => all,
    };
    if args.json {
        let list: Vec<serde_json::Value> = found
            .iter()
            .map(|d| {
                let (line, column) = d.position(&text).unzip();
                serde_json::json!({ "severity": d.severity, "line": line, "column": column, "title": d.title, "help": d.help })
            })
            .collect();
        println!("{}", serde_json::json!({ "file": file, "usable": read.is_ok(), "found": list }));
    } else {
        eprint!("{}", diagnostic::render(&file, &text, found, std::io::stderr().is_terminal()));
    }
    match read {
        Ok((mut config, _)) => {
            if !args.json {
                config.read_keys().iter().for_each(|said| eprintln!("{said}"));
                print!("{}", explain(&config));
            }
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::from(EX_CONFIG),
    }
}

/// Reads a configuration for a program that is going to use it; what is wrong goes to standard error.
pub fn load(path: &Path) -> Result<Config, ExitCode> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let file = path.display().to_string();
    let color = std::io::stderr().is_terminal();
    match Config::from_toml(&file, &text) {
        Ok((config, warnings)) => {
            eprint!("{}", diagnostic::render(&file, &text, &warnings, color));
            Ok(config)
        }
        Err(all) => {
            eprint!("{}", diagnostic::render(&file, &text, &all, color));
            eprintln!("Nothing was started.");
            Err(ExitCode::from(EX_CONFIG))
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> ExitCode {
    eprintln!("{} cannot be read: {error}. conf/ has configurations to start from.", path.display());
    ExitCode::from(EX_NOINPUT)
}

/// What a configuration will do, in sentences.
fn explain(config: &Config) -> String {
    let mut said = Vec::new();
    for clock in &config.refclocks {
        let (name, address) = (&clock.name, clock.driver.address());
        said.push(match &clock.driver {
            Driver::Receiver(receiver) => {
                let speed = match receiver.baud.filter(|_| receiver.configure.is_none()) {
                    None => "at a speed found by trying".to_owned(),
                    Some(baud) => format!("at {baud} bit/s"),
                };
                let what = if receiver.only_ubx { "UBX messages" } else { "NMEA or UBX messages" };
                let without_fix = if receiver.without_fix { " Its time is believed without a fix." } else { "" };
                let configure = receiver.configure.map_or_else(String::new, |wishes| {
                    let speed = wishes.baud.map_or_else(String::new, |baud| format!(", to speak at {baud} bit/s"));
                    let position = match wishes.timing {
                        Some(Timing::SurveyIn(seconds)) => format!(", with a survey of its position of {seconds} s"),
                        Some(Timing::Fixed { .. }) => ", at a position that is known".to_owned(),
                        None => String::new(),
                    };
                    format!(" The receiver is set up for timing{speed}{position}.")
                });
                format!("{name}: {what} from {address}, {speed}.{without_fix}{configure}")
            }
            Driver::Pps { device, edge, .. } => {
                let from = match device {
                    Some(_) => address,
                    None => "the PPS device that is a receiver's".to_owned(),
                };
                let edge = edge.map_or("the edge that begins them".to_owned(), |edge| format!("their {edge} edge"));
                let by = clock.lock.as_deref().unwrap_or("whatever does so safely");
                format!("{name}: pulses from {from}, stamped at {edge}, numbered by {by}.")
            }
            Driver::Phc { input: None, scale, .. } => {
                let scale = if *scale == ClockScale::Tai { "TAI" } else { "UTC" };
                format!("{name}: the time of the hardware clock {address}, which keeps {scale}.")
            }
            Driver::Phc { input: Some(_), .. } => format!(
                "{name}: pulses on {address}, numbered by {}.",
                clock.lock.as_deref().unwrap_or("whatever does so safely")
            ),
            Driver::Gpsd { .. } => format!("{name}: messages and pulses from gpsd at {address}."),
            Driver::Shm { .. } => format!("{name}: shared memory {address}."),
            Driver::Sock { .. } => format!("{name}: SOCK datagrams at {address}."),
        });
    }
    for server in &config.servers {
        let signed = server.key.map_or_else(String::new, |key| format!(", with key {key}"));
        let what = if server.peer { "NTP peer" } else { "NTP server" };
        said.push(format!("{}: {what} {}, port {}{signed}.", server.name, server.host, server.port));
    }
    for pool in &config.pools {
        let each = &pool.each;
        let place = if pool.group().is_some() { "in the group" } else { "behind" };
        said.push(format!(
            "{}: up to {} NTP servers {place} {}, port {}.",
            each.name, pool.maxsources, each.host, each.port
        ));
    }
    for client in &config.broadcast_clients {
        let each = &client.each;
        let place = client.address.map_or("all interfaces' broadcast addresses".to_owned(), |ip| ip.to_string());
        let whose = each.key.map_or("by anybody".to_owned(), |key| format!("signed with key {key}"));
        said.push(format!("{}: what is broadcast to {place}, port {}, {whose}.", each.name, each.port));
    }
    for peer in &config.passive_peers {
        said.push(format!(
            "{}: up to {} that have us for a peer, signed with key {}.",
            peer.each.name, peer.maxsources, peer.key
        ));
    }
    if !config.hwtimestamps.is_empty() {
        let names: Vec<&str> = config.hwtimestamps.iter().map(|wish| wish.interface.as_str()).collect();
        said.push(format!("Network cards stamp packets where they can: {}.", names.join(", ")));
    }
    for feed in &config.feeds {
        let what =
            feed.source.as_ref().map_or("our own clock's time".to_owned(), |pulse| format!("the pulses of {pulse}"));
        said.push(format!(
            "{} is told {what}, while our clock is known to within {}.",
            feed.address(),
            Bound(feed.within)
        ));
    }
    said.push(match config.clock.discipline {
        Discipline::Software => "A clock of our own is disciplined and served; the system clock is left alone.".into(),
        Discipline::Observe => "No clock is steered: sources are watched and reported.".into(),
        Discipline::Kernel => {
            let instead = match config.clock.otherwise {
                Otherwise::Software => "a clock of our own is disciplined and served instead",
                Otherwise::Observe => "it is only watched",
            };
            format!("The system clock is disciplined; where it may not be set, {instead}.")
        }
    });
    match &config.serve {
        None => said.push("NTP is not served: there is no [serve] section.".into()),
        Some(serve) => {
            let list = |items: Vec<String>| items.join(", ");
            said.push(format!("NTP is served on {}.", list(serve.listen.iter().map(ToString::to_string).collect())));
            if !serve.smeared.is_empty() {
                let at = list(serve.smeared.iter().map(ToString::to_string).collect());
                said.push(format!("Leap seconds are spread over {} s at {at}.", serve.smear.interval));
            }
            said.push(if serve.restrict.is_some() {
                "Everybody is answered whom no `restrict` rule keeps out.".into()
            } else if serve.allow.is_empty() {
                "Only this machine is answered; `allow` in [serve] lets others in.".into()
            } else {
                format!(
                    "This machine and {} are answered.",
                    list(serve.allow.iter().map(ToString::to_string).collect())
                )
            });
        }
    }
    if let Some(local) = config.local {
        let after = match local.activate {
            Some(activate) => format!(", once it has been known to within {}", Bound(activate)),
            None => String::new(),
        };
        said.push(format!("Without any reference the clock is served as it is, at stratum {}{after}.", local.stratum));
        if local.orphan {
            said.push("Of the machines that do so and see each other, one serves and the others follow it.".into());
        }
    }
    if config.clock.panic_exit {
        said.push("If the clock is too far off to be moved, the program ends.".into());
    }
    if let Some(user) = &config.process.user {
        said.push(format!("Started as root, it becomes {}.", crate::observe::plain::plain(user)));
    }
    said.join("\n") + "\n"
}
