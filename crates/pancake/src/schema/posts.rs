//! This module holds the table `posts` (docs/api.md).

use crate::schema::column::From::{Page, Row};
use crate::schema::column::columns;
use crate::schema::table::{ByValue, INSERTED, Pagination, Shape, Table};

columns! {
    COLUMNS:
    "id" Text not_null;
    "page_id" Text not_null <- Page;
    "type" Text;
    "message" Text;
    "comment_count" Int;
    "reactions" Jsonb;
    "phone_number_count" Int;
    "inserted_at" Time not_null;
    "raw" Jsonb <- Row;
}

pub const TABLE: Table = Table {
    name: "posts",
    row: "post",
    columns: COLUMNS,
    path: "public_api/v1/pages/{page_id}/posts",
    shape: Shape::List,
    pagination: Pagination::TimeSlices { batch: 30 },
    orders: INSERTED,
    by_value: &[ByValue { column: "type", values: &["video", "photo", "text", "livestream"] }],
    by_elements: None,
    unknown_rows: 300.0,
};
