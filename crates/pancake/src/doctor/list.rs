//! This module judges what the first replies show: the page that rows are of, their shape, the
//! clocks, and the order.

use std::time::Duration;

use super::finding::Finding;
use super::known::KnownRow;
use super::places::{Disorder, undated};
use crate::json::cell::is_same_page;
use crate::paging::cursor::FULL_BATCH;
use crate::schema::keyset::Order;

pub const REPLY: &str = "reply";
pub const CLOCK: &str = "clock";
pub const ORDER: &str = "order";

/// The clocks may differ by as much as makes no difference in `now() - interval '5 minutes'`.
const SKEW: Duration = Duration::from_secs(10);

/// Whether the rows hold the id of their page.
pub fn page(known: &[KnownRow], page_id: &str) -> Finding {
    const ITEM: &str = "page";
    match known.iter().filter_map(|row| row.page_id.as_deref()).find(|id| !is_same_page(id, page_id)) {
        Some(other) => Finding::warn(ITEM, format!("rows say that they are of page {other}, not {page_id}"))
            .hint("Check the option page_id: it is what the column page_id shows."),
        None if known.is_empty() => Finding::ok(ITEM, format!("{page_id} is known and has no conversations")),
        None => Finding::ok(ITEM, format!("{page_id} is the page of its rows")),
    }
}

pub fn reply(known: &[KnownRow], bytes: usize) -> Finding {
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

pub fn order(by_updated: &[KnownRow], by_inserted: &[KnownRow]) -> Finding {
    let descends = |rows: &[KnownRow], order| Disorder::of(rows, order).is_none();
    let is_loose = |rows: &[KnownRow], order| Disorder::of(rows, order).is_too_low(order);
    let ends = "A scan in that order ends in an error rather than miss rows; please report it.";
    let [updated, inserted] = [(by_updated, Order::UpdatedAt), (by_inserted, Order::InsertedAt)];
    match () {
        () if is_loose(updated.0, updated.1) => {
            Finding::fail(ORDER, "order_by=updated_at does not give the newest first").hint(ends)
        }
        () if is_loose(inserted.0, inserted.1) => {
            Finding::fail(ORDER, "order_by=inserted_at does not give the newest first").hint(ends)
        }
        () if undated(updated.0, updated.1) + undated(inserted.0, inserted.1) > 0 => {
            Finding::warn(ORDER, "the newest first, but some rows lack the time of the order")
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

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::reading::tests::row;
    use super::*;

    fn rows() -> Vec<KnownRow> {
        (0..10).rev().map(|n| row(n, "INBOX", "-", "-")).collect()
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

    fn page_of(id: &str) -> Vec<KnownRow> {
        rows().into_iter().map(|row| KnownRow { page_id: Some(id.into()), ..row }).collect()
    }
}
