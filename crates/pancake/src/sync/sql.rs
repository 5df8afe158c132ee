//! This module writes names and values as SQL has them, under whatever settings it is read.

use crate::time::Micros;

/// 0001-01-01 and 9999-12-30 22:00: between them a time is written as ISO has it.
const WRITABLE: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_207_200_000_000;

/// A name in its quotes.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name as a message shows it: in quotes if it needs them.
pub fn shown(name: &str) -> String {
    let is_plain = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    if is_plain { name.to_owned() } else { identifier(name) }
}

pub fn identifiers<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(|name| identifier(name)).collect::<Vec<_>>().join(", ")
}

pub fn literal(text: &str) -> String {
    let text = text.replace('\'', "''");
    // With a backslash the meaning of '…' depends on standard_conforming_strings.
    if text.contains('\\') { format!("E'{}'", text.replace('\\', "\\\\")) } else { format!("'{text}'") }
}

/// A time, as ISO has it: under another DateStyle a zone is an abbreviation, and CST is read as
/// America's where it was Asia's.
pub fn time(at: Option<Micros>) -> String {
    match at {
        Some(at) => format!("'{}'::pg_catalog.timestamptz", time_text(at)),
        None => "NULL::pg_catalog.timestamptz".to_owned(),
    }
}

pub fn time_text(at: Micros) -> String {
    match at.0 {
        micros if micros < WRITABLE.start => "-infinity".to_owned(),
        micros if micros >= WRITABLE.end => "infinity".to_owned(),
        _ => at.iso(),
    }
}

pub fn texts(values: &[String]) -> String {
    let values: Vec<_> = values.iter().map(|value| literal(value)).collect();
    format!("ARRAY[{}]::pg_catalog.text[]", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_keep_their_quotes() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("a'b"), "'a''b'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
        assert_eq!(texts(&["a".to_owned(), "b".to_owned()]), "ARRAY['a', 'b']::pg_catalog.text[]");
    }

    #[test]
    fn times_are_iso_or_infinite() {
        assert_eq!(time(Some(Micros(0))), "'1970-01-01T00:00:00Z'::pg_catalog.timestamptz");
        assert_eq!(time(Some(Micros(i64::MIN))), "'-infinity'::pg_catalog.timestamptz");
        assert_eq!(time(Some(Micros(i64::MAX))), "'infinity'::pg_catalog.timestamptz");
        assert!(time(Some(Micros(WRITABLE.end - 1))).starts_with("'9999-12-30T21:59:59.999999Z'"));
        assert!(time(Some(Micros(WRITABLE.start))).starts_with("'0001-01-01T00:00:00Z'"));
    }
}
