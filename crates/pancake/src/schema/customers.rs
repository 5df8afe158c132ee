//! This module holds the table `customers` (docs/api.md).

use crate::schema::column::From::{Birthday, Page, Path, Phones, Row};
use crate::schema::column::columns;
use crate::schema::table::{BOTH, Pagination, Shape, Table};

columns! {
    COLUMNS:
    "id" Text not_null;
    "page_id" Text not_null <- Page;
    "customer_id" Text;
    "conversation_id" Text <- Path("/thread_id");
    "psid" Text;
    "name" Text;
    // A text, because a birthday of which only the year is known is 1998-00-00.
    "birthday" Text <- Birthday;
    "gender" Text;
    "phone_numbers" TextArray not_null <- Phones;
    "emails" TextArray not_null;
    "can_inbox" Bool;
    "inserted_at" Time not_null;
    "updated_at" Time not_null;
    "raw" Jsonb <- Row;
}

pub const TABLE: Table = Table {
    name: "customers",
    row: "customer",
    columns: COLUMNS,
    path: "public_api/v1/pages/{page_id}/page_customers",
    shape: Shape::List,
    pagination: Pagination::TimeSlices { batch: 100 },
    orders: BOTH,
    by_value: &[],
    by_elements: None,
    unknown_rows: 4_000.0,
};
