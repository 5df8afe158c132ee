//! One value of a row on its way to Postgres, and the readers of loosely typed JSON.
//! Which key feeds which column is said by [`crate::column`]; how a cell becomes a datum, by the extension.

use std::borrow::Cow;

use memchr::memchr;
use serde_json::value::RawValue;

use crate::fields::pick;
use crate::time::Micros;

#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    Bool(bool),
    Int(i64),
    Time(Micros),
    Texts(Vec<Option<Cow<'a, str>>>),
    /// JSON text, as served.
    Json(Cow<'a, str>),
}

/// A value of a reply that cannot stand in its column; the text is the value as served.
#[derive(Debug, PartialEq)]
pub struct Misfit(pub String);

pub type Raw<'a> = Option<&'a RawValue>;

/// The text of a JSON scalar: a string unescaped, anything else as it is written. `None` for null.
pub fn text(raw: Raw<'_>) -> Option<Cow<'_, str>> {
    let json = raw?.get();
    match json.as_bytes() {
        // It was read as a JSON string: what has no escapes stands there as it is.
        [b'"', inside @ .., b'"'] if memchr(b'\\', inside).is_none() => Some(json[1..json.len() - 1].into()),
        [b'"', ..] => serde_json::from_str(json).ok().map(Cow::Owned),
        [] | [b'n', ..] => None,
        _ => Some(json.into()),
    }
}

impl<'a> Cell<'a> {
    pub fn text(raw: Raw<'a>) -> Self {
        text(raw).map_or(Cell::Null, Cell::Text)
    }

    /// A JSON boolean, or a text for Postgres to judge.
    pub fn bool(raw: Raw<'a>) -> Self {
        match raw.map(RawValue::get) {
            Some("true") => Cell::Bool(true),
            Some("false") => Cell::Bool(false),
            _ => Cell::text(raw),
        }
    }

    /// A JSON integer, or a text for Postgres to judge.
    pub fn int(raw: Raw<'a>) -> Self {
        match raw.and_then(|raw| raw.get().parse().ok()) {
            Some(number) => Cell::Int(number),
            None => Cell::text(raw),
        }
    }

    pub fn time(raw: Raw<'a>) -> Result<Self, Misfit> {
        let Some(text) = text(raw) else { return Ok(Cell::Null) };
        Micros::parse(&text).map(Cell::Time).ok_or_else(|| Misfit(text.into_owned()))
    }

    pub fn json(raw: Raw<'a>) -> Self {
        match raw.map(RawValue::get) {
            None | Some("null") => Cell::Null,
            Some(json) => Cell::Json(json.into()),
        }
    }
}

/// The elements of a JSON list; nothing where there is no list.
pub fn list<'a>(raw: Raw<'a>) -> Vec<Raw<'a>> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

/// The texts of a JSON list of scalars, nulls dropped.
pub fn texts(raw: Raw<'_>) -> Cell<'_> {
    Cell::Texts(list(raw).into_iter().filter_map(text).map(Some).collect())
}

pub fn is_object(raw: Raw) -> bool {
    raw.is_some_and(|raw| raw.get().starts_with('{'))
}

/// The numbers of a list of phone numbers, which are objects or plain strings.
pub fn phones(raw: Raw<'_>) -> Vec<Cow<'_, str>> {
    let number = |entry| match is_object(entry) {
        true => {
            let [number] = pick(entry, ["phone_number"]);
            text(number)
        }
        false => text(entry),
    };
    list(raw).into_iter().filter_map(number).collect()
}
