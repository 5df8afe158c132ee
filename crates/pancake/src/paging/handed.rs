//! This module records which rows of a walk were handed out already.
//!
//! By `updated_at` by their ids alone, because a row may show any older time. By `inserted_at` a
//! row never changes its time, and none stands more than a place too low: the rows of the last
//! batches are enough, and what is newer than all of them was handed out, or began after the walk.
//! Of rows without a time the ids are kept.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::paging::id_set::IdSet;
use crate::schema::keyset::{Order, RowKey};
use crate::time::Micros;

/// Batches that are remembered by `inserted_at`.
const BATCHES: usize = 3;

#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct HandedRows {
    ids: IdSet,
    /// The oldest rows, where their times are enough.
    lowest: BTreeSet<(Micros, String)>,
    /// Rows from here on are not among them any more.
    forgotten: Option<Micros>,
    /// How many those may be. `None`: all ids are kept.
    most: Option<usize>,
}

impl HandedRows {
    pub fn by(order: Order, full_batch: usize) -> Self {
        let most = (order == Order::InsertedAt).then_some(BATCHES * full_batch);
        Self { ids: IdSet::default(), lowest: BTreeSet::new(), forgotten: None, most }
    }

    /// Whether a row was handed out, where all ids are kept.
    pub fn has(&self, id: &str) -> bool {
        self.ids.has(id)
    }

    /// The ids of the rows that were handed out, where all are kept.
    pub fn ids(&self) -> &IdSet {
        &self.ids
    }

    /// Makes room for the ids of further rows.
    pub fn reserve(&mut self, rows: &[RowKey]) -> Result<()> {
        let by_id = rows.iter().filter(|row| self.most.is_none() || !row.is_dated);
        self.ids.reserve(by_id.count())
    }

    /// True once for each row.
    pub fn is_new(&mut self, row: &RowKey) -> bool {
        let Some(most) = self.most.filter(|_| row.is_dated) else { return self.ids.is_new(&row.id) };
        let is_forgotten = self.forgotten.is_some_and(|forgotten| row.at >= forgotten);
        if is_forgotten || !self.lowest.insert((row.at, row.id.clone())) {
            return false;
        }
        // Rows of one time are forgotten together, and the last time that is known never.
        while self.lowest.len() > most
            && let (Some((lowest, _)), Some((newest, _))) = (self.lowest.first(), self.lowest.last())
            && lowest < newest
        {
            let newest = *newest;
            self.lowest.split_off(&(newest, String::new()));
            self.forgotten = Some(newest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(handed: &mut HandedRows, id: i64, at: i64) -> bool {
        handed.is_new(&RowKey::new(id.to_string(), Micros(at)))
    }

    #[test]
    fn each_row_is_new_once_in_both_orders() {
        for order in [Order::InsertedAt, Order::UpdatedAt] {
            let mut handed = HandedRows::by(order, 2);
            // After a few rows the walk begins anew and meets a newer one; then it comes to what it
            // had, and goes on.
            for id in (40..50).rev() {
                assert!(new(&mut handed, id, id));
            }
            new(&mut handed, 60, 60);
            for id in (40..50).rev() {
                assert!(!new(&mut handed, id, id), "{id} {handed:?}");
            }
            for id in (0..40).rev() {
                assert!(new(&mut handed, id, id) && !new(&mut handed, id, id), "{id} {handed:?}");
            }
        }
    }

    #[test]
    fn a_time_that_many_rows_share_is_not_forgotten_in_part() {
        let mut handed = HandedRows::by(Order::InsertedAt, 2);
        assert!(new(&mut handed, 1_000, 9));
        for id in 0..50 {
            assert!(new(&mut handed, id, 7) && !new(&mut handed, id, 7));
        }
        assert!(new(&mut handed, 100, 6));
        assert!((0..50).all(|id| !new(&mut handed, id, 7)));
        assert!(!new(&mut handed, 1_000, 9));
    }
}
