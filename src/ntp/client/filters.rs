//! Which replies are not good enough: of too low a stratum, or too long under way.

use refclocks::time::{Span, exact};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::measurement::Measurement;
use super::rejection::Rejected;

/// Exchanges among which the shortest delay is looked for.
const DELAYS: usize = 64;

/// Which replies of a server are not good enough.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filters {
    /// The least stratum.
    pub min_stratum: u8,
    /// The longest delay.
    #[serde(with = "exact")]
    pub max_delay: Span,
    /// The longest delay, as a multiple of the shortest of the last 64 exchanges.
    #[serde(serialize_with = "finite", deserialize_with = "or_infinite")]
    pub max_delay_ratio: f64,
    /// How much longer than the shortest of those, as a multiple of their standard deviation.
    #[serde(serialize_with = "finite", deserialize_with = "or_infinite")]
    pub max_delay_dev_ratio: f64,
}

/// No limit is `null` in JSON.
fn finite<Z: Serializer>(ratio: &f64, to: Z) -> Result<Z::Ok, Z::Error> {
    ratio.is_finite().then_some(*ratio).serialize(to)
}

fn or_infinite<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::INFINITY))
}

impl Default for Filters {
    fn default() -> Self {
        Self {
            min_stratum: 0,
            max_delay: Span::from_whole_seconds(3),
            max_delay_ratio: f64::INFINITY,
            max_delay_dev_ratio: f64::INFINITY,
        }
    }
}

/// The delays of the last exchanges, by which the next is judged.
#[derive(Debug)]
pub(super) struct Judge {
    filters: Filters,
    delays: [Option<Span>; DELAYS],
    /// Where the next one goes.
    next: usize,
}

impl Judge {
    pub(super) fn new(filters: Filters) -> Self {
        Self { filters, delays: [None; DELAYS], next: 0 }
    }

    /// Is it good enough?
    ///
    /// # Errors
    ///
    /// [`Rejected::StratumTooLow`] and [`Rejected::DelayTooLong`].
    pub(super) fn admit(&mut self, measurement: &Measurement) -> Result<(), Rejected> {
        let Filters { min_stratum, max_delay, max_delay_ratio, max_delay_dev_ratio } = self.filters;
        if measurement.stratum < min_stratum {
            return Err(Rejected::StratumTooLow { stratum: measurement.stratum, least: min_stratum });
        }
        let before = Delays::of(self.delays.iter().flatten().map(|delay| delay.seconds()));
        if let Some(slot) = self.delays.get_mut(self.next % DELAYS) {
            *slot = Some(measurement.delay);
        }
        self.next = self.next.wrapping_add(1);
        let longest_s = max_delay
            .seconds()
            .min(times(before.shortest, max_delay_ratio))
            .min(before.shortest + times(before.deviation, max_delay_dev_ratio));
        if measurement.delay.seconds() > longest_s {
            return Err(Rejected::DelayTooLong { delay_s: measurement.delay.seconds(), longest_s });
        }
        Ok(())
    }
}

/// So many delays tell how much they vary.
const FEW: f64 = 4.0;

/// What the last delays were like, s; infinite while that is not known.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Delays {
    shortest: f64,
    deviation: f64,
}

impl Delays {
    fn of(delays: impl Iterator<Item = f64> + Clone) -> Self {
        let count = delays.clone().count() as f64;
        let mean = delays.clone().sum::<f64>() / count;
        let variance = delays.clone().map(|delay| (delay - mean) * (delay - mean)).sum::<f64>() / (count - 1.0);
        let shortest = delays.fold(f64::INFINITY, f64::min);
        Self { shortest, deviation: if count < FEW { f64::INFINITY } else { libm::sqrt(variance) } }
    }
}

/// A multiple, where nought times infinity is no limit.
fn times(value: f64, ratio: f64) -> f64 {
    if ratio.is_infinite() { f64::INFINITY } else { value * ratio }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntp::packet::Header;
    use refclocks::time::{NtpTimestamp, Timestamp};

    fn judge(filters: Filters, delays_us: &[i64]) -> Vec<bool> {
        let mut judge = Judge::new(filters);
        let says = Header::request(4, NtpTimestamp::UNKNOWN);
        let admits = |micros: &i64| {
            let delay = Span::from_nanos(micros * 1000);
            judge.admit(&Measurement::new(Timestamp::EPOCH, Timestamp::EPOCH, delay, &says)).is_ok()
        };
        delays_us.iter().map(admits).collect()
    }

    #[test]
    fn a_delay_is_held_against_how_much_delays_vary() {
        let filters = Filters { max_delay_dev_ratio: 3.0, ..Filters::default() };
        // 1000, 1100, 1000, 1100: the shortest is 1000, the standard deviation 57.7, three of them 173.
        let delays = [1000, 1100, 1000, 1100, 1170, 1000, 2000];
        assert_eq!(judge(filters, &delays), [true, true, true, true, true, true, false]);
        // Of three nobody can say how much they vary.
        assert_eq!(judge(filters, &[1000, 1000, 1000, 9000]), [true; 4]);
        assert_eq!(
            judge(Filters::default(), &[1000, 1000, 1000, 1000, 2_900_000, 3_100_000]),
            [true, true, true, true, true, false]
        );
    }

    #[test]
    fn the_strictest_of_the_limits_counts() {
        let filters = Filters { max_delay: Span::from_millis(5), max_delay_ratio: 2.0, ..Filters::default() };
        assert_eq!(judge(filters, &[4000, 1000, 1999, 2001, 1000, 5001]), [true, true, true, false, true, false]);
    }
}
