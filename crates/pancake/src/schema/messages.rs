//! This module holds the table `messages` (docs/api.md), and makes the columns that several keys of
//! a row feed: the text, whether a machine wrote it, and which member of staff did.

use std::borrow::Cow;

use crate::json::cell::{Cell, Raw, is_object, text};
use crate::json::object::{Fields, pick};
use crate::schema::column::From::{Conversation, Keys, Page, Path, Row};
use crate::schema::column::columns;
use crate::schema::html;
use crate::schema::table::{ByValue, INSERTED, Pagination, Shape, Table};

columns! {
    COLUMNS:
    "id" Text not_null;
    // What was asked for: a comment's own key may name its parent.
    "conversation_id" Text not_null <- Conversation;
    "page_id" Text not_null <- Page;
    "type" Text;
    "from_id" Text <- Path("/from/id");
    "from_name" Text <- Path("/from/name");
    "from_staff_id" Text <- Keys(from_staff_id);
    "from_staff_name" Text <- Path("/from/admin_name");
    "from_bot" Bool <- Keys(from_bot);
    "message" Text;
    "original_message" Text;
    "text" Text <- Keys(words);
    "attachments" Jsonb;
    "seen" Bool;
    "has_phone" Bool;
    "is_hidden" Bool;
    "is_removed" Bool;
    "inserted_at" Time not_null;
    "raw" Jsonb <- Row;
}

/// Messages of a conversation that the planner assumes before ANALYZE.
pub const OF_A_CONVERSATION: f64 = 20.0;

pub const TABLE: Table = Table {
    name: "messages",
    row: "message",
    columns: COLUMNS,
    path: "public_api/v1/pages/{page_id}/conversations/{conversation_id}/messages",
    shape: Shape::List,
    pagination: Pagination::Offset,
    orders: INSERTED,
    by_value: &[ByValue { column: "conversation_id", values: &[] }],
    by_elements: None,
    // A condition on the conversation, which the planner takes for one row in two hundred, leaves
    // those of one.
    unknown_rows: 200.0 * OF_A_CONVERSATION,
};

/// Returns `original_message`, or, because that is empty in up to a quarter of all rows, the text
/// of `message`. Pictures and stickers have neither: their text is empty. A row without both keys
/// has none.
pub fn words<'a>(row: &Fields<'a>) -> Cell<'a> {
    let string =
        |key| row.get(key).filter(|value| value.get().starts_with('"')).and_then(|value| text(Some(value)));
    let original = string("original_message");
    if let Some(original) = original.clone().filter(|original| !original.is_empty()) {
        return Cell::Text(original);
    }
    let html = string("message").map(|message| match message {
        Cow::Borrowed(message) => html::text(message),
        Cow::Owned(message) => Cow::Owned(html::text(&message).into_owned()),
    });
    html.or(original).map_or(Cell::Null, Cell::Text)
}

/// Returns whether a machine wrote the message, although it is attributed to a member of the staff.
/// Null if the row does not hold its sender.
pub fn from_bot<'a>(row: &Fields<'a>) -> Cell<'a> {
    let from = row.get("from").filter(|from| is_object(Some(from)));
    let keys = ["ai_generated", "is_automated"];
    let is_true = |value: Raw| value.is_some_and(|value| matches!(value.get(), "true" | "\"true\"" | "1"));
    if pick(from, keys).into_iter().chain(keys.map(|key| row.get(key))).any(is_true) {
        Cell::Bool(true)
    } else if from.is_some() {
        Cell::Bool(false)
    } else {
        Cell::Null
    }
}

/// Returns the id of the member of staff who wrote the message. Some rows have it as `uid`, some as
/// `admin_id`.
pub fn from_staff_id<'a>(row: &Fields<'a>) -> Cell<'a> {
    let [uid, admin_id] = pick(row.get("from"), ["uid", "admin_id"]);
    text(uid).or_else(|| text(admin_id)).map_or(Cell::Null, Cell::Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(json: &str) -> Fields<'_> {
        Fields::read(json).unwrap()
    }

    fn some(text: &str) -> Cell<'_> {
        Cell::Text(text.into())
    }

    #[test]
    fn the_text_is_the_plain_one_else_that_of_the_html() {
        for (json, expected) in [
            (r#"{"original_message":"a <b>","message":"<div>b</div>"}"#, some("a <b>")),
            (r#"{"original_message":"","message":"<div>b &amp; c</div>"}"#, some("b & c")),
            (r#"{"original_message":"","message":"<div>say \"b\"<br>c</div>"}"#, some("say \"b\"\nc")),
            (r#"{"original_message":null,"message":"b"}"#, some("b")),
            (r#"{"message":"<div></div>"}"#, some("")),
            (r#"{"original_message":"","message":""}"#, some("")),
            (r#"{"original_message":"","message":null}"#, some("")),
            (r#"{"original_message":7,"message":{"a":1}}"#, Cell::Null),
            (r#"{"original_message":null}"#, Cell::Null),
            ("{}", Cell::Null),
        ] {
            assert_eq!(words(&row(json)), expected, "{json}");
        }
    }

    #[test]
    fn a_machine_writes_in_the_name_of_the_staff() {
        for (json, expected) in [
            (r#"{"from":{"uid":"u","ai_generated":true}}"#, Cell::Bool(true)),
            (r#"{"from":{"uid":"u","ai_generated":false,"is_automated":true}}"#, Cell::Bool(true)),
            (r#"{"from":{"uid":"u"},"is_automated":true}"#, Cell::Bool(true)),
            (r#"{"ai_generated":true}"#, Cell::Bool(true)),
            (r#"{"from":{"uid":"u","ai_generated":false,"is_automated":null}}"#, Cell::Bool(false)),
            (r#"{"from":{}}"#, Cell::Bool(false)),
            (r#"{"from":null,"ai_generated":false}"#, Cell::Null),
            (r#"{"from":"u"}"#, Cell::Null),
            ("{}", Cell::Null),
        ] {
            assert_eq!(from_bot(&row(json)), expected, "{json}");
        }
    }

    #[test]
    fn the_staff_has_one_of_two_keys() {
        for (json, expected) in [
            (r#"{"from":{"uid":"u","admin_id":"a"}}"#, some("u")),
            (r#"{"from":{"uid":null,"admin_id":"a"}}"#, some("a")),
            (r#"{"from":{"admin_id":7}}"#, some("7")),
            (r#"{"from":{"id":"1"}}"#, Cell::Null),
            ("{}", Cell::Null),
        ] {
            assert_eq!(from_staff_id(&row(json)), expected, "{json}");
        }
    }
}
