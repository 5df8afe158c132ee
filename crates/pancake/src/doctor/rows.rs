//! This module counts what is unusual in the rows of the lists. Each such row is read all the same,
//! and shown as the documentation of its columns has it; the counts show whether a page is of that
//! kind.

use serde_json::value::RawValue;

use super::finding::Finding;
use super::known::KnownRow;
use crate::json::cell::{Cell, Raw};
use crate::json::object::Fields;
use crate::time::Micros;

pub const ITEM: &str = "rows";

/// A row counts as dated ahead of now from here on: a clock may be wrong by a few seconds.
const AHEAD_SECONDS: i64 = 60;

type IsUnusual = fn(&Fields) -> bool;

/// What is unusual in a row, as a sentence about how many goes on with it.
pub type Oddity = &'static str;

/// What can be unusual in a row: how it is found, and what becomes of it.
const UNUSUAL: [(IsUnusual, Oddity); 6] = [
    (|row| row.get("updated_at").is_none(), "without updated_at, which shows inserted_at"),
    (|row| row.get("inserted_at").is_none(), "without inserted_at, which shows updated_at"),
    (|row| begins(row.get("updated_at"), is_number), "with updated_at as a number: seconds or milliseconds"),
    (
        |row| begins(row.get("inserted_at"), is_number),
        "with inserted_at as a number: seconds or milliseconds",
    ),
    (|row| begins(row.get("tags"), |byte| byte != b'['), "with tags that are no list: each value is a tag"),
    (
        |row| {
            row.get("message_count").is_some() && !matches!(Cell::int(row.get("message_count")), Cell::Int(_))
        },
        "with a message_count that is no whole number",
    ),
];

fn begins(value: Raw, with: impl Fn(u8) -> bool) -> bool {
    value.map(RawValue::get).and_then(|json| json.bytes().next()).is_some_and(with)
}

fn is_number(byte: u8) -> bool {
    byte == b'-' || byte.is_ascii_digit()
}

/// Returns what is unusual in a row.
pub fn oddities(row: &Fields) -> Vec<Oddity> {
    UNUSUAL.iter().filter(|(is_unusual, _)| is_unusual(row)).map(|(_, what)| *what).collect()
}

/// `passed_over`: elements of a list that are no objects. `now`: by Pancake's clock.
pub fn verdict(known: &[&KnownRow], passed_over: u64, now: Micros) -> Finding {
    let count = |is_odd: &dyn Fn(&KnownRow) -> bool| known.iter().filter(|row| is_odd(row)).count();
    let latest = now.minus_seconds(-AHEAD_SECONDS);
    let ahead = count(&|row| row.inserted_at.max(row.updated_at) > latest);
    let mut unusual = Vec::new();
    if passed_over > 0 {
        unusual.push(format!("{passed_over} elements of the list are no objects: they are passed over"));
    }
    if ahead > 0 {
        unusual.push(format!("{ahead} dated ahead of now, which stand above all others until then"));
    }
    let counts = UNUSUAL.iter().map(|(_, what)| (count(&|row| row.oddities.contains(what)), what));
    unusual.extend(counts.filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    if unusual.is_empty() {
        Finding::ok(ITEM, format!("{} rows, none of them unusual", known.len()))
    } else {
        Finding::warn(ITEM, format!("of {} rows {}", known.len(), unusual.join("; ")))
            .hint("The column raw shows such rows as they were served.")
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::super::reading::tests::row;
    use super::*;

    #[test]
    fn unusual_rows_are_counted() {
        let now = row(1_000, "-", "-", "-").updated_at;
        let with = |second, json| KnownRow {
            oddities: oddities(&Fields::read(json).unwrap()),
            ..row(second, "INBOX", "-", "-")
        };
        let usual = r#"{"inserted_at":"t","updated_at":"t","tags":[],"message_count":3.0}"#;
        let known = [
            with(1_030, usual),
            with(1, r#"{"updated_at":1774850000,"tags":{"0":1},"message_count":"many"}"#),
            with(1_061, "{}"),
        ];
        assert_eq!(verdict(&[&known[0]], 0, now).status, Status::Ok);
        let finding = verdict(&known.iter().collect::<Vec<_>>(), 2, now);
        assert_eq!(finding.status, Status::Warn);
        for part in [
            "of 3 rows 2 elements of the list are no objects",
            "1 dated ahead of now",
            "1 without updated_at",
            "2 without inserted_at",
            "1 with updated_at as a number",
            "1 with tags that are no list",
            "1 with a message_count that is no whole number",
        ] {
            assert!(finding.detail.contains(part), "{part}: {}", finding.detail);
        }
    }
}
