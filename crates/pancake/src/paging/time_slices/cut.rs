//! This module cuts what is left of a list into slices that fit into a reply each.

use super::{SLICE_SECONDS, Slice, TimeSlicePager};
use crate::paging::cursor::LAST_SECOND;
use crate::schema::keyset::RowKey;

/// How much of a batch a slice is cut for.
const FILL: f64 = 0.75;

/// The last slice that was too full, as far as it still lies ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    /// Its far end.
    pub end: i64,
    pub rows: u64,
}

impl TimeSlicePager {
    /// The slice is had: so many rows. Goes on with what lies beyond it.
    pub(super) fn next_slice(&mut self, rows: usize) {
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

    pub(super) fn slice_length(&self) -> i64 {
        (self.seconds_per_row * self.batch as f64 * FILL).min(LAST_SECOND as f64) as i64
    }

    /// Takes a slice of this length off the rest, or all of it if that should fit.
    pub(super) fn take(&mut self, seconds: i64) {
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
    pub(super) fn up_to(&self, high: i64) -> Slice {
        Slice { high: high.min(self.rest.high), ..self.rest }
    }

    /// The slice holds more than a batch: takes a part of it.
    pub(super) fn cut(&mut self, rows: &[RowKey], total: u64) {
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
}
