//! This module defines a documented column: its name, its type, and where in a row it is read from.
//! Which object has which columns is defined in the object's own table. What does not fit its type
//! is a text for Postgres to judge.

use crate::json::cell::{Cell, TypeMismatch, birthday, phones, texts};
use crate::json::escape::pointer;
use crate::json::object::Fields;
use crate::schema::conversation::Conversation;
use crate::time::Micros;

/// The types that documented columns have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Text,
    TextArray,
    Bool,
    Int,
    Numeric,
    Time,
    Jsonb,
}

impl Type {
    pub fn sql(self) -> &'static str {
        match self {
            Type::Text => "text",
            Type::TextArray => "text[]",
            Type::Bool => "boolean",
            Type::Int => "integer",
            Type::Numeric => "numeric",
            Type::Time => "timestamp with time zone",
            Type::Jsonb => "jsonb",
        }
    }
}

/// Where a column's value comes from.
#[derive(Clone, Copy, Debug)]
pub enum From {
    /// The key of the column's name.
    Key,
    /// A JSON pointer into the row.
    Path(&'static str),
    /// The page that the table is of.
    Page,
    /// The conversation that was asked for.
    Conversation,
    /// Phone numbers: objects or plain strings.
    Phones,
    /// A date of which parts may be unknown.
    Birthday,
    /// The whole row.
    Row,
    /// Several keys of a row.
    Keys(for<'a> fn(&Fields<'a>) -> Cell<'a>),
    /// Several keys of a conversation.
    Made(for<'a> fn(&Conversation<'_, 'a>) -> Cell<'a>),
}

/// What a row itself does not hold: what was asked for.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub page_id: &'a str,
    pub conversation_id: Option<&'a str>,
}

#[derive(Debug)]
pub struct Column {
    pub name: &'static str,
    pub of: Type,
    pub not_null: bool,
    pub from: From,
}

impl Column {
    /// The cell of a row, and of the same row as a conversation, which caches what was read of its
    /// inside.
    pub fn cell<'c, 'a: 'c>(
        &self,
        row: &Fields<'a>,
        conversation: &Conversation<'_, 'a>,
        context: &Context<'c>,
    ) -> Result<Cell<'c>, TypeMismatch> {
        let value = match self.from {
            From::Key => row.get(self.name),
            From::Path(path) => pointer(row, path),
            From::Page => return Ok(Cell::Text(context.page_id.into())),
            From::Conversation => {
                return Ok(context.conversation_id.map_or(Cell::Null, |id| Cell::Text(id.into())));
            }
            From::Phones => {
                return Ok(Cell::Texts(phones(row.get(self.name)).into_iter().map(Some).collect()));
            }
            From::Birthday => return Ok(birthday(row.get(self.name))),
            From::Row => return Ok(Cell::Json(row.whole().into())),
            From::Keys(make) => return Ok(make(row)),
            From::Made(make) => return Ok(make(conversation)),
        };
        Ok(match self.of {
            Type::Text | Type::Numeric => Cell::text(value),
            Type::TextArray => texts(value),
            Type::Bool => Cell::bool(value),
            Type::Int => Cell::int(value),
            Type::Time if self.not_null => Cell::Time(time_of(row, self.name)?.0),
            Type::Time => Cell::time(value)?,
            Type::Jsonb => Cell::json(value),
        })
    }
}

/// The time under a key, and whether it is the row's own. A row without it shows its other time
/// there, and one without any the earliest that there is.
pub fn time_of(row: &Fields, key: &str) -> Result<(Micros, bool), TypeMismatch> {
    let read = |key| row.get(key).map(|value| Cell::time(Some(value))).transpose();
    let other = if key == "updated_at" { "inserted_at" } else { "updated_at" };
    Ok(match (read(key)?, read(other)) {
        (Some(Cell::Time(time)), _) => (time, true),
        (_, Ok(Some(Cell::Time(time)))) => (time, false),
        _ => (Micros::NEGATIVE_INFINITY, false),
    })
}

/// Lines `"name" Type [not_null] [<- From];`, by default from the key of the column's name.
macro_rules! columns {
    ($table:ident: $($name:literal $of:ident $($not_null:ident)? $(<- $from:expr)?;)+) => {
        pub const $table: &[$crate::schema::column::Column] = &[$($crate::schema::column::Column {
            name: $name,
            of: $crate::schema::column::Type::$of,
            not_null: $crate::schema::column::columns!(@null $($not_null)?),
            from: $crate::schema::column::columns!(@from $($from)?),
        }),+];
    };
    (@null not_null) => { true };
    (@null) => { false };
    (@from $from:expr) => { $from };
    (@from) => { $crate::schema::column::From::Key };
}
pub(crate) use columns;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::catalogue::Object;

    fn cell(object: Object, column: &str, row: &'static str) -> Cell<'static> {
        let row = Fields::read(row).unwrap();
        let context = Context { page_id: "p", conversation_id: Some("c") };
        object.column(column).unwrap().cell(&row, &Conversation::new(&row, "p"), &context).unwrap()
    }

    #[test]
    fn what_is_odd_is_a_text_for_postgres_to_judge() {
        let text = |text: &'static str| Cell::Text(text.into());
        for (object, column, row, expected) in [
            (Object::Tags, "id", r#"{"id":61}"#, text("61")),
            (Object::Posts, "comment_count", r#"{"comment_count":"12"}"#, text("12")),
            (Object::Posts, "comment_count", r#"{"comment_count":12}"#, Cell::Int(12)),
            (Object::Customers, "emails", r#"{"emails":null}"#, Cell::Texts(vec![])),
            (Object::Customers, "birthday", r#"{"birthday":"1998-00-00"}"#, text("1998-00-00")),
            (
                Object::Customers,
                "phone_numbers",
                r#"{"phone_numbers":["1",null,{"phone_number":"2"}]}"#,
                Cell::Texts(vec![Some("1".into()), Some("2".into())]),
            ),
            (Object::Posts, "comment_count", r#"{"comment_count":12.0}"#, Cell::Int(12)),
            (Object::Customers, "birthday", r#"{"birthday":{"year":1998}}"#, text("1998-00-00")),
            (
                Object::Conversations,
                "updated_at",
                r#"{"inserted_at":1774850000}"#,
                Cell::Time(Micros(1_774_850_000_000_000)),
            ),
            (
                Object::Conversations,
                "inserted_at",
                r#"{"inserted_at":null,"updated_at":1774850000123}"#,
                Cell::Time(Micros(1_774_850_000_123_000)),
            ),
            (Object::Conversations, "inserted_at", r#"{"id":"1"}"#, Cell::Time(Micros::NEGATIVE_INFINITY)),
            (Object::Messages, "from_staff_id", r#"{"from":{"uid":"u"}}"#, text("u")),
            (Object::Messages, "from_staff_id", r#"{"from":null}"#, Cell::Null),
            (Object::Messages, "conversation_id", r#"{"conversation_id":"other"}"#, text("c")),
            (Object::Conversations, "page_id", r#"{"page_id":"other"}"#, text("p")),
            (Object::Tags, "raw", r#"{"id":61}"#, Cell::Json(r#"{"id":61}"#.into())),
        ] {
            assert_eq!(cell(object, column, row), expected, "{column} of {row}");
        }
    }
}
