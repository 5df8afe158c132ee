//! This module reads a reply's rows: what the walk needs of each, and the cells of the columns that
//! a query needs. Nothing else is parsed: a column that no query reads costs nothing.

use std::borrow::Cow;

use crate::error::{Error, Kind, Result, quote};
use crate::json::cell::{self, Cell, TypeMismatch};
use crate::json::cells::Cells;
use crate::json::escape;
use crate::json::object::Fields;
use crate::memory;
use crate::schema::catalogue::Object;
use crate::schema::column::{Column, Context, time_of};
use crate::schema::conversation::Conversation;
use crate::schema::keyset::{Order, RowKey};
use crate::time::Micros;

/// Where a column's value comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A documented column of the object.
    Column(&'static Column),
    /// A JSON pointer into the row.
    Path(String),
}

impl Source {
    /// The documented column of that name, unless the column has a `path`.
    pub fn find(object: Object, name: &str, path: Option<&str>) -> Option<Source> {
        match path {
            Some(path) => Some(Source::Path(path.to_owned())),
            None => object.column(name).map(Source::Column),
        }
    }
}

/// A column that a query needs.
#[derive(Clone, Debug)]
pub struct WantedCell {
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
    pub cells: Cells,
}

impl Row {
    /// The bytes that it takes.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.id.capacity() + self.cells.allocated()
    }
}

/// One row of a reply, its keys found but not read.
pub struct ServedRow<'r, 'a> {
    row: &'r Fields<'a>,
    pub spot: RowKey,
}

/// Reads of each row what the walk needs.
pub fn spots<'r, 'a>(object: Object, rows: &'r [Fields<'a>], order: Order) -> Result<Vec<ServedRow<'r, 'a>>> {
    rows.iter().map(|row| ServedRow::read(object, row, order)).collect()
}

/// A row that is none of the list's.
pub fn odd(object: Object, what: &str, row: &str) -> Error {
    let error = Error::new(Kind::NotUnderstood, format!("row of the reply is not a {}", object.row()));
    // A user's pages hold their tokens.
    if object.needs_page() {
        error.detail(format!("{what} The row begins with \"{}\".", quote(row)))
    } else {
        error.detail(what)
    }
}

impl<'r, 'a> ServedRow<'r, 'a> {
    fn read(object: Object, row: &'r Fields<'a>, order: Order) -> Result<Self> {
        let odd = |what: &str| odd(object, what, &row.whole());
        let column = order.column();
        if let Some(key) = ["id"].into_iter().chain(column).find(|key| row.is_doubled(key)) {
            return Err(odd(&format!("It has two of the key {key}.")));
        }
        let id = cell::text(row.get("id")).ok_or_else(|| odd("It has no id."))?;
        let (at, is_dated) = match column {
            None => (Micros(0), true),
            Some(column) => time_of(row, column).map_err(|TypeMismatch(time)| {
                type_mismatch(&id, column, "timestamp with time zone", &time)
                    .hint("Every scan needs this time of every row: it is what the list is ordered by. Please report the value.")
            })?,
        };
        Ok(Self { row, spot: RowKey { id: id.into_owned(), at, is_dated } })
    }

    pub fn post_id(&self) -> Option<String> {
        cell::text(self.row.get("post_id")).map(Cow::into_owned)
    }

    /// The cells that a query needs.
    pub fn cells(&self, wanted: &[WantedCell], context: &Context) -> Result<Row> {
        let row = self.row;
        if !wanted.is_empty() {
            memory::probe_decoding(row.size(), wanted.len())?;
        }
        let conversation = Conversation::new(row, context.page_id);
        let read = |wanted: &WantedCell| match &wanted.source {
            Source::Path(path) if path.is_empty() => Ok(Cell::Json(row.whole().into())),
            Source::Path(path) => Ok(Cell::json(escape::pointer(row, path))),
            Source::Column(column) => {
                column.cell(row, &conversation, context).map_err(|TypeMismatch(value)| {
                    type_mismatch(&self.spot.id, &wanted.name, "timestamp with time zone", &value)
                })
            }
        };
        let mut cells = Cells::with_capacity(wanted.len());
        wanted.iter().try_for_each(|wanted| read(wanted).map(|cell| cells.push(cell)))?;
        Ok(Row { id: self.spot.id.clone(), at: self.spot.at, cells })
    }
}

/// A cell that does not fit its column.
pub fn type_mismatch(row_id: &str, column: &str, expected: &str, value: &str) -> Error {
    Error::new(Kind::BadCell, format!("value does not fit column \"{column}\""))
        .detail(format!("Row \"{}\" has the value \"{}\", expected was {expected}.", quote(row_id), quote(value)))
        .hint("Declare the column with a type that holds the value, such as text, or read it from the column raw.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: Context = Context { page_id: "1", conversation_id: None };

    fn rows(json: &str) -> [Fields<'_>; 1] {
        [Fields::read(json).unwrap()]
    }

    #[test]
    fn only_id_and_the_time_of_the_order_are_needed() {
        let row = rows(r#"{"id":7,"inserted_at":"2026-03-30T02:11:05","updated_at":"soon"}"#);
        let served = spots(Object::Conversations, &row, Order::InsertedAt).unwrap();
        assert_eq!(served[0].spot.id, "7");
        let error = spots(Object::Conversations, &row, Order::UpdatedAt).map(|_| ()).unwrap_err();
        assert_eq!(error.sqlstate(), "HV004");
        assert!(error.detail_text().unwrap().contains("\"7\""));
        for bad in [
            "{}",
            r#"{"id":"1","id":"2","inserted_at":"2026-03-30T02:11:05"}"#,
            r#"{"id":null,"inserted_at":"2026-03-30T02:11:05"}"#,
        ] {
            let error = spots(Object::Conversations, &rows(bad), Order::InsertedAt).map(|_| ()).unwrap_err();
            assert_eq!(error.sqlstate(), "HV000", "{bad}");
        }
    }

    #[test]
    fn a_path_reads_anything_and_a_malformed_time_names_its_place() {
        let row = rows(
            r#"{"id":"a","inserted_at":"2026-03-30T02:11:05Z","updated_at":"soon","page_customer":{"gender":"female"}}"#,
        );
        let served = spots(Object::Conversations, &row, Order::InsertedAt).unwrap();
        let wanted = |name: &str, path: Option<&str>| WantedCell {
            name: name.to_owned(),
            source: Source::find(Object::Conversations, name, path).unwrap(),
        };
        let row = served[0]
            .cells(&[wanted("sex", Some("/page_customer/gender")), wanted("page_id", None)], &CONTEXT)
            .unwrap();
        assert!(row.cells.into_iter().eq([Cell::Json("\"female\"".into()), Cell::Text("1".into())]));
        let error = served[0].cells(&[wanted("updated_at", None)], &CONTEXT).map(|_| ()).unwrap_err();
        assert_eq!(error.message(), "value does not fit column \"updated_at\"");
    }
}
