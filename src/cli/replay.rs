//! `refclockd replay FILE`: what the drivers make of what was recorded.
//!
//! FILE is a bare capture of what a receiver sent: NMEA, UBX or both; lines that begin with `#` are the
//! capture's own remarks. Or it is a recording, which is decided again (`recording`).

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use refclocks::calendar::parse_iso8601;
use refclocks::receiver::{Capture, Checksums, Config, Heard, Outcome, utc_in_words};
use refclocks::time::{Timestamp, Utc};
use serde::Serialize;

use super::recording::{self, FaultArgs};

/// sysexits: the file cannot be read.
const EX_NOINPUT: u8 = 66;
/// Weeks of a rollover.
const WEEKS: i32 = 1024;

/// Options of `refclockd replay`.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// A bare capture of a receiver's bytes, or what `refclockd record` wrote.
    file: PathBuf,
    /// Each message that names a time, and what comes of it; of a recording each sample, pulse and datagram.
    #[arg(long)]
    samples: bool,
    /// With --samples: also those that were to name one and do not.
    #[arg(long, requires = "samples")]
    all: bool,
    /// Print JSON: one object a message with --samples, else one for the whole.
    #[arg(long)]
    json: bool,
    /// No date can be earlier, e.g. 2025-07-01 or `build`, when this program was made: dates are brought
    /// where they can lie by whole periods of 1024 weeks. Without it they stay as they are.
    #[arg(long, value_name = "DATE", value_parser = date)]
    not_before: Option<Timestamp<Utc>>,
    /// The line's speed, bit/s.
    #[arg(long, default_value_t = 9600)]
    baud: u32,
    /// What to do with sentences that have no checksum.
    #[arg(long, value_enum, default_value_t = Policy::Auto)]
    checksum: Policy,
    /// Believe the time that the receiver gives without a fix.
    #[arg(long)]
    without_fix: bool,
    #[command(flatten)]
    faults: FaultArgs,
}

/// What to do with sentences that have no checksum.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum Policy {
    /// They count until one with a checksum has come.
    Auto,
    /// They never count.
    Required,
    /// They always count.
    Optional,
}

fn date(text: &str) -> Result<Timestamp<Utc>, String> {
    match text {
        "build" => Ok(crate::NOT_BEFORE),
        _ => match parse_iso8601(&format!("{text}T00:00:00Z")) {
            Some((at, _)) => Ok(at),
            None => Err("write a date such as 2025-07-01, or `build`".into()),
        },
    }
}

/// One message that was to name a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Bytes before it in the file.
    pub offset: u64,
    /// The line it is in, from 1.
    pub line: usize,
    /// Which message, without its talker: `RMC`, `NAV-PVT`.
    pub source: &'static str,
    /// Which system speaks, in a sentence of the standard's.
    pub talker: Option<String>,
    /// The instant it means, ISO 8601 to the millisecond; what the receiver's own clock says if it is not
    /// valid.
    pub utc: Option<String>,
    /// The same to the nanosecond, where that is more.
    pub utc_exact: Option<String>,
    /// May its time be believed?
    pub valid: bool,
    /// Does the driver hand it to the clock?
    pub sample: bool,
    /// Why it is not handed on.
    pub why: Option<String>,
    /// Weeks that were added to its date.
    pub weeks_added: i32,
}

/// The whole of a capture.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Summary {
    bytes: u64,
    frames: u64,
    bad_checksums: u64,
    malformed: u64,
    messages: usize,
    valid: usize,
    refused: usize,
    samples: usize,
    first_utc: Option<String>,
    last_utc: Option<String>,
}

/// Runs it.
pub fn run(args: &ReplayArgs) -> ExitCode {
    if recording::is_recording(&args.file) {
        return recording::run(&args.file, &args.faults, args.samples, args.json);
    }
    let bytes = match std::fs::read(&args.file) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("refclockd: {} cannot be read: {error}.", args.file.display());
            return ExitCode::from(EX_NOINPUT);
        }
    };
    let checksums = match args.checksum {
        Policy::Auto => Checksums::Auto,
        Policy::Required => Checksums::Required,
        Policy::Optional => Checksums::Optional,
    };
    let config = Config {
        baud: Some(args.baud),
        not_before: args.not_before.unwrap_or(Timestamp::EPOCH),
        checksums,
        without_fix: args.without_fix,
        ..Config::default()
    };
    let capture = Capture::read(&bytes, config);
    let lines = lines(&bytes, &capture.heard);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    // A reader that went away (`| head`) is no reason to complain.
    let _ = match args.samples {
        true => print_lines(&mut out, lines.iter().filter(|line| args.all || line.utc.is_some()), args.json),
        false => print_summary(&mut out, &summary(&capture, &lines), args.json),
    }
    .and_then(|()| out.flush());
    ExitCode::SUCCESS
}

/// What was heard, for a reader.
pub fn lines(bytes: &[u8], heard: &[Heard]) -> Vec<Line> {
    let (mut counted, mut line) = (0, 1);
    heard
        .iter()
        .map(|h| {
            let to = usize::try_from(h.offset).unwrap_or(usize::MAX).min(bytes.len());
            line += bytes.get(counted..to).unwrap_or_default().iter().filter(|b| **b == b'\n').count();
            counted = counted.max(to);
            let utc = h.utc.map(|utc| utc_in_words(utc, h.second60));
            let is_exact = h.utc.is_none_or(|utc| utc.to_parts().1.is_multiple_of(1_000_000));
            Line {
                offset: h.offset,
                line,
                source: h.speaker.name(),
                talker: h.speaker.talker().map(str::to_owned),
                utc,
                utc_exact: h.utc.filter(|_| !is_exact && !h.second60).map(|utc| format!("{utc:.9}")),
                valid: h.outcome.is_valid(),
                sample: h.outcome == Outcome::Sample,
                why: (h.outcome != Outcome::Sample).then(|| h.outcome.to_string()),
                weeks_added: WEEKS * i32::from(h.periods),
            }
        })
        .collect()
}

fn summary(capture: &Capture, lines: &[Line]) -> Summary {
    let valid = || lines.iter().filter(|line| line.valid);
    let health = &capture.health;
    Summary {
        bytes: health.bytes,
        frames: health.frames,
        bad_checksums: health.bad_checksum,
        malformed: health.malformed,
        messages: lines.len(),
        valid: valid().count(),
        refused: lines.len() - valid().count(),
        samples: lines.iter().filter(|line| line.sample).count(),
        first_utc: valid().next().and_then(|line| line.utc.clone()),
        last_utc: valid().next_back().and_then(|line| line.utc.clone()),
    }
}

fn print_lines<'a>(out: &mut impl Write, lines: impl Iterator<Item = &'a Line>, json: bool) -> std::io::Result<()> {
    for line in lines {
        if json {
            serde_json::to_writer(&mut *out, line)?;
            writeln!(out)?;
            continue;
        }
        let utc = line.utc.as_deref().unwrap_or("-");
        let name = match &line.talker {
            Some(talker) => format!("{talker}{}", line.source),
            None => line.source.to_owned(),
        };
        let weeks = match line.weeks_added {
            0 => String::new(),
            weeks => format!(" ({weeks:+} weeks)"),
        };
        let outcome = match (line.sample, line.valid) {
            (true, _) => "sample",
            (false, true) => "valid",
            (false, false) => "refused",
        };
        let why = line.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        writeln!(out, "{:>8}  {name:<11}  {utc:<24}  {outcome}{why}{weeks}", line.offset)?;
    }
    Ok(())
}

fn print_summary(out: &mut impl Write, summary: &Summary, json: bool) -> std::io::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, summary)?;
        return writeln!(out);
    }
    let Summary { bytes, frames, bad_checksums, malformed, messages, valid, refused, samples, .. } = summary;
    writeln!(
        out,
        "{bytes} bytes: {frames} frames, {bad_checksums} with a wrong checksum or none, {malformed} malformed."
    )?;
    writeln!(
        out,
        "{messages} messages were to name a time: {valid} may be believed, {refused} may not; {samples} samples."
    )?;
    if let (Some(first), Some(last)) = (&summary.first_utc, &summary.last_utc) {
        writeln!(out, "From {first} to {last}. See each with --samples.")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use refclocks::calendar::CivilTime;
    use refclocks::nmea;
    use refclocks::ubx;

    #[test]
    fn a_line_for_each_message() {
        let mut bytes = b"# Date: 2026-01-01\n".to_vec();
        for second in 0..3 {
            let at = CivilTime { year: 2026, month: 1, day: 2, hour: 3, minute: 4, second, nanos: 0 };
            bytes.extend(nmea::write::rmc("GN", &at, second > 0).into_bytes());
            bytes.extend(ubx::write::nav_pvt(&at, -123, second > 0));
        }
        let capture = Capture::read(&bytes, Config::default());
        let mut out = Vec::new();
        print_lines(&mut out, lines(&bytes, &capture.heard).iter(), false).unwrap();
        insta::assert_snapshot!("table", String::from_utf8(out).unwrap());
        let mut out = Vec::new();
        print_lines(&mut out, lines(&bytes, &capture.heard).iter().skip(4), true).unwrap();
        insta::assert_snapshot!("json", String::from_utf8(out).unwrap());
    }
}
