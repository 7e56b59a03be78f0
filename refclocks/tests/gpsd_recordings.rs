//! Recordings of the real gpsd, wrong pulses of a loaded host among them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod outside;

use outside::folder;
use refclocks::gpsd::{Config, Session, Stream};
use refclocks::time::{Span, Timestamp};
use refclocks::{LocalStamp, Report};

/// Offsets (system - receiver, ms) of messages and pulses that a recording gives.
fn replay(text: &str) -> (Vec<f64>, Vec<f64>, u64) {
    let mut session = Session::new(Config {
        device: None,
        not_before: Timestamp::from_parts(1_751_328_000, 0),
        last_good: Timestamp::EPOCH,
    });
    session.handle_open(Timestamp::from_parts(1, 0));
    let (mut messages, mut pulses) = (Vec::new(), Vec::new());
    for (i, line) in text.lines().filter(|l| l.starts_with('{')).enumerate() {
        let now = Timestamp::from_parts(1, 0) + Span::from_millis(100 * i as i64);
        session.handle_bytes(format!("{line}\r\n").as_bytes(), now).unwrap();
        while let Some((stream, report)) = session.poll_report() {
            if let Report::Sample(sample) = report
                && let LocalStamp::Realtime(local) = sample.local
            {
                let offset = (local.reinterpret() - sample.reference).seconds() * 1e3;
                if stream == Stream::Pulse { pulses.push(offset) } else { messages.push(offset) }
            }
        }
    }
    (messages, pulses, session.health(Stream::Pulse).stale)
}

#[test]
fn recordings_give_messages_and_only_true_pulses() {
    let Some(folder) = folder("REFCLOCKD_GPSD_RECORDINGS") else { return };
    let mut with_pulses = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // The one that was captured by a client which asked for no greeting begins in mid-stream.
        if !name.ends_with(".json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.lines().find(|l| l.starts_with('{')).is_some_and(|l| l.contains("\"VERSION\"")) {
            println!("{name}: begins without a greeting");
            continue;
        }
        let (messages, pulses, refused) = replay(&text);
        println!("{name}: {} messages, {} pulses, {refused} pulses refused", messages.len(), pulses.len());
        for pulse in &pulses {
            assert!(pulse.abs() < 5.0, "{name}: a pulse {pulse} ms off");
        }
        with_pulses += u32::from(!pulses.is_empty());
    }
    assert!(with_pulses >= 3);
}
