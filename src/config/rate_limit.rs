//! `[serve] rate_limit`: how often one client is answered.

use std::ops::Range;

use toml::de::DeValue;

use super::diagnostic::Diagnostic;
use super::value::{Section, wrong_type};
use crate::ntp::limit::{Counting, Kiss, Limits};

/// Reads `rate_limit`.
pub(super) fn rate_limit(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> Option<Limits> {
    let value = section.get("rate_limit")?;
    let usual = Limits::default();
    match value.get_ref() {
        DeValue::Boolean(wanted) => return wanted.then_some(usual),
        DeValue::Table(_) => {}
        other => {
            let wanted = "true, or a table such as `{ interval = \"2 s\", burst = 16 }`";
            out.push(wrong_type("rate_limit", wanted, other, value.span()));
            return None;
        }
    }
    let table = Section::new("rate_limit", value, out)?;
    if let Some(average) = table.get("average") {
        return requests_limit(&table, average.span(), out);
    }
    table.only(&["interval", "burst", "minimum", "leak", "kod", "average"], out);
    let power = |key, usual: Option<u8>, out: &mut Vec<Diagnostic>| match table.get(key).map(|value| value.get_ref()) {
        None => usual,
        Some(DeValue::Boolean(false)) => None,
        Some(_) => table.integer(key, 0..=16, out).and_then(|n| u8::try_from(n).ok()),
    };
    let leak = power("leak", usual.leak, out);
    let kod = power("kod", Some(3), out);
    Some(Limits {
        counting: Counting::Replies,
        // chrony's limits, 2^-19 s to 2^12 s.
        interval: table.duration("interval", 1.9e-6..=4096.0, out).unwrap_or(usual.interval),
        burst: table.integer("burst", 1..=255, out).and_then(|n| u8::try_from(n).ok()).unwrap_or(usual.burst),
        minimum: table.duration("minimum", 0.0..=4096.0, out).unwrap_or(usual.minimum),
        leak,
        kiss: kod.map_or(Kiss::Never, Kiss::OneIn),
    })
}

/// Reads a `rate_limit` that counts requests, as NTPsec's `limit`.
fn requests_limit(table: &Section<'_, '_>, at: Range<usize>, out: &mut Vec<Diagnostic>) -> Option<Limits> {
    const KEYS: [&str; 4] = ["average", "burst", "kod", "minimum"];
    if let Some(other) = ["interval", "leak"].into_iter().find(|key| table.get(key).is_some()) {
        let help = "Count replies, with `interval`, or requests, with `average` (a second).";
        out.push(Diagnostic::error(at, format!("`average` beside `{other}`: they count differently"), help));
        return None;
    }
    table.only(&KEYS, out);
    let usual = Limits::NTPSEC;
    let over = table.number("kod", 0.0..=600.0, out).unwrap_or(0.5);
    Some(Limits {
        interval: table.number("average", 0.001..=1e6, out)?.recip(),
        burst: table.integer("burst", 1..=255, out).and_then(|n| u8::try_from(n).ok()).unwrap_or(usual.burst),
        minimum: table.duration("minimum", 0.0..=4096.0, out).unwrap_or(usual.minimum),
        kiss: if over > 0.0 { Kiss::NotFarOver((over * 100.0).round() as u16) } else { Kiss::Never },
        ..usual
    })
}
