//! This module defines what is remembered of a page in a target between two runs.

use crate::sync::walk::Walk;
use crate::time::Micros;

/// Three rows of the copy: the newest, one between, the oldest. The marks are believed as long as
/// one of them is there.
pub type Witnesses = [Option<String>; 3];

/// The marks of a page in a target. They move in the transaction that writes the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The newest time in the first reply of a run.
    pub mark: Option<Micros>,
    /// Down to this `inserted_at` all has been read.
    pub backfilled_to: Option<Micros>,
    /// Down to this `inserted_at` it will be. None: to the end.
    pub backfill_from: Option<Micros>,
    pub backfill_done: bool,
    /// What is older is not wanted.
    pub first_since: Option<Micros>,
    pub last_success_at: Option<Micros>,
    pub last_reread_at: Option<Micros>,
    pub last_full_rescan_at: Option<Micros>,
    pub witnesses: Option<Witnesses>,
    /// The backfill's last batch was read by a Sort.
    pub is_sorted: bool,
    /// Of threads: before this a stored message has no unstored one before it. None where that is
    /// where a delta begins.
    pub known_to: Option<Micros>,
}

impl Marks {
    /// Returns whether all has been read once.
    pub fn has_past(&self, walk: &Walk) -> bool {
        self.backfill_done && (self.mark.is_some() || walk.is_whole())
    }
}
