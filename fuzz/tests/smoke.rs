//! Every target on examples and on thousands of mutations of them: a few seconds of fuzzing that
//! need no fuzzer and are the same on every run.
//!
//! | variable | what it does |
//! |---|---|
//! | `REFCLOCKD_FUZZ_SECONDS` | each target runs for so long instead, on other mutations each time |
//! | `REFCLOCKD_FUZZ_SEED` | on these mutations, e.g. those of a run that failed |
//! | `REFCLOCKD_FUZZ_SEEDS` | the examples are written to this folder instead, one folder a target: for a fuzzer |

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use refclockd_fuzz::{TARGETS, Target};

/// The simulation's generator.
struct Rng(refclockd::sim::Rng);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(refclockd::sim::Rng::new(seed))
    }

    fn next(&mut self) -> u64 {
        self.0.bits()
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn pick<'a>(&mut self, list: &[&'a [u8]]) -> &'a [u8] {
        list[self.below(list.len())]
    }
}

/// What parsers stumble over.
const TOKENS: &[&[u8]] = &[
    b"$",
    b"*",
    b",",
    b"\n",
    b"\r\n",
    b"0",
    b"9",
    b"-1",
    b"+5",
    b"1e999",
    b"NaN",
    b"235960",
    b"999999",
    b"255",
    b"65535",
    b"65536",
    b"4294967296",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551616",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b"null",
    b"true",
    b"=",
    b"[[",
    b"]]",
    b"\\u0000",
    b"\x1b[2J",
    b"\xc3\xa9",
    b"\xe2\x80\xae",
    b"\xc2\x9b",
    b"minpoll = 12\n",
    b"\xff",
    b"\0",
    b"#",
    b"$GPRMC,",
    b"$GPGSV,255,2,",
    b"$GNGSA,A,3,",
    b"{\"class\":\"",
    b"9999-12-31T23:59:60Z",
    b"inf",
    b"-0.0",
    b"1e-400",
];

/// Numbers at the edges of what a type holds, and beyond.
const NUMBERS: &[&[u8]] = &[
    b"0",
    b"-1",
    b"60",
    b"99",
    b"255",
    b"256",
    b"361",
    b"65535",
    b"65536",
    b"2147483648",
    b"4294967296",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551616",
    b"1e18",
    b"1e400",
    b"0.5",
    b"-0.0",
];

/// One to six changes, of a kind that keeps the length in half of all cases.
fn mutate(rng: &mut Rng, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut data = seed.to_vec();
    let kinds = if rng.below(2) == 0 { 3 } else { 9 };
    for _ in 0..=rng.below(6) {
        let at = rng.below(data.len() + 1);
        let to = at + rng.below(data.len() - at + 1).min(64);
        match rng.below(kinds) {
            0 => data.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << rng.below(8)),
            1 => data.iter_mut().skip(at).take(1).for_each(|b| *b = rng.next() as u8),
            // A digit for a digit: the way to other numbers of the same shape.
            2 => {
                let digit = b'0' + rng.below(10) as u8;
                data.iter_mut().skip(at).find(|b| b.is_ascii_digit()).into_iter().for_each(|b| *b = digit);
            }
            3 => drop(data.drain(at..to)),
            4 => {
                let copy = data[at..to].to_vec();
                data.splice(at..at, copy);
            }
            5 => drop(data.splice(at..at, rng.pick(TOKENS).iter().copied())),
            6 => {
                let start = data[at..].iter().position(u8::is_ascii_digit).map_or(at, |n| at + n);
                let digits = data[start..].iter().take_while(|b| b.is_ascii_digit()).count();
                data.splice(start..start + digits, rng.pick(NUMBERS).iter().copied());
            }
            7 => {
                let from = rng.below(other.len());
                let length = rng.below(200);
                data.splice(at..to, other[from..].iter().take(length).copied());
            }
            // A line again and again, as from a device that is stuck.
            _ => {
                let start = data[..at].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
                let end = data[at..].iter().position(|b| *b == b'\n').map_or(data.len(), |n| at + n + 1);
                let times = rng.below(100).min(8192 / (end - start).max(1));
                let copies = data[start..end].repeat(times);
                data.splice(start..start, copies);
            }
        }
    }
    data
}

/// Outside recordings whose folder a variable names: pieces of at most 4 kB.
fn recordings(variable: &str, wanted: &[&str]) -> Vec<Vec<u8>> {
    let Some(folder) = std::env::var_os(variable).map(PathBuf::from) else {
        assert!(std::env::var_os("REFCLOCKD_CI").is_none(), "{variable} is not set, and CI needs it");
        println!("{variable} is not set: built-in examples only");
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.retain(|f| f.extension().is_some_and(|e| wanted.iter().any(|w| e == *w)));
    let mut pieces = Vec::new();
    for file in files {
        let bytes = std::fs::read(file).unwrap();
        // From the beginning, the middle and the end.
        for third in 0..3 {
            let start = bytes.len() / 3 * third;
            let line = bytes[start..].iter().position(|b| *b == b'\n').map_or(start, |n| start + n + 1);
            pieces.push(bytes[line..].iter().take(4096).copied().collect());
        }
    }
    pieces
}

/// What a run of a target is to be.
struct Plan {
    /// The mutations' seed.
    seed: u64,
    /// So many inputs...
    rounds: usize,
    /// ...or as many as there is time for.
    time: Option<Duration>,
}

impl Plan {
    fn new(rounds: usize) -> Self {
        let number = |variable: &str| {
            let text = std::env::var(variable).ok()?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{variable} is {text:?}, and ought to be a number")))
        };
        let time = number("REFCLOCKD_FUZZ_SECONDS").map(Duration::from_secs);
        let any = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let seed = number("REFCLOCKD_FUZZ_SEED");
        Self { seed: seed.unwrap_or_else(|| if time.is_some() { any() } else { 0x1234_5678 }), rounds, time }
    }

    fn is_done(&self, round: usize, since: Instant) -> bool {
        self.time.map_or(round >= self.rounds, |time| since.elapsed() >= time)
    }
}

/// Writes examples where a fuzzer begins with them.
fn write_seeds(folder: &Path, seeds: &[Vec<u8>]) {
    std::fs::create_dir_all(folder).unwrap();
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("example-{number}")), seed).unwrap();
    }
}

/// Runs a target. `options`: its last two bytes are options.
fn run(name: &str, options: bool, rounds: usize, mut seeds: Vec<Vec<u8>>) {
    if let Some(folder) = std::env::var_os("REFCLOCKD_FUZZ_SEEDS") {
        return write_seeds(&Path::new(&folder).join(name), &seeds);
    }
    let (_, target): (_, Target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    seeds.push(Vec::new());
    let plan = Plan::new(rounds);
    let mut rng = Rng::new(plan.seed);
    let started = Instant::now();
    let (mut worst, mut round) = ((Duration::ZERO, 0), 0);
    while !plan.is_done(round, started) {
        let (seed, other) = (rng.below(seeds.len()), rng.below(seeds.len()));
        let mut data = match round {
            // Each as it is, first.
            _ if round < seeds.len() => seeds[round].clone(),
            _ if rng.below(20) == 0 => (0..rng.below(300)).map(|_| rng.next() as u8).collect(),
            _ => mutate(&mut rng, &seeds[seed], &seeds[other]),
        };
        if options && rng.below(4) != 0 {
            data.extend(rng.next().to_le_bytes().into_iter().take(2));
        }
        let began = Instant::now();
        if std::panic::catch_unwind(|| target(&data)).is_err() {
            panic!(
                "{name}, round {round} of REFCLOCKD_FUZZ_SEED={}, does not hold for:\n{}",
                plan.seed,
                data.escape_ascii()
            );
        }
        worst = worst.max((began.elapsed(), data.len()));
        // What did not fail is an example as well, if room is left for the ones there are.
        if seeds.len() < 400 && round % 50 == 0 {
            seeds.push(data);
        }
        round += 1;
    }
    let (slowest, length) = worst;
    println!(
        "{name}: {round} inputs in {:?}, seed {}; the slowest took {slowest:?} for {length} bytes",
        started.elapsed(),
        plan.seed
    );
}

/// A receiver that speaks both languages, for eight seconds.
fn both_languages() -> Vec<u8> {
    use refclocks::{Constellation, Satellite, nmea, ubx::write};
    let satellite = Satellite {
        constellation: Constellation::Gps,
        number: 5,
        elevation: Some(71),
        azimuth: Some(122),
        signal: Some(47),
        used: true,
    };
    let second = |second| {
        let at =
            refclocks::calendar::CivilTime { year: 2026, month: 12, day: 31, hour: 23, minute: 59, second, nanos: 0 };
        [
            write::nav_pvt(&at, -123, true),
            nmea::write::rmc("GN", &at, true).into_bytes(),
            write::tim_tp(2399, 1000 * u32::from(second), -4331),
            write::nav_timels(18, 1, 60 - i32::from(second)),
            write::nav_sat(&[satellite; 3]),
            write::message(0x0a, 0x09, &[2; 60]),
            write::message(0x27, 0x09, &[2, 0x3b, 0, 0]),
        ]
    };
    (52..60).flat_map(second).flatten().collect()
}

#[test]
fn ubx() {
    let bytes = both_languages();
    let mut seeds = Vec::new();
    let mut framer = refclocks::receiver::Framer::new(None);
    framer.push(&bytes, refclocks::Timestamp::EPOCH, |frame| {
        if let refclocks::receiver::Content::Ubx(message) = frame.content {
            seeds.push([&[message.class, message.id], message.payload].concat());
        }
    });
    assert!(seeds.len() >= 48);
    seeds.truncate(12);
    seeds.push([&[1, 0x20][..], &[7; 16]].concat());
    seeds.push([&[1, 0x21][..], &[7; 20]].concat());
    seeds.push([&[0x0a, 0x38, 0, 2][..], &[1; 50]].concat());
    run("ubx", false, 400_000, seeds);
}

#[test]
fn framer() {
    let mut seeds = recordings("REFCLOCKD_CAPTURES", &["log", "nmea"]);
    seeds.push(both_languages());
    run("framer", true, 20_000, seeds);
}

#[test]
fn nmea() {
    let mut seeds = recordings("REFCLOCKD_CAPTURES", &["log", "nmea"]);
    seeds.push(both_languages());
    let made: String = (0..8)
        .map(|s| {
            let at = refclocks::calendar::CivilTime {
                year: 2026,
                month: 1,
                day: 1,
                hour: 23,
                minute: 59,
                second: 52 + s,
                nanos: 0,
            };
            use refclocks::nmea::write;
            let satellite = "GPGSV,1,1,02,05,71,122,47,15,40,210,45";
            write::rmc("GP", &at, true)
                + &write::gga("GP", &at, true, 9)
                + &write::gsa("GP", 3, &[5, 15])
                + &write::sentence(satellite)
                + &write::zda("GP", &at)
        })
        .collect();
    seeds.push(made.into_bytes());
    run("nmea", true, 150_000, seeds);
}

#[test]
fn gpsd() {
    let mut seeds = recordings("REFCLOCKD_GPSD_RECORDINGS", &["json"]);
    let mut made = String::new();
    for k in 0..6 {
        let s = 1_795_319_391 + k;
        made += &format!(
            "{{\"class\":\"TPV\",\"device\":\"/dev/a\",\"mode\":3,\"leapseconds\":18}}\r\n\
             {{\"class\":\"TOFF\",\"device\":\"/dev/a\",\"real_sec\":{s},\"real_nsec\":0,\"clock_sec\":{s},\"clock_nsec\":9000}}\r\n\
             {{\"class\":\"PPS\",\"device\":\"/dev/a\",\"real_sec\":{s},\"real_nsec\":0,\"clock_sec\":{s},\"clock_nsec\":500,\"precision\":-20,\"qErr\":-3}}\r\n\
             {{\"class\":\"SKY\",\"satellites\":[{{\"PRN\":5,\"gnssid\":0,\"svid\":5,\"el\":71.0,\"az\":122.0,\"ss\":47.0,\"used\":true}}]}}\r\n"
        );
    }
    seeds.push(made.into_bytes());
    let devices: &[u8] = b"{\"class\":\"DEVICES\",\"devices\":[{\"path\":\"/dev/a\",\"activated\":0}]}\n{\"class\":\"ERROR\",\"message\":\"no\"}\n";
    seeds.push(devices.to_vec());
    run("gpsd", true, 100_000, seeds);
}

#[test]
fn sock() {
    let mut seeds = Vec::new();
    for (leap, offset) in [(0i32, -0.000_5f64), (1, 3e9), (3, 0.0), (0, f64::NAN)] {
        for wide in [true, false] {
            let mut bytes = Vec::new();
            if wide {
                bytes.extend([1_795_319_391i64, 501].map(i64::to_ne_bytes).concat());
            } else {
                bytes.extend([1_795_319_391i32, 501].map(i32::to_ne_bytes).concat());
            }
            bytes.extend(offset.to_ne_bytes());
            bytes.extend([0, leap, 0, 0x534f_434b].map(i32::to_ne_bytes).concat());
            seeds.push(bytes);
        }
    }
    run("sock", false, 1_000_000, seeds);
}

#[test]
fn shm() {
    let mut rng = Rng::new(7);
    let seeds = (0..20).map(|_| (0..41 * 4).map(|i| if i % 3 == 0 { rng.next() as u8 } else { 0 }).collect()).collect();
    run("shm", true, 1_000_000, seeds);
}

fn packets() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for first in [0x23u8, 0x1b, 0x08, 0x24, 0xe3, 0x16, 0x17] {
        let mut plain = vec![0; 48];
        plain[0] = first;
        plain[40..].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let mut field = plain.clone();
        field.extend([1, 4, 0, 28]);
        field.extend([7; 24]);
        field.extend([0; 20]);
        seeds.extend([plain, field]);
    }
    seeds
}

#[test]
fn ntp_packet() {
    run("ntp_packet", false, 200_000, packets());
}

#[test]
fn ntp_clients() {
    let visits = [&[0, 9, 1, 9, 0, 0, 200, 9, 1, 2, 3, 4, 3, 255][..], &[4, 2, 1]].concat();
    run("ntp_clients", true, 20_000, vec![visits, (0..=255).collect(), vec![2; 400]]);
}

#[test]
fn ntp_respond() {
    run("ntp_respond", true, 200_000, packets());
}

#[test]
fn ntp_reply() {
    // Four replies: T2 and T3 two milliseconds apart in 2026, and options that let 33 ms pass.
    let mut good = vec![0x24, 1, 6, 0xec, 0, 0, 0, 0, 0, 0, 0, 66, b'G', b'P', b'S', 0];
    good.extend([0xed, 0, 0, 0, 0, 0, 0, 0]);
    good.extend([0; 8]);
    good.extend([0xed, 0, 0, 1, 0, 0, 0, 0, 0xed, 0, 0, 1, 0, 0x83, 0x12, 0x6e, 33, 3]);
    let mut seeds = vec![good.repeat(4)];
    for kiss in [b"RATE", b"DENY", b"RSTR", b"INIT"] {
        let mut kissed = good.clone();
        kissed[1] = 0;
        kissed[12..16].copy_from_slice(kiss);
        seeds.push([good.clone(), kissed, good.clone()].concat());
    }
    run("ntp_reply", false, 400_000, seeds);
}

#[test]
fn ntp_peer() {
    // The same between peers, each a second later than the one before.
    let mut packet = vec![0x21, 2, 6, 0xec, 0, 0, 0, 0, 0, 0, 0, 66, 192, 0, 2, 7];
    packet.extend([0; 16]);
    packet.extend([0xed, 0, 0, 1, 0, 0, 0, 0, 0xed, 0, 0, 1, 0, 0x83, 0x12, 0x6e, 33, 3]);
    let seeds = [0x21, 0x22].map(|first| {
        let later = |second| {
            let mut packet = packet.clone();
            (packet[0], packet[35], packet[43]) = (first, second, second);
            packet
        };
        (1..8).flat_map(later).collect()
    });
    let mut denied = packet.clone();
    denied[1] = 0;
    denied[12..16].copy_from_slice(b"DENY");
    run("ntp_peer", false, 400_000, seeds.into_iter().chain([[packet, denied].concat()]).collect());
}

#[test]
fn ntp_broadcast() {
    let mut packet = vec![0x25, 1, 4, 0xec, 0, 0, 0, 0, 0, 0, 0, 66, b'G', b'P', b'S', 0];
    packet.extend([0; 24]);
    packet.extend([0xed, 0, 0, 1, 0, 0, 0, 0, 250, 0]);
    let told: Vec<u8> = (1..20)
        .flat_map(|second| {
            let mut packet = packet.clone();
            packet[43] = second;
            packet
        })
        .collect();
    let mut reply = packet.clone();
    (reply[0], reply[35], reply[48], reply[49]) = (0x24, 1, 33, 3);
    reply[32..35].copy_from_slice(&[0xed, 0, 0]);
    let volley = [told.clone(), reply.repeat(8), told.clone()].concat();
    run("ntp_broadcast", false, 400_000, vec![told, volley, reply]);
}

#[test]
fn config() {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../conf")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            seeds.push(std::fs::read(path).unwrap());
        }
    }
    assert!(!seeds.is_empty());
    seeds.sort();
    let all: &[u8] = b"[[refclock]]\ndriver = \"nmea\"\ndevice = \"/dev/ttyS0\"\nbaud = 9600\ndelay = \"120 ms\"\n\
        checksum = \"optional\"\nwithout_fix = true\nsawtooth = \"add\"\nconfigure = true\nposition = { latitude = 47.3, longitude = 8.5, height = 440.1, accuracy = 0.1 }\n\
        [[refclock]]\ndriver = \"pps\"\ndevice = \"/dev/pps0\"\nedge = \"clear\"\nlock = \"GPS\"\nprefer = true\n\
        [[refclock]]\ndriver = \"gpsd\"\naddress = \"127.0.0.1:2947\"\nrefid = \"GPSD\"\n[[refclock]]\ndriver = \"shm\"\nunit = 2\nrefid = \"SHM\"\n\
        [[refclock]]\ndriver = \"sock\"\npath = \"/run/x.sock\"\nrefid = \"SOCK\"\n[[server]]\naddress = \"ntp.example.org\"\niburst = true\nminpoll = 4\nmaxpoll = 6\n\
        [serve]\nlisten = [\"0.0.0.0:123\"]\nallow = [\"10.0.0.0/8\"]\ndeny = [\"10.1.0.0/16\"]\nworkers = 2\n[local]\nstratum = 8\n\
        [clock]\ndiscipline = \"software\"\nstep = { threshold = \"1 ms\", updates = 10 }\n[holdover]\nbudget = \"1 ms\"\n[control]\nsocket = \"/run/a\"\n[state]\ndir = \"/var\"\n";
    let read = refclockd::config::Config::from_toml("all", std::str::from_utf8(all).unwrap());
    assert!(read.is_ok(), "an example that is refused shows little: {read:?}");
    seeds.push(all.to_vec());
    let evil: &[u8] = b"[[refclock]]\ndriver = \"\\u001b[2J\"\n[[server]]\naddress = \"\\u001b\"\n[\"\\u001b[2J\"]\n[clock]\n\"\\u009b\" = 1\n";
    seeds.push(evil.to_vec());
    seeds.push(b"server ntp.example.org iburst\nrefclock SHM 0\n".to_vec());
    run("config", false, 400_000, seeds);
}

#[test]
fn scenario() {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../src/sim/stories")).unwrap() {
        seeds.push(std::fs::read(entry.unwrap().path()).unwrap());
    }
    seeds.sort();
    let all: &[u8] = b"name = \"all\"\nduration = \"1 h\"\njudged_from = 900\n[clock]\nahead = \"-30 ms\"\n\
        [crystal]\nfrequency_ppm = 80\nwander_ppb = 0.1\nflicker_ppb = 0.01\nwhite_ppb = 0.1\ntemperature = { swing = 2, period = \"2 h\", wobble = 0.3, ppm_per_degree = 0.05 }\n\
        [[messages]]\n[[pulse]]\nlate = [{ share = 0.1, by = \"20 us\" }, { share = 0.01, by = 1e-3 }]\nmissing = 0.1\nsawtooth = \"10 ns\"\nrate = 5\n\
        [[numbered]]\njitter = \"20 ms\"\n[[server]]\nname = \"A\"\nbase = \"100 us\"\nthere = { shape = \"gamma\", parameter = 3 }\nback = { jitter = \"60 us\" }\nloss = 0.3\nstamp_noise = \"5 us\"\nminpoll = 0\n\
        [[fault]]\nwhat = \"silent\"\nsource = [\"GPS\", \"PPS\"]\nat = 1\nfor = 1\n[[fault]]\nwhat = \"ahead\"\nsource = \"A\"\nby = \"50 ms\"\n\
        [[fault]]\nwhat = \"route\"\nsource = \"A\"\nthere = \"300 us\"\n[[fault]]\nwhat = \"frequency\"\nby_ppm = 1\n[[fault]]\nwhat = \"wander\"\nwander_ppb = 10\n";
    let read = refclockd::sim::Scenario::from_toml(std::str::from_utf8(all).unwrap());
    assert!(read.is_ok(), "an example that is refused shows little: {read:?}");
    seeds.push(all.to_vec());
    seeds.push(b"[[fault]]\nwhat = \"\\u001b[2J\"\nsource = \"\\u009b\"\n[[server]]\nshape = \"\\u001b\"\n".to_vec());
    run("scenario", false, 100_000, seeds);
}

#[test]
fn key_file() {
    let seeds = vec![
        b"# keys\n1 tulipsandroses\n2 SHA1 HEX:2E0A7F7D6C5B4A3928170605040302010F0E0D0C\n".to_vec(),
        b"30 AES128 HEX:00112233445566778899aabbccddeeff\n40 AES256 ASCII:0123456789abcdef0123456789abcdef\n".to_vec(),
        b"1 M tulipsandroses # mine\n12 AES 0123456789abcdef 192.0.2.1,2001:db8::/32\n".to_vec(),
    ];
    run("key_file", false, 100_000, seeds);
}

#[test]
fn access_rules() {
    let seeds = vec![
        b"default kod limited nomodify\n-6 default ignore\n127.0.0.1\n10.0.0.0 mask 255.0.255.0 noserve\n".to_vec(),
        b"source nomodify\nhost mask 255.255.255.0 ntpport noquery\n[2001:db8::]/32 notrust version\n".to_vec(),
        b"10.1/16\n192.168\n192.0.2.1\n::/0\nhost\nall\n10\n10.1.2.3/31\n".to_vec(),
    ];
    run("access_rules", false, 60_000, seeds);
}

#[test]
fn drift() {
    let mut memory = refclockd::core::memory::Memory::default();
    memory.set_frequency(-4.2e-6, 1e-9);
    memory.lg_wander = Some(-21.5);
    memory.last_utc = Some(refclocks::Timestamp::from_parts(1_767_323_045, 0));
    memory.set_delay("GPS", 0.123, 0.004);
    let seeds = vec![memory.to_text().into_bytes(), b"version = 1\nlast_utc = \"9999-12-31T23:59:60Z\"\n".to_vec()];
    run("drift", false, 400_000, seeds);
}

#[test]
fn leap_list() {
    let table: &[u8] = b"# comment\n#$ 3960230400\n#@ 3991766400\n2272060800\t10\t# 1 Jan 1972\n2287785600 11\n\n\
        3692217600 12 # 1 Jan 2017\n3976905600 11\n";
    // One that begins in the future.
    let late: &[u8] = b"3976905600 37\n3992803200 38\n";
    run("leap_list", false, 400_000, vec![table.to_vec(), late.to_vec()]);
}

#[test]
fn control() {
    let seeds = [
        r#"{"ask":"status"}"#,
        r#"{"ask":"why","source":"GPS"}"#,
        r#"{"ask":"sources"}"#,
        r#"{"ask":"satellites"}"#,
        r#"{"ask":"ping"}"#,
    ]
    .map(|q| format!("{q}\r\n{q}\n").into_bytes());
    let long = vec![b'['; 70_000];
    run("control", true, 60_000, seeds.into_iter().chain([long]).collect());
}

#[test]
fn recording() {
    let seeds = [
        &include_bytes!("recording.jsonl")[..],
        include_bytes!("recording_server.jsonl"),
        include_bytes!("recording_peer.jsonl"),
    ];
    run("recording", false, 100_000, seeds.map(<[u8]>::to_vec).into());
}
