//! This module keeps what became of the anchors of a walk.

use super::params::WIDTH_SECONDS;
use super::{CursorPager, State};
use crate::paging::verdicts;
use crate::schema::keyset::RowKey;
use crate::time::{Micros, SECOND};

/// What became of the anchors that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Anchors {
    pub are_taken: bool,
    /// One was answered with rows.
    pub were_taken: bool,
    pub failed: u32,
    /// A request without times has succeeded since.
    pub were_replaced: bool,
    /// The refusal named the form, or a row has come that an empty reply left out.
    pub are_refused: bool,
    /// The times of the last one that was answered empty.
    pub empty: Option<(Micros, Micros)>,
}

impl Anchors {
    pub fn new(are_taken: bool) -> Self {
        Self {
            are_taken,
            were_taken: false,
            failed: 0,
            were_replaced: false,
            are_refused: false,
            empty: None,
        }
    }
}

impl CursorPager {
    /// Notes what a reply shows of anchors.
    pub(super) fn note_anchor(&mut self, rows: &[&RowKey]) {
        let anchors = &mut self.anchors;
        match self.state {
            State::Anchor { until, .. } if rows.is_empty() => {
                let since = until.0 - WIDTH_SECONDS;
                anchors.empty = Some((Micros((since + 1) * SECOND), Micros((until.0 - 1) * SECOND)));
            }
            State::Anchor { .. } => anchors.were_taken = true,
            _ => {
                anchors.were_replaced |= anchors.failed > 0 && !rows.is_empty();
                let is_hidden = |row: &&RowKey| {
                    row.is_dated && anchors.empty.is_some_and(|(low, high)| (low..=high).contains(&row.at))
                };
                anchors.are_refused |= rows.iter().any(is_hidden);
            }
        }
    }

    /// Whether the page takes anchors, if this walk has shown it.
    pub fn verdict(&self) -> Option<verdicts::WindowVerdict> {
        match self.anchors {
            Anchors { are_refused: true, .. } => Some(verdicts::WindowVerdict::Refused),
            Anchors { were_taken: true, .. } => Some(verdicts::WindowVerdict::Taken),
            Anchors { failed: 1.., were_replaced: true, .. } => Some(verdicts::WindowVerdict::Failed),
            _ => None,
        }
    }
}
