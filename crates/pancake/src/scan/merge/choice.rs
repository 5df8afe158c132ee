//! This module decides which piece of a union is asked next, and which is cut in two so that more
//! can be asked at once.

use super::{SMALL_LIMIT, Union};
use crate::paging::cursor::FULL_BATCH;
use crate::scan::segment::ROWS_OF_A_BATCH;
use crate::time::Micros;

/// Rows that came ahead of their order wait for it: at most so many, about 30 MB of the largest.
const MOST_WAITING: usize = 96 * FULL_BATCH;

/// After so many cuts in vain no more are tried.
const MOST_FOLDED: u32 = 3;

pub(super) enum Choice {
    Ask(usize),
    Cut(usize, Micros),
    Look,
}

impl Union {
    pub(super) fn choose(&self, ahead: bool) -> Option<Choice> {
        if self.found_all() {
            return None;
        }
        if let Some(looks) = self.looks.as_ref().filter(|looks| looks.have_begun()) {
            return (!self.look_is_asked && looks.ask().is_some()).then_some(Choice::Look);
        }
        let idle = |at: &usize| self.segments[*at].is_idle();
        // Newest first where rows wait for their order; else whatever has most before it.
        let newest =
            |at: &usize| (self.segments[*at].position().map_or(i64::MAX, |at| at.0), usize::MAX - at);
        let most = |one: &usize, other: &usize| {
            let left = |at: &usize| self.segments[*at].left();
            left(one).total_cmp(&left(other)).then(other.cmp(one))
        };
        let all = 0..self.segments.len();
        let next = if self.ordered {
            let starved = |at: &usize| self.segments[*at].is_starved();
            let lacking = |at: &usize| !ahead || !self.are_enough(self.before(*at));
            let needed = self.heads().filter(starved).filter(idle).filter(lacking).max_by_key(newest);
            let room = ahead && self.waiting() < MOST_WAITING;
            if needed.is_none() && !room {
                return None;
            }
            needed.or_else(|| all.filter(idle).filter(lacking).max_by_key(newest))
        } else {
            // One reply brings the next row, whosever it is.
            let enough = ahead && self.are_enough(self.expected(0..self.segments.len()));
            if enough || !ahead && self.segments.iter().any(|segment| segment.busy) {
                return None;
            }
            all.filter(idle).max_by(most)
        };
        next.map(Choice::Ask).or_else(|| ahead.then(|| self.cut()).flatten())
    }

    /// The segment that has most before it is cut, of what is wanted.
    fn cut(&self) -> Option<Choice> {
        let is_small = self.ordered && self.limit.is_some_and(|limit| limit <= SMALL_LIMIT);
        if is_small || self.folded >= MOST_FOLDED {
            return None;
        }
        let left = |at: usize| match self.limit.filter(|_| self.ordered) {
            Some(limit) => self.segments[at].left().min((limit as f64 - self.before(at)) / ROWS_OF_A_BATCH),
            None => self.segments[at].left(),
        };
        let busy = (0..self.segments.len()).filter(|at| self.segments[*at].busy);
        let cuts = busy.filter_map(|at| Some((left(at), at, self.segments[at].cut_of(left(at))?)));
        let most = cuts.max_by(|one, other| one.0.total_cmp(&other.0).then(other.1.cmp(&one.1)));
        most.map(|(_, at, low)| Choice::Cut(at, low))
    }

    fn are_enough(&self, rows: f64) -> bool {
        self.limit.is_some_and(|limit| rows >= limit as f64)
    }

    /// Rows that were handed out, wait, or are on their way.
    fn expected(&self, segments: impl IntoIterator<Item = usize>) -> f64 {
        let of = |at: usize| {
            let segment = &self.segments[at];
            segment.rows.len() + if segment.busy { FULL_BATCH } else { 0 }
        };
        (self.handed as usize + segments.into_iter().map(of).sum::<usize>()) as f64
    }

    /// Rows that come out before those that a segment still has to bring, as far as can be
    /// estimated: of its own chain all that are newer, of the others those whose turn it is.
    fn before(&self, at: usize) -> f64 {
        let chain = self.segments[at].chain;
        let newer = self.segments[..at].iter().filter(|segment| segment.chain == chain);
        let newer: f64 =
            newer.map(|segment| segment.rows.len() as f64 + segment.left() * ROWS_OF_A_BATCH).sum();
        let others = self.heads().filter(|head| self.segments[*head].chain != chain);
        newer + self.segments[at].rows.len() as f64 + self.expected(others)
    }
}
