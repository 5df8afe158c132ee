//! This module counts what is unusual in the rows of a reply. Each such row is read all the same, and shown as the
//! documentation of its columns says; the counts tell whether a page is of that kind.

use serde_json::value::RawValue;

use super::finding::Finding;
use crate::cell::{Cell, Raw};
use crate::fields::Fields;
use crate::reply::Listed;

pub const ITEM: &str = "rows";

type IsUnusual = fn(&Fields) -> bool;

/// What can be unusual in a row: how it is found, and what becomes of it.
const UNUSUAL: [(IsUnusual, &str); 6] = [
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

pub fn verdict(listed: &Listed) -> Finding {
    let rows = listed.rows.len();
    let others = (listed.passed_over > 0)
        .then(|| format!("{} elements of the list are no objects: they are passed over", listed.passed_over));
    let unusual = UNUSUAL.iter().filter_map(|(is_unusual, what)| {
        let count = listed.rows.iter().filter(|row| is_unusual(row)).count();
        (count > 0).then(|| format!("{count} {what}"))
    });
    let unusual: Vec<String> = others.into_iter().chain(unusual).collect();
    match unusual.is_empty() {
        true => Finding::ok(ITEM, format!("{rows} rows, none of them unusual")),
        false => Finding::warn(ITEM, format!("of {rows} rows {}", unusual.join("; ")))
            .hint("The column raw shows such rows as they were served."),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    #[test]
    fn unusual_rows_are_counted() {
        let row = |json| Fields::read(json).unwrap();
        let usual = r#"{"inserted_at":"t","updated_at":"t","tags":[],"message_count":3.0}"#;
        let mut listed = Listed { rows: vec![row(usual)], ..Listed::default() };
        assert_eq!(verdict(&listed).status, Status::Ok);
        listed.rows.push(row(r#"{"updated_at":1774850000,"tags":{"0":1},"message_count":"many"}"#));
        listed.rows.push(row("{}"));
        listed.passed_over = 2;
        let finding = verdict(&listed);
        assert_eq!(finding.status, Status::Warn);
        for part in [
            "of 3 rows 2 elements of the list are no objects",
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
