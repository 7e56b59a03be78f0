//! Truechimers and falsetickers: each source claims an interval, and the largest set of intervals
//! that have a point in common is right, if it is a majority (Marzullo 1984; RFC 5905 section 11.2.1).

use serde::{Deserialize, Serialize};

/// What the operator says of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectionOptions {
    /// Use it before others that are as good.
    pub prefer: bool,
    /// Watch it, do not use it.
    pub noselect: bool,
    /// He vouches for it: where any source is trusted, only such have a vote.
    pub trust: bool,
    /// The clock is not fed unless this source, or another that is required, agrees.
    pub require: bool,
}

/// What one source claims.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim {
    /// Which source.
    pub source: usize,
    /// Local - reference against a common local line, s.
    pub offset: f64,
    /// Half-width, s.
    pub interval: f64,
    /// The operator vouches for it: when any source is trusted, only trusted ones vote.
    pub trusted: bool,
}

/// The outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Indices into the claims of those that contain the agreed interval.
    pub truechimers: Vec<usize>,
    /// The agreed interval, when there is a majority.
    pub agreed: Option<(f64, f64)>,
}

/// Finds the majority. `own` is what our own clock claims (offset and half-width, s): it has a voice
/// only where the sources alone give no majority, and only if it claims to know better than any.
pub fn select(claims: &[Claim], own: impl FnOnce() -> Option<(f64, f64)>) -> Outcome {
    let any_trusted = claims.iter().any(|c| c.trusted);
    let mut votes: Vec<(f64, f64)> = claims
        .iter()
        .filter(|c| c.trusted || !any_trusted)
        .map(|c| (c.offset - c.interval, c.offset + c.interval))
        .collect();
    let mut agreed = intersection(&votes);
    if agreed.is_none()
        && let Some((offset, interval)) = own()
        && claims.iter().all(|c| interval <= c.interval)
    {
        votes.push((offset - interval, offset + interval));
        agreed = intersection(&votes);
    }
    let Some((low, high)) = agreed else { return Outcome { truechimers: Vec::new(), agreed: None } };
    let truechimers = (0..claims.len())
        .filter(|i| claims.get(*i).is_some_and(|c| c.offset - c.interval <= high && c.offset + c.interval >= low))
        .collect();
    Outcome { truechimers, agreed: Some((low, high)) }
}

/// The interval contained in the most votes, if they are more than half.
fn intersection(votes: &[(f64, f64)]) -> Option<(f64, f64)> {
    // Sweep over the edges; at equal places intervals open before they close.
    // Intervals so far away that f64 cannot tell their edges apart close after they open, too.
    let mut edges: Vec<(f64, i32)> = votes.iter().flat_map(|(low, high)| [(*low, -1), (high.max(*low), 1)]).collect();
    edges.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let (mut depth, mut most, mut best) = (0usize, 0usize, None);
    for (i, (at, kind)) in edges.iter().enumerate() {
        if *kind < 0 {
            depth += 1;
            if depth > most {
                most = depth;
                best = edges.get(i + 1).map(|(end, _)| (*at, *end));
            }
        } else {
            depth = depth.saturating_sub(1);
        }
    }
    (most * 2 > votes.len()).then_some(best).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim(source: usize, offset: f64, interval: f64) -> Claim {
        Claim { source, offset, interval, trusted: false }
    }

    #[test]
    fn one_false_of_three_is_found() {
        let claims = [claim(0, 0.0, 0.01), claim(1, 0.005, 0.01), claim(2, 1.0, 0.01)];
        assert_eq!(select(&claims, || None).truechimers, [0, 1]);
    }

    #[test]
    fn two_against_two_is_nobody_unless_our_clock_knows() {
        let claims = [claim(0, 0.0, 0.01), claim(1, 0.0, 0.01), claim(2, 1.0, 0.01), claim(3, 1.0, 0.01)];
        assert!(select(&claims, || None).truechimers.is_empty());
        assert_eq!(select(&claims, || Some((1.0, 0.001))).truechimers, [2, 3]);
    }

    #[test]
    fn a_lone_source_is_believed_and_a_trusted_one_outvotes() {
        assert_eq!(select(&[claim(0, 5.0, 0.01)], || Some((0.0, 0.001))).truechimers, [0]);
        let claims = [Claim { trusted: true, ..claim(0, 1.0, 0.01) }, claim(1, 0.0, 0.01), claim(2, 0.0, 0.01)];
        assert_eq!(select(&claims, || None).truechimers, [0]);
    }

    proptest! {
        #[test]
        fn a_majority_around_the_truth_always_wins(good in 2usize..6, errors in proptest::collection::vec(-1.0f64..1.0, 12), liars in proptest::collection::vec(5.0f64..50.0, 6)) {
            let mut claims: Vec<Claim> = (0..good).map(|i| claim(i, errors[i] * 0.01, 0.01)).collect();
            for (i, liar) in liars.iter().take(good - 1).enumerate() {
                claims.push(claim(good + i, *liar * (1.0 + i as f64), 0.01));
            }
            let outcome = select(&claims, || None);
            let (low, high) = outcome.agreed.unwrap();
            prop_assert!(low <= 1e-12 && high >= -1e-12, "{low} {high}");
            prop_assert_eq!(outcome.truechimers, (0..good).collect::<Vec<_>>());
        }
    }
}
