//! This module decides what the reply to a filter proves, measured against rows that are known.

use std::collections::BTreeSet;

use super::known::{Answer, KnownRow};

/// How a filter is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Those rows and no others.
    Obeyed,
    /// Other rows come as well.
    TooMany,
    /// This row should have come and did not.
    Loses(String),
    /// Answered by an error.
    Refused,
    /// There is no row that could show it.
    Untold,
}

impl Reading {
    /// `must` come, `may` come. A batch shows nothing about rows older than its last.
    pub fn of(
        seen: &Answer,
        known: &[KnownRow],
        must: impl Fn(&KnownRow) -> bool,
        may: impl Fn(&KnownRow) -> bool,
    ) -> Self {
        let Answer::Rows(rows) = seen else { return Reading::Refused };
        let oldest = rows.iter().map(|row| row.inserted_at).min();
        let reached = |row: &&KnownRow| oldest.is_none_or(|oldest| row.inserted_at > oldest);
        let missing =
            |row: &&KnownRow| must(row) && reached(row) && !rows.iter().any(|came| came.id == row.id);
        if rows.iter().any(|row| !may(row)) {
            return Reading::TooMany;
        }
        if let Some(lost) = known.iter().find(missing) {
            return Reading::Loses(lost.id.clone());
        }
        let kept_out = known.iter().filter(reached).any(|row| !may(row));
        if !rows.is_empty() && kept_out { Reading::Obeyed } else { Reading::Untold }
    }

    /// A filter that asks for one thing.
    pub fn plain(seen: &Answer, known: &[KnownRow], wanted: impl Fn(&KnownRow) -> bool) -> Self {
        Self::of(seen, known, &wanted, &wanted)
    }
}

/// How a request for the rows of two values at once is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pair {
    /// Rows of both values, and no others.
    Both,
    /// Rows of this value alone.
    Only(String),
    Nothing,
    TooMany,
    Refused,
    Untold,
}

impl Pair {
    /// `of`: which of the values a row has.
    pub fn of(
        seen: &Answer,
        known: &[KnownRow],
        values: [&str; 2],
        of: impl Fn(&KnownRow) -> Option<String>,
    ) -> Self {
        let Answer::Rows(rows) = seen else { return Pair::Refused };
        let came: BTreeSet<_> = rows.iter().map(&of).collect();
        let oldest = rows.iter().map(|row| row.inserted_at).min();
        let there = |value: &str| {
            let reached = |row: &KnownRow| oldest.is_none_or(|oldest| row.inserted_at > oldest);
            known.iter().any(|row| reached(row) && of(row).as_deref() == Some(value))
        };
        let has = |value: &str| came.contains(&Some(value.to_owned()));
        match values.map(has) {
            _ if came.iter().any(|value| !values.map(Some).contains(&value.as_deref())) => Pair::TooMany,
            [true, true] => Pair::Both,
            [true, false] if there(values[1]) => Pair::Only(values[0].to_owned()),
            [false, true] if there(values[0]) => Pair::Only(values[1].to_owned()),
            [false, false] if there(values[0]) || there(values[1]) => Pair::Nothing,
            _ => Pair::Untold,
        }
    }

    pub fn told(&self) -> String {
        match self {
            Pair::Both => "gives the rows of both".to_owned(),
            Pair::Only(value) => format!("gives the rows of {value} alone"),
            Pair::Nothing => "gives no rows".to_owned(),
            Pair::TooMany => "gives other rows too".to_owned(),
            Pair::Refused => "is refused".to_owned(),
            Pair::Untold => "could not be tried".to_owned(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::time::{Micros, SECOND};

    /// The row of that second: `kind post tags`, a dash for none.
    pub fn row(second: i64, kind: &str, post: &str, tags: &str) -> KnownRow {
        let some = |text: &str| Some(text.to_owned()).filter(|text| text != "-");
        let set =
            |text: &str| some(text).map(|t| t.split(',').map(str::to_owned).collect()).unwrap_or_default();
        KnownRow {
            id: format!("r{second}"),
            page_id: some("1"),
            kind: some(kind),
            post_id: some(post),
            tags: set(tags),
            staff: BTreeSet::new(),
            inserted_at: Micros(second * SECOND),
            updated_at: Micros(second * SECOND),
            has_inserted_at: true,
            has_updated_at: true,
            messages: None,
            oddities: Vec::new(),
        }
    }

    pub fn seen(known: &[KnownRow], wanted: impl Fn(&KnownRow) -> bool) -> Answer {
        Answer::Rows(known.iter().filter(|row| wanted(row)).cloned().collect())
    }

    fn page() -> Vec<KnownRow> {
        (1..10).rev().map(|n| row(n, if n % 3 == 0 { "COMMENT" } else { "INBOX" }, "-", "-")).collect()
    }

    fn is(kind: &'static str) -> impl Fn(&KnownRow) -> bool {
        move |row| row.kind.as_deref() == Some(kind)
    }

    #[test]
    fn a_filter_is_obeyed_ignored_lossy_refused_or_untold() {
        let page = page();
        let read = |seen: &Answer| Reading::plain(seen, &page, is("COMMENT"));
        assert_eq!(read(&seen(&page, is("COMMENT"))), Reading::Obeyed);
        assert_eq!(read(&seen(&page, |_| true)), Reading::TooMany);
        assert_eq!(read(&seen(&page, |row| row.id == "r3")), Reading::Loses("r9".into()));
        assert_eq!(read(&Answer::Rows(vec![])), Reading::Loses("r9".into()));
        assert_eq!(read(&Answer::Refused), Reading::Refused);
        // A batch that ends early shows nothing of the rows behind it.
        assert_eq!(read(&seen(&page, |row| row.id == "r9")), Reading::Untold);
        let one_kind: Vec<_> = page.iter().filter(|row| is("INBOX")(row)).cloned().collect();
        assert_eq!(Reading::plain(&seen(&page, |_| false), &one_kind, is("COMMENT")), Reading::Untold);
        assert_eq!(Reading::plain(&seen(&one_kind, |_| true), &one_kind, is("INBOX")), Reading::Untold);
    }

    #[test]
    fn two_values_give_both_one_none_or_more() {
        let mut page = page();
        page.push(row(0, "RATING", "-", "-"));
        let read = |seen: &Answer| Pair::of(seen, &page, ["INBOX", "COMMENT"], |row| row.kind.clone());
        assert_eq!(read(&seen(&page, |row| !is("RATING")(row))), Pair::Both);
        assert_eq!(read(&seen(&page, is("COMMENT"))), Pair::Only("COMMENT".into()));
        assert_eq!(read(&Answer::Rows(vec![])), Pair::Nothing);
        assert_eq!(read(&seen(&page, |_| true)), Pair::TooMany);
        assert_eq!(read(&seen(&page, |row| row.id == "r8")), Pair::Only("INBOX".into()));
        assert_eq!(read(&seen(&page, |row| row.id == "r9")), Pair::Untold);
        assert_eq!(read(&Answer::Refused), Pair::Refused);
    }
}
