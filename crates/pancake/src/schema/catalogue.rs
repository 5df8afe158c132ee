//! This module lists the tables of the API. IMPORT FOREIGN SCHEMA, the planner and the tables of
//! docs/reference.md come from it; the facts of each stand in its own file.

use serde::{Deserialize, Serialize};

use crate::schema::column::Column;
use crate::schema::keyset::Order;
use crate::schema::table::{Shape, Table};
use crate::schema::{conversations, customers, messages, pages, posts, tags, users};

pub use crate::schema::table::Pagination;

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

impl Object {
    fn table(self) -> &'static Table {
        match self {
            Object::Conversations => &conversations::TABLE,
            Object::Messages => &messages::TABLE,
            Object::Tags => &tags::TABLE,
            Object::Posts => &posts::TABLE,
            Object::Customers => &customers::TABLE,
            Object::Users => &users::TABLE,
            Object::Pages => &pages::TABLE,
        }
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
        self.table().name
    }

    /// One row, as messages name it.
    pub fn row(self) -> &'static str {
        self.table().row
    }

    pub fn by_name(name: &str) -> Option<Object> {
        Self::ALL.iter().copied().find(|object| object.name() == name)
    }

    pub fn path(self) -> &'static str {
        self.table().path
    }

    /// The pages are a user's, all the rest is of one page.
    pub fn needs_page(self) -> bool {
        self.path().contains("{page_id}")
    }

    /// Whether a request is always for one conversation.
    pub fn needs_conversation(self) -> bool {
        self.path().contains("{conversation_id}")
    }

    pub fn shape(self) -> Shape {
        self.table().shape
    }

    /// Returns the column's values that a parameter is known to select rows by, any if empty. None
    /// if there is no such parameter.
    pub fn values_of(self, column: &str) -> Option<&'static [&'static str]> {
        self.table().by_value.iter().find(|by| by.column == column).map(|by| by.values)
    }

    /// Whether a parameter selects the rows whose list in this column holds all of some values.
    pub fn selects_by_elements(self, column: &str) -> bool {
        self.table().by_elements == Some(column)
    }

    /// Rows that the planner assumes before ANALYZE.
    pub fn unknown_rows(self) -> f64 {
        self.table().unknown_rows
    }

    /// The option of a user mapping that holds its token, which is the parameter's name too.
    pub fn token_name(self) -> &'static str {
        if self.needs_page() { "page_access_token" } else { "access_token" }
    }

    pub fn columns(self) -> &'static [Column] {
        self.table().columns
    }

    pub fn column(self, name: &str) -> Option<&'static Column> {
        self.columns().iter().find(|column| column.name == name)
    }

    pub fn paging(self) -> Pagination {
        self.table().pagination
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
        self.table().orders
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
