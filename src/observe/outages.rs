//! Places where nobody is answered or heard, as readers see them: a board that anybody reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// What does not happen in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nobody is answered.
    Answers,
    /// Nobody who broadcasts is heard.
    Broadcasts,
}

/// Why it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// What.
    pub missing: Missing,
    /// Why, in words.
    pub reason: String,
    /// What a person can do about it.
    pub action: Option<String>,
}

/// All of them, by their places.
#[derive(Clone, Debug, Default)]
pub struct OutageBoard(Arc<ArcSwap<BTreeMap<String, Outage>>>);

impl OutageBoard {
    /// It does not happen there. `true`: that is new.
    pub fn note(&self, place: &str, outage: Outage) -> bool {
        let mut all = self.read();
        let is_new = all.insert(place.to_owned(), outage.clone()).is_none_or(|before| before != outage);
        self.0.store(Arc::new(all));
        is_new
    }

    /// All is well there, or it is a place no more. `true`: that is new.
    pub fn clear(&self, place: &str) -> bool {
        let mut all = self.read();
        let was_noted = all.remove(place).is_some();
        if was_noted {
            self.0.store(Arc::new(all));
        }
        was_noted
    }

    /// Reads it.
    pub fn read(&self) -> BTreeMap<String, Outage> {
        BTreeMap::clone(&self.0.load())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_stands_there_until_it_is_cleared() {
        let (board, outage) = (OutageBoard::default(), |reason: &str| {
            let reason = reason.into();
            Outage { missing: Missing::Answers, reason, action: None }
        });
        assert!(board.note("eth0", outage("down")) && !board.note("eth0", outage("down")));
        assert!(board.clone().note("eth0", outage("busy")));
        assert_eq!(board.read().into_iter().collect::<Vec<_>>(), [("eth0".to_owned(), outage("busy"))]);
        assert!(board.clear("eth0") && !board.clear("eth0") && board.read().is_empty());
    }
}
