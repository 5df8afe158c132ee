//! This module hands rows out: each where it stands in the order that is promised, as soon as no
//! other can come before it.

use std::cmp::Reverse;

use super::{Asker, Union};
use crate::error::{Error, Kind, Result};
use crate::paging::head_check::LATE_SECONDS;
use crate::reply::decode::Row;
use crate::scan::segment::Segment;

impl Union {
    /// Takes in the rows of a reply that are new, newest first.
    pub fn feed(&mut self, asker: Asker, rows: Vec<Row>) {
        if let Some(missing) = &mut self.missing {
            rows.iter().for_each(|row| {
                missing.remove(&row.id);
            });
        }
        let segment = match asker {
            Asker::Segment(number) => self.segments.iter().position(|segment| segment.number == number),
            // The rows of a head check are in no order: any queue will do.
            Asker::Look => self.segments.len().checked_sub(1),
        };
        let Some(at) = segment else { return };
        if !self.ordered {
            return self.segments[at].rows.extend(rows);
        }
        // A row comes out among those of its time, wherever it was met.
        let chain = self.segments[at].chain;
        let holds = |segment: &Segment, row: &Row| {
            segment.chain == chain && segment.walk.window().low.is_none_or(|low| low <= row.at)
        };
        for row in rows {
            let of_its_time = self.segments.iter().position(|segment| holds(segment, &row));
            self.segments[of_its_time.unwrap_or(at)].feed([row]);
        }
    }

    /// The rows that can be handed out now. An error where the promised order cannot be kept.
    pub fn ready(&mut self) -> Result<Vec<Row>> {
        let mut ready = Vec::new();
        while let Some((chain, row)) = self.pop() {
            let is_late = self.ordered && self.last.is_some_and(|last| last < row.at);
            let begun = self.begun.get(&chain);
            let is_newer = || begun.is_none_or(|begun| begun.minus_seconds(LATE_SECONDS) < row.at);
            if is_late && is_newer() && !self.undated.has(&row.id) {
                // It was not there, or stood elsewhere, when the scan began.
                continue;
            }
            if is_late {
                let detail = format!("Row \"{}\" of {} came too late.", row.id, row.at.iso());
                let error = Error::new(Kind::NotUnderstood, "reply is not in the order that was asked for");
                let hint = if self.undated.has(&row.id) {
                    "The row lacks the time of the order and shows the other one. Execute the statement \
                     again: when it is planned anew, Postgres sorts."
                } else {
                    "Execute the statement again: it is remembered that the page's list is out of order. If \
                     it fails again, bound inserted_at, or order by it."
                };
                return Err(error.detail(detail).hint(hint));
            }
            self.last = Some(row.at);
            ready.push(row);
        }
        self.handed += ready.len() as u64;
        self.drop_what_is_done();
        Ok(ready)
    }

    fn drop_what_is_done(&mut self) {
        // The last segment holds how the stream ended; any other, where the newer one is to end.
        let mut left = self.segments.len();
        let mut newer = None;
        self.segments.retain(|segment| {
            left -= 1;
            let is_awaited =
                newer.replace((segment.chain, segment.walk.ended().is_none())) == Some((segment.chain, true));
            left == 0 || segment.busy || is_awaited || !segment.is_done()
        });
    }

    /// The next row, and its chain.
    fn pop(&mut self) -> Option<(usize, Row)> {
        let segments = &self.segments;
        let key = |at: usize, row: &Row| (row.at, Reverse(at));
        let at = if !self.ordered {
            segments.iter().position(|segment| !segment.rows.is_empty())?
        } else if self.found_all() {
            (0..segments.len()).filter_map(|at| Some(key(at, segments[at].rows.front()?))).max()?.1.0
        } else {
            // A chain that has not shown its next row might have a newer one than all the others.
            let newest = |so_far: Option<_>, at| Some(so_far.max(Some(key(at, segments[at].first()?))));
            self.heads().try_fold(None, newest)??.1.0
        };
        let segment = &mut self.segments[at];
        segment.rows.pop_front().map(|row| (segment.chain, row))
    }

    /// Of each chain the segment that has its next row.
    pub(super) fn heads(&self) -> impl Iterator<Item = usize> {
        let mut last = None;
        let live = self.segments.iter().enumerate().filter(|(_, segment)| !segment.is_done());
        live.filter_map(move |(at, segment)| {
            (last.replace(segment.chain) != Some(segment.chain)).then_some(at)
        })
    }
}
