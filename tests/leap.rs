//! Leap seconds in the simulated world: inserted and left out, whatever receivers write meanwhile, known from
//! the table or heard of from servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;

use refclockd::core::event::Event;
use refclockd::core::memory::Memory;
use refclockd::core::state::State;
use refclockd::ntp::smear::Smear;
use refclockd::sim::Scenario;
use refclockd::sim::rehearsal::{Rehearsal, Scene};
use refclocks::LeapIndicator;
use refclocks::time::{Timestamp, Utc};

const START: Timestamp<Utc> = Timestamp::from_parts(1_767_225_600, 0);
/// The leap second falls so long after the start, s, and the story ends as long after it.
const AFTER: f64 = 7200.0;
/// Half a minute around it.
const AROUND: f64 = 15.0;
const SMEAR: Smear = Smear { interval: 3600 };

const PULSE: &str = "[[pulse]]\nlate = { share = 0.05, by = \"20 us\" }\n";
const SERVERS: &str = "[[server]]\nname = \"A\"\n[[server]]\nname = \"B\"\n[[server]]\nname = \"C\"\n";

/// What there is, and how the leap second gets known.
fn worlds() -> Vec<(&'static str, &'static str, String)> {
    let messages = |inserted: &str| format!("[[messages]]\ninserted_second = \"{inserted}\"\n{PULSE}");
    vec![
        ("pulse, messages write second 60", "table", messages("60")),
        ("pulse, messages write 59 twice", "table", messages("59")),
        ("pulse, messages write 00 twice", "table", messages("00")),
        ("messages alone", "table", "[[messages]]\n".into()),
        ("numbered pulses", "table", "[[numbered]]\n".into()),
        ("one server", "table", "[[server]]\n".into()),
        ("three servers", "servers", SERVERS.into()),
        ("pulse, messages and three servers", "servers", messages("60") + SERVERS),
    ]
}

/// What was seen of one world.
#[derive(Default)]
struct Seen {
    /// Greatest error of the clock before the leap second, around it, and after, s.
    errors: [f64; 3],
    outside_bound: usize,
    steps: usize,
    states: Vec<State>,
    /// Seconds with a warning, the last of them before the leap second's end, s.
    warned: usize,
    warned_until: f64,
    tai_minus_utc: i32,
    /// Greatest difference of what NTP clients are given to true UTC, s; and how far smeared time moves away
    /// from a second in one, s.
    served_off: f64,
    smear_rate: f64,
}

fn play(sources: &str, known_by: &str, change: i32) -> Seen {
    let second = if change > 0 { "inserted" } else { "left out" };
    let text = format!("[leap]\nsecond = \"{second}\"\nafter = {AFTER}\nknown_by = \"{known_by}\"\n{sources}");
    let scenario = Scenario::from_toml(&text).unwrap();
    let (truth, begun) = (scenario.utc(), scenario.begins(START));
    let mut seen = Seen::default();
    let mut smeared_before: Option<Timestamp<Utc>> = None;
    let mut rehearsal = Rehearsal::new(scenario, 1, START, &Memory::default());
    rehearsal.play(2.0 * AFTER, |scene| match scene {
        Scene::Second { tai, raw, error, snapshot, .. } => {
            if seen.states.last() != Some(&snapshot.state) {
                seen.states.push(snapshot.state);
            }
            let since = (tai - begun).seconds() - AFTER;
            if since < 300.0 - AFTER {
                return;
            }
            let part = if since < -AROUND {
                0
            } else if since <= AROUND {
                1
            } else {
                2
            };
            seen.errors[part] = seen.errors[part].max(error.abs());
            seen.outside_bound += usize::from(error.abs() > snapshot.distance_at(raw));
            if snapshot.system_at(raw).leap != LeapIndicator::None {
                seen.warned += 1;
                seen.warned_until = since;
            }
            let after = since > AROUND;
            seen.tai_minus_utc =
                snapshot.utc.tai_minus_utc + snapshot.utc.next.filter(|_| after).map_or(0, |l| l.change);
            // Half a second later no error of the clock can take it to another second.
            let half = refclocks::Span::from_millis(500);
            let (served, inside) = snapshot.utc_at(raw + half);
            let (true_utc, truly_inside) = truth.utc(tai + half);
            assert_eq!(inside, truly_inside, "{since}");
            seen.served_off = seen.served_off.max((served - true_utc).seconds().abs() - error.abs());
            let smeared = SMEAR.utc(&snapshot.utc, None, snapshot.clock.at(raw));
            if let Some(before) = smeared_before.replace(smeared) {
                seen.smear_rate = seen.smear_rate.max(((smeared - before).seconds() - 1.0).abs());
            }
        }
        Scene::Event(event) => {
            let is_late = seen.states.contains(&State::Locked) || seen.states.contains(&State::Network);
            seen.steps += usize::from(is_late && matches!(event, Event::Stepped { .. }));
        }
        Scene::Measured { .. } => {}
    });
    seen
}

#[test]
fn a_leap_second_is_no_event_for_the_clock() {
    let mut table = String::new();
    for (world, known_by, sources) in worlds() {
        for change in [1, -1] {
            let seen = play(&sources, known_by, change);
            let what = if change > 0 { "inserted" } else { "left out" };
            let name = format!("{world}, known by {known_by}, {what}");
            let [before, around, after] = seen.errors.map(|error| format!("{:.1e}", error));
            let states: Vec<&str> = seen.states.iter().map(|state| state.as_str()).collect();
            writeln!(
                table,
                "{name}\n    greatest error before {before} s, around {around} s, after {after} s; {} steps; {}\n    \
                 warned {} s long, until {} s before it is over; TAI - UTC {} s",
                seen.steps,
                states.join(", "),
                seen.warned,
                0.0 - seen.warned_until,
                seen.tai_minus_utc,
            )
            .unwrap();
            // The bound covers 99 %, here as elsewhere.
            assert!(seen.outside_bound < 100, "{name}: {}", seen.outside_bound);
            assert_eq!(seen.steps, 0, "{name}");
            assert_eq!(seen.tai_minus_utc, 37 + change, "{name}");
            assert!(seen.served_off < 1e-3, "{name}: {}", seen.served_off);
            assert!(seen.smear_rate < 1.1 / 3600.0 + 2.0 * seen.errors[0], "{name}: {}", seen.smear_rate);
        }
    }
    insta::assert_snapshot!(table);
}
