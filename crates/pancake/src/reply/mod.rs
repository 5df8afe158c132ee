//! This module reads replies: what counts as an answer, what a refusal means, and the cells of rows.

pub mod decode;
pub mod envelope;
pub mod refusal;
