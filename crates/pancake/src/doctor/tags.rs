//! This module checks how `tags` is read: one tag, and whether two mean both of them or either.

use std::collections::BTreeMap;

use super::finding::Finding;
use super::known::{Answer, KnownRow};
use super::reading::Reading;
use crate::plan::filter::Filterable;
use crate::plan::request::is_tag_id;

pub const ITEM: &str = "tags";

/// The tags to ask for: one that some rows lack, and another that, if possible, stands beside it on
/// some row.
pub fn choose(known: &[KnownRow]) -> Option<(String, Option<String>)> {
    let mut rows_of: BTreeMap<&String, usize> = BTreeMap::new();
    let mut rows_of_pair: BTreeMap<(&String, &String), usize> = BTreeMap::new();
    for row in known {
        let tags: Vec<_> = row.tags.iter().filter(|tag| is_tag_id(tag)).collect();
        for (place, tag) in tags.iter().enumerate() {
            *rows_of.entry(tag).or_default() += 1;
            tags[place + 1..].iter().for_each(|other| *rows_of_pair.entry((tag, other)).or_default() += 1);
        }
    }
    let one_only = |(one, other): &(&String, &String)| {
        known.iter().any(|row| row.tags.contains(*one) != row.tags.contains(*other))
    };
    let together = rows_of_pair.iter().filter(|(pair, _)| one_only(pair)).max_by_key(|(_, rows)| **rows);
    if let Some(((one, other), _)) = together {
        return Some(((*one).clone(), Some((*other).clone())));
    }
    let mut by_rows: Vec<_> = rows_of.into_iter().collect();
    by_rows.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
    let mut tags = by_rows.into_iter().map(|(tag, _)| tag.clone());
    Some((tags.next()?, tags.next()))
}

pub struct Answers {
    pub tag: String,
    pub one: Answer,
    /// A second tag, and the rows of both at once.
    pub two: Option<(String, Answer)>,
}

pub fn verdict(answers: &Answers, known: &[KnownRow]) -> Finding {
    let tag = &answers.tag;
    let bad = |finding: Finding| finding.distrust(&[Filterable::Tags]);
    match Reading::plain(&answers.one, known, |row| row.tags.contains(tag)) {
        Reading::TooMany => {
            let detail =
                format!("tags={tag} gives other rows too: each tag costs a walk over the whole page");
            return bad(Finding::warn(ITEM, detail));
        }
        Reading::Loses(id) => {
            return bad(Finding::fail(
                ITEM,
                format!("tags={tag} loses rows that have the tag, such as {id}"),
            ));
        }
        Reading::Refused => return bad(Finding::fail(ITEM, format!("tags={tag} is refused"))),
        Reading::Untold => return Finding::untried(ITEM, "no rows with and without a tag"),
        Reading::Obeyed => {}
    }
    let finding = Finding::ok(ITEM, format!("tags={tag} gives the rows of that tag and no others"));
    let Some((other, seen)) = &answers.two else {
        return Finding { status: super::Status::Warn, ..finding }
            .also("several could not be tried: no row of another tag");
    };
    let count = |row: &KnownRow| [tag, other].into_iter().filter(|tag| row.tags.contains(*tag)).count();
    let all = Reading::plain(seen, known, |row| count(row) == 2);
    let any = Reading::plain(seen, known, |row| count(row) > 0);
    let pair = format!("tags={tag},{other}");
    let gives_nothing = matches!(seen, Answer::Rows(rows) if rows.is_empty());
    match (all, any) {
        (Reading::Obeyed, _) => finding.also(format!("{pair} means ALL of them")),
        (_, Reading::Obeyed) => finding
            .also(format!("{pair} means ANY of them"))
            .also("tags && '{…}' could be had by one walk; pancake_fdw makes one for each tag"),
        (Reading::Untold, _) if gives_nothing => {
            let detail =
                format!("{pair} gives no rows, so it means ALL of them, or nothing: no row has both");
            Finding { status: super::Status::Warn, ..finding }.also(detail)
        }
        (Reading::Loses(id), _) => {
            bad(Finding::fail(ITEM, format!("{pair} loses rows that have both, such as {id}")))
        }
        (Reading::Refused, _) => bad(Finding::fail(ITEM, format!("{pair} is refused"))),
        (_, Reading::TooMany) => bad(Finding::warn(ITEM, format!("{pair} gives rows that have neither"))),
        _ => Finding { status: super::Status::Warn, ..finding }
            .also(format!("{pair} could not be determined: there are no such rows")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::reading::tests::{row, seen};
    use super::*;

    fn page(tags: &[&str]) -> Vec<KnownRow> {
        (0..20).rev().map(|n| row(n, "INBOX", "-", tags[n as usize % tags.len()])).collect()
    }

    #[test]
    fn two_tags_that_stand_together_and_alone_are_chosen() {
        let chosen = |tags: &[&str]| choose(&page(tags)).map(|(tag, other)| format!("{tag} {other:?}"));
        assert_eq!(chosen(&["1,2", "2,3", "2,3", "3"]).unwrap(), "2 Some(\"3\")");
        assert_eq!(chosen(&["1", "2", "2"]).unwrap(), "2 Some(\"1\")");
        assert_eq!(chosen(&["7", "-"]).unwrap(), "7 None");
        assert_eq!(chosen(&["vip", "-"]), None);
    }

    #[test]
    fn all_any_and_neither_are_told() {
        let page = page(&["1,2", "1", "2", "-"]);
        let has = |row: &KnownRow, tag: &str| row.tags.contains(tag);
        let told = |one: &dyn Fn(&KnownRow) -> bool, two: &dyn Fn(&KnownRow) -> bool| {
            let answers =
                Answers { tag: "1".into(), one: seen(&page, one), two: Some(("2".into(), seen(&page, two))) };
            verdict(&answers, &page)
        };
        let of_one = |row: &KnownRow| has(row, "1");
        let all = told(&of_one, &|row| has(row, "1") && has(row, "2"));
        assert!(all.status == Status::Ok && all.detail.ends_with("means ALL of them"), "{all:?}");
        let any = told(&of_one, &|row| has(row, "1") || has(row, "2"));
        assert!(any.status == Status::Ok && any.detail.contains("means ANY of them"), "{any:?}");
        for (finding, status) in [
            (told(&|_| true, &|_| true), Status::Warn),
            (told(&|_| false, &|_| false), Status::Fail),
            (told(&of_one, &|_| true), Status::Warn),
            (told(&of_one, &|_| false), Status::Fail),
        ] {
            assert_eq!(
                (finding.status, finding.distrust.as_slice()),
                (status, &[Filterable::Tags][..]),
                "{finding:?}"
            );
        }
    }
}
