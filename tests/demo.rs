//! The main job: twenty seeds of the demo's hour, by the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

fn demo(arguments: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_refclockd"))
        .args(["demo", "--headless", "--speed", "max", "--json"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn field(result: &serde_json::Value, name: &str) -> f64 {
    result[name].as_f64().unwrap_or_else(|| panic!("{name} in {result}"))
}

#[test]
fn the_hat_reaches_its_bars_on_twenty_seeds() {
    let results: Vec<_> = (1..=20).map(|seed| demo(&["--duration", "1h", "--seed", &seed.to_string()])).collect();
    let each = |name| results.iter().map(move |r| field(r, name));
    let most = |name| each(name).fold(0.0, f64::max);
    let least = |name| each(name).fold(f64::INFINITY, f64::min);
    let mean = |name| each(name).sum::<f64>() / 20.0;
    let pooled = (each("rms_error_s").map(|v| v * v).sum::<f64>() / 20.0).sqrt();
    assert!(most("time_to_lock_s") <= 30.0);
    assert!(pooled <= 240e-9 && most("rms_error_s") <= 300e-9, "{pooled:e}");
    assert!(most("max_error_s") <= 1.6e-6 && most("early_max_error_s") <= 5e-6);
    assert!(mean("bound_coverage") >= 0.99 && least("bound_coverage") >= 0.97);
    assert!(mean("bound_ratio") <= 4.0 && most("bound_ratio") <= 4.5);
    assert_eq!(most("wrong_seconds"), 0.0);
    assert!(results.iter().all(|r| r["final_state"] == "locked"));
}

#[test]
fn every_story_ends_as_it_says() {
    for (story, state) in
        [("antenna-loss", "locked"), ("nmea-only", "coarse"), ("wrong-week", "locked"), ("cold-start", "locked")]
    {
        let result = demo(&["--duration", "20m", "--scenario", story]);
        assert_eq!(result["final_state"], state, "{result}");
        assert_eq!(field(&result, "wrong_seconds"), 0.0, "{result}");
        assert!(field(&result, "bound_coverage") >= 0.97, "{result}");
    }
}

#[test]
fn the_same_seed_gives_the_same_hour() {
    let run = || {
        let mut result = demo(&["--duration", "10m", "--seed", "7"]);
        result.as_object_mut().unwrap().remove("wall_s");
        result
    };
    assert_eq!(run(), run());
}
