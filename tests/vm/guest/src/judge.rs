//! Holds CLOCK_REALTIME against true time just before each true second's pulse, and against that
//! what the daemon, the kernel and the NTP server claim.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{self, Answer};
use crate::kernel::{self, Kernel};
use crate::truth::{Truth, clock_error};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The look is taken so long before the second begins, ns.
const BEFORE: i64 = 30_000_000;
const SECOND: i64 = 1_000_000_000;

#[derive(clap::Args)]
pub struct Args {
    /// Seconds to watch.
    seconds: i64,
    /// The daemon's control socket; without it only the clock is watched.
    #[arg(long)]
    socket: Option<PathBuf>,
    /// An NTP server to ask each second.
    #[arg(long)]
    server: Option<SocketAddr>,
    /// The daemon serves another clock than CLOCK_REALTIME: judge that.
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
    /// UTC, s since 1970.
    utc: i64,
    /// Of the clock that is judged, ns.
    error: i64,
    /// Of CLOCK_REALTIME, ns.
    system_error: i64,
    state: String,
    /// Error bound, ns; infinite where none is claimed.
    bound: f64,
    kernel: Kernel,
    answer: Option<Answer>,
}

impl Look {
    fn claims(&self) -> bool {
        self.bound.is_finite()
    }

    /// Other programs are told of an error bound that does not hold.
    fn kernel_lies(&self) -> bool {
        !self.kernel.unsynchronised && self.system_error.abs() > self.kernel.max_error
    }

    /// A client is told a time that is further off than the server claims.
    fn server_lies(&self) -> bool {
        self.answer.is_some_and(|answer| answer.is_wrong())
    }
}

pub fn run(args: &Args) -> Result<()> {
    let mut csv = args.csv.as_ref().map(File::create).transpose()?;
    let mut looks = Vec::new();
    let first = Truth::read()?.count() / SECOND + 1;
    for second in 0..args.seconds {
        // Read anew each second: the line may have bent.
        let truth = Truth::read()?;
        truth.sleep_until(first + second, SECOND - BEFORE);
        let (error, status) = look_at_both(args.socket.as_ref())?;
        let field = |path: &str| status.as_ref().and_then(|status| status.pointer(path)).cloned();
        let minus_system = field("/clock/minus_system_ns").and_then(|v| v.as_i64()).unwrap_or(0);
        let look = Look {
            second: args.from + second,
            utc: truth.utc_nanos(truth.count()) / SECOND,
            error: if args.own_clock { error + minus_system } else { error },
            system_error: error,
            state: field("/state").and_then(|v| Some(v.as_str()?.to_owned())).unwrap_or_default(),
            bound: field("/accuracy/bound_ns").and_then(|v| v.as_f64()).unwrap_or(f64::INFINITY),
            kernel: kernel::look()?,
            answer: args.server.and_then(|server| client::ask(server).ok()),
        };
        if let Some(csv) = &mut csv {
            let Look { second, utc, error, system_error, state, bound, kernel, answer } = &look;
            writeln!(csv, "{second};{utc};{error};{system_error};{state};{bound};{kernel:?};{answer:?}")?;
        }
        looks.push(look);
    }
    println!("JUDGED {}", verdict(&looks));
    Ok(())
}

/// CLOCK_REALTIME's error, ns, as it was when the daemon gave its status. While a leap second is slewed
/// the error moves by 2 us in each ms, and the scheduler may come between the two readings: so the clock
/// is read before and after, and the tightest of some tries is taken.
fn look_at_both(socket: Option<&PathBuf>) -> Result<(i64, Option<Value>)> {
    let Some(socket) = socket else { return Ok((clock_error()?, None)) };
    let mut best: Option<(i64, i64, Option<Value>)> = None;
    for _ in 0..5 {
        let before = clock_error()?;
        let status = ask(socket).ok();
        let after = clock_error()?;
        let spread = (after - before).abs();
        if best.as_ref().is_none_or(|(least, ..)| spread < *least) {
            best = Some((spread, before + (after - before) / 2, status));
        }
        if spread < 1_000 {
            break;
        }
    }
    let (_, error, status) = best.expect("at least one try");
    Ok((error, status))
}

fn ask(socket: &PathBuf) -> Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
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
    let count = |is: &dyn Fn(&Look) -> bool| looks.iter().filter(|l| is(l)).count();
    let first = |is: &dyn Fn(&Look) -> bool| looks.iter().find(|l| is(l)).map(|l| l.utc);
    let last = |is: &dyn Fn(&Look) -> bool| looks.iter().rev().find(|l| is(l)).map(|l| l.utc);
    let warned = |l: &Look| l.answer.is_some_and(|a| a.leap == 1 || a.leap == 2);
    let told = |l: &Look| l.kernel.inserts || l.kernel.deletes;
    let mut states: Vec<&str> = looks.iter().map(|l| l.state.as_str()).collect();
    states.dedup();
    // The greatest excess over what was claimed tells how bad a broken bound is.
    let excess = looks.iter().filter(|l| l.claims()).map(|l| l.error.abs() as f64 - l.bound);
    let excess = excess.fold(f64::NEG_INFINITY, f64::max);
    json!({
        "seconds": looks.len(),
        "max_ns": greatest(&mut looks.iter()),
        "max_after_60s_ns": greatest(&mut from(60)),
        "rms_after_60s_ns": rms(&mut from(60)),
        "rms_ns": rms(&mut looks.iter()),
        "final_ns": looks.last().map(|l| l.error),
        "max_last_ten_ns": greatest(&mut looks.iter().rev().take(10)),
        "system_max_ns": looks.iter().map(|l| l.system_error.abs()).max(),
        "system_final_ns": looks.last().map(|l| l.system_error),
        "claimed": count(&Look::claims),
        "bound_held": count(&|l| l.claims() && l.error.abs() as f64 <= l.bound),
        "final_bound_ns": looks.last().map(|l| l.bound.round()).filter(|bound| bound.is_finite()),
        "worst_excess_ns": excess.is_finite().then_some(excess),
        "states": states,
        "answered": count(&|l| l.answer.is_some()),
        "answered_unsynchronised": count(&|l| l.answer.is_some_and(|a| a.leap == 3)),
        "answered_wrong": count(&Look::server_lies),
        "stratum": looks.last().and_then(|l| l.answer).map(|a| a.stratum),
        "warned": count(&warned),
        "warned_first": first(&warned),
        "warned_last": last(&warned),
        "kernel_unsynchronised": count(&|l| l.kernel.unsynchronised),
        "kernel_wrong": count(&Look::kernel_lies),
        "kernel_max_error_ns": looks.last().map(|l| l.kernel.max_error),
        "kernel_estimated_error_ns": looks.last().map(|l| l.kernel.estimated_error),
        "kernel_leap": count(&told),
        "kernel_leap_first": first(&told),
        "kernel_leap_last": last(&told),
        "kernel_tai": looks.last().map(|l| l.kernel.tai),
    })
}
