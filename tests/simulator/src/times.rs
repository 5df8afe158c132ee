//! This module holds how the times of a row are shown: frozen ones, numbers instead of text, none
//! at all. The order of the rows is left to [`page::order`](crate::page).

use std::cell::OnceCell;

use serde_json::{Map, Value, json};

use crate::clock::{Micros, SECOND, naive, parse, zulu};
use crate::row::Row;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeColumn {
    InsertedAt,
    UpdatedAt,
}

/// How a time is written in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeForm {
    /// As the other rows of the page show it.
    #[default]
    Text,
    /// A number of seconds since 1970.
    Seconds,
    /// A number of milliseconds since 1970.
    Milliseconds,
    Null,
    /// The row lacks the key.
    Missing,
}

/// How a row's times differ from those by which it is listed.
#[derive(Debug, Default)]
pub struct RowTimes {
    /// The `updated_at` of a frozen row; older than the real one, or newer.
    pub shown: Option<Micros>,
    /// The time by which the list by `inserted_at` sorts the row, if it is not `inserted_at`.
    pub listed_inserted: Option<Micros>,
    pub inserted_form: TimeForm,
    pub updated_form: TimeForm,
    /// `updated_at` was set to a time later than now; new messages elsewhere do not rise above it.
    pub ahead: bool,
}

/// Numbers from here on are milliseconds (the year 5138 in seconds).
const MILLISECONDS: i64 = 100_000_000_000;
/// Numbers from here on are no time that a row can have (the year 5138 in milliseconds).
const NO_TIME: i64 = 100_000_000_000_000;

impl TimeColumn {
    pub fn key(self) -> &'static str {
        match self {
            TimeColumn::InsertedAt => "inserted_at",
            TimeColumn::UpdatedAt => "updated_at",
        }
    }
}

impl TimeForm {
    pub fn is_time(self) -> bool {
        !matches!(self, TimeForm::Null | TimeForm::Missing)
    }

    /// Reads a time of a row placed by hand: its form, and the time if there is one.
    pub fn read(row: &Value, column: TimeColumn) -> (TimeForm, Option<Micros>) {
        match row.get(column.key()) {
            None => (TimeForm::Missing, None),
            Some(Value::Null) => (TimeForm::Null, None),
            Some(Value::Number(number)) => match number.as_i64() {
                Some(number) if (MILLISECONDS..NO_TIME).contains(&number) => {
                    (TimeForm::Milliseconds, Some(number * 1000))
                }
                Some(number) if (-MILLISECONDS..MILLISECONDS).contains(&number) => {
                    (TimeForm::Seconds, Some(number * SECOND))
                }
                _ => (TimeForm::Seconds, None),
            },
            Some(cell) => (TimeForm::Text, cell.as_str().and_then(parse)),
        }
    }

    /// Writes a time into a row; `text` is its form as text.
    fn write(self, row: &mut Map<String, Value>, column: TimeColumn, time: Micros, text: String) {
        let cell = match self {
            TimeForm::Text => json!(text),
            TimeForm::Seconds => json!(time.div_euclid(SECOND)),
            TimeForm::Milliseconds => json!(time.div_euclid(1000)),
            TimeForm::Null => Value::Null,
            TimeForm::Missing => {
                row.remove(column.key());
                return;
            }
        };
        row.insert(column.key().to_owned(), cell);
    }
}

impl Row {
    /// Returns the time that the row shows, which for a frozen row is not its real one.
    pub fn shown(&self, column: TimeColumn) -> Micros {
        match column {
            TimeColumn::InsertedAt => self.inserted,
            TimeColumn::UpdatedAt => self.times.shown.unwrap_or(self.updated),
        }
    }

    pub fn form(&self, column: TimeColumn) -> TimeForm {
        match column {
            TimeColumn::InsertedAt => self.times.inserted_form,
            TimeColumn::UpdatedAt => self.times.updated_form,
        }
    }

    pub fn set_form(&mut self, column: TimeColumn, form: TimeForm) {
        match column {
            TimeColumn::InsertedAt => self.times.inserted_form = form,
            TimeColumn::UpdatedAt => self.times.updated_form = form,
        }
    }

    /// Whether the list may show this row out of the order of its times.
    pub fn is_out_of_order(&self) -> bool {
        self.times.shown.is_some()
            || self.times.listed_inserted.is_some()
            || !self.times.inserted_form.is_time()
            || !self.times.updated_form.is_time()
    }

    /// Gives the times of a row made by seed their forms, if these are not text.
    pub fn write_forms(&self, row: &mut Value) {
        let Some(row) = row.as_object_mut() else { return };
        for column in [TimeColumn::InsertedAt, TimeColumn::UpdatedAt] {
            if self.form(column) != TimeForm::Text {
                self.form(column).write(row, column, self.shown(column), String::new());
            }
        }
    }

    /// Writes a time of the row again after a change. Text of a row placed by hand keeps or lacks
    /// its `Z`.
    pub fn rewrite(&mut self, column: TimeColumn) {
        self.text = OnceCell::new();
        let (time, form) = (self.shown(column), self.form(column));
        let Some(Value::Object(cells)) = &mut self.verbatim else { return };
        let zone = cells.get(column.key()).and_then(Value::as_str).is_some_and(|text| text.ends_with('Z'));
        let text = match zone {
            true if time % SECOND == 0 => zulu(time),
            true => format!("{}Z", naive(time)),
            false => naive(time),
        };
        form.write(cells, column, time, text);
    }
}
