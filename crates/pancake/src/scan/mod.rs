//! This module runs a scan: list queries side by side, merged, each request with its retries.

pub mod ahead;
#[cfg(test)]
pub(crate) mod canned;
pub mod merge;
pub mod probe;
pub mod queue;
pub mod run;
pub mod sample;
pub mod segment;
pub mod session;
