//! From seconds to the JSON's units, and from scales to text.

use std::collections::BTreeMap;

use refclocks::calendar::CivilTime;
use refclocks::time::{Raw, Timestamp, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::core::snapshot::Snapshot;

/// Nanoseconds, to the nearest; `None` for what is not finite.
pub fn nanos(seconds: f64) -> Option<i64> {
    // A float saturates when it becomes an integer.
    seconds.is_finite().then(|| (seconds * 1e9).round() as i64)
}

/// Nanoseconds, rounded up: for bounds.
pub fn nanos_up(seconds: f64) -> Option<u64> {
    // Half of a millionth of a nanosecond is the float's doing, not the bound's.
    seconds.is_finite().then(|| (seconds * 1e9 - 5e-7).ceil().max(0.0) as u64)
}

/// Finite, or unknown; rounded to a millionth, which is more than anybody reads.
pub(super) fn finite(value: f64) -> Option<f64> {
    value.is_finite().then(|| (value * 1e6).round() / 1e6)
}

/// What the served clock says at a raw instant, RFC 3339 with nine digits; second 60 within a leap second.
pub(super) fn utc_text(snapshot: &Snapshot, raw: Timestamp<Raw>) -> String {
    let (utc, inside_leap) = snapshot.utc_at(raw);
    civil_text(utc, inside_leap)
}

pub(super) fn civil_text(utc: Timestamp<Utc>, inside_leap: bool) -> String {
    let mut civil = CivilTime::from_utc(utc);
    if inside_leap {
        civil.second = 60;
    }
    format!("{civil:.9}")
}

/// An enum written with `tag = "code"`: its code, and its numbers.
pub(super) fn code_and_data(tagged: &impl Serialize) -> (String, BTreeMap<String, Value>) {
    let Ok(Value::Object(fields)) = serde_json::to_value(tagged) else { return ("other".into(), BTreeMap::new()) };
    let mut data: BTreeMap<String, Value> = fields.into_iter().collect();
    match data.remove("code") {
        Some(Value::String(code)) => (code, data),
        _ => ("other".into(), data),
    }
}

/// An enum without data, as JSON writes it.
pub(super) fn name_of(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        _ => "other".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_go_up_and_the_unknown_stays_unknown() {
        assert_eq!(nanos_up(410e-9), Some(410));
        assert_eq!(nanos_up(410.2e-9), Some(411));
        assert_eq!(nanos_up(f64::INFINITY), None);
        assert_eq!(nanos(f64::NAN), None);
        assert_eq!(nanos(-230.4e-9), Some(-230));
        assert_eq!(nanos(1e30), Some(i64::MAX));
    }
}
