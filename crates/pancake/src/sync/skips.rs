//! This module decides what becomes of a conversation whose messages cannot be had: it is left out,
//! noted, and tried again after growing pauses. Nothing else stops for it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::error::Kind;
use crate::sync::threads::Thread;

/// So many different ones in a row are no fault of theirs.
const MOST_IN_A_ROW: usize = 5;
const FIRST_PAUSE: Duration = Duration::from_mins(10);
const LONGEST_PAUSE: Duration = Duration::from_hours(7 * 24);

/// Conversations of a page that are left out.
#[derive(Clone, Debug, Default)]
pub struct Skips {
    excluded: BTreeSet<String>,
    /// To be tried again in the head of this delta.
    due: BTreeSet<String>,
    in_a_row: usize,
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
    /// Takes conversations that failed before, and whether each is due.
    pub fn new(noted: impl IntoIterator<Item = (String, bool)>) -> Self {
        let mut skips = Self::default();
        for (id, is_due) in noted {
            if is_due { &mut skips.due } else { &mut skips.excluded }.insert(id);
        }
        skips
    }

    /// Returns the conversations whose messages a full rescan does not look for.
    pub fn all(&self) -> Vec<String> {
        self.excluded.union(&self.due).cloned().collect()
    }

    /// Leaves conversations out of a batch. In the head of a delta those that are due are added:
    /// whatever their messages show, they are read whole.
    pub fn apply(&self, threads: &mut Vec<Thread>, is_head_of_delta: bool) {
        threads.retain(|thread| !self.excluded.contains(&thread.id) && !self.due.contains(&thread.id));
        if is_head_of_delta {
            threads.extend(self.due.iter().map(|id| Thread { id: id.clone(), bound: None }));
        }
    }

    pub fn failed(&mut self, id: &str) -> AfterFailure {
        let is_known = self.due.remove(id);
        self.excluded.insert(id.to_owned());
        if !is_known {
            self.in_a_row += 1;
        }
        if self.in_a_row >= MOST_IN_A_ROW { AfterFailure::EndRun } else { AfterFailure::GoOn }
    }

    /// The threads of a batch were read. Returns those that had failed before.
    pub fn succeeded(&mut self, threads: &[Thread]) -> Vec<String> {
        self.in_a_row = 0;
        let read: Vec<_> = threads.iter().filter_map(|thread| self.due.take(&thread.id)).collect();
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(ids: &[&str]) -> Vec<Thread> {
        ids.iter().map(|id| Thread { id: (*id).to_owned(), bound: None }).collect()
    }

    #[test]
    fn what_failed_is_tried_again_in_the_head_of_a_delta() {
        let mut skips = Skips::new([("a".to_owned(), false), ("b".to_owned(), true)]);
        let mut batch = threads(&["a", "b", "c"]);
        skips.apply(&mut batch, false);
        assert_eq!(batch, threads(&["c"]));
        skips.apply(&mut batch, true);
        assert_eq!(batch, threads(&["c", "b"]));
        assert_eq!(skips.succeeded(&batch), ["b"]);
        assert_eq!(skips.all(), ["a"]);
    }

    #[test]
    fn five_new_ones_in_a_row_end_the_run() {
        let mut skips = Skips::new([("old".to_owned(), true)]);
        assert_eq!(skips.failed("old"), AfterFailure::GoOn);
        let of = |skips: &mut Skips| ["1", "2", "3", "4", "5"].map(|id| skips.failed(id));
        assert_eq!(of(&mut skips)[3..], [AfterFailure::GoOn, AfterFailure::EndRun]);
        skips.succeeded(&[]);
        assert_eq!(skips.failed("6"), AfterFailure::GoOn);
    }

    #[test]
    fn pauses_grow_to_a_week() {
        let minutes = [1, 2, 3, 10, 11, 40].map(|tries| pause(tries).as_secs() / 60);
        assert_eq!(minutes, [10, 20, 40, 5_120, 10_080, 10_080]);
        assert!(is_of_one_thread("HV00M") && !is_of_one_thread("28000"));
    }
}
