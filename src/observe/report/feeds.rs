//! Daemons that are told what we know.

use refclocks::time::{Raw, Timestamp};
use serde::{Deserialize, Serialize};

use super::numbers::finite;
use crate::observe::fed::Fed;
use crate::observe::plain::plain;

/// What is told each second is not told any more after so long, s.
const SILENT: f64 = 5.0;

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedReport {
    /// The segment or socket, e.g. `SHM(2)`.
    pub address: String,
    /// The pulse that is told; unknown: our own clock's time.
    pub source: Option<String>,
    /// Is it told now?
    pub told: bool,
    /// How often it was told so far.
    pub tellings: u64,
    /// Since the last time, s.
    pub last_s: Option<f64>,
    /// In words.
    pub text: String,
    /// What a person can do about it.
    pub action: Option<String>,
}

impl FeedReport {
    /// How it stands at the reader's now.
    pub fn new(fed: &Fed, raw: Timestamp<Raw>) -> Self {
        let last_s = fed.tellings.last().and_then(|at| finite((raw - at).seconds().max(0.0)));
        let what = fed.source.as_deref().unwrap_or("our clock's time");
        let lately = last_s.is_some_and(|s| s < SILENT);
        let (told, why, action) = match &fed.state {
            Some(Err(reason)) => (false, format!("is not told {what}: {reason}"), reason.action()),
            Some(Ok(())) if lately => (true, format!("is told {what}"), None),
            _ => (false, format!("is not told {what}: that is not known well enough now"), None),
        };
        let text = format!("{} {why}", fed.address);
        Self {
            address: plain(&fed.address).into_owned(),
            source: fed.source.as_deref().map(|source| plain(source).into_owned()),
            told,
            tellings: fed.tellings.total(),
            last_s,
            text: plain(&text).into_owned(),
            action: action.map(|action| plain(&action).into_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::fed::Tellings;
    use refclocks::DeviceReason;

    #[test]
    fn a_feed_is_told_is_refused_or_has_nothing_to_be_told() {
        let at = |s: i64| Timestamp::<Raw>::from_parts(1000 + s, 0);
        let tellings = Tellings::default();
        let fed =
            |state| Fed { address: "SHM(2)".into(), source: Some("PPS".into()), state, tellings: tellings.clone() };
        let report = |state, s| FeedReport::new(&fed(state), at(s));
        let before = report(None, 0);
        assert_eq!((before.told, before.tellings, before.last_s), (false, 0, None));
        assert_eq!(before.text, "SHM(2) is not told PPS: that is not known well enough now");
        tellings.count(at(1));
        tellings.count(at(2));
        let now = report(Some(Ok(())), 3);
        assert_eq!((now.told, now.tellings, now.last_s, now.text.as_str()), (true, 2, Some(1.0), "SHM(2) is told PPS"));
        assert!(!report(Some(Ok(())), 9).told, "the pulse has gone");
        let nobody = DeviceReason::NobodyListens { path: "/run/c.sock".into() };
        let refused = report(Some(Err(nobody)), 3);
        assert!(!refused.told && refused.text.ends_with("nobody listens at /run/c.sock") && refused.action.is_some());
    }
}
