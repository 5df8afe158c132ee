//! This module turns cells into datums of the declared types. Documented types have a short way;
//! any other goes through its text input.

use std::borrow::Cow;

use pancake::error::{Error, Result};
use pancake::json::cell::Cell;
use pancake::reply::decode::type_mismatch;
use pancake::time::Micros;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};

use crate::fdw::params::POSTGRES_EPOCH;
use crate::pg::catalog::DeclaredColumn;
use crate::pg::jsonb::Encoder;
use crate::pg::nodes::{c_string, text};

/// How a column of one declared type takes its cells.
pub struct ColumnWriter {
    pub column: DeclaredColumn,
    input: pg_sys::FmgrInfo,
    io_parameter: pg_sys::Oid,
    /// The type's own, or under domains and arrays.
    scalar: pg_sys::Oid,
    jsonb: Encoder,
}

impl ColumnWriter {
    pub fn new(column: DeclaredColumn) -> Self {
        let mut function = pg_sys::InvalidOid;
        let mut io_parameter = pg_sys::InvalidOid;
        let mut input = pg_sys::FmgrInfo::default();
        // SAFETY: the type is that of an existing column; fmgr_info fills the structure it is
        // given.
        unsafe {
            pg_sys::getTypeInputInfo(column.type_id, &mut function, &mut io_parameter);
            pg_sys::fmgr_info(function, &mut input);
        }
        Self { scalar: scalar(column.type_id), column, input, io_parameter, jsonb: Encoder::default() }
    }

    /// The datum, in the current memory context; None for NULL.
    pub fn datum(&mut self, cell: Cell, row_id: &str) -> Result<Option<pg_sys::Datum>> {
        let plain = self.column.type_modifier == -1;
        Ok(Some(match (&cell, self.column.type_id) {
            (Cell::Null, _) => return Ok(None),
            (Cell::Text(text), pg_sys::TEXTOID) if plain => text_datum(text),
            (Cell::Bool(value), pg_sys::BOOLOID) => pg_sys::Datum::from(*value),
            (Cell::Int(number), pg_sys::INT4OID) if i32::try_from(*number).is_ok() => {
                pg_sys::Datum::from(*number as i32)
            }
            (Cell::Int(number), pg_sys::INT8OID) => pg_sys::Datum::from(*number),
            (Cell::Time(at), pg_sys::TIMESTAMPTZOID | pg_sys::TIMESTAMPOID) if plain => time_datum(*at),
            (Cell::Texts(texts), pg_sys::TEXTARRAYOID) => texts_datum(texts),
            (Cell::Json(json), _) => return self.json(json, row_id),
            _ if self.is_json() => return self.json(&self.written(&cell), row_id),
            _ => return self.input(&self.written(&cell), row_id).map(Some),
        }))
    }

    fn is_json(&self) -> bool {
        matches!(self.column.type_id, pg_sys::JSONOID | pg_sys::JSONBOID)
    }

    fn is_time(&self) -> bool {
        matches!(self.scalar, pg_sys::TIMESTAMPTZOID | pg_sys::TIMESTAMPOID | pg_sys::DATEOID)
    }

    /// JSON as served: whole for json and jsonb, a string's content for any other type.
    fn json(&mut self, json: &str, row_id: &str) -> Result<Option<pg_sys::Datum>> {
        match self.column.type_id {
            // It was read as JSON, and mended to what Postgres takes.
            pg_sys::JSONOID => return Ok(Some(text_datum(json))),
            pg_sys::JSONBOID => {
                return match self.jsonb.encode(json) {
                    Some(bytes) => Ok(Some(varlena_datum(bytes))),
                    None => self.input(json, row_id).map(Some),
                };
            }
            _ => {}
        }
        let unquoted = match json.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<String>(json).unwrap_or_default(),
            Some(b'[') if self.takes_arrays() => self.array_literal(json),
            _ => json.to_owned(),
        };
        if self.column.type_id == pg_sys::TEXTOID {
            return Ok(Some(text_datum(&unquoted)));
        }
        // A time without zone is UTC wherever it stands.
        match Micros::parse(&unquoted).filter(|_| self.is_time()) {
            Some(at) => self.datum(Cell::Time(at), row_id),
            None => self.input(&unquoted, row_id).map(Some),
        }
    }

    fn takes_arrays(&self) -> bool {
        // SAFETY: a look-up by oid.
        unsafe { pg_sys::get_base_element_type(self.column.type_id) != pg_sys::InvalidOid }
    }

    /// The elements of a JSON list as an array literal of Postgres.
    fn array_literal(&self, json: &str) -> String {
        let elements: Vec<serde_json::Value> = serde_json::from_str(json).unwrap_or_default();
        let text = |element| match element {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) if self.is_time() => {
                Some(Micros::parse(&text).map_or(text, Micros::iso))
            }
            serde_json::Value::String(text) => Some(text),
            other => Some(other.to_string()),
        };
        let texts: Vec<_> = elements.into_iter().map(text).collect();
        literal(texts.iter().map(Option::as_deref))
    }

    /// A cell as the text that its column's type reads.
    fn written(&self, cell: &Cell) -> String {
        let json = self.is_json();
        match cell {
            Cell::Null => String::new(),
            Cell::Text(text) if json => serde_json::Value::from(text.as_ref()).to_string(),
            Cell::Text(text) | Cell::Json(text) => text.to_string(),
            Cell::Bool(value) => value.to_string(),
            Cell::Int(number) => number.to_string(),
            Cell::Time(at) if json => format!("\"{}\"", at.iso()),
            Cell::Time(at) => at.iso(),
            Cell::Texts(texts) if json => serde_json::json!(texts).to_string(),
            Cell::Texts(texts) => literal(texts.iter().map(Option::as_deref)),
        }
    }

    /// Through the type's own input function, in a session whose zone is UTC: a time without zone
    /// is UTC also as a day alone, under a domain, in an array.
    fn input(&mut self, value: &str, row_id: &str) -> Result<pg_sys::Datum> {
        let string = c_string(value);
        let (modifier, parameter) = (self.column.type_modifier, self.io_parameter);
        let function: *mut pg_sys::FmgrInfo = &mut self.input;
        let _utc = InUtc::begin();
        let call = std::panic::AssertUnwindSafe(|| {
            // SAFETY: the function is the type's input; it copies what it keeps.
            unsafe {
                Ok(pg_sys::InputFunctionCall(function, string.as_ptr().cast_mut(), parameter, modifier))
            }
        });
        PgTryBuilder::new(call).catch_others(|caught| Err(self.refused(caught, value, row_id))).execute()
    }

    fn refused(&self, caught: CaughtError, value: &str, row_id: &str) -> Error {
        let report = match &caught {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
            CaughtError::RustPanic { ereport, .. } => ereport,
        };
        // A cancelled statement, a shutdown or a lack of memory is no fault of the value.
        if matches!(
            report.sql_error_code(),
            PgSqlErrorCode::ERRCODE_QUERY_CANCELED
                | PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN
                | PgSqlErrorCode::ERRCODE_CRASH_SHUTDOWN
                | PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY
        ) {
            caught.rethrow();
        }
        // SAFETY: a look-up by oid; the result is palloc'd.
        let expected =
            unsafe { pg_sys::format_type_with_typemod(self.column.type_id, self.column.type_modifier) };
        type_mismatch(row_id, &self.column.name, &text(expected), value)
            .also(format!("Postgres reports: {}.", report.message()))
    }
}

/// While it lives the session's TimeZone is UTC; dropped, also by an error, what it was before.
struct InUtc(*mut pg_sys::pg_tz);

impl InUtc {
    fn begin() -> Self {
        // SAFETY: a variable of this backend; zones once loaded stay, and GMT can always be.
        unsafe {
            let before = pg_sys::session_timezone;
            pg_sys::session_timezone = pg_sys::pg_tzset(c"GMT".as_ptr());
            Self(before)
        }
    }
}

impl Drop for InUtc {
    fn drop(&mut self) {
        // SAFETY: the zone was this variable's value before.
        unsafe { pg_sys::session_timezone = self.0 }
    }
}

/// What a type is under domains and arrays.
fn scalar(type_id: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: look-ups by oid.
    unsafe {
        match pg_sys::get_base_element_type(type_id) {
            pg_sys::InvalidOid => pg_sys::getBaseType(type_id),
            element => pg_sys::getBaseType(element),
        }
    }
}

fn text_datum(text: &str) -> pg_sys::Datum {
    // SAFETY: pointer and length are those of a str; the bytes are copied.
    unsafe { pg_sys::cstring_to_text_with_len(text.as_ptr().cast(), text.len() as i32) }.into()
}

/// A value of variable length, of these bytes.
fn varlena_datum(bytes: &[u8]) -> pg_sys::Datum {
    let size = bytes.len() + pg_sys::VARHDRSZ;
    // SAFETY: room for the header and the bytes is allocated before they are written.
    unsafe {
        let value = pg_sys::palloc(size).cast::<pg_sys::varlena>();
        pgrx::set_varsize_4b(value, size as i32);
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), value.cast::<u8>().add(pg_sys::VARHDRSZ), bytes.len());
        value.into()
    }
}

fn texts_datum(texts: &[Option<Cow<str>>]) -> pg_sys::Datum {
    let mut nulls: Vec<bool> = texts.iter().map(Option::is_none).collect();
    let mut elements: Vec<_> =
        texts.iter().map(|text| text.as_deref().map_or(pg_sys::Datum::null(), text_datum)).collect();
    let (mut length, mut first) = (texts.len() as i32, 1);
    // SAFETY: elements and nulls are as many as the one dimension has; the values are copied. A
    // text is of variable length (-1), passed by reference, aligned as an integer.
    unsafe {
        if texts.is_empty() {
            pg_sys::construct_empty_array(pg_sys::TEXTOID)
        } else {
            pg_sys::construct_md_array(
                elements.as_mut_ptr(),
                nulls.as_mut_ptr(),
                1,
                &mut length,
                &mut first,
                pg_sys::TEXTOID,
                -1,
                false,
                pg_sys::TYPALIGN_INT as std::ffi::c_char,
            )
        }
    }
    .into()
}

fn time_datum(at: Micros) -> pg_sys::Datum {
    match at {
        // The same number stands for -infinity there.
        Micros::NEGATIVE_INFINITY => pg_sys::Datum::from(at.0),
        _ => pg_sys::Datum::from(at.0 - POSTGRES_EPOCH),
    }
}

fn literal<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> String {
    let element = |text: Option<&str>| match text {
        None => "NULL".to_owned(),
        Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
    };
    format!("{{{}}}", texts.map(element).collect::<Vec<_>>().join(","))
}
