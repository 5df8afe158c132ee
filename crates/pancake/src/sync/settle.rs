//! This module decides what a step means for the marks: in the transaction that wrote its rows.

use std::time::Duration;

use crate::sync::marks::{Marks, Witnesses};
use crate::sync::run::{BEGUN_ROWS, HEAD_ROWS, Kind, Parameters, Phase, Run, floor};
use crate::sync::walk::{Batches, Walk};
use crate::time::Micros;

/// What the clock of the server may differ.
const CLOCKS: Duration = Duration::from_mins(10);
const LEAST_THREADS: u64 = 8;
const LEAST_SPAN: Duration = Duration::from_mins(1);
/// How much larger the next batch may be, by what the last one took.
const GROWTH: f64 = 8.0;

/// What a step brought.
#[derive(Clone, Debug, Default)]
pub struct StepResult {
    pub seen: u64,
    /// Rows of the batch that the target had before.
    pub existing: u64,
    /// Those of them that a write changes.
    pub changed: u64,
    /// What the write has counted: at least the rows that it changed. A distributed table counts
    /// every row that it compared.
    pub written: u64,
    /// The rows that were read and wanted, newest first.
    pub ids: Vec<String>,
    /// The lowest time that was read. Of a head None, if it was read to where nothing differs.
    pub lowest: Option<Micros>,
    pub newest: Option<Micros>,
    /// Rows of the list that was walked.
    pub walked: u64,
    /// Of threads: the conversations that the next batch begins with, too.
    pub seam: Option<Vec<String>>,
}

/// What is known when a step has been executed.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When the last reply left Pancake.
    pub server_time: Micros,
    pub now: Micros,
    /// The step has taken the rows that were at hand, and more follow.
    pub is_cut: bool,
    /// No row of the list was seen far below its place.
    pub is_dated: bool,
    /// Requests of the step.
    pub requests: u64,
    /// Of the rows of the step those that the target holds: a trigger may have dropped some. Asked
    /// for only where [`Run::needs_kept`].
    pub kept: Vec<String>,
}

/// How many rows a step changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub seen: u64,
    pub inserted: u64,
    pub updated: u64,
    pub removed: u64,
}

impl StepResult {
    pub fn counts(&self, phase: Phase) -> Counts {
        if phase == Phase::Gone {
            return Counts { removed: self.written, ..Counts::default() };
        }
        let inserted = (self.ids.len() as u64).saturating_sub(self.existing).min(self.written);
        let updated = self.changed.min(self.written - inserted);
        Counts { seen: self.seen, inserted, updated, removed: 0 }
    }
}

impl Run {
    /// Returns whether the rows that the target holds become witnesses.
    pub fn needs_kept(&self, marks: &Marks) -> bool {
        matches!(self.phase, Phase::Head | Phase::Past) || marks.witnesses.is_none()
    }

    fn is_last(&self, walk: &Walk, result: &StepResult, facts: &Facts) -> bool {
        match walk.batches {
            _ if self.reads_head(walk) => result.lowest.is_none(),
            Batches::Slices => self.edge == self.low,
            Batches::Whole => true,
            Batches::Rows | Batches::Threads => {
                result.walked < self.batch && !facts.is_cut && !self.begins_anew(facts.is_dated)
            }
        }
    }

    /// Moves on behind a step, and the marks with it. Returns whether the run is over.
    pub fn settle(
        &mut self,
        walk: &Walk,
        parameters: &Parameters,
        marks: &mut Marks,
        mut result: StepResult,
        facts: &Facts,
    ) -> bool {
        let is_last = self.is_last(walk, &result, facts);
        if walk.is_slices() {
            // All of the slice has been read, wherever its rows are.
            result.lowest = self.edge;
            self.newest = if self.kind == Kind::Reread { None } else { self.newest.or(result.newest) };
        }
        let begun = Some(Phase::Begun).filter(|_| !walk.is_slices());
        let next = match self.phase {
            Phase::Head => self.settle_head(walk, marks, &result, facts, is_last),
            Phase::Changed => {
                if marks.witnesses.is_none() {
                    marks.witnesses = newest_witness(&facts.kept);
                }
                if is_last { begun } else { Some(Phase::Changed) }
            }
            Phase::Begun => {
                if !is_last && result.lowest.is_some() && result.lowest >= self.since {
                    // More conversations began than one reply holds: they are a past to be read,
                    // down to there.
                    marks.backfilled_to = result.lowest;
                    marks.backfill_from = self.since;
                    marks.backfill_done = false;
                }
                None
            }
            Phase::Past => {
                self.settle_past(walk, marks, &result, facts);
                Some(Phase::Past).filter(|_| !is_last)
            }
            Phase::Again => {
                if is_last {
                    begun
                } else {
                    Some(Phase::Again)
                }
            }
            Phase::All if !is_last => Some(Phase::All),
            Phase::All => Some(Phase::Gone).filter(|_| self.kind != Kind::Backfill),
            Phase::Census | Phase::Gone => None,
        };
        match next {
            Some(next) => self.go_on(walk, parameters, marks, next, result, facts),
            None => self.finish(walk, marks, facts),
        }
        next.is_none()
    }

    /// Returns the phase that follows the head.
    fn settle_head(
        &mut self,
        walk: &Walk,
        marks: &mut Marks,
        result: &StepResult,
        facts: &Facts,
        is_last: bool,
    ) -> Option<Phase> {
        self.newest = result.newest;
        if let Some(newest) = facts.kept.first() {
            marks.witnesses.get_or_insert_default()[0] = Some(newest.clone());
        }
        if self.kind == Kind::Backfill {
            // Where all of them are dated ahead, the time of the reply is earlier than theirs.
            let replied_at = self.began_at.min(facts.server_time);
            marks.mark = result.newest.or(Some(replied_at).filter(|_| result.walked > 0));
        }
        // The head holds no thread but those that a delta wants.
        let is_all =
            result.walked < HEAD_ROWS.min(self.batch) && (!walk.is_threads() || self.kind == Kind::Delta);
        let next = match self.kind {
            Kind::Full if is_all => Some(Phase::Gone),
            Kind::Full => Some(Phase::All),
            _ if is_all => None,
            Kind::Backfill => Some(Phase::Past),
            _ if !is_last => Some(Phase::Changed),
            _ if result.walked <= HEAD_ROWS => None,
            _ => Some(Phase::Begun),
        };
        if walk.is_threads() && self.kind == Kind::Delta {
            marks.known_to = self.known_to.filter(|_| next.is_some());
        }
        next
    }

    fn settle_past(&mut self, walk: &Walk, marks: &mut Marks, result: &StepResult, facts: &Facts) {
        marks.is_sorted = self.is_dated == Some(false);
        if walk.is_slices() && marks.mark.is_none() {
            marks.mark = result.newest;
            marks.witnesses = newest_witness(&facts.kept);
        }
        // A page on which nothing was found yet is read from its head again, for what comes to it
        // is new.
        if !walk.is_slices() || marks.mark.is_some() {
            marks.backfilled_to = result.lowest.or(marks.backfilled_to);
        }
        // What a delta left to be read is no past of the whole page.
        if marks.backfill_from == floor(walk, marks.first_since)
            && let [.., oldest] = &facts.kept[..]
        {
            let [_, between, last] = marks.witnesses.get_or_insert_default();
            between.get_or_insert_with(|| facts.kept[(facts.kept.len() - 1) / 2].clone());
            *last = Some(oldest.clone());
        }
    }

    fn go_on(
        &mut self,
        walk: &Walk,
        parameters: &Parameters,
        marks: &Marks,
        next: Phase,
        result: StepResult,
        facts: &Facts,
    ) {
        let step = std::mem::replace(&mut self.phase, next);
        // The phase of a delta that goes on from the head begins where that ended.
        let is_further = next == step || next == Phase::Changed;
        self.batch = match next {
            Phase::Begun => BEGUN_ROWS,
            // A batch of nothing but ties leads no further down: the next one is larger.
            _ if result.lowest.is_some() && result.lowest == self.high => self.batch.saturating_mul(2),
            _ if walk.is_threads() && step == Phase::Head => parameters.first_threads(),
            _ if walk.is_threads() => self.next_threads(parameters, result.walked, facts.requests),
            _ => parameters.batch_rows,
        };
        if walk.is_slices() {
            let filled = parameters.batch_rows as f64 / result.seen.max(1) as f64;
            let span = self.span.as_secs_f64() * filled.clamp(1.0 / GROWTH, GROWTH);
            self.span = Duration::try_from_secs_f64(span).unwrap_or(self.span).max(LEAST_SPAN);
        }
        self.high = if is_further { result.lowest.or(self.high) } else { None };
        self.seam = if is_further { result.seam } else { None };
        if next != step {
            self.read_at = None;
            self.low = if next == Phase::All { floor(walk, marks.first_since) } else { None };
        }
    }

    /// As many conversations as take so many replies, by what the last ones took.
    fn next_threads(&self, parameters: &Parameters, walked: u64, requests: u64) -> u64 {
        let growth = (parameters.thread_replies as f64 / requests.max(1) as f64).min(GROWTH);
        let threads = (self.batch.min(walked) as f64 * growth).round() as u64;
        threads.min(parameters.batch_rows).max(LEAST_THREADS.min(parameters.thread_replies))
    }

    fn finish(&mut self, walk: &Walk, marks: &mut Marks, facts: &Facts) {
        match self.kind {
            Kind::Delta => marks.last_success_at = Some(facts.now),
            Kind::Backfill => {
                if walk.is_slices() {
                    // What comes to an empty list is newer than this.
                    let empty = self.began_at.min(facts.server_time).minus(CLOCKS);
                    marks.mark.get_or_insert(empty);
                }
                marks.backfill_done = true;
                marks.last_success_at = Some(facts.now);
                marks.last_reread_at.get_or_insert(self.began_at);
            }
            Kind::Reread => marks.last_reread_at = Some(self.began_at),
            Kind::Full => {
                marks.last_success_at = Some(facts.now);
                marks.last_full_rescan_at = Some(facts.now);
                marks.last_reread_at = marks.last_reread_at.max(Some(self.began_at));
            }
        }
        // A rescan that keeps to a bound has not read what is older and has changed since the mark.
        if self.kind != Kind::Full || marks.first_since.is_none() {
            marks.mark = marks.mark.max(self.newest);
        }
    }
}

fn newest_witness(kept: &[String]) -> Option<Witnesses> {
    kept.first().map(|newest| [Some(newest.clone()), None, None])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_by_what_differs() {
        let counts = |existing, changed, written| {
            let ids = (0..5).map(|id| id.to_string()).collect();
            let result = StepResult { seen: 6, existing, changed, written, ids, ..StepResult::default() };
            let Counts { seen, inserted, updated, .. } = result.counts(Phase::Head);
            (seen, inserted, updated)
        };
        assert_eq!(counts(3, 1, 3), (6, 2, 1));
        assert_eq!(counts(3, 1, 5), (6, 2, 1), "a distributed table counts what it compared");
        assert_eq!(counts(3, 1, 1), (6, 1, 0), "a trigger drops rows");
        assert_eq!(counts(5, 0, 0), (6, 0, 0));
    }
}
