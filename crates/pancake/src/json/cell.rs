//! This module defines one value of a row on its way to Postgres, and the readers of loosely typed
//! JSON. Which key feeds which column is in [`crate::schema::column`]; how a cell becomes a datum,
//! by the extension.

use std::borrow::Cow;

use memchr::memchr;
use serde_json::value::RawValue;

pub use crate::json::object::Raw;
use crate::json::object::{Fields, pick};
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
pub struct TypeMismatch(pub String);

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

    /// A JSON number without a fraction (`3`, `3.0`), or a text for Postgres to judge.
    pub fn int(raw: Raw<'a>) -> Self {
        match raw.and_then(|raw| whole(raw.get())) {
            Some(number) => Cell::Int(number),
            None => Cell::text(raw),
        }
    }

    pub fn time(raw: Raw<'a>) -> Result<Self, TypeMismatch> {
        let Some(text) = text(raw) else { return Ok(Cell::Null) };
        Micros::parse(&text).map(Cell::Time).ok_or_else(|| TypeMismatch(text.into_owned()))
    }

    pub fn json(raw: Raw<'a>) -> Self {
        match raw.map(RawValue::get) {
            None | Some("null") => Cell::Null,
            Some(json) => Cell::Json(json.into()),
        }
    }
}

/// A whole number, also as a float.
pub fn whole(json: &str) -> Option<i64> {
    /// Up to here every whole number is a float of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let as_float = || json.parse().ok().filter(|n: &f64| n.fract() == 0.0 && n.abs() <= EXACT);
    json.parse().ok().or_else(|| as_float().map(|number| number as i64))
}

/// The elements of a JSON list. Where something else stands: the values of an object, unless it has
/// an id and so is an element itself; a scalar as the one element.
pub fn list<'a>(raw: Raw<'a>) -> Vec<Raw<'a>> {
    let Some(json) = raw else { return Vec::new() };
    match json.get().as_bytes().first() {
        Some(b'[') => serde_json::from_str(json.get()).unwrap_or_default(),
        Some(b'{') if pick(raw, ["id"])[0].is_none() => {
            let fields = Fields::read(json.get()).unwrap_or_default();
            fields.entries().map(|(_, value)| Some(value)).collect()
        }
        Some(b'n') | None => Vec::new(),
        Some(_) if json.get() == "\"\"" => Vec::new(),
        Some(_) => vec![raw],
    }
}

/// The texts of a JSON list, nulls dropped: of scalars, and of objects by their ids.
pub fn texts(raw: Raw<'_>) -> Cell<'_> {
    let id = |element: Raw<'_>| pick(element, ["id"])[0].is_some();
    let text_of = |element| if id(element) { text(pick(element, ["id"])[0]) } else { text(element) };
    Cell::Texts(list(raw).into_iter().filter_map(text_of).map(Some).collect())
}

/// A date of which parts may be unknown, as Pancake writes it: `1998-00-00`, or an object with 0
/// for what is unknown.
pub fn birthday(raw: Raw<'_>) -> Cell<'_> {
    if !is_object(raw) {
        return Cell::text(raw);
    }
    let [date, day, month, year] = pick(raw, ["date", "day", "month", "year"]);
    let number = |part: Raw, most| match text(part) {
        None => Some(0),
        Some(part) => whole(&part).filter(|number| (0..=most).contains(number)),
    };
    match (number(year, 9999), number(month, 12), number(date.or(day), 31)) {
        (Some(0), Some(0), Some(0)) => Cell::Null,
        (Some(year), Some(month), Some(day)) => Cell::Text(format!("{year:04}-{month:02}-{day:02}").into()),
        // As served.
        _ => Cell::text(raw),
    }
}

/// Whether two ids name the same page: one of them may lack the channel's prefix (`zl_`, `ttm_` …;
/// docs/api.md).
pub fn is_same_page(one: &str, other: &str) -> bool {
    without_channel(one) == without_channel(other)
}

fn without_channel(page_id: &str) -> &str {
    let is_channel =
        |prefix: &str| !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_lowercase());
    match page_id.split_once('_') {
        Some((prefix, id)) if is_channel(prefix) && !id.is_empty() => id,
        _ => page_id,
    }
}

pub fn is_object(raw: Raw) -> bool {
    raw.is_some_and(|raw| raw.get().starts_with('{'))
}

/// The numbers of a list of phone numbers, which are objects or plain strings.
pub fn phones(raw: Raw<'_>) -> Vec<Cow<'_, str>> {
    let number = |entry| {
        if is_object(entry) {
            let numbers = pick(entry, ["phone_number", "captured", "phone", "number"]);
            numbers.into_iter().find_map(text)
        } else {
            text(entry)
        }
    };
    list(raw).into_iter().filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Raw<'_> {
        Some(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn whole_numbers_come_in_several_forms() {
        for (json, expected) in [
            ("3", Cell::Int(3)),
            ("3.0", Cell::Int(3)),
            ("-0.0", Cell::Int(0)),
            ("12e2", Cell::Int(1200)),
            ("9007199254740993", Cell::Int(9_007_199_254_740_993)),
            ("3.5", Cell::Text("3.5".into())),
            ("1e300", Cell::Text("1e300".into())),
            (r#""3""#, Cell::Text("3".into())),
            ("true", Cell::Text("true".into())),
        ] {
            assert_eq!(Cell::int(raw(json)), expected, "{json}");
        }
        assert_eq!(Cell::int(None), Cell::Null);
    }

    #[test]
    fn what_stands_for_a_list_is_read_as_one() {
        let texts_of = |json: &'static str| match texts(raw(json)) {
            Cell::Texts(texts) => texts.into_iter().flatten().map(Cow::into_owned).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(texts_of(r#"["a",1,null,{"id":7,"text":"x"}]"#), ["a", "1", "7"]);
        assert_eq!(texts_of(r#"{"0":{"id":61},"1":"62"}"#), ["61", "62"]);
        assert_eq!(texts_of(r#"{"id":61,"text":"x"}"#), ["61"]);
        assert_eq!(texts_of("61"), ["61"]);
        assert_eq!(texts_of(r#""""#), [""; 0]);
        assert_eq!(texts_of("{}"), [""; 0]);
        assert_eq!(texts_of("[]"), [""; 0]);
    }

    #[test]
    fn parts_of_a_birthday_may_be_unknown() {
        for (json, expected) in [
            (r#""1998-00-00""#, Some("1998-00-00")),
            (r#"{"date":0,"month":0,"year":1998}"#, Some("1998-00-00")),
            (r#"{"day":7,"month":12}"#, Some("0000-12-07")),
            (r#"{"date":0,"month":0,"year":0}"#, None),
            (r#"{"date":"07","month":"05","year":"1998"}"#, Some("1998-05-07")),
            (r#"{"date":7.0,"month":5,"year":1998}"#, Some("1998-05-07")),
            (r#"{"date":-1,"month":1}"#, Some(r#"{"date":-1,"month":1}"#)),
            (r#"{"day":"1998-05-07"}"#, Some(r#"{"day":"1998-05-07"}"#)),
        ] {
            let expected = expected.map_or(Cell::Null, |text| Cell::Text(text.into()));
            assert_eq!(birthday(raw(json)), expected, "{json}");
        }
    }

    #[test]
    fn a_page_is_the_same_without_its_channel() {
        for (one, other, same) in [
            ("zl_42", "42", true),
            ("ttm_42", "ttm_42", true),
            ("tt_0:1:a", "0:1:a", true),
            ("42", "43", false),
            ("100_1", "1", false),
            ("zl_", "zl_", true),
        ] {
            assert_eq!((is_same_page(one, other), is_same_page(other, one)), (same, same), "{one} {other}");
        }
    }
}
