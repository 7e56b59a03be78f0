//! The thread that asks, sets and reads the network cards: reading the clock of some, behind a slow bus, takes
//! milliseconds.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use nix::net::if_::if_nameindex;
use refclocks::sys::card;
use refclocks::sys::clock::raw_now;
use refclocks::sys::phc::PhcDevice;
use refclocks::time::{Raw, Span, Timestamp};
use tracing::{info, warn};

use super::line::{Followed, Follower};
use super::{Card, CardBoard, CardState, Cards, Wish, plan};

/// How often it is looked which interfaces there are, and whether their cards still stamp.
const LOOK_EVERY: Span = Span::from_whole_seconds(2);

/// The shortest sleep.
const SHORTEST: Span = Span::from_millis(10);

/// Tends the cards. Dropping it ends the thread.
#[derive(Debug)]
pub struct Keeper(Sender<Vec<Wish>>);

impl Keeper {
    /// Starts the thread, which publishes what it finds.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn start(wishes: Vec<Wish>, board: CardBoard) -> io::Result<Self> {
        let (sender, wanted) = channel();
        let keep = move || {
            keep(wishes, &wanted, &board);
            board.store(Arc::default());
        };
        std::thread::Builder::new().name("cards".into()).stack_size(128 << 10).spawn(keep)?;
        Ok(Self(sender))
    }

    /// These cards are meant from now on.
    pub fn follow(&self, wishes: Vec<Wish>) {
        // A thread that is gone has said why.
        let _ = self.0.send(wishes);
    }
}

fn keep(wishes: Vec<Wish>, wanted: &Receiver<Vec<Wish>>, board: &CardBoard) {
    let mut tended = Tended { wishes, ..Tended::default() };
    let mut look_at = raw_now();
    loop {
        let now = raw_now();
        if now >= look_at {
            tended.look();
            look_at = now + LOOK_EVERY;
        }
        tended.read(now);
        board.store(Arc::new(tended.cards()));
        let next = tended.cards.iter().filter_map(TendedCard::next).min().map_or(look_at, |at| at.min(look_at));
        let patience: Duration = (next - raw_now()).max(SHORTEST).to_duration();
        match wanted.recv_timeout(patience) {
            Ok(wishes) => {
                // What stays begins anew as well: its settings may be others.
                tended = Tended { wishes, ..Tended::default() };
                look_at = raw_now();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[derive(Default)]
struct Tended {
    wishes: Vec<Wish>,
    cards: Vec<TendedCard>,
    /// Interfaces that are named and not there, as told.
    missing: Vec<String>,
}

struct TendedCard {
    card: Card,
    wish: Wish,
    follower: Follower,
    device: Option<PhcDevice>,
    read_at: Timestamp<Raw>,
    /// The state as told last.
    told: Option<CardState>,
}

impl Tended {
    fn cards(&self) -> Cards {
        Cards { wanted: true, cards: self.cards.iter().map(|tended| tended.card.clone()).collect() }
    }

    /// Which interfaces are there, and does each card still do what it is to do?
    fn look(&mut self) {
        let there: Vec<(u32, String)> = match if_nameindex() {
            Ok(all) => all
                .iter()
                .map(|interface| (interface.index(), interface.name().to_string_lossy().into_owned()))
                .collect(),
            Err(error) => {
                warn!("the network interfaces cannot be listed: {error}");
                return;
            }
        };
        self.cards.retain(|tended| {
            let stays = there.iter().any(|(index, name)| (*index, name) == (tended.card.index, &tended.card.name));
            if !stays {
                info!("interface {} is gone", tended.card.name);
            }
            stays
        });
        for (index, name) in &there {
            let wish = self.wishes.iter().find(|wish| wish.names(name));
            // Loopback has no wire; who names it all the same is told so.
            let Some(wish) = wish.filter(|wish| name != "lo" || wish.interface == "lo") else { continue };
            if !self.cards.iter().any(|tended| tended.card.index == *index) {
                self.cards.push(TendedCard::new(*index, name, wish));
            }
        }
        for wish in self.wishes.iter().filter(|wish| !wish.interface.contains('*')) {
            let is_there = there.iter().any(|(_, name)| wish.names(name));
            let told = self.missing.contains(&wish.interface);
            if !is_there && !told {
                warn!(
                    "[[hwtimestamp]] {}: there is no such interface now. It is used when it comes; see `ip link`.",
                    wish.interface
                );
                self.missing.push(wish.interface.clone());
            } else if is_there {
                self.missing.retain(|name| *name != wish.interface);
            }
        }
        for tended in &mut self.cards {
            tended.look();
        }
    }

    fn read(&mut self, now: Timestamp<Raw>) {
        for tended in self.cards.iter_mut().filter(|tended| now >= tended.read_at) {
            tended.read_at = now + tended.interval();
            tended.read();
        }
    }
}

impl TendedCard {
    fn new(index: u32, name: &str, wish: &Wish) -> Self {
        let card = Card {
            index,
            name: name.to_owned(),
            state: CardState::Comparing,
            clock: None,
            line: None,
            speed: None,
            txcomp: wish.txcomp,
            rxcomp: wish.rxcomp,
        };
        let follower = Follower::new(wish.precision, interval(wish));
        Self { card, wish: wish.clone(), follower, device: None, read_at: raw_now(), told: None }
    }

    fn interval(&self) -> Span {
        interval(&self.wish)
    }

    /// When its clock is to be read again.
    fn next(&self) -> Option<Timestamp<Raw>> {
        self.device.is_some().then_some(self.read_at)
    }

    /// Has it stamp, unless it does.
    fn look(&mut self) {
        match self.set_up() {
            Ok(()) if self.card.line.is_some() => self.become_state(CardState::Stamping),
            Ok(()) => self.become_state(CardState::Comparing),
            Err(state) => self.give_up(state),
        }
    }

    fn set_up(&mut self) -> Result<(), CardState> {
        let name = self.card.name.as_str();
        let refused = |what: &str, error: io::Error| CardState::Refused(format!("{what}: {error}"));
        let abilities = match card::abilities(name) {
            // A driver that cannot even be asked.
            Err(error) if is_unknown(&error) => return Err(CardState::Unable(plan::Lacks::Clock)),
            asked => asked.map_err(|error| refused("its card cannot be asked what it can do", error))?,
        };
        let clock = plan::clock_of(&abilities).map_err(CardState::Unable)?;
        if self.card.clock != Some(clock) {
            (self.card.clock, self.device) = (Some(clock), None);
        }
        let now = card::stamping(name).ok();
        if let Some(wanted) = plan::wanted(&abilities, now, self.wish.filter).map_err(CardState::Unable)? {
            // A driver that does not tell what it does is told once.
            if now.is_some() || self.device.is_none() {
                let set = card::set_stamping(name, wanted).map_err(|error| match error.raw_os_error() {
                    Some(libc::EPERM) => CardState::Refused(
                        "this process may not set its card: it was started without CAP_NET_ADMIN, or before the \
                         configuration asked for hardware stamps. Restart it"
                            .into(),
                    ),
                    _ => refused("its card cannot be set to stamp", error),
                })?;
                if !plan::covers_ntp(set.receive) {
                    return Err(CardState::Unable(plan::Lacks::Arrivals));
                }
            }
        }
        self.card.speed = card::link_speed(name).ok().flatten();
        if self.device.is_none() {
            let path = format!("/dev/ptp{clock}");
            let device = PhcDevice::open(&path).map_err(|error| {
                CardState::Refused(format!(
                    "its clock {path} cannot be read: {error}. Give its group to the daemon's user, as our udev rules do"
                ))
            })?;
            self.follower.forget();
            self.device = Some(device);
            self.read_at = raw_now();
        }
        Ok(())
    }

    /// Compares its clock with ours.
    fn read(&mut self) {
        let Some(device) = &self.device else { return };
        let crossing = match device.cross() {
            Ok(Some(crossing)) => crossing,
            // The system clock was set meanwhile; there will be a next time.
            Ok(None) => return,
            Err(error) => {
                self.device = None;
                return self.give_up(CardState::Refused(format!("its clock cannot be read: {error}")));
            }
        };
        match self.follower.handle_reading(crossing) {
            Followed::Set(by) => warn!(
                "interface {}: somebody set its card's clock by {:+.6} s; the kernel's stamps are used until it is \
                 compared with ours again",
                self.card.name,
                by.seconds()
            ),
            Followed::On | Followed::Astray => {}
        }
        self.card.line = self.follower.line();
        self.become_state(if self.card.line.is_some() { CardState::Stamping } else { CardState::Comparing });
    }

    fn give_up(&mut self, state: CardState) {
        self.card.line = None;
        self.follower.forget();
        self.become_state(state);
    }

    fn become_state(&mut self, state: CardState) {
        self.card.state = state;
        // Being compared is what every card begins with, and each that was set.
        if self.card.state == CardState::Comparing || self.told.as_ref() == Some(&self.card.state) {
            return;
        }
        let Card { name, state, .. } = &self.card;
        match state {
            CardState::Stamping => info!("interface {name} {state} by its own clock"),
            // Nobody expects it of every interface.
            CardState::Unable(_) if self.wish.interface.contains('*') => info!("interface {name}: {state}"),
            state => warn!("interface {name}: {state}."),
        }
        self.told = Some(state.clone());
    }
}

fn interval(wish: &Wish) -> Span {
    Span::from_seconds(libm::exp2(f64::from(wish.minpoll)))
}

fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_refused_with_the_reason_and_what_is_not_there_is_awaited() {
        let wishes = vec![Wish::new("lo"), Wish::new("nosuchcard0")];
        let mut tended = Tended { wishes, ..Tended::default() };
        tended.look();
        tended.look();
        let cards = tended.cards();
        assert_eq!(cards.cards.len(), 1);
        let [lo] = &cards.cards[..] else { unreachable!() };
        assert_eq!((lo.name.as_str(), &lo.state), ("lo", &CardState::Unable(plan::Lacks::Clock)));
        assert!(lo.state.to_string().contains("the kernel's stamps are used: its card has no hardware clock"));
        assert!(!cards.any());
        assert_eq!(tended.missing, ["nosuchcard0"]);
    }

    #[test]
    fn all_interfaces_are_not_loopback() {
        let mut tended = Tended { wishes: vec![Wish::new("*")], ..Tended::default() };
        tended.look();
        assert!(tended.cards.iter().all(|tended| tended.card.name != "lo"));
    }

    #[test]
    fn the_thread_publishes_and_ends_with_its_owner() {
        let board = CardBoard::default();
        let keeper = Keeper::start(vec![Wish::new("lo")], Arc::clone(&board)).unwrap();
        let until = |is: &dyn Fn(&Cards) -> bool| {
            (0..500).any(|_| {
                is(&board.load()) || {
                    std::thread::sleep(Duration::from_millis(10));
                    false
                }
            })
        };
        assert!(until(&|cards| cards.cards.len() == 1));
        keeper.follow(Vec::new());
        assert!(until(&|cards| cards.wanted && cards.cards.is_empty()));
        drop(keeper);
        assert!(until(&|cards| !cards.wanted));
    }
}
