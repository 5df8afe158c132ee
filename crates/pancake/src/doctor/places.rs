//! This module measures how far rows stand from the place that their time would give them, over the
//! batches that were read in each order. Scans allow for rows that show an older time and so stand
//! too high by any distance (seen live in June, July and September 2026); of rows that show a newer
//! one they take for granted that they stand at most seven places too low by `updated_at`, and by
//! `inserted_at` at most one (see [`crate::paging::cursor`]).

use super::Status;
use super::finding::Finding;
use super::known::KnownRow;
use crate::paging::cursor::TERMS;
use crate::schema::keyset::Order;
use crate::time::Micros;

pub const ITEM: &str = "places";

/// How a list of times is out of order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disorder {
    pub rows: usize,
    /// Rows that show an older time than that of their place.
    pub high: usize,
    /// The largest number of places by which one of these stands too high.
    pub highest: usize,
    /// The largest number of rows in a row, directly above a row, that are all older than it.
    pub lowest: usize,
}

impl Disorder {
    pub fn of(rows: &[KnownRow], order: Order) -> Self {
        let times: Vec<_> =
            rows.iter().filter(|row| row.is_dated(order)).map(|row| row.time(order)).collect();
        let kept = in_place(&times);
        let heights: Vec<_> =
            (0..times.len()).filter(|at| !kept[*at]).map(|at| height(&times, &kept, at)).collect();
        let low = |at: usize| times[..at].iter().rev().take_while(|above| **above < times[at]).count();
        Self {
            rows: times.len(),
            high: heights.iter().filter(|height| **height > 0).count(),
            highest: heights.into_iter().max().unwrap_or(0),
            lowest: (0..times.len()).map(low).max().unwrap_or(0),
        }
    }

    pub fn is_none(self) -> bool {
        self.high == 0 && self.lowest == 0
    }

    /// Whether a row stands lower than scans take for granted.
    pub fn is_too_low(self, order: Order) -> bool {
        self.lowest >= TERMS.beyond_by(order)
    }
}

/// How many rows in their place, below this one, are newer.
fn height(times: &[Micros], kept: &[bool], at: usize) -> usize {
    (at + 1..times.len()).filter(|below| kept[*below] && times[*below] > times[at]).count()
}

/// Marks the rows of a longest subsequence that descends: the fewest others are out of their place.
/// Quadratic, of some 200 rows.
pub fn in_place(times: &[Micros]) -> Vec<bool> {
    // For each row the length of the longest such subsequence that begins with it, and its next
    // row.
    let mut best: Vec<(usize, Option<usize>)> = vec![(1, None); times.len()];
    for at in (0..times.len()).rev() {
        for below in at + 1..times.len() {
            if times[below] <= times[at] && best[below].0 + 1 > best[at].0 {
                best[at] = (best[below].0 + 1, Some(below));
            }
        }
    }
    let mut kept = vec![false; times.len()];
    let longest = best.iter().map(|(length, _)| *length).max();
    let mut next = best.iter().position(|(length, _)| Some(*length) == longest);
    while let Some(at) = next {
        kept[at] = true;
        next = best[at].1;
    }
    kept
}

/// Returns the rows that show a time of their own and stand in their place.
pub fn sound(rows: &[KnownRow], order: Order) -> Vec<KnownRow> {
    let dated: Vec<_> = rows.iter().filter(|row| row.is_dated(order)).collect();
    let times: Vec<_> = dated.iter().map(|row| row.time(order)).collect();
    dated.into_iter().zip(in_place(&times)).filter(|(_, kept)| *kept).map(|(row, _)| row.clone()).collect()
}

/// `by_updated`, `by_inserted`: the rows of some batches in a row.
pub fn verdict(by_updated: &[KnownRow], by_inserted: &[KnownRow]) -> Finding {
    let both = [(by_updated, Order::UpdatedAt), (by_inserted, Order::InsertedAt)];
    let [updated, inserted] = both.map(|(rows, order)| (Disorder::of(rows, order), order));
    let detail = [updated, inserted].map(|(disorder, order)| in_words(disorder, order)).join("; ");
    let only_neighbours = inserted.0.highest <= 1 && inserted.0.lowest <= 1;
    match () {
        () if updated.0.rows.max(inserted.0.rows) < 2 => Finding::untried(ITEM, "too few rows"),
        () if updated.0.is_too_low(updated.1) || inserted.0.is_too_low(inserted.1) => {
            Finding::fail(ITEM, detail).hint(
                "By updated_at a scan without an order reads such a list to its end, and one with it fails once; by \
                 inserted_at every scan fails. Please report this line.",
            )
        }
        () if undated(by_updated, Order::UpdatedAt) + undated(by_inserted, Order::InsertedAt) > 0 => {
            Finding::warn(ITEM, format!("{detail}; {UNDATED}"))
        }
        () if updated.0.is_none() && only_neighbours => Finding::ok(ITEM, detail),
        () => Finding::warn(ITEM, format!("{detail}; {ALLOWED}")),
    }
}

/// The same where scans have read further than the doctor does.
pub fn with_low_rows(places: Finding) -> Finding {
    match places.status {
        Status::Fail => places,
        _ => Finding::warn(ITEM, format!("{}; {LOW_ROWS}", places.detail)),
    }
}

/// How many rows lack the time of the order.
pub fn undated(rows: &[KnownRow], order: Order) -> usize {
    rows.iter().filter(|row| !row.is_dated(order)).count()
}

/// What becomes of a query on a page with rows that lack the time of the order.
const UNDATED: &str = "some rows lack that time and show the other one: until a scan has met one that stands far below, \
                       a lower bound on it, or an order by it, may miss those";

/// What becomes of a query once a scan has read a row too low.
const LOW_ROWS: &str = "a scan of the last 30 days has read a row far below the place of the updated_at that it shows: no \
                        lower bound on it ends a scan, and Postgres sorts";

/// What becomes of a query on a page whose list is loose.
const ALLOWED: &str = "lower bounds and ORDER BY are exact; an upper bound costs the rows above it, and if none of these \
                       shows that the page is out of order it may miss a row that shows an older time";

fn in_words(disorder: Disorder, order: Order) -> String {
    let Disorder { rows, high, highest, lowest } = disorder;
    let list = format!("{rows} rows by {}", order.column().unwrap_or_default());
    if disorder.is_none() {
        return format!("{list} in order");
    }
    let mut parts = Vec::new();
    if high > 0 {
        parts.push(format!(
            "{high} show an older time than that of their place, up to {highest} places too high"
        ));
    }
    if lowest > 0 {
        let limit = TERMS.beyond_by(order) - 1;
        parts.push(format!(
            "a newer row stands below up to {lowest} older ones, where scans allow for {limit}"
        ));
    }
    format!("of {list} {}", parts.join(", and "))
}

#[cfg(test)]
mod tests {
    use super::super::reading::tests::row;
    use super::*;

    fn rows(seconds: &[i64]) -> Vec<KnownRow> {
        seconds.iter().map(|second| row(*second, "INBOX", "-", "-")).collect()
    }

    fn disorder(seconds: &[i64]) -> (usize, usize, usize) {
        let Disorder { high, highest, lowest, .. } = Disorder::of(&rows(seconds), Order::UpdatedAt);
        (high, highest, lowest)
    }

    #[test]
    fn rows_too_high_and_rows_too_low_are_told_apart() {
        assert_eq!(disorder(&[]), (0, 0, 0));
        assert_eq!(disorder(&[9, 8, 8, 7, 1]), (0, 0, 0));
        // One that is frozen, and a run of two.
        assert_eq!(disorder(&[9, 1, 8, 7, 6, 5, 4]), (1, 5, 1));
        assert_eq!(disorder(&[9, 1, 0, 8, 7, 6]), (2, 3, 2));
        // One that stands three places too low.
        assert_eq!(disorder(&[9, 8, 5, 4, 3, 7, 2, 1]), (0, 0, 3));
        // A swap of neighbours can be read either way.
        assert_eq!(disorder(&[9, 8, 6, 7, 5, 4]).2, 1);
    }

    #[test]
    fn a_row_without_a_time_has_no_place() {
        let mut list = rows(&[9, 8, 1, 7]);
        list[2].has_updated_at = false;
        assert_eq!(sound(&list, Order::UpdatedAt), rows(&[9, 8, 7]));
        assert_eq!(Disorder::of(&list, Order::UpdatedAt), Disorder { rows: 3, ..Disorder::default() });
        let finding = verdict(&list, &rows(&[9, 8, 7]));
        assert_eq!(finding.status, Status::Warn);
        assert!(finding.detail.contains("lack that time"), "{finding:?}");
    }

    #[test]
    fn rows_too_low_are_a_failure_and_rows_too_high_a_warning() {
        let sorted = rows(&[90, 80, 70, 60, 50, 40, 30, 20, 10, 9, 8, 7]);
        let status = |updated: &[i64], inserted: &[i64]| verdict(&rows(updated), &rows(inserted)).status;
        assert_eq!(verdict(&sorted, &sorted).status, Status::Ok);
        assert_eq!(
            verdict(&sorted, &sorted).detail,
            "12 rows by updated_at in order; 12 rows by inserted_at in order"
        );
        let seven = [90, 8, 7, 6, 5, 4, 3, 2, 80];
        let eight = [90, 9, 8, 7, 6, 5, 4, 3, 2, 80];
        assert_eq!(status(&seven, &[3, 2, 1]), Status::Warn);
        assert_eq!(status(&eight, &[3, 2, 1]), Status::Fail);
        assert_eq!(status(&[90, 1, 80, 70, 60], &[3, 2, 1]), Status::Warn);
        assert_eq!(status(&[3, 2, 1], &[9, 7, 8, 6]), Status::Ok);
        assert_eq!(status(&[3, 2, 1], &[9, 1, 8, 7, 6]), Status::Warn);
        assert_eq!(status(&[3, 2, 1], &[9, 7, 6, 8]), Status::Fail);
        assert_eq!(verdict(&[], &[]).status, Status::Warn);
    }
}
