//! This module returns what an event of Pancake's webhooks holds, for `pancake.ingest`.

use pancake::webhook::Event;
use pgrx::datum::{JsonB, TimestampWithTimeZone};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use serde_json::{Map, Value};

use crate::fdw::functions::time;

/// Behind `pancake.ingest`: no row of an event that is none of conversations or messages.
#[pg_extern(sql = false)]
#[expect(clippy::type_complexity, reason = "the columns of a function")]
fn pancake_fdw_webhook_event(
    event: String,
) -> TableIterator<
    'static,
    (
        name!(page_id, String),
        name!(conversation_id, String),
        name!(version, Option<i64>),
        name!(sent_at, Option<TimestampWithTimeZone>),
        name!(is_removed, Option<bool>),
        name!(conversation, JsonB),
        name!(changes, JsonB),
        name!(message_id, Option<String>),
        name!(message_at, Option<TimestampWithTimeZone>),
        name!(message, Option<JsonB>),
    ),
> {
    let json = |cells: Map<String, Value>| JsonB(Value::Object(cells));
    let row = |event: Event| {
        let (id, at, message) = match event.message {
            Some(message) => (Some(message.id), time(Some(message.at)), Some(json(message.row))),
            None => (None, None, None),
        };
        (
            event.page_id,
            event.conversation_id,
            event.version,
            time(event.at),
            event.is_removed,
            json(event.row),
            json(event.changes),
            id,
            at,
            message,
        )
    };
    TableIterator::new(Event::read(&event).map(row))
}
