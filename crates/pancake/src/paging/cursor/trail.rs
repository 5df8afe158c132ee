//! This module keeps the trail, the last rows of a walk, and what they show: the place, whether a
//! bound is passed, and which row of a reply is known.

use super::CursorPager;
use crate::schema::keyset::{Order, RowKey};
use crate::time::Micros;

impl CursorPager {
    /// How far down the walk has come.
    pub fn depth(&self) -> Option<Micros> {
        let lowest = self.lowest?;
        let depth = if self.meets_by_ids() { self.place().unwrap_or(lowest) } else { lowest };
        Some(self.window.high.map_or(depth, |high| high.min(depth)))
    }

    /// Rows that show a later time than this can be handed out in order, because none that is still
    /// to come shows a newer one than they do.
    pub fn reached(&self) -> Option<Micros> {
        // By `inserted_at` no more than neighbours have been seen swapped.
        let rows = if self.order == Order::UpdatedAt { self.terms.beyond } else { 1 };
        let tail: Vec<_> = self.tail().take(rows).map(|row| row.at).collect();
        (tail.len() == rows).then(|| tail.into_iter().max()).flatten()
    }

    /// Whether rows were seen that may stand any distance above the time that they show.
    pub fn is_loose(&self) -> bool {
        // By `inserted_at` neighbours may be swapped, and an upper bound is passed by more than
        // one.
        match self.order {
            Order::UpdatedAt => self.is_loose,
            Order::InsertedAt | Order::Served => self.has_undated,
        }
    }

    /// Whether a row stands below the place of the time that it shows by more than rows may in that
    /// order. Of rows that lack the time of the order the last ones are looked at.
    pub fn has_low_row(&self) -> bool {
        if self.has_low_row {
            return true;
        }
        let loose = if self.order == Order::UpdatedAt { self.terms.beyond } else { 1 };
        self.trail.iter().enumerate().filter(|(_, row)| !row.is_dated).any(|(place, row)| {
            let above = self.trail.iter().take(place).rev().filter(|row| row.is_dated);
            let mut above = above.take(loose).peekable();
            above.peek().is_some() && above.all(|above| above.at < row.at)
        })
    }

    /// The last row of a reply that is a row of the trail, and its index there.
    pub(super) fn joint(&self, rows: &[&RowKey]) -> Option<(usize, usize)> {
        rows.iter().enumerate().rev().find_map(|(row, spot)| {
            let known = self.trail.iter().rposition(|known| known == *spot)?;
            Some((row, known))
        })
    }

    /// Takes the rows below this one out of the trail.
    pub(super) fn forget_below(&mut self, known: usize) {
        let below = self.trail.len() - (known + 1);
        (self.in_a_row, self.taken) = (self.in_a_row.saturating_sub(below), self.taken.saturating_sub(below));
        self.trail.truncate(known + 1);
    }

    pub(super) fn forget_all(&mut self) {
        (self.in_a_row, self.taken, self.most_taken) = (0, 0, 0);
        self.trail.clear();
    }

    /// The last rows of the trail that show a time, from below, as far as they were seen in a row.
    pub(super) fn tail(&self) -> impl Iterator<Item = &RowKey> {
        self.trail.iter().rev().take(self.in_a_row).filter(|row| row.is_dated).take(self.terms.beyond)
    }

    /// The newest time of the last rows of the trail, whatever was taken out between them.
    pub(super) fn newest_above(&self) -> Option<Micros> {
        let above = self.trail.iter().rev().filter(|row| row.is_dated).take(4 * self.terms.beyond);
        above.map(|row| row.at).max()
    }

    /// A time not older than that of the place: of the last rows one shows its real time.
    pub(super) fn place(&self) -> Option<Micros> {
        if self.tail().count() == self.terms.beyond {
            self.tail().map(|row| row.at).max()
        } else {
            self.newest_above()
        }
    }

    pub(super) fn is_beyond(&self, low: Option<Micros>) -> bool {
        let Some(low) = low else { return false };
        self.tail().count() == self.terms.beyond && self.tail().all(|row| row.at < low)
    }

    /// Whether the row above the place may have its time: a jump may lead on below that.
    pub(super) fn is_tied(&self) -> bool {
        let mut last = self.trail.iter().rev().map(|row| row.at);
        let (place, above) = (last.next(), last.next());
        above.is_none() || above == place
    }
}
