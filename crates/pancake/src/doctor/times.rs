//! This module checks how `since` and `until` are read: whether they hold the second that they
//! name, how finely, and on which column.

use super::finding::{Finding, Status};
use super::known::{Answer, KnownRow};
use super::places::sound;
use crate::paging::cursor::WIDTH_SECONDS;
use crate::plan::filter::Filterable;
use crate::schema::keyset::Order;
use crate::time::{Micros, SECOND};

pub const SINCE: &str = "since";
pub const UNTIL: &str = "until";
pub const COLUMN: &str = "time column";
const BOTH: [Filterable; 2] = [Filterable::UpdatedAt, Filterable::InsertedAt];

/// A window from the second of one known row to that of another; there are rows inside of it and
/// beyond both ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub newest: KnownRow,
    pub oldest: KnownRow,
}

fn is_whole(time: Micros) -> bool {
    time.0.rem_euclid(SECOND) == 0
}

impl Window {
    /// The smallest one whose ends are as wanted: a time of a whole second, or one with a fraction.
    /// Rows newest first, of at most 27 days.
    fn between(
        rows: &[KnownRow],
        order: Order,
        newest: impl Fn(Micros) -> bool,
        oldest: impl Fn(Micros) -> bool,
    ) -> Option<Self> {
        let time = |row: &KnownRow| row.time(order);
        let second = |row: &KnownRow| time(row).floor_second().0;
        rows.iter().enumerate().skip(1).filter(|(_, row)| newest(time(row))).find_map(|(at, top)| {
            let newer = rows[..at].iter().any(|row| second(row) > second(top));
            let bottom = rows[at..].iter().find(|row| {
                let inside = |other: &&KnownRow| second(other) < second(top) && second(other) > second(row);
                let older = rows.iter().any(|other| second(other) < second(row));
                // Wider ones are refused by some pages, and not sent by scans.
                let is_narrow = second(top) - second(row) <= WIDTH_SECONDS;
                oldest(time(row)) && older && is_narrow && rows.iter().any(|other| inside(&other))
            });
            let window = |bottom: &KnownRow| Self { newest: top.clone(), oldest: bottom.clone() };
            bottom.filter(|_| newer).map(window)
        })
    }

    /// Two windows by `inserted_at`: each end once at a whole second and once at a fraction, where
    /// there are both.
    pub fn by_inserted_at(rows: &[KnownRow]) -> Vec<Self> {
        let rows = sound(rows, Order::InsertedAt);
        let between = |newest: &dyn Fn(Micros) -> bool, oldest: &dyn Fn(Micros) -> bool| {
            Self::between(&rows, Order::InsertedAt, newest, oldest)
        };
        let broken = |time| !is_whole(time);
        let pair = [between(&is_whole, &broken), between(&broken, &is_whole)];
        if pair.iter().all(Option::is_none) {
            between(&|_| true, &|_| true).into_iter().collect()
        } else {
            pair.into_iter().flatten().collect()
        }
    }

    pub fn by_updated_at(rows: &[KnownRow]) -> Option<Self> {
        Self::between(&sound(rows, Order::UpdatedAt), Order::UpdatedAt, |_| true, |_| true)
    }

    pub fn bounds(&self, order: Order) -> (Micros, Micros) {
        (self.oldest.time(order), self.newest.time(order))
    }
}

/// What one window's answer shows. `None`: it does not show.
#[derive(Debug, Default, PartialEq)]
struct WindowReading {
    since_ignored: bool,
    until_ignored: bool,
    refused: bool,
    /// A row that lies inside under every reading and did not come.
    lost: Option<String>,
    since_holds: Option<bool>,
    until_holds: Option<bool>,
}

fn shown(window: &Window, order: Order, seen: &Answer, known: &[KnownRow]) -> WindowReading {
    let Answer::Rows(rows) = seen else { return WindowReading { refused: true, ..WindowReading::default() } };
    let second = |row: &KnownRow| row.time(order).floor_second().0;
    let (since, until) = (second(&window.oldest), second(&window.newest));
    let came = |row: &KnownRow| rows.iter().any(|came| came.id == row.id);
    let oldest = rows.iter().map(|row| row.time(order)).min();
    let reached = |row: &KnownRow| oldest.is_none_or(|oldest| row.time(order) > oldest);
    let inside: Vec<_> = known.iter().filter(|row| second(row) > since && second(row) < until).collect();
    let still = |row: &KnownRow| known.iter().any(|k| k == row);
    // Down there is nothing of what was cut off.
    let to_the_bottom = inside.iter().min_by_key(|row| row.time(order)).is_some_and(|row| came(row));
    WindowReading {
        since_ignored: rows.iter().any(|row| second(row) < since),
        until_ignored: rows.iter().any(|row| second(row) > until),
        refused: false,
        lost: inside.iter().find(|row| reached(row) && !came(row)).map(|row| row.id.clone()),
        since_holds: (to_the_bottom && still(&window.oldest)).then(|| came(&window.oldest)),
        until_holds: (!rows.is_empty() && still(&window.newest)).then(|| came(&window.newest)),
    }
}

/// By `inserted_at`, which never changes.
pub fn verdicts(windows: &[(Window, Answer)], known: &[KnownRow]) -> [Finding; 2] {
    const ORDER: Order = Order::InsertedAt;
    if windows.is_empty() {
        return [SINCE, UNTIL].map(|item| Finding::untried(item, "too few rows of different times"));
    }
    let shown: Vec<_> =
        windows.iter().map(|(window, seen)| (window, shown(window, ORDER, seen, known))).collect();
    // At a time of a whole second, and at one with a fraction.
    let at = |item: &str, whole: bool| {
        shown.iter().find_map(|(window, shown)| {
            let (end, holds) = match item {
                SINCE => (&window.oldest, shown.since_holds),
                _ => (&window.newest, shown.until_holds),
            };
            holds.filter(|_| is_whole(end.time(ORDER)) == whole)
        })
    };
    let lost = shown.iter().find_map(|(_, shown)| shown.lost.clone());
    [SINCE, UNTIL].map(|item| {
        let ignored =
            shown.iter().any(|(_, s)| if item == SINCE { s.since_ignored } else { s.until_ignored });
        let (whole, fraction) = (at(item, true), at(item, false));
        if shown.iter().any(|(_, shown)| shown.refused) {
            return Finding::fail(item, "a window of since and until is refused").distrust(&BOTH);
        }
        if ignored {
            return Finding::warn(
                item,
                "is ignored: rows beyond it come too, and a window costs what lies on the way to it",
            );
        }
        if let Some(id) = &lost {
            return Finding::fail(item, format!("rows inside of a window do not come, such as {id}"))
                .distrust(&BOTH);
        }
        let holds = match (item, whole, fraction) {
            (_, None, None) => return Finding::untried(item, "no row at the edge of a window"),
            (SINCE, Some(false), Some(true)) => "leaves out that very time, and holds the rest of its second",
            (_, Some(false), _) => "leaves out the second that it names",
            (_, None, Some(false)) => "leaves out rows within the second that it names",
            (UNTIL, Some(true), Some(false)) => "holds that very time, and not the rest of its second",
            (_, _, Some(true)) => "holds the second that it names",
            (_, Some(true), _) => "holds rows of the very second that it names",
        };
        let finding = Finding::ok(item, format!("{holds}; pancake_fdw asks for a second more and cuts here"));
        match (whole, fraction) {
            (Some(_), Some(_)) => finding,
            _ => finding.also("there were not rows both of whole seconds and with fractions to tell more"),
        }
    })
}

/// Whether the bounds act on the column that `order_by` names: asked for by `updated_at`, where
/// rows move, so some of them may be missing, but not most. A batch shows nothing about rows older
/// than its last.
pub fn column(window: Option<&(Window, Answer)>, known: &[KnownRow]) -> Finding {
    const ORDER: Order = Order::UpdatedAt;
    let Some((window, seen)) = window else {
        return Finding::untried(COLUMN, "too few rows of different times");
    };
    let (low, high) = window.bounds(ORDER);
    let (low, high) = (low.floor_second(), high.floor_second());
    let inside = |time: Micros| (low.0..=high.0).contains(&time.floor_second().0);
    let Answer::Rows(rows) = seen else {
        return Finding::fail(COLUMN, "a window by updated_at is refused").distrust(&[Filterable::UpdatedAt]);
    };
    let oldest = rows.iter().map(|row| row.updated_at).min();
    let reached = |row: &KnownRow| oldest.is_none_or(|oldest| row.updated_at >= oldest);
    // Whether the seconds of the bounds themselves belong to the window is another question.
    let between = |time: Micros| (low.0 + 1..high.0).contains(&time.floor_second().0);
    let expected: Vec<_> = known.iter().filter(|row| between(row.updated_at) && reached(row)).collect();
    let came = expected.iter().filter(|row| rows.iter().any(|came| came.id == row.id)).count();
    // A few rows may show an older time than the one that is compared.
    let outside = 2 * rows.iter().filter(|row| !inside(row.updated_at)).count() > rows.len();
    let by_other = !rows.is_empty() && rows.iter().all(|row| inside(row.inserted_at));
    match () {
        () if outside && by_other => {
            Finding::fail(COLUMN, "order_by=updated_at with since and until acts on inserted_at")
                .distrust(&[Filterable::UpdatedAt])
        }
        () if !outside && 2 * came < expected.len() => Finding::fail(
            COLUMN,
            format!("of {} rows inside a window by updated_at {came} come", expected.len()),
        )
        .distrust(&[Filterable::UpdatedAt]),
        () if outside => Finding::new(
            COLUMN,
            Status::Warn,
            "a bound is ignored: the column that the bounds act on could not be determined",
        ),
        () => Finding::ok(COLUMN, "since and until act on the column that order_by names"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::reading::tests::{row, seen};
    use super::*;

    /// Ten rows, every other one with a fraction of a second.
    fn page() -> Vec<KnownRow> {
        let at = |n: i64| {
            let mut row = row(1000 + 10 * n, "INBOX", "-", "-");
            row.inserted_at.0 += if n % 2 == 0 { 0 } else { 250_000 };
            row.updated_at = row.inserted_at;
            row
        };
        (0..10).rev().map(at).collect()
    }

    type Bound = fn(i64, i64) -> bool;

    /// The verdicts where rows come whose time, in microseconds, stands so to the bounds.
    fn read(since: Bound, until: Bound) -> [Finding; 2] {
        let page = page();
        let answer = |window: Window| {
            let (low, high) = window.bounds(Order::InsertedAt);
            let (low, high) = (low.floor_second().0 * SECOND, high.floor_second().0 * SECOND);
            let rows = seen(&page, |row| since(row.inserted_at.0, low) && until(row.inserted_at.0, high));
            (window, rows)
        };
        let windows: Vec<_> = Window::by_inserted_at(&page).into_iter().map(answer).collect();
        assert_eq!(windows.len(), 2);
        verdicts(&windows, &page)
    }

    fn cut(time: i64) -> i64 {
        time - time.rem_euclid(SECOND)
    }

    #[test]
    fn every_reading_of_the_bounds_is_told() {
        let readings: [(Bound, Bound, &str, &str); 5] = [
            (|t, b| t >= b, |t, b| t <= b, "holds the second", "holds that very time, and not"),
            (|t, b| cut(t) >= b, |t, b| cut(t) <= b, "holds the second", "holds the second"),
            (|t, b| t > b, |t, b| t < b, "leaves out that very time", "leaves out the second"),
            (|t, b| cut(t) > b, |t, b| cut(t) < b, "leaves out the second", "leaves out the second"),
            (|_, _| true, |_, _| true, "is ignored", "is ignored"),
        ];
        for (since, until, says_since, says_until) in readings {
            let [of_since, of_until] = read(since, until);
            assert!(of_since.detail.starts_with(says_since), "{of_since:?}");
            assert!(of_until.detail.starts_with(says_until), "{of_until:?}");
        }
        let [since, _] = read(|t, b| t > b + 10 * SECOND, |t, b| t <= b);
        assert_eq!(
            (since.status, since.distrust.len()),
            (Status::Ok, 0),
            "what is cut off below is not seen"
        );
        let [since, _] = read(|t, _| t % (20 * SECOND) < 2 * SECOND, |t, b| t <= b);
        assert_eq!(since.status, Status::Warn, "{since:?}");
        let [since, _] = read(|_, _| false, |_, _| false);
        assert_eq!((since.status, since.distrust.as_slice()), (Status::Fail, &BOTH[..]));
    }

    #[test]
    fn no_window_is_wider_than_what_scans_send() {
        let at = |n: i64| row(100_000_000 + n * 20 * 86_400, "INBOX", "-", "-");
        let sparse: Vec<_> = (0..9).rev().map(at).collect();
        assert_eq!((Window::by_inserted_at(&sparse), Window::by_updated_at(&sparse)), (vec![], None));
    }

    #[test]
    fn the_column_is_told_by_the_rows_that_come() {
        let mut page = page();
        page.iter_mut().for_each(|row| row.inserted_at.0 = 5_000 * SECOND - row.updated_at.0);
        let window = Window::by_updated_at(&page).unwrap();
        let (low, high) = window.bounds(Order::UpdatedAt);
        let told =
            |wanted: &dyn Fn(&KnownRow) -> bool| column(Some(&(window.clone(), seen(&page, wanted))), &page);
        assert_eq!(told(&|row| (low..=high).contains(&row.updated_at)).status, Status::Ok);
        assert_eq!(told(&|_| true).status, Status::Warn);
        assert_eq!(told(&|_| false).status, Status::Fail);
        assert_eq!(told(&|row| row.updated_at == high).status, Status::Ok, "a short batch");
        assert_eq!(told(&|row| row.updated_at == low).status, Status::Fail);
        assert_eq!(column(None, &page).status, Status::Warn);
        let moved = KnownRow { inserted_at: low, updated_at: Micros(0), ..page[0].clone() };
        let other = column(Some(&(window, Answer::Rows(vec![moved]))), &page);
        assert_eq!((other.status, other.distrust), (Status::Fail, vec![Filterable::UpdatedAt]));
    }
}
