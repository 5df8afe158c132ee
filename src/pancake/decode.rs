//! A reply's rows → what the walk needs of each, and the cells of the columns that a query needs.
//! Nothing else is parsed: a column that nobody reads costs nothing.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::catalogue::Object;
use crate::cell::{self, Cell, Misfit, Raw};
use crate::column::Column;
use crate::conversation::Conversation;
use crate::error::{Error, Kind, Result, quote};
use crate::fields::Fields;
use crate::json;
use crate::plan::Order;
use crate::time::Micros;
use crate::walk::Spot;

/// Where a column's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A documented column of the object.
    Column(&'static Column),
    /// A JSON pointer into the row.
    Path(String),
}

impl Source {
    /// The documented column of that name, unless a `path` says otherwise.
    pub fn find(object: Object, name: &str, path: Option<&str>) -> Option<Source> {
        match path {
            Some(path) => Some(Source::Path(path.to_owned())),
            None => object.column(name).map(Source::Column),
        }
    }
}

/// A column that a query needs.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub name: String,
    pub source: Source,
}

/// A row on its way to Postgres.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: String,
    /// The time by which its chain is ordered; of no meaning where a list has no order.
    pub at: Micros,
    /// In the order of the wanted columns.
    pub cells: Vec<Cell>,
}

/// What a row does not say itself: what was asked for.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub page_id: &'a str,
    pub conversation_id: Option<&'a str>,
}

/// One row of a reply, its keys found but not read.
pub struct Served<'a> {
    whole: Cow<'a, RawValue>,
    keys: Keys<'a>,
    pub spot: Spot,
}

enum Keys<'a> {
    Conversation(Box<Conversation<'a>>),
    Other(Fields<'a>),
}

/// Reads of each row what the walk needs.
pub fn spots<'a>(object: Object, rows: &[&'a RawValue], order: Order) -> Result<Vec<Served<'a>>> {
    rows.iter().map(|whole| Served::read(object, whole, order)).collect()
}

impl<'a> Keys<'a> {
    fn read(object: Object, whole: &'a RawValue) -> serde_json::Result<Self> {
        match object {
            Object::Conversations => serde_json::from_str(whole.get()).map(Keys::Conversation),
            _ => Fields::read(whole).map(Keys::Other),
        }
    }

    fn id(&self) -> Raw<'a> {
        match self {
            Keys::Conversation(row) => row.id,
            Keys::Other(fields) => fields.get("id"),
        }
    }

    fn time(&self, order: Order) -> Raw<'a> {
        match (self, order) {
            (Keys::Conversation(row), Order::UpdatedAt) => row.updated_at,
            (Keys::Conversation(row), _) => row.inserted_at,
            (Keys::Other(fields), order) => order.column().and_then(|column| fields.get(column)),
        }
    }
}

impl<'a> Served<'a> {
    fn read(object: Object, whole: &'a RawValue, order: Order) -> Result<Self> {
        let odd = |what: String| {
            let error =
                Error::new(Kind::NotUnderstood, format!("row of the reply is not a {}", object.row()));
            // A user's pages hold their tokens.
            match object.needs_page() {
                true => error.detail(format!("{what} The row begins with \"{}\".", quote(whole.get()))),
                false => error.detail(what),
            }
        };
        let keys = whole.get().starts_with('{').then(|| Keys::read(object, whole));
        let keys = match keys {
            Some(Ok(keys)) => keys,
            Some(Err(error)) => return Err(odd(format!("It cannot be read: {error}."))),
            None => return Err(odd("It is no JSON object.".to_owned())),
        };
        let id = cell::text(keys.id()).ok_or_else(|| odd("It has no id.".to_owned()))?;
        let at = match order.column() {
            None => Micros(0),
            Some(column) => {
                let time = cell::text(keys.time(order)).ok_or_else(|| odd(format!("It has no {column}.")))?;
                Micros::parse(&time).ok_or_else(|| {
                    misfit(&id, column, "timestamp with time zone", &time)
                        .hint("Every scan needs this time of every row: it is what the list is ordered by. Please report the value.")
                })?
            }
        };
        let whole = match &keys {
            Keys::Other(fields) if !object.needs_page() => Cow::Owned(fields.without_secrets()),
            _ => Cow::Borrowed(whole),
        };
        Ok(Self { whole, keys, spot: Spot { id, at } })
    }

    pub fn post_id(&self) -> Option<String> {
        match &self.keys {
            Keys::Conversation(row) => row.post_id(),
            Keys::Other(_) => None,
        }
    }

    /// The cells that a query needs.
    pub fn cells(&self, wanted: &[Wanted], context: &Context) -> Result<Row> {
        let cell = |wanted: &Wanted| match &wanted.source {
            Source::Path(path) => Ok(Cell::json(json::pointer(&self.whole, path))),
            Source::Column(column) => self.cell(column, context).map_err(|Misfit(value)| {
                misfit(&self.spot.id, &wanted.name, "timestamp with time zone", &value)
            }),
        };
        let cells = wanted.iter().map(cell).collect::<Result<_>>()?;
        Ok(Row { id: self.spot.id.clone(), at: self.spot.at, cells })
    }

    fn cell(&self, column: &Column, context: &Context) -> Result<Cell, Misfit> {
        match &self.keys {
            Keys::Conversation(row) => row.cell(column.name, context.page_id, &self.whole),
            Keys::Other(fields) => fields.cell(column, &self.whole, context),
        }
    }
}

/// A cell that does not fit its column.
pub fn misfit(row_id: &str, column: &str, expected: &str, value: &str) -> Error {
    Error::new(Kind::BadCell, format!("value does not fit column \"{column}\""))
        .detail(format!("Row \"{}\" has the value \"{}\", expected was {expected}.", quote(row_id), quote(value)))
        .hint("Declare the column with a type that holds the value, such as text, or read it from the column raw.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: Context = Context { page_id: "1", conversation_id: None };

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn only_id_and_the_time_of_the_order_are_needed() {
        let row = raw(r#"{"id":7,"inserted_at":"2026-03-30T02:11:05","updated_at":"soon"}"#);
        let served = spots(Object::Conversations, &[&row], Order::InsertedAt).unwrap();
        assert_eq!(served[0].spot.id, "7");
        let error = spots(Object::Conversations, &[&row], Order::UpdatedAt).map(|_| ()).unwrap_err();
        assert_eq!(error.sqlstate(), "HV004");
        assert!(error.detail_text().unwrap().contains("\"7\""));
        for bad in ["[]", "null", r#"{"id":null,"inserted_at":"2026-03-30T02:11:05"}"#, r#"{"id":"1"}"#] {
            assert_eq!(
                spots(Object::Conversations, &[&raw(bad)], Order::InsertedAt)
                    .map(|_| ())
                    .unwrap_err()
                    .sqlstate(),
                "HV000",
                "{bad}"
            );
        }
    }

    #[test]
    fn a_path_reads_anything_and_a_malformed_time_names_its_place() {
        let row = raw(
            r#"{"id":"a","inserted_at":"2026-03-30T02:11:05Z","updated_at":"soon","page_customer":{"gender":"female"}}"#,
        );
        let served = spots(Object::Conversations, &[&row], Order::InsertedAt).unwrap();
        let wanted = |name: &str, path: Option<&str>| Wanted {
            name: name.to_owned(),
            source: Source::find(Object::Conversations, name, path).unwrap(),
        };
        let cells = served[0]
            .cells(&[wanted("sex", Some("/page_customer/gender")), wanted("page_id", None)], &CONTEXT)
            .unwrap();
        assert_eq!(cells.cells, [Cell::Json("\"female\"".into()), Cell::Text("1".into())]);
        let error = served[0].cells(&[wanted("updated_at", None)], &CONTEXT).map(|_| ()).unwrap_err();
        assert_eq!(error.message(), "value does not fit column \"updated_at\"");
    }
}
