//! This module chooses the next request of a walk: the next step, another cursor if one did not
//! lead on, an anchor above the place, or the head.

use super::params::{ANCHORS, CURSORS, WIDTH_SECONDS};
use super::{CursorPager, End, Follower, State};
use crate::schema::keyset::RowKey;
use crate::time::{Micros, SECOND, UnixSeconds};

impl CursorPager {
    /// The place came again as the last row of a reply.
    pub(super) fn nothing_behind(&mut self, from: usize, confirming: bool) {
        let nearest = self.trail.len().checked_sub(2);
        if self.was_full || std::mem::take(&mut self.more_follows) {
            match nearest.filter(|nearest| *nearest > from) {
                Some(from) => self.state = State::Step { from, confirming },
                None => self.miss(from, confirming),
            }
        } else if confirming {
            self.state = State::Ended(End::ListEnded);
        } else {
            self.state = State::Probe;
        }
    }

    /// Asks from the last row of the previous distinct time, so that the place comes again.
    pub(super) fn step(&mut self, confirming: bool) {
        let last = self.trail.back().map(|row| row.at);
        let above = self.trail.iter().rposition(|row| Some(row.at) != last);
        let above =
            above.filter(|above| self.trail.len() - above <= self.terms.full_batch && !self.more_follows);
        match above.or(self.trail.len().checked_sub(2)) {
            Some(from) => self.state = State::Step { from, confirming },
            None if confirming => self.state = State::Head { confirming },
            // The one row that is known was no cursor.
            None => self.begin_anew(false),
        }
    }

    /// The cursor did not lead on from the trail.
    pub(super) fn miss(&mut self, from: usize, confirming: bool) {
        self.cursors.misses += 1;
        if from + 1 < self.trail.len() {
            // It moved or vanished; if not, there are others.
            self.trail.remove(from);
            self.taken = self.taken.saturating_sub(1);
            self.in_a_row = self.in_a_row.min(self.trail.len() - from);
        }
        let nearest = self.trail.len().checked_sub(2);
        // Of a page out of order an anchor shows no piece, so the head is as good.
        let most = if self.is_loose { self.trail.len() } else { usize::MAX };
        let from_head = if self.began_at_head { self.taken.min(most) } else { most };
        let further_up = from.checked_sub(1 << (self.cursors.misses - 1).min(16)).or(nearest);
        match further_up.filter(|_| self.cursors.misses < CURSORS && !self.cursors.fail) {
            Some(from) => self.state = State::Step { from, confirming },
            None if self.can_jump() && !std::mem::replace(&mut self.cursors.have_jumped, true) => {
                self.cursors.take_only_last_rows = true;
                self.state = State::Jump { next: Follower::Unknown };
            }
            // What one batch holds is read as fast from the head.
            None if self.is_anchored || from_head < self.terms.full_batch => self.begin_anew(confirming),
            None => {
                (self.cursors.fail, self.is_anchored) = (true, true);
                // Some rows above the place are wanted as well.
                let place = self.newest_above().unwrap_or(Micros(0));
                self.anchor(UnixSeconds(place.floor_second().0.saturating_add(1)), 0);
                if let State::Head { .. } = self.state {
                    self.begin_anew(confirming);
                }
            }
        }
    }

    /// Whether the place is to be tried as cursor: none of the others led on, as where a server
    /// takes only the last row of a reply.
    fn can_jump(&self) -> bool {
        self.cursors.are_refused() && self.brought_by.is_some() && !self.is_tied()
    }

    /// Asks for an anchor, or at the head if it would be too recent.
    pub(super) fn anchor(&mut self, until: UnixSeconds, tried: u32) {
        let is_taken = self.anchors.are_taken && until.0 <= self.latest_until.0 && until.0 > 0;
        self.state = if is_taken && tried < ANCHORS {
            State::Anchor { until, tried }
        } else {
            State::Head { confirming: false }
        };
    }

    /// An anchor was refused, or its reply shows nothing above what is looked for. Its rows, if
    /// there are any, show how densely they stand; else the next window is asked for.
    pub(super) fn anchor_further_up(&mut self, rows: &[&RowKey]) {
        let State::Anchor { until, tried } = self.state else { return };
        let dated: Vec<_> = rows.iter().filter(|row| row.is_dated).collect();
        let up = match (dated.first(), dated.last()) {
            (Some(first), Some(last)) if dated.len() > 1 => {
                let gap = first.at.0.saturating_sub(last.at.0).max(0) / (dated.len() as i64 - 1);
                (gap.saturating_mul(16) / SECOND).clamp(60, WIDTH_SECONDS / 2) << (3 * tried)
            }
            _ => (WIDTH_SECONDS - 86_400) << tried,
        };
        self.anchor(UnixSeconds(until.0.saturating_add(up)), tried + 1);
        if let State::Head { .. } = self.state {
            self.begin_anew(false);
        }
    }

    /// Asks at the head. `confirming`: the place as cursor has brought nothing.
    pub(super) fn begin_anew(&mut self, confirming: bool) {
        (self.cursors.misses, self.is_anchored) = (0, false);
        self.restarts += 1;
        self.state = State::Head { confirming };
    }
}
