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

use crate::error::{Error, Kind, Result};
use crate::paging::cursor::{End, LAST_SECOND, TERMS, WIDTH_SECONDS};
use crate::paging::id_set::IdSet;
use crate::paging::verdicts::{self, Known};
use crate::schema::keyset::{RowKey, TimeRange};
use crate::time::{Micros, SECOND, UnixSeconds};

/// How much of a batch a slice is cut for.
const FILL: f64 = 0.75;

/// A slice is halved some thirty times from the age of Unix down to a second.
const MOST_FRUITLESS: u32 = 100;

/// Where a list ends that cannot be asked for in one window: 2015-01-01, before Pancake had
/// customers.
pub const FLOOR: i64 = 1_420_070_400;

/// A slice is asked for with a second more at both ends.
const SLICE_SECONDS: i64 = WIDTH_SECONDS - 2;

/// No page is known whose batches are shorter.
const SHORTEST_BATCH: usize = 20;

/// Where windows of a month are not taken, rows are looked for that are dated so far ahead of
/// today.
const AHEAD_SECONDS: i64 = 13 * 86_400;

/// Clients send times up to the end of today, in Vietnam (docs/api.md).
const OFFSET_SECONDS: i64 = 7 * 3_600;
const DAY_SECONDS: i64 = 86_400;

/// One numbered batch of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
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
    wide: Wide,
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

/// What became of a window of a month.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Wide {
    was_refused: bool,
    was_empty: bool,
    was_taken: bool,
    /// The refusal named the form, or a slice within it has shown rows since.
    is_certain: bool,
    /// A narrower window has been answered since.
    was_replaced: bool,
}

/// Whether a `total` has proved to be that of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Totals {
    Unproven,
    Proven,
    OfBatch,
}

/// The last slice that was too full, as far as it still lies ahead.
#[derive(Clone, Copy, Debug)]
struct Crowd {
    /// Its far end.
    end: i64,
    rows: u64,
}

/// A slice that is read by numbers.
#[derive(Clone, Debug, Default)]
struct Reading {
    number: u64,
    ids: Vec<String>,
    before: Option<Vec<String>>,
    count: u32,
    /// The first batch was full and its total is so much: the second one shows whether that is all.
    checking: Option<u64>,
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
    pub fn new(window: TimeRange, batch: u64, moves: bool, known: Known) -> Self {
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
            wide: Wide::default(),
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

    /// Whether the next request is for a window that a page may refuse.
    fn is_wide(&self) -> bool {
        self.ask().is_some_and(|ask| ask.until.0 - ask.since.0 > WIDTH_SECONDS)
    }

    /// Goes on in slices of 27 days.
    fn narrow(&mut self) {
        self.is_narrow = true;
        (self.total, self.left, self.crowd, self.reading) = (None, u64::MAX, None, None);
        self.seconds_per_row = SLICE_SECONDS as f64;
        let Slice { low, high } = self.rest;
        let high = high.min(self.last_second().max(low.saturating_add(SLICE_SECONDS - 1)));
        let floor = if high < FLOOR { 1 } else { FLOOR };
        let low = if self.window.low.is_some() { low } else { low.max(floor) };
        (self.rest, self.top) = (Slice { low, high }, high);
        self.take(SLICE_SECONDS);
    }

    /// The last second that is worth asking for in narrow windows.
    fn last_second(&self) -> i64 {
        let ahead = if self.is_up_to_today { 0 } else { AHEAD_SECONDS };
        let end = self.window.high.map_or(LAST_SECOND, |high| high.ceil_second().0);
        end_of_day(self.now).saturating_add(ahead).min(end)
    }

    /// A request failed in a way that may be due to its form. False if there is no other form left.
    pub fn lost(&mut self, is_named: bool) -> bool {
        if self.is_wide() {
            self.is_proving = false;
            self.wide.was_refused = true;
            self.wide.is_certain |= is_named;
            self.narrow();
            return true;
        }
        // Times ahead of today.
        let today = end_of_day(self.now);
        // One failure that names nothing may pass: the request is sent again.
        let is_certain = is_named || std::mem::replace(&mut self.has_failed_ahead, true);
        let is_ahead = self.is_narrow && self.slice.high > today && self.rest.low <= today && is_certain;
        if is_ahead {
            self.is_up_to_today = true;
            (self.rest.high, self.top) = (today, today);
            self.take(self.slice_length());
        }
        is_ahead
    }

    /// Whether the page takes windows of a month, if this walk has shown it.
    pub fn verdict(&self) -> Option<verdicts::Window> {
        match self.wide {
            Wide { is_certain: true, .. } => Some(verdicts::Window::Refused),
            Wide { was_refused: true, was_replaced: true, .. } => Some(verdicts::Window::Failed),
            Wide { was_taken: true, .. } => Some(verdicts::Window::Taken),
            _ => None,
        }
    }

    pub fn ended(&self) -> Option<End> {
        self.ended.then_some(End::ListEnded)
    }

    /// Of a list in slices of 27 days one of those that have not been read, counted from the
    /// newest.
    pub fn unread(&self, index: i64) -> Option<Numbered> {
        let high = self.rest.high.checked_sub(index.checked_mul(SLICE_SECONDS)?)?;
        let low = (high - (SLICE_SECONDS - 1)).max(self.rest.low);
        let slice = Slice { low, high };
        (self.is_narrow && !self.ended && !slice.is_empty()).then(|| self.first_batch(slice))
    }

    fn first_batch(&self, slice: Slice) -> Numbered {
        // Both bounds are required. Second 0 might be taken for none.
        let since = (slice.low - 1).max(1);
        let until = (slice.high + 1).clamp(since, LAST_SECOND);
        Numbered { since: UnixSeconds(since), until: UnixSeconds(until), number: 1, size: self.batch }
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
    pub fn ask(&self) -> Option<Numbered> {
        let first = self.first_batch(self.slice);
        let until = if self.is_proving { UnixSeconds(LAST_SECOND) } else { first.until };
        let number = self.reading.as_ref().map_or(1, |reading| reading.number);
        (!self.ended).then_some(Numbered { until, number, ..first })
    }

    /// Takes a reply in, and returns which of its rows to hand out. `now`: a time not later than
    /// the reply's own.
    pub fn reply(&mut self, rows: &[RowKey], total: Option<u64>, now: Micros) -> Result<Vec<usize>> {
        self.now = self.now.max(now.floor_second().0);
        if self.is_narrow && !self.moves && self.slice.high == self.top && self.last_second() > self.top {
            // The first clock was behind: the newest rows come first.
            self.top = self.last_second();
            self.rest.high = self.top;
            self.take(self.slice_length());
            return Ok(Vec::new());
        }
        let width = self.ask().map_or(0, |ask| ask.until.0 - ask.since.0);
        if std::mem::take(&mut self.is_proving) && !rows.is_empty() {
            // So the narrower window is as empty as its reply.
            self.proven = self.proven.max(width);
            self.wide.was_taken = true;
            self.next_slice(0);
            return Ok(Vec::new());
        }
        if rows.is_empty() && width > self.proven && self.is_first() {
            self.is_proving = !self.wide.was_empty && self.slice.high + 1 < LAST_SECOND;
            self.wide.was_empty = true;
            if !self.is_proving {
                self.narrow();
            }
            return Ok(Vec::new());
        }
        if !rows.is_empty() {
            self.proven = self.proven.max(width);
            self.wide.was_taken |= width > WIDTH_SECONDS;
            self.wide.is_certain |= self.wide.was_empty && self.is_narrow;
        }
        self.wide.was_replaced |= self.wide.was_refused;
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

    /// The slice is had: so many rows. Goes on with what lies beyond it.
    fn next_slice(&mut self, rows: usize) {
        let Slice { low, high } = self.slice;
        self.reading = None;
        if self.moves {
            self.rest.low = high + 1
        } else {
            self.rest.high = low - 1
        }
        if self.is_narrow {
            // However many of them are empty.
            self.fruitless = 0;
        } else {
            self.left = self.left.saturating_sub(rows as u64);
        }
        let ahead = |crowd: &Crowd| (self.rest.low..=self.rest.high).contains(&crowd.end);
        self.crowd = self.crowd.filter(ahead);
        if let Some(crowd) = &mut self.crowd {
            crowd.rows = crowd.rows.saturating_sub(rows as u64);
        }
        if self.rest.is_empty() && self.is_narrow && self.last_second() > self.top {
            // The server's day is a later one than that of the first request.
            self.rest = Slice { low: self.top + 1, high: self.last_second() };
            self.top = self.rest.high;
        }
        if self.rest.is_empty() {
            self.ended = true;
            return;
        }
        // The slice at the head may reach into a future without rows.
        let reached = high.min(self.newest.unwrap_or(high)).max(low);
        self.seconds_per_row = match rows {
            0 => self.seconds_per_row * 4.0,
            rows => (reached - low + 1) as f64 / rows as f64,
        };
        self.take(self.slice_length());
    }

    fn slice_length(&self) -> i64 {
        (self.seconds_per_row * self.batch as f64 * FILL).min(LAST_SECOND as f64) as i64
    }

    /// Takes a slice of this length off the rest, or all of it if that should fit.
    fn take(&mut self, seconds: i64) {
        let fits = |rows: u64| rows as f64 <= self.batch as f64 * 0.9;
        let all = fits(self.left);
        let seconds = match self.crowd {
            None => seconds,
            Some(crowd) => {
                let distance =
                    if self.moves { crowd.end - self.rest.low } else { self.rest.high - crowd.end } + 1;
                if fits(crowd.rows) { distance } else { seconds.min(distance / 2) }
            }
        }
        .max(1);
        let (all, seconds) =
            if self.is_narrow { (false, seconds.min(SLICE_SECONDS)) } else { (all, seconds) };
        self.slice = match (all, self.moves) {
            (true, _) => self.rest,
            (false, true) => self.up_to(self.rest.low.saturating_add(seconds - 1)),
            (false, false) => Slice { low: (self.rest.high - (seconds - 1)).max(self.rest.low), ..self.rest },
        };
    }

    /// The lower end of the rest up to a second.
    fn up_to(&self, high: i64) -> Slice {
        Slice { high: high.min(self.rest.high), ..self.rest }
    }

    /// The slice holds more than a batch: takes a part of it.
    fn cut(&mut self, rows: &[RowKey], total: u64) {
        let Slice { low, high } = self.slice;
        let mut seconds: Vec<i64> =
            rows.iter().filter(|row| self.slice.holds(row)).map(|row| row.at.floor_second().0).collect();
        seconds.sort_unstable_by(|a, b| b.cmp(a));
        let (Some(newest), Some(oldest)) = (seconds.first().copied(), seconds.last().copied()) else {
            // What is too much lies in the second that is asked for beside the slice.
            return self.read_by_numbers();
        };
        self.crowd = Some(Crowd { end: if self.moves { high } else { low }, rows: total });
        let span = (newest - low + 1) as f64;
        self.seconds_per_row = span / total as f64;
        // By the mean density; but the rows may not be spread evenly, so rather too large than too
        // small.
        let share = FILL * self.batch as f64 / total as f64;
        let length = (span * share.clamp(0.25, 0.5)).max(1.0) as i64;
        // Batches begin with the newest row. One that is all of one second shows where rows are
        // dense.
        let tight = newest == oldest && rows.len() > 1;
        let cut = match (self.moves, tight) {
            (true, true) => Slice { low, high: self.up_to(newest - 2).high.min(high) },
            (true, false) => Slice { low, high: self.up_to(low + length - 1).high.min(high) },
            (false, true) => Slice { low: newest, high },
            (false, false) => {
                let there = seconds.get((seconds.len() as f64 * FILL) as usize).copied().unwrap_or(low);
                Slice { low: there.max(newest - length + 1).max(low + 1).min(high), high }
            }
        };
        let helps = cut != self.slice && !cut.is_empty();
        if helps {
            self.slice = cut;
        }
        if !helps || (tight && !self.moves) {
            self.read_by_numbers();
        }
    }

    /// A second that is too full is asked for with its neighbours; so they belong to the slice, or
    /// they would be too full themselves.
    fn read_by_numbers(&mut self) {
        let Slice { low, high } = self.slice;
        let margin = if self.is_narrow { (SLICE_SECONDS - (high - low + 1)).clamp(0, 2) } else { 2 };
        self.slice = if self.moves {
            Slice { low, high: self.up_to(high.saturating_add(margin)).high }
        } else {
            Slice { low: (low - margin).max(self.rest.low), high }
        };
        self.reading = Some(Reading { number: 1, ..Reading::default() });
    }

    fn read_on(&mut self, rows: &[RowKey], total: Option<u64>) -> Result<Vec<usize>> {
        let fresh = self.hand_out(rows);
        let Some(reading) = &mut self.reading else { return Ok(fresh) };
        if let Some(checked) = reading.checking.take() {
            if rows.is_empty() && total == Some(checked) {
                self.totals = Totals::Proven;
                let rows = reading.ids.len();
                self.next_slice(rows);
                return Ok(fresh);
            }
            (self.totals, self.total) = (Totals::OfBatch, None);
        }
        let last = &reading.ids[reading.ids.len().saturating_sub(rows.len())..];
        let is_repeated = !rows.is_empty() && rows.iter().map(|row| &row.id).eq(last);
        if !rows.is_empty() && !is_repeated {
            reading.number += 1;
            reading.ids.extend(rows.iter().map(|row| row.id.clone()));
            return Ok(fresh);
        }
        let ids = std::mem::take(&mut reading.ids);
        // The same rows under another number may have moved there: that proves no end.
        if !is_repeated && reading.before.as_ref() == Some(&ids) {
            self.next_slice(ids.len());
            if self.is_narrow || self.ended {
                return Ok(fresh);
            }
            // What is next to a crowd need not be one.
            self.seconds_per_row = (self.rest.high.min(self.newest.unwrap_or(0)) - self.rest.low).max(1)
                as f64
                / self.left.max(1) as f64;
            self.take(self.slice_length());
            return Ok(fresh);
        }
        (reading.before, reading.number) = (Some(ids), 1);
        reading.count += 1;
        if reading.count > TERMS.patience {
            Err(restless(format!(
                "More rows than one reply holds are of {} or later, and they moved during each of {} readings.",
                Micros(self.slice.low.saturating_mul(SECOND)).iso(),
                TERMS.patience
            )))
        } else {
            Ok(fresh)
        }
    }
}

/// The last second of the day in Vietnam that can be asked for with one more.
fn end_of_day(now: i64) -> i64 {
    now + DAY_SECONDS - 2 - (now + OFFSET_SECONDS).rem_euclid(DAY_SECONDS)
}

fn restless(detail: String) -> Error {
    Error::new(Kind::NotUnderstood, "list never rests").detail(detail)
}

#[cfg(test)]
#[path = "time_slices_model.rs"]
mod model;
