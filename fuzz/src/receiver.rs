//! The receiver driver, its framer, and UBX messages.

use refclocks::nmea::{Parsed, write};
use refclocks::receiver::{Checksums, Config, Content, Driver, Framer};
use refclocks::time::{Raw, Span, Timestamp};
use refclocks::ubx::setup::{Position, Timing, Wishes};
use refclocks::ubx::{self, Message};
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

    let good = good_frames(bytes);
    let fixed = Timing::Fixed { at: Position::geodetic(47.3, 8.5, 440.1), accuracy: 100 };
    let timing = if choice & 32 != 0 { Timing::SurveyIn(300) } else { fixed };
    let wishes = Wishes { baud: (choice & 64 != 0).then_some(115_200), timing: Some(timing) };
    let mut driver = Driver::new(Config {
        baud,
        not_before: refclockd::NOT_BEFORE,
        checksums: Checksums::Required,
        configure: (choice & 16 != 0).then_some(wishes),
        ..Config::default()
    });
    driver.handle_open(Timestamp::from_parts(1000, 0));
    let mut samples = 0;
    let mut last = Timestamp::EPOCH;
    for (i, part) in bytes.chunks(chunk).enumerate() {
        let arrived = Timestamp::from_parts(1000, 0) + Span::from_millis(i as i64 * 100);
        driver.handle_bytes(part, arrived);
        samples += drain(&mut driver, arrived, &mut last);
        while let Some(bytes) = driver.poll_transmit() {
            assert!(choice & 16 != 0, "nothing is sent unless it is asked for");
            assert!(ubx::Frame::from_bytes(&bytes).is_some());
        }
        if let Some(speed) = driver.poll_speed() {
            assert!(choice & 64 != 0 && baud.is_some() && (speed == 115_200 || Some(speed) == baud), "{speed}");
        }
        // Some inputs also let time pass, as a shell does.
        if choice & 8 != 0 && driver.poll_timeout().is_some_and(|due| due <= arrived) {
            driver.handle_timeout(arrived);
        }
    }
    let health = driver.health();
    assert_eq!(health.bytes, bytes.len() as u64);
    assert_eq!(health.samples, samples, "samples are counted");
    assert!(health.frames <= good, "{} frames taken, {good} have the right checksum", health.frames);
    assert!(samples <= health.frames, "a message gives one sample at most");
}

/// What the framer finds does not depend on how the bytes were cut, and lies in them where it says.
pub fn framer(data: &[u8]) {
    let mut options = Tail(data);
    let (chunk, choice) = (1 + usize::from(options.byte()), options.byte());
    let mended = if choice & 4 != 0 { Some(mend(options.0)) } else { None };
    let bytes = mended.as_deref().unwrap_or(options.0);
    let frames = |chunk: usize| {
        let mut framer = Framer::new(None);
        let (mut found, mut end) = (Vec::new(), 0);
        for part in bytes.chunks(chunk) {
            framer.push(part, Timestamp::EPOCH, |frame| {
                let (length, content) = match frame.content {
                    Content::Nmea(sentence) => (sentence.len(), sentence.to_vec()),
                    Content::Ubx(message) => {
                        let whole = ubx::write::message(message.class, message.id, message.payload);
                        (whole.len(), whole)
                    }
                };
                let at = frame.offset as usize;
                assert!(at >= end, "frames follow each other");
                end = at + length;
                assert_eq!(bytes.get(at..end), Some(&content[..]), "it is there, byte for byte");
                found.push((frame.offset, content));
            });
        }
        assert!(framer.garbage() as usize + end.min(1) <= bytes.len());
        found
    };
    assert_eq!(frames(chunk), frames(bytes.len().max(1)));
}

/// A class, a number and a payload: decoding it takes no more than it has, and what is valid is all of it.
pub fn message(data: &[u8]) {
    let [class, id, payload @ ..] = data else { return };
    let whole = ubx::write::message(*class, *id, payload);
    let Some(frame) = ubx::Frame::from_bytes(&whole) else { unreachable!("what was written is whole") };
    match Message::decode(frame) {
        Ok(Message::NavPvt(m)) => {
            assert!(!m.valid || (payload[11] & 7 == 7 && payload[21] & 1 == 1 && m.accuracy <= 10_000_000));
            assert!(m.utc.is_none_or(|utc| utc.civil.is_valid() && utc.nanos.abs() <= 1_000_000_000));
        }
        Ok(Message::NavTimeUtc(m)) => assert!(!m.valid || payload[19] & 7 == 7),
        Ok(Message::NavTimeGps(m)) => assert!(!m.valid || payload[11] & 7 == 7),
        Ok(Message::NavTimeLs(m)) => {
            let midnight = |at: Timestamp<refclocks::Utc>| at.whole_seconds() % 86_400 == 0 && at.to_parts().1 == 0;
            let coming = m.coming_at(refclockd::NOT_BEFORE);
            assert!(coming.is_none_or(|leap| midnight(leap.at) && leap.change.abs() == 1));
        }
        Ok(Message::NavSat(m)) => {
            assert_eq!(m.satellites().count(), usize::from(payload[5]));
            for s in m.satellites() {
                assert!(s.elevation.is_none_or(|e| (-90..=90).contains(&e)) && s.azimuth.is_none_or(|a| a <= 360));
            }
        }
        Ok(_) | Err(_) => {}
    }
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
            }
            Report::State(_) | Report::Sawtooth(_) | Report::Remark(_) => {}
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

/// Sentences run from a `$` over what can be printed, and UBX messages are what their lengths and
/// checksums say; wherever they begin, there are no more good ones than these.
fn good_frames(bytes: &[u8]) -> u64 {
    let frames = bytes.iter().enumerate().filter(|(at, byte)| {
        let rest = &bytes[*at..];
        match byte {
            b'$' => {
                let inside = |b: &&u8| (0x20..=0x7e).contains(*b) && **b != b'$';
                let run = &rest[..1 + rest[1..].iter().take_while(inside).count()];
                let good = is_good(run);
                assert!(good || Parsed::from_bytes(run).is_err(), "a wrong checksum was taken: {run:?}");
                good
            }
            0xb5 => is_message(rest),
            _ => false,
        }
    });
    frames.count() as u64
}

/// Does a UBX message begin here, by the book alone?
fn is_message(bytes: &[u8]) -> bool {
    let [0xb5, 0x62, _, _, low, high, ..] = bytes else { return false };
    let end = 6 + usize::from(*low) + 256 * usize::from(*high);
    let Some([sum_a, sum_b]) = bytes.get(end..end + 2) else { return false };
    let sums = |(a, b): (u8, u8), byte: &u8| (a.wrapping_add(*byte), b.wrapping_add(a.wrapping_add(*byte)));
    bytes[2..end].iter().fold((0, 0), sums) == (*sum_a, *sum_b)
}

/// Gives every line that looks like a sentence, and what looks like a UBX message, the right checksum.
fn mend(bytes: &[u8]) -> Vec<u8> {
    if let [0xb5, 0x62, class, id, low, high, rest @ ..] = bytes {
        let length = rest.len().min(usize::from(*low) + 256 * usize::from(*high));
        let (payload, rest) = rest.split_at(length);
        let mut out = ubx::write::message(*class, *id, payload);
        out.extend(mend(rest.get(2..).unwrap_or_default()));
        return out;
    }
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
