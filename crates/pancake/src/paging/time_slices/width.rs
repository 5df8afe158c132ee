//! This module decides how wide windows may be: a window of a month may be refused, or answered
//! empty, and then the list is asked for in slices of 27 days.

use super::{FLOOR, SLICE_SECONDS, Slice, TimeSlicePager};
use crate::paging::cursor::{LAST_SECOND, WIDTH_SECONDS};
use crate::paging::verdicts;
use crate::schema::keyset::RowKey;

/// Where windows of a month are not taken, rows are looked for that are dated so far ahead of
/// today.
const AHEAD_SECONDS: i64 = 13 * 86_400;

/// Clients send times up to the end of today, in Vietnam (docs/api.md).
const OFFSET_SECONDS: i64 = 7 * 3_600;
const DAY_SECONDS: i64 = 86_400;

/// What became of a window of a month.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct WideWindow {
    pub was_refused: bool,
    pub was_empty: bool,
    pub was_taken: bool,
    /// The refusal named the form, or a slice within it has shown rows since.
    pub is_certain: bool,
    /// A narrower window has been answered since.
    pub was_replaced: bool,
}

impl TimeSlicePager {
    /// Whether the next request is for a window that a page may refuse.
    pub(super) fn is_wide(&self) -> bool {
        self.ask().is_some_and(|ask| ask.until.0 - ask.since.0 > WIDTH_SECONDS)
    }

    /// Goes on in slices of 27 days.
    pub(super) fn narrow(&mut self) {
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
    pub(super) fn last_second(&self) -> i64 {
        let ahead = if self.is_up_to_today { 0 } else { AHEAD_SECONDS };
        let end = self.window.high.map_or(LAST_SECOND, |high| high.ceil_second().0);
        end_of_day(self.now).saturating_add(ahead).min(end)
    }

    /// Takes in what a reply shows of windows of its width. True where it counts for nothing else.
    pub(super) fn is_about_width(&mut self, rows: &[RowKey]) -> bool {
        if self.is_narrow && !self.moves && self.slice.high == self.top && self.last_second() > self.top {
            // The first clock was behind: the newest rows come first.
            self.top = self.last_second();
            self.rest.high = self.top;
            self.take(self.slice_length());
            return true;
        }
        let width = self.ask().map_or(0, |ask| ask.until.0 - ask.since.0);
        if std::mem::take(&mut self.is_proving) && !rows.is_empty() {
            // So the narrower window is as empty as its reply.
            self.proven = self.proven.max(width);
            self.wide.was_taken = true;
            self.next_slice(0);
            return true;
        }
        if rows.is_empty() && width > self.proven && self.is_first() {
            self.is_proving = !self.wide.was_empty && self.slice.high + 1 < LAST_SECOND;
            self.wide.was_empty = true;
            if !self.is_proving {
                self.narrow();
            }
            return true;
        }
        if !rows.is_empty() {
            self.proven = self.proven.max(width);
            self.wide.was_taken |= width > WIDTH_SECONDS;
            self.wide.is_certain |= self.wide.was_empty && self.is_narrow;
        }
        self.wide.was_replaced |= self.wide.was_refused;
        false
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
    pub fn verdict(&self) -> Option<verdicts::WindowVerdict> {
        match self.wide {
            WideWindow { is_certain: true, .. } => Some(verdicts::WindowVerdict::Refused),
            WideWindow { was_refused: true, was_replaced: true, .. } => Some(verdicts::WindowVerdict::Failed),
            WideWindow { was_taken: true, .. } => Some(verdicts::WindowVerdict::Taken),
            _ => None,
        }
    }
}

/// The last second of the day in Vietnam that can be asked for with one more.
fn end_of_day(now: i64) -> i64 {
    now + DAY_SECONDS - 2 - (now + OFFSET_SECONDS).rem_euclid(DAY_SECONDS)
}
