//! This module defines what a table is: a list of the API with all facts about it that hold nowhere
//! else. Each table is a value of [`Table`] in a file of its own; what to do with it is decided by
//! the modules that read it.

use crate::schema::column::Column;
use crate::schema::keyset::Order;

/// How a list is read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pagination {
    /// From the last row on (`last_conversation_id`).
    Cursor,
    /// After so many of the newest (`current_count`).
    Offset,
    /// By numbered batches of this size, within a window of time.
    TimeSlices { batch: u64 },
    /// At once.
    Single,
}

/// Where the rows of a reply are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Under the key of the table's name, or `data`.
    List,
    /// The same, and under one more key.
    ListAnd(&'static str),
    /// The same, or in groups by their state, under this key.
    ListOrGroups(&'static str),
}

/// A column of which a parameter selects the rows of a value.
#[derive(Clone, Copy, Debug)]
pub struct ByValue {
    pub column: &'static str,
    /// The values that the parameter is known to share with the rows (docs/api.md); any if empty.
    pub values: &'static [&'static str],
}

pub struct Table {
    /// The name of the table, and of the key of its list.
    pub name: &'static str,
    /// One of its rows, as messages name it.
    pub row: &'static str,
    pub columns: &'static [Column],
    /// The path behind `base_url`, with `{page_id}` and `{conversation_id}`.
    pub path: &'static str,
    pub shape: Shape,
    pub pagination: Pagination,
    /// The times by which the list can be walked, the one that never changes first.
    pub orders: &'static [Order],
    pub by_value: &'static [ByValue],
    /// A column of lists of which a parameter selects the rows that hold all of some values.
    pub by_elements: Option<&'static str>,
    /// Rows that the planner assumes before ANALYZE: a shop of middling size.
    pub unknown_rows: f64,
}

pub(super) const BOTH: &[Order] = &[Order::InsertedAt, Order::UpdatedAt];
pub(super) const INSERTED: &[Order] = &[Order::InsertedAt];
