//! Knows how to keep a thing that is made once per process, or the reason why it could not be made.
//! What is made is left to the caller.

use std::sync::OnceLock;

use anyhow::{Result, anyhow};

/// `Err` holds the rendered chain of causes: every later caller gets the same one as the first.
pub type Once<T> = OnceLock<Result<T, String>>;

pub fn get<T>(cell: &'static Once<T>, make: impl FnOnce() -> Result<T>) -> Result<&'static T> {
    cell.get_or_init(|| make().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|story| anyhow!(story.clone()))
}
