//! What was recorded is decided again, bit for bit; and with faults on the way, no wrong second is served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;
mod recording_common;
mod run_common;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Output};

use recording_common::START;
use refclockd::clock::DisciplinedClock;
use refclockd::core::snapshot::SourceKind;
use refclockd::core::source::SourceConfig;
use refclockd::recording::fault::{Fault, Faults, What};
use refclockd::recording::replay::{ReplayError, Scene, begin, header, replay};
use refclockd::recording::write::Recorder;
use refclockd::sim::Rng;
use refclocks::sys::clock::Bracket;
use refclocks::time::{Raw, Realtime, Span, Timestamp};
use refclocks::{Edge, Health, LocalStamp, Pulse, Report, Sample};
use run_common::stand_ins::Pps;
use run_common::{PROGRAM, receiver_on_a_pty};

fn raw(nanos: i64) -> Timestamp<Raw> {
    Timestamp::from_parts(1000, 0) + Span::from_nanos(nanos)
}

fn realtime(nanos: i64) -> Timestamp<Realtime> {
    START.reinterpret() + Span::from_millis(3) + Span::from_nanos(nanos)
}

fn bracket(nanos: i64) -> Bracket {
    Bracket { raw_before: raw(nanos - 100), realtime: realtime(nanos), raw_after: raw(nanos + 100) }
}

fn source(name: &str, kind: SourceKind) -> SourceConfig {
    SourceConfig { address: format!("/dev/{name}"), ..SourceConfig::new(name, kind) }
}

/// Records so many seconds of a receiver and its pulse, as the daemon would.
fn record(path: &Path, seconds: i64) {
    let header = recording_common::header(bracket(0));
    let mut clock: DisciplinedClock = begin(&header).unwrap();
    let (recorder, tape) = Recorder::start(path, &header).unwrap();
    clock.record_to(tape);
    let gps = clock.add_source(source("GPS", SourceKind::Message));
    let pps = clock.add_source(source("PPS", SourceKind::Pulse));
    let mut rng = Rng::new(7);
    let health = Health::default();
    for second in 1..seconds {
        let true_second = second * 1_000_000_000;
        let stamp = true_second + (1000.0 * rng.normal()) as i64;
        let pulse = Pulse {
            local: LocalStamp::Realtime(realtime(stamp)),
            edge: Edge::Assert,
            sequence: second as u32,
            missed: 0,
        };
        clock.handle_report(pps, &Report::Pulse(pulse), &health, &bracket(true_second + 2_000_000));
        clock.note_decision(&clock.snapshot(raw(true_second + 2_000_200)));
        let arrived = true_second + 120_000_000 + (5e6 * rng.normal()) as i64;
        let reference = START + Span::from_whole_seconds(second);
        let local = LocalStamp::Raw(raw(arrived));
        let sample = Sample { local, reference, second60: false, quantum: Span::from_millis(1), leap: None };
        clock.handle_report(gps, &Report::Sample(sample), &health, &bracket(arrived + 100_000));
        clock.handle_timeout(&bracket(arrived + 200_000));
        clock.note_decision(&clock.snapshot(raw(arrived + 200_200)));
    }
    drop(clock);
    assert_eq!(recorder.finish().unwrap(), 2 + 5 * (seconds as u64 - 1));
}

fn open(path: &Path) -> BufReader<File> {
    BufReader::new(File::open(path).unwrap())
}

#[test]
fn the_same_is_decided_to_the_last_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    record(&path, 300);
    let mut events = Vec::new();
    let replayed = replay(open(&path), None, |scene| {
        if let Scene::Told(_, event) = scene {
            events.push(event.to_string());
        }
    })
    .unwrap();
    assert_eq!((replayed.compared, replayed.different), (2 * 299, 0));
    assert_eq!(replayed.last.system.stratum, 1);
    assert!(replayed.last.bound_at(replayed.last.at) < 1e-5);
    assert!(events.iter().any(|event| event.contains("names the second of PPS")), "{events:?}");

    // One nanosecond in one stamp is another decision, from there on.
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let (number, line) = lines.iter().enumerate().filter(|(_, line)| line.contains("\"pulse\"")).nth(100).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
    let fraction = &mut value["call"]["report"]["report"]["pulse"]["local"]["realtime"][1];
    *fraction = (fraction.as_u64().unwrap() ^ (1 << 34)).into();
    let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    changed[number] = value.to_string();
    let replayed = replay(changed.join("\n").as_bytes(), None, |_| {}).unwrap();
    assert!(replayed.different > 100, "{}", replayed.different);
    assert_eq!(replayed.first.map(|first| first.line), Some(number + 2));
}

#[test]
fn faults_serve_no_wrong_second() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    record(&path, 300);
    let fault = |source: &str, what| Fault { source: source.into(), what };
    let stories = [
        ("losses", vec![fault("GPS", What::Lose(0.5)), fault("PPS", What::Lose(0.3))]),
        ("late messages", vec![fault("GPS", What::Delay(0.3))]),
        ("corruption", vec![fault("GPS", What::Corrupt(0.1)), fault("PPS", What::Corrupt(0.05))]),
        ("unplugged", vec![fault("PPS", What::Unplug(60.0, 120.0)), fault("GPS", What::Unplug(80.0, 200.0))]),
    ];
    for (story, faults) in stories {
        for seed in 1..4 {
            let mut faults = Faults::new(faults.clone(), seed, raw(100));
            let (mut served, mut worst) = (0, 0.0f64);
            let replayed = replay(open(&path), Some(&mut faults), |scene| {
                if let Scene::Decided(snapshot) = scene
                    && snapshot.system.stratum < 16
                {
                    served += 1;
                    let elapsed = snapshot.at - Timestamp::from_parts(1000, 0);
                    worst = worst.max((snapshot.utc_at(snapshot.at).0 - (START + elapsed)).seconds().abs());
                }
            })
            .unwrap();
            println!(
                "{story}, seed {seed}: {} calls changed, served {served} times of 598, worst {worst:.1e} s",
                faults.done()
            );
            assert!(faults.done() > 0 && replayed.calls > 0);
            assert!(served > 300 && worst < 0.5, "{story}, seed {seed}: served {served}, worst {worst} s");
        }
    }
}

#[test]
fn what_is_no_recording_is_told_with_its_line() {
    let fails = |text: &str| replay(text.as_bytes(), None, |_| {}).unwrap_err().to_string();
    assert!(fails("$GPRMC,,V\n").contains("its first line is not that of a recording"));
    assert_eq!(fails("{\"refclockd_recording\":9}\n"), "it has version 9 of the format, and this program reads 1 to 2");
    assert!(matches!(header("{}"), Err(ReplayError::NotARecording(_))));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    record(&path, 3);
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.truncate(text.len() - 30);
    assert!(fails(&text).starts_with("line 13 is not one of a recording: "), "{}", fails(&text));
    let mut clock = begin(&header(text.lines().next().unwrap()).unwrap()).unwrap();
    assert!(clock.poll_event().is_none());
}

fn replayed(path: &Path, options: &[&str]) -> Output {
    Command::new(PROGRAM).arg("replay").args(options).arg(path).output().unwrap()
}

#[test]
fn the_daemon_records_and_the_command_replays() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some(pps) = Pps::build(folder, "/dev/pps-stand-in", 25_000_000) else { return };
    let (_receiver, messages) = receiver_on_a_pty();
    let configuration = format!(
        "[[refclock]]\ndriver = \"nmea\"\ndevice = \"{}\"\n[[refclock]]\ndriver = \"pps\"\ndevice = \"{}\"\n\
         [state]\ndir = \"{2}/state\"\n[control]\nsocket = \"{2}/api.sock\"\n",
        messages.display(),
        pps.path,
        folder.display()
    );
    std::fs::write(folder.join("refclockd.toml"), configuration).unwrap();
    let path = folder.join("recording");
    let mut command = Command::new(PROGRAM);
    pps.show_to(&mut command);
    command.arg("record").arg("-c").arg(folder.join("refclockd.toml")).arg("-o").arg(&path);
    let output = command.args(["--duration", "20s"]).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && log.contains("lines were recorded in"), "{log}");

    let output = replayed(&path, &[]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("the same, to the last bit."), "{said}\n{log}");
    assert!(said.contains("PPS: delivering"), "{said}");
    println!("{} bytes: {}", path.metadata().unwrap().len(), said.lines().last().unwrap());

    let output = replayed(&path, &["--json", "--lose", "GPS=0.2", "--unplug", "PPS=8..12"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    let last: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(last["faults"]["wrong_seconds"], 0, "{last}");
    assert!(last["faults"]["calls_changed"].as_u64().unwrap() >= 3, "{last}");
    assert!(said.contains("unplugged in this replay"), "{said}");
    // Each look at the pulse is in it as the kernel told it.
    let text = std::fs::read_to_string(&path).unwrap();
    let looks =
        text.lines().filter(|line| line.contains(r#"{"looked":{"source":1,"#) && line.contains("assert_sequence"));
    assert!(looks.count() >= 15, "{text}");
    // What the receiver said, byte for byte: good for what reads bare captures.
    let output = replayed(&path, &["--heard", "0"]);
    let capture = folder.join("capture.log");
    std::fs::write(&capture, &output.stdout).unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).matches("$GPRMC,").count() >= 15);
    let output = replayed(&capture, &["--samples", "--json"]);
    assert!(String::from_utf8_lossy(&output.stdout).lines().count() >= 15, "{output:?}");
    // The file that is there is not written over.
    let mut again = Command::new(PROGRAM);
    again.arg("record").arg("-c").arg(folder.join("refclockd.toml")).arg("-o").arg(&path);
    let output = again.args(["--duration", "1s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", String::from_utf8_lossy(&output.stderr));
}
