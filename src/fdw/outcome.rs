//! This module keeps what the scans of this backend have come to, for a sync that executes them in
//! its statements.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};

/// Requests of scans that are over.
pub static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// Rows that the last scan has received and not handed out.
pub static RECEIVED: AtomicU64 = AtomicU64::new(0);

/// Whether the last statement of a sync took the rows at hand and left more to a later one.
pub static IS_CUT: AtomicBool = AtomicBool::new(false);

/// When the last reply left its server, in microseconds since 1970; 0 before the first one.
pub static REPLIED_AT: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// The conversation whose messages the last scan that failed has asked for.
    pub static FAILED_CONVERSATION: RefCell<Option<String>> = const { RefCell::new(None) };
}
