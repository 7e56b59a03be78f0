//! The one thread that owns devices, engine and sockets.
//!
//! Shells hand in what came; the engine decides; what readers may know is published as one snapshot.
//! `now` is read once per wake-up.

pub mod feeding;
pub mod files;
pub mod installation;
pub mod journal;
mod operator;
pub mod privileges;
mod reader;
pub mod roster;
pub mod start;
pub mod supervisor;
pub mod thermometer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use refclocks::shell::Delivery;
use refclocks::sys::clock::{Bracket, SHORTEST_SLEEP, asleep, bracket};
use refclocks::time::{Raw, Span, Timestamp, Utc};
use refclocks::{LocalStamp, Report};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::clock::DisciplinedClock;
use crate::control::command::Commission;
use crate::core::measurement::SourceId;
use crate::core::snapshot::Snapshot;
use crate::core::source::ServerSays;
use crate::ntp::client::names::ResolveError;
use crate::ntp::client::standing::Deafness;
use crate::ntp::client::{ClientEvent, ServerState};
use crate::ntp::counters::Board;
use crate::ntp::hardware::CardBoard;
use crate::ntp::passing::Passed;
use crate::ntp::reference_id::reference_id;
use crate::ntp::served::RawMap;
use crate::observe::fed::FedBoard;
use crate::observe::outages::{Missing, Outage, OutageBoard};
use files::Files;
use installation::{Installation, ReadAgain};
use journal::Journal;
pub use reader::Reader;
use roster::{ListenerId, PoolId};

/// What was learned is written so long after the first lock, and then so often.
const FIRST_SAVE: Span = Span::from_whole_seconds(60);
const SAVE_EVERY: Span = Span::from_whole_seconds(3600);

/// Something came.
#[derive(Debug)]
pub enum Input {
    /// From a reference clock's shell, by the source's number.
    Device(SourceId, Delivery),
    /// From a server's shell, by the source's number.
    Server(SourceId, ClientEvent),
    /// From the thermometer beside the crystal, degrees Celsius.
    Temperature(f64),
    /// What the name of a pool leads to.
    Resolved(PoolId, Result<Vec<SocketAddr>, ResolveError>),
    /// What was heard of a broadcaster, by the listener's number; `None`: it is gone.
    Overheard(ListenerId, SocketAddr, Option<ClientEvent>),
    /// What is sent to an address can be heard, or why it cannot; by the listener's number.
    Hears(ListenerId, SocketAddr, Option<Deafness>),
    /// Somebody whom nobody has configured has us for a peer, and has signed that.
    StrangerCame(Passed),
    /// What there is to tell of one; `None`: it is gone.
    Stranger(SocketAddr, Option<ClientEvent>),
    /// Interfaces or their addresses have come or gone.
    Networks,
    /// From the operator.
    Command(Commission),
    /// The configuration was read again, as commissioned.
    Configuration(ReadAgain, Commission),
}

/// Where the shells hand in.
pub type Inbox = mpsc::UnboundedSender<Input>;

/// The daemon's single owner of everything that decides.
pub struct Daemon {
    clock: DisciplinedClock,
    /// From this machine's raw counter to the one the engine lives on.
    raw_map: Arc<ArcSwap<RawMap>>,
    published: Arc<ArcSwap<Snapshot>>,
    journal: Journal,
    drift: Option<(PathBuf, Files)>,
    save_at: Option<Timestamp<Raw>>,
    /// How long this machine has slept since it was started.
    asleep: Span,
    /// What came on the NTP port.
    board: Board,
    /// The network cards that stamp packets.
    cards: CardBoard,
    /// Where nobody is answered.
    outages: OutageBoard,
    /// Who is told what we know.
    fed: FedBoard,
    /// What the configuration has put in place, where there is one.
    installation: Option<Installation>,
}

/// Why the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was told to.
    Told,
    /// The clock is further off than it may be moved, and the configuration has no use for such a clock.
    Panic,
}

impl Daemon {
    /// A daemon around a closed loop.
    pub fn new(
        clock: DisciplinedClock,
        raw_map: Arc<ArcSwap<RawMap>>,
        published: Arc<ArcSwap<Snapshot>>,
        journal: Journal,
    ) -> Self {
        Self {
            clock,
            raw_map,
            published,
            journal,
            drift: None,
            save_at: None,
            asleep: asleep(),
            board: Board::default(),
            cards: CardBoard::default(),
            outages: OutageBoard::default(),
            fed: FedBoard::default(),
            installation: None,
        }
    }

    /// Keeps what is learned in a file.
    pub fn remember_in(&mut self, path: PathBuf, files: Files) {
        self.drift = Some((path, files));
    }

    /// Tells readers what came on the NTP port, what network cards stamp, and where nobody is answered, too.
    pub fn tell_of(&mut self, board: Board, cards: CardBoard, outages: OutageBoard) {
        (self.board, self.cards, self.outages) = (board, cards, outages);
    }

    /// Takes charge of what the configuration puts in place. `install` makes it around the clock.
    pub fn install(&mut self, install: impl FnOnce(&mut DisciplinedClock) -> Installation) {
        let installation = self.installation.insert(install(&mut self.clock));
        installation.feeds.show_on(self.fed.clone());
    }

    /// The snapshot that was published last.
    pub fn published(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.published)
    }

    /// Where the control socket and the live view look.
    pub fn reader(&self) -> Reader {
        Reader {
            published: Arc::clone(&self.published),
            raw_map: Arc::clone(&self.raw_map),
            board: self.board.clone(),
            cards: Arc::clone(&self.cards),
            outages: self.outages.clone(),
            fed: self.fed.clone(),
        }
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The loop.
    pub fn clock(&self) -> &DisciplinedClock {
        &self.clock
    }

    /// The present, on the engine's raw scale.
    pub fn bracket(&self) -> Bracket {
        now_on(&self.raw_map.load())
    }

    /// How long until the engine wants to be asked again.
    pub fn until_timeout(&self) -> std::time::Duration {
        let feeds = self.installation.as_ref().and_then(|installed| installed.feeds.poll_timeout());
        let next = feeds.map_or(self.clock.poll_timeout(), |at| at.min(self.clock.poll_timeout()));
        (next - self.bracket().raw_after).to_duration()
    }

    /// Takes one input, and everything that follows from it but the publication.
    pub fn handle(&mut self, input: Input) {
        let now = self.wake_up();
        match input {
            Input::Device(source, delivery) => {
                let report = self.on_our_scale(delivery.report);
                self.clock.handle_report(source, &report, &delivery.health, &now);
                if let Some(Installation { feeds, roster, .. }) = &mut self.installation
                    && feeds.follow_sources()
                    && let Some((name, offset)) = roster.name_of(source)
                {
                    feeds.handle_report(&name, offset, &report, &self.published.load(), &now);
                }
            }
            Input::Server(source, event) => self.handle_server(source, event, &now),
            Input::Temperature(celsius) => self.clock.handle_temperature(celsius, now.raw_after),
            Input::Resolved(pool, answer) => {
                if let Some(Installation { roster, .. }) = &mut self.installation {
                    roster.handle_resolved(pool, answer, &mut self.clock, now.raw_after);
                }
            }
            Input::Overheard(listener, from, event) => {
                let roster = self.installation.as_mut().map(|installed| &mut installed.roster);
                let heard = roster.and_then(|r| r.handle_overheard(listener, from, event, &mut self.clock));
                if let Some((source, event)) = heard {
                    self.handle_server(source, event, &now);
                }
            }
            Input::Hears(listener, place, deafness) => {
                self.note_hearing(place, deafness.as_ref());
                if let Some(Installation { roster, .. }) = &mut self.installation {
                    roster.handle_hears(listener, place, deafness, &mut self.clock);
                }
            }
            Input::StrangerCame(first) => {
                if let Some(Installation { roster, .. }) = &mut self.installation {
                    roster.handle_stranger_came(first);
                }
            }
            Input::Stranger(from, event) => {
                let roster = self.installation.as_mut().map(|installed| &mut installed.roster);
                if let Some((source, event)) = roster.and_then(|r| r.handle_stranger(from, event, &mut self.clock)) {
                    self.handle_server(source, event, &now);
                }
            }
            Input::Networks => {
                if let Some(Installation { serving, .. }) = &mut self.installation {
                    serving.handle_networks();
                }
            }
            Input::Command(commission) => self.carry_out(commission, &now),
            Input::Configuration(read, commission) => {
                if let Some(installation) = &mut self.installation {
                    let answer = installation.take_over(read, &mut self.clock);
                    self.answer(commission, answer);
                }
            }
        }
        self.settle(&now);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self) {
        let now = self.wake_up();
        self.clock.handle_timeout(&now);
        self.settle(&now);
    }

    /// Publishes what readers may know from now on.
    pub fn publish(&mut self) -> Timestamp<Raw> {
        let now = self.bracket().raw_after;
        let snapshot = Arc::new(Snapshot { asleep: self.asleep, ..self.clock.snapshot(now) });
        if let Some(Installation { serving, .. }) = &mut self.installation {
            serving.handle_leap(&snapshot.utc, snapshot.clock.at(now));
        }
        self.clock.note_decision(&snapshot);
        self.clock.announce(&snapshot);
        self.published.store(snapshot);
        now
    }

    /// Runs until told to stop, or until there is no use in going on.
    pub async fn run(&mut self, inputs: &mut mpsc::UnboundedReceiver<Input>, stop: impl Future<Output = ()>) -> Ending {
        let mut stop = std::pin::pin!(stop);
        self.publish();
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return Ending::Told,
                Some(input) = inputs.recv() => {
                    self.handle(input);
                    while let Ok(more) = inputs.try_recv() {
                        self.handle(more);
                    }
                }
                () = tokio::time::sleep(self.until_timeout()) => self.handle_timeout(),
            }
            let now = self.publish();
            self.save_when_due(now);
            if self.clock.panic().is_some() && self.installation.as_ref().is_some_and(Installation::panic_exit) {
                return Ending::Panic;
            }
        }
    }

    /// Writes what was learned and waits for it.
    pub fn finish(mut self) {
        self.clock.leave();
        let now = self.bracket().raw_after;
        if let Some((path, mut files)) = self.drift.take() {
            files.write(&path, self.clock.memory(now).to_text());
            files.finish();
        }
        if let Some(installation) = self.installation.take() {
            installation.stop();
        }
    }

    /// The present. If the machine slept, that is dealt with first.
    fn wake_up(&mut self) -> Bracket {
        let now = self.bracket();
        let before = std::mem::replace(&mut self.asleep, asleep());
        let slept = self.asleep - before;
        if slept > SHORTEST_SLEEP {
            self.clock.handle_sleep(slept, now.raw_after);
        }
        now
    }

    /// Tells readers and the log where broadcasts cannot be heard, and why.
    fn note_hearing(&self, place: SocketAddr, deafness: Option<&Deafness>) {
        match deafness {
            Some(Deafness { reason, action, .. }) => {
                warn!("broadcasts to {place} are not heard: {reason}. {}", action.as_deref().unwrap_or_default());
                let outage = Outage { missing: Missing::Broadcasts, reason: reason.clone(), action: action.clone() };
                self.outages.note(&place.to_string(), outage);
            }
            None => {
                if self.outages.clear(&place.to_string()) {
                    info!("broadcasts to {place} can be heard now");
                }
            }
        }
    }

    fn handle_server(&mut self, source: SourceId, event: ClientEvent, now: &Bracket) {
        if let Some(Installation { roster, .. }) = &mut self.installation {
            roster.handle_server(source, &event);
        }
        match event {
            ClientEvent::Polled { reach, poll, .. } => self.clock.handle_reach(source, reach, poll),
            ClientEvent::Measurement { measurement: m, address, local, .. } => {
                let snapshot = self.published.load();
                let (measurement, says) = m.hand_over(self.raw_map.load().apply(m.at), &snapshot.utc);
                let says = ServerSays {
                    id: reference_id(address.ip()),
                    our_id: local.map(reference_id).unwrap_or_default(),
                    ..says
                };
                self.clock.handle_exchange(source, measurement, says, now.raw_after);
            }
            ClientEvent::State { state, .. } => {
                self.clock.handle_offline(source, state == ServerState::Offline, now.raw_after);
                self.clock.handle_server_state(source, state.to_string(), state.action())
            }
            ClientEvent::Rejected { .. } => {}
        }
    }

    /// Moves our own raw stamps to the engine's scale; the kernel's go through the time base there.
    fn on_our_scale(&self, report: Report) -> Report {
        let map = self.raw_map.load();
        let local = |stamp| match stamp {
            LocalStamp::Raw(raw) => LocalStamp::Raw(map.apply(raw)),
            realtime @ LocalStamp::Realtime(_) => realtime,
        };
        match report {
            Report::Sample(mut sample) => {
                sample.local = local(sample.local);
                Report::Sample(sample)
            }
            Report::Pulse(mut pulse) => {
                pulse.local = local(pulse.local);
                Report::Pulse(pulse)
            }
            Report::State(mut state) => {
                state.since = map.apply(state.since);
                Report::State(state)
            }
            Report::Sawtooth(mut sawtooth) => {
                sawtooth.local = local(sawtooth.local);
                Report::Sawtooth(sawtooth)
            }
            other @ (Report::Receiver(_) | Report::Remark(_)) => other,
        }
    }

    /// What follows from whatever came: what the engine wants of the sources, what it has to tell, and
    /// what is due besides. A clock that is fed each second has no timeouts.
    fn settle(&mut self, now: &Bracket) {
        if let Some(Installation { roster, serving, .. }) = &mut self.installation {
            roster.handle_wake_up(&mut self.clock, now.raw_after);
            serving.handle_sources(|| roster.addresses());
        }
        if let Some(Installation { feeds, .. }) = &mut self.installation {
            feeds.handle_wake_up(&self.published.load(), now);
        }
        while let Some((source, exponent)) = self.clock.poll_wanted_poll() {
            if let Some(Installation { roster, .. }) = &mut self.installation {
                roster.handle_wanted_poll(source, exponent);
            }
        }
        self.tell(now);
    }

    fn tell(&mut self, now: &Bracket) {
        let utc: Timestamp<Utc> = self.published.load().utc.utc(self.clock.now(now.raw_after).clock).0;
        while let Some(event) = self.clock.poll_event() {
            self.journal.note(utc, &event);
        }
    }

    fn save_when_due(&mut self, now: Timestamp<Raw>) {
        let Some((path, files)) = &mut self.drift else { return };
        match self.save_at {
            None if self.published.load().system.stratum < 16 => self.save_at = Some(now + FIRST_SAVE),
            Some(at) if now >= at => {
                files.write(path, self.clock.memory(now).to_text());
                self.save_at = Some(now + SAVE_EVERY);
            }
            _ => {}
        }
    }
}

/// The present, on the engine's raw scale.
fn now_on(map: &RawMap) -> Bracket {
    let now = bracket();
    Bracket { raw_before: map.apply(now.raw_before), raw_after: map.apply(now.raw_after), ..now }
}
