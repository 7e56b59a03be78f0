//! Real receivers' captures with bytes flipped, cut out, doubled and delayed: nothing panics, no second is
//! wrong, and whatever begins after the damage is heard as if there had been none.
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
    for (i, part) in bytes.chunks(8).enumerate() {
        let late = part.iter().map(|b| b.2).max().unwrap_or_default();
        let arrived = (Timestamp::from_parts(1000, 0) + Span::from_millis(i as i64 * 8) + late).max(last);
        last = arrived;
        let part: Vec<u8> = part.iter().map(|b| b.0).collect();
        driver.handle_bytes_telling(&part, arrived, |h| {
            let place = bytes[h.offset as usize].1;
            heard.insert(place, *h);
            if h.outcome == Outcome::Sample {
                samples.push(Heard { offset: place as u64, ..*h });
            }
        });
        while let Some(report) = driver.poll_report() {
            if let Report::Sample(sample) = report {
                let LocalStamp::Raw(at) = sample.local else { unreachable!() };
                assert!(at <= arrived, "from the future");
            }
        }
    }
    (heard, samples)
}

#[test]
fn damage_costs_what_is_damaged_and_never_a_wrong_second() {
    let Some(folder) = folder("REFCLOCKD_CAPTURES") else { return };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "log" || e == "nmea"));
    files.sort();
    let (mut runs, mut given, mut lost) = (0, 0, 0);
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
                // In step at the first message behind the damage.
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
    println!("{runs} damaged captures: {given} samples, all right; {lost} fewer than without damage");
    assert!(given > 10_000);
}
