//! This module is the set of ids that came already, as 128-bit hashes: a few bytes a row, whatever
//! the ids are like.

use std::collections::HashSet;
use std::hash::BuildHasher;

use foldhash::quality::{FixedState, RandomState};

/// Two rows of a million million are taken for one with a probability of 10⁻¹⁵.
#[derive(Clone, Default)]
pub struct IdSet {
    ids: HashSet<u128, RandomState>,
}

impl IdSet {
    /// True once for each id.
    pub fn is_new(&mut self, id: &str) -> bool {
        let hash = Self::hash(id);
        self.ids.insert(hash)
    }

    pub fn has(&self, id: &str) -> bool {
        self.ids.contains(&Self::hash(id))
    }

    pub fn extend(&mut self, others: &IdSet) {
        self.ids.extend(&others.ids);
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    fn hash(id: &str) -> u128 {
        let [high, low] = [1, 2].map(|seed| u128::from(FixedState::with_seed(seed).hash_one(id)));
        (high << 64) | low
    }
}

impl std::fmt::Debug for IdSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IdSet({} ids)", self.ids.len())
    }
}

/// The same for the same ids, in whatever order they came.
#[cfg(test)]
impl std::hash::Hash for IdSet {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.ids.iter().fold(0, |all, id| all ^ id).hash(state);
    }
}
