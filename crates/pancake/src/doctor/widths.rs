//! This module judges the lists that come by windows of time, posts and customers: in the width of
//! a scan's slice, and over the whole time, which pages have refused (June 2026), answered without
//! rows, or failed at (September 2026).

use super::finding::Finding;
use super::requests::{ListRow, Listing};
use crate::paging::cursor::WIDTH_SECONDS;
use crate::paging::pager::BatchParams;
use crate::paging::time_slices::NumberedBatch;
use crate::schema::catalogue::Object;
use crate::time::{Micros, UnixSeconds};

const DAY_SECONDS: i64 = 86_400;

/// How one of the lists was answered.
pub struct Answers {
    /// For the whole time.
    pub wide: Listing,
    /// For the last 27 days.
    pub narrow: Listing,
    /// The second at which those begin.
    pub since: UnixSeconds,
}

impl Answers {
    /// The rows that came, and whether there are no others.
    pub fn rows(&self) -> (&[ListRow], bool) {
        match (&self.wide, &self.narrow) {
            (Listing::Rows { rows, total }, _) if !rows.is_empty() => {
                (rows, total.is_some_and(|total| total <= rows.len() as u64))
            }
            (_, Listing::Rows { rows, .. }) => (rows, false),
            (_, Listing::Refused) => (&[], false),
        }
    }
}

/// All the time up to tomorrow, because a row may be dated a little ahead of our clock.
pub fn wide(now: Micros, size: u64) -> BatchParams {
    let until = UnixSeconds(now.floor_second().0 + DAY_SECONDS);
    BatchParams::Numbered(NumberedBatch { since: UnixSeconds(1), until, number: 1, size })
}

/// The last 27 days, and the second at which they begin.
pub fn narrow(now: Micros, size: u64) -> (BatchParams, UnixSeconds) {
    let until = now.floor_second();
    let since = UnixSeconds(until.0 - WIDTH_SECONDS);
    (BatchParams::Numbered(NumberedBatch { since, until, number: 1, size }), since)
}

pub fn verdict(object: Object, answers: &Answers) -> Finding {
    let (item, row) = (object.name(), object.row());
    let Listing::Rows { rows: narrow, .. } = &answers.narrow else {
        return Finding::fail(item, format!("{item} of 27 days are refused: a scan ends in an error"))
            .hint("Ask again; please report it if it lasts.");
    };
    let pays = |what: &str| {
        Finding::warn(
            item,
            format!("{item} of the whole time {what}: a scan reads them by windows of 27 days"),
        )
    };
    let Listing::Rows { rows: wide, .. } = &answers.wide else { return pays("are refused") };
    let is_inside = |row: &&ListRow| row.at.floor_second() > answers.since;
    let of =
        |rows: &[ListRow], other: &[ListRow]| rows.iter().any(|row| other.iter().any(|one| one.id == row.id));
    match (wide.is_empty(), narrow.is_empty()) {
        (true, true) => Finding::untried(item, &format!("no {row}")),
        (true, false) => pays("are answered without rows, though the last 27 days have some"),
        (false, true) if wide.iter().any(|row| is_inside(&row)) => {
            Finding::fail(item, format!("{item} of 27 days are answered without rows, though there are some"))
                .hint("A scan by windows misses rows; please report it.")
        }
        (false, true) => {
            Finding::ok(item, format!("{item} of the whole time are given; none is of the last 27 days"))
        }
        (false, false) if !of(wide, narrow) => pays("do not begin with the newest"),
        (false, false) => Finding::ok(item, format!("{item} of the whole time and of 27 days are given")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::time::SECOND;

    fn rows(seconds: &[i64]) -> Listing {
        let row =
            |second: &i64| ListRow { id: format!("p{second}"), at: Micros(second * SECOND), fb_id: None };
        Listing::Rows { rows: seconds.iter().map(row).collect(), total: Some(seconds.len() as u64) }
    }

    fn told(wide: Listing, narrow: Listing) -> Finding {
        verdict(Object::Posts, &Answers { wide, narrow, since: UnixSeconds(100) })
    }

    #[test]
    fn both_widths_are_compared() {
        let statuses = [
            (rows(&[200, 90]), rows(&[200]), Status::Ok),
            (rows(&[90, 80]), rows(&[]), Status::Ok),
            (rows(&[200, 90]), rows(&[]), Status::Fail),
            (rows(&[]), rows(&[200]), Status::Warn),
            (rows(&[90]), rows(&[200]), Status::Warn),
            (rows(&[]), rows(&[]), Status::Warn),
            (Listing::Refused, rows(&[200]), Status::Warn),
            (Listing::Refused, rows(&[]), Status::Warn),
            (rows(&[200]), Listing::Refused, Status::Fail),
        ];
        for (wide, narrow, status) in statuses {
            let case = format!("{wide:?} {narrow:?}");
            let finding = told(wide, narrow);
            assert_eq!((finding.item, finding.status), ("posts", status), "{case}: {finding:?}");
        }
        assert!(
            told(Listing::Refused, rows(&[200])).detail.contains("are refused: a scan reads them by windows")
        );
        assert!(told(rows(&[]), rows(&[200])).detail.contains("answered without rows"));
    }

    #[test]
    fn the_rows_of_either_width_serve_the_joins() {
        let of = |wide, narrow| {
            let answers = Answers { wide, narrow, since: UnixSeconds(100) };
            (answers.rows().0.len(), answers.rows().1)
        };
        assert_eq!(of(rows(&[200, 90]), rows(&[200])), (2, true));
        assert_eq!(of(Listing::Refused, rows(&[200])), (1, false));
        assert_eq!(of(rows(&[]), rows(&[200])), (1, false));
        assert_eq!(of(Listing::Refused, Listing::Refused), (0, false));
    }

    #[test]
    fn a_slice_is_not_wider_than_a_month() {
        let now = Micros(1_700_000_000 * SECOND);
        let (ask, since) = narrow(now, 30);
        let width = |ask: BatchParams| match ask {
            BatchParams::Numbered(batch) => batch.until.0 - batch.since.0,
            other => panic!("{other:?}"),
        };
        assert_eq!(width(ask), 27 * DAY_SECONDS);
        assert_eq!(since, UnixSeconds(1_700_000_000 - 27 * DAY_SECONDS));
        assert!(width(wide(now, 30)) > 60 * DAY_SECONDS);
    }
}
