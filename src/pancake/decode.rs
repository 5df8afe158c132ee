//! A reply's rows → what the walk needs of each, and the cells of the columns that a query needs.
//! Nothing else is parsed: a column that nobody reads costs nothing.

use serde_json::value::RawValue;

use crate::catalogue::Object;
use crate::cell::{self, Cell, Misfit};
use crate::conversation::Conversation;
use crate::error::{Error, Kind, Result, quote};
use crate::json;
use crate::plan::Order;
use crate::time::Micros;
use crate::walk::Spot;

/// Where a column's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A documented column of the object.
    Column(&'static str),
    /// A JSON pointer into the row.
    Path(String),
}

impl Source {
    /// The documented column of that name, unless a `path` says otherwise.
    pub fn find(object: Object, name: &str, path: Option<&str>) -> Option<Source> {
        match path {
            Some(path) => Some(Source::Path(path.to_owned())),
            None => object.column(name).map(|column| Source::Column(column.name)),
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
    /// The time by which its chain is ordered.
    pub at: Micros,
    /// In the order of the wanted columns.
    pub cells: Vec<Cell>,
}

/// One conversation of a reply, its keys found but not read.
pub struct Served<'a> {
    whole: &'a RawValue,
    row: Conversation<'a>,
    pub spot: Spot,
}

/// Reads of each row what the walk needs.
pub fn spots<'a>(rows: &[&'a RawValue], order: Order) -> Result<Vec<Served<'a>>> {
    rows.iter().map(|whole| Served::read(whole, order)).collect()
}

impl<'a> Served<'a> {
    fn read(whole: &'a RawValue, order: Order) -> Result<Self> {
        let odd = |what: String| {
            let shown = format!("The row begins with \"{}\".", quote(whole.get()));
            Error::new(Kind::NotUnderstood, "row of the reply is not a conversation")
                .detail(format!("{what} {shown}"))
        };
        let object = whole.get().starts_with('{').then(|| serde_json::from_str::<Conversation>(whole.get()));
        let row = match object {
            Some(Ok(row)) => row,
            Some(Err(error)) => return Err(odd(format!("It cannot be read: {error}."))),
            None => return Err(odd("It is no JSON object.".to_owned())),
        };
        let id = cell::text(row.id).ok_or_else(|| odd("It has no id.".to_owned()))?;
        let column = order.column();
        let time = match order {
            Order::InsertedAt => row.inserted_at,
            Order::UpdatedAt => row.updated_at,
        };
        let time = cell::text(time).ok_or_else(|| odd(format!("It has no {column}.")))?;
        let at =
            Micros::parse(&time).ok_or_else(|| {
                misfit(&id, column, "timestamp with time zone", &time)
                    .hint("Every scan needs this time of every row: it is what the list is ordered by. Please report the value.")
            })?;
        Ok(Self { whole, row, spot: Spot { id, at } })
    }

    pub fn post_id(&self) -> Option<String> {
        self.row.post_id()
    }

    /// The cells that a query needs.
    pub fn cells(&self, wanted: &[Wanted], page_id: &str) -> Result<Row> {
        let cell = |wanted: &Wanted| match &wanted.source {
            Source::Path(path) => Ok(Cell::json(json::pointer(self.whole, path))),
            Source::Column(name) => self.row.cell(name, page_id, self.whole).map_err(|Misfit(value)| {
                misfit(&self.spot.id, &wanted.name, "timestamp with time zone", &value)
            }),
        };
        let cells = wanted.iter().map(cell).collect::<Result<_>>()?;
        Ok(Row { id: self.spot.id.clone(), at: self.spot.at, cells })
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

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn only_id_and_the_time_of_the_order_are_needed() {
        let row = raw(r#"{"id":7,"inserted_at":"2026-03-30T02:11:05","updated_at":"soon"}"#);
        let served = spots(&[&row], Order::InsertedAt).unwrap();
        assert_eq!(served[0].spot.id, "7");
        let error = spots(&[&row], Order::UpdatedAt).map(|_| ()).unwrap_err();
        assert_eq!(error.sqlstate(), "HV004");
        assert!(error.detail_text().unwrap().contains("\"7\""));
        for bad in ["[]", "null", r#"{"id":null,"inserted_at":"2026-03-30T02:11:05"}"#, r#"{"id":"1"}"#] {
            assert_eq!(
                spots(&[&raw(bad)], Order::InsertedAt).map(|_| ()).unwrap_err().sqlstate(),
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
        let served = spots(&[&row], Order::InsertedAt).unwrap();
        let wanted = |name: &str, path: Option<&str>| Wanted {
            name: name.to_owned(),
            source: Source::find(Object::Conversations, name, path).unwrap(),
        };
        let cells = served[0]
            .cells(&[wanted("sex", Some("/page_customer/gender")), wanted("page_id", None)], "1")
            .unwrap();
        assert_eq!(cells.cells, [Cell::Json("\"female\"".into()), Cell::Text("1".into())]);
        let error = served[0].cells(&[wanted("updated_at", None)], "1").map(|_| ()).unwrap_err();
        assert_eq!(error.message(), "value does not fit column \"updated_at\"");
    }
}
