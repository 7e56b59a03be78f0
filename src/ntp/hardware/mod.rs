//! Stamps that network cards take of what leaves and comes, by clocks of their own.
//!
//! | module | what it is |
//! |---|---|
//! | [`plan`] | whether a card can be used, and what it is to stamp |
//! | [`line`](mod@line) | how its clock runs beside our raw counter |
//! | [`keeper`] | the thread that asks, sets and reads the cards |
//!
//! What the keeper finds is published as [`Cards`], which all who hold stamps read. A stamp is believed only beside the
//! kernel's of the same packet; where there is none that can be right, the kernel's stands.

pub mod keeper;
pub mod line;
pub mod plan;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use refclocks::time::{Raw, Span, Timestamp};

use crate::sys::departure::HardwareStamp;
use line::{Line, Placed};
use plan::Lacks;

/// The kernel looks at what came, and is told of what left, so long afterwards at most.
const LATEST: Span = Span::from_millis(5);

/// How well the kernel's stamp is placed beside the card's, s.
const ROUGH: f64 = 10e-6;

/// Octets of a frame's check sequence, which comes after what its length tells.
const CHECK_LEN: u32 = 4;

/// By how much arrivals may be stamped too early where nobody says how long their frames took: an NTP frame at
/// 100 Mbit/s, s.
const UNKNOWN_LENGTH: f64 = 8e-6;

/// `[[hwtimestamp]]`: which cards, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// The name of an interface; `*` in it stands for any characters.
    pub interface: String,
    /// Which frames that come are stamped.
    pub filter: plan::Filter,
    /// log2 of the time between readings of the card's clock, s.
    pub minpoll: i8,
    /// The least that a reading is uncertain by, s.
    pub precision: f64,
    /// Added to stamps of what leaves, s: the wire sees it so much later than the card says.
    pub txcomp: f64,
    /// Taken off stamps of what comes, s: the wire saw it so much earlier than the card says.
    pub rxcomp: f64,
}

impl Wish {
    /// The usual settings.
    pub fn new(interface: impl Into<String>) -> Self {
        let interface = interface.into();
        Self { interface, filter: plan::Filter::Auto, minpoll: 0, precision: 100e-9, txcomp: 0.0, rxcomp: 0.0 }
    }

    /// Is that interface meant?
    pub fn names(&self, interface: &str) -> bool {
        matches(self.interface.as_bytes(), interface.as_bytes())
    }
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => matches(rest, name) || name.split_first().is_some_and(|(_, n)| matches(pattern, n)),
        (Some((p, pattern)), Some((n, name))) => p == n && matches(pattern, name),
        _ => false,
    }
}

/// How a card stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CardState {
    /// Its clock is followed, and its stamps are used.
    Stamping,
    /// Its clock is being compared with ours.
    Comparing,
    /// It cannot do it.
    Unable(Lacks),
    /// The system says why not.
    Refused(String),
}

impl fmt::Display for CardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stamping => f.write_str("stamps packets"),
            Self::Comparing => f.write_str("its clock is being compared with ours"),
            Self::Unable(lacks) => write!(f, "the kernel's stamps are used: {lacks}"),
            Self::Refused(error) => write!(f, "the kernel's stamps are used: {error}"),
        }
    }
}

/// A network card.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// The number of its interface.
    pub index: u32,
    /// The name of its interface.
    pub name: String,
    /// How it stands.
    pub state: CardState,
    /// The number of its clock.
    pub clock: Option<u32>,
    /// How its clock runs beside our raw counter, while it stamps.
    pub line: Option<Line>,
    /// Of its link, Mbit/s.
    pub speed: Option<u32>,
    /// As of [`Wish`], s.
    pub txcomp: f64,
    /// As of [`Wish`], s.
    pub rxcomp: f64,
}

impl Card {
    /// When that left, if the stamp can be of what the kernel stamped at `kernel`: a card stamps after the kernel.
    fn departure(&self, stamp: &HardwareStamp, kernel: Timestamp<Raw>) -> Option<Placed> {
        let mut placed = self.line?.place(stamp.at)?;
        placed.raw += Span::from_seconds(self.txcomp);
        let tolerated = Span::from_seconds(placed.error + ROUGH);
        (placed.raw > kernel - tolerated && placed.raw < kernel + LATEST).then_some(placed)
    }

    /// When that had come, whole: the kernel stamps after that.
    ///
    /// Cards stamp where a frame begins. NTP's way there and back is the same, through links of any speed and whoever
    /// takes whole frames before sending them on, if departures count from where a frame begins and arrivals from
    /// where it ends; and that is where stamps of software lie, the other end's perhaps.
    fn arrival(&self, stamp: &HardwareStamp, kernel: Timestamp<Raw>) -> Option<Placed> {
        let mut placed = self.line?.place(stamp.at)?;
        match (stamp.length, self.speed) {
            (Some(length), Some(speed @ 1..)) => {
                let bits = f64::from(length.saturating_add(CHECK_LEN)) * 8.0;
                placed.raw += Span::from_seconds(bits / (f64::from(speed) * 1e6));
            }
            _ => placed.error += UNKNOWN_LENGTH,
        }
        placed.raw = placed.raw - Span::from_seconds(self.rxcomp);
        let tolerated = Span::from_seconds(placed.error + ROUGH);
        (placed.raw < kernel + tolerated && placed.raw > kernel - LATEST).then_some(placed)
    }
}

/// The network cards, as they were found last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cards {
    /// Are cards to stamp at all?
    pub wanted: bool,
    /// Those that are meant.
    pub cards: Vec<Card>,
}

/// Of what a card stamps nothing is believed alone.
impl Cards {
    /// When a card says that something left which the kernel stamped at `kernel`. `None` if it cannot be right: the
    /// card's clock is not known, or was set, or the stamp is of another packet.
    pub fn departure(&self, stamp: &HardwareStamp, kernel: Timestamp<Raw>) -> Option<Placed> {
        self.of(stamp)?.departure(stamp, kernel)
    }

    /// The same of something that came.
    pub fn arrival(&self, stamp: &HardwareStamp, kernel: Timestamp<Raw>) -> Option<Placed> {
        self.of(stamp)?.arrival(stamp, kernel)
    }

    fn of(&self, stamp: &HardwareStamp) -> Option<&Card> {
        self.cards.iter().find(|card| card.index == stamp.interface)
    }

    /// Does any card stamp now?
    pub fn any(&self) -> bool {
        self.cards.iter().any(|card| card.line.is_some())
    }
}

/// Where they are published.
pub type CardBoard = Arc<ArcSwap<Cards>>;

#[cfg(test)]
mod tests {
    use super::*;
    use refclocks::phc::Crossing;
    use refclocks::time::Tai;

    fn raw(nanos: i64) -> Timestamp<Raw> {
        Timestamp::from_parts(100, 0) + Span::from_nanos(nanos)
    }

    fn device(nanos: i64) -> Timestamp<Tai> {
        Timestamp::from_parts(7_000, 0) + Span::from_nanos(nanos)
    }

    fn cards() -> Cards {
        let mut follower = line::Follower::new(100e-9, Span::from_whole_seconds(1));
        for at in [-2_000_000_000, -1_000_000_000, 0] {
            let half_width = Span::from_nanos(200);
            follower.handle_reading(Crossing { raw: raw(at), device: device(at), half_width });
        }
        let card = Card {
            index: 3,
            name: "eth0".into(),
            state: CardState::Stamping,
            clock: Some(0),
            line: follower.line(),
            speed: Some(100),
            txcomp: 1e-6,
            rxcomp: 2e-6,
        };
        Cards { wanted: true, cards: vec![card] }
    }

    fn stamp(nanos: i64, length: Option<u32>) -> HardwareStamp {
        HardwareStamp { at: device(nanos), interface: 3, length }
    }

    fn is_near(placed: Option<Placed>, nanos: i64) -> bool {
        placed.is_some_and(|placed| (placed.raw - raw(nanos)).abs() < Span::from_nanos(2))
    }

    #[test]
    fn departures_count_from_where_a_frame_begins_and_arrivals_from_where_it_ends() {
        let cards = cards();
        assert!(is_near(cards.departure(&stamp(10_000, None), raw(5_000)), 11_000));
        // 94 octets at 100 Mbit/s take 7.52 us.
        let came = cards.arrival(&stamp(10_000, Some(90)), raw(40_000));
        assert!(is_near(came, 15_520), "{came:?}");
        let rough = cards.arrival(&stamp(10_000, None), raw(40_000));
        assert!(is_near(rough, 8_000) && rough.unwrap().error > came.unwrap().error + 7e-6);
    }

    #[test]
    fn what_cannot_be_of_that_packet_is_not_believed() {
        let cards = cards();
        // Before the kernel had it, or long after; a card that is not known.
        assert_eq!(cards.departure(&stamp(10_000, None), raw(100_000)), None);
        assert_eq!(cards.departure(&stamp(60_000_000, None), raw(0)), None);
        assert_eq!(cards.arrival(&stamp(100_000, Some(90)), raw(0)), None);
        assert_eq!(cards.arrival(&stamp(0, Some(90)), raw(60_000_000)), None);
        assert_eq!(cards.departure(&HardwareStamp { interface: 4, ..stamp(10_000, None) }, raw(5_000)), None);
        // Of a clock that was set an hour ahead.
        assert_eq!(cards.arrival(&stamp(3_600_000_000_000, Some(90)), raw(10_000)), None);
    }

    #[test]
    fn names_and_patterns_are_matched() {
        for (pattern, name, is) in [
            ("*", "eth0", true),
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("en*s0", "enp3s0", true),
            ("en*s0", "enp3s1", false),
            ("e*", "wlan0", false),
        ] {
            assert_eq!(Wish::new(pattern).names(name), is, "{pattern} {name}");
        }
    }
}
