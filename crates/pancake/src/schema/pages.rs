//! This module holds the table `pages`, those of a user, from the one endpoint of the user API
//! (docs/api.md).

use crate::schema::column::From::Row;
use crate::schema::column::columns;
use crate::schema::table::{Pagination, Shape, Table};

columns! {
    COLUMNS:
    "id" Text not_null;
    "name" Text;
    "platform" Text;
    "username" Text;
    "timezone" Numeric;
    "is_activated" Bool;
    "raw" Jsonb <- Row;
}

pub const TABLE: Table = Table {
    name: "pages",
    row: "page",
    columns: COLUMNS,
    path: "v1/pages",
    shape: Shape::ListOrGroups("categorized"),
    pagination: Pagination::Single,
    orders: &[],
    by_value: &[],
    by_elements: None,
    unknown_rows: 20.0,
};
