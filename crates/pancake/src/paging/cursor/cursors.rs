//! This module keeps what became of the rows that a walk asked from.

use super::params::CURSORS;

/// What became of the cursors that were asked from.
#[derive(Clone, Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Cursors {
    /// Cursors in a row that did not lead on from the trail.
    pub misses: u32,
    /// The last cursors did not lead on: an anchor is tried after the first one.
    pub fail: bool,
    /// Rows of the trail that as cursors brought none of it: since it grew, and in all; and those
    /// that led on.
    pub refused_in_a_row: u32,
    pub refused: u32,
    pub led: u32,
    /// No cursor but the last row of a reply has led on, and many were tried.
    pub take_only_last_rows: bool,
    /// A cursor has led on.
    pub have_led: bool,
    /// The place was tried as cursor, and no new row has come since.
    pub have_jumped: bool,
}

impl Cursors {
    /// Counts one that was refused, or that led on.
    pub fn count(&mut self, refused: bool) {
        self.refused_in_a_row += u32::from(refused);
        self.refused += u32::from(refused);
    }

    /// Whether hardly any has led on: where rows only vanish and move, others do.
    pub fn are_refused(&self) -> bool {
        self.refused_in_a_row >= CURSORS && self.refused >= CURSORS * (self.led + 1)
    }
}
