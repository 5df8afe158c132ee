//! This module checks how `type` is read: one value, two at once in either spelling, and a value
//! that no document lists.

use super::finding::Finding;
use super::known::{Answer, KnownRow};
use super::reading::{Pair, Reading};
use crate::plan::filter::Filterable;

pub const ITEM: &str = "type";

pub struct Answers {
    pub inbox: Answer,
    pub comment: Answer,
    /// `type=INBOX,COMMENT`
    pub listed: Answer,
    /// `type=INBOX&type=COMMENT`
    pub repeated: Answer,
    /// A value of the rows that is neither of the two.
    pub unlisted: Option<(String, Answer)>,
}

/// A value of `type` that rows have and no document lists as one of the parameter's.
pub fn unlisted(known: &[KnownRow]) -> Option<String> {
    let values = known.iter().filter_map(|row| row.kind.as_deref());
    values.filter(|kind| !["INBOX", "COMMENT"].contains(kind)).map(str::to_owned).next()
}

pub fn verdict(answers: &Answers, known: &[KnownRow]) -> Finding {
    let single = |kind: &str, seen| Reading::plain(seen, known, |row| row.kind.as_deref() == Some(kind));
    let readings =
        [("INBOX", single("INBOX", &answers.inbox)), ("COMMENT", single("COMMENT", &answers.comment))];
    let bad = |status: fn(&'static str, String) -> Finding, detail: String| {
        status(ITEM, detail).distrust(&[Filterable::Type])
    };
    for (kind, reading) in &readings {
        match reading {
            Reading::TooMany => {
                return bad(
                    Finding::warn,
                    format!("type={kind} gives other rows too: each value costs a walk over the whole page"),
                );
            }
            Reading::Loses(id) => {
                return bad(
                    Finding::fail,
                    format!("type={kind} loses rows that it should give, such as {id}"),
                );
            }
            Reading::Refused => return bad(Finding::fail, format!("type={kind} is refused")),
            Reading::Obeyed | Reading::Untold => {}
        }
    }
    let told: Vec<_> =
        readings.iter().filter(|(_, r)| *r == Reading::Obeyed).map(|(kind, _)| *kind).collect();
    let finding = match told[..] {
        [] => return Finding::untried(ITEM, "the newest rows are not of both types, INBOX and COMMENT"),
        [kind] => Finding::warn(
            ITEM,
            format!("type={kind} gives these rows and no others; the other could not be tried: no row of it"),
        ),
        _ => Finding::ok(ITEM, "INBOX and COMMENT each give their rows and no others"),
    };
    let pair = |seen| Pair::of(seen, known, ["INBOX", "COMMENT"], |row| row.kind.clone());
    let (listed, repeated) = (pair(&answers.listed), pair(&answers.repeated));
    let mut finding = finding
        .also(format!("type=INBOX,COMMENT {}", listed.told()))
        .also(format!("type=INBOX&type=COMMENT {}", repeated.told()));
    if let Some((kind, seen)) = &answers.unlisted {
        let how = match Reading::plain(seen, known, |row| row.kind.as_ref() == Some(kind)) {
            Reading::Obeyed => "filters as well, though no document lists it",
            Reading::TooMany => "gives other rows too",
            Reading::Loses(_) => "does not give its rows",
            Reading::Refused => "is refused",
            Reading::Untold => "could not be tried",
        };
        finding = finding.also(format!("type={kind} {how}, and is never sent"));
    }
    if listed == Pair::Both || repeated == Pair::Both {
        finding.also("both types could be had by one walk; pancake_fdw makes one for each")
    } else {
        finding
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::reading::tests::{row, seen};
    use super::*;

    fn page() -> Vec<KnownRow> {
        let kinds = ["INBOX", "COMMENT", "INBOX", "RATING"];
        (0..20).rev().map(|n| row(n, kinds[n as usize % 4], "-", "-")).collect()
    }

    fn told(inbox: impl Fn(&KnownRow) -> bool, listed: impl Fn(&KnownRow) -> bool) -> Finding {
        let page = page();
        let kind = unlisted(&page).unwrap();
        assert_eq!(kind, "RATING");
        let of = |wanted: &'static str| seen(&page, move |row| row.kind.as_deref() == Some(wanted));
        let answers = Answers {
            inbox: seen(&page, inbox),
            comment: of("COMMENT"),
            listed: seen(&page, listed),
            repeated: of("COMMENT"),
            unlisted: Some((kind, of("RATING"))),
        };
        verdict(&answers, &page)
    }

    #[test]
    fn one_value_decides_and_two_at_once_are_told() {
        let inbox = |row: &KnownRow| row.kind.as_deref() == Some("INBOX");
        let fine = told(inbox, |_| false);
        assert_eq!(fine.status, Status::Ok, "{fine:?}");
        assert!(fine.detail.contains("type=INBOX,COMMENT gives no rows"), "{fine:?}");
        assert!(fine.detail.contains("type=INBOX&type=COMMENT gives the rows of COMMENT alone"), "{fine:?}");
        assert!(fine.detail.contains("type=RATING filters as well"), "{fine:?}");
        assert!(told(inbox, |row| row.kind.as_deref() != Some("RATING")).detail.contains("by one walk"));
        let ignored = told(|_| true, |_| true);
        assert_eq!((ignored.status, ignored.distrust), (Status::Warn, vec![Filterable::Type]));
        let lossy = told(|row| inbox(row) && row.id != "r16", |_| false);
        assert_eq!((lossy.status, lossy.distrust), (Status::Fail, vec![Filterable::Type]));
    }
}
