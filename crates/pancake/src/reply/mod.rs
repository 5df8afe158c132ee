//! This module reads replies: what counts as an answer, what a refusal means, what is tried again,
//! and the cells of rows.

pub mod decode;
pub mod envelope;
pub mod raw;
pub mod refusal;
pub mod retry;
