//! This module handles what JSON allows and Postgres does not: `\u0000` and lone surrogates; and
//! JSON pointers into a row. Everything else about JSON is serde_json's.

use std::borrow::Cow;

use memchr::memchr;

use crate::json::cell::{Raw, list};
use crate::json::object::{Fields, pick};

/// Replaces escapes that neither `text` nor `jsonb` can hold by U+FFFD. An escaped backslash before
/// `u0000` is text and stays.
pub fn mend_escapes(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    let mut mended: Option<String> = None;
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = memchr(b'\\', &bytes[at..]) {
        let start = at + found;
        let Some(unit) = code_unit(bytes, start) else {
            at = (start + 2).min(bytes.len());
            while !json.is_char_boundary(at) {
                at += 1;
            }
            continue;
        };
        let pair =
            matches!(unit, 0xD800..=0xDBFF) && matches!(code_unit(bytes, start + 6), Some(0xDC00..=0xDFFF));
        at = start + if pair { 12 } else { 6 };
        if unit == 0 || (!pair && matches!(unit, 0xD800..=0xDFFF)) {
            let text = mended.get_or_insert_with(|| String::with_capacity(json.len()));
            text.push_str(&json[copied..start]);
            text.push_str("\\ufffd");
            copied = at;
        }
    }
    match mended {
        None => Cow::Borrowed(json),
        Some(mut text) => {
            text.push_str(&json[copied..]);
            Cow::Owned(text)
        }
    }
}

/// The code unit of a `\uXXXX` that begins here.
fn code_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The value that an RFC 6901 pointer names within a row, as it is written; a null is as none. The
/// row itself, which the empty pointer names, is no value of its own.
pub fn pointer<'a>(row: &Fields<'a>, pointer: &str) -> Raw<'a> {
    let mut steps = pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"));
    let mut here = row.get(&steps.next()?);
    for step in steps {
        here = if here?.get().starts_with('[') {
            list(here).get(step.parse::<usize>().ok()?).copied()?
        } else {
            let [value] = pick(here, [&step]);
            value
        };
    }
    here
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn only_what_postgres_cannot_hold_is_replaced() {
        for (json, mended) in [
            (r#""a\u0000b""#, r#""a\ufffdb""#),
            (r#""\\u0000""#, r#""\\u0000""#),
            (r#""\\\u0000""#, r#""\\\ufffd""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83d!""#, r#""\ufffd!""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\u0041""#, r#""\ufffd\u0041""#),
            (r#""ệ\"ệ\"""#, r#""ệ\"ệ\"""#),
            (r#""tail\"#, r#""tail\"#),
            ("\"\\ệ\"", "\"\\ệ\""),
        ] {
            assert_eq!(mend_escapes(json), mended);
        }
    }

    #[test]
    fn a_pointer_walks_objects_and_lists() {
        let json = r#"{"a/b":[{"c":1.50},null],"d":"x"}"#;
        let row = Fields::read(json).unwrap();
        let at = |p: &str| pointer(&row, p).map(RawValue::get);
        assert_eq!(at("/a~1b/0/c"), Some("1.50"));
        assert_eq!((at("/a~1b/1"), at("/a~1b/7"), at("/x"), at("/d/e")), (None, None, None, None));
        assert_eq!((at("/a~1b/1/c"), at("/a~1b/c"), at("")), (None, None, None));
    }
}
