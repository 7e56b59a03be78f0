//! The delays of the way to a server and back: the least of them, what they exceed it by, and when the route
//! has changed.

use std::collections::VecDeque;

use super::KnownNoise;

/// Fewer delays do not tell how much they spread.
const MEASURE_OF_SPREAD: f64 = 15.0;

/// A remembered least delay counts as so many samples, and until as many have come...
const REMEMBERED: f64 = 128.0;
/// ...or those that have are less probable than this, of its ln: giving it up costs little.
const LN_ANOTHER_ROUTE: f64 = -8.0;

/// The delays of one server: their minimum, how much they exceed it, and when the route changed.
#[derive(Clone, Debug, Default)]
pub struct DelayRecord {
    /// The last 128 delays, s.
    recent: VecDeque<f64>,
    /// The last 16 blocks of samples.
    blocks: VecDeque<Block>,
    /// The very first delay, s.
    first: Option<f64>,
    /// The mean excess that an earlier life knew, s.
    remembered: Option<f64>,
    /// The least delay that it knew, until the ones that come say otherwise, s.
    remembered_least: Option<f64>,
}

/// What remains of 64 samples.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// The least delay and the one after it, s.
    least: f64,
    second: f64,
    count: f64,
}

impl Block {
    fn new(delay: f64, count: f64) -> Self {
        Self { least: delay, second: f64::INFINITY, count }
    }

    fn push(&mut self, delay: f64) {
        self.second = self.second.min(self.least.max(delay));
        self.least = self.least.min(delay);
        self.count += 1.0;
    }
}

impl DelayRecord {
    /// An earlier life knew the mean excess and perhaps the least delay, s.
    pub fn remembering(known: &KnownNoise) -> Self {
        Self { remembered: Some(known.jitter), remembered_least: known.least_delay, ..Self::default() }
    }

    /// Has none come yet?
    pub fn is_empty(&self) -> bool {
        self.recent.is_empty()
    }

    /// Notes a round-trip delay, s.
    pub fn push(&mut self, delay: f64) {
        match self.blocks.back_mut() {
            Some(block) if block.count < 64.0 => block.push(delay),
            _ => {
                self.blocks.push_back(Block::new(delay, 1.0));
                if self.blocks.len() > 16 {
                    self.blocks.pop_front();
                }
            }
        }
        self.first.get_or_insert(delay);
        self.recent.push_back(delay);
        if self.recent.len() > 128 {
            self.recent.pop_front();
        }
        self.follow_route();
        self.doubt_least();
        self.doubt_remembered();
    }

    /// The minimum delay, s; infinite before the first.
    pub fn least(&self) -> f64 {
        self.seen().min(self.remembered_least.unwrap_or(f64::INFINITY))
    }

    /// The least of those that came, s.
    fn seen(&self) -> f64 {
        self.blocks.iter().map(|b| b.least).fold(f64::INFINITY, f64::min)
    }

    /// The mean of what delays exceed the minimum by, s.
    pub fn mean_excess(&self) -> f64 {
        let least = self.least();
        let n = self.recent.len() as f64;
        // What was known before as prior, or a little of the minimum itself, for the first few samples.
        let prior = self.remembered.map_or(0.05 * least, |known| 0.5 * known);
        ((self.recent.iter().map(|d| d - least).sum::<f64>() + prior) / (n - 0.5).max(0.5)).max(1e-9)
    }

    /// What a delay exceeds the minimum by, with what the minimum itself probably still exceeds the
    /// true one by (Rayleigh law for two exponentials: mean + 1 sd), s.
    pub fn excess(&self, delay: f64) -> f64 {
        // What is remembered is the least of very many.
        let remembered = if self.remembered_least.is_some() { REMEMBERED } else { 0.0 };
        let n: f64 = self.blocks.iter().map(|b| b.count).sum::<f64>() + remembered;
        (delay - self.least()) + 1.5 * 0.5 * self.mean_excess() * 1.25 / n.max(1.0).sqrt()
    }

    /// A least delay that an earlier life knew is of that route: it is given up as soon as those that come
    /// are improbable under it, and becomes one of them when enough have come that are not.
    fn doubt_remembered(&mut self) {
        let (Some(least), Some(spread)) = (self.remembered_least, self.remembered) else { return };
        let samples = self.recent.len() as f64;
        if ln_chance((self.seen() - least).max(0.0), spread, samples) < LN_ANOTHER_ROUTE {
            self.remembered_least = None;
        } else if samples >= REMEMBERED {
            self.remembered_least = None;
            self.blocks.push_front(Block::new(least, 64.0));
        }
    }

    /// A least delay that nothing came near before or since was a clock's mistake, and would make all
    /// others look late. It is improbable under the spread of the others above the second least. Delays
    /// that are not of two exponentials have such gaps as well, small ones: those count only below the
    /// first delay, which clocks that have just been set get wrong.
    fn doubt_least(&mut self) {
        let lowest = self.blocks.iter().enumerate().min_by(|a, b| a.1.least.total_cmp(&b.1.least));
        let Some((lowest, block)) = lowest.map(|(i, b)| (i, *b)) else { return };
        let of_others = self.blocks.iter().enumerate().filter(|(i, _)| *i != lowest).map(|(_, b)| b.least);
        let second = of_others.fold(block.second, f64::min);
        let others: f64 = self.blocks.iter().map(|b| b.count).sum::<f64>() - 1.0;
        if others < MEASURE_OF_SPREAD {
            return;
        }
        let excess = self.recent.iter().map(|d| d - second).filter(|excess| *excess > 0.0);
        let spread = excess.sum::<f64>() / self.recent.len() as f64;
        let gap = second - block.least;
        let counts = self.first == Some(block.least) || gap > spread;
        if counts
            && is_improbable(gap, spread, others)
            && let Some(block) = self.blocks.get_mut(lowest)
        {
            block.least = block.second;
        }
    }

    /// A route that became longer: the recent minimum is improbable under the old spread.
    fn follow_route(&mut self) {
        let n = self.recent.len();
        for window in [8, 32] {
            if n < window + 32 {
                continue;
            }
            let old = n - window;
            let base = self.least();
            let recent = self.recent.iter().skip(old).copied().fold(f64::INFINITY, f64::min);
            // The spread of the older samples alone: the recent ones would hide the change.
            let spread = self.recent.iter().take(old).map(|d| d - base).sum::<f64>() / old as f64;
            if is_improbable(recent - base, spread, window as f64) {
                for delay in self.recent.iter_mut().take(old) {
                    *delay += recent - base;
                }
                self.blocks.clear();
                self.blocks.push_back(Block::new(recent, window as f64));
                return;
            }
        }
    }
}

/// ln of the chance that so many delays all lie beyond a gap above the least, s, when `spread` is what
/// delays exceed it by on the average, s. Each exceeds it by two independent exponentials, of half the
/// spread each.
fn ln_chance(gap: f64, spread: f64, samples: f64) -> f64 {
    let gap = gap / (0.5 * spread + 1e-12);
    samples * (libm::log1p(gap) - gap)
}

/// Is it too little to be believed?
fn is_improbable(gap: f64, spread: f64, samples: f64) -> bool {
    ln_chance(gap, spread, samples) < -25.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_route_restarts_the_minimum() {
        let mut record = DelayRecord::default();
        for i in 0..64 {
            record.push(200e-6 + f64::from(i % 7) * 5e-6);
        }
        for i in 0..8 {
            record.push(500e-6 + f64::from(i % 7) * 5e-6);
        }
        assert!(record.least() >= 500e-6, "{}", record.least());
        record.push(190e-6);
        assert!(record.least() < 191e-6);
    }

    #[test]
    fn a_remembered_least_delay_is_kept_while_the_route_is_the_same() {
        let known = KnownNoise { jitter: 40e-6, late: (0.0, 0.0), least_delay: Some(200e-6) };
        let mut same = DelayRecord::remembering(&known);
        let mut another = DelayRecord::remembering(&known);
        for i in 0..20 {
            same.push(210e-6 + f64::from(i * 7 % 20) * 5e-6);
            another.push(310e-6 + f64::from(i * 7 % 20) * 5e-6);
            assert_eq!(same.least(), 200e-6);
        }
        assert_eq!(another.least(), 310e-6);
        same.push(190e-6);
        assert_eq!(same.least(), 190e-6);
        // What is remembered is forgotten as anything else.
        let mut longer = DelayRecord::remembering(&known);
        for i in 0..1100 {
            longer.push(205e-6 + f64::from(i * 7 % 20) * 5e-6);
            assert_eq!(longer.least(), if i < 960 { 200e-6 } else { 205e-6 }, "{i}");
        }
    }

    #[test]
    fn a_delay_too_short_to_be_true_is_not_the_least_for_long() {
        let mut record = DelayRecord::default();
        let delay = |i: u32| 200e-6 + f64::from(i * 7 % 64) * 1e-6;
        for i in 0..40 {
            record.push(delay(i));
        }
        record.push(50e-6);
        assert_eq!(record.least(), 200e-6);
        // One that others come near, if seldom, stays.
        record.push(195e-6);
        for i in 0..900 {
            record.push(if i % 200 == 0 { 196e-6 } else { delay(i) });
        }
        assert_eq!(record.least(), 195e-6);
    }
}
