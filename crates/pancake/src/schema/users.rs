//! This module holds the table `users`, the staff of a page (docs/api.md). Staff who left are users
//! still: conversations name them.

use crate::schema::column::From::{Page, Row};
use crate::schema::column::columns;
use crate::schema::table::{Pagination, Shape, Table};

columns! {
    COLUMNS:
    "id" Text not_null;
    "page_id" Text not_null <- Page;
    "name" Text;
    "status" Text;
    "fb_id" Text;
    "email" Text;
    "is_online" Bool;
    "raw" Jsonb <- Row;
}

pub const TABLE: Table = Table {
    name: "users",
    row: "user",
    columns: COLUMNS,
    path: "public_api/v1/pages/{page_id}/users",
    shape: Shape::ListAnd("disabled_users"),
    pagination: Pagination::Single,
    orders: &[],
    by_value: &[],
    by_elements: None,
    unknown_rows: 20.0,
};
