//! A session with what says that it is gpsd.

use refclocks::gpsd::{Config, Fatal, Session, Stream};
use refclocks::time::{Span, Timestamp};
use refclocks::{LocalStamp, Report};

use crate::assert_possible;
use crate::bytes::Tail;

const GREETING: &[u8] =
    b"{\"class\":\"VERSION\",\"release\":\"3.22\",\"rev\":\"3.22\",\"proto_major\":3,\"proto_minor\":14}\r\n";

/// Bytes from gpsd's socket, cut anywhere. The last bytes say how, and whether a greeting comes first.
pub fn gpsd(data: &[u8]) {
    let mut options = Tail(data);
    let (chunk, choice) = (1 + usize::from(options.byte()), options.byte());
    let mut bytes = if choice & 1 != 0 { GREETING.to_vec() } else { Vec::new() };
    bytes.extend(options.0);

    let at_once = play(&bytes, bytes.len().max(1), choice);
    let in_parts = play(&bytes, chunk, choice);
    if choice & 2 != 0 {
        assert_eq!(at_once, in_parts, "how the bytes are cut does not matter");
    }
}

/// What a session reports, until its end.
fn play(bytes: &[u8], chunk: usize, choice: u8) -> (Vec<(Stream, Report)>, Result<(), Fatal>) {
    let start = Timestamp::from_parts(1000, 0);
    let mut session =
        Session::new(Config { device: None, not_before: refclockd::NOT_BEFORE, last_good: refclockd::NOT_BEFORE });
    session.handle_open(start);
    let mut reports = Vec::new();
    let mut asked = 0;
    let mut end = Ok(());
    for (i, part) in bytes.chunks(chunk).enumerate() {
        // All at one instant, or at 10 Hz.
        let now = if choice & 2 != 0 { start } else { start + Span::from_millis(i as i64 * 100) };
        end = session.handle_bytes(part, now);
        asked += std::iter::from_fn(|| session.poll_transmit()).count();
        reports.extend(std::iter::from_fn(|| session.poll_report()));
        if end.is_err() {
            break;
        }
        if session.poll_timeout().is_some_and(|due| due <= now) {
            end = session.handle_timeout(now);
            if end.is_err() {
                break;
            }
        }
    }
    reports.extend(std::iter::from_fn(|| session.poll_report()));
    assert!(asked <= 1, "we ask once");
    assert!(asked == 0 || is_greeted(bytes), "we ask gpsd only");
    let mut samples = [0, 0];
    for (stream, report) in &reports {
        match report {
            Report::Sample(sample) => {
                assert_eq!(asked, 1, "a sample before gpsd said who it is");
                samples[*stream as usize] += 1;
                assert_possible(sample.reference);
                let LocalStamp::Realtime(local) = sample.local else { unreachable!("gpsd stamps with its own clock") };
                assert!((-2..=(1 << 40) + 2).contains(&local.whole_seconds()), "{local:?}");
            }
            Report::Receiver(receiver) => {
                assert!(receiver.satellites.iter().all(|s| s.elevation.is_none_or(|e| (-90..=90).contains(&e))));
                assert!(receiver.satellites.iter().all(|s| s.azimuth.is_none_or(|a| a <= 360)));
            }
            Report::State(_) | Report::Remark(_) => {}
            Report::Sawtooth(sawtooth) => unreachable!("gpsd tells no sawtooth: {sawtooth:?}"),
            Report::Pulse(pulse) => unreachable!("gpsd numbers its pulses: {pulse:?}"),
        }
    }
    assert_eq!(samples, [session.health(Stream::Message).samples, session.health(Stream::Pulse).samples]);
    (reports, end)
}

/// Is the first line that is not blank gpsd's greeting?
fn is_greeted(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let object = lines.next().and_then(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    object.is_some_and(|o| o.get("class").and_then(|c| c.as_str()) == Some("VERSION"))
}
