//! What the list itself shows: the shape of a reply, the clocks, the order, and where a cursor goes on.

use std::time::Duration;

use super::finding::{Finding, Status};
use super::known::{Known, Seen};
use crate::cell::is_same_page;
use crate::place::Order;
use crate::walk::{FULL_BATCH, TERMS};

pub const REPLY: &str = "reply";
pub const CLOCK: &str = "clock";
pub const ORDER: &str = "order";
pub const CURSOR: &str = "cursor";

/// The clocks may differ by as much as nobody notices in `now() - interval '5 minutes'`.
const SKEW: Duration = Duration::from_secs(10);

/// Whether the rows say of which page they are.
pub fn page(known: &[Known], page_id: &str) -> Finding {
    const ITEM: &str = "page";
    match known.iter().filter_map(|row| row.page_id.as_deref()).find(|id| !is_same_page(id, page_id)) {
        Some(other) => Finding::warn(ITEM, format!("rows say that they are of page {other}, not {page_id}"))
            .hint("Check the option page_id: it is what the column page_id shows."),
        None if known.is_empty() => Finding::ok(ITEM, format!("{page_id} is known and has no conversations")),
        None => Finding::ok(ITEM, format!("{page_id} is known, and its rows say so")),
    }
}

pub fn reply(known: &[Known], bytes: usize) -> Finding {
    let kinds = known.iter().all(|row| row.kind.is_none());
    match known.len() {
        0 => Finding::warn(REPLY, "a list without rows: nothing else could be tried"),
        rows if kinds => Finding::warn(REPLY, format!("{rows} rows, none of which has a type")).hint(
            "The rows have another shape than is known. Please report it with a row of the column raw.",
        ),
        rows if rows > FULL_BATCH => Finding::fail(
            REPLY,
            format!("{rows} rows in one reply, where {FULL_BATCH} are the most that is known"),
        )
        .hint("Please report this."),
        rows => Finding::ok(REPLY, format!("{rows} rows in {} kB", bytes.div_ceil(1000))),
    }
}

/// `ahead`: Pancake's clock minus ours, in seconds.
pub fn clock(ahead: Option<i64>) -> Finding {
    match ahead {
        None => Finding::untried(CLOCK, "the reply has no date"),
        Some(ahead) if ahead.unsigned_abs() <= SKEW.as_secs() => {
            Finding::ok(CLOCK, format!("within {} s of Pancake's", SKEW.as_secs()))
        }
        Some(ahead) => {
            let (seconds, side) = (ahead.abs(), if ahead > 0 { "behind" } else { "ahead of" });
            Finding::warn(CLOCK, format!("the database server's clock is {seconds} s {side} Pancake's")).hint(
                "now() in a condition is the database server's: set its clock by NTP, or widen such windows.",
            )
        }
    }
}

pub fn order(by_updated: &[Known], by_inserted: &[Known]) -> Finding {
    let descends =
        |rows: &[Known], order| rows.windows(2).all(|two| two[0].time(order) >= two[1].time(order));
    // A row that is newer than so many in a row above it stands lower than any that has been seen.
    let is_loose = |rows: &[Known], order| {
        let is_low =
            |row: &Known, above: &[Known]| above.iter().all(|other| other.time(order) < row.time(order));
        let beyond = TERMS.beyond_by(order);
        rows.windows(beyond + 1).any(|rows| is_low(&rows[beyond], &rows[..beyond]))
    };
    let ends = "A scan in that order ends in an error rather than miss rows; please report it.";
    let [updated, inserted] = [(by_updated, Order::UpdatedAt), (by_inserted, Order::InsertedAt)];
    match () {
        () if is_loose(updated.0, updated.1) => {
            Finding::fail(ORDER, "order_by=updated_at does not give the newest first").hint(ends)
        }
        () if is_loose(inserted.0, inserted.1) => {
            Finding::fail(ORDER, "order_by=inserted_at does not give the newest first").hint(ends)
        }
        () if !descends(updated.0, updated.1) || !descends(inserted.0, inserted.1) => Finding::warn(
            ORDER,
            "the newest first, but some rows show another time than that of their place; queries are exact, and an upper \
             bound on updated_at begins at the head of the list",
        ),
        () if descends(updated.0, inserted.1) => Finding::untried(ORDER, "both orders are the same here"),
        () => Finding::ok(ORDER, "the newest first, by updated_at and by inserted_at"),
    }
}

/// The row to go on from: one that shares its time with the next if there is one, for that tells more; and never so
/// near the top that the list's beginning might be taken for what follows.
pub fn cursor_row(rows: &[Known]) -> Option<usize> {
    let fits = |at: &usize| *at > 1 && at + 1 < rows.len();
    let tied = |at: &usize| rows[*at].inserted_at == rows[at + 1].inserted_at;
    (0..rows.len()).filter(fits).find(tied).or(Some(rows.len() / 2).filter(fits))
}

/// `rows`: the list by `inserted_at`; `seen`: what came from `at` on.
pub fn cursor(rows: &[Known], at: usize, seen: &Seen) -> Finding {
    let bad = |what: &str| {
        Finding::fail(CURSOR, what.to_owned())
            .hint("A scan of more than one batch ends in an error rather than miss rows; please report it.")
    };
    let Seen::Rows(came) = seen else { return bad("last_conversation_id is refused") };
    let Some(first) = came.first() else {
        return bad("last_conversation_id gives no rows though there are more");
    };
    let below = rows.iter().find(|row| row.inserted_at < rows[at].inserted_at);
    let is = |row: Option<&Known>| row.is_some_and(|row| row.id == first.id);
    let tied = rows[at + 1].inserted_at == rows[at].inserted_at;
    match () {
        () if first.inserted_at > rows[at].inserted_at => {
            bad("last_conversation_id is ignored: the list begins anew")
        }
        () if is(rows.get(at + 1)) && tied => {
            Finding::ok(CURSOR, "goes on after the row itself, also among rows of one time")
        }
        () if is(rows.get(at + 1)) => Finding::ok(CURSOR, "goes on after the row"),
        () if is(below) => Finding::ok(
            CURSOR,
            "goes on below the row's time: rows of the same time are passed over, and pancake_fdw asks from above them",
        ),
        () if is(rows.get(at)) => Finding::ok(CURSOR, "goes on with the row itself"),
        () if rows.iter().any(|row| row.id == first.id) => {
            Finding::new(CURSOR, Status::Fail, "last_conversation_id passes over rows")
                .hint("A scan sees that and asks otherwise, or ends in an error; please report it.")
        }
        () => Finding::warn(CURSOR, "the rows moved while it was tried: ask again"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::reading::tests::{row, seen};
    use super::*;

    fn rows() -> Vec<Known> {
        (0..10).rev().map(|n| row(n, "INBOX", "-", "-")).collect()
    }

    #[test]
    fn where_a_cursor_goes_on_is_told() {
        let mut page = rows();
        let from = |page: &[Known], first: usize| Seen::Rows(page[first..].to_vec());
        let at = cursor_row(&page).unwrap();
        assert_eq!(at, 5);
        let told = |first| cursor(&page, at, &from(&page, first));
        assert_eq!([5, 6].map(|first| told(first).status), [Status::Ok; 2]);
        assert!(told(0).detail.contains("ignored"));
        assert!(told(8).detail.contains("passes over"));
        assert_eq!(cursor(&page, at, &Seen::Refused).status, Status::Fail);
        assert_eq!(cursor(&page, at, &seen(&page, |_| false)).status, Status::Fail);
        for n in [3, 4] {
            page[n].inserted_at = page[2].inserted_at;
        }
        let at = cursor_row(&page).unwrap();
        assert_eq!(at, 2);
        let told = |first| cursor(&page, at, &from(&page, first)).detail;
        assert!(told(3).contains("row itself") && told(5).contains("below"), "{} {}", told(3), told(5));
        assert_eq!((cursor_row(&[]), cursor_row(&page[..2])), (None, None));
    }

    #[test]
    fn an_order_is_told_apart_from_the_other() {
        let mut page = rows();
        assert_eq!(order(&page, &page).status, Status::Warn);
        page[3].updated_at.0 += 100_000_000;
        let mut by_updated = page.clone();
        by_updated.sort_by_key(|row| std::cmp::Reverse(row.updated_at));
        assert_eq!(order(&by_updated, &page).status, Status::Ok);
        // A row that shows another time than that of its place.
        assert!(order(&by_updated, &by_updated).detail.contains("some rows show another time"));
        assert!(order(&page, &page).detail.contains("some rows show another time"));
        let mut far: Vec<_> = page.iter().cycle().take(20).cloned().collect();
        far.sort_by_key(|row| std::cmp::Reverse(row.inserted_at));
        far[19].updated_at.0 += 1_000_000_000;
        assert_eq!(order(&far, &page).status, Status::Fail);
    }

    #[test]
    fn clocks_pages_and_shapes() {
        assert_eq!(clock(Some(-3)).status, Status::Ok);
        assert!(clock(Some(90)).detail.contains("90 s behind"));
        assert!(clock(Some(-90)).detail.contains("90 s ahead of"));
        assert_eq!(clock(None).status, Status::Warn);
        assert_eq!(
            (page(&page_of("1"), "1").status, page(&page_of("2"), "1").status),
            (Status::Ok, Status::Warn)
        );
        assert_eq!(reply(&[], 10).status, Status::Warn);
        assert!(reply(&rows(), 1_001).detail.contains("10 rows in 2 kB"));
    }

    fn page_of(id: &str) -> Vec<Known> {
        rows().into_iter().map(|row| Known { page_id: Some(id.into()), ..row }).collect()
    }
}
