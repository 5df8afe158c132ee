//! This module holds the table `tags` (docs/api.md).

use crate::schema::column::From::{Page, Row};
use crate::schema::column::columns;
use crate::schema::table::{Pagination, Shape, Table};

columns! {
    COLUMNS:
    "id" Text not_null;
    "page_id" Text not_null <- Page;
    "text" Text;
    "color" Text;
    "description" Text;
    "is_lead_event" Bool;
    "is_deactive" Bool;
    "raw" Jsonb <- Row;
}

pub const TABLE: Table = Table {
    name: "tags",
    row: "tag",
    columns: COLUMNS,
    path: "public_api/v1/pages/{page_id}/tags",
    shape: Shape::List,
    pagination: Pagination::Single,
    orders: &[],
    by_value: &[],
    by_elements: None,
    unknown_rows: 20.0,
};
