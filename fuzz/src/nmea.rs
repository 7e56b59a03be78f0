//! The NMEA driver.

use refclocks::nmea::{Config, Driver, Parsed, write};
use refclocks::time::{Raw, Span, Timestamp};
use refclocks::{LocalStamp, Report};

use crate::assert_possible;
use crate::bytes::Tail;

/// A receiver's bytes, cut anywhere. The last bytes say how they are cut, how fast the line is, and
/// whether checksums are put right first: a mutation would hardly ever get past them.
pub fn nmea(data: &[u8]) {
    let mut options = Tail(data);
    let (chunk, choice) = (1 + usize::from(options.byte()), options.byte());
    let baud = [None, Some(4800), Some(9600), Some(0)][usize::from(choice & 3)];
    let mended = if choice & 4 != 0 { Some(mend(options.0)) } else { None };
    let bytes = mended.as_deref().unwrap_or(options.0);

    let good = good_sentences(bytes);
    let mut driver = Driver::new(Config { baud, not_before: refclockd::NOT_BEFORE, last_good: refclockd::NOT_BEFORE });
    driver.handle_open(Timestamp::from_parts(1000, 0));
    let mut samples = 0;
    let mut last = Timestamp::EPOCH;
    for (i, part) in bytes.chunks(chunk).enumerate() {
        let arrived = Timestamp::from_parts(1000, 0) + Span::from_millis(i as i64 * 100);
        driver.handle_bytes(part, arrived);
        samples += drain(&mut driver, arrived, &mut last);
        // Some inputs also let time pass, as a shell does.
        if choice & 8 != 0 && driver.poll_timeout().is_some_and(|due| due <= arrived) {
            driver.handle_timeout(arrived);
        }
    }
    let health = driver.health();
    assert_eq!(health.bytes, bytes.len() as u64);
    assert_eq!(health.samples, samples, "samples are counted");
    assert!(health.frames <= good, "{} sentences taken, {good} have the right checksum", health.frames);
    assert!(samples <= health.frames, "a sentence gives one sample at most");
}

/// Checks what the driver reports, and counts the samples.
fn drain(driver: &mut Driver, arrived: Timestamp<Raw>, last: &mut Timestamp<Raw>) -> u64 {
    let mut samples = 0;
    while let Some(report) = driver.poll_report() {
        match report {
            Report::Sample(sample) => {
                samples += 1;
                assert_possible(sample.reference);
                let LocalStamp::Raw(at) = sample.local else { unreachable!("the serial line is stamped by us") };
                // The sentence may have begun in a read before this one, but no later than now.
                assert!(at <= arrived && at >= *last - Span::from_whole_seconds(1), "{at:?} {arrived:?}");
                *last = at;
            }
            Report::Receiver(receiver) => {
                for s in &receiver.satellites {
                    assert!(s.elevation.is_none_or(|e| (-90..=90).contains(&e)), "{s:?}");
                    assert!(s.azimuth.is_none_or(|a| a <= 360), "{s:?}");
                }
                // 16 talkers with a list of at most a few dozen each; never all that was ever sent.
                assert!(receiver.satellites.len() <= 16 * 64, "{} satellites", receiver.satellites.len());
                let antenna = receiver.antenna.unwrap_or_default();
                assert!(!antenna.contains(char::is_control) && antenna.len() <= 80, "{antenna:?}");
            }
            Report::State(_) | Report::Remark(_) => {}
            Report::Pulse(pulse) => unreachable!("no pulse comes over a serial line's data: {pulse:?}"),
        }
    }
    samples
}

/// What a sentence is, told without any of the driver's code: between a `$` and the line's end,
/// printable, with two hexadecimal digits after the last `*` that are the exclusive or of what
/// stands before it.
fn is_good(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    let Some((rest, [star, high, low])) = line.split_last_chunk::<3>() else { return false };
    let digit = |b: &u8| char::from(*b).to_digit(16);
    let (Some(high), Some(low), Some((b'$', body))) = (digit(high), digit(low), rest.split_first()) else {
        return false;
    };
    *star == b'*' && body.iter().fold(0, |sum, b| sum ^ u32::from(*b)) == high * 16 + low
}

fn good_sentences(bytes: &[u8]) -> u64 {
    bytes
        .split(|b| matches!(b, b'\r' | b'\n'))
        .filter_map(|line| line.iter().rposition(|b| *b == b'$').and_then(|at| line.get(at..)))
        .filter(|line| {
            let good = is_good(line);
            assert!(good || Parsed::from_bytes(line).is_err(), "a wrong checksum was taken: {line:?}");
            good
        })
        .count() as u64
}

/// Gives every line that looks like a sentence the right checksum.
fn mend(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in bytes.split(|b| *b == b'\n') {
        match line.strip_prefix(b"$").and_then(|l| std::str::from_utf8(l).ok()) {
            Some(body) => out.extend(write::sentence(body.split('*').next().unwrap_or_default()).bytes()),
            None => {
                out.extend(line);
                out.push(b'\n');
            }
        }
    }
    out
}
