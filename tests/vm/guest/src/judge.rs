//! Holds CLOCK_REALTIME against true time just before each true second's pulse, and what the daemon
//! claims against that.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::truth::{Truth, clock_error};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The look is taken so long before the second begins, ns.
const BEFORE: i64 = 30_000_000;

#[derive(clap::Args)]
pub struct Args {
    /// Seconds to watch.
    seconds: i64,
    /// The daemon's control socket; without it only the clock is watched.
    #[arg(long)]
    socket: Option<PathBuf>,
    /// The daemon serves a clock of its own: judge that, not CLOCK_REALTIME.
    #[arg(long)]
    own_clock: bool,
    /// Where a line a second is written.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Count the seconds from here on.
    #[arg(long, default_value_t = 0)]
    from: i64,
}

/// One look.
struct Look {
    second: i64,
    error: i64,
    state: String,
    /// Error bound, ns; infinite where none is claimed.
    bound: f64,
}

pub fn run(args: &Args) -> Result<()> {
    let mut csv = args.csv.as_ref().map(File::create).transpose()?;
    let mut looks = Vec::new();
    let first = Truth::read()?.count() / 1_000_000_000 + 1;
    for second in 0..args.seconds {
        // Read anew each second: the line may have bent.
        Truth::read()?.sleep_until(first + second, 1_000_000_000 - BEFORE);
        let error = clock_error()?;
        let status = args.socket.as_ref().and_then(|socket| ask(socket).ok());
        let field = |path: &str| status.as_ref().and_then(|status| status.pointer(path)).cloned();
        let minus_system = field("/clock/minus_system_ns").and_then(|v| v.as_i64()).unwrap_or(0);
        let look = Look {
            second: args.from + second,
            error: if args.own_clock { error + minus_system } else { error },
            state: field("/state").and_then(|v| Some(v.as_str()?.to_owned())).unwrap_or_default(),
            bound: field("/accuracy/bound_ns").and_then(|v| v.as_f64()).unwrap_or(f64::INFINITY),
        };
        if let Some(csv) = &mut csv {
            writeln!(csv, "{},{},{},{}", look.second, look.error, look.state, look.bound)?;
        }
        looks.push(look);
    }
    println!("JUDGED {}", verdict(&looks));
    Ok(())
}

fn ask(socket: &PathBuf) -> Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"{\"ask\":\"status\"}\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn verdict(looks: &[Look]) -> Value {
    let greatest = |looks: &mut dyn Iterator<Item = &Look>| looks.map(|l| l.error.abs()).max();
    let rms = |looks: &mut dyn Iterator<Item = &Look>| {
        let squares: Vec<f64> = looks.map(|l| (l.error as f64).powi(2)).collect();
        (!squares.is_empty()).then(|| (squares.iter().sum::<f64>() / squares.len() as f64).sqrt().round())
    };
    let from = |start: i64| looks.iter().filter(move |l| l.second >= start);
    let claimed: Vec<&Look> = looks.iter().filter(|l| l.bound.is_finite()).collect();
    let held = claimed.iter().filter(|l| l.error.abs() as f64 <= l.bound).count();
    let mut states: Vec<&str> = looks.iter().map(|l| l.state.as_str()).collect();
    states.dedup();
    // The greatest excess over what was claimed tells how bad a broken bound is.
    let excess = claimed.iter().map(|l| l.error.abs() as f64 - l.bound).fold(f64::NEG_INFINITY, f64::max);
    json!({
        "seconds": looks.len(),
        "max_ns": greatest(&mut looks.iter()),
        "max_after_60s_ns": greatest(&mut from(60)),
        "rms_after_60s_ns": rms(&mut from(60)),
        "rms_ns": rms(&mut looks.iter()),
        "final_ns": looks.last().map(|l| l.error),
        "max_last_ten_ns": greatest(&mut looks.iter().rev().take(10)),
        "claimed": claimed.len(),
        "bound_held": held,
        "worst_excess_ns": excess.is_finite().then_some(excess),
        "states": states,
    })
}
