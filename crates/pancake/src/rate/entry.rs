//! This module is one waiting request of the queue in shared memory.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The entry of one waiting request. Zeroed memory is a free entry.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// Arrival number of the request; 0 if the entry is free.
    pub(super) arrival: AtomicU64,
    /// The entry is free after this time, in nanoseconds of the clock.
    pub(super) expires: AtomicU64,
}

impl Entry {
    /// The arrival number, if a request waits.
    pub(super) fn live(&self, now: u64) -> Option<u64> {
        let arrival = self.arrival.load(SeqCst);
        (arrival != 0 && self.expires.load(SeqCst) > now).then_some(arrival)
    }
}
