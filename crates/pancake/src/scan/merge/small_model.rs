//! This module is the small model: a few conversations that change, and a server that lists them in
//! every way that is not ruled out.

use crate::paging::cursor::CursorParams;
use crate::time::SECOND;

pub const BATCH: usize = 2;
pub const START: i64 = 1_000_000 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// A row gets a message: it jumps to the head of a list in `updated_at` order.
    Message(usize),
    /// The same, surfacing late: its time is older than what has surfaced before.
    LateMessage(usize),
    Delete(usize),
    Create,
    /// The next reply holds one row although more could come. Once in a world: two at the same
    /// place, under a strict cursor and in a tie that ends the list, cannot be distinguished from
    /// the end by any request.
    Short,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LostCursor {
    FirstBatch,
    Empty,
    Failure,
}

#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub until_inclusive: bool,
    pub whole_seconds: bool,
    pub strict_cursor: bool,
    pub lost: LostCursor,
    /// A cursor row that moved is resolved by its new place; else it counts as lost.
    pub follows_moved: bool,
    pub ignores_cursor: bool,
    pub windows: Windows,
    /// Cursor and window act on the time that a frozen row shows; else on its real one.
    pub acts_on_shown: bool,
}

/// What a request with `since` and `until` gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Windows {
    Taken,
    Refused,
    /// An empty list, as v1 answered one that it did not take.
    Empty,
}

pub fn readings() -> Vec<Reading> {
    let mut readings = vec![];
    for bits in 0..16u8 {
        let bit = |i: u8| bits & (1 << i) != 0;
        for lost in [LostCursor::FirstBatch, LostCursor::Empty, LostCursor::Failure] {
            readings.push(Reading {
                until_inclusive: bit(0),
                whole_seconds: bit(1),
                strict_cursor: bit(2),
                lost,
                follows_moved: bit(3),
                ignores_cursor: false,
                windows: Windows::Taken,
                acts_on_shown: false,
            });
        }
    }
    readings
}

/// The readings of a page that has been seen to refuse windows, or to act on frozen times, or not.
pub fn loose_readings() -> Vec<Reading> {
    let base = readings().into_iter().filter(|r| !r.strict_cursor && !r.until_inclusive && !r.whole_seconds);
    let mut readings = vec![];
    for reading in base {
        for windows in [Windows::Taken, Windows::Refused, Windows::Empty] {
            for acts_on_shown in [false, true] {
                readings.push(Reading { windows, acts_on_shown, ..reading });
            }
        }
    }
    readings
}

/// Every choice of frozen rows of which no two stand side by side: of two rows in a row one shows
/// its real time.
pub fn frozen(rows: usize) -> Vec<Vec<bool>> {
    let all = (0..1_u32 << rows).filter(|bits| bits & (bits >> 1) == 0);
    all.map(|bits| (0..rows).map(|row| bits & (1 << row) != 0).collect()).collect()
}

/// How much older than its real time the time of a frozen row is.
const FROZEN: i64 = 150 * SECOND;

/// Every list of so many rows, as far as order, seconds and ties distinguish lists: microseconds
/// before the start, newest first, neighbours far apart, within one second, or at the same time.
pub fn lists(rows: usize) -> Vec<Vec<i64>> {
    let mut lists = vec![vec![]];
    for row in 0..rows {
        lists = lists
            .into_iter()
            .flat_map(|list: Vec<i64>| {
                let steps: &[i64] = if row == 0 { &[5 * SECOND] } else { &[100 * SECOND, 100, 0] };
                let last = list.last().copied().unwrap_or_default();
                steps.iter().map(move |step| [&list[..], &[last + step]].concat())
            })
            .collect();
    }
    lists
}

#[derive(Clone, Debug, Hash)]
pub struct World {
    /// Rows of a batch.
    pub batch: usize,
    pub rows: Vec<Option<i64>>,
    /// Rows that show an older time than their real one.
    pub frozen: Vec<bool>,
    /// Rows that have moved since they were served.
    moved: Vec<bool>,
    pub short_next: bool,
    was_short: bool,
    /// Changes that may still happen.
    pub events: usize,
    /// Messages and new rows so far: each is newer than the one before.
    on_time: i64,
    late: i64,
}

/// Rows by their id and time, newest first, as one moment shows them.
pub type Batch = Vec<(usize, i64)>;

impl World {
    /// Rows that were touched so many microseconds before the start.
    pub fn new(ages: &[i64], events: usize) -> Self {
        Self {
            batch: BATCH,
            rows: ages.iter().map(|age| Some(START - age)).collect(),
            frozen: vec![false; ages.len()],
            moved: vec![false; ages.len()],
            short_next: false,
            was_short: false,
            events,
            on_time: 0,
            late: 0,
        }
    }

    pub fn visible(&self) -> Batch {
        let mut rows: Vec<_> =
            self.rows.iter().enumerate().filter_map(|(id, at)| at.map(|at| (id, at))).collect();
        rows.sort_unstable_by_key(|(id, at)| (-at, *id));
        rows
    }

    /// Whether of two rows in a row one shows its real time.
    pub fn is_as_assumed(&self) -> bool {
        let is_frozen = |row: &(usize, i64)| self.frozen.get(row.0) == Some(&true);
        !self.visible().windows(2).any(|rows| rows.iter().all(is_frozen))
    }

    /// The time that a row of this real time shows.
    pub fn shown(&self, id: usize, at: i64) -> i64 {
        at - if self.frozen.get(id) == Some(&true) { FROZEN } else { 0 }
    }

    /// What may happen. A message changes the list where its order moves.
    pub fn changes(&self, order_moves: bool) -> impl Iterator<Item = Change> {
        let of_row = move |row| {
            let changes = [Change::Delete(row), Change::Message(row), Change::LateMessage(row)];
            changes.into_iter().take(if order_moves { 3 } else { 1 })
        };
        let live = (0..self.rows.len()).filter(|row| self.rows[*row].is_some());
        let short = (!self.was_short).then_some(Change::Short);
        live.flat_map(of_row).chain([Change::Create]).chain(short)
    }

    pub fn change(&mut self, change: Change) {
        self.events -= 1;
        match change {
            Change::Message(row) => {
                let now = self.tick();
                self.put(row, now);
            }
            Change::LateMessage(row) => {
                self.late += 1;
                self.put(row, START + (self.late - 3) * 10 * SECOND);
            }
            Change::Delete(row) => (self.rows[row], self.moved[row]) = (None, false),
            Change::Create => {
                let now = self.tick();
                self.rows.push(Some(now));
                self.moved.push(true);
            }
            Change::Short => (self.short_next, self.was_short) = (true, true),
        }
    }

    fn tick(&mut self) -> i64 {
        self.on_time += 1;
        START + self.on_time * 10 * SECOND
    }

    fn put(&mut self, row: usize, time: i64) {
        if let Some(at) = self.rows[row].as_mut().filter(|at| **at < time) {
            (*at, self.moved[row]) = (time, true);
            // A new message brings the row's time up to date.
            if let Some(frozen) = self.frozen.get_mut(row) {
                *frozen = false;
            }
        }
    }

    /// Whether it may matter to a cursor which request was served a row that moved.
    pub fn moved_rows_matter(&self, possible: u64, readings: &[Reading]) -> bool {
        let moved = self.rows.iter().zip(&self.moved).any(|(row, moved)| row.is_some() && *moved);
        moved && (0..readings.len()).any(|i| possible & (1 << i) != 0 && !readings[i].follows_moved)
    }

    /// `None` where the request fails.
    fn answer(&self, visible: &[(usize, i64)], ask: &CursorParams, reading: Reading) -> Option<Batch> {
        let unit = if reading.whole_seconds { SECOND } else { 1 };
        let until = ask.until.map_or(i64::MAX, |until| until.0 * SECOND / unit);
        let below = |at: i64| at / unit < until || (reading.until_inclusive && at / unit == until);
        let since = ask.since.map_or(i64::MIN, |since| since.0 * SECOND);
        match reading.windows {
            _ if ask.until.is_none() => {}
            Windows::Taken => {}
            Windows::Refused => return None,
            Windows::Empty => return Some(vec![]),
        }
        let time = |id: usize, at: i64| if reading.acts_on_shown { self.shown(id, at) } else { at };
        let cursor = ask.cursor.as_ref().filter(|_| !reading.ignores_cursor);
        let mut from = (i64::MIN, 0);
        if let Some(cursor) = cursor {
            let id: usize = cursor.parse().ok()?;
            from = match self.rows[id].filter(|_| !self.moved[id] || reading.follows_moved) {
                Some(at) if reading.strict_cursor => (-time(id, at), usize::MAX),
                Some(at) => (-time(id, at), id),
                None => match reading.lost {
                    LostCursor::FirstBatch => from,
                    LostCursor::Empty => (i64::MAX, 0),
                    LostCursor::Failure => return None,
                },
            };
        }
        let served = |(id, at): &&(usize, i64)| {
            let seen = time(*id, *at);
            seen >= since && below(seen) && (-*at, *id) > from
        };
        let most = if self.short_next { 1 } else { self.batch };
        let rows = visible.iter().filter(served).take(most);
        Some(rows.map(|(id, at)| (*id, self.shown(*id, *at))).collect())
    }

    /// The answers that are possible, each with the readings that give it.
    pub fn answers(
        &self,
        ask: &CursorParams,
        possible: u64,
        readings: &[Reading],
    ) -> Vec<(Option<Batch>, u64)> {
        let visible = self.visible();
        let mut answers: Vec<(Option<Batch>, u64)> = vec![];
        for (bit, reading) in readings.iter().enumerate().map(|(i, reading)| (1 << i, reading)) {
            if possible & bit == 0 {
                continue;
            }
            let answer = self.answer(&visible, ask, *reading);
            match answers.iter_mut().find(|(other, _)| *other == answer) {
                Some((_, readings)) => *readings |= bit,
                None => answers.push((answer, bit)),
            }
        }
        answers
    }

    /// Takes note of a reply that went out.
    pub fn served(&mut self, batch: &[(usize, i64)]) {
        self.short_next = false;
        batch.iter().for_each(|(id, _)| self.moved[*id] = false);
    }
}
