//! What `refclockd replay` does with a recording of `refclockd record`: decides it again.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use refclocks::sys::clock::Bracket;

use super::recorded::Listing;
use super::run::EX_DATAERR;
use crate::config::parse_duration;
use crate::core::snapshot::Snapshot;
use crate::core::state::{Bound, State};
use crate::observe::plain::plain;
use crate::recording::fault::{Fault, Faults, What};
use crate::recording::replay::{ReplayError, Replayed, Scene, header, replay};

/// sysexits: the file cannot be read.
const EX_NOINPUT: u8 = 66;
/// sysexits: what was asked for makes no sense.
const EX_USAGE: u8 = 64;
/// A clock that is further than this from the recorded one has another second, s.
const ANOTHER_SECOND: f64 = 0.5;

/// What goes wrong on the way, in this replay.
#[derive(Args, Debug, Default)]
pub struct FaultArgs {
    /// Lose a share of what a source says, e.g. GPS=0.1.
    #[arg(long, value_name = "SOURCE=SHARE", value_parser = lose)]
    lose: Vec<Fault>,
    /// Have all that a source says come later, e.g. GPS=300ms.
    #[arg(long, value_name = "SOURCE=TIME", value_parser = delay)]
    delay: Vec<Fault>,
    /// Flip bits in a share of what a source says, e.g. GPS=0.05.
    #[arg(long, value_name = "SOURCE=SHARE", value_parser = corrupt)]
    corrupt: Vec<Fault>,
    /// Unplug a source from so long after the beginning to so long, e.g. PPS=60..120.
    #[arg(long, value_name = "SOURCE=FROM..TO", value_parser = unplug)]
    unplug: Vec<Fault>,
    /// Write the bytes of a receiver instead, by its number, from 0 in the order of the configuration: a bare
    /// capture.
    #[arg(long, value_name = "NUMBER")]
    heard: Option<usize>,
    /// Other faults of the same kind.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl FaultArgs {
    fn all(&self) -> Vec<Fault> {
        [&self.lose, &self.delay, &self.corrupt, &self.unplug].into_iter().flatten().cloned().collect()
    }
}

/// Is this file a recording?
pub fn is_recording(path: &Path) -> bool {
    let mut begin = Vec::new();
    let read = File::open(path).and_then(|file| file.take(64).read_to_end(&mut begin));
    read.is_ok() && String::from_utf8_lossy(&begin).starts_with("{\"refclockd_recording\":")
}

/// Replays a recording, and says what came of it.
pub fn run(path: &Path, faults: &FaultArgs, samples: bool, json: bool) -> ExitCode {
    let ran = if samples { list(path, json) } else { try_run(path, faults, json) };
    match ran {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}: {error}.", path.display());
            match error {
                ReplayError::Io(_) => ExitCode::from(EX_NOINPUT),
                _ => ExitCode::from(EX_DATAERR),
            }
        }
    }
}

/// Prints each sample, pulse and datagram, and what came of it.
fn list(path: &Path, json: bool) -> Result<ExitCode, ReplayError> {
    let mut first = String::new();
    let mut file = BufReader::new(File::open(path)?);
    file.read_line(&mut first)?;
    let mut listing = Listing::new(&header(first.trim_end())?, json);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    replay(first.as_bytes().chain(file), None, |scene| {
        if let Scene::Line(line) = scene
            && let Some(said) = listing.line(line)
        {
            // A reader that went away is no reason to complain.
            let _ = writeln!(out, "{said}");
        }
    })?;
    let _ = out.flush();
    Ok(ExitCode::SUCCESS)
}

fn try_run(path: &Path, args: &FaultArgs, json: bool) -> Result<ExitCode, ReplayError> {
    let open = || File::open(path).map(BufReader::new);
    if let Some(number) = args.heard {
        let mut out = std::io::stdout().lock();
        replay(open()?, None, |scene| {
            if let Scene::Heard(source, bytes) = scene
                && source == number
            {
                // A reader that went away is no reason to complain.
                let _ = out.write_all(bytes);
            }
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let faults = args.all();
    let told = |at, text: String| {
        if json {
            println!("{}", serde_json::json!({ "utc": format!("{at:.3}"), "event": text }));
        } else {
            println!("{at:.3}  {}", plain(&text));
        }
    };
    if faults.is_empty() {
        let replayed = replay(open()?, None, |scene| {
            if let Scene::Told(at, event) = scene {
                told(at, event.to_string());
            }
        })?;
        say(&replayed, None, json);
        return Ok(if replayed.first.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    // As it was, to compare with.
    let mut as_it_was = Vec::new();
    replay(open()?, None, |scene| {
        if let Scene::Decided(snapshot) = scene {
            as_it_was.push(Standing::of(snapshot));
        }
    })?;
    let mut first = String::new();
    open()?.read_line(&mut first)?;
    let Bracket { raw_after: start, .. } = header(first.trim_end())?.at;
    let mut faults = Faults::new(faults, args.seed, start);
    let mut compared = Compared::default();
    let mut was = as_it_was.into_iter();
    let replayed = replay(open()?, Some(&mut faults), |scene| match scene {
        Scene::Told(at, event) => told(at, event.to_string()),
        Scene::Decided(snapshot) => {
            if let Some(was) = was.next() {
                compared.with(&was, &Standing::of(snapshot));
            }
        }
        Scene::Heard(..) | Scene::Line(_) => {}
    })?;
    if let Some(stranger) = faults.stranger() {
        eprintln!("There is no source {stranger:?} in it; it has {}.", faults.names().join(", "));
        return Ok(ExitCode::from(EX_USAGE));
    }
    compared.faults = faults.done();
    say(&replayed, Some(&compared), json);
    Ok(if compared.wrong_seconds == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a reader of the clock has at one moment.
struct Standing {
    clock: crate::core::snapshot::ClockReading,
    is_served: bool,
    bound: f64,
}

impl Standing {
    fn of(snapshot: &Snapshot) -> Self {
        let is_served = snapshot.system.stratum < 16 && snapshot.state != State::Local;
        Self { clock: snapshot.clock, is_served, bound: snapshot.bound_at(snapshot.at) }
    }
}

/// A replay with faults beside the one without.
#[derive(Debug, Default)]
struct Compared {
    faults: u64,
    /// Wake-ups at which both clocks were served.
    both: u64,
    /// The greatest distance between them then, s.
    worst: f64,
    /// Those at which they were further apart than both bounds allow.
    outside: u64,
    /// Those at which they had other seconds.
    wrong_seconds: u64,
}

impl Compared {
    fn with(&mut self, was: &Standing, is: &Standing) {
        if !was.is_served || !is.is_served {
            return;
        }
        let apart = (is.clock.tai - was.clock.at(is.clock.raw)).seconds().abs();
        self.both += 1;
        self.worst = self.worst.max(apart);
        self.outside += u64::from(apart > was.bound + is.bound);
        self.wrong_seconds += u64::from(apart > ANOTHER_SECOND);
    }
}

fn say(replayed: &Replayed, compared: Option<&Compared>, json: bool) {
    let last = &replayed.last;
    let state = serde_json::to_value(last.state).unwrap_or_default();
    let bound = last.bound_at(last.at);
    if json {
        let faults = compared.map(|c| {
            serde_json::json!({
                "calls_changed": c.faults, "compared": c.both, "worst_s": c.worst,
                "outside_bounds": c.outside, "wrong_seconds": c.wrong_seconds,
            })
        });
        let said = serde_json::json!({
            "recording": replayed.contents, "seconds": replayed.contents.seconds(),
            "calls": replayed.calls, "turns": replayed.turns, "decisions": replayed.compared,
            "different": replayed.different, "otherwise": replayed.otherwise,
            "first_different_line": replayed.first.as_ref().map(|first| first.line),
            "first_difference": replayed.first.as_ref().map(|first| &first.words), "state": state,
            "bound_s": bound.is_finite().then_some(bound), "stratum": last.system.stratum, "faults": faults,
        });
        println!("{said}");
        return;
    }
    print!("{}", replayed.contents);
    println!("At the end: {}, stratum {}, {}.", last.state, last.system.stratum, Bound(bound));
    match (compared, &replayed.first) {
        (Some(c), _) => println!(
            "{} calls and datagrams were changed. The clock was at most {:.1e} s from the recorded one, {} times of {} \
             further than both bounds allow, and {} times in another second.",
            c.faults, c.worst, c.outside, c.both, c.wrong_seconds
        ),
        (None, None) => println!(
            "{} calls, {} datagrams and stamps of them, {} decisions: the same, to the last bit.",
            replayed.calls, replayed.turns, replayed.compared
        ),
        (None, Some(first)) => println!(
            "{} of {} decisions are others, and {} things that come of datagrams. The first is at line {}: {}. Was it \
             recorded by another version of this program?",
            replayed.different,
            replayed.compared,
            replayed.otherwise,
            first.line,
            plain(&first.words)
        ),
    }
}

fn parts(text: &str) -> Result<(String, &str), String> {
    let (source, what) = text.split_once('=').ok_or("write the source's name, `=`, and how much")?;
    Ok((source.to_owned(), what))
}

fn share(text: &str) -> Result<(String, f64), String> {
    let (source, share) = parts(text)?;
    let share = share.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or("a share is from 0 to 1")?;
    Ok((source, share))
}

fn lose(text: &str) -> Result<Fault, String> {
    share(text).map(|(source, share)| Fault { source, what: What::Lose(share) })
}

fn corrupt(text: &str) -> Result<Fault, String> {
    share(text).map(|(source, share)| Fault { source, what: What::Corrupt(share) })
}

fn delay(text: &str) -> Result<Fault, String> {
    let (source, time) = parts(text)?;
    let seconds = parse_duration(time).filter(|s| (0.0..=3600.0).contains(s));
    let seconds = seconds.ok_or("write a time such as 300ms, of an hour at most")?;
    Ok(Fault { source, what: What::Delay(seconds) })
}

fn unplug(text: &str) -> Result<Fault, String> {
    let (source, times) = parts(text)?;
    let range = times.split_once("..").and_then(|(from, to)| Some((parse_duration(from)?, parse_duration(to)?)));
    let (from, to) = range.filter(|(from, to)| from < to).ok_or("write two times, such as 60..120")?;
    Ok(Fault { source, what: What::Unplug(from, to) })
}
