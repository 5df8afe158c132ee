//! This module takes a reply in: what it proves, and which of its rows to hand out.

use std::collections::HashSet;

use super::disorder::is_nearly_sorted;
use super::params::LIKELY_BATCHES;
use super::{CursorPager, End, Follower, State, restless};
use crate::error::Result;
use crate::plan::anchor::latest_anchor;
use crate::schema::keyset::RowKey;
use crate::time::Micros;

/// The last row of a reply that is a row of the trail: its index in each of them.
type Joint = Option<(usize, usize)>;

impl CursorPager {
    /// Takes a reply in, and returns which of its rows to hand out. `now`: a time not later than
    /// the reply's own.
    pub fn reply(&mut self, rows: &[RowKey], now: Micros) -> Result<Vec<usize>> {
        self.latest_until = self.latest_until.max(latest_anchor(now));
        let Some(asked) = self.ask() else { return Ok(Vec::new()) };
        self.handed.reserve(rows)?;
        let unique = without_repeats(rows);
        let length = rows.len();
        let ends_in_repeat = unique.last().is_some_and(|last| last + 1 < length);
        let rows: Vec<&RowKey> = unique.iter().map(|i| &rows[*i]).collect();
        let dated = || rows.iter().filter(|row| row.is_dated);
        self.has_undated |= rows.iter().any(|row| !row.is_dated);
        self.is_loose |= self.has_undated || dated().zip(dated().skip(1)).any(|(one, next)| one.at < next.at);
        // A row that a reply repeats takes the place of another one.
        self.longest = self.longest.max(length);
        self.was_full = length >= self.terms.full_batch;
        self.note_anchor(&rows);
        let place = self.trail.back().cloned();
        self.count();
        // By `updated_at` a window may leave out the rows between those that show older times: its
        // reply is no piece of the list.
        let has_gaps = self.meets_by_ids() && asked.until.is_some();
        if !has_gaps && (self.ends_by_time || !self.meets_by_ids()) {
            self.disorder = self.out_of_order(&rows);
        }
        if self.disorder.is_some() && self.meets_by_ids() {
            // Then the last rows do not show how far the walk has come.
            (self.has_low_row, self.anchors.are_taken) = (true, false);
        }
        let fresh = self.take(&rows, has_gaps);
        if rows.last().is_some_and(|last| self.trail.back() == Some(last)) {
            (self.brought_by, self.is_at_end) = (Some(asked), !ends_in_repeat);
        } else if self.trail.back() != place.as_ref() {
            (self.brought_by, self.is_at_end) = (None, false);
        }
        if !self.is_at_end && matches!(self.state, State::Jump { .. }) {
            self.state = State::Check { next: Follower::Unknown };
        }
        if self.taken > self.most_taken {
            (self.most_taken, self.fruitless) = (self.taken, 0);
        }
        if self.is_restless() && self.ended().is_none() {
            return Err(restless("The cursor did not lead on from the last row, asked in every form."));
        }
        Ok(fresh.into_iter().map(|i| unique[i]).collect())
    }

    fn take(&mut self, rows: &[&RowKey], has_gaps: bool) -> Vec<usize> {
        let joint = self.joint(rows);
        match self.state.clone() {
            State::Ended(_) => Vec::new(),
            State::Head { confirming } => self.take_head(rows, joint, confirming),
            State::Anchor { .. } if self.begins_anywhere() => self.take_beginning(rows),
            State::Anchor { .. } => self.take_anchor(rows, joint, has_gaps),
            State::Probe => self.take_probe(rows),
            State::Step { from, confirming } => self.take_step(rows, joint, from, confirming),
            State::Jump { next } => self.take_jump(rows, joint, &next),
            State::Check { next } => self.take_check(rows, joint, next, has_gaps),
        }
    }

    /// `confirming`: whether the place is the last row of the list.
    fn take_head(&mut self, rows: &[&RowKey], joint: Joint, confirming: bool) -> Vec<usize> {
        let was_empty = std::mem::replace(&mut self.was_empty, rows.is_empty());
        if rows.is_empty() && self.lowest.is_some() && !was_empty {
            // That a list which has had rows has none is believed when it is seen twice.
            return Vec::new();
        }
        if rows.is_empty() {
            self.state = State::Ended(End::ListEnded);
            return Vec::new();
        }
        let is_last = |(row, known): (usize, usize)| row + 1 == rows.len() && known + 1 == self.trail.len();
        if confirming && !self.was_full && joint.is_some_and(is_last) {
            self.state = State::Ended(End::ListEnded);
            self.is_snapshot = true;
            return self.fresh(rows);
        }
        self.begin_with(rows, true)
    }

    /// The walk begins with these rows, at the head or elsewhere.
    fn begin_with(&mut self, rows: &[&RowKey], at_head: bool) -> Vec<usize> {
        self.forget_all();
        self.began_at_head = at_head;
        self.settle(rows, 0)
    }

    /// The older part of a walk begins. A window may leave out rows, so its reply is no piece of
    /// the list: its last rows are the beginning, which hardly ever show an older time.
    fn take_beginning(&mut self, rows: &[&RowKey]) -> Vec<usize> {
        let [above @ .., _, _] = rows else {
            self.anchor_further_up(rows);
            return Vec::new();
        };
        if !is_nearly_sorted(rows) {
            self.anchor_further_up(rows);
            return Vec::new();
        }
        self.was_full = true;
        let fresh = self.begin_with(&rows[above.len()..], false);
        self.in_a_row = 1;
        fresh.into_iter().map(|i| above.len() + i).collect()
    }

    /// `has_gaps`: the window may have left out rows.
    fn take_anchor(&mut self, rows: &[&RowKey], joint: Joint, has_gaps: bool) -> Vec<usize> {
        let sought = if self.trail.is_empty() { self.window.high } else { self.place() };
        let above = sought.map_or(0, |sought| rows.iter().take_while(|row| row.at > sought).count());
        let is_above = above > 0;
        // The window leaves out what is newer than it. Below so many of its rows nothing so new
        // stands.
        let beyond = self.terms.beyond_by(self.order);
        let is_whole = self.trail.is_empty() || joint.map_or(above, |(row, _)| row + 1) >= beyond;
        // That the list is in order may prove wrong: then what began with a window is read again,
        // but not what goes on with one.
        let is_piece = is_whole && !self.is_loose && (self.trail.is_empty() || !has_gaps);
        match joint {
            Some((row, known)) if is_piece => {
                self.forget_below(known);
                self.settle(rows, row + 1)
            }
            None if is_above && is_piece => self.begin_with(rows, false),
            // Its reply gives a cursor, and no piece.
            _ if rows.len() > 1 && (is_above || joint.is_some()) && !self.cursors.take_only_last_rows => {
                self.was_full = true;
                let fresh = self.begin_with(&rows[..2], false);
                self.in_a_row = 1;
                fresh
            }
            _ => {
                self.anchor_further_up(rows);
                Vec::new()
            }
        }
    }

    fn take_probe(&mut self, rows: &[&RowKey]) -> Vec<usize> {
        self.more_follows = !rows.is_empty();
        self.has_small_batches |= self.more_follows;
        // Only as the last row of a reply the place is sure to be taken for a cursor.
        let is_end = rows.is_empty() && self.is_at_end;
        // The end of a list of one reply is proven by the head, which shows what moved as well.
        let is_one_reply = self.began_at_head
            && self.taken <= self.longest
            && self.longest < self.terms.full_batch
            && !LIKELY_BATCHES.contains(&self.longest);
        if is_end && is_one_reply {
            self.state = State::Head { confirming: true }
        } else {
            self.step(is_end)
        }
        Vec::new()
    }

    fn take_step(&mut self, rows: &[&RowKey], joint: Joint, from: usize, confirming: bool) -> Vec<usize> {
        let Some((row, known)) = joint else {
            self.cursors.count(true);
            self.miss(from, confirming);
            return Vec::new();
        };
        if row + 1 < rows.len() {
            self.forget_below(known);
            (self.cursors.misses, self.cursors.fail) = (0, false);
            (self.cursors.have_led, self.cursors.take_only_last_rows) = (true, false);
            self.cursors.led += 1;
            return self.settle(rows, row + 1);
        }
        let is_place = known + 1 == self.trail.len();
        if !is_place && self.was_full {
            // The batch has no room for the rows down to the place: ask from nearer by.
            if known > from {
                self.state = State::Step { from: known, confirming }
            } else {
                self.miss(from, confirming)
            }
            return Vec::new();
        }
        // What stood below in the trail is gone, or comes again.
        let is_above = |row: &RowKey| self.trail.iter().take(from + 1).any(|known| known == row);
        self.cursors.count(rows.iter().any(|row| is_above(row)));
        self.forget_below(known);
        // A full batch up to there may be one that the cursor had no part in.
        if !self.was_full {
            (self.cursors.misses, self.cursors.fail) = (0, false);
        }
        self.nothing_behind(from, confirming && is_place);
        Vec::new()
    }

    fn take_jump(&mut self, rows: &[&RowKey], joint: Joint, next: &Follower) -> Vec<usize> {
        match (joint, rows.first()) {
            // Nothing proves that the page takes cursors at all before one has led on.
            (_, None) if self.cursors.have_led && *next == Follower::Nothing => {
                self.state = State::Ended(End::ListEnded)
            }
            (_, None) if self.cursors.have_led => self.state = State::Check { next: Follower::Nothing },
            (_, None) => {
                self.cursors.take_only_last_rows = false;
                self.step(false);
            }
            (Some((row, known)), _) => return self.join(rows, row, known, Follower::Unknown),
            (None, Some(first)) if *next == Follower::Row(first.id.clone()) => {
                (self.cursors.have_led, self.cursors.misses) = (true, 0);
                return self.settle(rows, 0);
            }
            (None, Some(first)) => self.state = State::Check { next: Follower::Row(first.id.clone()) },
        }
        Vec::new()
    }

    fn take_check(&mut self, rows: &[&RowKey], joint: Joint, next: Follower, has_gaps: bool) -> Vec<usize> {
        let ends_in = |row: usize| row + 1 == rows.len();
        if let Some((row, known)) = joint.filter(|(row, _)| !has_gaps || ends_in(*row)) {
            return self.join(rows, row, known, next);
        }
        self.miss(self.trail.len().saturating_sub(1), false);
        Vec::new()
    }

    /// Takes in what stands behind a row of the trail. If nothing does, that row is the place;
    /// `next` follows it if it was the place before.
    fn join(&mut self, rows: &[&RowKey], row: usize, known: usize, next: Follower) -> Vec<usize> {
        let was_place = known + 1 == self.trail.len();
        self.forget_below(known);
        if !was_place {
            // The place vanished. If that happens again and again, the other cursors may have as
            // well.
            self.cursors.misses += 1;
            self.cursors.take_only_last_rows &= self.cursors.misses <= 2;
        }
        if row + 1 < rows.len() {
            return self.settle(rows, row + 1);
        }
        match (was_place, self.cursors.take_only_last_rows) {
            (true, _) => self.state = State::Jump { next },
            (false, true) => self.state = State::Jump { next: Follower::Unknown },
            (false, false) => self.step(false),
        }
        Vec::new()
    }

    /// Takes in a piece of the list that follows the trail from its row `new` on.
    fn settle(&mut self, rows: &[&RowKey], new: usize) -> Vec<usize> {
        let fresh = self.fresh(rows);
        self.cursors.refused_in_a_row = 0;
        let lowest = rows.iter().filter(|row| row.is_dated).map(|row| row.at).min();
        self.lowest = [self.lowest, lowest].into_iter().flatten().min();
        self.taken += rows.len() - new;
        self.in_a_row += rows.len() - new;
        self.trail.extend(rows[new..].iter().map(|row| (*row).clone()));
        let longest = (2 * self.terms.full_batch).max(4 * self.terms.beyond);
        self.trail.drain(..self.trail.len().saturating_sub(longest));
        self.in_a_row = self.in_a_row.min(self.trail.len());
        self.more_follows = false;
        let is_next = matches!(self.state, State::Step { .. });
        let low = if self.meets_by_ids() { self.whole.low } else { self.window.low };
        if self.is_beyond(low) {
            self.state = State::Ended(End::PassedBound);
        } else if self.cursors.take_only_last_rows
            && !self.is_tied()
            && (self.was_full || self.cursors.have_led)
        {
            self.state = State::Jump { next: Follower::Unknown };
        } else if self.was_full || is_next && self.has_small_batches && rows.len() >= self.longest {
            self.step(false);
        } else {
            self.state = State::Probe;
        }
        fresh
    }

    /// Which of these rows are to be handed out.
    fn fresh(&mut self, rows: &[&RowKey]) -> Vec<usize> {
        let by_time = !self.meets_by_ids();
        let is_held =
            |row: &RowKey| if row.is_dated && by_time { self.window } else { self.whole }.holds(row.at);
        let mut is_fresh = |row: &RowKey| is_held(row) && self.handed.is_new(row);
        let fresh: Vec<usize> = (0..rows.len()).filter(|i| is_fresh(rows[*i])).collect();
        self.has_left_out |=
            rows.iter().any(|row| self.window.low.is_some_and(|low| row.at < low) && !is_held(row));
        if !fresh.is_empty() {
            (self.fruitless, self.restarts, self.cursors.misses) = (0, 0, 0);
            (self.is_anchored, self.cursors.have_jumped) = (false, false);
        }
        fresh
    }
}

/// The rows of a batch, each id once.
fn without_repeats(rows: &[RowKey]) -> Vec<usize> {
    let mut ids = HashSet::with_capacity(rows.len());
    (0..rows.len()).filter(|i| ids.insert(rows[*i].id.as_str())).collect()
}
