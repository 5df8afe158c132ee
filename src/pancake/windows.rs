//! A list that comes in numbered batches of a window of time: what to ask next, and what a reply proves (API notes,
//! section E). Numbers shift while rows come and go, so a window counts only if all of it came in one reply.
//!
//! 1. The first request is for the whole window of the query, and its `total` says how much there is. What does not fit
//!    into one reply is cut into *slices*, each about three quarters of a batch by what is known of the density; a slice
//!    that is still too full is cut again. Slices are whole seconds, asked for a second wider at both ends, and cut
//!    exactly on our side: so they are right whether bounds are inclusive or not.
//! 2. By `inserted_at`, which never changes, slices go down from the newest. By `updated_at` they go up: a row that
//!    changes meanwhile goes further up, to where nobody has been yet, however late it surfaces.
//! 3. What cannot be cut (a second with more rows than a batch, a server that does not cut by time at all) is read *by
//!    numbers*, up to an empty batch, again and again until it reads the same twice: then nothing moved from the first
//!    batch of the one reading to the last of the other.

use crate::error::{Error, Kind, Result};
use crate::place::{Spot, Window};
use crate::seen::Seen;
use crate::time::{Micros, SECOND, UnixSeconds};
use crate::walk::{End, LAST_SECOND, TERMS};

/// How much of a batch a slice is cut for.
const FILL: f64 = 0.75;

/// A slice is halved some thirty times from the age of Unix down to a second.
const MOST_FRUITLESS: u32 = 100;

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
pub struct Windows {
    window: Window,
    batch: u64,
    /// Rows may go to the head while they are walked: by `updated_at`.
    moves: bool,
    /// What is not had yet.
    rest: Slice,
    /// Rows that the rest holds, by estimate.
    left: u64,
    /// How many rows the first reply said there are.
    total: Option<u64>,
    slice: Slice,
    reading: Option<Reading>,
    /// The newest second of any row that came.
    newest: Option<i64>,
    seconds_per_row: f64,
    crowd: Option<Crowd>,
    came: Seen,
    /// Replies in a row that brought nothing new, readings by numbers aside: those have a patience of their own.
    fruitless: u32,
    ended: bool,
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
}

impl Slice {
    fn holds(self, row: &Spot) -> bool {
        (self.low..=self.high).contains(&row.at.floor_second().0)
    }

    fn is_empty(self) -> bool {
        self.low > self.high
    }
}

impl Windows {
    pub fn new(window: Window, batch: u64, moves: bool) -> Self {
        let low = window.low.map_or(0, |low| low.floor_second().0).clamp(0, LAST_SECOND);
        let high = window.high.map_or(LAST_SECOND, |high| high.ceil_second().0).clamp(0, LAST_SECOND);
        let rest = Slice { low, high };
        Self {
            window,
            batch,
            moves,
            rest,
            left: 0,
            total: None,
            slice: rest,
            reading: None,
            newest: None,
            seconds_per_row: 1.0,
            crowd: None,
            came: Seen::default(),
            fruitless: 0,
            ended: false,
        }
    }

    pub fn ended(&self) -> Option<End> {
        self.ended.then_some(End::ListEnded)
    }

    /// Rows in the query's window, as the first reply said.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// The next request. `None` at the end.
    pub fn ask(&self) -> Option<Numbered> {
        // Both bounds are required. Second 0 might be taken for none.
        let since = (self.slice.low - 1).max(1);
        let until = (self.slice.high + 1).clamp(since, LAST_SECOND);
        (!self.ended).then(|| Numbered {
            since: UnixSeconds(since),
            until: UnixSeconds(until),
            number: self.reading.as_ref().map_or(1, |reading| reading.number),
            size: self.batch,
        })
    }

    /// Takes a reply in, and says which of its rows to hand out.
    pub fn reply(&mut self, rows: &[Spot], total: Option<u64>) -> Result<Vec<usize>> {
        if self.total.is_none() {
            (self.total, self.left) = (total, total.unwrap_or(0));
        }
        let seconds = || rows.iter().map(|row| row.at.floor_second().0);
        self.newest = self.newest.max(seconds().max());
        let asked = self.ask().map(|ask| ask.since.0..=ask.until.0);
        let cut_by_time = asked.is_some_and(|asked| seconds().all(|second| asked.contains(&second)));
        let in_one_reply = total.is_some_and(|total| total <= rows.len() as u64);
        let mut fresh = Vec::new();
        match (&self.reading, in_one_reply && self.is_first(), cut_by_time) {
            (_, true, _) => {
                fresh = self.hand_out(rows);
                self.next_slice(fresh.len());
            }
            (Some(_), false, _) => return self.read_on(rows),
            (None, false, false) => {
                self.slice = self.rest;
                self.read_by_numbers();
            }
            // Where nothing says how much there is, or not all came that could, cutting finds no end.
            (None, false, true) => match total.filter(|total| *total > self.batch) {
                Some(total) => self.cut(rows, total),
                None => self.read_by_numbers(),
            },
        }
        self.fruitless = if fresh.is_empty() { self.fruitless + 1 } else { 0 };
        match self.fruitless > MOST_FRUITLESS {
            false => Ok(fresh),
            true => Err(restless("A hundred requests in a row brought no row that was new.".to_owned())),
        }
    }

    fn is_first(&self) -> bool {
        self.reading.as_ref().is_none_or(|reading| reading.number == 1)
    }

    fn hand_out(&mut self, rows: &[Spot]) -> Vec<usize> {
        let mine = |row: &Spot| self.slice.holds(row) && self.window.holds(row.at);
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
        self.left = self.left.saturating_sub(rows as u64);
        let ahead = |crowd: &Crowd| (self.rest.low..=self.rest.high).contains(&crowd.end);
        self.crowd = self.crowd.filter(ahead);
        if let Some(crowd) = &mut self.crowd {
            crowd.rows = crowd.rows.saturating_sub(rows as u64);
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
    fn cut(&mut self, rows: &[Spot], total: u64) {
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
        // By the mean density; but nobody knows whether the rows are spread evenly, so rather too large than too small.
        let share = FILL * self.batch as f64 / total as f64;
        let length = (span * share.clamp(0.25, 0.5)).max(1.0) as i64;
        // Batches begin with the newest row. One that is all of one second says where it gets tight.
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

    /// A second that is too full is asked for with its neighbours; so they belong to the slice, or they would be too full
    /// themselves.
    fn read_by_numbers(&mut self) {
        let Slice { low, high } = self.slice;
        self.slice = match self.moves {
            true => Slice { low, high: self.up_to(high.saturating_add(2)).high },
            false => Slice { low: (low - 2).max(self.rest.low), high },
        };
        self.reading = Some(Reading { number: 1, ..Reading::default() });
    }

    fn read_on(&mut self, rows: &[Spot]) -> Result<Vec<usize>> {
        let fresh = self.hand_out(rows);
        let Some(reading) = &mut self.reading else { return Ok(fresh) };
        if !rows.is_empty() {
            reading.number += 1;
            reading.ids.extend(rows.iter().map(|row| row.id.clone()));
            return Ok(fresh);
        }
        let ids = std::mem::take(&mut reading.ids);
        if reading.before.as_ref() == Some(&ids) {
            self.next_slice(ids.len());
            // What is next to a crowd need not be one.
            self.seconds_per_row = (self.rest.high.min(self.newest.unwrap_or(0)) - self.rest.low).max(1)
                as f64
                / self.left.max(1) as f64;
            self.take(self.slice_length());
            return Ok(fresh);
        }
        (reading.before, reading.number) = (Some(ids), 1);
        reading.count += 1;
        match reading.count > TERMS.patience {
            false => Ok(fresh),
            true => Err(restless(format!(
                "More rows than one reply holds are of {} or later, and they moved during each of twenty readings.",
                Micros(self.slice.low.saturating_mul(SECOND)).iso()
            ))),
        }
    }
}

fn restless(detail: String) -> Error {
    Error::new(Kind::NotUnderstood, "list never rests").detail(detail)
}

#[cfg(test)]
#[path = "windows_worlds.rs"]
mod worlds;
