//! The rows: worlds, and what is asked of us in them.

use refclockd::core::selection::SelectionOptions;
use refclockd::sim::fault::What;
use refclockd::sim::scenario::{Model, SourceModel};
use refclockd::sim::{Crystal, Fault, Jitter, PulseModel, Scenario, ServerModel, Shape, Temperature, Way};

use super::Result;

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// The world.
    pub scenario: Scenario,
    /// How long it is played, and when the statistics begin, s.
    pub seconds: f64,
    pub from: f64,
    /// Converged is what stays below this, s.
    pub threshold: f64,
    /// What the rms error is held against: the oracle, or this, s.
    pub against: Option<f64>,
    /// At most so many times that.
    pub most: f64,
    /// The median error bound is at most so many times the rms error.
    pub most_bound: f64,
    /// Started with what an earlier life remembers.
    pub warm: bool,
}

impl Row {
    /// What the rms error is held against, s.
    pub fn reference(&self, r: &Result) -> f64 {
        self.against.unwrap_or(r.oracle)
    }

    /// What it fails to reach.
    pub fn missed(&self, r: &Result) -> Vec<&'static str> {
        let mut missed = Vec::new();
        // What the seeds alone make of it is no miss.
        if r.rms - 2.0 * r.rms_error > self.most * self.reference(r) {
            missed.push("rms");
        }
        if r.coverage < 0.99 {
            missed.push("coverage");
        }
        if r.bound_ratio > self.most_bound {
            missed.push("bound");
        }
        missed
    }

    fn edit(&self, name: &'static str, edit: impl FnOnce(&mut Scenario)) -> Self {
        let mut row = self.clone();
        row.name = name;
        edit(&mut row.scenario);
        row
    }

    fn against(mut self, prototype: f64) -> Self {
        self.against = Some(prototype);
        self.most = 1.0;
        self
    }

    fn most(mut self, most: f64) -> Self {
        self.most = most;
        self
    }

    fn warm(mut self) -> Self {
        self.warm = true;
        self
    }
}

fn scenario(source: SourceModel, wander_ppb: f64, sine: bool) -> Scenario {
    // A sine of 1 ppm amplitude and two hours: what 20 degrees do to a bad crystal.
    let temperature = Temperature { swing: 20.0, period: 7200.0, wobble: 0.0, coefficient: 5e-8, sensor: None };
    let crystal = Crystal {
        frequency: 80e-6,
        wander: wander_ppb * 1e-9,
        temperature: sine.then_some(temperature),
        ..Crystal::default()
    };
    Scenario::of(crystal, vec![source])
}

fn source(name: &str, model: Model) -> SourceModel {
    SourceModel { name: name.into(), model, options: SelectionOptions::default() }
}

fn stamps(jitter: f64, late: Vec<(f64, f64)>) -> SourceModel {
    source("PPS", Model::Numbered(PulseModel { jitter, late, rate: 1.0, ..PulseModel::default() }))
}

fn packets(base: f64, mean: f64, poll: i8) -> ServerModel {
    let way = Way { base, jitter: Jitter { mean, shape: Shape::Exponential } };
    ServerModel {
        there: way,
        back: way,
        loss: 0.0,
        stamp_noise: 0.0,
        ahead: 0.0,
        minpoll: poll,
        maxpoll: poll,
        iburst: true,
        stratum: 1,
        root_delay: 0.0,
        root_dispersion: 0.0,
    }
}

fn pps(name: &'static str, wander: f64, sine: bool) -> Row {
    let scenario = scenario(stamps(1e-6, vec![(0.05, 20e-6)]), wander, sine);
    Row {
        name,
        scenario,
        seconds: 20_000.0,
        from: 4000.0,
        threshold: 5e-6,
        against: None,
        most: 1.1,
        most_bound: 4.0,
        warm: false,
    }
}

fn shm(name: &'static str, wander: f64, sine: bool) -> Row {
    let scenario = scenario(stamps(20e-3, vec![]), wander, sine);
    Row {
        scenario,
        seconds: 40_000.0,
        from: 10_000.0,
        threshold: 10e-3,
        most: 1.25,
        most_bound: 8.0,
        ..pps(name, 1.0, false)
    }
}

fn net(name: &'static str, server: ServerModel, wander: f64, sine: bool) -> Row {
    let is_lan = server.there.base < 1e-3;
    let (seconds, from) = match (is_lan, server.minpoll) {
        (true, 6) => (40_000.0, 10_000.0),
        (true, _) => (20_000.0, 5000.0),
        _ => (60_000.0, 20_000.0),
    };
    Row {
        scenario: scenario(source("NET", Model::Server(server)), wander, sine),
        seconds,
        from,
        threshold: if is_lan { 50e-6 } else { 5e-3 },
        most: if is_lan { 1.1 } else { 1.25 },
        most_bound: if is_lan { 4.0 } else { 8.0 },
        ..pps(name, 1.0, false)
    }
}

fn lan64(name: &'static str, wander: f64, sine: bool) -> Row {
    net(name, packets(100e-6, 20e-6, 6), wander, sine)
}

fn lan16(name: &'static str, wander: f64, sine: bool) -> Row {
    net(name, packets(100e-6, 20e-6, 4), wander, sine)
}

fn wan(name: &'static str, wander: f64, sine: bool) -> Row {
    net(name, packets(20e-3, 5e-3, 6), wander, sine)
}

/// The main table: at most 10 % over the bound on pulses and LAN, 25 % else, 35 % at the smallest
/// wander from a cold start. Where there is no bound (the oracle knows nothing of a sine), 10 % over the
/// prototype's figure.
pub fn main_table() -> Vec<Row> {
    vec![
        pps("pps 0.1", 0.1, false),
        pps("pps 1", 1.0, false),
        pps("pps 10", 10.0, false),
        pps("pps sine", 0.1, true).against(214e-9).most(1.1),
        shm("shm 0.1", 0.1, false).most(1.35),
        shm("shm 0.1 warm", 0.1, false).warm(),
        shm("shm 1", 1.0, false),
        shm("shm 10", 10.0, false),
        shm("shm sine", 0.1, true).against(788e-6).most(1.1),
        lan64("lan64 0.1", 0.1, false),
        lan64("lan64 1", 1.0, false),
        lan64("lan64 10", 10.0, false),
        lan64("lan64 sine", 0.1, true).against(7.18e-6).most(1.1),
        lan16("lan16 0.1", 0.1, false),
        lan16("lan16 1", 1.0, false),
        lan16("lan16 10", 10.0, false),
        lan16("lan16 sine", 0.1, true).against(2.5e-6).most(1.1),
        wan("wan64 0.1", 0.1, false).most(1.35),
        wan("wan64 0.1 warm", 0.1, false).warm(),
        wan("wan64 1", 1.0, false),
        wan("wan64 10", 10.0, false),
        wan("wan64 sine", 0.1, true).against(395e-6).most(1.1),
    ]
}

/// The table of robustness: at least as good as the prototype, whose figures are of sixty seeds: twenty of
/// them, or of ours, may differ by a few per cent. Where late pulses are many, that depends on the draw:
/// there it is held against the oracle, as the prototype was.
pub fn robustness() -> Vec<Row> {
    let pps1 = pps("", 1.0, false);
    let lan = lan64("", 1.0, false);
    let wide = wan("", 1.0, false);
    let late = |row: &Row, name, jitter: f64, late: Vec<(f64, f64)>| {
        row.edit(name, |s| s.sources = vec![stamps(jitter, late)])
    };
    let server = |row: &Row, name, edit: &dyn Fn(&mut ServerModel)| {
        row.edit(name, |s| {
            for source in &mut s.sources {
                if let Model::Server(server) = &mut source.model {
                    edit(server);
                }
            }
        })
    };
    let shape = |row: &Row, name, shape: Shape| {
        server(row, name, &|s| {
            // The prototype's Pareto and lognormal had a mean of 2 and 1 scales.
            let factor = if matches!(shape, Shape::Pareto(_)) { 2.0 } else { 1.0 };
            for way in [&mut s.there, &mut s.back] {
                way.jitter = Jitter { mean: factor * way.jitter.mean, shape };
            }
        })
    };
    let half = |row: Row, what: What| {
        let mut row = row;
        row.scenario.faults.push(Fault { from: row.seconds / 2.0, until: f64::INFINITY, what });
        row
    };
    vec![
        late(&pps1, "pps sd 0.1 us", 1e-7, vec![(0.05, 20e-6)]).against(39.9e-9),
        late(&pps1, "pps sd 5 us, 20 % late 50 us", 5e-6, vec![(0.2, 50e-6)]).most(1.043),
        late(&pps1, "pps never late", 1e-6, vec![]).against(218.6e-9),
        late(&pps1, "pps 30 % late 2 us", 1e-6, vec![(0.3, 2e-6)]).against(329e-9),
        half(pps("pps 1 ppm step", 0.1, false), What::Frequency(1e-6)).against(216.5e-9),
        half(pps("pps 50 us step", 1.0, false), What::Phase(50e-6)).against(2.064e-6),
        half(pps("pps wander 0.1 to 10", 0.1, false), What::Wander(1e-8)).against(331.2e-9),
        half(pps("pps wander 10 to 0.1", 10.0, false), What::Wander(1e-10)).against(269.1e-9),
        server(&lan, "lan stamps 5 us", &|s| s.stamp_noise = 5e-6).against(6.348e-6),
        server(&lan, "lan stamps 20 us", &|s| s.stamp_noise = 20e-6).against(12.27e-6),
        server(&lan, "lan asymmetric 20:60 us", &|s| s.back.jitter.mean *= 3.0).against(5.563e-6),
        server(&wide, "wan asymmetric 5:25 ms", &|s| s.back.jitter.mean *= 5.0).against(333.6e-6),
        shape(&wide, "wan gamma 3", Shape::Gamma(3.0)).against(255e-6),
        shape(&lan, "lan lognormal", Shape::Lognormal(1.0)).against(3.526e-6),
        shape(&lan, "lan pareto 1.5", Shape::Pareto(1.5)).against(3.773e-6),
        half(lan64("lan route +300 us", 1.0, false), What::Route(0, 150e-6, 150e-6)).against(4.253e-6),
        half(lan64("lan 1 ppm step", 0.1, false), What::Frequency(1e-6)).against(6.565e-6),
        server(&lan, "lan 30 % loss", &|s| s.loss = 0.3).against(5.259e-6),
    ]
}
