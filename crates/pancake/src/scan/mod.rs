//! This module runs a scan: list queries side by side, merged, and what a page has shown of itself.

pub mod merge;
pub mod probe;
pub mod queue;
pub mod run;
pub mod sample;
pub mod segment;
pub mod verdicts;
