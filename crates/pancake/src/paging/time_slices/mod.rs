//! This module pages a list that comes in numbered batches of a window of time: what to ask next,
//! and what a reply proves (docs/api.md). Numbers shift while rows come and go, so a window counts
//! only if all of it came in one reply.
//!
//! 1. The first request is for the whole window of the query, and its `total` gives how much there
//!    is. What does not fit into one reply is cut into *slices*, each about three quarters of a
//!    batch by what is known of the density; a slice that is still too full is cut again. Slices
//!    are whole seconds, asked for a second wider at both ends, and cut exactly on our side: so
//!    they are right whether bounds are inclusive or not.
//! 2. A window of a month may be refused, or answered empty. It is believed only if it, or one that
//!    is as wide and reaches up to the newest rows, is answered with rows; else the list is asked
//!    for in slices of 27 days, from 13 days ahead of today down to [`FLOOR`].
//! 3. By `inserted_at`, which never changes, slices go down from the newest. By `updated_at` they
//!    go up: a row that changes meanwhile goes further up, to a part that has not been read yet,
//!    however late it surfaces.
//! 4. What cannot be cut (a second with more rows than a batch, a server that does not cut by time
//!    at all) is read *by numbers*, up to an empty batch, again and again until it reads the same
//!    twice: then nothing moved from the first batch of the one reading to the last of the other. A
//!    full batch whose `total` is its length is followed by the second batch once: some totals may
//!    be those of the batch.

mod cut;
mod numbers;
mod width;

use crate::error::{Error, Kind, Result};
use crate::paging::cursor::{End, LAST_SECOND, WIDTH_SECONDS};
use crate::paging::id_set::IdSet;
use crate::paging::verdicts::Assumptions;
use crate::schema::keyset::{RowKey, TimeRange};
use crate::time::{Micros, SECOND, UnixSeconds};
use cut::Crowd;
use numbers::Reading;
use width::WideWindow;

/// A slice is halved some thirty times from the age of Unix down to a second.
const MOST_FRUITLESS: u32 = 100;

/// Where a list ends that cannot be asked for in one window: 2015-01-01, before Pancake had
/// customers.
pub const FLOOR: i64 = 1_420_070_400;

/// A slice is asked for with a second more at both ends.
const SLICE_SECONDS: i64 = WIDTH_SECONDS - 2;

/// No page is known whose batches are shorter.
const SHORTEST_BATCH: usize = 20;

/// One numbered batch of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberedBatch {
    pub since: UnixSeconds,
    pub until: UnixSeconds,
    pub number: u64,
    pub size: u64,
}

/// Seconds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slice {
    low: i64,
    high: i64,
}

#[derive(Clone, Debug)]
pub struct TimeSlicePager {
    window: TimeRange,
    batch: u64,
    /// Rows may go to the head while they are walked: by `updated_at`.
    moves: bool,
    /// A time not later than the server's.
    now: i64,
    /// No window of a month is sent.
    is_narrow: bool,
    /// The widest window that was answered with rows.
    proven: i64,
    /// A wide window was answered empty: one that reaches up to the newest rows is asked for, to
    /// see whether it is answered.
    is_proving: bool,
    /// The page has refused a window of a month, or left out rows of it.
    wide: WideWindow,
    /// What `total` is worth.
    totals: Totals,
    /// What is not had yet of the part that is walked now.
    rest: Slice,
    /// The page takes no times ahead of today.
    is_up_to_today: bool,
    has_failed_ahead: bool,
    /// The last second that is asked for in narrow windows.
    top: i64,
    /// Rows that the rest holds, by estimate.
    left: u64,
    /// The total of the first reply.
    total: Option<u64>,
    slice: Slice,
    reading: Option<Reading>,
    /// The newest second of any row that came.
    newest: Option<i64>,
    seconds_per_row: f64,
    crowd: Option<Crowd>,
    came: IdSet,
    /// A row came whose place in time no slice shows.
    is_loose: bool,
    /// Replies in a row that brought nothing new, readings by numbers aside: those have a patience
    /// of their own.
    fruitless: u32,
    ended: bool,
}

/// Whether a `total` has proved to be that of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Totals {
    Unproven,
    Proven,
    OfBatch,
}

impl Slice {
    fn holds(self, row: &RowKey) -> bool {
        (self.low..=self.high).contains(&row.at.floor_second().0)
    }

    fn is_empty(self) -> bool {
        self.low > self.high
    }
}

impl TimeSlicePager {
    pub fn new(window: TimeRange, batch: u64, moves: bool, known: Assumptions) -> Self {
        let low = window.low.map_or(0, |low| low.floor_second().0).clamp(0, LAST_SECOND);
        let high = window.high.map_or(LAST_SECOND, |high| high.ceil_second().0).clamp(0, LAST_SECOND);
        let rest = Slice { low, high };
        let mut windows = Self {
            window,
            batch,
            moves,
            now: known.now.floor_second().0,
            is_narrow: false,
            proven: WIDTH_SECONDS,
            is_proving: false,
            wide: WideWindow::default(),
            totals: Totals::Unproven,
            rest,
            is_up_to_today: false,
            has_failed_ahead: false,
            top: LAST_SECOND,
            left: 0,
            total: None,
            slice: rest,
            reading: None,
            newest: None,
            seconds_per_row: 1.0,
            crowd: None,
            came: IdSet::default(),
            is_loose: false,
            fruitless: 0,
            ended: false,
        };
        if !known.takes_windows && windows.is_wide() {
            windows.narrow();
        }
        windows
    }

    pub fn ended(&self) -> Option<End> {
        self.ended.then_some(End::ListEnded)
    }

    /// Of a list in slices of 27 days one of those that have not been read, counted from the
    /// newest.
    pub fn unread(&self, index: i64) -> Option<NumberedBatch> {
        let high = self.rest.high.checked_sub(index.checked_mul(SLICE_SECONDS)?)?;
        let low = (high - (SLICE_SECONDS - 1)).max(self.rest.low);
        let slice = Slice { low, high };
        (self.is_narrow && !self.ended && !slice.is_empty()).then(|| self.first_batch(slice))
    }

    fn first_batch(&self, slice: Slice) -> NumberedBatch {
        // Both bounds are required. Second 0 might be taken for none.
        let since = (slice.low - 1).max(1);
        let until = (slice.high + 1).clamp(since, LAST_SECOND);
        NumberedBatch { since: UnixSeconds(since), until: UnixSeconds(until), number: 1, size: self.batch }
    }

    /// By `inserted_at`, rows that show a later time than this are all had, but for those that no
    /// slice holds.
    pub fn reached(&self) -> Micros {
        let rest = if self.moves { LAST_SECOND } else { self.rest.high };
        Micros(rest.saturating_add(1).saturating_mul(SECOND) - 1)
    }

    /// Whether rows have come that are in no slice: their place in the order shows too late.
    pub fn is_loose(&self) -> bool {
        self.is_loose
    }

    /// Rows in the query's window, by the total of the first reply.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// The next request. `None` at the end.
    pub fn ask(&self) -> Option<NumberedBatch> {
        let first = self.first_batch(self.slice);
        let until = if self.is_proving { UnixSeconds(LAST_SECOND) } else { first.until };
        let number = self.reading.as_ref().map_or(1, |reading| reading.number);
        (!self.ended).then_some(NumberedBatch { until, number, ..first })
    }

    /// Takes a reply in, and returns which of its rows to hand out. `now`: a time not later than
    /// the reply's own.
    pub fn reply(&mut self, rows: &[RowKey], total: Option<u64>, now: Micros) -> Result<Vec<usize>> {
        self.now = self.now.max(now.floor_second().0);
        self.came.reserve(rows.len())?;
        if self.is_about_width(rows) {
            return Ok(Vec::new());
        }
        let is_full = self.is_full(rows.len());
        let claimed = total;
        let total = total.filter(|_| !(is_full && self.totals == Totals::OfBatch));
        if self.total.is_none() && !self.is_narrow {
            (self.total, self.left) = (total, total.unwrap_or(0));
        }
        let seconds = || rows.iter().map(|row| row.at.floor_second().0);
        self.newest = self.newest.max(seconds().max());
        let asked = self.ask().map(|ask| ask.since.0..=ask.until.0);
        let cut_by_time = asked.is_some_and(|asked| seconds().all(|second| asked.contains(&second)));
        let in_one_reply = total.is_some_and(|total| total <= rows.len() as u64);
        let mut fresh = Vec::new();
        match (&self.reading, in_one_reply && self.is_first(), cut_by_time) {
            (_, true, _) if is_full && self.totals == Totals::Unproven => {
                fresh = self.hand_out(rows);
                let ids = rows.iter().map(|row| row.id.clone()).collect();
                self.reading = Some(Reading { number: 2, ids, checking: total, ..Reading::default() });
            }
            (_, true, _) => {
                fresh = self.hand_out(rows);
                self.next_slice(fresh.len());
            }
            (Some(_), false, _) => return self.read_on(rows, claimed),
            (None, false, false) => {
                if !self.is_narrow {
                    self.slice = self.rest;
                }
                self.read_by_numbers();
            }
            // If there is no total, or not all came that could, cutting finds no end.
            (None, false, true) => match total.filter(|total| *total > self.batch) {
                Some(total) => self.cut(rows, total),
                None => self.read_by_numbers(),
            },
        }
        self.fruitless = if fresh.is_empty() { self.fruitless + 1 } else { 0 };
        if self.fruitless > MOST_FRUITLESS {
            Err(restless("A hundred requests in a row brought no row that was new.".to_owned()))
        } else {
            Ok(fresh)
        }
    }

    /// Whether a reply may be as long as the page's replies can be, which is a round number.
    fn is_full(&self, rows: usize) -> bool {
        rows as u64 >= self.batch || (rows >= SHORTEST_BATCH && rows.is_multiple_of(5))
    }

    fn is_first(&self) -> bool {
        self.reading.as_ref().is_none_or(|reading| reading.number == 1)
    }

    fn hand_out(&mut self, rows: &[RowKey]) -> Vec<usize> {
        // Rows without a time, or with one that cannot be asked for, are in no slice.
        let is_odd = |row: &RowKey| !row.is_dated || !(1..=LAST_SECOND).contains(&row.at.floor_second().0);
        self.is_loose |= rows.iter().any(is_odd);
        let mine = |row: &RowKey| (self.slice.holds(row) || is_odd(row)) && self.window.holds(row.at);
        (0..rows.len()).filter(|i| mine(&rows[*i]) && self.came.is_new(&rows[*i].id)).collect()
    }
}

fn restless(detail: String) -> Error {
    Error::new(Kind::NotUnderstood, "list never rests").detail(detail)
}

#[cfg(test)]
mod model;
