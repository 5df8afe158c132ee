//! This module decides what becomes of a conversation whose messages cannot be had: it is left out,
//! noted, and tried again after growing pauses. Nothing else stops for it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::error::Kind;
use crate::sync::threads::Thread;

/// So many different ones in a row are no fault of theirs.
const MOST_IN_A_ROW: usize = 5;
/// So many that failed before are tried again in a delta.
const MOST_DUE: usize = 8;
const FIRST_PAUSE: Duration = Duration::from_mins(10);
const LONGEST_PAUSE: Duration = Duration::from_hours(7 * 24);

/// Conversations of a page that are left out.
#[derive(Clone, Debug, Default)]
pub struct Skips {
    excluded: BTreeSet<String>,
    /// To be tried again, the longest due first.
    due: Vec<String>,
    in_a_row: usize,
}

/// How a batch reads the threads of its conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Whole, down to what is wanted.
    Whole,
    /// Of known conversations what is new. Whole are those that are added.
    HeadOfDelta,
    Partial,
}

/// What follows the failure of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    GoOn,
    EndRun,
}

/// Returns whether an error may be one conversation's alone. What is wrong with a token, a page or
/// the network is not.
pub fn is_of_one_thread(sqlstate: &str) -> bool {
    [Kind::NotUnderstood, Kind::ServerFault, Kind::PageNotFound].map(Kind::sqlstate).contains(&sqlstate)
}

/// Returns how long a conversation is left out that has failed so often.
pub fn pause(tries: u32) -> Duration {
    let doubled = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(doubled.max(1)).min(LONGEST_PAUSE)
}

impl Skips {
    /// Takes conversations that failed before, and whether each is due, the longest due first.
    pub fn new(noted: impl IntoIterator<Item = (String, bool)>) -> Self {
        let mut skips = Self::default();
        for (id, is_due) in noted {
            if is_due {
                skips.due.push(id);
            } else {
                skips.excluded.insert(id);
            }
        }
        skips
    }

    /// Leaves conversations out of a batch, and returns those. One that is due is read whole: in
    /// its place if all are, else in the head of a delta, a few at a time.
    pub fn apply(&self, threads: &mut Vec<Thread>, reading: Reading) -> Vec<String> {
        let is_left_out = |thread: &mut Thread| {
            self.excluded.contains(&thread.id) || (reading != Reading::Whole && self.due.contains(&thread.id))
        };
        let left_out = threads.extract_if(.., is_left_out).map(|thread| thread.id).collect();
        if reading == Reading::HeadOfDelta {
            let due = self.due.iter().take(MOST_DUE);
            threads.extend(due.map(|id| Thread { id: id.clone(), bound: None }));
        }
        left_out
    }

    /// Takes in the failure of a thread of the batch. If one that was due fails again, the others
    /// that are due wait for the next run.
    pub fn failed(&mut self, id: &str, threads: &mut Vec<Thread>) -> AfterFailure {
        threads.retain(|thread| thread.id != id);
        if self.due.iter().any(|due| due == id) {
            threads.retain(|thread| !self.due.contains(&thread.id));
            self.excluded.extend(self.due.drain(..));
        } else {
            self.in_a_row += 1;
        }
        self.excluded.insert(id.to_owned());
        if self.in_a_row >= MOST_IN_A_ROW { AfterFailure::EndRun } else { AfterFailure::GoOn }
    }

    /// The threads of a batch were read. Returns those that had failed before.
    pub fn succeeded(&mut self, threads: &[Thread]) -> Vec<String> {
        if !threads.is_empty() {
            self.in_a_row = 0;
        }
        self.due.extract_if(.., |id| threads.iter().any(|thread| thread.id == *id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(ids: &[&str]) -> Vec<Thread> {
        ids.iter().map(|id| Thread { id: (*id).to_owned(), bound: None }).collect()
    }

    #[test]
    fn what_failed_is_tried_again_where_it_is_read_whole() {
        let mut skips = Skips::new([("a".to_owned(), false), ("b".to_owned(), true)]);
        let all = threads(&["a", "b", "c"]);
        let applied = |skips: &Skips, reading| {
            let mut batch = all.clone();
            (skips.apply(&mut batch, reading), batch)
        };
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(applied(&skips, Reading::Partial), (ids(&["a", "b"]), threads(&["c"])));
        assert_eq!(applied(&skips, Reading::HeadOfDelta), (ids(&["a", "b"]), threads(&["c", "b"])));
        assert_eq!(applied(&skips, Reading::Whole), (ids(&["a"]), threads(&["b", "c"])));
        assert_eq!(skips.succeeded(&threads(&["b", "c"])), ["b"]);
        assert_eq!(applied(&skips, Reading::HeadOfDelta), (ids(&["a"]), threads(&["b", "c"])));
    }

    #[test]
    fn five_new_ones_in_a_row_end_the_run() {
        let mut skips = Skips::new([("old".to_owned(), true), ("older".to_owned(), true)]);
        let mut batch = threads(&["1", "old", "older"]);
        assert_eq!(skips.failed("old", &mut batch), AfterFailure::GoOn);
        assert_eq!(batch, threads(&["1"]), "the other one waits");
        let mut fail = |id| skips.failed(id, &mut batch);
        assert_eq!(["1", "2", "3", "4", "5"].map(&mut fail)[3..], [AfterFailure::GoOn, AfterFailure::EndRun]);
        assert_eq!(skips.succeeded(&[]), Vec::<String>::new());
        assert_eq!(skips.failed("6", &mut Vec::new()), AfterFailure::EndRun, "nothing was read between");
        skips.succeeded(&threads(&["7"]));
        assert_eq!(skips.failed("8", &mut Vec::new()), AfterFailure::GoOn);
    }

    #[test]
    fn a_head_takes_a_few_that_are_due() {
        let skips = Skips::new((0..20).map(|id| (id.to_string(), true)));
        let mut batch = Vec::new();
        skips.apply(&mut batch, Reading::HeadOfDelta);
        assert_eq!(batch.len(), MOST_DUE);
    }

    #[test]
    fn pauses_grow_to_a_week() {
        let minutes = [1, 2, 3, 10, 11, 40].map(|tries| pause(tries).as_secs() / 60);
        assert_eq!(minutes, [10, 20, 40, 5_120, 10_080, 10_080]);
        assert!(is_of_one_thread("HV00M") && !is_of_one_thread("28000"));
    }
}
