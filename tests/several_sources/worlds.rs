//! The worlds of these tests: a receiver with its pulse, local servers, a far one.

use std::ops::Range;

use refclockd::sim::scenario::{InsertedSecond, MessageModel, Model, SourceModel};
use refclockd::sim::{Crystal, Jitter, PulseModel, Scenario, ServerModel, Shape, Way};

/// A world with these sources: a crystal that wanders by 1 ppb/sqrt(s).
pub fn world(sources: Vec<SourceModel>) -> Scenario {
    let crystal = Crystal { frequency: 12e-6, wander: 1e-9, ..Crystal::default() };
    Scenario { judged_from: Some(f64::INFINITY), ..Scenario::of(crystal, sources) }
}

/// Those of some sources.
pub fn only(sources: &[SourceModel], which: Range<usize>) -> Vec<SourceModel> {
    sources[which].to_vec()
}

/// A receiver: its messages, and its pulse.
pub fn hat() -> Vec<SourceModel> {
    let pulse = PulseModel { jitter: 1e-6, late: vec![(0.05, 20e-6)], rate: 1.0, ..PulseModel::default() };
    vec![
        source("GPS", Model::Messages(MessageModel { delay: 0.12, jitter: 0.02, inserted: InsertedSecond::Sixty })),
        source("PPS", Model::Pulse(pulse)),
    ]
}

/// The receiver, three local servers that are 5 us off, and a far one that seems to be 1 ms off: the way
/// back takes 2 ms longer.
pub fn everything() -> Vec<SourceModel> {
    let mut sources = hat();
    sources.extend([5e-6, -5e-6, 5e-6].into_iter().enumerate().map(|(i, ahead)| lan(i, ahead)));
    sources.push(source("WAN", Model::Server(server(way(20e-3, 5e-3), way(22e-3, 5e-3), 0.0))));
    sources
}

/// A local server whose clock is ahead by so much, s.
pub fn lan(i: usize, ahead: f64) -> SourceModel {
    let names = ["LANa", "LANb", "LANc", "LANd", "LANe"];
    source(names[i], Model::Server(server(way(100e-6, 20e-6), way(100e-6, 20e-6), ahead)))
}

fn way(base: f64, mean: f64) -> Way {
    Way { base, jitter: Jitter { mean, shape: Shape::Exponential } }
}

fn server(there: Way, back: Way, ahead: f64) -> ServerModel {
    ServerModel {
        there,
        back,
        loss: 0.0,
        stamp_noise: 0.0,
        ahead,
        minpoll: 6,
        maxpoll: 6,
        iburst: true,
        stratum: 1,
        root_delay: 0.0,
        root_dispersion: 20e-6,
    }
}

fn source(name: &str, model: Model) -> SourceModel {
    SourceModel { name: name.into(), model, options: Default::default() }
}
