//! This module holds the table `conversations` (docs/api.md), and how each column is read from a
//! row. Only `id` and the two times are needed.

use crate::json::cell::Cell;
use crate::schema::column::From::{Made, Page, Row};
use crate::schema::column::columns;
use crate::schema::table::{BOTH, ByValue, Pagination, Shape, Table};

columns! {
    COLUMNS:
    "id" Text not_null;
    "page_id" Text not_null <- Page;
    "type" Text;
    "post_id" Text;
    "customer_id" Text <- Made(|row| Cell::text(row.customer_id()));
    "customer_name" Text <- Made(|row| row.customer_name().map_or(Cell::Null, Cell::Text));
    "phone_numbers" TextArray not_null <- Made(|row| Cell::Texts(row.phones().iter().cloned().map(Some).collect()));
    "tags" TextArray not_null <- Made(|row| Cell::Texts(row.tags().iter().map(|(id, _)| Some(id.clone())).collect()));
    "tag_names" TextArray not_null <- Made(|row| Cell::Texts(row.tags().iter().map(|(_, name)| name.clone()).collect()));
    "ad_ids" TextArray not_null;
    "assignee_ids" TextArray not_null;
    "snippet" Text <- Made(|row| Cell::text(row.snippet()));
    "seen" Bool;
    "has_phone" Bool;
    "message_count" Int;
    "last_sent_by_id" Text <- Made(|row| Cell::text(row.last_sent_by().id));
    "last_sent_by_name" Text <- Made(|row| Cell::text(row.last_sent_by().name));
    "last_staff_id" Text <- Made(|row| Cell::text(row.last_sent_by().uid));
    "last_staff_name" Text <- Made(|row| Cell::text(row.last_sent_by().admin_name));
    "inserted_at" Time not_null;
    "updated_at" Time not_null;
    "last_message" Jsonb <- Made(|row| row.last_message());
    "participants" Jsonb <- Made(|row| row.participants_cell());
    "raw" Jsonb <- Row;
}

pub const TABLE: Table = Table {
    name: "conversations",
    row: "conversation",
    columns: COLUMNS,
    path: "public_api/v2/pages/{page_id}/conversations",
    shape: Shape::List,
    pagination: Pagination::Cursor,
    orders: BOTH,
    by_value: &[
        ByValue { column: "type", values: &["INBOX", "COMMENT"] },
        ByValue { column: "post_id", values: &[] },
    ],
    by_elements: Some("tags"),
    unknown_rows: 6_000.0,
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::json::object::Fields;
    use crate::schema::catalogue::Object;
    use crate::schema::column::Context;
    use crate::schema::conversation::Conversation;

    const OBSERVED: &str = r##"{"id":"1_7","type":"INBOX","page_id":"1","post_id":null,"snippet":"Size M?","seen":true,
        "message_count":39,"has_phone":true,"inserted_at":"2026-03-30T02:11:05.123456","updated_at":"2026-03-31T13:42:20.207000",
        "from":{"id":"7","name":"Khách A","email":"7@facebook.com"},
        "last_sent_by":{"id":"1","name":"Shop X","admin_name":"NV B","uid":"1111"},"customer_id":"2222",
        "customers":[{"id":"3333","fb_id":"7","name":"Khách A"}],"page_customer":{"id":"3333","customer_id":"2222","name":"Khách A"},
        "tags":[{"id":61,"text":"Đã mua","color":"#4b5577"},null,{"id":"62","text":"VIP"}],
        "recent_phone_numbers":[{"phone_number":"0900000000","captured":"0900.000.000"},"0911"],"ad_ids":["12"],"assignee_ids":[]}"##;
    const ARTICLE: &str = r#"{"id":"conv_1","type":"INBOX","page_uid":"1","updated_at":"2026-05-28T08:14:22Z","inserted_at":"2026-05-20T03:11:05Z",
        "tags":["t1",62],"last_message":{"text":"Chào","sender":"customer","created_at":"2026-05-28T15:14:22+07:00"},
        "participants":[{"name":"Văn A","email":null,"phone":"0901"}]}"#;

    fn cell(json: &'static str, column: &str) -> Cell<'static> {
        let row = Fields::read(json).unwrap();
        let context = Context { page_id: "1", conversation_id: None };
        let column = Object::Conversations.column(column).unwrap();
        column.cell(&row, &Conversation::new(&row, "1"), &context).unwrap()
    }

    fn some(texts: &[&'static str]) -> Cell<'static> {
        Cell::Texts(texts.iter().map(|t| Some((*t).into())).collect())
    }

    fn as_json(cell: Cell) -> serde_json::Value {
        match cell {
            Cell::Json(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_observed_shape() {
        assert_eq!(cell(OBSERVED, "customer_name"), Cell::Text("Khách A".into()));
        assert_eq!(cell(OBSERVED, "phone_numbers"), some(&["0900000000", "0911"]));
        assert_eq!(cell(OBSERVED, "tags"), some(&["61", "62"]));
        assert_eq!(cell(OBSERVED, "tag_names"), some(&["Đã mua", "VIP"]));
        assert_eq!(cell(OBSERVED, "last_staff_name"), Cell::Text("NV B".into()));
        assert_eq!(cell(OBSERVED, "message_count"), Cell::Int(39));
        assert_eq!(cell(OBSERVED, "post_id"), Cell::Null);
        assert_eq!(
            as_json(cell(OBSERVED, "last_message")),
            json!({"text": "Size M?", "sender": "page", "created_at": "2026-03-31T13:42:20.207Z"})
        );
        assert_eq!(
            as_json(cell(OBSERVED, "participants")),
            json!([{"name": "Khách A", "email": "7@facebook.com", "phone": "0900000000"}])
        );
    }

    #[test]
    fn the_article_shape() {
        assert_eq!(cell(ARTICLE, "customer_name"), Cell::Text("Văn A".into()));
        assert_eq!(cell(ARTICLE, "phone_numbers"), some(&["0901"]));
        assert_eq!(cell(ARTICLE, "tags"), some(&["t1", "62"]));
        assert_eq!(cell(ARTICLE, "tag_names"), Cell::Texts(vec![None, None]));
        assert_eq!(cell(ARTICLE, "snippet"), Cell::Text("Chào".into()));
        assert_eq!(as_json(cell(ARTICLE, "last_message"))["created_at"], "2026-05-28T08:14:22Z");
        assert_eq!(cell(ARTICLE, "seen"), Cell::Null);
        assert_eq!(cell(ARTICLE, "ad_ids"), some(&[]));
    }
}
