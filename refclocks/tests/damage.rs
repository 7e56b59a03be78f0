//! Real receivers' captures with bytes flipped, cut out, doubled and delayed: nothing panics, no second is wrong, every
//! message that is whole is heard, the next after each damage first of all, and behind the damage there are as many
//! samples as without.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod outside;

use std::collections::BTreeMap;
use std::path::PathBuf;

use outside::folder;
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use refclocks::receiver::{Config, Driver, Heard, Outcome};
use refclocks::time::{Span, Timestamp};
use refclocks::{LocalStamp, Report};

/// Damages of each kind for each capture.
const SEEDS: u64 = 25;

/// Bytes of one read.
const READ: usize = 8;

/// The generator of the property tests.
struct Rng(TestRng);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(TestRng::from_seed(RngAlgorithm::XorShift, &[seed.to_le_bytes(), [0x5a; 8]].concat()))
    }

    fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Flipped,
    Cut,
    Doubled,
    Delayed,
}

/// A byte, where it was in the capture, and how much later than it should it comes.
type Bytes = Vec<(u8, usize, Span)>;

/// Damages some places of the middle third. Returns where what is left alone begins, in the capture.
fn damage(bytes: &mut Bytes, kind: Damage, rng: &mut Rng) -> usize {
    let (from, to) = (bytes.len() / 3, 2 * bytes.len() / 3);
    let end = bytes.get(to).map_or(usize::MAX, |b| b.1);
    // Cuts and doublings are made from the back, so that places keep theirs.
    let mut places: Vec<usize> = (0..1 + rng.below(30)).map(|_| from + rng.below(to - from)).collect();
    places.sort_unstable();
    let mut limit = to;
    for at in places.into_iter().rev() {
        let length = (1 + rng.below(80)).min(limit - at);
        limit = at;
        match kind {
            // Now and then the same bit twice close by, which an exclusive or does not see.
            Damage::Flipped => {
                let bit = 1 << rng.below(8);
                bytes[at].0 ^= bit;
                if rng.below(2) == 0 {
                    bytes[(at + 1 + rng.below(12)).min(to - 1)].0 ^= bit;
                }
            }
            Damage::Cut => drop(bytes.drain(at..at + length)),
            Damage::Doubled => {
                let again: Bytes = bytes[at..at + length].to_vec();
                bytes.splice(at..at, again);
            }
            Damage::Delayed => {
                // A line delivers in order: what comes after waits too.
                let wait = Span::from_millis(rng.below(3000) as i64);
                bytes.iter_mut().take(to).skip(at).for_each(|b| b.2 = b.2.max(wait));
            }
        }
    }
    end
}

/// What a driver hears and gives, with places of the capture.
fn play(bytes: &[(u8, usize, Span)]) -> (BTreeMap<usize, Heard>, Vec<Heard>) {
    let mut driver = Driver::for_capture(Config { baud: Some(9600), ..Config::default() });
    let (mut heard, mut samples, mut last) = (BTreeMap::new(), Vec::new(), Timestamp::EPOCH);
    let mut arrivals = Vec::new();
    for (i, part) in bytes.chunks(READ).enumerate() {
        let late = part.iter().map(|b| b.2).max().unwrap_or_default();
        let arrived = (Timestamp::from_parts(1000, 0) + Span::from_millis(i as i64 * 8) + late).max(last);
        last = arrived;
        let part: Vec<u8> = part.iter().map(|b| b.0).collect();
        arrivals.push(arrived);
        let mut given = Vec::new();
        driver.handle_bytes_telling(&part, arrived, |h| {
            let place = bytes[h.offset as usize].1;
            heard.insert(place, *h);
            if h.outcome == Outcome::Sample {
                given.push(*h);
                samples.push(Heard { offset: place as u64, ..*h });
            }
        });
        let mut given = given.into_iter();
        while let Some(report) = driver.poll_report() {
            if let Report::Sample(sample) = report {
                // What the clock gets is what was heard, with the stamp of its first byte, whatever came with it.
                let h = given.next().expect("a sample is of a message");
                assert_eq!(Some(sample.reference), h.utc);
                let LocalStamp::Raw(at) = sample.local else { unreachable!() };
                let began = arrivals[h.offset as usize / READ];
                assert!(at <= began && began - at < Span::from_millis(10), "{:?} {:?}", at, began);
            }
        }
        assert_eq!(given.next(), None, "each is reported");
    }
    (heard, samples)
}

/// Where the message that begins there ends, by the book alone.
fn end_of(clean: &Bytes, at: usize) -> usize {
    let line = || clean[at..].iter().position(|b| b.0 == b'\n').map_or(clean.len(), |n| at + n + 1);
    let byte = |n: usize| clean.get(at + n).map_or(0, |b| usize::from(b.0));
    if byte(0) == 0xb5 { at + 8 + byte(4) + 256 * byte(5) } else { line() }
}

/// Which of these messages have come whole, byte after byte. A remark that has lost its end takes the next line with it.
fn whole_ones<'a>(clean: &Bytes, bytes: &Bytes, messages: &'a BTreeMap<usize, Heard>) -> Vec<(usize, &'a Heard)> {
    let mut first = BTreeMap::new();
    let mut remark = false;
    for (i, (byte, place, _)) in bytes.iter().enumerate() {
        let begins = i == 0 || bytes[i - 1].0 == b'\n';
        remark = if begins { *byte == b'#' } else { remark };
        if !remark {
            first.entry(*place).or_insert_with(Vec::new).push(i);
        }
    }
    let is_whole = |at: usize, i: usize| {
        let (wanted, there) = (&clean[at..end_of(clean, at).min(clean.len())], &bytes[i..]);
        there.len() >= wanted.len() && wanted.iter().zip(there).all(|(a, b)| (a.0, a.1) == (b.0, b.1))
    };
    let came = |at: usize| first.get(&at).is_some_and(|places| places.iter().any(|i| is_whole(at, *i)));
    messages.iter().filter(|(at, _)| came(**at)).map(|(at, h)| (*at, h)).collect()
}

#[test]
fn damage_costs_what_is_damaged_and_never_a_wrong_second() {
    let Some(folder) = folder("REFCLOCKD_CAPTURES") else { return };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "log" || e == "nmea"));
    files.sort();
    let (mut runs, mut given, mut lost, mut whole_messages) = (0, 0, 0, 0);
    for file in &files {
        let clean: Bytes =
            std::fs::read(file).unwrap().into_iter().enumerate().map(|(at, byte)| (byte, at, Span::ZERO)).collect();
        let (whole, all) = play(&clean);
        for kind in [Damage::Flipped, Damage::Cut, Damage::Doubled, Damage::Delayed] {
            for seed in 0..SEEDS {
                let what = format!("{} {kind:?} {seed}", file.display());
                let mut bytes = clean.clone();
                let end = damage(&mut bytes, kind, &mut Rng::new(seed));
                let (heard, samples) = play(&bytes);
                for sample in &samples {
                    // What gives a sample is a message that was there, and names the second that it named.
                    // A cut may leave the first byte of one before the rest of the next.
                    let place = sample.offset as usize;
                    let original = whole.range(place..).map(|next| next.1).find(|next| next.speaker == sample.speaker);
                    let original = original.unwrap_or_else(|| panic!("{what}: {sample:?}"));
                    let off = sample.utc.unwrap() - original.utc.unwrap();
                    assert!(off.abs() < Span::from_millis(5), "{what}: {sample:?}, it was {original:?}");
                }
                // Each message that came whole is heard, the next one behind each damage too.
                for (at, message) in whole_ones(&clean, &bytes, &whole) {
                    let found = heard.get(&at).map(|h| (h.speaker, h.time));
                    assert_eq!(found, Some((message.speaker, message.time)), "{what}: at {at}");
                    whole_messages += 1;
                }
                // Behind all of it there are as many samples, but for the three cycles in which the driver sees that time
                // advances evenly again, and for what a line that was held up has still to catch up with.
                let behind = |samples: &[Heard]| samples.iter().filter(|s| s.offset as usize >= end).count();
                let waited = heard.range(end..).filter(|(_, h)| h.outcome == Outcome::Waited).count();
                let (now, without) = (behind(&samples), behind(&all));
                assert!(kind == Damage::Delayed || waited == 0, "{what}: {waited} waited");
                assert!(now + waited + 3 >= without, "{what}: {now} behind the damage, {waited} waited, of {without}");
                // All of it is heard and dated as without.
                let tail = |heard: &BTreeMap<usize, Heard>| {
                    heard.range(end..).map(|(at, h)| (*at, h.speaker, h.date, h.time)).collect::<Vec<_>>()
                };
                assert_eq!(tail(&heard), tail(&whole), "{what}");
                runs += 1;
                given += samples.len();
                lost += all.len().saturating_sub(samples.len());
            }
        }
    }
    println!(
        "{runs} damaged captures: {given} samples, all right; {lost} fewer than without damage; {whole_messages} whole \
         messages, each heard"
    );
    assert!(given > 10_000);
}
