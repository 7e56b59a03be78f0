//! The datagrams of a recording lead to the same exchanges and rejections again; with faults on the way, to no wrong second.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ntp_common;
mod recording_common;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use recording_common::START;
use refclockd::clock::DisciplinedClock;
use refclockd::core::leap::UtcMap;
use refclockd::core::snapshot::SourceKind;
use refclockd::core::source::{ServerSays, SourceConfig};
use refclockd::ntp::client::measurement::Rate;
use refclockd::ntp::client::ours::Ours;
use refclockd::ntp::client::overheard::{self, Overheard};
use refclockd::ntp::client::passive::Passive;
use refclockd::ntp::client::{Association, Config, Filters, Measurement, Rejected, Request, Symmetric};
use refclockd::ntp::keys::{Algorithm, Key};
use refclockd::ntp::packet::{Header, Mode, NtpShort, Packet};
use refclockd::ntp::reference_id::reference_id;
use refclockd::ntp::server::View;
use refclockd::recording::association::{Begin, Came, Turn, Whose, Witness};
use refclockd::recording::fault::{Fault, Faults, What};
use refclockd::recording::replay::{Difference, Replayed, Scene, begin, replay};
use refclockd::recording::write::{Recorder, Tape};
use refclockd::sim::Rng;
use refclocks::sys::clock::Bracket;
use refclocks::time::{NtpTimestamp, Raw, Span, Timestamp, Utc};
use refclocks::{LeapIndicator, ReferenceId};

const SECRET: &[u8] = b"roses are red";
const RATE: Rate = Rate { correction: 0.0, deviation: 1e-7 };

fn raw(seconds: f64) -> Timestamp<Raw> {
    Timestamp::from_parts(1000, 0) + Span::from_seconds(seconds)
}

fn utc(seconds: f64) -> Timestamp<Utc> {
    START + Span::from_seconds(seconds)
}

fn bracket(seconds: f64) -> Bracket {
    let realtime = (START + Span::from_millis(3)).reinterpret() + Span::from_seconds(seconds);
    Bracket { raw_before: raw(seconds - 1e-7), realtime, raw_after: raw(seconds + 1e-7) }
}

fn key() -> Arc<Key> {
    Arc::new(Key::new(9, Algorithm::Sha256, SECRET).unwrap())
}

fn says(mode: Mode, transmit: f64) -> Header {
    Header {
        leap: LeapIndicator::None,
        version: 4,
        mode,
        stratum: 1,
        poll: 4,
        precision: -20,
        root_delay: NtpShort(0),
        root_dispersion: NtpShort(66),
        refid: ReferenceId(*b"GPS\0"),
        reference_time: NtpTimestamp::UNKNOWN,
        origin: NtpTimestamp::UNKNOWN,
        receive: NtpTimestamp::UNKNOWN,
        transmit: NtpTimestamp::from_utc(utc(transmit)),
    }
}

fn signed(header: &Header) -> Vec<u8> {
    let mut octets = header.to_octets().to_vec();
    octets.resize(48 + 4 + 20, 0);
    key().sign(&mut octets, 48, 20).unwrap();
    octets
}

/// A daemon that records, with the engine that it has.
struct Recording {
    clock: DisciplinedClock,
    tape: Tape,
    published: UtcMap,
}

impl Recording {
    fn start(path: &Path) -> (Self, Recorder) {
        let header = recording_common::header(bracket(0.0));
        let mut clock = begin(&header).unwrap();
        let (recorder, tape) = Recorder::start(path, &header).unwrap();
        clock.record_to(tape.clone());
        (Self { clock, tape, published: UtcMap::default() }, recorder)
    }

    /// What came of a datagram goes where the daemon has it go.
    fn came(&mut self, source: usize, result: Result<Measurement, Rejected>, standing: (u8, i8), at: f64) {
        self.clock.handle_reach(source, standing.0, standing.1);
        if let Ok(m) = result {
            let (measurement, says) = m.hand_over(m.at, &self.published);
            let says =
                ServerSays { id: reference_id([192, 0, 2, 1].into()), our_id: ReferenceId([192, 0, 2, 9]), ..says };
            self.clock.handle_exchange(source, measurement, says, raw(at));
        }
        self.clock.handle_timeout(&bracket(at + 1e-4));
        let snapshot = self.clock.snapshot(raw(at + 2e-4));
        self.clock.note_decision(&snapshot);
        self.published = snapshot.utc;
    }
}

fn config(key: Option<Arc<Key>>, xleave: bool) -> Config {
    Config {
        address: "192.0.2.1:123".parse().unwrap(),
        iburst: true,
        minpoll: 3,
        maxpoll: 3,
        version: 4,
        key,
        xleave,
        presend: None,
        filters: Filters { max_delay_ratio: 8.0, ..Filters::default() },
        seed: [5; 32],
    }
}

fn header_of(request: &Request) -> Header {
    Header::parse(&Packet::new_checked(request.octets()).unwrap())
}

/// Ten minutes with a server that has a key, and with who forges, repeats and loses.
fn record_server(path: &Path) {
    let (mut recording, recorder) = Recording::start(path);
    let source = recording.clock.add_source(SourceConfig::new("server", SourceKind::Network));
    let witness = Witness::new(recording.tape.clone(), Whose::Source(source));
    let key = key();
    let config = config(Some(key.clone()), true);
    witness.note(|| Turn::Begin(Box::new(Begin::Server(config.clone()))));
    let mut association = Association::new(config);
    let mut rng = Rng::new(3);
    let (mut now, mut last) = (0.0, None);
    while now < 600.0 {
        now += 0.1;
        let Some(request) = association.poll_transmit(raw(now)) else { continue };
        witness.note(|| Turn::sent(raw(now), request.octets(), None));
        witness.note(|| Turn::HandedOver(raw(now + 1e-5)));
        association.handle_transmitted(raw(now + 1e-5));
        let asked = header_of(&request);
        let (out, back) = (1e-3 + 2e-4 * -rng.uniform().ln(), 1e-3 + 2e-4 * -rng.uniform().ln());
        let (came, left) = (now + 2e-5 + out, now + 2e-5 + out + 3e-5);
        let received = left + back;
        witness.note(|| Turn::Departed(raw(now + 2e-5).into()));
        association.handle_departed(raw(now + 2e-5));
        let mut reply = Header { receive: NtpTimestamp::from_utc(utc(came)), ..says(Mode::Server, left) };
        // RFC 9769: a request that tells of the last exchange is answered by when that reply left.
        reply.origin = asked.transmit;
        if let Some((receive, transmit)) = last.filter(|(receive, _)| *receive == asked.origin) {
            let _: NtpTimestamp = receive;
            (reply.origin, reply.transmit) = (asked.receive, transmit);
        }
        last = Some((reply.receive, NtpTimestamp::from_utc(utc(left))));
        let forged = Header { transmit: NtpTimestamp::from_utc(utc(left + 5.0)), ..reply };
        let stale = Header { origin: NtpTimestamp(77), ..reply };
        let datagrams = match rng.bits() % 10 {
            0 => vec![],
            1 => vec![signed(&stale), signed(&reply)],
            2 => vec![forged.to_octets().to_vec(), signed(&reply)],
            3 => vec![signed(&reply), signed(&reply)],
            _ => vec![signed(&reply)],
        };
        for (nth, octets) in datagrams.into_iter().enumerate() {
            let at = received + 1e-5 * nth as f64;
            let result = association.handle_receive(&octets, raw(at), raw(at + 5e-5));
            witness.note(|| Turn::Came(Came::new(&octets, raw(at), raw(at + 5e-5), Some(&*key), &result)));
            recording.came(source, result, (association.reach(), association.poll()), at + 3e-4 + 1e-3 * nth as f64);
        }
    }
    drop(recording);
    recorder.finish().unwrap();
}

/// Our own clock, which is right.
fn ours(at: f64) -> Ours {
    let view = View {
        leap: LeapIndicator::None,
        stratum: 2,
        refid: ReferenceId([192, 0, 2, 7]),
        precision: -24,
        root_delay: NtpShort(0),
        root_dispersion: NtpShort(66),
        reference_time: NtpTimestamp::UNKNOWN,
    };
    Ours { view, at: raw(at), utc: utc(at), rate: RATE }
}

/// Ten minutes with a peer that came by itself and signs.
fn record_stranger(path: &Path) {
    let (mut recording, recorder) = Recording::start(path);
    let address = "192.0.2.1:123".parse().unwrap();
    let witness = Witness::new(recording.tape.clone(), Whose::Stranger(address));
    let config = Config { address, ..config(Some(key()), false) };
    witness.note(|| Turn::Begin(Box::new(Begin::Passive(config.clone(), raw(0.9)))));
    let mut association = Passive::new(config, raw(0.9));
    let (mut source, mut sent) = (None, None::<(NtpTimestamp, f64)>);
    for n in 0..60 {
        let now = 1.0 + 10.0 * f64::from(n);
        let mut theirs = says(Mode::SymmetricActive, now);
        if let Some((transmit, came)) = sent {
            (theirs.origin, theirs.receive) = (transmit, NtpTimestamp::from_utc(utc(came)));
        }
        let (octets, at) = (signed(&theirs), now + 2e-3);
        let result = association.handle_receive(&octets, raw(at), raw(at), &ours(at));
        let came = Came { ours: Some(ours(at)), ..Came::new(&octets, raw(at), raw(at), Some(&*key()), &result) };
        witness.note(|| Turn::Came(came));
        if let Some(answer) = association.poll_transmit(raw(at + 1e-4), &ours(at + 1e-4)) {
            witness.note(|| Turn::sent(raw(at + 1e-4), answer.octets(), Some(ours(at + 1e-4))));
            witness.note(|| Turn::HandedOver(raw(at + 2e-4)));
            association.handle_transmitted(raw(at + 2e-4));
            sent = Some((header_of(&answer).transmit, at + 2.2e-3));
        }
        if association.is_proven() {
            let source = *source.get_or_insert_with(|| {
                let source = recording.clock.add_source(SourceConfig::new("stranger", SourceKind::Network));
                witness.note(|| Turn::Source(source));
                source
            });
            recording.came(source, result, (association.reach(), association.poll()), at + 1e-3);
        }
    }
    drop(recording);
    recorder.finish().unwrap();
}

/// Ten minutes with a peer, and with a broadcaster on the same network.
fn record_peer_and_broadcaster(path: &Path) {
    let (mut recording, recorder) = Recording::start(path);
    let peer = recording.clock.add_source(SourceConfig::new("peer", SourceKind::Network));
    let witness = Witness::new(recording.tape.clone(), Whose::Source(peer));
    witness.note(|| Turn::Begin(Box::new(Begin::Peer(config(None, false)))));
    let mut symmetric = Symmetric::new(config(None, false));
    let heard = Whose::Listener(4).heard("192.0.2.2:123".parse().unwrap());
    let of_broadcasts = Witness::new(recording.tape.clone(), heard);
    let listened = overheard::Config {
        address: "192.0.2.2:123".parse().unwrap(),
        key: None,
        delay: None,
        max_delay: Span::from_millis(100),
        filters: Filters::default(),
        seed: [8; 32],
    };
    of_broadcasts.note(|| Turn::Begin(Box::new(Begin::Broadcaster(listened.clone(), raw(0.05)))));
    let mut overheard = Overheard::new(listened, raw(0.05));
    let mut broadcaster = None;
    for second in 1..600 {
        let now = f64::from(second);
        if let Some(request) = symmetric.poll_transmit(raw(now), &ours(now)) {
            witness.note(|| Turn::sent(raw(now), request.octets(), Some(ours(now))));
            let asked = header_of(&request);
            let mut theirs = says(Mode::SymmetricPassive, now + 2.1e-3);
            (theirs.origin, theirs.receive) = (asked.transmit, NtpTimestamp::from_utc(utc(now + 2e-3)));
            let (octets, at) = (theirs.to_octets(), now + 4.1e-3);
            let result = symmetric.handle_receive(&octets, raw(at), raw(at + 1e-4), &ours(at + 1e-4));
            let came = Came::new(&octets, raw(at), raw(at + 1e-4), None, &result);
            witness.note(|| Turn::Came(Came { ours: Some(ours(at + 1e-4)), ..came }));
            recording.came(peer, result, (symmetric.reach(), symmetric.poll()), at + 1e-3);
        }
        let now = now + 0.2;
        of_broadcasts.note(|| Turn::Timeout(raw(now)));
        overheard.handle_timeout(raw(now));
        let mut came = Vec::new();
        if let Some(request) = overheard.poll_transmit(raw(now)) {
            of_broadcasts.note(|| Turn::sent(raw(now), request.octets(), None));
            let mut reply = says(Mode::Server, now + 3.1e-3);
            (reply.origin, reply.receive) = (header_of(&request).transmit, NtpTimestamp::from_utc(utc(now + 3e-3)));
            let (octets, at) = (reply.to_octets(), now + 6.1e-3);
            let result = overheard.handle_reply(&octets, raw(at), raw(at));
            of_broadcasts.note(|| Turn::Came(Came::new(&octets, raw(at), raw(at), None, &result)));
            came.push((result, at));
        }
        if second % 16 == 0 {
            let (octets, at) = (says(Mode::Broadcast, now + 0.1).to_octets(), now + 0.103);
            let result = overheard.handle_heard(&octets, raw(at), RATE);
            let turn = Came { rate: Some(RATE), ..Came::new(&octets, raw(at), raw(at), None, &result) };
            of_broadcasts.note(|| Turn::Came(turn));
            came.push((result, at));
        }
        for (result, at) in came {
            let source = *broadcaster.get_or_insert_with(|| {
                let source = recording.clock.add_source(SourceConfig::new("192.0.2.2", SourceKind::Network));
                of_broadcasts.note(|| Turn::Source(source));
                source
            });
            recording.came(source, result, (overheard.reach(), overheard.interval()), at + 1e-3);
        }
    }
    drop(recording);
    recorder.finish().unwrap();
}

fn played(text: &str) -> Replayed {
    replay(text.as_bytes(), None, |_| {}).unwrap()
}

fn recorded(how: fn(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording");
    how(&path);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_same_datagrams_are_measured_and_rejected_alike() {
    for how in [record_server as fn(&Path), record_peer_and_broadcaster, record_stranger] {
        let text = recorded(how);
        let replayed = played(&text);
        println!("{}", replayed.contents);
        assert_eq!((replayed.first.clone(), replayed.different, replayed.otherwise), (None, 0, 0));
        assert!(replayed.compared > 40 && replayed.last.system.stratum == 2, "{:?}", replayed.last.system);
        for source in &replayed.contents.sources {
            assert!(source.datagrams.measured > 30 && source.datagrams.measured == source.exchanges, "{source:?}");
        }
    }
    let text = recorded(record_server);
    let rejected = &played(&text).contents.sources[0].datagrams.rejected;
    for reason in ["answers nothing", "last reply again", "not signed by key 9", "measured already"] {
        assert!(rejected.keys().any(|words| words.contains(reason)), "{reason}: {rejected:?}");
    }
}

#[test]
fn keys_and_what_they_sign_are_not_in_it() {
    let text = recorded(record_server);
    assert!(text.contains(r#""key":{"id":9,"algorithm":"sha256"}"#), "{}", &text[..3000]);
    let secret: String = SECRET.iter().map(|octet| format!("{octet:02x}")).collect();
    let as_numbers = SECRET.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
    assert!(!text.contains(&secret) && !text.contains(&as_numbers) && !text.contains("roses"));
    // Each signed datagram ends in its key's number and noughts.
    let digests = format!("00000009{}\"", "00".repeat(20));
    assert!(text.lines().filter(|line| line.contains(r#""signed":true"#)).all(|line| line.contains(&digests)));
    assert!(text.lines().filter(|line| line.contains(r#""sent""#)).all(|line| line.contains(&digests)));
}

/// The lines, one of them with another text in the place of one it has.
fn changed(text: &str, line: usize, from: &str, to: &str) -> String {
    let change = |(number, line_text): (usize, &str)| match number == line {
        true => line_text.replacen(from, to, 1),
        false => line_text.to_owned(),
    };
    text.lines().enumerate().map(change).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_first_difference_is_told() {
    let text = recorded(record_server);
    let lines: Vec<&str> = text.lines().collect();
    let nth = |what: &str, n| lines.iter().enumerate().filter(|(_, line)| line.contains(what)).nth(n).unwrap();
    let first = |text: &str| played(text).first.unwrap();

    // Some 2^-24 s in the server's transmit timestamp: the measurement is another, and all that is decided from there on.
    let (number, line) = nth(r#""outcome":"measured""#, 40);
    let at = line.find(r#""octets":""#).unwrap() + 10 + 2 * 46;
    let other = if &line[at..at + 2] == "00" { "11" } else { "00" };
    let from = &line[at - 80..at + 4];
    let to = format!("{}{other}{}", &from[..80], &from[82..]);
    let replayed = played(&changed(&text, number, from, &to));
    let Difference { line, words } = replayed.first.clone().unwrap();
    assert!(line > number + 1 && words == "another measurement of the same datagram", "{line}: {words}");
    assert!(replayed.different > 10 && replayed.otherwise >= 1, "{} {}", replayed.different, replayed.otherwise);

    // What came of it is another.
    let (number, _) = nth("it answers nothing we asked", 3);
    let other = changed(&text, number, "it answers nothing we asked", "it is the last reply again");
    let words = "what came of a datagram of 192.0.2.1:123 was \"it is the last reply again\", and is \"it answers nothing we asked\"";
    assert_eq!(first(&other), Difference { line: number + 1, words: words.into() });

    // A request is another.
    let (number, line) = nth(r#""sent""#, 40);
    let at = line.find(r#""octets":""#).unwrap() + 10;
    let other = changed(&text, number, &line[at..at + 4], "23ff");
    assert_eq!(first(&other), Difference { line: number + 1, words: "192.0.2.1:123 is asked something else".into() });

    // An exchange that nobody answered for.
    let (number, _) = nth(r#""outcome":"measured""#, 40);
    let without: Vec<&str> = lines.iter().enumerate().filter(|(n, _)| *n != number).map(|(_, line)| *line).collect();
    assert_eq!(first(&without.join("\n")).words, "an exchange that follows from no datagram");
}

#[test]
fn faults_on_datagrams_serve_no_wrong_second() {
    let stories = [
        ("losses", vec![What::Lose(0.4)]),
        ("delays", vec![What::Delay(0.05)]),
        ("corruption", vec![What::Corrupt(0.2)]),
        ("a cable out for three minutes", vec![What::Unplug(120.0, 300.0)]),
    ];
    let both = (record_peer_and_broadcaster as fn(&Path), vec!["peer", "192.0.2.2"]);
    for (how, sources) in [(record_server as fn(&Path), vec!["server"]), both] {
        let text = recorded(how);
        for (story, whats) in &stories {
            // How long broadcasts are under way is measured now and then: what is on the way later is believed.
            let sources = if *story == "delays" { &sources[..1] } else { &sources[..] };
            for seed in 1..4 {
                let at_fault =
                    |source: &&str| whats.iter().map(|what| Fault { source: (*source).into(), what: *what }).collect();
                let faults: Vec<Fault> =
                    sources.iter().flat_map(|source: &&str| -> Vec<Fault> { at_fault(source) }).collect();
                let mut faults = Faults::new(faults, seed, raw(0.0));
                let (mut served, mut worst, mut outside) = (0, 0.0f64, 0);
                let replayed = replay(text.as_bytes(), Some(&mut faults), |scene| {
                    if let Scene::Decided(snapshot) = scene
                        && snapshot.system.stratum < 16
                    {
                        served += 1;
                        let truth = START + (snapshot.at - raw(0.0));
                        let error = (snapshot.utc_at(snapshot.at).0 - truth).seconds().abs();
                        worst = worst.max(error);
                        outside += u32::from(error > snapshot.distance_at(snapshot.at));
                    }
                })
                .unwrap();
                println!("{story}, seed {seed}: {} changed, served {served} times, worst {worst:.1e} s", faults.done());
                assert!(faults.done() > 5 && faults.stranger().is_none());
                assert!(served > 20 && worst < 0.1, "{story}, seed {seed}: served {served}, worst {worst} s");
                assert!(outside == 0, "{story}, seed {seed}: {outside} times beyond the root distance");
                // Whoever answered the recorded requests answers those that are asked now.
                assert!(replayed.calls > 30 && replayed.last.system.stratum == 2, "{story}: {}", replayed.calls);
            }
        }
    }
}

#[test]
fn a_recording_without_datagrams_is_decided_as_it_was() {
    // Version 1 had none.
    let text = recorded(record_server).replacen("\"refclockd_recording\":2", "\"refclockd_recording\":1", 1);
    let old: Vec<&str> = text.lines().filter(|line| !line.starts_with("{\"ntp\"")).collect();
    let replayed = played(&old.join("\n"));
    assert_eq!((replayed.first, replayed.turns), (None, 0));
    assert!(replayed.compared > 60 && replayed.contents.sources[0].exchanges > 30);
}

#[test]
fn the_daemon_records_its_datagrams() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let workers = ntp_common::serve("127.0.0.1:0", ntp_common::made_up_snapshot(), 1);
    let configuration = format!(
        "[[server]]\naddress = \"127.0.0.1\"\nport = {}\nname = \"near\"\niburst = true\nminpoll = -1\nmaxpoll = 0\n\
         xleave = true\n[state]\ndir = \"{1}/state\"\n[control]\nsocket = \"{1}/api.sock\"\n",
        workers.address().port(),
        folder.display()
    );
    std::fs::write(folder.join("refclockd.toml"), configuration).unwrap();
    let path = folder.join("recording");
    let program = || Command::new(env!("CARGO_BIN_EXE_refclockd"));
    let output = program()
        .args(["record", "--duration", "12s", "-c"])
        .arg(folder.join("refclockd.toml"))
        .arg("-o")
        .arg(&path)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{log}");
    let output = program().arg("replay").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{} bytes\n{said}", path.metadata().unwrap().len());
    assert!(output.status.success() && said.contains("the same, to the last bit."), "{said}\n{log}");
    let output = program().args(["replay", "--json"]).arg(&path).output().unwrap();
    let last = String::from_utf8_lossy(&output.stdout).lines().last().unwrap().to_owned();
    let last: serde_json::Value = serde_json::from_str(&last).unwrap();
    let source = &last["recording"]["sources"][0];
    let count = |what: &str| source["datagrams"][what].as_u64().unwrap();
    assert!(count("sent") > 8 && count("stamped") > 5 && count("measured") > 5, "{last}");
    assert_eq!(source["exchanges"], count("measured"));
    // Half of them lost: fewer exchanges, and no wrong second.
    let output = program().args(["replay", "--json", "--lose", "near=0.5"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let last: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert!(output.status.success() && last["faults"]["calls_changed"].as_u64().unwrap() > 2, "{last}");
    assert_eq!(last["faults"]["wrong_seconds"], 0, "{last}");
    // Each datagram, and what came of it.
    let output = program().args(["replay", "--samples", "--json"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let said: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(said.len() as u64, count("came"));
    assert_eq!(said.iter().filter(|line| line["valid"] == true).count() as u64, count("measured"));
    assert!(said.iter().all(|line| line["source"] == "near" && line["utc"].as_str().unwrap().starts_with("20")));
    // A source that there is not is told.
    let output = program().args(["replay", "--lose", "far=0.5"]).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("There is no source \"far\" in it; it has near."));
}
