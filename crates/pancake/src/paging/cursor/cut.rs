//! This module cuts a walk in two, and ends the newer part where the older one begins.

use super::params::ROWS_ABOVE;
use super::{CursorPager, End, State};
use crate::paging::verdicts::Assumptions;
use crate::plan::anchor::RECENT_SECONDS;
use crate::schema::keyset::{Order, TimeRange};
use crate::time::{Micros, SECOND, UnixSeconds};

impl CursorPager {
    /// Leaves what is older than `low` to another walk, which this returns. `gap`: from one row to
    /// the next, in microseconds; by `inserted_at` the other walk begins some rows above.
    pub fn cut(&mut self, low: Micros, gap: i64) -> Self {
        let window = TimeRange { low: self.window.low, high: Some(Micros(low.0.saturating_sub(1))) };
        let now = Micros((self.latest_until.0 + RECENT_SECONDS).saturating_mul(SECOND));
        self.window.low = Some(low);
        let is_in_order = !self.meets_by_ids() || !self.is_loose;
        let known = Assumptions {
            takes_windows: self.anchors.are_taken,
            is_in_order,
            ends_by_time: self.ends_by_time,
            ..now.into()
        };
        let mut older = Self::on(self.terms, window, self.order, known);
        let gap = if self.meets_by_ids() { 0 } else { gap.max(0) };
        let above = gap.saturating_mul(ROWS_ABOVE) / SECOND + 1;
        older.anchor(UnixSeconds(low.ceil_second().0.saturating_add(above)), 0);
        older.whole = self.whole;
        older.cursors.take_only_last_rows = self.cursors.take_only_last_rows;
        (older.cursors.refused, older.cursors.led) = (self.cursors.refused, self.cursors.led);
        older
    }

    /// By `updated_at` a row may stand on either side of a cut, whatever time it shows. Then each
    /// of the two walks hands out all rows that it meets, and the newer one ends where it has come
    /// into what the older one has read: so it does not matter where that one began.
    pub fn meets_by_ids(&self) -> bool {
        self.order == Order::UpdatedAt
    }

    /// Ends the walk if it has passed its cut and has come into what the older walk has read.
    pub fn meet(&mut self, older: &Self) {
        let Some(low) = self.window.low.filter(|_| self.meets_by_ids()) else { return };
        if self.is_beyond(Some(low)) && self.has_come_into(older, low) {
            self.state = State::Ended(End::PassedBound);
        }
    }

    /// Whether the newer walk has overtaken this one, which brings nothing then.
    pub fn is_behind(&self, newer: &Self) -> bool {
        let place = self.trail.back().filter(|_| self.meets_by_ids());
        self.ended().is_none()
            && newer.ended().is_none()
            && place.is_some_and(|place| newer.handed.has(&place.id))
    }

    /// Whether the older walk has handed out rows of the list below `low` that stand there still:
    /// of so many in a row that show such a time one does not stand above it. What follows them is
    /// the older walk's. Rows that it has handed out and that moved since stand elsewhere and show
    /// it.
    fn has_come_into(&self, older: &Self, low: Micros) -> bool {
        let mut in_a_row = 0;
        self.trail.iter().rev().take(self.in_a_row).any(|row| {
            let is_below = row.is_dated && row.at < low;
            in_a_row = if is_below && older.handed.has(&row.id) { in_a_row + 1 } else { 0 };
            in_a_row == self.terms.beyond
        })
    }

    /// Whether this is the older part of a walk, and is to begin wherever its first reply leads.
    pub(super) fn begins_anywhere(&self) -> bool {
        self.meets_by_ids() && self.lowest.is_none() && self.window.high != self.whole.high
    }

    /// Whether nothing has been found where it was to begin.
    pub fn is_empty(&self) -> bool {
        self.has_no_beginning() && self.anchors.empty.is_some()
    }

    /// Whether its first anchor did not do.
    pub fn has_no_beginning(&self) -> bool {
        self.lowest.is_none()
            && self.trail.is_empty()
            && matches!(self.state, State::Anchor { tried: 1.., .. } | State::Head { .. })
    }

    /// Whether what was left to another walk can still be taken back: none of its rows has been
    /// left out here.
    pub fn can_take_back(&self) -> bool {
        self.ended().is_none() && (self.meets_by_ids() || !self.has_left_out)
    }

    /// Ends this older walk if the newer one has come to the end of the list, and has left nothing
    /// to it.
    pub fn ends_with(&mut self, newer: &Self) {
        let has_left_some = !newer.meets_by_ids() && newer.has_left_out;
        if newer.ended() == Some(End::ListEnded) && !has_left_some {
            self.state = State::Ended(End::ListEnded);
        }
    }

    /// Takes back what was left to a walk that found no beginning.
    pub fn take_back(&mut self, low: Option<Micros>) {
        self.window.low = low;
    }

    /// Whether what is older than `low` could be found without walking down to it.
    pub fn can_begin_below(&self, low: Micros) -> bool {
        self.anchors.are_taken && low.ceil_second().0 < self.latest_until.0
    }
}
