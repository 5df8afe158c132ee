//! This module lets a test set the times of rows, and move rows away from where their times would
//! put them.

use super::PageHandle;
use crate::page::Page;
use crate::times::{TimeColumn, TimeForm};

impl PageHandle {
    /// Makes a row show this `updated_at`, in microseconds since 1970, for good: the list goes on
    /// sorting it by the time of its last message. Returns `false` if there is no such row.
    pub fn freeze(&self, id: &str, shown: i64) -> bool {
        self.on_row(id, |page, index, _, _| page.freeze(index, shown))
    }

    /// Freezes rows in runs, by an hour to months, until about this share of all rows is frozen.
    /// Rows without a message later than an hour after their beginning stay as they are.
    pub fn freeze_share(&self, share: f64) {
        self.with(|page, _, _| page.freeze_share(share));
    }

    /// The ids of the rows that do not show their real `updated_at`, from the head of the list.
    pub fn frozen(&self) -> Vec<String> {
        let id = |page: &Page, index: usize| page.rows.get(index).map(|row| row.id.to_string());
        self.with(|page, _, _| page.frozen().filter_map(|index| id(page, index)).collect())
    }

    /// Moves a row down by at most so many places in the list by `updated_at`, so that it shows a
    /// newer time than rows above it. Returns `false` if there is no such row, or no place between
    /// rows of different times is in reach.
    pub fn lower(&self, id: &str, places: usize) -> bool {
        let mut lowered = false;
        self.on_row(id, |page, index, _, _| lowered = page.lower(index, places)) && lowered
    }

    /// Exchanges a row and the one below it in the list by `inserted_at`; `since` and `until` go by
    /// what they show. Returns `false` if there is no such row, or none of an older time is below
    /// it.
    pub fn swap(&self, id: &str) -> bool {
        let mut swapped = false;
        self.on_row(id, |page, index, _, _| swapped = page.swap(index)) && swapped
    }

    /// Sets a time of a row, in microseconds since 1970, and moves the row there. If that is later
    /// than now, messages of other rows do not rise above it. Returns `false` if there is no such
    /// row.
    pub fn set_time(&self, id: &str, column: TimeColumn, time: i64) -> bool {
        self.on_row(id, |page, index, now, _| page.set_time(index, column, time, now))
    }

    /// Sets how a row shows a time, for example as a number, or not at all (see
    /// [`Switches::undated`]). Returns `false` if there is no such row.
    ///
    /// [`Switches::undated`]: crate::Switches::undated
    pub fn set_time_form(&self, id: &str, column: TimeColumn, form: TimeForm) -> bool {
        self.on_row(id, |page, index, _, _| page.set_time_form(index, column, form))
    }
}
