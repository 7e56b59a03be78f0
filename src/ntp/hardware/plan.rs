//! Whether a network card can be used, and what it is to stamp. Pure.

use std::fmt;

use refclocks::sys::card::{Abilities, Stamping};

/// `SOF_TIMESTAMPING_TX_HARDWARE`, `_RX_HARDWARE` and `_RAW_HARDWARE`.
const NEEDED: u32 = 1 | 4 | 64;

/// Which frames that come are to be stamped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// NTP's alone where the card can tell them, else all.
    #[default]
    Auto,
    /// All.
    All,
    /// NTP's.
    Ntp,
}

/// Why a card's stamps cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// It has no hardware clock.
    Clock,
    /// It does not stamp what is sent.
    Departures,
    /// It can stamp no NTP that comes, or not as configured.
    Arrivals,
    /// Another program has it stamp other frames, and it can do but one of the two.
    Occupied,
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clock => "its card has no hardware clock",
            Self::Departures => "its card does not stamp what is sent",
            Self::Arrivals => "its card cannot stamp NTP that comes",
            Self::Occupied => "another program, such as ptp4l, has its card stamp other packets than NTP's",
        })
    }
}

/// The number of the card's clock, if it has all that is needed.
///
/// # Errors
///
/// What it lacks.
pub fn clock_of(card: &Abilities) -> Result<u32, Lacks> {
    let clock = card.clock.ok_or(Lacks::Clock)?;
    if card.stamps & NEEDED & !4 != NEEDED & !4 || card.transmit & (1 << Stamping::LEAVES_ON) == 0 {
        return Err(Lacks::Departures);
    }
    if card.stamps & NEEDED != NEEDED || choices(Filter::Auto).iter().all(|filter| !can(card, *filter)) {
        return Err(Lacks::Arrivals);
    }
    Ok(clock)
}

/// What it is to be told to stamp; `None` if what it stamps already will do. Whatever another program has it stamp
/// goes on to be stamped.
///
/// # Errors
///
/// What it lacks for that.
pub fn wanted(card: &Abilities, now: Option<Stamping>, filter: Filter) -> Result<Option<Stamping>, Lacks> {
    let chosen = |choices: &[i32]| choices.iter().copied().find(|filter| can(card, *filter));
    let receive = match now.map(|now| now.receive) {
        Some(filter) if covers_ntp(filter) => filter,
        Some(Stamping::COMES_NOTHING) => chosen(choices(filter)).ok_or(Lacks::Arrivals)?,
        // Others are served by all alone; and a driver that does not tell may be serving them.
        Some(_) if filter == Filter::Ntp => return Err(Lacks::Occupied),
        Some(_) => chosen(&[Stamping::COMES_ALL]).ok_or(Lacks::Occupied)?,
        None if filter == Filter::Auto => chosen(&[Stamping::COMES_ALL, Stamping::COMES_NTP]).ok_or(Lacks::Arrivals)?,
        None => chosen(choices(filter)).ok_or(Lacks::Arrivals)?,
    };
    // One-step modes stamp what leaves as well.
    let transmit = now.map(|now| now.transmit).filter(|mode| *mode > Stamping::LEAVES_NOTHING);
    let wanted = Stamping::new(transmit.unwrap_or(Stamping::LEAVES_ON), receive);
    Ok((now != Some(wanted)).then_some(wanted))
}

/// Is all NTP that comes stamped by that filter?
pub fn covers_ntp(filter: i32) -> bool {
    matches!(filter, Stamping::COMES_ALL | Stamping::COMES_NTP)
}

fn choices(filter: Filter) -> &'static [i32] {
    match filter {
        Filter::Auto => &[Stamping::COMES_NTP, Stamping::COMES_ALL],
        Filter::All => &[Stamping::COMES_ALL],
        Filter::Ntp => &[Stamping::COMES_NTP],
    }
}

fn can(card: &Abilities, filter: i32) -> bool {
    card.receive & (1 << filter) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTP_EVENTS: i32 = 12;

    fn card(filters: &[i32]) -> Abilities {
        let receive = filters.iter().fold(1, |bits, filter| bits | 1 << filter);
        Abilities { stamps: NEEDED | 0x1a, clock: Some(0), transmit: 3, receive }
    }

    fn stamps(transmit: i32, receive: i32) -> Option<Stamping> {
        Some(Stamping::new(transmit, receive))
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(clock_of(&card(&[1])), Ok(0));
        assert_eq!(clock_of(&Abilities { clock: None, ..card(&[1]) }), Err(Lacks::Clock));
        assert_eq!(clock_of(&Abilities { transmit: 1, ..card(&[1]) }), Err(Lacks::Departures));
        assert_eq!(clock_of(&Abilities { stamps: 0x1a, ..card(&[1]) }), Err(Lacks::Departures));
        assert_eq!(clock_of(&Abilities { stamps: 1 | 64, ..card(&[1]) }), Err(Lacks::Arrivals));
        // A Raspberry Pi CM4's.
        assert_eq!(clock_of(&card(&[PTP_EVENTS])), Err(Lacks::Arrivals));
        assert_eq!(clock_of(&Abilities::default()), Err(Lacks::Clock), "loopback's");
    }

    #[test]
    fn the_narrowest_filter_that_serves_is_asked_for() {
        assert_eq!(wanted(&card(&[1, 15]), stamps(0, 0), Filter::Auto), Ok(stamps(1, 15)));
        assert_eq!(wanted(&card(&[1]), stamps(0, 0), Filter::Auto), Ok(stamps(1, 1)));
        assert_eq!(wanted(&card(&[1, 15]), stamps(0, 0), Filter::All), Ok(stamps(1, 1)));
        assert_eq!(wanted(&card(&[1]), stamps(0, 0), Filter::Ntp), Err(Lacks::Arrivals));
    }

    #[test]
    fn what_others_have_stamped_goes_on_to_be() {
        // It will do as it is.
        assert_eq!(wanted(&card(&[1, 15]), stamps(1, 1), Filter::Ntp), Ok(None));
        assert_eq!(wanted(&card(&[1, 15]), stamps(2, 15), Filter::Auto), Ok(None));
        // ptp4l's are among all.
        assert_eq!(wanted(&card(&[1, 15, PTP_EVENTS]), stamps(1, PTP_EVENTS), Filter::Auto), Ok(stamps(1, 1)));
        assert_eq!(wanted(&card(&[15, PTP_EVENTS]), stamps(1, PTP_EVENTS), Filter::Auto), Err(Lacks::Occupied));
        assert_eq!(wanted(&card(&[1, 15]), stamps(1, PTP_EVENTS), Filter::Ntp), Err(Lacks::Occupied));
        // Its driver does not tell: all narrows nobody's.
        assert_eq!(wanted(&card(&[1, 15]), None, Filter::Auto), Ok(stamps(1, 1)));
    }
}
