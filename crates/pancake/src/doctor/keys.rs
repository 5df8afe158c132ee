//! This module checks whether the other tables are joined by the columns that docs/reference.md
//! names.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::known::KnownRow;
use super::requests::{ListRow, Listing};

pub const USERS: &str = "users.id";

/// `posts.id = conversations.post_id`. `whole`: there are no posts but these.
pub fn posts(posts: &[ListRow], whole: bool, known: &[KnownRow]) -> Finding {
    const ITEM: &str = "posts.id";
    let commented = known.iter().filter(|row| row.kind.as_deref() == Some("COMMENT"));
    let named: BTreeSet<_> = commented.filter_map(|row| row.post_id.as_deref()).collect();
    let found = posts.iter().filter(|post| named.contains(post.id.as_str())).count();
    let tail = |post: &ListRow| named.iter().any(|id| id.ends_with(&format!("_{}", post.id)));
    match found {
        _ if named.is_empty() => Finding::untried(ITEM, "no comment among the newest conversations"),
        _ if posts.is_empty() => Finding::untried(ITEM, "no post"),
        0 if posts.iter().any(tail) => {
            Finding::warn(ITEM, "conversations.post_id ends with posts.id, and has the page's in front")
                .hint("Join them so: ON c.post_id = p.page_id || '_' || p.id.")
        }
        0 if whole => Finding::warn(ITEM, "no post_id of the newest comments is the id of a post")
            .hint("Compare posts.raw with conversations.raw: another key of them may be the one that joins."),
        0 => Finding::untried(ITEM, "the newest comments are of older posts than the newest"),
        _ => Finding::ok(
            ITEM,
            format!(
                "is conversations.post_id: {found} of the posts have comments among the newest conversations"
            ),
        ),
    }
}

/// `users.id` = `last_staff_id`, `from_staff_id`, `assignee_ids`.
pub fn users(users: &Listing, known: &[KnownRow]) -> Finding {
    const ITEM: &str = USERS;
    let Listing::Rows { rows: users, .. } = users else {
        return Finding::fail(ITEM, "the list of users is refused: a scan of it ends in an error")
            .hint("Ask again; please report it if it lasts.");
    };
    let named: BTreeSet<_> = known.iter().flat_map(|row| &row.staff).map(String::as_str).collect();
    let is = |id: Option<&String>| id.is_some_and(|id| named.contains(id.as_str()));
    let found = users.iter().filter(|user| is(Some(&user.id))).count();
    match found {
        _ if named.is_empty() => {
            Finding::untried(ITEM, "no conversation that is assigned or was answered by the staff")
        }
        _ if users.is_empty() => Finding::untried(ITEM, "no user"),
        0 if users.iter().any(|user| is(user.fb_id.as_ref())) => {
            Finding::warn(ITEM, "conversations name users by users.fb_id, not by users.id")
                .hint("Join them so: ON u.fb_id = c.last_staff_id.")
        }
        0 => Finding::warn(ITEM, "none of the staff that the newest conversations name is among the users")
            .hint("Compare users.raw with conversations.raw: another key of them may be the one that joins."),
        _ => Finding::ok(
            ITEM,
            format!(
                "is who answered or is assigned: {found} of the users are named by the newest conversations"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::reading::tests::row;
    use super::*;
    use crate::time::Micros;

    fn keyed(ids: &[&str]) -> Vec<ListRow> {
        let row = |id: &&str| ListRow { id: (*id).into(), at: Micros(0), fb_id: Some(format!("fb-{id}")) };
        ids.iter().map(row).collect()
    }

    #[test]
    fn posts_join_by_their_id_by_a_part_of_it_or_not_at_all() {
        let known = [row(1, "COMMENT", "1_7", "-"), row(2, "INBOX", "-", "-")];
        let told = |ids: &[&str], whole| posts(&keyed(ids), whole, &known);
        assert_eq!(told(&["1_6", "1_7"], false).status, Status::Ok);
        assert!(told(&["7"], true).hint.is_some_and(|hint| hint.contains("p.page_id || '_' || p.id")));
        let untried = |finding: Finding| finding.detail.starts_with("could not be tried");
        assert!(!untried(told(&["1_8"], true)) && untried(told(&["1_8"], false)) && untried(told(&[], true)));
        assert!(untried(posts(&keyed(&["1_7"]), true, &known[1..])));
    }

    #[test]
    fn users_join_by_their_id_or_by_the_platforms() {
        let mut known = [row(1, "INBOX", "-", "-")];
        let users =
            |ids: &[&str], known: &[KnownRow]| users(&Listing::Rows { rows: keyed(ids), total: None }, known);
        assert!(users(&["a"], &known).detail.starts_with("could not be tried"));
        known[0].staff.insert("a".into());
        assert_eq!(users(&["a", "b"], &known).status, Status::Ok);
        assert_eq!(users(&["b"], &known).status, Status::Warn);
        known[0].staff.insert("fb-b".into());
        assert!(users(&["b"], &known).hint.is_some_and(|hint| hint.contains("u.fb_id")));
        assert_eq!(super::users(&Listing::Refused, &known).status, Status::Fail);
    }
}
