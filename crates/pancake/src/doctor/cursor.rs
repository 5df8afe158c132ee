//! This module judges where a cursor leads: from a row in mid-list, and from the last row of a
//! batch, in both orders.

use super::finding::Finding;
use super::known::{Answer, KnownRow};
use super::places::in_place;
use crate::schema::keyset::Order;

pub const CURSOR: &str = "cursor";
pub const STEPS: &str = "steps";

/// Where a cursor leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lead {
    /// To the next row, which has another time than the cursor row.
    Next,
    /// To the next row, which has the same time.
    NextOfTies,
    /// To the first row of an older time.
    Below,
    /// To the cursor row itself.
    Same,
    /// To the beginning of the list.
    Beginning,
    /// To no rows although there are more.
    Nothing,
    Refused,
    /// Over rows that are there.
    Beyond,
    /// To older rows, where none are known.
    Older,
    /// It does not show.
    Unknown,
}

impl Lead {
    /// `rows`: the list in that order; `seen`: the answer to the cursor `rows[at]`.
    pub fn of(rows: &[KnownRow], at: usize, seen: &Answer, order: Order) -> Self {
        let Answer::Rows(came) = seen else { return Lead::Refused };
        let next = rows.get(at + 1);
        let Some(first) = came.first() else {
            return if next.is_some() { Lead::Nothing } else { Lead::Unknown };
        };
        let time = |row: &KnownRow| row.time(order);
        let below = rows[at..].iter().find(|row| time(row) < time(&rows[at]));
        let is = |row: Option<&KnownRow>| row.is_some_and(|row| row.id == first.id);
        let tied = next.is_some_and(|next| time(next) == time(&rows[at]));
        let place = rows.iter().position(|row| row.id == first.id);
        match place {
            Some(place) if place < at => Lead::Beginning,
            _ if is(next) && tied => Lead::NextOfTies,
            _ if is(next) => Lead::Next,
            _ if is(below) => Lead::Below,
            _ if is(rows.get(at)) => Lead::Same,
            Some(_) => Lead::Beyond,
            None if time(first) > time(&rows[at]) => Lead::Beginning,
            None if next.is_none() => Lead::Older,
            None => Lead::Unknown,
        }
    }

    pub fn is_bad(self) -> bool {
        matches!(self, Lead::Beginning | Lead::Nothing | Lead::Refused | Lead::Beyond)
    }

    /// What becomes of `last_conversation_id`, if that is bad.
    fn fault(self) -> &'static str {
        match self {
            Lead::Beginning => "is ignored: the list begins anew",
            Lead::Nothing => "gives no rows though there are more",
            Lead::Refused => "is refused",
            Lead::Beyond => "passes over rows",
            Lead::Next | Lead::NextOfTies | Lead::Below | Lead::Same | Lead::Older | Lead::Unknown => {
                "leads on"
            }
        }
    }
}

/// The row to go on from: one that shares its time with the next if there is one, because that
/// shows more, else the middle one; never one so near the top that the list's beginning might be
/// taken for what follows, nor one that shows another time than that of its place.
pub fn row(rows: &[KnownRow], order: Order) -> Option<usize> {
    let times: Vec<_> = rows.iter().map(|row| row.time(order)).collect();
    let in_place = in_place(&times);
    let fits = |at: &usize| *at > 1 && at + 1 < rows.len() && in_place[*at] && rows[*at].is_dated(order);
    let tied = |at: &usize| times[*at] == times[at + 1];
    let half = rows.len() / 2;
    (0..rows.len()).filter(fits).find(tied).or_else(|| (half..rows.len()).chain((0..half).rev()).find(fits))
}

/// A cursor in mid-list, by `inserted_at`; and from the last row of a reply, if that was tried.
pub fn cursor(lead: Lead, last: Option<Lead>) -> Finding {
    let bad = |hint: &str| Finding::fail(CURSOR, format!("last_conversation_id {}", lead.fault())).hint(hint);
    match lead {
        Lead::NextOfTies => Finding::ok(CURSOR, "goes on after the row itself, also among rows of one time"),
        Lead::Next | Lead::Older => Finding::ok(CURSOR, "goes on after the row"),
        Lead::Below => Finding::ok(
            CURSOR,
            "goes on below the row's time: rows of the same time are passed over, and pancake_fdw asks from above them",
        ),
        Lead::Same => Finding::ok(CURSOR, "goes on with the row itself"),
        Lead::Beyond => bad("A scan sees that and asks otherwise, or ends in an error; please report it."),
        Lead::Beginning | Lead::Nothing | Lead::Refused if last.is_some_and(Lead::is_bad) => {
            bad("A scan of more than one batch ends in an error rather than miss rows; please report it.")
        }
        Lead::Beginning | Lead::Nothing | Lead::Refused => {
            Finding::warn(CURSOR, format!("last_conversation_id {} from a row in mid-list", lead.fault()))
                .hint(ONLY_LAST_ROWS)
        }
        Lead::Unknown => Finding::warn(CURSOR, "the rows moved while it was tried: ask again"),
    }
}

/// What becomes of a scan where no row in mid-list is taken for a cursor.
const ONLY_LAST_ROWS: &str = "Scans go on from the last row of each reply, at three requests a batch.";

/// The other cursors that scans send.
#[derive(Clone, Copy, Debug, Default)]
pub struct Steps {
    pub mid_by_updated: Option<Lead>,
    pub last_by_updated: Option<Lead>,
    pub last_by_inserted: Option<Lead>,
}

pub fn steps(steps: &Steps) -> Finding {
    let all = [
        ("from mid-list by updated_at", steps.mid_by_updated),
        ("from the last row of a batch by updated_at", steps.last_by_updated),
        ("from the last row of a batch by inserted_at", steps.last_by_inserted),
    ];
    let tried: Vec<_> = all.into_iter().filter_map(|(what, lead)| Some((what, lead?))).collect();
    let bad: Vec<_> = tried
        .iter()
        .filter(|(_, lead)| lead.is_bad())
        .map(|(what, lead)| format!("{what} last_conversation_id {}", lead.fault()))
        .collect();
    let shown: Vec<_> =
        tried.iter().filter(|(_, lead)| *lead != Lead::Unknown).map(|(what, _)| *what).collect();
    let is_last_row_bad =
        [steps.last_by_updated, steps.last_by_inserted].into_iter().flatten().any(Lead::is_bad);
    if !bad.is_empty() && !is_last_row_bad && steps.mid_by_updated != Some(Lead::Beyond) {
        return Finding::warn(STEPS, bad.join("; ")).hint(ONLY_LAST_ROWS);
    }
    if !bad.is_empty() {
        return Finding::fail(STEPS, bad.join("; "))
            .hint("A scan of more than one batch asks otherwise, or ends in an error; please report it.");
    }
    if shown.is_empty() {
        Finding::untried(STEPS, "too few rows")
    } else {
        Finding::ok(STEPS, format!("a cursor leads on {}", shown.join(", ")))
    }
}

/// Adds the rows of a reply that are not in the list yet, each behind the row above it in the
/// reply: some may have come since the rows around them were read.
pub fn append(list: &mut Vec<KnownRow>, seen: &Answer) {
    let Answer::Rows(rows) = seen else { return };
    let mut behind = None;
    for row in rows {
        match list.iter().position(|known| known.id == row.id) {
            Some(place) => behind = behind.max(Some(place + 1)),
            None => {
                let place = behind.unwrap_or(list.len());
                list.insert(place, row.clone());
                behind = Some(place + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::reading::tests::{row as known, seen};
    use super::*;

    const ORDER: Order = Order::InsertedAt;

    fn rows() -> Vec<KnownRow> {
        (0..10).rev().map(|n| known(n, "INBOX", "-", "-")).collect()
    }

    fn lead(page: &[KnownRow], at: usize, first: usize) -> Lead {
        Lead::of(page, at, &Answer::Rows(page[first..].to_vec()), ORDER)
    }

    #[test]
    fn where_a_cursor_leads() {
        let mut page = rows();
        assert_eq!(row(&page, ORDER), Some(5));
        let leads = [5, 6, 0, 8].map(|first| lead(&page, 5, first));
        assert_eq!(leads, [Lead::Same, Lead::Next, Lead::Beginning, Lead::Beyond]);
        assert_eq!(Lead::of(&page, 5, &Answer::Refused, ORDER), Lead::Refused);
        assert_eq!(Lead::of(&page, 5, &seen(&page, |_| false), ORDER), Lead::Nothing);
        // Nothing is known of what follows the last row.
        assert_eq!(Lead::of(&page, 9, &seen(&page, |_| false), ORDER), Lead::Unknown);
        let later = Answer::Rows(vec![known(99, "INBOX", "-", "-")]);
        assert_eq!(Lead::of(&page, 9, &later, ORDER), Lead::Beginning);
        let older = Answer::Rows(vec![known(-1, "INBOX", "-", "-")]);
        assert_eq!(Lead::of(&page, 9, &older, ORDER), Lead::Older);
        assert_eq!(Lead::of(&page, 5, &older, ORDER), Lead::Unknown);
        for n in [3, 4] {
            page[n].inserted_at = page[2].inserted_at;
        }
        assert_eq!(row(&page, ORDER), Some(2));
        assert_eq!([3, 5].map(|first| lead(&page, 2, first)), [Lead::NextOfTies, Lead::Below]);
        assert_eq!((row(&[], ORDER), row(&page[..2], ORDER)), (None, None));
    }

    #[test]
    fn a_row_that_shows_another_time_is_no_cursor() {
        let mut page = rows();
        page[5].inserted_at.0 -= 1_000_000_000;
        assert_eq!(row(&page, ORDER), Some(6));
        page[6].has_inserted_at = false;
        assert_eq!(row(&page, ORDER), Some(7));
    }

    #[test]
    fn a_row_that_came_meanwhile_has_its_place_between_the_others() {
        let page = rows();
        let mut list = page[..6].to_vec();
        list.remove(3);
        append(&mut list, &Answer::Rows(page[2..8].to_vec()));
        assert_eq!(list, page[..8]);
        append(&mut list, &Answer::Refused);
        append(&mut list, &Answer::Rows(page[8..].to_vec()));
        assert_eq!(list, page);
    }

    #[test]
    fn what_scans_cannot_go_on_from_is_a_failure() {
        assert_eq!(cursor(Lead::Beyond, None).status, Status::Fail);
        for bad in [Lead::Beginning, Lead::Nothing, Lead::Refused] {
            assert_eq!(cursor(bad, Some(Lead::Next)).status, Status::Warn, "{bad:?}");
            assert_eq!(cursor(bad, Some(bad)).status, Status::Fail, "{bad:?}");
            let mid =
                Steps { mid_by_updated: Some(bad), last_by_updated: Some(Lead::Next), ..Steps::default() };
            assert_eq!(steps(&mid).status, Status::Warn, "{bad:?}");
        }
        for bad in [Lead::Beginning, Lead::Nothing, Lead::Refused, Lead::Beyond] {
            let finding = steps(&Steps { last_by_updated: Some(bad), ..Steps::default() });
            assert_eq!(finding.status, Status::Fail, "{bad:?}");
            assert!(finding.detail.starts_with("from the last row of a batch by updated_at"), "{finding:?}");
        }
        for good in [Lead::Next, Lead::NextOfTies, Lead::Below, Lead::Same, Lead::Older] {
            assert_eq!(cursor(good, None).status, Status::Ok, "{good:?}");
            let all = Steps {
                mid_by_updated: Some(good),
                last_by_updated: Some(Lead::Unknown),
                ..Steps::default()
            };
            assert_eq!(steps(&all).status, Status::Ok, "{good:?}");
        }
        assert_eq!(cursor(Lead::Unknown, None).status, Status::Warn);
        assert_eq!(steps(&Steps::default()).status, Status::Warn);
    }
}
