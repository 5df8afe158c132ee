//! The keys of a row, and the cells that the column tables of [`crate::lists`] make of them. Any key may be missing,
//! null or of another type tomorrow: what does not fit is a text for Postgres to judge.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cell::{Cell, Misfit, Raw, list, text, texts};
use crate::column::{Column, From, Type};
use crate::decode::Context;
use crate::json;

/// The keys of one row, their values unparsed.
pub struct Fields<'a>(HashMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Fields<'a> {
    pub fn read(row: &'a RawValue) -> serde_json::Result<Self> {
        serde_json::from_str(row.get()).map(Self)
    }

    pub fn get(&self, key: &str) -> Raw<'a> {
        self.0.get(key).copied()
    }

    /// The row without the keys that may hold a secret: settings, and whatever calls itself a token.
    pub fn without_secrets(&self) -> Box<RawValue> {
        let secret = |key: &str| key == "settings" || key.to_lowercase().contains("token");
        let kept: HashMap<_, _> = self.0.iter().filter(|(key, _)| !secret(key)).collect();
        serde_json::value::to_raw_value(&kept).unwrap_or_default()
    }

    pub fn cell(&self, column: &Column, row: &RawValue, context: &Context) -> Result<Cell, Misfit> {
        let value = match column.from {
            From::Page => return Ok(Cell::Text(context.page_id.to_owned())),
            From::Conversation => {
                return Ok(context.conversation_id.map_or(Cell::Null, |id| Cell::Text(id.into())));
            }
            From::Row | From::Made => return Ok(Cell::Json(row.get().to_owned())),
            From::Phones => return Ok(phones(self.get(column.name))),
            From::Key => self.get(column.name),
            From::Path(path) => json::pointer(row, path),
        };
        Ok(match column.of {
            Type::Text | Type::Numeric => Cell::text(value),
            Type::TextArray => texts(value),
            Type::Bool => Cell::bool(value),
            Type::Int => Cell::int(value),
            Type::Time => Cell::time(value)?,
            Type::Jsonb => Cell::json(value),
        })
    }
}

#[derive(Default, Deserialize)]
struct Phone<'a> {
    #[serde(borrow, default)]
    phone_number: Raw<'a>,
}

/// The number of an entry of `recent_phone_numbers` or `phone_numbers`: an object or a plain string.
pub fn phone(entry: Raw) -> Option<String> {
    match entry.is_some_and(|raw| raw.get().starts_with('{')) {
        true => {
            let phone: Option<Phone> = entry.and_then(|raw| serde_json::from_str(raw.get()).ok());
            text(phone?.phone_number)
        }
        false => text(entry),
    }
}

fn phones(raw: Raw) -> Cell {
    Cell::Texts(list(raw).into_iter().filter_map(phone).map(Some).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Object;

    fn cell(object: Object, column: &str, row: &str) -> Cell {
        let row: &RawValue = serde_json::from_str(row).unwrap();
        let context = Context { page_id: "p", conversation_id: Some("c") };
        let column = object.column(column).unwrap();
        Fields::read(row).unwrap().cell(column, row, &context).unwrap()
    }

    #[test]
    fn what_is_odd_is_a_text_for_postgres_to_judge() {
        assert_eq!(cell(Object::Tags, "id", r#"{"id":61}"#), Cell::Text("61".into()));
        assert_eq!(
            cell(Object::Posts, "comment_count", r#"{"comment_count":"12"}"#),
            Cell::Text("12".into())
        );
        assert_eq!(cell(Object::Customers, "emails", r#"{"emails":null}"#), Cell::Texts(vec![]));
        assert_eq!(
            cell(Object::Customers, "birthday", r#"{"birthday":"1998-00-00"}"#),
            Cell::Text("1998-00-00".into())
        );
        let phones =
            cell(Object::Customers, "phone_numbers", r#"{"phone_numbers":["1",null,{"phone_number":"2"}]}"#);
        assert_eq!(phones, Cell::Texts(vec![Some("1".into()), Some("2".into())]));
        assert_eq!(
            cell(Object::Messages, "from_staff_id", r#"{"from":{"uid":"u"}}"#),
            Cell::Text("u".into())
        );
        assert_eq!(cell(Object::Messages, "from_staff_id", r#"{"from":null}"#), Cell::Null);
        assert_eq!(
            cell(Object::Messages, "conversation_id", r#"{"conversation_id":"other"}"#),
            Cell::Text("c".into())
        );
    }

    #[test]
    fn a_row_loses_what_may_be_secret() {
        let row: &RawValue = serde_json::from_str(
            r#"{"id":"1","settings":{"page_access_token":"MARKER"},"Access_Token":"MARKER","rate":1.50}"#,
        )
        .unwrap();
        let shown = Fields::read(row).unwrap().without_secrets();
        assert!(!shown.get().contains("MARKER") && shown.get().contains("1.50"), "{shown}");
    }
}
