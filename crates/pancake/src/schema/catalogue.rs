//! This module lists the tables of the API: their names, columns, and how their lists are paged.
//! One table entry per object; IMPORT FOREIGN SCHEMA, the planner and the tables of
//! docs/reference.md come from it. What the server can filter by is in [`crate::plan::filter`], how
//! a request is addressed in [`crate::http::endpoint`].

use serde::{Deserialize, Serialize};

use crate::schema::column::Column;
use crate::schema::conversations;
use crate::schema::keyset::Order;
use crate::schema::lists;

/// What a foreign table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Object {
    Conversations,
    Messages,
    Tags,
    Posts,
    Customers,
    Users,
    Pages,
}

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

struct Entry {
    name: &'static str,
    /// One of its rows, as messages name it.
    row: &'static str,
    columns: &'static [Column],
    paging: Pagination,
    /// The times by which the list can be walked.
    orders: &'static [Order],
}

const BOTH: &[Order] = &[Order::InsertedAt, Order::UpdatedAt];
const INSERTED: &[Order] = &[Order::InsertedAt];

/// The table.
#[rustfmt::skip]
fn entry(object: Object) -> Entry {
    use Pagination::*;
    match object {
        Object::Conversations => Entry { name: "conversations", row: "conversation", columns: conversations::COLUMNS, paging: Cursor, orders: BOTH },
        Object::Messages => Entry { name: "messages", row: "message", columns: lists::MESSAGES, paging: Offset, orders: INSERTED },
        Object::Tags => Entry { name: "tags", row: "tag", columns: lists::TAGS, paging: Single, orders: &[] },
        Object::Posts => Entry { name: "posts", row: "post", columns: lists::POSTS, paging: TimeSlices { batch: 30 }, orders: INSERTED },
        Object::Customers => Entry { name: "customers", row: "customer", columns: lists::CUSTOMERS, paging: TimeSlices { batch: 100 }, orders: BOTH },
        Object::Users => Entry { name: "users", row: "user", columns: lists::USERS, paging: Single, orders: &[] },
        Object::Pages => Entry { name: "pages", row: "page", columns: lists::PAGES, paging: Single, orders: &[] },
    }
}

impl Object {
    pub const ALL: &[Object] = &[
        Object::Conversations,
        Object::Messages,
        Object::Tags,
        Object::Posts,
        Object::Customers,
        Object::Users,
        Object::Pages,
    ];

    pub fn name(self) -> &'static str {
        entry(self).name
    }

    /// One row, as messages name it.
    pub fn row(self) -> &'static str {
        entry(self).row
    }

    pub fn by_name(name: &str) -> Option<Object> {
        Self::ALL.iter().copied().find(|object| object.name() == name)
    }

    /// The pages are a user's, all the rest is of one page.
    pub fn needs_page(self) -> bool {
        self != Object::Pages
    }

    /// Whether a request is always for one conversation.
    pub fn needs_conversation(self) -> bool {
        self.paging() == Pagination::Offset
    }

    /// The option of a user mapping that holds its token, which is the parameter's name too.
    pub fn token_name(self) -> &'static str {
        if self.needs_page() { "page_access_token" } else { "access_token" }
    }

    pub fn columns(self) -> &'static [Column] {
        entry(self).columns
    }

    pub fn column(self, name: &str) -> Option<&'static Column> {
        self.columns().iter().find(|column| column.name == name)
    }

    pub fn paging(self) -> Pagination {
        entry(self).paging
    }

    /// Whether rows can come newest first by this time.
    pub fn comes_in_order(self, order: Order) -> bool {
        self.orders().contains(&order)
            && match self.paging() {
                Pagination::Cursor | Pagination::Offset => true,
                // By `updated_at` its slices go up.
                Pagination::TimeSlices { .. } => order == Order::InsertedAt,
                Pagination::Single => false,
            }
    }

    /// The order of a list that has no choice, or the one that never changes.
    pub fn order(self) -> Order {
        self.orders().first().copied().unwrap_or(Order::Served)
    }

    pub fn orders(self) -> &'static [Order] {
        entry(self).orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_what_all_tables_have() {
        for object in Object::ALL {
            assert_eq!(Object::by_name(object.name()), Some(*object));
            assert!(object.column("id").is_some_and(|id| id.not_null));
            assert!(object.column("raw").is_some());
            assert_eq!(object.column("page_id").is_some(), object.needs_page());
            for order in object.orders() {
                assert!(object.column(order.column().unwrap()).is_some_and(|time| time.not_null));
            }
        }
    }
}
