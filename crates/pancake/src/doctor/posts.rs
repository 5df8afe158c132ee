//! This module checks how `post_ids` is read, of which no measurement is known: beside which type,
//! in which spelling, and whether it gives rows of a post that are not comments.

use super::finding::Finding;
use super::known::{Answer, KnownRow};
use super::reading::{Pair, Reading};
use crate::plan::filter::Filterable;

pub const ITEM: &str = "post_ids";

/// What to ask for: a post with comments, another one, and a row of a post that is no comment.
#[derive(Debug, PartialEq)]
pub struct Choice {
    pub post: String,
    pub other: Option<String>,
    pub no_comment: Option<KnownRow>,
}

fn is_comment(row: &KnownRow) -> bool {
    row.kind.as_deref() == Some("COMMENT")
}

/// Rows that are known, and more comments.
pub fn choose(known: &[KnownRow], comments: &[KnownRow]) -> Option<Choice> {
    let mut posts: Vec<&String> = Vec::new();
    let rows = known.iter().filter(|row| is_comment(row)).chain(comments);
    for post in rows.filter_map(|row| row.post_id.as_ref()) {
        if !posts.contains(&post) {
            posts.push(post);
        }
    }
    let no_comment = known.iter().find(|row| !is_comment(row) && row.post_id.is_some()).cloned();
    let mut posts = posts.into_iter().cloned();
    Some(Choice { post: posts.next()?, other: posts.next(), no_comment })
}

/// Comments of the post must come; rows of other posts may not.
pub fn reads(seen: &Answer, known: &[KnownRow], post: &str) -> Reading {
    let mine = |row: &KnownRow| row.post_id.as_deref() == Some(post);
    Reading::of(seen, known, |row| mine(row) && is_comment(row), mine)
}

pub struct Answers {
    pub choice: Choice,
    /// `post_ids` with no type beside it.
    pub bare: Answer,
    /// Beside a type, where it is not obeyed alone.
    pub beside: Vec<(&'static str, Answer)>,
    /// The first and the second post at once.
    pub list: Option<Answer>,
    /// The post of the row that is no comment.
    pub others: Option<Answer>,
}

pub fn verdict(answers: &Answers, known: &[KnownRow], trusted: bool) -> Finding {
    let Choice { post, other, no_comment } = &answers.choice;
    let bare = reads(&answers.bare, known, post);
    if bare == Reading::Untold {
        return Finding::untried(ITEM, "no rows of different posts");
    }
    if bare != Reading::Obeyed {
        return unless_obeyed(answers, known, trusted, &bare);
    }
    let mut finding = Finding::ok(
        ITEM,
        format!("post_ids={post} gives the comments of that post and no other rows, whatever the type"),
    );
    if let (Some(other), Some(seen)) = (other, &answers.list) {
        let pair = Pair::of(seen, known, [post, other], |row| row.post_id.clone());
        finding = finding.also(format!("two of them with a comma: {}", pair.told()));
        if pair == Pair::Both {
            finding = finding.also("several posts could be had by one walk; pancake_fdw makes one for each");
        }
    }
    let whole_post = match (no_comment, &answers.others) {
        (Some(row), Some(seen)) if known.contains(row) => {
            (row, Reading::of(seen, known, |other| other.id == row.id, |other| other.post_id == row.post_id))
        }
        _ => {
            return finding
                .also("of rows that are no comments it could not be tried: there are none of a post");
        }
    };
    match whole_post {
        (_, Reading::Obeyed) => finding.also("rows of a post that are no comments come as well"),
        (row, Reading::Loses(_)) => Finding { status: super::Status::Warn, ..finding }
            .also(format!("row {} of a post, which is no comment, does not come", row.id))
            .hint("WHERE post_id = … gives comments alone.")
            .distrust(&[Filterable::PostId]),
        _ => finding.also("of rows that are no comments it could not be determined"),
    }
}

/// What it means that rows of other posts come, or none.
fn unless_obeyed(answers: &Answers, known: &[KnownRow], trusted: bool, bare: &Reading) -> Finding {
    let post = &answers.choice.post;
    let picked_out = "clauses on post_id are checked here, and cost what they would without";
    let alone = match bare {
        Reading::TooMany => "gives other rows too",
        Reading::Refused => "is refused",
        _ => "loses comments of that post",
    };
    let finding = match (trusted, bare) {
        // Believed without proof, so it is asked for although it does not help.
        (true, Reading::TooMany) => Finding::warn(
            ITEM,
            format!(
                "post_ids={post} {alone}, and the option pushdown trusts it: clauses on post_id are sent, and each \
                 post costs a walk of its own over the whole page"
            ),
        )
        .distrust(&[Filterable::PostId]),
        (true, _) => {
            Finding::fail(ITEM, format!("post_ids={post} {alone}, and the option pushdown trusts it"))
                .distrust(&[Filterable::PostId])
        }
        (false, _) => Finding::warn(ITEM, format!("post_ids={post} {alone}; {picked_out}")),
    };
    // Scans send no type beside post_ids: this is reported for programs that do.
    let beside = answers.beside.iter().find(|(_, seen)| reads(seen, known, post) == Reading::Obeyed);
    match beside {
        Some((kind, _)) => finding.also(format!("beside type={kind} it is obeyed")),
        None => finding.also("nor is it obeyed beside type=COMMENT or type=POST"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::reading::tests::{row, seen};
    use super::*;

    /// Comments of two posts, and a live chat of the first.
    fn page() -> Vec<KnownRow> {
        let kinds = [("INBOX", "-"), ("COMMENT", "a"), ("LIVESTREAM", "a"), ("COMMENT", "b"), ("INBOX", "-")];
        (0..20)
            .rev()
            .map(|n| (n, kinds[n as usize % 5]))
            .map(|(n, (kind, post))| row(n, kind, post, "-"))
            .collect()
    }

    fn told(others: impl Fn(&KnownRow) -> bool, trusted: bool, bare: impl Fn(&KnownRow) -> bool) -> Finding {
        let page = page();
        let choice = choose(&page, &[]).unwrap();
        assert_eq!((choice.post.as_str(), choice.other.as_deref()), ("b", Some("a")));
        let of_both = |row: &KnownRow| row.post_id.is_some();
        let answers = Answers {
            bare: seen(&page, bare),
            beside: vec![("COMMENT", seen(&page, |row| row.post_id.as_deref() == Some("b")))],
            list: Some(seen(&page, of_both)),
            others: Some(seen(&page, others)),
            choice,
        };
        verdict(&answers, &page, trusted)
    }

    #[test]
    fn what_is_no_comment_of_a_post_comes_or_not() {
        let of = |post: &'static str| move |row: &KnownRow| row.post_id.as_deref() == Some(post);
        assert_eq!(told(of("a"), false, of("b")).status, Status::Ok);
        let strict = told(|row| of("a")(row) && is_comment(row), false, of("b"));
        assert_eq!((strict.status, strict.distrust), (Status::Warn, vec![Filterable::PostId]));
        assert!(told(|_| false, false, |_| true).detail.contains("beside type=COMMENT it is obeyed"));
        let ignored = told(|_| false, true, |_| true);
        assert_eq!(
            (ignored.status, ignored.distrust),
            (Status::Warn, vec![Filterable::PostId]),
            "more rows do no harm"
        );
        assert!(ignored.detail.contains("a walk of its own") && !ignored.detail.contains("checked here"));
        assert_eq!(told(|_| false, true, |_| false).status, Status::Fail);
        assert_eq!(told(|_| false, false, |_| false).status, Status::Warn);
        assert_eq!(choose(&page()[..1], &[]), None);
    }
}
