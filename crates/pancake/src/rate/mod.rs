//! This module keeps the rate limit of a page over all sessions (GCRA with a burst of one, AIMD
//! after a 429).

mod entry;
pub mod limiter;
pub mod queue;
pub mod spacing;
