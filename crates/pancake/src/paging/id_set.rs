//! This module is the set of ids that came already, as 128-bit hashes: a few bytes a row, whatever
//! the ids are like.

use std::collections::HashSet;
use std::hash::BuildHasher;

use foldhash::quality::{FixedState, RandomState};

use crate::error::Result;
use crate::memory::{self, IDS};

/// A table of hashes has a power of two of places, an eighth of them free, of 17 bytes each.
const PLACE: usize = size_of::<u128>() + 1;

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

    /// Makes room for so many further ids.
    pub fn reserve(&mut self, more: usize) -> Result<()> {
        let rows = self.ids.len().saturating_add(more);
        if rows <= self.ids.capacity() {
            return Ok(());
        }
        let places = (rows.saturating_mul(8) / 7).checked_next_power_of_two();
        let fits = places.is_some_and(|places| places.saturating_mul(PLACE) <= IDS);
        if !fits || self.ids.try_reserve(more).is_err() {
            return Err(memory::too_many_rows(self.ids.len()));
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_ids_than_there_is_room_for_are_an_error() {
        let mut ids = IdSet::default();
        for id in 0..10_000 {
            ids.reserve(1).unwrap();
            assert!(ids.is_new(&id.to_string()));
        }
        assert!(!ids.is_new("7") && ids.has("7"));
        let bytes = ids.ids.capacity() * 8 / 7 * PLACE;
        assert!((17 * 10_000..40 * 10_000).contains(&bytes), "{bytes}");
        // Places for seven million rows are 143 MB, the next size is 285.
        ids.reserve(7_000_000).unwrap();
        assert_eq!(ids.reserve(8_000_000).unwrap_err().sqlstate(), "53200");
        assert_eq!(ids.reserve(usize::MAX).unwrap_err().sqlstate(), "53200");
    }
}
