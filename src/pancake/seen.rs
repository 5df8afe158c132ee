//! Ids that came already, as 128-bit hashes: a few bytes a row, whatever the ids are like.

use std::collections::HashSet;
use std::hash::BuildHasher;

use foldhash::quality::RandomState;

/// Two rows of a million million are taken for one with a probability of 10⁻¹⁵.
#[derive(Clone, Default)]
pub struct Seen {
    hashers: [RandomState; 2],
    ids: HashSet<u128, RandomState>,
}

impl Seen {
    /// True once for each id.
    pub fn is_new(&mut self, id: &str) -> bool {
        let hash = self.hash(id);
        self.ids.insert(hash)
    }

    pub fn has(&self, id: &str) -> bool {
        self.ids.contains(&self.hash(id))
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    fn hash(&self, id: &str) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(id)));
        (high << 64) | low
    }
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seen({} ids)", self.ids.len())
    }
}
