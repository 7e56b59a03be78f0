//! From a scenario file to the model, with everything that is wrong on the way.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ClockAtStart, InsertedSecond, Leap, MessageModel, Model, Scenario, SourceModel};
use crate::config::Diagnostic;
use crate::config::diagnostic::quoted;
use crate::config::value::{Section, unknown, wrong_type};
use crate::core::selection::SelectionOptions;
use crate::sim::fault::What;
use crate::sim::oscillator::{Sensor, Temperature};
use crate::sim::{Crystal, Fault, Jitter, PulseModel, ServerModel, Shape, Way};

/// Keys and sections of the file.
const KEYS: [&str; 12] = [
    "name",
    "shows",
    "duration",
    "judged_from",
    "clock",
    "crystal",
    "leap",
    "messages",
    "pulse",
    "numbered",
    "server",
    "fault",
];
/// Longest time that a scenario can speak of, s: three years.
const EVER: f64 = 1e8;
/// Keys of every source.
const COMMON: [&str; 5] = ["name", "prefer", "noselect", "trust", "require"];
/// What a fault can be.
const FAULTS: [&str; 8] = ["silent", "no-fix", "ahead", "weeks", "route", "frequency", "phase", "wander"];
/// Shapes of jitter.
const SHAPES: [&str; 4] = ["exponential", "gamma", "pareto", "lognormal"];

/// Reads it.
pub(super) fn scenario(text: &str) -> Result<Scenario, Vec<Diagnostic>> {
    let mut out = Vec::new();
    let read = match DeTable::parse(text) {
        Ok(table) => Some(whole(table.get_ref(), &mut out)),
        Err(error) => {
            let title = format!("not TOML: {}", error.message().lines().next().unwrap_or("cannot be read"));
            let help = "Mend this first; the rest of the file is read after that.";
            out.push(Diagnostic::error(error.span().unwrap_or(text.len()..text.len()), title, help));
            None
        }
    };
    out.sort_by_key(|d| d.span.as_ref().map(|s| (s.start, s.end)).unwrap_or((usize::MAX, 0)));
    match read {
        Some(scenario) if !out.iter().any(Diagnostic::is_error) => Ok(scenario),
        _ => Err(out),
    }
}

fn whole(table: &DeTable<'_>, out: &mut Vec<Diagnostic>) -> Scenario {
    let top = Section { title: "the scenario", span: 0..0, table };
    top.only(&KEYS, out);
    let sources = sources(table, out);
    let names: Vec<&str> = sources.iter().map(|(s, _)| s.name.as_str()).collect();
    if sources.is_empty() && out.is_empty() {
        let help = "Add [[messages]], [[pulse]], [[numbered]] or [[server]].";
        out.push(Diagnostic::error(0..0, "no source at all", help).of_the_file());
    }
    for (i, (source, name)) in sources.iter().enumerate() {
        if names.get(..i).is_some_and(|before| before.contains(&source.name.as_str())) {
            let title = format!("two sources are named {}", quoted(&source.name));
            out.push(Diagnostic::error(name.clone(), title, "Give this one another `name`."));
        }
    }
    let models: Vec<SourceModel> = sources.iter().map(|(s, _)| s.clone()).collect();
    let mut faults = Vec::new();
    each(table, "fault", "[[fault]]", out, |section, out| faults.extend(fault(section, &models, out)));
    let one = |key: &str, title: &'static str, out: &mut Vec<Diagnostic>| {
        table.get(key).and_then(|value| Section::new(title, value, out))
    };
    Scenario {
        name: top.string("name", out).map_or_else(|| "scenario".into(), |(name, _)| name.into()),
        shows: top.string("shows", out).map_or_else(String::new, |(shows, _)| shows.into()),
        duration: top.duration("duration", 1.0..=EVER, out),
        judged_from: top.duration("judged_from", 0.0..=EVER, out),
        start: one("clock", "[clock]", out).map_or(ClockAtStart::Drawn, |section| clock(&section, out)),
        crystal: one("crystal", "[crystal]", out).map_or_else(usual_crystal, |section| crystal(&section, out)),
        sources: models,
        faults,
        leap: one("leap", "[leap]", out).and_then(|section| leap(&section, out)),
    }
}

fn leap(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> Option<Leap> {
    section.only(&["second", "after", "known_by"], out);
    section.required("second", "inserted", out)?;
    let change = section.choice("second", "leap second", &[("inserted", 1), ("left out", -1)], out)?;
    let by_table = section.choice("known_by", "way to know a leap second", &[("table", true), ("servers", false)], out);
    let by_table = by_table.unwrap_or(true);
    // Servers announce it a day before, and the month must be the one that it ends.
    Some(Leap { change, after: section.duration("after", 1.0..=20.0 * 86_400.0, out).unwrap_or(1800.0), by_table })
}

/// Reads an array of tables.
fn each(
    table: &DeTable<'_>,
    key: &str,
    title: &'static str,
    out: &mut Vec<Diagnostic>,
    mut read: impl FnMut(&Section<'_, '_>, &mut Vec<Diagnostic>),
) {
    let Some(value) = table.get(key) else { return };
    let DeValue::Array(items) = value.get_ref() else {
        let wanted = format!("{title} with two brackets: there can be several");
        return out.push(wrong_type(key, &wanted, value.get_ref(), value.span()));
    };
    for item in items {
        if let Some(section) = Section::new(title, item, out) {
            read(&section, out);
        }
    }
}

fn usual_crystal() -> Crystal {
    Crystal { frequency: 12e-6, wander: 1e-9, ..Crystal::default() }
}

fn clock(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> ClockAtStart {
    section.only(&["ahead", "in_1970"], out);
    if section.boolean("in_1970", out) == Some(true) {
        return ClockAtStart::In1970;
    }
    section.duration("ahead", -EVER..=EVER, out).map_or(ClockAtStart::Drawn, ClockAtStart::Ahead)
}

fn crystal(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> Crystal {
    section.only(&["frequency_ppm", "wander_ppb", "flicker_ppb", "white_ppb", "temperature"], out);
    let usual = usual_crystal();
    let mut number = |key, most: f64, scale: f64| {
        section.number(key, if most < 400.0 { -most } else { 0.0 }..=most, out).map(|n| n * scale)
    };
    let frequency = number("frequency_ppm", 300.0, 1e-6).unwrap_or(usual.frequency);
    let wander = number("wander_ppb", 1000.0, 1e-9).unwrap_or(usual.wander);
    let flicker = number("flicker_ppb", 1000.0, 1e-9).unwrap_or(0.0);
    let white = number("white_ppb", 1000.0, 1e-9).unwrap_or(0.0);
    let temperature = section.get("temperature").and_then(|value| {
        let section = Section::new("temperature", value, out)?;
        section.only(&["swing", "period", "wobble", "ppm_per_degree", "sensor"], out);
        let sensor = section.get("sensor").and_then(|value| {
            let section = Section::new("sensor", value, out)?;
            section.only(&["grain", "noise"], out);
            Some(Sensor {
                grain: section.number("grain", 0.0..=10.0, out).unwrap_or(0.0),
                noise: section.number("noise", 0.0..=10.0, out).unwrap_or(0.0),
            })
        });
        Some(Temperature {
            swing: section.number("swing", 0.0..=100.0, out).unwrap_or(0.0),
            period: section.duration("period", 10.0..=EVER, out).unwrap_or(86_400.0),
            wobble: section.number("wobble", 0.0..=100.0, out).unwrap_or(0.0),
            coefficient: section.number("ppm_per_degree", -10.0..=10.0, out).unwrap_or(0.0) * 1e-6,
            sensor,
        })
    });
    Crystal { frequency, wander, flicker, white, temperature }
}

/// All sources with the place of their name, in the order of the file.
fn sources(table: &DeTable<'_>, out: &mut Vec<Diagnostic>) -> Vec<(SourceModel, Range<usize>)> {
    let mut found: Vec<(SourceModel, Range<usize>, usize)> = Vec::new();
    let mut add = |section: &Section<'_, '_>, usual: &str, model: Model, out: &mut Vec<Diagnostic>| {
        let name = section.string("name", out);
        let mut flag = |key| section.boolean(key, out).unwrap_or(false);
        let options = SelectionOptions {
            prefer: flag("prefer"),
            noselect: flag("noselect"),
            trust: flag("trust"),
            require: flag("require"),
        };
        let place = name.as_ref().map_or(section.span.clone(), |(_, span)| span.clone());
        let name = name.map_or_else(|| usual.to_owned(), |(name, _)| name.to_owned());
        found.push((SourceModel { name, model, options }, place, section.span.start));
    };
    each(table, "messages", "[[messages]]", out, |section, out| {
        let model = messages(section, out);
        add(section, "GPS", Model::Messages(model), out);
    });
    each(table, "pulse", "[[pulse]]", out, |section, out| {
        let model = pulse(section, out);
        add(section, "PPS", Model::Pulse(model), out);
    });
    each(table, "numbered", "[[numbered]]", out, |section, out| {
        let model = pulse(section, out);
        add(section, "SHM", Model::Numbered(model), out);
    });
    each(table, "server", "[[server]]", out, |section, out| {
        let model = server(section, out);
        add(section, "NTP", Model::Server(model), out);
    });
    found.sort_by_key(|(_, _, start)| *start);
    found.into_iter().map(|(source, place, _)| (source, place)).collect()
}

/// Complains of keys that are neither its own nor every source's.
fn only(section: &Section<'_, '_>, own: &[&str], out: &mut Vec<Diagnostic>) {
    let known: Vec<&str> = COMMON.iter().chain(own).copied().collect();
    section.only(&known, out);
}

fn messages(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> MessageModel {
    only(section, &["delay", "jitter", "inserted_second"], out);
    let seconds = [("60", InsertedSecond::Sixty), ("59", InsertedSecond::FiftyNine), ("00", InsertedSecond::Zero)];
    let inserted = section.choice("inserted_second", "second", &seconds, out).unwrap_or_default();
    MessageModel {
        delay: section.duration("delay", 0.0..=2.0, out).unwrap_or(0.120),
        jitter: section.duration("jitter", 0.0..=1.0, out).unwrap_or(0.020),
        inserted,
    }
}

fn pulse(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> PulseModel {
    only(section, &["jitter", "late", "missing", "sawtooth", "rate"], out);
    let mut late = Vec::new();
    if let Some(value) = section.get("late") {
        let items: Vec<&Spanned<DeValue<'_>>> = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        for item in items {
            let Some(reason) = Section::new("late", item, out) else { continue };
            reason.only(&["share", "by"], out);
            let share = reason.number("share", 0.0..=1.0, out).unwrap_or(0.0);
            late.push((share, reason.duration("by", 0.0..=1.0, out).unwrap_or(0.0)));
        }
    }
    PulseModel {
        jitter: section.duration("jitter", 0.0..=1.0, out).unwrap_or(1e-6),
        late,
        missing: section.number("missing", 0.0..=1.0, out).unwrap_or(0.0),
        sawtooth: section.duration("sawtooth", 0.0..=1e-3, out).unwrap_or(0.0),
        rate: section.number("rate", 0.01..=20.0, out).unwrap_or(1.0),
    }
}

fn server(section: &Section<'_, '_>, out: &mut Vec<Diagnostic>) -> ServerModel {
    const WAY: [&str; 4] = ["base", "jitter", "shape", "parameter"];
    let own =
        ["there", "back", "loss", "stamp_noise", "ahead", "minpoll", "maxpoll", "iburst", "stratum", "root_delay"];
    let own: Vec<&str> = WAY.iter().chain(&own).copied().chain(["root_dispersion"]).collect();
    only(section, &own, out);
    let usual = way(section, None, out);
    let mut direction = |key, title| {
        let value = section.get(key);
        let Some(part) = value.and_then(|value| Section::new(title, value, out)) else { return usual };
        part.only(&WAY, out);
        way(&part, Some(usual), out)
    };
    let (there, back) = (direction("there", "`there`"), direction("back", "`back`"));
    let minpoll = poll(section, "minpoll", out).unwrap_or(6);
    let maxpoll = poll(section, "maxpoll", out).unwrap_or(10).max(minpoll);
    ServerModel {
        there,
        back,
        loss: section.number("loss", 0.0..=1.0, out).unwrap_or(0.0),
        stamp_noise: section.duration("stamp_noise", 0.0..=1.0, out).unwrap_or(0.0),
        ahead: section.duration("ahead", -EVER..=EVER, out).unwrap_or(0.0),
        minpoll,
        maxpoll,
        iburst: section.boolean("iburst", out).unwrap_or(true),
        stratum: section.integer("stratum", 1..=15, out).and_then(|s| u8::try_from(s).ok()).unwrap_or(1),
        root_delay: section.duration("root_delay", 0.0..=16.0, out).unwrap_or(0.0),
        root_dispersion: section.duration("root_dispersion", 0.0..=16.0, out).unwrap_or(0.0),
    }
}

/// log2 of an interval, s.
fn poll(section: &Section<'_, '_>, key: &str, out: &mut Vec<Diagnostic>) -> Option<i8> {
    section.integer(key, 0..=17, out).and_then(|p| i8::try_from(p).ok())
}

fn way(section: &Section<'_, '_>, usual: Option<Way>, out: &mut Vec<Diagnostic>) -> Way {
    let base = section.duration("base", 0.0..=10.0, out);
    let mean = section.duration("jitter", 0.0..=10.0, out);
    let parameter = section.number("parameter", 0.05..=100.0, out);
    let shape = section.string("shape", out).and_then(|(name, span)| match name {
        "exponential" => Some(Shape::Exponential),
        "gamma" => Some(Shape::Gamma(parameter.unwrap_or(3.0))),
        "pareto" if parameter.is_some_and(|p| p <= 1.0) => {
            let help = "Use a `parameter` above 1: below, it has no mean.";
            out.push(Diagnostic::error(span, "no such Pareto distribution", help));
            None
        }
        "pareto" => Some(Shape::Pareto(parameter.unwrap_or(1.5))),
        "lognormal" => Some(Shape::Lognormal(parameter.unwrap_or(1.0))),
        other => {
            out.push(unknown(other, span, format!("unknown shape {}", quoted(other)), &SHAPES));
            None
        }
    });
    let usual = usual.unwrap_or(Way { base: 100e-6, jitter: Jitter { mean: 20e-6, shape: Shape::Exponential } });
    Way {
        base: base.unwrap_or(usual.base),
        jitter: Jitter { mean: mean.unwrap_or(usual.jitter.mean), shape: shape.unwrap_or(usual.jitter.shape) },
    }
}

fn fault(section: &Section<'_, '_>, sources: &[SourceModel], out: &mut Vec<Diagnostic>) -> Vec<Fault> {
    section.only(&["what", "at", "for", "source", "by", "weeks", "there", "back", "by_ppm", "wander_ppb"], out);
    let from = section.duration("at", 0.0..=EVER, out).unwrap_or(0.0);
    let until = section.duration("for", 0.0..=EVER, out).map_or(f64::INFINITY, |length| from + length);
    let named = section.list("source", out, |name, span, out| {
        let found = sources.iter().position(|s| s.name == name);
        if found.is_none() {
            let names: Vec<&str> = sources.iter().map(|s| s.name.as_str()).collect();
            out.push(unknown(name, span.clone(), format!("no source is named {}", quoted(name)), &names));
        }
        found.map(|i| (i, span))
    });
    let Some((what, span)) = section.required("what", "silent", out) else { return Vec::new() };
    let mut missing = |key: &str, example: &str| {
        if section.get(key).is_none() {
            let title = format!("a fault {} needs `{key}`", quoted(what));
            out.push(Diagnostic::error(
                section.span.clone(),
                title,
                format!("Add a line such as `{key} = {example}`."),
            ));
        }
    };
    match what {
        "frequency" => missing("by_ppm", "1.0"),
        "wander" => missing("wander_ppb", "10.0"),
        "ahead" | "phase" => missing("by", "\"50 ms\""),
        "weeks" => missing("weeks", "-1024"),
        _ if FAULTS.contains(&what) => {}
        other => out.push(unknown(other, span, format!("unknown fault {}", quoted(other)), &FAULTS)),
    }
    let by = section.duration("by", -EVER..=EVER, out).unwrap_or(0.0);
    let weeks = section.integer("weeks", -4096..=4096, out).unwrap_or(0);
    let there = section.duration("there", 0.0..=10.0, out).unwrap_or(0.0);
    let back = section.duration("back", 0.0..=10.0, out).unwrap_or(0.0);
    let fault = |what| Fault { from, until, what };
    match what {
        "frequency" => section
            .number("by_ppm", -100.0..=100.0, out)
            .map(|ppm| fault(What::Frequency(ppm * 1e-6)))
            .into_iter()
            .collect(),
        "phase" => vec![fault(What::Phase(by))],
        "wander" => section
            .number("wander_ppb", 0.0..=1000.0, out)
            .map(|ppb| fault(What::Wander(ppb * 1e-9)))
            .into_iter()
            .collect(),
        _ => {
            if named.is_none() {
                let title = format!("a fault {} needs `source`", quoted(what));
                let help = "Add a line such as `source = \"PPS\"`, or a list of names.";
                out.push(Diagnostic::error(section.span.clone(), title, help));
            }
            let named = named.unwrap_or_default().into_iter();
            named
                .filter_map(|(i, span)| {
                    let suits = match (what, &sources.get(i)?.model) {
                        ("route", model) => matches!(model, Model::Server(_)),
                        ("no-fix", model) => !matches!(model, Model::Server(_)),
                        _ => true,
                    };
                    if !suits {
                        let title = format!("a fault {} means nothing for this source", quoted(what));
                        let help = "`route` is for a [[server]], `no-fix` for the others.";
                        out.push(Diagnostic::error(span, title, help));
                    }
                    Some(fault(match what {
                        "silent" => What::Silent(i),
                        "no-fix" => What::NoFix(i),
                        "ahead" => What::Ahead(i, by),
                        "weeks" => What::Weeks(i, weeks),
                        "route" => What::Route(i, there, back),
                        _ => return None,
                    }))
                })
                .collect()
        }
    }
}
