//! A receiver's day against what others say: a receiver that has lost count of its weeks is right about the
//! time of day, and wrong by whole days.

use refclocks::time::{Span, Timestamp, Utc};

const DAY: Span = Span::from_whole_seconds(86_400);
/// Servers that are no further apart say the same time.
const SAME: Span = Span::from_whole_seconds(1);
/// A receiver that is off by whole days to within this is right about the time of day: as late as its messages
/// may be.
const WHOLE: Span = Span::from_whole_seconds(1);
/// The system clock knows the day if it is no further off.
const SAME_DAY: Span = Span::from_whole_seconds(43_200);

/// What each says that it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Voices<'a> {
    /// Servers.
    pub servers: Vec<(&'a str, Timestamp<Utc>)>,
    /// The system clock, as long as it is not ours.
    pub system: Option<Timestamp<Utc>>,
    /// All receivers.
    pub receivers: Vec<Timestamp<Utc>>,
}

/// What a receiver's date lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// To be added to its dates.
    pub days: i64,
    /// Who agrees on that.
    pub by: Vec<String>,
}

impl Voices<'_> {
    /// What to add to the dates of a receiver that says this. `None` where that is nothing, where it is not a
    /// number of whole days, or where it is not settled: a majority of the servers has to agree, two voices at
    /// least, and more than there are receivers that say something else.
    pub fn repair(&self, says: Timestamp<Utc>) -> Option<Repair> {
        let near = |at: Timestamp<Utc>| self.servers.iter().filter(move |(_, other)| (*other - at).abs() < SAME);
        let (_, now) = *self.servers.iter().max_by_key(|(_, at)| near(*at).count())?;
        let mut by: Vec<String> = near(now).map(|(name, _)| (*name).to_owned()).collect();
        let majority = 2 * by.len() > self.servers.len();
        if self.system.is_some_and(|system| (system - now).abs() < SAME_DAY) {
            by.push("the system clock".into());
        }
        let days = ((now - says).seconds() / DAY.seconds()).round() as i64;
        let rest = (now - says) - Span::from_whole_seconds(days.saturating_mul(86_400));
        let against = self.receivers.iter().filter(|at| (**at - now).abs() > SAME_DAY).count();
        let settled = majority && by.len() >= 2 && by.len() > against;
        (settled && days != 0 && rest.abs() < WHOLE).then_some(Repair { days, by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp<Utc> = Timestamp::from_parts(1_795_651_200, 300_000_000);

    fn off(seconds: f64) -> Timestamp<Utc> {
        NOW + Span::from_seconds(seconds)
    }

    fn days(k: i64) -> Timestamp<Utc> {
        NOW + Span::from_whole_seconds(k * 86_400)
    }

    /// What is added to the receiver's date, if that is settled.
    fn added(servers: &[Timestamp<Utc>], system: Option<Timestamp<Utc>>, receivers: &[Timestamp<Utc>]) -> Option<i64> {
        let servers = servers.iter().map(|at| ("a server", *at)).collect();
        let voices = Voices { servers, system, receivers: receivers.to_vec() };
        voices.repair(receivers[0]).map(|repair| repair.days)
    }

    proptest! {
        #[test]
        fn any_number_of_days_is_found_and_nothing_else(k in -20_000i64..20_000, late in -0.9..0.9f64, far in 1.1..43_000f64) {
            prop_assume!(k != 0);
            let says = |seconds: f64| days(k) + Span::from_seconds(seconds);
            prop_assert_eq!(added(&[NOW, off(0.01)], None, &[says(late)]), Some(-k));
            prop_assert_eq!(added(&[NOW, off(0.01)], None, &[says(far)]), None);
            prop_assert_eq!(added(&[NOW, NOW], None, &[off(late)]), None);
        }
    }

    #[test]
    fn it_takes_two_who_agree_and_nobody_to_outweigh_them() {
        let rolled = days(-7168);
        assert_eq!(added(&[NOW], None, &[rolled]), None, "one server alone");
        assert_eq!(added(&[NOW], Some(off(3600.0)), &[rolled]), Some(7168));
        assert_eq!(added(&[NOW], Some(rolled), &[rolled]), None);
        assert_eq!(added(&[], Some(NOW), &[rolled]), None);
        assert_eq!(added(&[NOW, off(5.0)], None, &[rolled]), None, "they disagree");
        assert_eq!(added(&[NOW, off(0.1), off(5.0)], None, &[rolled]), Some(7168));
        assert_eq!(added(&[NOW, NOW, off(5.0), off(5.0)], None, &[rolled]), None);
        // Two receivers against two servers: nobody knows.
        assert_eq!(added(&[NOW, NOW], None, &[rolled, rolled]), None);
        assert_eq!(added(&[NOW, NOW], None, &[rolled, NOW]), Some(7168));
        assert_eq!(added(&[NOW, NOW, NOW], None, &[rolled, rolled]), Some(7168));
    }
}
