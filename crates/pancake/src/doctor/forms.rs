//! This module judges windows of time by their form: windows of 27 days, by which scans find the
//! place of an upper bound (see [`crate::paging::cursor`]), and the forms that no scan sends,
//! because pages were seen to refuse them: windows of a month and more (June 2026), and `since`
//! without `until` (July 2026).

use super::finding::Finding;
use super::known::{Answer, KnownRow};
use super::places::sound;
use crate::paging::cursor::{CursorParams, WIDTH_SECONDS};
use crate::plan::filter::Filterable;
use crate::schema::keyset::Order;
use crate::time::{Micros, UnixSeconds};

pub const MONTH: &str = "27 days";
pub const WIDE: &str = "60 days";
pub const LONE: &str = "lone since";

const DAY_SECONDS: i64 = 86_400;
/// Wider than every month.
const WIDE_SECONDS: i64 = 60 * DAY_SECONDS;
const ORDERS: [Order; 2] = [Order::InsertedAt, Order::UpdatedAt];

/// The times of one order that requests are made of; there are rows between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edges {
    pub until: UnixSeconds,
    pub since: UnixSeconds,
}

impl Edges {
    /// `rows`: the newest of a list. Scans send no `until` of the last day, so it is an older row's
    /// if one is known.
    pub fn of(rows: &[KnownRow], order: Order, now: Micros) -> Option<Self> {
        let mut seconds: Vec<_> =
            sound(rows, order).iter().map(|row| row.time(order).floor_second()).collect();
        seconds.dedup();
        let yesterday = now.floor_second().0 - DAY_SECONDS;
        let last = seconds.len().checked_sub(3)?;
        let at =
            seconds.iter().position(|second| second.0 <= yesterday).unwrap_or(seconds.len() / 2).min(last);
        Some(Self { until: seconds[at], since: *seconds.last()? })
    }

    pub fn month(self) -> CursorParams {
        CursorParams::up_to(self.until)
    }

    pub fn wide(self) -> CursorParams {
        let since = UnixSeconds((self.until.0 - WIDE_SECONDS).max(1));
        CursorParams { cursor: None, since: Some(since), until: Some(self.until) }
    }

    pub fn lone(self) -> CursorParams {
        CursorParams { cursor: None, since: Some(self.since), until: None }
    }
}

/// How a request with times was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormReading {
    /// By rows inside.
    Taken,
    Refused,
    /// By a list without rows although there are some inside.
    Empty,
    /// By rows of which most are later than `until`.
    Later,
    /// By less than half of the known rows inside.
    Loses,
}

/// `rows`: the newest of the list in that order. Rows may have moved since they were read, so that
/// a few are missing.
pub fn read(rows: &[KnownRow], order: Order, ask: &CursorParams, seen: &Answer) -> FormReading {
    let Answer::Rows(came) = seen else { return FormReading::Refused };
    let second = |row: &KnownRow| row.time(order).floor_second();
    let is_before = |row: &&KnownRow| ask.until.is_none_or(|until| second(row) < until);
    let later = came.iter().filter(|row| ask.until.is_some_and(|until| second(row) > until)).count();
    let is_unmoved = |row: &KnownRow, known: &KnownRow| known.id == row.id && second(known) == second(row);
    let place = |row: &KnownRow| rows.iter().position(|known| is_unmoved(row, known));
    // A reply shows nothing of rows further down than its last one that has not moved.
    let reached = came.iter().filter_map(place).max().map_or(rows.len(), |last| last + 1);
    let is_inside = |row: &&KnownRow| is_before(row) && ask.since.is_none_or(|since| second(row) > since);
    let inside: Vec<_> = sound(&rows[..reached], order).into_iter().filter(|row| is_inside(&row)).collect();
    let found = inside.iter().filter(|row| came.iter().any(|came| came.id == row.id)).count();
    match () {
        () if came.is_empty() && !inside.is_empty() => FormReading::Empty,
        () if 2 * later > came.len() => FormReading::Later,
        () if 2 * found < inside.len() => FormReading::Loses,
        () => FormReading::Taken,
    }
}

/// The readings of one form, by `inserted_at` and by `updated_at`; none where there were too few
/// rows.
pub type Both = [Option<FormReading>; 2];

/// The orders in which a form is read so, in words. None if there are none.
fn orders(both: Both, reading: FormReading) -> Option<String> {
    let columns = both.iter().zip(ORDERS).filter(|(read, _)| **read == Some(reading));
    let columns: Vec<_> = columns.filter_map(|(_, order)| order.column()).collect();
    (!columns.is_empty()).then(|| format!("by {}", columns.join(" and ")))
}

const TOO_FEW: &str = "too few rows of different times";

/// Windows as scans send them.
pub fn month(both: Both) -> Finding {
    let days = WIDTH_SECONDS / DAY_SECONDS;
    let window = format!("a window of {days} days");
    if let Some(orders) = orders(both, FormReading::Loses) {
        return Finding::fail(MONTH, format!("{window} does not give the rows that are in it, {orders}"))
            .distrust(&[Filterable::UpdatedAt, Filterable::InsertedAt]);
    }
    let costs = "a scan with an upper bound walks down to it from the head of the list";
    let told = |reading, what: &str| orders(both, reading).map(|orders| format!("{window} {what}, {orders}"));
    let paid: Vec<_> = [
        told(FormReading::Refused, "is refused"),
        told(FormReading::Empty, "is answered without rows, though there are some in it"),
        told(FormReading::Later, "gives later rows than its until"),
    ]
    .into_iter()
    .flatten()
    .collect();
    match (paid.is_empty(), orders(both, FormReading::Taken)) {
        (false, _) => Finding::warn(MONTH, format!("{}: {costs}", paid.join("; "))),
        (true, Some(orders)) => Finding::ok(
            MONTH,
            format!("{window} gives its rows, {orders}: a scan with an upper bound begins there"),
        ),
        (true, None) => Finding::untried(MONTH, TOO_FEW),
    }
}

/// Windows of more than a month, which no scan of conversations sends.
pub fn wide(both: Both) -> Finding {
    unneeded(WIDE, both, "scans of conversations send no window of more than 27 days")
}

/// `since` without `until`, which no scan sends.
pub fn lone(both: Both) -> Finding {
    unneeded(LONE, both, "scans send since only beside until, and a lower bound ends the walk")
}

fn unneeded(item: &'static str, both: Both, why: &str) -> Finding {
    let parts: Vec<_> = [
        (FormReading::Taken, "is taken"),
        (FormReading::Refused, "is refused"),
        (FormReading::Empty, "is answered without rows, though there are some"),
        (FormReading::Later, "gives later rows than its until"),
        (FormReading::Loses, "does not give its rows"),
    ]
    .into_iter()
    .filter_map(|(reading, what)| Some(format!("{what} {}", orders(both, reading)?)))
    .collect();
    if parts.is_empty() {
        Finding::untried(item, TOO_FEW)
    } else {
        Finding::ok(item, format!("{}, and not needed: {why}", parts.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::reading::tests::{row, seen};
    use super::*;

    const ORDER: Order = Order::InsertedAt;
    const DAY: i64 = DAY_SECONDS;

    /// One row in twelve hours, the newest at noon of day 40.
    fn page() -> Vec<KnownRow> {
        (0..40).map(|n| row(40 * DAY - n * DAY / 2, "INBOX", "-", "-")).collect()
    }

    fn at(page: &[KnownRow], place: usize) -> UnixSeconds {
        page[place].inserted_at.floor_second()
    }

    #[test]
    fn the_window_begins_at_a_row_of_yesterday_if_one_is_known() {
        let page = page();
        let edges =
            |rows: &[KnownRow], ahead: i64| Edges::of(rows, ORDER, page[0].inserted_at.minus_seconds(-ahead));
        assert_eq!(edges(&page, 0), Some(Edges { until: at(&page, 2), since: at(&page, 39) }));
        assert_eq!(edges(&page, 9 * DAY).unwrap().until, at(&page, 0));
        assert_eq!(edges(&page, -30 * DAY).unwrap().until, at(&page, 20));
        assert_eq!(edges(&page[..3], -30 * DAY).unwrap().until, at(&page, 0));
        assert_eq!(edges(&page[..2], 0), None);
        let month = edges(&page, 0).unwrap().month();
        assert_eq!(month.until.unwrap().0 - month.since.unwrap().0, 27 * DAY);
        assert_eq!(edges(&page, 0).unwrap().wide().since, Some(UnixSeconds(1)));
    }

    #[test]
    fn a_row_that_shows_an_older_time_gives_no_window() {
        let mut page = page();
        page[1].inserted_at.0 -= 400 * DAY * 1_000_000;
        let edges = Edges::of(&page[..5], ORDER, page[0].inserted_at.minus_seconds(30 * DAY)).unwrap();
        assert_eq!(edges, Edges { until: at(&page, 2), since: at(&page, 4) });
    }

    #[test]
    fn a_window_is_taken_refused_empty_too_late_or_lossy() {
        let page = page();
        let edges = Edges::of(&page, ORDER, page[0].inserted_at).unwrap();
        let until = edges.until;
        let told = |ask: &CursorParams, wanted: &dyn Fn(&KnownRow) -> bool| {
            read(&page, ORDER, ask, &seen(&page, wanted))
        };
        let second = |row: &KnownRow| row.inserted_at.floor_second();
        let month = edges.month();
        assert_eq!(told(&month, &|row| second(row) <= until), FormReading::Taken);
        // A short batch shows nothing of what is behind it.
        assert_eq!(
            told(&month, &|row| second(row) <= until && second(row) > at(&page, 6)),
            FormReading::Taken
        );
        assert_eq!(told(&month, &|_| false), FormReading::Empty);
        assert_eq!(told(&month, &|row| second(row) > until), FormReading::Later);
        assert_eq!(told(&month, &|row| second(row) == at(&page, 30)), FormReading::Loses);
        assert_eq!(read(&page, ORDER, &month, &Answer::Refused), FormReading::Refused);
        let unknown = Answer::Rows(vec![row(DAY, "INBOX", "-", "-")]);
        assert_eq!(read(&page, ORDER, &month, &unknown), FormReading::Loses);
        assert_eq!(told(&edges.lone(), &|_| true), FormReading::Taken);
        assert_eq!(told(&edges.lone(), &|_| false), FormReading::Empty);
    }

    #[test]
    fn a_row_that_moved_up_does_not_show_how_far_down_a_reply_goes() {
        let page = page();
        let edges = Edges::of(&page, ORDER, page[0].inserted_at).unwrap();
        let mut came = page[..5].to_vec();
        came.insert(0, KnownRow { inserted_at: page[0].inserted_at, ..page[38].clone() });
        assert_eq!(read(&page, ORDER, &edges.lone(), &Answer::Rows(came)), FormReading::Taken);
    }

    #[test]
    fn what_scans_send_costs_or_fails_and_what_they_do_not_send_is_no_matter() {
        let both = |one, other| [Some(one), Some(other)];
        let taken = FormReading::Taken;
        assert_eq!(month(both(taken, taken)).status, Status::Ok);
        assert!(month(both(taken, taken)).detail.contains("by inserted_at and updated_at"));
        for paid in [FormReading::Refused, FormReading::Empty, FormReading::Later] {
            let finding = month(both(paid, taken));
            assert_eq!(finding.status, Status::Warn, "{finding:?}");
            assert!(finding.detail.contains("by inserted_at: a scan with an upper bound walks down"));
        }
        assert_eq!(month(both(taken, FormReading::Loses)).status, Status::Fail);
        assert_eq!(month([None, None]).status, Status::Warn);
        for reading in
            [taken, FormReading::Refused, FormReading::Empty, FormReading::Later, FormReading::Loses]
        {
            assert_eq!(wide(both(reading, taken)).status, Status::Ok);
            assert_eq!(lone(both(taken, reading)).status, Status::Ok);
        }
        let refused = lone(both(FormReading::Refused, FormReading::Refused));
        assert!(refused.detail.starts_with("is refused by inserted_at and updated_at, and not needed"));
        assert_eq!(lone([None, None]).status, Status::Warn);
    }
}
