//! What deserves attention, of the clock and of each source.

use refclocks::time::{Raw, Timestamp};
use refclocks::ubx::setup::Outcome;
use refclocks::{Antenna, DevicePhase, Jamming, ReceiverReport, Spoofing};

use super::numbers::{code_and_data, name_of};
use super::satellites::short_name;
use super::status::{Notice, Severity};
use super::why::sentence;
use crate::core::event::Days;
use crate::core::snapshot::Snapshot;
use crate::core::state::{Magnitude, direction};
use crate::core::verdict::Verdict;
use crate::observe::plain::plain;

/// What deserves attention whatever the state is, the worst first.
pub(super) fn notices(snapshot: &Snapshot, raw: Timestamp<Raw>) -> Vec<Notice> {
    let mut notices = Vec::new();
    if let Some(refusal) = &snapshot.clock_refusal {
        let (code, severity, action) = ("clock_refused".into(), Severity::Caution, Some(refusal.action().into()));
        notices.push(Notice { code, severity, source: None, text: sentence(refusal), action });
    }
    if let Some(left) = snapshot.leap_left {
        let text = format!(
            "After the leap second the system clock is {} {} and slewed back to UTC; NTP clients are given UTC.",
            Magnitude(left.abs()),
            direction(left),
        );
        notices.push(Notice { code: "leap_slew".into(), severity: Severity::Notice, source: None, text, action: None });
    }
    for source in snapshot.sources.iter() {
        let name = plain(&source.name);
        let mut add = |code: &str, severity, text: String, action: Option<String>| {
            let text = plain(&text).into_owned();
            notices.push(Notice { code: code.into(), severity, source: Some(name.clone().into_owned()), text, action });
        };
        if let verdict @ (Verdict::Falseticker { .. }
        | Verdict::NumberingContradicted { .. }
        | Verdict::DateInDoubt { .. }) = &source.verdict
        {
            let (code, _) = code_and_data(verdict);
            add(&code, Severity::Caution, format!("{name} is {verdict}."), verdict.next());
        }
        if let Some(device) = &source.device
            && matches!(device.phase, DevicePhase::Absent | DevicePhase::Stale | DevicePhase::Faulty)
        {
            add("device", Severity::Caution, format!("{name}: {}.", device.reason), device.reason.action());
        }
        if source.health.rollover_repaired > 0 {
            let text = format!("{name} sends a date that is 1024 weeks off; it is repaired.");
            add("week_rollover", Severity::Notice, text, Some("A firmware update of the receiver may mend it.".into()));
        }
        if let Some(repair) = &source.repair {
            let way = if repair.days > 0 { "behind" } else { "ahead" };
            let by = repair.by.iter().map(|name| plain(name)).collect::<Vec<_>>().join(" and ");
            let text = format!(
                "{name} sends a date that is {} {way}, as {by} agree; it is repaired.",
                Days(repair.days.abs())
            );
            add("date_repaired", Severity::Notice, text, Some("A firmware update of the receiver may mend it.".into()));
        }
        let health = &source.health;
        if health.missing_pulses > 0 || health.double_pulses > 0 {
            let text = format!(
                "{name}: besides {} pulses, {} were due and did not come, and {} edges were too many.",
                health.pulses, health.missing_pulses, health.double_pulses
            );
            let action = (health.double_pulses > 0)
                .then(|| "Mend the wiring: a pull-down, a shorter or shielded wire.".to_owned());
            add("pulse_count", Severity::Notice, text, action);
        }
        if let Some(outcome) = source.receiver.as_ref().and_then(|receiver| receiver.set_up.as_ref())
            && let Some(action) = set_up_action(outcome)
        {
            add("set_up", Severity::Notice, format!("{name}'s receiver: {outcome}."), Some(action.into()));
        }
        for (code, severity, text, action) in source.receiver.iter().flat_map(fix_notices) {
            add(code, severity, format!("{name}{text}."), Some(action.into()));
        }
        for said in source.receiver.iter().flat_map(receiver_notices) {
            add(said.code, said.severity, format!("{name} reports {}.", said.what), Some(said.action.into()));
        }
    }
    if let Some(leap) = snapshot.utc.next
        && snapshot.utc_at(raw).0 < leap.at
    {
        let what = if leap.change > 0 { "inserted" } else { "left out" };
        let text = format!("A leap second will be {what} just before {}.", leap.at);
        let notice =
            Notice { code: "leap_announced".into(), severity: Severity::Notice, source: None, text, action: None };
        notices.push(notice);
    }
    notices.sort_by_key(|notice| std::cmp::Reverse(notice.severity));
    notices
}

/// What to do about a receiver that did not take what it was to be set to. One that does not tell all that
/// others tell needs nothing.
fn set_up_action(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Done(not_taken) if not_taken.iter().all(|n| n.extra) => None,
        Outcome::Done(_) => {
            Some("Delete from its section what this receiver does not have, or set it with its maker's program.")
        }
        Outcome::NoAnswer => Some("Connect our TXD to its RXD, or delete `configure`."),
        Outcome::Lost(_) => Some("It is looked for at other speeds; set `baud` to one that it has."),
    }
}

/// What a receiver says against its fix.
fn fix_notices(receiver: &ReceiverReport) -> impl Iterator<Item = (&'static str, Severity, String, &'static str)> {
    let quality = receiver.quality;
    let poor = quality.and_then(|q| q.doubt()).map(|doubt| {
        let text = format!(
            " has a poor fix, by its own word, and its time may be wrong by {} (1σ): what it and its pulse stand for is \
             widened by thrice that",
            Magnitude(doubt)
        );
        ("poor_fix", Severity::Caution, text, "Give the antenna a better view of the sky; look for interference.")
    });
    let failing = quality.and_then(|q| q.failing).map(|satellite| {
        let name = short_name(&name_of(&satellite.constellation), satellite.number);
        let bias = satellite.bias_m.map_or_else(String::new, |bias| format!(" by {:.0} m", bias.abs()));
        let text = format!(" finds the signal of satellite {name} wrong{bias}");
        let action =
            "One satellite may fail, and is left out; if it goes on, look for what reflects signals near the antenna.";
        ("failing_satellite", Severity::Notice, text, action)
    });
    [poor, failing].into_iter().flatten()
}

/// What a receiver says of itself that a person should know.
struct Said {
    code: &'static str,
    severity: Severity,
    /// It reports this.
    what: &'static str,
    action: &'static str,
}

fn receiver_notices(receiver: &ReceiverReport) -> impl Iterator<Item = Said> {
    let connector = "Check the connector. A passive antenna always reads open.";
    let nearby = "Look for a transmitter nearby, or move the antenna.";
    let compare = "Compare with other sources: while they agree, the time is right.";
    let notice = |code, what, action| Said { code, severity: Severity::Notice, what, action };
    let caution = |code, what, action| Said { code, severity: Severity::Caution, what, action };
    let antenna = receiver.antenna.and_then(|antenna| match antenna {
        Antenna::Ok => None,
        Antenna::Open => Some(notice("antenna_open", "the antenna cable open", connector)),
        Antenna::Short => Some(notice("antenna_short", "the antenna cable shorted", connector)),
    });
    let jamming = receiver.jamming.and_then(|jamming| match jamming {
        Jamming::None => None,
        Jamming::Warning => Some(notice("jamming", "interference; its fix still holds", nearby)),
        Jamming::Critical => Some(caution("jamming", "interference that leaves it no fix", nearby)),
    });
    let spoofing = receiver.spoofing.and_then(|spoofing| match spoofing {
        Spoofing::None => None,
        Spoofing::Indicated => Some(caution("spoofing", "a sign of counterfeit signals", compare)),
        Spoofing::Affirmed => Some(caution("spoofing", "several signs of counterfeit signals", compare)),
    });
    [antenna, jamming, spoofing].into_iter().flatten()
}
