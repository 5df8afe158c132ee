//! This module lists how a sync walks the list of an object, and by which of its times. All of it
//! follows from the tables of [`crate::schema`].

use crate::schema::catalogue::{Object, Pagination};

/// How a list is read in batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batches {
    /// So many rows, newest first: the list comes in that order.
    Rows,
    /// All of a slice of time: the list has numbers and a window, and no order that can be taken in
    /// pieces.
    Slices,
    /// All at once: the list has neither times nor pages, and each run reads it to its end.
    Whole,
    /// The conversations of the page, as rows; of each its own list, newest first.
    Threads,
}

/// How the list of an object is walked. Columns are named by their standard names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    pub batches: Batches,
    /// The time by which the walked list shows changes.
    pub changed: Option<&'static str>,
    /// The time by which the walked list never changes.
    pub begun: Option<&'static str>,
    /// The version of a row.
    pub version: Option<&'static str>,
    /// The time of a row that is copied.
    pub dated: Option<&'static str>,
    /// The column that names the thread of a row.
    pub thread: Option<&'static str>,
}

impl Walk {
    /// Returns None for an object that is of no page.
    pub fn of(object: Object) -> Option<Walk> {
        if !object.needs_page() {
            return None;
        }
        let is_threads = object.needs_conversation();
        let batches = match object.paging() {
            _ if is_threads => Batches::Threads,
            Pagination::Cursor | Pagination::Offset => Batches::Rows,
            Pagination::TimeSlices { .. } => Batches::Slices,
            Pagination::Single => Batches::Whole,
        };
        let list = if is_threads { Object::Conversations } else { object };
        let has = |object: Object, column| match batches {
            Batches::Whole => None,
            _ => object.column(column).map(|column| column.name),
        };
        let version = has(object, "updated_at");
        Some(Walk {
            batches,
            changed: has(list, "updated_at").or(has(list, "inserted_at")),
            begun: has(list, "inserted_at"),
            version,
            dated: version.or(has(object, "inserted_at")),
            thread: has(object, "conversation_id").filter(|_| is_threads),
        })
    }

    pub fn is_threads(&self) -> bool {
        self.batches == Batches::Threads
    }

    pub fn is_slices(&self) -> bool {
        self.batches == Batches::Slices
    }

    pub fn is_whole(&self) -> bool {
        self.batches == Batches::Whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_is_walked_by_its_own_times() {
        let walk = |object| Walk::of(object).map(|w| (w.batches, w.changed, w.version, w.dated, w.thread));
        let (updated, inserted) = (Some("updated_at"), Some("inserted_at"));
        assert_eq!(walk(Object::Conversations), Some((Batches::Rows, updated, updated, updated, None)));
        assert_eq!(walk(Object::Customers), Some((Batches::Slices, updated, updated, updated, None)));
        assert_eq!(walk(Object::Posts), Some((Batches::Slices, inserted, None, inserted, None)));
        assert_eq!(walk(Object::Tags), Some((Batches::Whole, None, None, None, None)));
        assert_eq!(walk(Object::Users), Some((Batches::Whole, None, None, None, None)));
        assert_eq!(
            walk(Object::Messages),
            Some((Batches::Threads, updated, None, inserted, Some("conversation_id")))
        );
        assert_eq!(Walk::of(Object::Pages), None);
    }
}
