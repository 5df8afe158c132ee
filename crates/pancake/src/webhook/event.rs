//! This module reads the events that Pancake posts to a webhook (docs/api.md): whose rows an event
//! is about, and what it holds of them, as JSON by column. What becomes of the stored rows is
//! decided in [`super::apply`].

use serde_json::{Map, Value};

use crate::error::Result;
use crate::json::cell::{Cell, text, whole};
use crate::json::object::{Fields, pick};
use crate::reply::decode::{Source, WantedCell, spots};
use crate::schema::catalogue::Object;
use crate::schema::column::{Column, Context};
use crate::schema::keyset::Order;
use crate::time::Micros;

/// Columns of a conversation that follow an event which holds the key.
const FOLLOWING: [&str; 4] = ["snippet", "seen", "tags", "assignee_ids"];

/// An event about a conversation, or a message in it.
#[derive(Debug, PartialEq)]
pub struct Event {
    pub page_id: String,
    pub conversation_id: String,
    /// Of an event about the conversation: a later event has a greater one.
    pub version: Option<i64>,
    /// When it was sent.
    pub at: Option<Micros>,
    /// Whether it was deleted, if the event holds that.
    pub is_removed: Option<bool>,
    /// The conversation as a row of its table, without times.
    pub row: Map<String, Value>,
    /// The columns that follow the event, and that it holds.
    pub changes: Map<String, Value>,
    pub message: Option<Message>,
}

#[derive(Debug, PartialEq)]
pub struct Message {
    pub id: String,
    pub at: Micros,
    /// The message as a row of its table.
    pub row: Map<String, Value>,
}

impl Event {
    /// Reads an event. `None` of an event of any other kind, or one that lacks what it is about.
    pub fn read(json: &str) -> Option<Self> {
        let event = Fields::read(json).ok()?;
        let kind = text(event.get("event_type"))?;
        let [conversation, message] = pick(event.get("data"), ["conversation", "message"]);
        let conversation = Fields::read(conversation?.get()).ok()?;
        let page_id = text(event.get("page_id")).or_else(|| text(conversation.get("page_id")))?.into_owned();
        let conversation_id = text(conversation.get("id"))?.into_owned();
        let context = Context { page_id: &page_id, conversation_id: Some(&conversation_id) };
        let version = text(conversation.get("version")).and_then(|version| whole(&version));
        let (version, message) = match kind.as_ref() {
            "conversation" => (Some(version?), None),
            "messaging" => (None, Some(Message::read(message?.get(), &context)?)),
            _ => return None,
        };
        let mut cells = row(Object::Conversations, &conversation, &context).ok()?;
        let following = FOLLOWING.into_iter().filter(|key| conversation.get(key).is_some());
        let changes = following.filter_map(|key| Some((key.to_owned(), cells.get(key)?.clone()))).collect();
        // What it is built from is not in an event.
        cells.remove("last_message");
        Some(Self {
            version,
            at: text(event.get("timestamp")).and_then(|at| Micros::parse(&at)),
            is_removed: truth(&conversation, "is_removed"),
            row: cells,
            changes,
            message,
            conversation_id: conversation_id.clone(),
            page_id: page_id.clone(),
        })
    }
}

impl Message {
    fn read(json: &str, context: &Context) -> Option<Self> {
        let fields = Fields::read(json).ok()?;
        let at = Micros::parse(&text(fields.get("inserted_at"))?)?;
        Some(Self {
            id: text(fields.get("id"))?.into_owned(),
            at,
            row: row(Object::Messages, &fields, context).ok()?,
        })
    }
}

fn truth(fields: &Fields, key: &str) -> Option<bool> {
    match Cell::bool(fields.get(key)) {
        Cell::Bool(value) => Some(value),
        _ => None,
    }
}

/// The cells of a row by column, those without a value left out. The times of a conversation are
/// none of an event's.
fn row(object: Object, fields: &Fields, context: &Context) -> Result<Map<String, Value>> {
    let is_absent =
        |name: &str| object == Object::Conversations && matches!(name, "inserted_at" | "updated_at");
    let columns = object.columns().iter().filter(|column| !is_absent(column.name));
    let wanted =
        |column: &'static Column| WantedCell { name: column.name.to_owned(), source: Source::Column(column) };
    let wanted: Vec<_> = columns.map(wanted).collect();
    let served = spots(object, std::slice::from_ref(fields), Order::Served)?;
    let Some(row) = served.first() else { return Ok(Map::new()) };
    let cells = row.cells(&wanted, context)?.cells;
    let by_name = wanted.into_iter().zip(&cells);
    Ok(by_name.filter_map(|(wanted, cell)| Some((wanted.name, value(cell)?))).collect())
}

fn value(cell: Cell) -> Option<Value> {
    Some(match cell {
        Cell::Null => return None,
        Cell::Text(text) => Value::from(text.as_ref()),
        Cell::Bool(value) => Value::from(value),
        Cell::Int(number) => Value::from(number),
        Cell::Time(at) => Value::from(at.iso()),
        Cell::Texts(texts) => serde_json::json!(texts),
        Cell::Json(json) => serde_json::from_str(&json).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(event: Value) -> Option<Event> {
        Event::read(&event.to_string())
    }

    fn messaging() -> Value {
        json!({
            "page_id": "1", "event_type": "messaging", "timestamp": 1_774_964_540,
            "data": {
                "conversation": {
                    "id": "1_2", "type": "INBOX", "from": {"id": "2", "name": "Lan"}, "snippet": "hi",
                    "tags": [61, null, 62], "assignee_ids": ["a"], "is_removed": false,
                },
                "message": {"id": "m", "message": "<div>hi</div>", "inserted_at": "2026-03-31T13:42:20"},
                "post": null,
            },
        })
    }

    #[test]
    fn a_message_comes_with_its_conversation() {
        let event = read(messaging()).unwrap();
        assert_eq!((event.page_id.as_str(), event.conversation_id.as_str()), ("1", "1_2"));
        assert_eq!((event.at, event.version), (Some(Micros(1_774_964_540_000_000)), None));
        assert_eq!(
            Value::from(event.changes),
            json!({"snippet": "hi", "tags": ["61", "62"], "assignee_ids": ["a"]})
        );
        assert_eq!((&event.row["customer_name"], &event.row["page_id"]), (&json!("Lan"), &json!("1")));
        assert!(event.row.get("updated_at").is_none() && event.row.get("last_message").is_none());
        let message = event.message.unwrap();
        assert_eq!((message.id.as_str(), event.is_removed), ("m", Some(false)));
        assert_eq!((&message.row["conversation_id"], &message.row["text"]), (&json!("1_2"), &json!("hi")));
        assert_eq!(message.row["inserted_at"], json!("2026-03-31T13:42:20Z"));
    }

    #[test]
    fn a_conversation_has_a_version() {
        let event = json!({
            "page_id": "1", "event_type": "conversation",
            "data": {"conversation": {"id": "1_2", "version": "7", "is_removed": true, "seen": false}},
        });
        let event = read(event).unwrap();
        assert_eq!((event.version, event.is_removed, event.at), (Some(7), Some(true), None));
        assert_eq!((Value::from(event.changes), event.message), (json!({"seen": false}), None));
    }

    #[test]
    fn other_events_are_none_of_ours() {
        let without = |pointer: &str, key: &str| {
            let mut event = messaging();
            event.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(key).unwrap();
            event
        };
        for event in [
            json!(null),
            json!([]),
            json!({}),
            json!({"event_type": "subscription", "data": {}}),
            json!({"page_id": "1", "event_type": "post", "data": {"post": {"id": "1_3"}}}),
            json!({"page_id": "1", "event_type": "conversation", "data": {"conversation": {"id": "1_2"}}}),
            json!({"page_id": "1", "event_type": "conversation", "data": null}),
            without("", "page_id"),
            without("", "event_type"),
            without("/data", "conversation"),
            without("/data", "message"),
            without("/data/conversation", "id"),
            without("/data/message", "id"),
            without("/data/message", "inserted_at"),
        ] {
            assert_eq!(read(event.clone()), None, "{event}");
        }
    }
}
