//! How late a source's messages came: how many in each hundredth of a second.

use std::collections::BTreeMap;

/// The width of a bin, s.
pub const BIN: f64 = 0.01;
/// After so many messages the older ones count half: a day's.
const KEPT: u32 = 86_400;

/// The histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DelayHistogram {
    /// By the number of the bin; bin 0 is from 0 to 10 ms after the second.
    bins: BTreeMap<i32, u32>,
    total: u32,
}

impl DelayHistogram {
    /// One more message, s after its second. What lies further than a minute away is no delay.
    pub fn push(&mut self, delay: f64) {
        if delay.abs() > 60.0 || delay.is_nan() {
            return;
        }
        *self.bins.entry((delay / BIN).floor() as i32).or_default() += 1;
        self.total += 1;
        if self.total > KEPT {
            self.bins.values_mut().for_each(|count| *count /= 2);
            self.bins.retain(|_, count| *count > 0);
            self.total = self.bins.values().sum();
        }
    }

    /// The bins that hold something: number and count, the fullest `most` of them, by number.
    pub fn bins(&self, most: usize) -> Vec<(i32, u32)> {
        let mut bins: Vec<(i32, u32)> = self.bins.iter().map(|(bin, count)| (*bin, *count)).collect();
        if bins.len() > most {
            bins.sort_by_key(|(bin, count)| (std::cmp::Reverse(*count), *bin));
            bins.truncate(most);
            bins.sort_unstable();
        }
        bins
    }

    /// One that holds these. `None`: that cannot have come of messages.
    pub fn from_bins(bins: &[(i32, u32)]) -> Option<Self> {
        let furthest = (60.0 / BIN) as i32;
        let mut whole = Self::default();
        for (bin, count) in bins {
            let is_new = whole.bins.insert(*bin, *count).is_none();
            whole.total = whole.total.checked_add(*count)?;
            if !is_new || *count == 0 || !(-furthest..=furthest).contains(bin) || whole.total > KEPT {
                return None;
            }
        }
        Some(whole)
    }

    /// How many messages it holds.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// The number of the first bin, and the counts from there to the last.
    pub fn counts(&self) -> Option<(i32, Vec<u32>)> {
        let (first, last) = (*self.bins.first_key_value()?.0, *self.bins.last_key_value()?.0);
        Some((first, (first..=last).map(|bin| self.bins.get(&bin).copied().unwrap_or(0)).collect()))
    }

    /// The delay by which this share of the messages had come, s: the end of its bin.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = share * f64::from(self.total);
        let mut sum = 0;
        let bin = self.bins.iter().find(|(_, count)| {
            sum += **count;
            f64::from(sum) >= wanted
        });
        bin.map(|(bin, _)| f64::from(bin + 1) * BIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_by_when_they_came() {
        let mut delays = DelayHistogram::default();
        assert_eq!((delays.quantile(0.5), delays.counts()), (None, None));
        for k in 0..100 {
            delays.push(0.1 + f64::from(k) * 0.001 + 0.0005);
        }
        delays.push(f64::NAN);
        delays.push(1e9);
        assert_eq!((delays.total(), delays.counts()), (100, Some((10, vec![10; 10]))));
        let near = |share: f64, seconds: f64| (delays.quantile(share).unwrap() - seconds).abs() < 1e-9;
        assert!(near(0.05, 0.11) && near(0.5, 0.15) && near(0.95, 0.2) && near(1.0, 0.2));
    }

    #[test]
    fn it_is_made_of_its_bins_again() {
        let mut delays = DelayHistogram::default();
        (0..1000).for_each(|k| delays.push(0.1 + f64::from(k % 7) * 0.01));
        delays.push(59.999);
        delays.push(-59.999);
        assert_eq!(DelayHistogram::from_bins(&delays.bins(512)), Some(delays.clone()));
        assert_eq!(delays.bins(2), [(10, 143), (11, 143)]);
        assert_eq!(DelayHistogram::from_bins(&[]), Some(DelayHistogram::default()));
        for absurd in [&[(10, 0)][..], &[(10, 1), (10, 1)], &[(6001, 1)], &[(1, u32::MAX), (2, 7)], &[(1, KEPT + 1)]] {
            assert_eq!(DelayHistogram::from_bins(absurd), None, "{absurd:?}");
        }
    }

    #[test]
    fn what_is_long_ago_counts_less_and_less() {
        let mut delays = DelayHistogram::default();
        (0..KEPT).for_each(|_| delays.push(0.105));
        // It jumps by 200 ms, as receivers do.
        (0..KEPT).for_each(|_| delays.push(0.305));
        assert!(delays.total() <= KEPT);
        assert!((delays.quantile(0.5).unwrap() - 0.31).abs() < 1e-9);
    }
}
